"""NaturalUpdate: a Kronecker-factored natural gradient from what the two ends of each synapse saw."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mep_neuro.errors import InputError, OptionError
from mep_neuro.optim.update import Statistics, Update, with_momentum


class NaturalUpdate(Update):
    """With s the states below a coupling and d the nudged difference of the states above (an estimate of
    -dC/d(drive)), both of the last estimate, sample by sample:

        A <- decay A + (1 - decay) mean(s s^T),    B <- decay B + (1 - decay) mean(d d^T)
        direction = (B / b + e I)^-1 G (A / a + e I)^-1,   a = tr A / inputs, b = tr B / outputs, e^2 = fisher_damping

    then momentum. Over a b it is (B + b e I)^-1 G (A + a e I)^-1; without, the direction is as large as the gradient
    where all eigenvalues are equal (but for the damping), and nothing vanishes however small the statistics are. The
    Fisher matrix of a dense coupling is about A (x) B; both factors are sums of what each end of a synapse has at hand.
    `fisher_damping` is relative to the product of the factors' mean eigenvalues. `use_diagonal_fisher` keeps the
    diagonals of A and B alone.

    Source: Martens and Grosse 2015, arXiv:1503.05671, section 6.3 (factored Tikhonov damping), with EP's nudged
    differences in place of back-propagated ones.
    """

    defaults: Mapping[str, Any] = {
        "momentum": 0.9,
        "fisher_damping": 1e-3,
        "fisher_decay": 0.95,
        "use_diagonal_fisher": False,
    }

    def direction(
        self,
        p: Tensor,
        gradient: Tensor,
        state: dict[str, Any],
        group: Mapping[str, Any],
        feedback: float | None,
        statistics: Statistics | None,
    ) -> Tensor:
        if statistics is None:
            raise InputError(
                "a natural gradient needs the local statistics of EP on a dense coupling: mode='ep', nn.Linear only"
            )
        diagonal, decay, e = group["use_diagonal_fisher"], group["fisher_decay"], group["fisher_damping"] ** 0.5
        pre, post = (_second_moment(values, diagonal) for values in statistics)
        if not all(bool(torch.isfinite(value).all()) for value in (pre, post, gradient)):
            raise InputError(
                "a gradient or its statistics are not finite: the training diverged; lower the learning rate"
            )
        below, above = _running(state, "fisher_below", pre, decay), _running(state, "fisher_above", post, decay)
        if diagonal:
            natural = gradient / (above + e)[:, None] / (below + e)
        else:
            natural = _solved(below, e, _solved(above, e, gradient).T).T
        return with_momentum(natural, state, group["momentum"])

    def check(self, group: Mapping[str, Any]) -> None:
        super().check(group)
        if not group["fisher_damping"] > 0:
            raise OptionError(f"fisher_damping is {group['fisher_damping']}; it must be above 0")
        if not 0 <= group["fisher_decay"] < 1:
            raise OptionError(f"fisher_decay is {group['fisher_decay']}; it must lie in [0, 1)")


def _second_moment(values: Tensor, diagonal: bool) -> Tensor:
    """The mean of v v^T over the samples, or its diagonal."""
    return values.square().mean(0) if diagonal else values.T @ values / len(values)


def _running(state: dict[str, Any], name: str, new: Tensor, decay: float) -> Tensor:
    """The running mean over the mean of its diagonal, in which the share that its start at 0 takes cancels."""
    if name not in state or state[name].shape != new.shape:
        state[name] = torch.zeros_like(new)
    mean: Tensor = state[name]
    mean.mul_(decay).add_(new, alpha=1 - decay)
    return mean / (mean if mean.dim() == 1 else mean.diagonal()).mean().clamp_min(torch.finfo(mean.dtype).tiny)


def _solved(factor: Tensor, damping: float, values: Tensor) -> Tensor:
    """(factor + damping I)^-1 values, by Cholesky; by eigenvalues where damping is below the factor's rounding."""
    damped = factor + damping * torch.eye(len(factor), dtype=factor.dtype, device=factor.device)
    root, failed = torch.linalg.cholesky_ex(damped)
    if not bool(failed):
        return torch.cholesky_solve(values, root)
    least = float(torch.finfo(factor.dtype).eps) * len(factor)
    w, v = torch.linalg.eigh(factor)
    solved: Tensor = v @ ((v.T @ values) / (w.clamp_min(least * w[-1]) + damping)[:, None])
    return solved
