"""The resistive energy: a population at rest obeys Kirchhoff's current law, where no diode holds it.

    E = sum_l [ 1/2 sum_ij g_ij (v_i - u_j)^2 - <b_l, v_l> ],    v = v_l, u = v_{l-1}

E holds one node in 1/2 t v^2 - I v alone, with t the sum of all conductances at it, and the current that its neighbours
would drive into it at 0 V, I = f_l(v_{l-1}) + b_l + f_{l+1}^T(v_{l+1}). Its minimum is I / t, or the end of the diode's
range that is nearest to it. No two nodes of a population are joined, so all of them find their minimum at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import final

import numpy as np

from mep_neuro.errors import InputError
from mep_neuro_reference.chains import Chain
from mep_neuro_reference.minima import resistive_minimum
from mep_neuro_reference.operations import Array


@final
class Resistive(Chain):
    """States are voltages v_l; the outputs are v_L."""

    free_is_forward = False
    of_drops = True

    @property
    def outputs(self) -> Array:
        return self.states[-1]

    @cached_property
    def totals(self) -> list[Array]:
        """The sum of conductances at each node, (units,) for each population: to its neighbours below and above."""
        weights = [c.weight for c in self.connections if c.weight is not None]
        found = [w.sum(1) for w in weights]
        for total, above in zip(found, weights[1:], strict=False):
            total += above.sum(0)
        for level, total in enumerate(found, 1):
            if not (total > 0).all():
                raise InputError(
                    f"node {int(np.argmin(total))} of population {level} has no conductance above 0 to any other: "
                    "nothing says where it rests"
                )
        return found

    def forward_pass(self) -> None:
        for level, population in enumerate(self.network.populations):
            current = self.clamped if level == 0 else self.forward(level, self.states[level - 1])
            self.states.append(resistive_minimum(population.activation, current, self.totals[level], None))
            self.count_update(level)

    def resume(self, states: Sequence[Array]) -> None:
        self.states = list(states)

    def minimum(self, level: int) -> Array:
        activation = self.network.populations[level].activation
        current = self.clamped if level == 0 else self.forward(level, self.states[level - 1])
        if level == self.top:
            return resistive_minimum(activation, current, self.totals[level], self.pull)
        current = current + self.adjoint(level + 1, self.states[level + 1])
        return resistive_minimum(activation, current, self.totals[level], None)

    def put(self, level: int, s: Array) -> None:
        self.states[level] = s
        self.count_update(level)

    def local(self) -> tuple[list[Array], list[Array]]:
        """-dE/dg_ij = -1/2 (v_i - u_j)^2: both ends of each conductance."""
        return list(self.states), [self.x, *self.states[:-1]]
