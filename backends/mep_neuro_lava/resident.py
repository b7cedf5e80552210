"""Resident learning: the learning engine changes the weights, sample by sample, with no host between them.

    dW_l = (rate / beta) [ (s_l' - s_l) (x) m_{l-1} + m_l (x) (s_{l-1}' - s_{l-1}) ],     m = (s + s') / 2

s is the free state, which a neuron keeps, s' the nudged one. That is EP's one-sided contrast, exactly; it needs two
numbers of each end of a synapse, and a trace brings one. So two timesteps of learning follow the nudged phase. In the
first, x and every second population send their means, and the others their differences; in the second the other way
round. A spike sets the trace x1 of its synapses, and a neuron gives its own number to y1 (a difference) or y2 (a mean):

    dw = m_1 2^e_1 x0 (x1 + c) y1 y3  +  m_2 2^e_2 x0 (x1 - 64) y2 y3

x0 lets synapses learn whose spike arrives in this very timestep (epochs are one timestep long). y3 is the rate's
mantissa. The connection upwards and the one downwards form the same products in the same order, so that their weights
stay equal; the biases are changed by the neurons, b += r (s' - s) 2^-20.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import final

import numpy as np

from mep_neuro.errors import InputError
from mep_neuro_lava.kernels import Factor, Product, changed, check_width, rounded, shifted
from mep_neuro_lava.kernels.engine import HIGHEST_POWER, LOWEST_POWER
from mep_neuro_lava.kernels.fixed import Ints
from mep_neuro_lava.plan import Lesson
from mep_neuro_lava.program import Program

BIAS_BITS = 20
LARGEST_RATE = 127
ROUNDS = 2
"""Timesteps of learning after the nudged phase."""


@final
@dataclass(frozen=True)
class Rule:
    """The rules of all couplings.

    rate:          y3, sent by every neuron.
    by_mean:       scale of each coupling's product with the lower population's mean.
    by_difference: that with the lower population's difference, from the second coupling on.
    bias:          r, of the neurons' own biases.
    """

    rate: int
    by_mean: tuple[Product, ...]
    by_difference: tuple[Product, ...]
    bias: int


@final
class Rounding:
    """The random numbers of stochastic rounding. kind: "shared", one number in each timestep for all synapses, as Lava
    draws them, or "independent", one for each synapse that learns."""

    def __init__(self, kind: str, seed: int) -> None:
        self._shared, self._random = kind == "shared", np.random.default_rng(seed)
        self._now = self._random.random()

    def advance(self, timesteps: int) -> None:
        """Let timesteps pass: the engine draws in every one of them, also where nothing is learnt."""
        if self._shared:
            self._now = self._random.random(timesteps)[-1]

    def __call__(self, shape: tuple[int, ...]) -> Ints | float:
        """What synapses of a block are rounded with."""
        return self._now if self._shared else self._random.random(shape)


def rule_of(program: Program, step: float) -> Rule:
    """The rule for weights that change by `step` times the contrast. Raises `InputError` for a step that the engine's
    scales cannot hold."""
    if not (math.isfinite(step) and step > 0):
        raise InputError(f"the learning step, rate / (beta samples), is {step}; give a positive rate")
    values, differences = program.formats.values, program.formats.differences
    power = math.floor(math.log2(step)) - 6  # step = rate 2^power, rate 64 .. 128
    by_mean, by_difference = [], []
    for level, synapses in enumerate(program.synapses):
        by_mean.append(power + 10 + synapses.fraction - values[level].bits - differences[level].bits)
        below = differences[level - 1].bits if level else differences[level].bits
        by_difference.append(power + 10 + synapses.fraction - below - values[level + 1].bits)
    powers = by_mean + by_difference[1:]
    spare = max(0, LOWEST_POWER - min(powers))
    rate = min(LARGEST_RATE, round(step * 2.0 ** -(power + spare)))
    if rate < 1 or max(powers) + spare > HIGHEST_POWER:
        least, most = step / (rate or step * 2.0 ** -(power + spare)), step * 2.0 ** (HIGHEST_POWER - max(powers))
        raise InputError(
            f"the learning step, rate / (beta samples), is {step:.3g}; with these weights' units the engine's scales "
            f"hold about {least:.2g} to {most:.2g}: change the rate, or headroom, which makes the units larger"
        )
    return Rule(
        rate=rate,
        by_mean=tuple(Product.of(p + spare) for p in by_mean),
        by_difference=tuple(Product.of(p + spare) for p in by_difference[1:]),
        bias=round(step * 2**BIAS_BITS),
    )


def lesson_of(program: Program, step: float, trained: Sequence[tuple[bool, bool]], pull: int) -> Lesson:
    """The rule of `rule_of` for the parameters that are trained.

    trained: for each coupling, whether its weights and its biases learn.
    pull:    slope beta 2^12 of the nudged phase.
    """
    rule = rule_of(program, step)
    weights, biases = zip(*trained, strict=True)
    return Lesson(
        rate=rule.rate,
        by_mean=tuple(scale if learns else None for scale, learns in zip(rule.by_mean, weights, strict=True)),
        by_difference=tuple(
            scale if learns else None for scale, learns in zip((None, *rule.by_difference), weights, strict=True)
        ),
        bias=tuple(rule.bias if learns else 0 for learns in biases),
        pull=pull,
    )


@final
class Learner:
    """Learning on one program, whose arrays are copied once and then changed in place."""

    def __init__(self, program: Program, lesson: Lesson, rounding: Rounding) -> None:
        synapses = tuple(replace(s, mantissas=s.mantissas.copy(), sign_mode="mixed") for s in program.synapses)
        self.program = replace(program, synapses=synapses, biases=tuple(b.copy() for b in program.biases))
        self._lesson, self._rounding = lesson, rounding

    def change(self, x: Ints, free: Sequence[Ints], nudged: Sequence[Ints]) -> list[list[int]]:
        """Both timesteps of learning of one sample: payloads x (1, inputs) and states (1, units) of two phases.

        Returns how many spikes x and each population sent in either timestep.
        """
        formats, spikes = self.program.formats, list[list[int]]()
        means = [shifted(a + b, -1) for a, b in zip(free, nudged, strict=True)]
        mean = [e.code(m[0]) for e, m in zip(formats.values, [x, *means], strict=True)]
        moved = [b - a for a, b in zip(free, nudged, strict=True)]
        difference = [np.zeros(x.shape[1]), *(e.code(d[0]) for e, d in zip(formats.differences, moved, strict=True))]
        for turn in range(ROUNDS):
            self._rounding.advance(1)
            told = [(mean, difference)[(level + turn) % 2][level] for level in range(len(mean))]
            spikes.append([int(np.count_nonzero(codes)) for codes in told])
            for level, (below, above) in enumerate(itertools.pairwise(told)):
                scale = (self._lesson.by_difference if (level + turn) % 2 else self._lesson.by_mean)[level]
                if scale is not None:
                    self._learn(self.program.synapses[level].mantissas, scale, below, above)
        for level, d in enumerate(moved):
            if self._lesson.bias[level]:
                bias = self.program.biases[level]
                bias += rounded(self._lesson.bias[level] * d[0], -BIAS_BITS)
                check_width(bias, formats.bits, f"the bias of population {level + 1}")
        self.program = replace(self.program)  # its bounds are those of other weights now
        return spikes

    def _learn(self, mantissas: Ints, scale: Product, below: Ints, above: Ints) -> None:
        """One product, where neither end is 0."""
        rows, columns = np.flatnonzero(above), np.flatnonzero(below)
        if rows.size and columns.size:
            block = np.ix_(rows, columns)
            factors = (
                Factor(below[columns][None, :]),
                Factor(above[rows][:, None]),
                Factor(np.float64(self._lesson.rate)),
            )
            mantissas[block] = changed(mantissas[block], [scale(factors)], self._rounding((rows.size, columns.size)))
