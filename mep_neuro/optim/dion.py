"""DionUpdate: momentum, orthogonalised at low rank; error feedback keeps what the rank left out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mep_neuro.errors import OptionError
from mep_neuro.optim.muon import MuonUpdate
from mep_neuro.optim.orthogonal import as_matrix, is_matrix, magnitude, without_autocast
from mep_neuro.optim.update import Statistics, Update


class DionUpdate(Update):
    """Distributed orthonormalised updates (Ahn et al. 2025, arXiv:2504.05295), here on one device:

        M <- M + G
        P  = orthonormal columns of M Q, (out, rank);      R = M^T P, (in, rank)      one power iteration: M ~ P R^T
        Q <- columns of R, each of length 1
        M <- momentum P R^T + keep (M - P R^T)
        direction = sqrt(out / in) P Q^T

    keep is the difference that feedback makes: 1 with feedback 1, which is Dion's own M - (1 - momentum) P R^T. What
    the low rank leaves out then stays in M until its turn comes: (1 - momentum) times the sum of all P R^T follows
    the sum of all gradients, never further away than the present M. Without feedback keep is the momentum: what is
    left out decays like the rest, and directions outside of the leading ones are never taken.
    Between the two, keep = momentum + feedback (1 - momentum).

    momentum:    in [0, 1).
    rank_frac:   rank = max(1, round(rank_frac min(out, in))), in (0, 1].
    dion_thresh: matrices with fewer entries are orthogonalised in full, by `MuonUpdate`, which also explains
                 nesterov, ns_steps, adjust_lr_fn and what feedback is there; its scale for wide ones is 1.

    Q starts from a fixed draw for each shape. A column of R that is nothing but rounding (the gradient has a lower
    rank than asked for) gives no direction, and its column of Q waits.
    """

    defaults: Mapping[str, Any] = {**MuonUpdate.defaults, "rank_frac": 0.2, "dion_thresh": 100000}
    compresses = True

    def __init__(self) -> None:
        self._full = MuonUpdate()

    @staticmethod
    def applies(p: Tensor) -> bool:
        """Whether p is a matrix or a kernel. The rest, such as biases, wants another update."""
        return is_matrix(p)

    def direction(
        self,
        p: Tensor,
        gradient: Tensor,
        state: dict[str, Any],
        group: Mapping[str, Any],
        feedback: float | None,
        statistics: Statistics | None,
    ) -> Tensor:
        if p.numel() < group["dion_thresh"]:
            return self._full.direction(p, gradient, state, group, feedback, statistics)
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(gradient)
        buffer: Tensor = state["momentum_buffer"]
        buffer.add_(gradient)
        matrix = as_matrix(buffer)
        with without_autocast(matrix):
            size = magnitude(matrix)
            old = _basis(matrix, state, group["rank_frac"])
            left, right = power_iteration(matrix / size, old)
            returned = (feedback or 0.0) * (1 - group["momentum"])
            buffer.mul_(group["momentum"] + returned)
            if feedback is not None:
                buffer.sub_((returned * size * (left @ right.T)).reshape(p.shape))
            new = _unit_columns(right)
            state["basis"] = torch.where(new.any(dim=0), new, old)
            return (math.sqrt(matrix.shape[0] / matrix.shape[1]) * left @ new.T).reshape(p.shape).to(p.dtype)

    def check(self, group: Mapping[str, Any]) -> None:
        self._full.check(group)
        fraction, threshold = group["rank_frac"], group["dion_thresh"]
        if not 0 < fraction <= 1:
            raise OptionError(f"rank_frac is {fraction}; it must lie in (0, 1]")
        if not threshold >= 0:
            raise OptionError(f"dion_thresh is {threshold}; give the entries of the smallest matrix for Dion, or 0")


def power_iteration(matrix: Tensor, basis: Tensor) -> tuple[Tensor, Tensor]:
    """P (out, rank), orthonormal columns of M Q, and R = M^T P (in, rank): P R^T = P P^T M is close to M at that rank.

    Repeated from Q = R the columns of P go to M's leading left singular vectors, by (s_{rank+1} / s_rank)^2 a time.
    """
    left = torch.linalg.qr(matrix @ basis).Q
    return left, matrix.T @ left


def _basis(matrix: Tensor, state: dict[str, Any], fraction: float) -> Tensor:
    """Q (in, rank): what the last step left, or a draw that depends on the shape alone, on any device."""
    rows, columns = matrix.shape
    shape = (columns, max(1, round(fraction * min(rows, columns))))
    if "basis" in state and state["basis"].shape == shape:
        kept: Tensor = state["basis"]
        return kept.to(matrix.dtype)
    generator = torch.Generator().manual_seed(rows * 1_000_003 + columns)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(matrix)


def _unit_columns(right: Tensor) -> Tensor:
    """The columns over their lengths; zeros for a column that is nothing but the rounding of the longest."""
    length = torch.linalg.vector_norm(right, dim=0)
    least = torch.finfo(right.dtype).eps * len(right) * length.max()
    return torch.where(length > least, right / length, torch.zeros_like(right))
