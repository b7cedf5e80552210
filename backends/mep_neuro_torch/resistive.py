"""The resistive energy on tensors: each block's minimum is I / t, or the end of the diode's range nearest to it.

t is the sum of conductances at a node, and I = f_l(v_{l-1}) + b_l + f_{l+1}^T(v_{l+1}) the current that its neighbours
would drive into it at 0 V. A nudge moves voltages by little, so a nudged phase is worked out in shifts d from where it
began, v = a + d, in which nothing cancels. With k = I(a) - t a, the current left over there,

    d_l = clip( (k_l + f_l(d_{l-1}) + f_{l+1}^T(d_{l+1}) + beta (y - a_l)) / (t_l + beta), low - a_l, high - a_l )

without bias, d = 0 on the clamped input, and the nudge on the outputs only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from mep_neuro.activations import limits, respond
from mep_neuro.errors import InputError
from mep_neuro.network import EnergyNetwork
from mep_neuro.types import Nudge
from mep_neuro_torch.contrast import drop_contrast
from mep_neuro_torch.operations import Masks, Weights, add_adjoint, by_copies, forward
from mep_neuro_torch.relaxation import Blocks, Phase, Relaxation


@final
@dataclass(frozen=True)
class Totals:
    """The sum of conductances at each node, to its neighbours below and above: (units,) for each population."""

    values: Sequence[Tensor]
    least_output: float

    @classmethod
    def of(cls, network: EnergyNetwork, weights: Sequence[Weights]) -> Totals:
        """Raises `InputError` for conductances below 0, and for a node without any."""
        matrices = [w for w, _ in weights if w is not None]
        values = [w.sum(1) for w in matrices]
        for total, above in zip(values, matrices[1:], strict=False):
            total += above.sum(0)
        least = torch.stack([t.min() for t in (*matrices, *values)]).tolist()
        if min(least[: len(matrices)]) < 0:
            network.check_conductances(network.parameters)
        for level, (total, smallest) in enumerate(zip(values, least[len(matrices) :], strict=True), 1):
            if smallest <= 0:
                raise InputError(
                    f"node {int(total.argmin())} of population {level} has no conductance above 0 to any other: "
                    "nothing says where it rests"
                )
        return cls(values, least[-1])


@final
class Resistive(Blocks):
    """E = sum_l [ 1/2 sum_ij g_ij (v_i - u_j)^2 - <b_l, v_l> ], v = v_l, u = v_{l-1}."""

    needs_bounds = False

    def __init__(self, network: EnergyNetwork) -> None:
        self.network = network
        self.free_is_forward = len(network.populations) == 1

    def rest(self, phase: Phase) -> Relaxation:
        totals, states = Totals.of(self.network, phase.weights), list[Tensor]()
        for level, population in enumerate(self.network.populations):
            current = phase.clamped
            if level:
                current = forward(self.network.couplings[level], states[-1], phase.weights[level], phase.masks)
            states.append(respond(population.activation, current / totals.values[level]))
        return ResistiveRelaxation(self, states, phase, totals)

    def resume(self, states: Sequence[Tensor], phase: Phase) -> Relaxation:
        return ResistiveRelaxation(self, states, phase, Totals.of(self.network, phase.weights))

    def outputs(self, states: Sequence[Tensor]) -> Tensor:
        return states[-1]

    def check_nudges(self, nudges: Sequence[Nudge], relaxation: Relaxation) -> None:
        assert isinstance(relaxation, ResistiveRelaxation)
        for nudge in nudges:
            limit = relaxation.totals.least_output * (2 if nudge.cost == "cross_entropy" else 1)
            if nudge.force is None and not isinstance(nudge.beta, complex) and nudge.beta <= -limit:
                raise InputError(
                    f"beta is {nudge.beta}, but from {-limit:g} down, the least sum of conductances at an output, the "
                    "outputs have no minimum: use a smaller one"
                )

    def contrast(
        self,
        x: Tensor,
        ends: Sequence[Sequence[Sequence[Tensor]]],
        weights: Sequence[complex],
        parameters: Sequence[Weights],
        masks: Masks,
    ) -> dict[str, Tensor]:
        return drop_contrast(self.network, x, ends, [w.real / x.size(0) for w in weights])


@final
class ResistiveRelaxation(Relaxation):
    """Voltages v_l on their way to rest; in a nudged phase as shifts from `anchors`, where it began."""

    def __init__(
        self,
        energy: Resistive,
        states: Sequence[Tensor],
        phase: Phase,
        totals: Totals,
        anchors: Sequence[Tensor] | None = None,
        shifts: Sequence[Tensor] = (),
    ) -> None:
        self._energy, self._phase, self.totals = energy, phase, totals
        self.states, self.products = list(states), Counter()
        self._anchors = anchors
        self._shifts = list(shifts)
        self._left: dict[int, Tensor] = {}  # the current that is left over at the anchors, by level
        self._pending: dict[int, tuple[Tensor, Tensor]] = {}  # the last minimum of a level, with its shift

    def minimum(self, level: int) -> Tensor:
        if self._anchors is None:
            current = self._current(level, self.states, self._phase.clamped)
            return respond(self._energy.network.populations[level].activation, current / self.totals.values[level])
        anchor, shift = self._anchors[level], self._shift(level, self._anchors)
        s = by_copies(torch.add, shift, anchor)
        self._pending[level] = (s, shift)
        return s

    def put(self, level: int, s: Tensor) -> None:
        self.states[level] = s
        if self._anchors is not None:
            known = self._pending.get(level)
            fresh = known is not None and known[0] is s
            self._shifts[level] = known[1] if known and fresh else by_copies(torch.sub, s, self._anchors[level])

    def again(self, phase: Phase, rows: int) -> Relaxation:
        if self._anchors is not None:
            return ResistiveRelaxation(self._energy, self.states, phase, self.totals, self._anchors, self._shifts)
        rest = [torch.zeros_like(s) for s in self.states]
        return ResistiveRelaxation(self._energy, self.states, phase, self.totals, self.states, rest)

    def local(self) -> tuple[list[Tensor], list[Tensor]]:
        """v_1 .. v_L, cut into shifts and what they are counted from."""
        if self._anchors is None:
            return [torch.zeros_like(s) for s in self.states], list(self.states)
        return self._shifts, list(self._anchors)

    def _current(self, level: int, voltages: Sequence[Tensor], clamped: Tensor | None) -> Tensor:
        """I_l of all neighbours' voltages; of their shifts where `clamped` is left out, and then without biases."""
        couplings, phase = self._energy.network.couplings, self._phase
        current = clamped
        if level:
            below = voltages[level - 1]
            self.products[level, False, below.size(0)] += 1
            current = forward(couplings[level], below, phase.weights[level], phase.masks, bias=clamped is not None)
        if level + 1 < len(voltages):
            above = voltages[level + 1]
            self.products[level + 1, True, above.size(0)] += 1
            if current is None:
                current = above.new_zeros(above.size(0), *couplings[level].out_shape)
            current = add_adjoint(current, couplings[level + 1], above, phase.weights[level + 1], phase.masks)
        return torch.zeros_like(voltages[level]) if current is None else current

    def _shift(self, level: int, anchors: Sequence[Tensor]) -> Tensor:
        """The block's minimum as a shift from its anchor."""
        anchor, total, pull = anchors[level], self.totals.values[level], self._phase.pull
        if level not in self._left:
            self._left[level] = self._current(level, anchors, self._phase.clamped) - total * anchor
        current = by_copies(torch.add, self._current(level, self._shifts, None), self._left[level])
        if pull is None or level + 1 < len(self.states):
            shift = current / total
        else:
            shift = pull.shift(current, anchor, total, self._shifts[level])
        activation = self._energy.network.populations[level].activation
        if activation.linear:
            return shift
        low, high = (end - anchor for end in limits(activation, anchor))
        return by_copies(torch.minimum, by_copies(torch.maximum, shift, low), high)
