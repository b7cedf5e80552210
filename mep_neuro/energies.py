"""Energies E(s; x) of a chain of populations, written out plainly. Their minimum is where a network rests.

    hopfield           E = sum_l [ G_l(s_l) - <s_l, f_l(s_{l-1}) + b_l> ],                       s_0 = x
    prediction_error   E = sum_l 1/2 |s_l - f_l(r_{l-1}) - b_l|^2,     r_l = rho_l(s_l),         r_0 = x
    resistive          E = sum_l [ 1/2 sum_ij g_ij (v_i - u_j)^2 - <b_l, v_l> ],    v = s_l, u = s_{l-1}, s_0 = x

In `hopfield` a state is a population's activity, s_l = rho_l(drive_l) at rest, and the outputs are s_L. In
`prediction_error` a state is a drive that the population below predicts: at rest without a nudge s_l is the forward
pass and E = 0; the outputs are rho_L(s_L). Sources: Scellier and Bengio 2017 and Laborieux et al. 2021 for the first
(in its Phi form, E = sum G - Phi); Whittington and Bogacz 2017 for the second.

`resistive` is the co-content of a network of resistors: states are the nodes' voltages (V), the weights of a Linear
(outputs, inputs) are conductances g >= 0 (S) between two populations, its biases currents (A) into the upper one, and
an activation is the range that ideal diodes leave a node. dE/dv_i is the current that leaves node i, so at its least,
Kirchhoff's current law holds at every node that no diode holds. Sources: Kendall et al. 2020, arXiv:2006.01981;
Scellier 2024, arXiv:2402.11674, PMLR 235:43477.

What is here is the definition, in PyTorch and open to autograd. Backends minimise it by closed forms of their own and
are checked against it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, TypeAlias

from torch import Tensor

from mep_neuro.activations import Activation, ClippedLinear, Rectifiers, potential, respond
from mep_neuro.couplings import Coupling, Dense, Flatten, Signed
from mep_neuro.errors import NetworkError, OptionError, did_you_mean

Map: TypeAlias = Callable[[Tensor], Tensor]


class Link(NamedTuple):
    """A coupling with the parameters that it has now."""

    affine: Map
    """s -> f(s) + b."""
    seen: Map
    """s -> what the operation with the weights sees of the population below."""
    weight: Tensor | None
    bias: Tensor | None


def hopfield(x: Tensor, states: Sequence[Tensor], links: Sequence[Link], activations: Sequence[Activation]) -> Tensor:
    """E for each sample, (batch,)."""
    total = x.new_zeros(len(x))
    for below, s, link, activation in zip([x, *states[:-1]], states, links, activations, strict=True):
        total = total + (potential(activation, s) - s * link.affine(below)).flatten(1).sum(1)
    return total


def prediction_error(
    x: Tensor, states: Sequence[Tensor], links: Sequence[Link], activations: Sequence[Activation]
) -> Tensor:
    """E for each sample, (batch,)."""
    total = x.new_zeros(len(x))
    below = x
    for s, link, activation in zip(states, links, activations, strict=True):
        total = total + 0.5 * (s - link.affine(below)).square().flatten(1).sum(1)
        below = respond(activation, s)
    return total


def resistive(x: Tensor, states: Sequence[Tensor], links: Sequence[Link], activations: Sequence[Activation]) -> Tensor:
    """E for each sample, (batch,). Half of the dissipated power, less the work of the currents."""
    total = x.new_zeros(len(x))
    for below, v, link in zip([x, *states[:-1]], states, links, strict=True):
        if link.weight is None:
            raise NetworkError("a coupling without conductances has no energy of resistors")
        total = total + dissipation(link.seen(below), v, link.weight) / 2
        if link.bias is not None:
            total = total - v @ link.bias
    return total


def dissipation(u: Tensor, v: Tensor, g: Tensor) -> Tensor:
    """P = sum_ij g_ij (v_i - u_j)^2, (batch,), the power in resistors g (n, m) between v (batch, n) and u (batch, m):
    sum_i v_i^2 g_i. - 2 <v, g u> + sum_j g_.j u_j^2, by sums over rows and columns and one matrix product."""
    return v.square() @ g.sum(1) - 2 * (v * (u @ g.T)).sum(1) + u.square() @ g.sum(0)


ENERGIES: Mapping[str, Callable[[Tensor, Sequence[Tensor], Sequence[Link], Sequence[Activation]], Tensor]] = {
    "hopfield": hopfield,
    "prediction_error": prediction_error,
    "resistive": resistive,
}


def check_energy(name: str) -> str:
    """The energy's name, or `OptionError` with the nearest one."""
    if name not in ENERGIES:
        raise OptionError(f"no energy {name!r}; there are: {', '.join(ENERGIES)}.{did_you_mean(name, ENERGIES)}")
    return name


def check_chain(energy: str, couplings: Sequence[Coupling], activations: Sequence[Activation]) -> None:
    """Raise `NetworkError` for what the energy cannot hold, with what to use instead."""
    for index, (coupling, activation) in enumerate(zip(couplings, activations, strict=True), 1):
        if energy != "resistive":
            if isinstance(activation, Rectifiers):
                raise NetworkError(
                    f"population {index} has Diodes, which are for energy='resistive', not {energy!r}: use nn.ReLU"
                )
            continue
        for o in coupling.operations:
            if not isinstance(o, Dense) and (index > 1 or not isinstance(o, Flatten | Signed)):
                raise NetworkError(
                    f"module {o.name!r} ({type(o).__name__}) is nothing that resistors can be: the resistive energy "
                    "takes Linear layers, and before the first one nn.Flatten and mep.SignedInput"
                )
        bounds = isinstance(activation, ClippedLinear) and activation.slope == 1 and activation.offset == 0
        if not (bounds or isinstance(activation, Rectifiers)):
            raise NetworkError(
                f"population {index} has the activation {activation}, which no ideal diode has: for resistors "
                "use mep.Diodes, nn.ReLU, nn.Hardtanh or none"
            )
