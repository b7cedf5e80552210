"""A coupling's product forward, back through its adjoint, and its local statistic, on batched tensors.

Parameters are real. A complex state goes through as its real and its imaginary part.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.grad import conv2d_weight

from mep_neuro.couplings import AvgPool2d, Conv2d, Coupling, Dense, Dropout, Operation, Signed
from mep_neuro.modules import signed
from mep_neuro.network import EnergyNetwork

Weights: TypeAlias = tuple[Tensor | None, Tensor | None]
"""A coupling's weight and bias."""

Masks: TypeAlias = Mapping[str, Tensor]
"""Dropout masks by the module's name, each (batch, *shape); copies of the batch share them."""


def forward(coupling: Coupling, s: Tensor, weights: Weights, masks: Masks, *, bias: bool = True) -> Tensor:
    """f(s) + b, (batch, *out_shape); without b where `bias` is False."""
    if s.is_complex():  # the map is real and the bias is real: it goes with the real part, through the same masks
        real = forward(coupling, s.real, weights, masks, bias=bias)
        return torch.complex(real, forward(coupling, s.imag, weights, masks, bias=False))
    for o in coupling.operations:
        s = _forward(o, s, weights[0], weights[1] if bias else None, masks)
    return s


def adjoint(coupling: Coupling, s: Tensor, weights: Weights, masks: Masks) -> Tensor:
    """f^T(s), (batch, *in_shape)."""
    if s.is_complex():
        real, imaginary = (adjoint(coupling, part, weights, masks) for part in (s.real, s.imag))
        return torch.complex(real, imaginary)
    for o in reversed(coupling.operations):
        s = _adjoint(o, s, weights[0], masks)
    return s


def add_adjoint(drive: Tensor, coupling: Coupling, s: Tensor, weights: Weights, masks: Masks) -> Tensor:
    """drive + f^T(s), each of one batch or of copies of it; in one kernel for a single dense coupling."""
    o, alike = coupling.operations[0], drive.size(0) == s.size(0) and drive.dtype == s.dtype
    if alike and len(coupling.operations) == 1 and isinstance(o, Dense) and not s.is_complex() and not _rounds(s):
        assert weights[0] is not None
        return torch.addmm(drive, s, weights[0])
    product = adjoint(coupling, s, weights, masks)
    # a product with weights has memory of its own, so it may be added to in place
    if product.size(0) > drive.size(0) and coupling.weighted is not None:
        product.view(-1, *drive.shape).add_(drive)
        return product
    few, many = sorted((drive, product), key=len)
    return by_copies(torch.add, many, few)


def statistic(coupling: Coupling, post: Tensor, pre: Tensor, weights: Weights, masks: Masks) -> Tensor | None:
    """sum over the batch of d<post, f(pre)>/dW, shaped like the weight; None for a coupling without one."""
    o = coupling.weighted
    if o is None or weights[0] is None:
        return None
    if isinstance(o, Dense) and len(coupling.operations) == 1:
        return post.T @ pre
    post, pre = _at_weight(coupling, post, pre, masks)
    if isinstance(o, Dense):
        return post.T @ pre
    return conv2d_weight(pre, weights[0].shape, post, o.stride, o.padding, o.dilation, o.groups)  # type: ignore[no-untyped-call, no-any-return]


def bias_statistic(coupling: Coupling, post: Tensor, masks: Masks) -> Tensor:
    """sum over the batch (and over places, for a convolution) of d<post, b>/db, shaped like the bias."""
    post, _ = _at_weight(coupling, post, None, masks)
    return post.sum(0) if post.dim() == 2 else post.sum((0, 2, 3))


def seen(coupling: Coupling, s: Tensor) -> Tensor:
    """The population below as the operation with the weights sees it, where nothing drops out before it."""
    for o in coupling.operations:
        if o is coupling.weighted:
            break
        s = _forward(o, s, None, None, {})
    return s


def _at_weight(coupling: Coupling, post: Tensor, pre: Tensor | None, masks: Masks) -> tuple[Tensor, Tensor]:
    """post brought back, and pre brought forward, to the two sides of the operation with the weights."""
    place = next(i for i, o in enumerate(coupling.operations) if o is coupling.weighted)
    for o in reversed(coupling.operations[place + 1 :]):
        post = _adjoint(o, post, None, masks)
    if pre is None:
        return post, post
    for o in coupling.operations[:place]:
        pre = _forward(o, pre, None, None, masks)
    return post, pre


def _forward(o: Operation, s: Tensor, weight: Tensor | None, bias: Tensor | None, masks: Masks) -> Tensor:
    match o:
        case Dense() if weight is not None:
            return F.linear(s, weight, bias).to(weight.dtype)
        case Conv2d() if weight is not None:
            return F.conv2d(s, weight, bias, o.stride, o.padding, o.dilation, o.groups).to(weight.dtype)
        case AvgPool2d():
            return F.avg_pool2d(s, o.kernel, o.stride, o.padding, o.ceil_mode, o.count_include_pad, o.divisor_override)
        case Dropout():
            return by_copies(torch.mul, s, masks[o.name]) if o.name in masks else s
        case Signed():
            return signed(s, o.gain)
    return s.reshape(s.size(0), *o.out_shape)


def _adjoint(o: Operation, s: Tensor, weight: Tensor | None, masks: Masks) -> Tensor:
    match o:
        case Dense() if weight is not None:
            return (s @ weight).to(weight.dtype)
        case Conv2d() if weight is not None:
            sizes = zip(o.in_shape[1:], o.out_shape[1:], o.kernel, o.stride, o.padding, o.dilation, strict=True)
            short = [n - ((m - 1) * st - 2 * p + d * (k - 1) + 1) for n, m, k, st, p, d in sizes]
            product = F.conv_transpose2d(s, weight, None, o.stride, o.padding, short, o.groups, o.dilation)
            return product.to(weight.dtype)
        case AvgPool2d():
            like = s.new_empty(()).expand(s.size(0), *o.in_shape)
            return torch.ops.aten.avg_pool2d_backward(  # type: ignore[no-any-return]
                s, like, o.kernel, o.stride, o.padding, o.ceil_mode, o.count_include_pad, o.divisor_override
            )
        case Dropout():
            return by_copies(torch.mul, s, masks[o.name]) if o.name in masks else s
        case Signed():
            one, other = s.chunk(2, 1)
            return o.gain * (one - other)
    return s.reshape(s.size(0), *o.in_shape)


def _rounds(s: Tensor) -> bool:
    """Whether autocast would round a sum; drives are summed in the parameters' own dtype."""
    return torch.is_autocast_enabled(s.device.type)


def by_copies(function: Callable[[Tensor, Tensor], Tensor], many: Tensor, few: Tensor) -> Tensor:
    """function(many, few), where `many` is one batch or copies of it, and `few` is of one batch."""
    if many.size(0) == few.size(0):
        return function(many, few)
    return function(many.view(-1, *few.shape), few).view(many.shape)


def repeated(s: Tensor, rows: int) -> Tensor:
    """The batch over and over, up to so many rows."""
    batch = s.size(0)
    return s if batch == rows else torch.cat([s] * (rows // batch))


def draw_masks(network: EnergyNetwork, batch: int, generator: torch.Generator) -> dict[str, Tensor]:
    """One mask a sample for each Dropout in training mode."""
    masks = dict[str, Tensor]()
    for coupling in network.couplings:
        for o in coupling.operations:
            rate = network.dropout_rate(o)
            if rate > 0 and isinstance(o, Dropout):
                keep = torch.empty(batch, *o.in_shape, dtype=network.dtype, device=generator.device)
                masks[o.name] = keep.bernoulli_(1 - rate, generator=generator).div_(1 - rate)
    return masks
