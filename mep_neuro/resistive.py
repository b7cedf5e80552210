"""What a circuit's meters would show of a network of the resistive energy: currents that are left over, and power."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from mep_neuro.activations import limits
from mep_neuro.energies import dissipation
from mep_neuro.errors import InputError
from mep_neuro.network import EnergyNetwork


def kcl_residual(
    network: EnergyNetwork,
    x: Tensor,
    states: Sequence[Tensor],
    *,
    injected: Tensor | None = None,
    parameters: Mapping[str, Tensor] | None = None,
) -> Tensor:
    """The largest current (A) into any node that nothing carries away, (batch,): 0 at rest, by Kirchhoff's current law.

        I_i = b_i + sum_j g_ij (v_j - v_i)  =  -dE/dv_i

    A diode that holds a node at the end of its range carries the current that pushes it there, and none the other way.

    states:     v_1 .. v_L in volts, each (batch, *population).
    injected:   current into the outputs (batch, *outputs), such as a nudge's beta (y - v_L).
    parameters: in place of the module's own.

    Raises `InputError` for another energy.
    """
    _check(network)
    nodes = [v.detach().clone().requires_grad_() for v in states]
    energy = network.energy(x, nodes, parameters=_detached(network, parameters)).sum()
    currents = [-slope for slope in torch.autograd.grad(energy, nodes)]
    if injected is not None:
        currents[-1] = currents[-1] + injected
    worst = x.new_zeros(len(x))
    for population, v, current in zip(network.populations, states, currents, strict=True):
        low, high = limits(population.activation, v)
        left = torch.where(v <= low, current.clamp_min(0.0), torch.where(v >= high, current.clamp_max(0.0), current))
        worst = torch.maximum(worst, left.abs().amax(1))
    return worst


def dissipated_power(
    network: EnergyNetwork,
    x: Tensor,
    states: Sequence[Tensor],
    *,
    parameters: Mapping[str, Tensor] | None = None,
) -> Tensor:
    """P = sum_ij g_ij (v_i - v_j)^2, the power in all resistors (W), (batch,).

    It is 2 E where there are no biases. Arguments as in `kcl_residual`.
    """
    _check(network)
    held = _detached(network, parameters)
    total = x.new_zeros(len(x))
    for coupling, below, v in zip(network.couplings, [network.batch(x), *states[:-1]], states, strict=True):
        link = network.link(coupling, held)
        if link.weight is not None:
            total = total + dissipation(link.seen(below), v, link.weight)
    return total


def _check(network: EnergyNetwork) -> None:
    if network.energy_name != "resistive":
        raise InputError(f"the network's energy is {network.energy_name!r}, which is no circuit: use 'resistive'")


def _detached(network: EnergyNetwork, parameters: Mapping[str, Tensor] | None) -> dict[str, Tensor]:
    return {name: p.detach() for name, p in {**network.parameters, **(parameters or {})}.items()}
