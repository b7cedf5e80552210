"""Neurons of a population: an activation on a drive, with each unit's own gain and offset."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor

from mep_neuro.activations import ClippedLinear, respond, slope
from mep_neuro.network import Population
from mep_neuro_analog.specs import PeripherySpec

NEWTON = 12
"""Newton steps on a logistic output under a nudge; from any start the last ones change nothing more."""


@final
class Neurons:
    """s = rho((1 + gain) drive + offset), gain and offset drawn once for each unit."""

    def __init__(self, population: Population, spec: PeripherySpec, fixed: torch.Generator, like: Tensor) -> None:
        self.activation = population.activation
        self._gain = self._offset = None
        if spec.neuron_gain or spec.neuron_offset:
            drawn = torch.randn(2, *population.shape, generator=fixed, dtype=like.dtype)
            self._gain = (1 + spec.neuron_gain * drawn[0]).to(like.device)
            self._offset = (spec.neuron_offset * drawn[1]).to(like.device)

    def respond(self, drive: Tensor) -> Tensor:
        """rho of a drive."""
        return respond(self.activation, self._seen(drive))

    def nudged(self, drive: Tensor, beta: float, target: Tensor) -> Tensor:
        """The s that satisfies s = rho((1 + gain) (drive + beta (target - s)) + offset)."""
        gain = 1.0 if self._gain is None else self._gain
        a, pulled = self.activation, self._seen(drive + beta * target)
        if isinstance(a, ClippedLinear):
            return ((a.slope * pulled + a.offset) / (1 + a.slope * beta * gain)).clamp(a.low, a.high)
        d = pulled  # of d = pulled - gain beta rho(d), whose left side less the right one is monotone
        for _ in range(NEWTON):
            d = d - (d - pulled + gain * beta * respond(a, d)) / (1 + gain * beta * slope(a, d))
        return respond(a, d)

    def _seen(self, drive: Tensor) -> Tensor:
        if self._gain is None or self._offset is None:
            return drive
        return self._gain * drive + self._offset
