"""MuonUpdate: momentum, orthogonalised. Every direction of the weight matrix moves by the same amount."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mep_neuro.errors import OptionError, did_you_mean
from mep_neuro.optim.orthogonal import as_matrix, is_matrix, orthogonalise
from mep_neuro.optim.update import Statistics, Update

SCALES = ("original", "match_rms_adamw")


class MuonUpdate(Update):
    """Steepest descent in the spectral norm, with momentum (Jordan et al. 2024), as `torch.optim.Muon` has it:

        B <- momentum B + (1 - momentum) G
        M  = momentum B + (1 - momentum) G      with nesterov, else B
        direction = scale x U V^T,              M = U S V^T, by Newton-Schulz (see `orthogonalise`)

    momentum:     in [0, 1).
    nesterov:     look one step ahead.
    ns_steps:     of the Newton-Schulz iteration, 1 to 99; more of them lift smaller singular values to about 1.
    adjust_lr_fn: the scale for a matrix (out, in). "original": sqrt(max(1, out / in)); "match_rms_adamw":
                  0.2 sqrt(max(out, in)), for learning rates tuned for AdamW (Liu et al. 2025, arXiv:2502.16982).

    Matrices, and kernels flattened to (out, -1); `applies` tells. Weight decay is not part of it.

    U V^T has lost the singular values. With feedback they come back, as EF-signSGD brings back the magnitudes that the
    sign loses (Karimireddy et al. 2019, arXiv:1901.09847); O = U V^T takes the sign's place:

        M' = M + e,      O = orthogonalised M',      C = O <M', O> / <O, O>,      e <- feedback (M' - C)

    C is the share of M' that a step along O stands for. With feedback 1 their sum follows the sum of all M, never
    further away than the present e; without, the two part by the same amount at every step.
    """

    defaults: Mapping[str, Any] = {"momentum": 0.9, "nesterov": True, "ns_steps": 5, "adjust_lr_fn": "original"}
    compresses = True

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
        moment = _momentum(gradient, state, group["momentum"], group["nesterov"])
        if feedback is not None and "error" in state:
            moment = moment + state["error"]
        matrix = as_matrix(moment)
        flat = orthogonalise(matrix, group["ns_steps"])
        if feedback is not None:
            along = (matrix * flat).sum() / flat.square().sum().clamp(min=torch.finfo(flat.dtype).tiny)
            state["error"] = (feedback * (matrix - along * flat)).reshape(p.shape).to(p.dtype)
        return (_scale(matrix.shape, group["adjust_lr_fn"]) * flat).reshape(p.shape).to(p.dtype)

    def check(self, group: Mapping[str, Any]) -> None:
        super().check(group)
        steps, scale = group["ns_steps"], group["adjust_lr_fn"]
        if isinstance(steps, bool) or not isinstance(steps, int) or not 1 <= steps <= 99:
            raise OptionError(f"ns_steps is {steps!r}; give a whole number from 1 to 99 (5 is usual)")
        if scale not in SCALES:
            raise OptionError(
                f"adjust_lr_fn is {scale!r}; give {' or '.join(map(repr, SCALES))}.{did_you_mean(str(scale), SCALES)}"
            )
        if not isinstance(group["nesterov"], bool):
            raise OptionError(f"nesterov is {group['nesterov']!r}; give True or False")


def _momentum(gradient: Tensor, state: dict[str, Any], momentum: float, nesterov: bool) -> Tensor:
    """The running mean of the gradients, or with nesterov what it will be if the same gradient comes again."""
    if "momentum_buffer" not in state:
        state["momentum_buffer"] = torch.zeros_like(gradient)
    buffer: Tensor = state["momentum_buffer"]
    buffer.lerp_(gradient, 1 - momentum)
    return gradient.lerp(buffer, momentum) if nesterov else buffer


def _scale(shape: torch.Size, adjust_lr_fn: str) -> float:
    """What `torch.optim.Muon` multiplies the learning rate of a matrix by."""
    rows, columns = shape
    return math.sqrt(max(1, rows / columns)) if adjust_lr_fn == "original" else 0.2 * math.sqrt(max(rows, columns))
