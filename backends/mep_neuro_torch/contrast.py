"""The contrast of phases, factorised so that close phases do not cancel.

For weights that sum to zero, with bars for means over the K phases and deltas from them,

    sum_k w_k post_k (x) pre_k = [sum w_k dpost_k] (x) mean pre + mean post (x) [sum w_k dpre_k]
                                 + sum w_k dpost_k (x) dpre_k

The last sum is zero for two phases, and pre does not differ on the clamped input. So a first coupling costs one
product, any other two, whatever beta. A conductance sees the drop of voltage across it, and with

    sum_k w_k (-1/2) (post_k,i - pre_k,j)^2 = sum_k w_k (post_k,i pre_k,j - 1/2 post_k,i^2 - 1/2 pre_k,j^2)
    sum_k w_k s_k^2 = 2 (mean s) [sum w_k ds_k] + sum w_k ds_k^2

it costs the same products, and sums over the batch that are one column and one row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from mep_neuro.network import EnergyNetwork
from mep_neuro_torch.operations import Masks, Weights, bias_statistic, seen, statistic


def products(phases: int, level: int) -> int:
    """How many outer products a coupling's contrast takes."""
    return 1 if level == 0 else 2 if phases == 2 else 2 + phases


def contrast(
    network: EnergyNetwork,
    x: Tensor,
    ends: Sequence[Sequence[Sequence[Tensor]]],
    weights: Sequence[complex],
    parameters: Sequence[Weights],
    masks: Masks,
) -> dict[str, Tensor]:
    """sum_k weights_k (-dE/dtheta)(s_k), the mean over the batch.

    ends: (post_1 .. post_L, pre_2 .. pre_L) of each phase.
    """
    trained, found = set(network.trained), dict[str, Tensor]()
    share = [w / x.size(0) for w in weights]
    rises = Rises(share)
    # the first coupling last: its gradient is the largest, and what the others needed is free again by then
    for level, coupling in reversed(list(enumerate(network.couplings))):
        operation = coupling.weighted
        if operation is None or not trained.intersection(coupling.parameters):
            continue
        posts = [end[0][level] for end in ends]
        pres = [end[1][level - 1] for end in ends] if level else None
        rise = rises.of(posts)
        if operation.bias in trained and operation.bias is not None:
            found[operation.bias] = bias_statistic(coupling, _real(rise), masks)
        if operation.weight in trained:
            post, pre = (_real(rise), x) if pres is None else _factors(rises, posts, pres)
            value = statistic(coupling, post, pre, parameters[level], masks)
            assert value is not None
            found[operation.weight] = value
            del post, pre
        del rise
        rises.forget(posts)
    return found


def drop_contrast(
    network: EnergyNetwork, x: Tensor, ends: Sequence[Sequence[Sequence[Tensor]]], weights: Sequence[float]
) -> dict[str, Tensor]:
    """The same for resistors, -dE/dg_ij = -1/2 (v_i - u_j)^2; weights: divided by the batch already.

    ends: (d_1 .. d_L, a_1 .. a_L) of each phase, whose voltages are v = a + d.
    """
    found = dict[str, Tensor]()
    below = Swing.still(seen(network.couplings[0], x))
    for level, coupling in enumerate(network.couplings):
        o = coupling.weighted
        swing = Swing.of([shifts[level] for shifts, _ in ends], [anchors[level] for _, anchors in ends], weights)
        if o is not None and o.weight in network.trained:
            post, pre = [swing.rise], [below.mean]
            if level:
                post, pre = [*post, swing.mean, *swing.weighted], [*pre, below.rise, *below.deviations]
            value = torch.cat(post).T @ torch.cat(pre)
            found[o.weight] = value - swing.squares[:, None] / 2 - below.squares[None, :] / 2
        if o is not None and o.bias is not None and o.bias in network.trained:
            found[o.bias] = swing.rise.sum(0)
        below = swing
    return found


@final
@dataclass(frozen=True)
class Swing:
    """One population's voltages in K phases: their mean, and what the phases do about it.

    rise:       sum_k w_k v_k, (batch, units).
    squares:    sum_k w_k v_k^2, summed over the batch, (units,).
    deviations: v_k less the mean, where there are more than two phases, and `weighted`, w_k times these.
    """

    mean: Tensor
    rise: Tensor
    squares: Tensor
    deviations: Sequence[Tensor] = ()
    weighted: Sequence[Tensor] = ()

    @classmethod
    def still(cls, u: Tensor) -> Swing:
        """The clamped input's, which is the same in all phases."""
        return cls(u, torch.zeros_like(u), u.new_zeros(u.size(1)))

    @classmethod
    def of(cls, shifts: Sequence[Tensor], anchors: Sequence[Tensor], weights: Sequence[float]) -> Swing:
        """Of phases that settled at anchors + shifts."""
        first = anchors[0]
        shifts = [d if a is first else d + (a - first) for d, a in zip(shifts, anchors, strict=True)]
        middle, rise = _mean(shifts), _weighted(shifts, weights)
        mean = first + middle
        squares = (2 * mean * rise).sum(0)
        if len(shifts) == 2:
            return cls(mean, rise, squares)
        deviations = [d - middle for d in shifts]
        weighted = [w * d for w, d in zip(weights, deviations, strict=True)]
        for d, scaled in zip(deviations, weighted, strict=True):
            squares = squares + (d * scaled).sum(0)
        return cls(mean, rise, squares, deviations, weighted)


@final
class Rises:
    """sum_k weights_k phase_k of phases, each worked out once: a population is above one coupling and below another."""

    def __init__(self, weights: Sequence[complex]) -> None:
        self.weights = weights
        self._found: dict[tuple[int, ...], Tensor] = {}

    def of(self, phases: Sequence[Tensor]) -> Tensor:
        """The weights sum to zero, so for two phases it is a scaled difference."""
        key = tuple([id(p) for p in phases])
        if key not in self._found:
            self._found[key] = _weighted(phases, self.weights)
        return self._found[key]

    def forget(self, phases: Sequence[Tensor]) -> None:
        """Give the memory back of what is not asked for again."""
        self._found.pop(tuple([id(p) for p in phases]), None)


def _factors(rises: Rises, posts: Sequence[Tensor], pres: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """The factors of the sum above, stacked along the batch, so that one product sums them all."""
    lefts, rights = [rises.of(posts), _mean(posts)], [_mean(pres), rises.of(pres)]
    if len(posts) > 2:
        lefts += [w * (p - lefts[1]) for w, p in zip(rises.weights, posts, strict=True)]
        rights += [p - rights[0] for p in pres]
    if lefts[0].is_complex():  # Re(a b) = Re a Re b - Im a Im b
        lefts, rights = _parts(lefts, -1), _parts(rights, 1)
    return torch.cat(lefts), torch.cat(rights)


def _weighted(phases: Sequence[Tensor], weights: Sequence[complex]) -> Tensor:
    """sum_k weights_k phase_k; the weights sum to zero, so for two phases it is a scaled difference."""
    if len(phases) == 2:
        return (phases[0] - phases[1]) * _plain(weights[0])
    mean = _mean(phases)
    return torch.stack([(p - mean) * _plain(w) for p, w in zip(phases, weights, strict=True)]).sum(0)


def _mean(phases: Sequence[Tensor]) -> Tensor:
    if len(phases) == 2:
        return torch.lerp(phases[0], phases[1], 0.5)
    return torch.stack(list(phases)).mean(0)


def _plain(weight: complex) -> complex:
    return weight.real if weight.imag == 0 else weight


def _real(value: Tensor) -> Tensor:
    return value.real if value.is_complex() else value


def _parts(values: Sequence[Tensor], sign: int) -> list[Tensor]:
    return [v.real for v in values] + [sign * v.imag for v in values]
