"""Machine: a plan run as Lava processes, sample after sample. No mep-neuro and no torch; Python 3.10 on.

    with Machine(plan) as machine:                                     # opens in about a second
        free = machine.settle(x)                                       # x: payloads (batch, inputs), plan.input.encode
        nudged = machine.settle(x, pull=Pull(2048, target), states=free.states, drives=free.drives)
    value = free.states[-1] * 2.0**-plan.neurons[-1].fraction          # (batch, outputs)
    events = plan.events(free.inputs, free.sent)

A plan is kept as `json.dumps(plan.document())` with `numpy.savez(file, **plan.arrays())`, and made again by `Plan.of`.
In a deployment bundle a folder `mep_neuro_lava` with an empty `__init__.py` holds this file and compat.py, graph.py,
plan.py, runtime.py, waiting.py, kernels/ and processes/.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Any, final

import numpy as np

from .graph import Graph
from .kernels import KernelOverflow
from .kernels.fixed import Ints
from .kernels.synapses import DRIVE_BITS
from .plan import Learnt, Lesson, Plan, Pull, Settled, Traces
from .processes import Loihi2SimCfg
from .processes.process import BIAS, CHANGE, DRIVE, IDLE, NOTES
from .runtime import LavaRun, root_logger_kept

LEARNING = 2
"""Timesteps of learning after a sample's nudged phase."""


@final
class Machine:
    """A network's Lava graph, running. One that learns is for `learn`, any other for `settle`.

    plan:       what it holds.
    traces:     how states enter traces; it then learns.
    tag:        "fixed_pt", equal to the kernels bit for bit, or "floating_pt", the same program without rounding.
    timeout:    seconds that any one answer may take, and opening.
    rewritable: whether `program` can change the weights while it runs.
    config:     Lava's RunConfig; None: Loihi2SimCfg of the tag, a simulation.

    Raises `LavaTimeout` or `LavaError`, which end it, or `KernelOverflow`, which does not.
    """

    def __init__(
        self,
        plan: Plan,
        *,
        traces: Traces | None = None,
        tag: str = "fixed_pt",
        timeout: float = 60.0,
        rewritable: bool = False,
        config: Any = None,
    ) -> None:
        if traces is not None and tag != "fixed_pt":
            raise ValueError(f"only fixed_pt learns, not {tag}")
        self.plan, self._learns = plan, traces is not None
        self._phases, self._idle = (0, 0, 0), False
        with root_logger_kept():
            self._graph = Graph(plan, traces, exact=tag != "floating_pt", probed=rewritable or self._learns)
            config = Loihi2SimCfg(select_tag=tag) if config is None else config
            self._run = LavaRun(self._graph.processes, config, timeout)

    @property
    def running(self) -> bool:
        """Whether it was neither closed nor ended by an error."""
        return self._run.running

    def settle(
        self,
        x: Ints,
        *,
        steps: int | None = None,
        pull: Pull | None = None,
        states: Sequence[Ints] | None = None,
        drives: Sequence[Ints] | None = None,
    ) -> Settled:
        """A free phase, or under a pull a nudged one, of each sample.

        x:      payloads (batch, inputs).
        steps:  timesteps; None: the plan's.
        states: where to go on from; None: from rest.
        drives: what the neurons hold already, so that x is not sent; None: x is sent in a timestep before.
        """
        neurons, nudged = self._graph.neurons, pull is not None
        steps = self.plan.timesteps[nudged] if steps is None else steps
        self._set_phases((0, steps, 0) if nudged else (steps, 0, 0))
        before, found = self._notes(), []
        for row in range(len(x)):
            if pull is not None:
                self._pull(pull, row)
            if drives is None:
                self._start(x[row])
            if drives is not None or states is not None:
                self._resume(
                    None if states is None else [s[row] for s in states], None if drives is None else drives[0][row]
                )
            self._run.run(1 + steps)
            found.append(([_get(n.v) for n in neurons], _get(neurons[0].held), self._checked()))
        sent = [int(now - then) for now, then in zip(found[-1][2][:, int(nudged)], before[:, int(nudged)], strict=True)]
        return Settled(
            states=tuple(np.stack(level) for level in zip(*(states for states, _, _ in found), strict=True)),
            drives=(np.stack([held for _, held, _ in found]), *self.plan.biases[1:]),
            change=np.array([notes[1:, CHANGE].max() for _, _, notes in found]),
            inputs=sent[0],
            sent=tuple(sent[1:]),
        )

    def learn(self, x: Ints, target: Ints, lesson: Lesson) -> Learnt:
        """Each sample in turn: free phase, nudged phase, two timesteps of learning. x: payloads (batch, inputs);
        target: (batch, outputs), in units of a state."""
        period, outputs = 1 + sum(self.plan.timesteps) + LEARNING, self._graph.neurons[-1]
        self._set_phases((*self.plan.timesteps, LEARNING))
        for connection, rule in self._graph.rewritten(lesson):
            connection.dw.set(rule)
        for neuron, bias in zip(self._graph.neurons, lesson.bias, strict=True):
            neuron.rates.set(np.array([lesson.rate, bias]))
        outputs.pull.set(np.array([lesson.pull]))
        before, free, nudged = self._notes(), [], []
        for row in range(len(x)):
            self._start(x[row])
            outputs.target.set(target[row])
            if row == len(x) - 1:
                for board in self._graph.boards:
                    board.order(writing=False, step=self._run.steps + period)
            self._run.run(period)
            free.append(_get(outputs.free))
            nudged.append(_get(outputs.v))
            sent = self._checked() - before
        return Learnt(
            mantissas=self._graph.mantissas(),
            biases=tuple(_get(n.bias) for n in self._graph.neurons),
            outputs=(np.stack(free), np.stack(nudged)),
            sent=tuple(tuple(map(int, phase)) for phase in sent[:, :3].T),
        )

    def accepts(self, plan: Plan) -> bool:
        """Whether `program` can take a plan over: one that differs in mantissas and biases only."""
        return (
            bool(self._graph.boards)
            and not self._learns
            and plan.document()
            == {
                **self.plan.document(),
                "synapses": plan.document()["synapses"],
            }
        )

    def program(self, plan: Plan) -> None:
        """Change weights and biases to those of a plan that it `accepts`. Takes a timestep in which nothing is sent."""
        self.plan = plan
        self._graph.put(plan)
        for board in self._graph.boards:
            board.order(writing=True, step=0)
        self._clocks(IDLE)
        self._run.run(1)
        self._clocks(0)
        for neuron, bias in zip(self._graph.neurons, plan.biases, strict=True):
            neuron.bias.set(bias)

    def close(self) -> None:
        """End all processes; twice is safe."""
        self._run.stop()

    def __enter__(self) -> Machine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _set_phases(self, phases: tuple[int, int, int]) -> None:
        if phases != self._phases:
            self._phases = phases
            for process in self._graph.timed:
                process.phases.set(np.array(phases))

    def _start(self, x: Ints) -> None:
        """The next timestep is the first of a cycle, in which x is sent."""
        if self._idle:
            self._graph.clamp.clock.set(np.array([0]))
            self._idle = False
        self._graph.clamp.x.set(x)

    def _resume(self, states: Sequence[Ints] | None, held: Ints | None) -> None:
        """The next timestep sends the payloads of states, and those after it are the phase's. held: what population 1
        has latched; None: it does so in that timestep, after one in which x is sent."""
        neurons, clamp = self._graph.neurons, self._graph.clamp
        if held is None:
            self._run.run(1)
        else:
            neurons[0].held.set(held)
            for neuron in neurons:
                neuron.clock.set(np.array([1]))
        if not self._idle:
            clamp.clock.set(np.array([IDLE]))
            self._idle = True
        for level, neuron in enumerate(neurons):
            neuron.v.set(np.zeros(neuron.v.shape) if states is None else states[level])
            neuron.resume.set(np.array([1]))

    def _pull(self, pull: Pull, row: int) -> None:
        outputs = self._graph.neurons[-1]
        none = np.zeros(outputs.v.shape)
        outputs.pull.set(np.array([pull.pull]))
        outputs.target.set(none if pull.target is None else pull.target[row])
        outputs.push.set(none if pull.push is None else pull.push[row])

    def _clocks(self, value: int) -> None:
        self._idle = value == IDLE
        for process in self._graph.timed:
            process.clock.set(np.array([value]))

    def _notes(self) -> Ints:
        """(processes, NOTES): the notes of the clamp and of each population."""
        return np.stack([_get(p.notes) for p in self._graph.timed])

    def _checked(self) -> Ints:
        """The notes. Raises `KernelOverflow` where a register was too narrow."""
        notes = self._notes()
        for level, note in enumerate(notes[1:], 1):
            for place, what, bits in ((DRIVE, "drive", DRIVE_BITS), (BIAS, "bias", self.plan.bits)):
                if note[place]:
                    self._graph.neurons[level - 1].notes.set(np.zeros(NOTES))
                    raise KernelOverflow(f"the {what} of population {level}", float(note[place]), bits)
        return notes


def _get(var: Any) -> Ints:
    """A variable, in float64."""
    value: Ints = np.array(var.get(), np.float64)
    return value
