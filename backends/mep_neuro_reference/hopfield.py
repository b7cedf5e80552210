"""The Hopfield energy: a population at rest is rho(drive).

    E = sum_l [ G_l(s_l) - <s_l, f_l(s_{l-1}) + b_l> ],    drive_l = f_l(s_{l-1}) + b_l + f_{l+1}^T(s_{l+1})

E holds s_l in G_l(s_l) - <s_l, drive_l> alone, whose minimum is s_l = rho_l(drive_l), as G_l' = rho_l^-1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

from mep_neuro_reference.chains import Chain
from mep_neuro_reference.minima import hopfield_minimum, rho
from mep_neuro_reference.operations import Array


@final
class Hopfield(Chain):
    """States are activities s_l; the outputs are s_L."""

    free_is_forward = False

    @property
    def outputs(self) -> Array:
        return self.states[-1]

    def forward_pass(self) -> None:
        for level, population in enumerate(self.network.populations):
            drive = self.clamped if level == 0 else self.forward(level, self.states[level - 1])
            self.states.append(rho(population.activation, drive))
            self.count_update(level)

    def resume(self, states: Sequence[Array]) -> None:
        self.states = list(states)

    def minimum(self, level: int) -> Array:
        activation = self.network.populations[level].activation
        drive = self.clamped if level == 0 else self.forward(level, self.states[level - 1])
        if level == self.top:
            return hopfield_minimum(activation, drive, self.pull)
        return rho(activation, drive + self.adjoint(level + 1, self.states[level + 1]))

    def put(self, level: int, s: Array) -> None:
        self.states[level] = s
        self.count_update(level)

    def local(self) -> tuple[list[Array], list[Array]]:
        """-dE/dW_l = s_l (x) s_{l-1}."""
        return list(self.states), [self.x, *self.states[:-1]]
