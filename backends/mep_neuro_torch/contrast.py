"""The contrast of phases, factorised so that close phases do not cancel.

For weights that sum to zero, with bars for means over the K phases and deltas from them,

    sum_k w_k post_k (x) pre_k = [sum w_k dpost_k] (x) mean pre + mean post (x) [sum w_k dpre_k]
                                 + sum w_k dpost_k (x) dpre_k

The last sum is zero for two phases, and pre does not differ on the clamped input. So a first coupling costs one
product, any other two, whatever beta.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor

from mep_neuro.network import EnergyNetwork
from mep_neuro_torch.operations import Masks, Weights, bias_statistic, statistic


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
