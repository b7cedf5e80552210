"""The Hopfield energy on tensors: each block's minimum is rho(drive)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import final

from torch import Tensor

from mep_neuro.activations import Activation, respond
from mep_neuro.couplings import Coupling
from mep_neuro.network import EnergyNetwork
from mep_neuro_torch.minimisers import Pull
from mep_neuro_torch.operations import Masks, Weights, add_adjoint, forward, repeated
from mep_neuro_torch.relaxation import Blocks, Phase, Relaxation


def minimum(
    activation: Activation,
    clamped: Tensor | None,
    below: tuple[Coupling, Tensor, Weights] | None,
    above: tuple[Coupling, Tensor, Weights] | None,
    masks: Masks,
    pull: Pull | None,
    s: Tensor,
) -> Tensor:
    """argmin of E + beta C in one block: rho(f_l(s_{l-1}) + b_l + f_{l+1}^T(s_{l+1})), nudged where there is a pull.

    below, above: (coupling, neighbour's state, weights); clamped: in place of `below` on the first population.
    """
    if below is not None:
        coupling, neighbour, weights = below
        drive = forward(coupling, neighbour, weights, masks)
    else:
        assert clamped is not None
        drive = clamped
    if above is not None:
        coupling, neighbour, weights = above
        drive = add_adjoint(drive, coupling, neighbour, weights, masks)
    return respond(activation, drive) if pull is None else pull.minimum(repeated(drive, pull.c.size(0)), s)


@final
class Hopfield(Blocks):
    """E = sum_l [ G_l(s_l) - <s_l, f_l(s_{l-1}) + b_l> ]."""

    needs_bounds = False

    def __init__(self, network: EnergyNetwork, compiled: Callable[..., Callable[..., Tensor]]) -> None:
        self.network = network
        self.minimum = compiled(minimum)
        self.free_is_forward = len(network.populations) == 1

    def rest(self, phase: Phase) -> Relaxation:
        populations, couplings = self.network.populations, self.network.couplings
        states = [respond(populations[0].activation, phase.clamped)]
        for population, coupling, weights in zip(populations[1:], couplings[1:], phase.weights[1:], strict=True):
            states.append(respond(population.activation, forward(coupling, states[-1], weights, phase.masks)))
        return HopfieldRelaxation(self, states, phase)

    def resume(self, states: Sequence[Tensor], phase: Phase) -> Relaxation:
        return HopfieldRelaxation(self, states, phase)

    def outputs(self, states: Sequence[Tensor]) -> Tensor:
        return states[-1]


@final
class HopfieldRelaxation(Relaxation):
    """Activities s_l on their way to rho(drive_l)."""

    def __init__(self, energy: Hopfield, states: Sequence[Tensor], phase: Phase) -> None:
        self._energy, self._phase = energy, phase
        self.states, self.products = list(states), Counter()

    def minimum(self, level: int) -> Tensor:
        phase, states, couplings = self._phase, self.states, self._energy.network.couplings
        last = level == len(states) - 1
        if level:
            self.products[level, False, states[level - 1].size(0)] += 1
        if not last:
            self.products[level + 1, True, states[level + 1].size(0)] += 1
        return self._energy.minimum(
            self._energy.network.populations[level].activation,
            phase.clamped if level == 0 else None,
            (couplings[level], states[level - 1], phase.weights[level]) if level else None,
            None if last else (couplings[level + 1], states[level + 1], phase.weights[level + 1]),
            phase.masks,
            phase.pull if last else None,
            states[level],
        )

    def put(self, level: int, s: Tensor) -> None:
        self.states[level] = s

    def again(self, phase: Phase, rows: int) -> Relaxation:
        return HopfieldRelaxation(self._energy, self.states, phase)

    def local(self) -> tuple[list[Tensor], list[Tensor]]:
        return self.states, self.states[:-1]
