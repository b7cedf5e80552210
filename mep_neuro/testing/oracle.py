"""What the laws compare with: the energy's definition in float64, differentiated by autograd. Never another backend.

F(s) = E(s; x) + nudge(s_L)                                          what a phase minimises
g    = dC(s_0)/dtheta = -(dC/ds)^T H^-1 d2E/ds dtheta,  H = d2E/ds2        the exact gradient, by implicit functions
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import torch
from torch import Tensor

from mep_neuro.activations import Activation, ClippedLinear, Logistic, respond
from mep_neuro.costs import cost as cost_of
from mep_neuro.network import EnergyNetwork

Values: TypeAlias = Mapping[str, Tensor]
"""Parameters by name, or gradients of them, float64 on the CPU."""

Pull: TypeAlias = Callable[[Tensor], Tensor]
"""The nudge's own term of F for each sample, from the outputs: beta C(outputs), or -beta <force, outputs>."""

CORNER = 1e-7
"""How far to either side of a state its gradient is taken, where rho may have a corner at it."""


def bounded(network: EnergyNetwork) -> bool:
    """Whether states are activities (or voltages), which stay in the activation's range; else they are drives."""
    return network.energy_name != "prediction_error"


def outputs(network: EnergyNetwork, states: Sequence[Tensor]) -> Tensor:
    """What the network answers, (batch, *outputs)."""
    return states[-1] if bounded(network) else respond(network.outputs.activation, states[-1])


def cost_pull(beta: float, cost: str, target: Tensor) -> Pull:
    """beta C(outputs, target)."""
    return lambda out: beta * cost_of(cost, out, target)


def force_pull(beta: float, force: Tensor) -> Pull:
    """-beta <force, outputs>."""
    return lambda out: -beta * (force * out).flatten(1).sum(1)


def total(
    network: EnergyNetwork,
    x: Tensor,
    states: Sequence[Tensor],
    parameters: Values,
    pull: Pull | None = None,
    masks: Values | None = None,
) -> Tensor:
    """F for each sample, (batch,)."""
    energy = network.energy(x, states, parameters=parameters, masks=masks)
    return energy if pull is None else energy + pull(outputs(network, states))


def unrest(
    network: EnergyNetwork, x: Tensor, states: Sequence[Tensor], parameters: Values, pull: Pull | None = None
) -> float:
    """How far states are from a stationary point of F: the largest projected gradient, over max(1, |s|); a number.

    Activities: |s - rho(rho^-1(s) - dF/ds)|, which for a clipped line is the gradient projected on its range. Drives:
    |dF/ds|, or 0 where F has a corner at s and falls to neither side of it.
    """
    if bounded(network):
        states = [_inside(p.activation, s) for p, s in zip(network.populations, states, strict=True)]
    slopes = [
        _gradient(network, x, [s + shift for s in states], parameters, pull)
        for shift in ((0.0,) if bounded(network) else (-CORNER, CORNER))
    ]
    worst = 0.0
    for level, s in enumerate(states):
        if bounded(network):
            there = _step(network.populations[level].activation, s, slopes[0][level])
            residual = (s - there).abs()
        else:
            below, above = slopes[0][level], slopes[1][level]
            residual = torch.where((below <= 0) & (above >= 0), 0.0, torch.minimum(below.abs(), above.abs()))
        worst = max(worst, float(residual.max()) / max(1.0, float(s.abs().max())))
    return worst


def statistic(network: EnergyNetwork, x: Tensor, states: Sequence[Tensor], parameters: Values) -> dict[str, Tensor]:
    """dE/dtheta at given states, the mean over the batch."""
    own = {name: p.clone().requires_grad_() for name, p in parameters.items()}
    energy = network.energy(x, states, parameters=own).mean()
    return dict(zip(own, torch.autograd.grad(energy, list(own.values())), strict=True))


def gradient(
    network: EnergyNetwork, x: Tensor, states: Sequence[Tensor], parameters: Values, cost: str, target: Tensor
) -> dict[str, Tensor]:
    """The exact gradient of the free equilibrium's mean cost; `states` is that equilibrium.

    Where the free phase is the forward pass it is plain backprop; else implicit differentiation of dE/ds = 0 over the
    units that no limit holds.
    """
    own = {name: p.clone().requires_grad_() for name, p in parameters.items()}
    if not bounded(network):
        loss = cost_of(cost, torch.func.functional_call(network.module, own, (x,)), target).mean()
        return dict(zip(own, torch.autograd.grad(loss, list(own.values())), strict=True))
    leaves = [s.clone().requires_grad_() for s in states]
    energy = network.energy(x, leaves, parameters=own).sum()
    slopes = torch.autograd.grad(energy, leaves, create_graph=True)
    slope = _flat(slopes)
    rows = [_flat(torch.autograd.grad(column.sum(), leaves, retain_graph=True)) for column in slope.unbind(1)]
    free = _flat([_moves(p.activation, s, g) for p, s, g in zip(network.populations, states, slopes, strict=True)])
    pairs = free[:, :, None] & free[:, None, :]
    hessian = torch.where(
        pairs, torch.stack(rows, 1), torch.eye(free.shape[1], dtype=free.new_zeros(()).double().dtype)
    )
    pull = torch.autograd.grad(cost_of(cost, outputs(network, leaves), target).sum(), leaves, materialize_grads=True)
    push = torch.where(free, _flat(pull), 0.0)
    adjoint = torch.linalg.solve(hessian, push)
    grads = torch.autograd.grad(-(adjoint * slope).sum() / len(x), list(own.values()))
    return dict(zip(own, grads, strict=True))


def _gradient(
    network: EnergyNetwork, x: Tensor, states: Sequence[Tensor], parameters: Values, pull: Pull | None
) -> list[Tensor]:
    leaves = [s.clone().requires_grad_() for s in states]
    return list(torch.autograd.grad(total(network, x, leaves, parameters, pull).sum(), leaves))


def _step(activation: Activation, s: Tensor, slope: Tensor) -> Tensor:
    """rho(rho^-1(s) - slope)."""
    if isinstance(activation, ClippedLinear):
        return (s - activation.slope * slope).clamp(activation.low, activation.high)
    if not isinstance(activation, Logistic):
        return respond(activation, s - slope)
    p = (s - activation.low) / (activation.high - activation.low)
    return respond(activation, torch.logit(p) / activation.rate - slope)


def _inside(activation: Activation, s: Tensor) -> Tensor:
    """s, off the ends of a logistic activation's range, where its inverse is infinite."""
    if not isinstance(activation, Logistic):
        return s
    margin = 1e-12 * (activation.high - activation.low)
    return s.clamp(activation.low + margin, activation.high - margin)


def _moves(activation: Activation, s: Tensor, slope: Tensor) -> Tensor:
    """Which units no limit holds, judged by their drive: near a limit the noise of a state tells nothing."""
    if isinstance(activation, ClippedLinear):
        wanted = s - activation.slope * slope
        return (wanted > activation.low) & (wanted < activation.high)
    if not isinstance(activation, Logistic):
        return respond(activation, s - slope) != 0
    return torch.ones_like(s, dtype=torch.bool)


def _flat(parts: Sequence[Tensor]) -> Tensor:
    return torch.cat([p.flatten(1) for p in parts], 1)
