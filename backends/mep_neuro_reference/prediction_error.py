"""The prediction-error energy: a population at rest is what the population below predicts.

    E = sum_l 1/2 |z_l - m_l|^2,    m_l = f_l(r_{l-1}) + b_l,    r_l = rho_l(z_l),    r_0 = x

The forward pass makes E zero: it is the free equilibrium. E holds z_l in 1/2 |z_l - m_l|^2 and, through rho_l, in the
error e = z_{l+1} - m_{l+1} of the next prediction. With c >= |f_{l+1}|^2 and the old activity r' that error obeys

    1/2 |z_{l+1} - f_{l+1}(r) - b|^2  <=  c/2 |r - v|^2 + constant,    v = r' + f_{l+1}^T(e) / c,

with equality at r = r'. Minimising the right side with 1/2 |z_l - m_l|^2, which falls apart into units, never raises E.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import numpy as np

from mep_neuro_reference.chains import Chain
from mep_neuro_reference.minima import EPS, Pull, prediction_minimum, rho, rho_slope
from mep_neuro_reference.operations import Array

ROUNDING = 64 * EPS
"""A rise of E by this share of its terms is rounding."""


@final
class PredictionError(Chain):
    """States are drives z_l; the outputs are rho_L(z_L). `predictions` holds m_1 .. m_L, m_1 = f_1(x) + b_1."""

    free_is_forward = True
    predictions: list[Array]

    @property
    def outputs(self) -> Array:
        return self._activity(self.top)

    def forward_pass(self) -> None:
        self.predictions = []
        for level in range(self.top + 1):
            self.predictions.append(self.clamped if level == 0 else self._predict(level))
            self.states.append(self.predictions[level])
            self.count_update(level)

    def resume(self, states: Sequence[Array]) -> None:
        self.states = list(states)
        self.predictions = [self.clamped, *(self._predict(level) for level in range(1, self.top + 1))]

    def nudged(self, pull: Pull) -> PredictionError:
        other = super().nudged(pull)
        other.predictions = list(self.predictions)
        return other

    def minimum(self, level: int) -> Array:
        activation, z = self.network.populations[level].activation, self.states[level]
        if level == self.top:
            return prediction_minimum(activation, self.predictions[level], self.pull, z)
        c = self.connections[level + 1].gain(self.masks)
        pull = Pull(c, c * self._activity(level) + self.adjoint(level + 1, self._error(level + 1)))  # c v
        return prediction_minimum(activation, self.predictions[level], pull, z)

    def put(self, level: int, s: Array) -> None:
        self.states[level] = s
        self.count_update(level)
        if level < self.top:
            self.predictions[level + 1] = self._predict(level + 1)

    def descend(self, level: int) -> None:
        """Set one population's state to the bound's minimum; samples whose E would rise keep the old one, which is
        so only if c was too small."""
        if level == self.top:
            super().descend(level)
            return
        old, old_prediction, before = self.states[level], self.predictions[level + 1], self._share(level)
        self.put(level, self.minimum(level))
        size = _sum_of_squares(old) + _sum_of_squares(self.states[level + 1])
        rises = self._share(level) > before + ROUNDING * size
        if rises.any():
            self.states[level] = np.where(_beside(rises, old), old, self.states[level])
            self.predictions[level + 1] = np.where(
                _beside(rises, old_prediction), old_prediction, self.predictions[level + 1]
            )

    def pass_errors(self) -> None:
        """e_L = z_L - m_L off the nudged outputs, e_l = rho'(z_l) f_{l+1}^T(e_{l+1}); then z_l = m_l + e_l upwards."""
        found = [self.minimum(self.top) - self.predictions[self.top]]
        for level in range(self.top - 1, -1, -1):
            slopes = rho_slope(self.network.populations[level].activation, self.states[level])
            found.insert(0, slopes * self.adjoint(level + 1, found[0]))
        for level, error in enumerate(found):
            self.put(level, self.predictions[level] + error)

    def local(self) -> tuple[list[Array], list[Array]]:
        """-dE/dW_l = e_l (x) r_{l-1}, e_l = z_l - m_l."""
        levels = range(self.top + 1)
        return [self._error(level) for level in levels], [self.x, *(self._activity(level) for level in levels[:-1])]

    def _activity(self, level: int) -> Array:
        return rho(self.network.populations[level].activation, self.states[level])

    def _predict(self, level: int) -> Array:
        return self.forward(level, self._activity(level - 1))

    def _error(self, level: int) -> Array:
        return self.states[level] - self.predictions[level]

    def _share(self, level: int) -> Array:
        """(batch,), the part of E that holds z_l."""
        return (_sum_of_squares(self._error(level)) + _sum_of_squares(self._error(level + 1))) / 2


def _sum_of_squares(s: Array) -> Array:
    total: Array = (s**2).reshape(len(s), -1).sum(1)
    return total


def _beside(samples: Array, s: Array) -> Array:
    """(batch,) shaped to go with (batch, *population)."""
    return samples.reshape(-1, *[1] * (s.ndim - 1))
