"""Connection: a coupling as the substrate holds it, with its weights."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import final

import numpy as np

from mep_neuro.couplings import AvgPool2d, Conv2d, Coupling, Dropout
from mep_neuro_reference.operations import Array, Masks, adjoint, forward, statistic

POWER_STEPS = 100
POWER_MARGIN = 1.1
"""After k steps from a random start the estimate of |f|^2 is short by a share of about 0.87 log(n) / (k - 1), which
is below 0.1 for n < 10^4 (Kuczynski and Wozniakowski 1992)."""


@final
@dataclass(frozen=True, eq=False)
class Connection:
    """One coupling f with its programmed parameters; a product of it is a chain of operations.

    weight: (outputs, inputs), or (outputs, inputs of a group, height, width); None where f has no parameters.
    bias:   (outputs,) or None.
    """

    coupling: Coupling
    weight: Array | None
    bias: Array | None

    def forward(self, s: Array, masks: Masks) -> Array:
        """f(s) + b. s: (batch, *in_shape)."""
        for o in self.coupling.operations:
            s = forward(o, s, self.weight, masks)
            if o is self.coupling.weighted and self.bias is not None:
                s = s + self.bias.reshape(-1, *[1] * (s.ndim - 2))
        return s

    def adjoint(self, t: Array, masks: Masks) -> Array:
        """f^T(t). t: (batch, *out_shape)."""
        for o in reversed(self.coupling.operations):
            t = adjoint(o, t, self.weight, masks)
        return t

    def ends(self, above: Array, below: Array, masks: Masks) -> tuple[Array, Array]:
        """Both populations as the weighted operation sees them: `above` brought down to its output, `below` up to
        its input. The energy's part that holds W and b is -<above', W below' + b>."""
        place = next(i for i, o in enumerate(self.coupling.operations) if o is self.coupling.weighted)
        for o in reversed(self.coupling.operations[place + 1 :]):
            above = adjoint(o, above, None, masks)
        for o in self.coupling.operations[:place]:
            below = forward(o, below, None, masks)
        return above, below

    def outer(self, above: Array, below: Array) -> Array:
        """d<above, W below>/dW, summed over the batch, in the weight's shape; both ends as `ends` gives them."""
        if self.coupling.weighted is None or self.weight is None:
            raise TypeError("a coupling without weights has no statistic")
        return statistic(self.coupling.weighted, above, below).reshape(self.weight.shape)

    def gain(self, masks: Masks) -> float:
        """c >= |f|^2: no |s| = 1 has a |f(s)|^2 above it, with the dropout masks that are held."""
        dropped = [o for o in self.coupling.operations if isinstance(o, Dropout) and o.name in masks]
        return self._gain * float(np.prod([(1 - o.rate) ** -2 for o in dropped]))

    @functools.cached_property
    def _gain(self) -> float:
        """The largest squared singular value of f without masks: exact for a matrix, else by power iteration."""
        if self.weight is not None and not any(isinstance(o, Conv2d | AvgPool2d) for o in self.coupling.operations):
            return float(np.linalg.norm(self.weight, 2) ** 2)
        linear = Connection(self.coupling, self.weight, None)
        s = np.random.default_rng(0).standard_normal((1, *self.coupling.in_shape))
        largest = 0.0
        for _ in range(POWER_STEPS):
            t = linear.forward(s / np.linalg.norm(s), {})
            largest = max(largest, float(np.sum(t**2)))
            if largest == 0:
                return 0.0
            s = linear.adjoint(t, {})
        return POWER_MARGIN * largest
