"""The machine of the `lava` backend: Lava graphs, opened when they are first needed and kept while they fit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, final

from mep_neuro.errors import MepNeuroError
from mep_neuro_lava.kernels.fixed import Ints
from mep_neuro_lava.plan import Learnt, Lesson, Plan, Pull, Settled, Traces
from mep_neuro_lava.program import Program, plan_of
from mep_neuro_lava.waiting import LavaError

if TYPE_CHECKING:
    from mep_neuro_lava.machine import Machine


class LavaRunError(MepNeuroError, RuntimeError):
    """A process of a Lava run that failed or hangs; the message names it. Nothing of the run is left."""


@final
class LavaMachine:
    """Two graphs of one program: one of Dense connections that settles, one of LearningDense that learns.

    Lava's learning engine draws a random number in every timestep, whether it learns or not, and starts from the same
    seed whenever it is opened; settling on a graph of its own leaves the numbers as they are on `KernelMachine`.

    tag, timeout: see `Machine` in `machine`.
    """

    def __init__(self, payload_bits: int, timesteps: tuple[int, int], tag: str, timeout: float) -> None:
        self._payload_bits, self._timesteps, self._tag, self._timeout = payload_bits, timesteps, tag, timeout
        self._settling: tuple[Program, Machine] | None = None
        self._learning: tuple[Program, Machine] | None = None

    def settle(
        self,
        program: Program,
        x: Ints,
        timesteps: int,
        *,
        pull: Pull | None,
        states: Sequence[Ints] | None,
        drives: Sequence[Ints] | None,
    ) -> Settled:
        """See `Machine` in `substrate`."""
        with self._named():
            machine = self._settler(program)
            return machine.settle(x, steps=timesteps, pull=pull, states=states, drives=drives)

    def learn(self, program: Program, x: Ints, target: Ints, lesson: Lesson) -> tuple[Program, Learnt]:
        """See `Machine` in `substrate`."""
        with self._named():
            machine = self._learner(program)
            learnt = machine.learn(x, target, lesson)
        synapses = tuple(
            replace(s, mantissas=m, sign_mode="mixed") for s, m in zip(program.synapses, learnt.mantissas, strict=True)
        )
        program = replace(program, synapses=synapses, biases=learnt.biases)
        self._learning = program, machine
        return program, learnt

    def reseed(self, seed: int) -> None:
        """Lava's rounding has one seed: it starts anew from that."""
        self._learning = self._closed(self._learning)

    def close(self) -> None:
        """End all processes; twice is safe."""
        self._settling, self._learning = self._closed(self._settling), self._closed(self._learning)

    def _settler(self, program: Program) -> Machine:
        """The graph that settles, with the program's weights on it."""
        if self._settling is None or self._settling[0] is not program:
            plan = self._plan(program)
            if self._settling is not None and self._settling[1].accepts(plan):
                self._settling[1].program(plan)
                self._settling = program, self._settling[1]
            else:
                self._settling = self._closed(self._settling)
                self._settling = program, self._opened(plan, None)
        return self._settling[1]

    def _learner(self, program: Program) -> Machine:
        """The graph that learns, with the program's weights on it."""
        if self._learning is None or self._learning[0] is not program:
            traces = Traces(program.formats.values, program.formats.differences)
            self._learning = self._closed(self._learning)
            self._learning = program, self._opened(self._plan(program), traces)
        return self._learning[1]

    def _opened(self, plan: Plan, traces: Traces | None) -> Machine:
        from mep_neuro_lava.machine import Machine  # Lava is imported when it is first needed

        return Machine(plan, traces=traces, tag=self._tag, timeout=self._timeout, rewritable=traces is None)

    def _plan(self, program: Program) -> Plan:
        return plan_of(program, self._payload_bits, self._timesteps)

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Nothing is left running where an error passes."""
        try:
            yield
        except LavaError as error:
            self.close()
            raise LavaRunError(str(error)) from error
        except BaseException:
            self.close()
            raise

    @staticmethod
    def _closed(graph: tuple[Program, Machine] | None) -> None:
        if graph is not None:
            graph[1].close()
