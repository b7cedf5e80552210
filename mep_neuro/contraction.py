"""Contraction: the factor by which a sweep of settling shrinks small errors, measured at samples' free equilibrium.

At rest, with slopes D = diag rho'(drive) and couplings K (f_l forward, f_l^T back), an error e of the states becomes

    synchronous   D K e       similar to the symmetric M = D^1/2 K D^1/2, so the eigenvalues are real: +-mu
    even/odd      J e         with the eigenvalues mu^2, as K joins even populations to odd ones only

The rate of an even/odd sweep is the largest mu^2, the spectral radius of J. It is a norm of J as well, in the metric of
the energy's own curvature: |e|^2 = sum e^2 / rho'(drive) over the populations that a sweep sets last. So errors shrink
by this factor or more from the first sweep on, not only in the long run. And as the Hessian of E at rest is D^-1 - K,
the rate is below 1 exactly where the rest is a strict minimum of E. Source: Young 1954 (two-cyclic matrices).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

import torch
from torch import Tensor

from mep_neuro.activations import Activation, respond
from mep_neuro.errors import InputError

if TYPE_CHECKING:
    from mep_neuro.network import EnergyNetwork

Map: TypeAlias = Callable[[Tensor], Tensor]
Drives: TypeAlias = Callable[[Sequence[Tensor]], list[Tensor]]
"""From all states to all drives, each (batch, *population)."""

GROWN = 1e6
"""States so many times larger than the forward pass run away: the sweeps are cut off, before numbers overflow."""


@torch.no_grad()
def contraction(network: EnergyNetwork, x: Tensor, *, beta: float, iterations: int) -> float:
    """`EnergyNetwork.contraction`, which says what the arguments are."""
    if network.energy_name == "resistive":
        raise InputError(
            "contraction is of the hopfield energy; a resistive network has one free equilibrium whatever its weights, "
            "and even/odd sweeps lead there"
        )
    if network.energy_name != "hopfield":
        raise InputError(
            f"contraction is of the hopfield energy; this network has {network.energy_name!r}, whose free equilibrium "
            "is the forward pass: there is no loop to settle"
        )
    if iterations < 1:
        raise InputError(f"iterations is {iterations}; give at least 1")
    x = network.batch(x).to(network.device, network.dtype)
    if len(x) == 0:
        raise InputError("the batch is empty")
    activations = [p.activation for p in network.populations]
    maps = [network._affine(c) for c in network.couplings]
    drives = _drives(maps, x)
    states = _rest(maps, activations, drives, x, iterations)
    slopes = [_slope(a, d) for a, d in zip(activations, drives(states), strict=True)]
    stiffness = 1 + beta * slopes[-1]
    if not bool((stiffness > 0).all()):
        raise InputError(f"beta is {beta:g}: so strong a push away from the target leaves the outputs no minimum")
    slopes[-1] = slopes[-1] / stiffness
    rates = _largest(drives, [d.sqrt() for d in slopes], iterations) ** 2
    return float(rates.max())


def _drives(maps: Sequence[Map], x: Tensor) -> Drives:
    """The drives are the slope of Phi = sum_l <s_l, f_l(s_{l-1}) + b_l>."""
    clamped = maps[0](x)

    def phi(states: Sequence[Tensor]) -> Tensor:
        total = (states[0] * clamped).sum()
        for affine, below, s in zip(maps[1:], states[:-1], states[1:], strict=True):
            total = total + (s * affine(below)).sum()
        return total

    drives: Drives = torch.func.grad(phi)
    return drives


def _rest(
    maps: Sequence[Map], activations: Sequence[Activation], drives: Drives, x: Tensor, iterations: int
) -> list[Tensor]:
    """The free equilibrium, by even/odd sweeps from the forward pass; the last states where there is no rest."""
    states, below = list[Tensor](), x
    for affine, activation in zip(maps, activations, strict=True):
        below = respond(activation, affine(below))
        states.append(below)
    size = max(1.0, *(float(s.abs().max()) for s in states))
    for _ in range(iterations):
        before = states
        for parity in (0, 1):
            new = [respond(a, d) for a, d in zip(activations, drives(states), strict=True)]
            states = [n if level % 2 == parity else s for level, (n, s) in enumerate(zip(new, states, strict=True))]
        moved = max(float((s - b).abs().max()) for s, b in zip(states, before, strict=True))
        rounding = 8 * torch.finfo(x.dtype).eps * size
        if moved <= rounding or not max(float(s.abs().max()) for s in states) < GROWN * size:
            break
    return states


def _slope(activation: Activation, drive: Tensor) -> Tensor:
    """rho'(drive), elementwise; at a corner that of the steeper side."""
    slope: Tensor = torch.func.vjp(partial(respond, activation), drive)[1](torch.ones_like(drive))[0]
    return slope


def _largest(drives: Drives, roots: Sequence[Tensor], steps: int) -> Tensor:
    """(batch,), the largest eigenvalue mu of M = R K R, R = diag(roots), by Lanczos' iteration.

    It starts on the populations of one parity, which M leads to the others and back. So the matrix of M in the space
    of the iterates is tridiagonal, with zeros along its diagonal.
    """
    bias = drives([torch.zeros_like(r) for r in roots])  # the drives are K s and this

    def product(vector: Tensor) -> Tensor:
        pieces = torch.split_with_sizes(vector, [r[0].numel() for r in roots], 1)
        driven = drives([r * piece.view(r.shape) for r, piece in zip(roots, pieces, strict=True)])
        return _flat([r * (d - b) for r, d, b in zip(roots, driven, bias, strict=True)])

    generator, tiny = torch.Generator().manual_seed(0), torch.finfo(roots[0].dtype).tiny
    noise = [torch.randn(r.shape, generator=generator, dtype=r.dtype).to(r.device) for r in roots]
    vector = _flat([n if level % 2 else torch.zeros_like(n) for level, n in enumerate(noise)])
    sides = [sum(r[0].numel() for r in roots[parity::2]) for parity in (0, 1)]
    before, size, sizes = torch.zeros_like(vector), vector.new_zeros(len(vector), 1), list[Tensor]()
    vector = vector / vector.norm(dim=1, keepdim=True).clamp_min(tiny)
    for _ in range(min(steps, 2 * min(sides) + 2)):
        new = product(vector) - size * before
        size, before = new.norm(dim=1, keepdim=True), vector
        vector = new / size.clamp_min(tiny)
        sizes.append(size)
    beside = torch.diag_embed(torch.cat(sizes, 1), 1)
    values: Tensor = torch.linalg.eigvalsh(beside + beside.mT)
    return values[:, -1]


def _flat(states: Sequence[Tensor]) -> Tensor:
    return torch.cat([s.flatten(1) for s in states], 1)
