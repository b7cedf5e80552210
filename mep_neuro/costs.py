"""Costs C(s_L, target) on the output population, one value a sample, and the targets they take.

    squared_error    C = 1/2 |s_L - y|^2                         dC/ds = s_L - y
    cross_entropy    C = -<y, log softmax(s_L)>                  dC/ds = softmax(s_L) - y

The softmax is a read-out: the outputs are the logits, and the softmax is no part of the energy.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F

from mep_neuro.errors import InputError, OptionError, did_you_mean

COSTS = ("squared_error", "cross_entropy")


def check_cost(name: str) -> str:
    """The cost's name, or `OptionError` with the nearest one."""
    if name not in COSTS:
        raise OptionError(f"no cost {name!r}; there are: {', '.join(COSTS)}.{did_you_mean(name, COSTS)}")
    return name


def cost(name: str, outputs: Tensor, target: Tensor) -> Tensor:
    """C for each sample, (batch,). `outputs` and `target`: (batch, *outputs)."""
    if name == "squared_error":
        return 0.5 * (outputs - target).square().flatten(1).sum(1)
    return -(target * F.log_softmax(outputs, dim=1)).sum(1)


def encode_target(target: Tensor, outputs: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Labels (batch,) of integers as one-hot (batch, classes); values (batch, *outputs) as they are.

    Raises `InputError` for labels out of range and for shapes that do not fit the outputs.
    """
    if not target.dtype.is_floating_point and target.dim() == 1 and len(outputs) == 1:
        if target.dtype is torch.bool:
            raise InputError("labels are booleans; give integers from 0, or one-hot values")
        labels, one_hot = target.long(), _identity(outputs[0], dtype, target.device)
        if target.is_cuda:  # an index out of range would end the process's CUDA context
            _check_labels(labels, outputs[0])
        try:
            return one_hot.index_select(0, labels)
        except IndexError:
            _check_labels(labels, outputs[0])
            raise
    if target.shape[1:] != outputs:
        raise InputError(
            f"target has shape {tuple(target.shape)}; give integer labels of shape (batch,) "
            f"or values of shape (batch, {', '.join(map(str, outputs))})"
        )
    return target.to(dtype)


@cache
def _identity(size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Rows of one-hot codes, made once."""
    return torch.eye(size, dtype=dtype, device=device)


def _check_labels(labels: Tensor, outputs: int) -> None:
    low, high = (int(end) for end in torch.aminmax(labels)) if len(labels) else (0, 0)
    if low < 0 or high >= outputs:
        raise InputError(
            f"labels run from {low} to {high}, but the network has {outputs} outputs: "
            f"labels must lie in 0..{outputs - 1}"
        )


def correct(outputs: Tensor, target: Tensor) -> Tensor:
    """(batch,) booleans: whether the largest output is the target's largest (ties: the first)."""
    return outputs.flatten(1).argmax(1) == target.flatten(1).argmax(1)
