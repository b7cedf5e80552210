"""Learning in place: EP's two nudged phases turned into trains of pulses on every coupling's devices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

from torch import Tensor

from mep_neuro_analog.readout import Readout
from mep_neuro_analog.synapses import Synapses

Phases: TypeAlias = Literal["phases", "difference"]


def pulse(
    synapses: Synapses,
    level: int,
    plus: Sequence[Tensor],
    minus: Sequence[Tensor],
    step: float,
    how: Phases,
    readout: Readout,
) -> int:
    """w += step (s_plus (x) a_plus - s_minus (x) a_minus), summed over the batch; returns the pulses given.

        phases       each product by itself: no comparator, twice the pulses, and the noise of both
        difference   (s_plus - s_minus) (x) mean(a) + mean(s) (x) (a_plus - a_minus), through the comparators

    plus, minus: s_0 .. s_L of the two phases; the coupling leads from level - 1 (a) to level (s).
    """
    above = plus[level].flatten(1), minus[level].flatten(1)
    below = plus[level - 1].flatten(1), minus[level - 1].flatten(1)
    if how == "phases":
        return synapses.learn(above[0], below[0], step) + synapses.learn(above[1], below[1], -step)
    apart = readout.compared(level, plus[level], minus[level])
    pulses = synapses.learn(apart, (below[0] + below[1]) / 2, step)
    if level > 1:
        between = readout.compared(level - 1, plus[level - 1], minus[level - 1])
        pulses += synapses.learn((above[0] + above[1]) / 2, between, step)
    return pulses
