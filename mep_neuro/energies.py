"""Energies E(s; x) of a chain of populations, written out plainly. Their minimum is where a network rests.

    hopfield           E = sum_l [ G_l(s_l) - <s_l, f_l(s_{l-1}) + b_l> ],                       s_0 = x
    prediction_error   E = sum_l 1/2 |s_l - f_l(r_{l-1}) - b_l|^2,     r_l = rho_l(s_l),         r_0 = x

In `hopfield` a state is a population's activity, s_l = rho_l(drive_l) at rest, and the outputs are s_L. In
`prediction_error` a state is a drive that the population below predicts: at rest without a nudge s_l is the forward
pass and E = 0; the outputs are rho_L(s_L). Sources: Scellier and Bengio 2017 and Laborieux et al. 2021 for the first
(in its Phi form, E = sum G - Phi); Whittington and Bogacz 2017 for the second.

What is here is the definition, in PyTorch and open to autograd. Backends minimise it by closed forms of their own and
are checked against it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from torch import Tensor

from mep_neuro.activations import Activation, potential, respond
from mep_neuro.errors import OptionError, did_you_mean

Maps = Sequence[Callable[[Tensor], Tensor]]


def hopfield(x: Tensor, states: Sequence[Tensor], maps: Maps, activations: Sequence[Activation]) -> Tensor:
    """E for each sample, (batch,); `maps[l]` is s -> f(s) + b."""
    total = x.new_zeros(len(x))
    for below, s, affine, activation in zip([x, *states[:-1]], states, maps, activations, strict=True):
        total = total + (potential(activation, s) - s * affine(below)).flatten(1).sum(1)
    return total


def prediction_error(x: Tensor, states: Sequence[Tensor], maps: Maps, activations: Sequence[Activation]) -> Tensor:
    """E for each sample, (batch,); `maps[l]` is s -> f(s) + b."""
    total = x.new_zeros(len(x))
    below = x
    for s, affine, activation in zip(states, maps, activations, strict=True):
        total = total + 0.5 * (s - affine(below)).square().flatten(1).sum(1)
        below = respond(activation, s)
    return total


ENERGIES: Mapping[str, Callable[[Tensor, Sequence[Tensor], Maps, Sequence[Activation]], Tensor]] = {
    "hopfield": hopfield,
    "prediction_error": prediction_error,
}


def check_energy(name: str) -> str:
    """The energy's name, or `OptionError` with the nearest one."""
    if name not in ENERGIES:
        raise OptionError(f"no energy {name!r}; there are: {', '.join(ENERGIES)}.{did_you_mean(name, ENERGIES)}")
    return name
