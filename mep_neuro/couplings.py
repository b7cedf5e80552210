"""Couplings f_l: the linear maps between neighbouring populations, used forward and, through their adjoint, back.

A coupling is a chain of operations with at most one that carries weights:

    drive_l = f_l(s_{l-1}) + b_l + f_{l+1}^T(s_{l+1}),      <s_l, f_l(s)> = <f_l^T(s_l), s>

Shapes leave the batch out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

Shape: TypeAlias = tuple[int, ...]


@dataclass(frozen=True)
class Dense:
    """f(s) = W s + b, W (outputs, inputs). One MAC a weight."""

    name: str
    in_shape: Shape
    out_shape: Shape
    weight: str
    bias: str | None

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one product, forward or back, for one sample."""
        return self.in_shape[0] * self.out_shape[0]


@dataclass(frozen=True)
class Conv2d:
    """Two-dimensional cross-correlation as `torch.nn.Conv2d` defines it, zeros outside; its adjoint is the
    transposed convolution. MACs are counted over the padded input, as is usual."""

    name: str
    in_shape: Shape
    out_shape: Shape
    weight: str
    bias: str | None
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one product, forward or back, for one sample."""
        return math.prod(self.out_shape) * (self.in_shape[0] // self.groups) * math.prod(self.kernel)


@dataclass(frozen=True)
class AvgPool2d:
    """Mean over windows as `torch.nn.AvgPool2d` defines it; its adjoint spreads each value evenly."""

    name: str
    in_shape: Shape
    out_shape: Shape
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    ceil_mode: bool
    count_include_pad: bool
    divisor_override: int | None

    macs = 0


@dataclass(frozen=True)
class Flatten:
    """(channels, height, width) to one axis, in PyTorch's order."""

    name: str
    in_shape: Shape
    out_shape: Shape

    macs = 0


@dataclass(frozen=True)
class Dropout:
    """f(s) = m * s, with m = 0 at probability `rate` and 1 / (1 - rate) else: one mask a sample, drawn before
    settling and held through all phases, so that each phase sees the same network. Follows the module's
    `train()` and `eval()`."""

    name: str
    in_shape: Shape
    out_shape: Shape
    rate: float

    macs = 0


@dataclass(frozen=True)
class Signed:
    """f(s) = (gain s, -gain s), n units to 2 n: sources of both signs (`mep_neuro.SignedInput`). Its adjoint is
    f^T(t, t') = gain (t - t')."""

    name: str
    in_shape: Shape
    out_shape: Shape
    gain: float

    macs = 0


Operation: TypeAlias = Dense | Conv2d | AvgPool2d | Flatten | Dropout | Signed
Weighted: TypeAlias = Dense | Conv2d


@dataclass(frozen=True, eq=False)
class Coupling:
    """f_l, the chain of operations from population l - 1 to population l."""

    operations: tuple[Operation, ...]
    in_shape: Shape
    out_shape: Shape

    @cached_property
    def weighted(self) -> Weighted | None:
        """The one operation with parameters, or None."""
        return next((o for o in self.operations if isinstance(o, Weighted)), None)

    @cached_property
    def macs(self) -> int:
        """Multiply-accumulates of one product, forward or back, for one sample."""
        return sum(o.macs for o in self.operations)

    @cached_property
    def sizes(self) -> tuple[int, int]:
        """Units below and above."""
        return math.prod(self.in_shape), math.prod(self.out_shape)

    @cached_property
    def weights(self) -> int:
        """Number of weights and biases."""
        o = self.weighted
        if o is None:
            return 0
        matrix = o.in_shape[0] * o.out_shape[0]
        if isinstance(o, Conv2d):
            matrix = matrix // o.groups * math.prod(o.kernel)
        return matrix + (0 if o.bias is None else o.out_shape[0])

    @cached_property
    def accumulates(self) -> int:
        """Additions without a product, for one sample: what average pooling does."""
        return sum(math.prod(o.out_shape) * math.prod(o.kernel) for o in self.operations if isinstance(o, AvgPool2d))

    @cached_property
    def parameters(self) -> tuple[str, ...]:
        """Names of its weight and bias."""
        o = self.weighted
        return () if o is None else (o.weight,) if o.bias is None else (o.weight, o.bias)
