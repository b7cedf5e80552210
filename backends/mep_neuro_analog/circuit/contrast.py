"""The contrast of phases on conductances, factorised: -dE/dg_ij = -1/2 (v_i - u_j)^2, and no batch x n x m tensor.

With the first phase as the anchor, v_k = s + d_k, u_k = a + e_k, d_0 = e_0 = 0, and weights that sum to 0,

    sum_k w_k (-1/2) (v_k,i - u_k,j)^2 = sum_k w_k (v_k,i u_k,j) - 1/2 q_i - 1/2 q_j
    sum_k w_k v_k u_k = sum_k w_k [ d_k (a + e_k) + s e_k ],    q = sum_k w_k v_k^2 = sum_k w_k d_k (2 s + d_k)

which for two phases is the factorised difference of squares, (dv' - dv)(dv' + dv), summed over the batch by one matrix
product. What is read are s and the differences d_k, which comparators take before a converter does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from mep_neuro_analog.readout import Readout


@final
@dataclass(frozen=True)
class Swing:
    """One population's voltages in all phases.

    anchor:  s, (batch, units).
    shifts:  d_k of the phases after the first.
    rise:    sum_k w_k d_k.
    squares: q, summed over the batch, (units,).
    """

    anchor: Tensor
    shifts: Sequence[Tensor]
    rise: Tensor
    squares: Tensor

    @classmethod
    def still(cls, u: Tensor) -> Swing:
        """Of the clamped input, which is the same in all phases."""
        return cls(u, (), torch.zeros_like(u), u.new_zeros(u.shape[1]))

    @classmethod
    def read(cls, readout: Readout, level: int, phases: Sequence[Tensor], weights: Sequence[float]) -> Swing:
        """Through converters and comparators."""
        first = phases[0]
        anchor = readout.read(first)
        shifts = [readout.compared(level, other, first) for other in phases[1:]]
        rise, squares = torch.zeros_like(anchor), anchor.new_zeros(anchor.shape[1])
        for w, d in zip(weights[1:], shifts, strict=True):
            rise = rise.add(d, alpha=w)
            squares = squares.add((d * (2 * anchor + d)).sum(0), alpha=w)
        return cls(anchor, shifts, rise, squares)


def between(below: Swing, above: Swing, weights: Sequence[float]) -> Tensor:
    """sum_k w_k (-1/2) (v_i - u_j)^2 over the batch, (units, units below)."""
    if not below.shifts:
        value = above.rise.T @ below.anchor
    else:
        post, pre = [above.anchor], [below.rise]
        for w, d, e in zip(weights[1:], above.shifts, below.shifts, strict=True):
            post.append(w * d)
            pre.append(below.anchor + e)
        value = torch.cat(post).T @ torch.cat(pre)
    return value - above.squares[:, None] / 2 - below.squares[None, :] / 2
