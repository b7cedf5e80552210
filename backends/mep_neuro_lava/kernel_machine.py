"""The machine of the `loihi` backend: the integer kernels, all samples of a batch side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import final

import numpy as np

from mep_neuro_lava.kernels.fixed import Ints
from mep_neuro_lava.plan import Learnt, Lesson, Pull, Settled
from mep_neuro_lava.program import Program
from mep_neuro_lava.relaxation import latch, relax, rest
from mep_neuro_lava.resident import Learner, Rounding


@final
class KernelMachine:
    """timesteps: (free, nudged) of a sample that is learnt from; rounding: that of learning, of one seed."""

    def __init__(self, timesteps: tuple[int, int], rounding: str, seed: int) -> None:
        self._timesteps, self._kind, self._seed = timesteps, rounding, seed
        self._rounding = Rounding(rounding, seed)
        self._left: Program | None = None

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
        """See `Machine`."""
        inputs = 0 if drives is not None else int(np.count_nonzero(x))
        drives = latch(program, x) if drives is None else tuple(drives)
        return replace(
            relax(program, drives, rest(program, len(x)) if states is None else states, timesteps, pull), inputs=inputs
        )

    def learn(self, program: Program, x: Ints, target: Ints, lesson: Lesson) -> tuple[Program, Learnt]:
        """See `Machine`."""
        if program is not self._left:
            self._rounding, self._left = Rounding(self._kind, self._seed), None
        learner = Learner(program, lesson, self._rounding)
        totals, ends = np.zeros((3, len(program.biases) + 1), int), list[tuple[Ints, Ints]]()
        for row, goal in zip(x, target, strict=True):
            sent = row[None]
            free = self.settle(learner.program, sent, self._timesteps[0], pull=None, states=None, drives=None)
            nudged = self.settle(
                learner.program,
                sent,
                self._timesteps[1],
                pull=Pull(lesson.pull, goal[None]),
                states=free.states,
                drives=free.drives,
            )
            self._rounding.advance(1 + sum(self._timesteps))
            ends.append((free.states[-1], nudged.states[-1]))
            spikes = learner.change(sent, free.states, nudged.states)
            totals += [(free.inputs, *free.sent), (0, *nudged.sent), np.sum(spikes, 0)]
        self._left = learner.program
        return self._left, Learnt(
            mantissas=tuple(s.mantissas for s in self._left.synapses),
            biases=self._left.biases,
            outputs=(np.concatenate([f for f, _ in ends]), np.concatenate([n for _, n in ends])),
            sent=tuple(tuple(map(int, phase)) for phase in totals),
        )

    def reseed(self, seed: int) -> None:
        """Start the rounding anew, from this seed."""
        self._seed, self._rounding = seed, Rounding(self._kind, seed)

    def close(self) -> None:
        """Nothing is held."""
