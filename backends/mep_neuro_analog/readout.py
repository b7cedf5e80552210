"""Readout: what leaves and enters the arrays through converters and comparators, and the contrast made of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor

from mep_neuro.couplings import Shape
from mep_neuro_analog.converters import quantised
from mep_neuro_analog.specs import PeripherySpec


@final
class Readout:
    """The converters, and one comparator a unit with an offset that is drawn once.

    shapes: of the populations s_0 .. s_L.
    """

    def __init__(self, spec: PeripherySpec, shapes: Sequence[Shape], fixed: torch.Generator, like: Tensor) -> None:
        self._spec = spec
        self._offsets: list[Tensor] | None = None
        if spec.comparator_offset:
            drawn = [torch.randn(s, generator=fixed, dtype=like.dtype).flatten() for s in shapes]
            self._offsets = [(spec.comparator_offset * d).to(like.device) for d in drawn]

    def given(self, x: Tensor) -> Tensor:
        """Inputs as a converter turns them into voltages."""
        return quantised(x.flatten(1), self._spec.dac_bits, self._spec.dac_range).view_as(x)

    def read(self, s: Tensor) -> Tensor:
        """States as a converter reads them."""
        return quantised(s.flatten(1), self._spec.adc_bits, self._spec.adc_range).view_as(s)

    def compared(self, level: int, s: Tensor, other: Tensor) -> Tensor:
        """s - other of one population, with its comparators' offsets, as a converter reads it: (batch, units)."""
        apart = (s - other).flatten(1)
        if self._offsets is not None:
            apart = apart + self._offsets[level]
        return quantised(apart, self._spec.adc_bits, None)

    def contrast(
        self, level: int, weights: Sequence[float], phases: Sequence[Sequence[Tensor]]
    ) -> tuple[Tensor, Tensor]:
        """sum_k w_k s_k (x) a_k over the batch, and sum_k w_k s_k, for the coupling from level - 1 (a) to level (s).

            sum_k w_k [ (s_k - s_0) (x) a_k + s_0 (x) (a_k - a_0) ],    sum_k w_k = 0

        The phases are compared with the first one before they are read, so that what is read is not the small
        difference of two large codes. phases: s_0 .. s_L of each.
        """
        s, a = phases[0][level], phases[0][level - 1]
        below = self.read(s).flatten(1).T if level > 1 else None
        total, bias = a.new_zeros(s[0].numel(), a[0].numel()), a.new_zeros(s[0].numel())
        for w, phase in zip(weights[1:], phases[1:], strict=True):
            apart = self.compared(level, phase[level], s)
            total.addmm_(apart.T, self.read(phase[level - 1]).flatten(1) if level > 1 else a.flatten(1), alpha=w)
            bias.add_(apart.sum(0), alpha=w)
            if below is not None:
                total.addmm_(below, self.compared(level - 1, phase[level - 1], a), alpha=w)
        return total, bias
