"""The linear operations that couplings are made of: forward, back through the adjoint, and their local statistic.

    dense         f(s) = W s                 f^T(t) = W^T t                dW = sum over the batch of t (x) s
    convolution   f(s) = W gather(s)         f^T(t) = scatter(W^T t)       dW = sum over the batch of t (x) gather(s)
    pooling       f(s) = sum gather(s) / n   f^T(t) = scatter(t / n)
    both signs    f(s) = (g s, -g s)         f^T(t, t') = g (t - t')

Windows are read off a table of indices: `gather` copies what each window sees into a column, (batch, channels,
places of the kernel, windows), and `scatter`, its adjoint, adds columns back to where they came from. Padding is one
spare position after the last, which reads zero and is thrown away. States may be complex; weights are real, and no
adjoint conjugates.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mep_neuro.couplings import AvgPool2d, Conv2d, Dense, Dropout, Flatten, Operation, Signed, Weighted

Array: TypeAlias = NDArray[Any]
"""float64, or complex128 in a phase with a complex nudge. The batch comes first."""

Masks: TypeAlias = Mapping[str, Array]
"""Of each Dropout that drops, by its name: (batch, *shape), 0 or 1 / (1 - rate)."""


def forward(operation: Operation, s: Array, weight: Array | None, masks: Masks) -> Array:
    """f(s), without bias. s: (batch, *in_shape)."""
    match operation:
        case Dense():
            product: Array = s @ _there(weight).T
            return product
        case Conv2d():
            columns = _columns(operation, s)
            return (_matrices(operation, _there(weight)) @ columns).reshape(len(s), *operation.out_shape)
        case AvgPool2d():
            read: Array = gather(s, windows(operation)).sum(2) / divisors(operation)
            return read.reshape(len(s), *operation.out_shape)
        case Flatten():
            return s.reshape(len(s), -1)
        case Signed():
            both: Array = np.concatenate([operation.gain * s, -operation.gain * s], 1)
            return both
        case Dropout():
            kept: Array = s * masks[operation.name] if operation.name in masks else s
            return kept


def adjoint(operation: Operation, t: Array, weight: Array | None, masks: Masks) -> Array:
    """f^T(t), <f(s), t> = <s, f^T(t)>. t: (batch, *out_shape)."""
    match operation:
        case Dense():
            product: Array = t @ _there(weight)
            return product
        case Conv2d():
            back = _matrices(operation, _there(weight)).swapaxes(1, 2) @ _by_group(operation, t)
            spread = back.reshape(len(t), operation.in_shape[0], math.prod(operation.kernel), -1)
            return scatter(spread, windows(operation), operation.in_shape)
        case AvgPool2d():
            shares = t.reshape(len(t), len(t[0]), 1, -1) / divisors(operation)
            spread = np.repeat(shares, math.prod(operation.kernel), axis=2)
            return scatter(spread, windows(operation), operation.in_shape)
        case Flatten():
            return t.reshape(len(t), *operation.in_shape)
        case Signed():
            one, other = np.split(t, 2, axis=1)
            difference: Array = operation.gain * (one - other)
            return difference
        case Dropout():
            kept: Array = t * masks[operation.name] if operation.name in masks else t
            return kept


def statistic(operation: Weighted, t: Array, s: Array) -> Array:
    """d<t, f(s)>/dW, summed over the batch, flat: what a synapse sees of its two ends."""
    if isinstance(operation, Dense):
        outer: Array = t.T @ s
    else:
        outer = (_by_group(operation, t) @ _columns(operation, s).swapaxes(2, 3)).sum(0)
    return outer.reshape(-1)


@functools.lru_cache(maxsize=128)
def windows(operation: Conv2d | AvgPool2d) -> NDArray[np.intp]:
    """(places of the kernel, windows): the position in a channel, row by row, that each window reads at each place."""
    _, height, width = operation.in_shape
    dilation = operation.dilation if isinstance(operation, Conv2d) else (1, 1)
    rows, columns = (
        np.arange(operation.out_shape[1 + axis]) * operation.stride[axis]
        - operation.padding[axis]
        + np.arange(operation.kernel[axis])[:, None] * dilation[axis]
        for axis in (0, 1)
    )  # (places, windows) each
    row, column = rows[:, None, :, None], columns[None, :, None, :]
    inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
    return np.where(inside, row * width + column, height * width).reshape(math.prod(operation.kernel), -1)


@functools.lru_cache(maxsize=128)
def divisors(operation: AvgPool2d) -> NDArray[np.float64]:
    """(windows,): what each window's sum is divided by.

    The override, if there is one; else the positions that the window covers, those of the padding among them where
    they count. A window that `ceil_mode` lets reach beyond the padding covers nothing there.
    """
    if operation.divisor_override is not None:
        return np.full(math.prod(operation.out_shape[1:]), float(operation.divisor_override))
    covered = []
    for axis, size in enumerate(operation.in_shape[1:]):
        padding, n = operation.padding[axis], operation.out_shape[1 + axis]
        margin = padding if operation.count_include_pad else 0
        start = np.arange(n) * operation.stride[axis] - padding
        end = np.minimum(start + operation.kernel[axis], size + margin)
        covered.append((end - np.maximum(start, -margin)).astype(np.float64))
    return np.outer(covered[0], covered[1]).reshape(-1)


def gather(s: Array, table: NDArray[np.intp]) -> Array:
    """(batch, channels, height, width) to (batch, channels, places, windows)."""
    flat = s.reshape(*s.shape[:2], -1)
    spare = np.zeros_like(flat[:, :, :1])
    return np.concatenate([flat, spare], axis=2)[:, :, table]


def scatter(columns: Array, table: NDArray[np.intp], shape: tuple[int, ...]) -> Array:
    """The adjoint of `gather`: (batch, channels, places, windows) to (batch, *shape)."""
    flat = np.zeros((len(columns), shape[0], math.prod(shape[1:]) + 1), columns.dtype)
    for place, positions in enumerate(table):  # at one place no two windows read one position, but for the spare
        flat[:, :, positions] += columns[:, :, place]
    return flat[:, :, :-1].reshape(len(columns), *shape)


def _columns(o: Conv2d, s: Array) -> Array:
    """(batch, groups, input channels of a group x places, windows)."""
    return gather(s, windows(o)).reshape(len(s), o.groups, -1, math.prod(o.out_shape[1:]))


def _by_group(o: Conv2d, t: Array) -> Array:
    """(batch, groups, output channels of a group, windows)."""
    return t.reshape(len(t), o.groups, -1, math.prod(o.out_shape[1:]))


def _matrices(o: Conv2d, weight: Array) -> Array:
    """(groups, output channels of a group, input channels of a group x places)."""
    return weight.reshape(o.groups, o.out_shape[0] // o.groups, -1)


def _there(weight: Array | None) -> Array:
    if weight is None:
        raise TypeError("an operation with weights was given none")
    return weight
