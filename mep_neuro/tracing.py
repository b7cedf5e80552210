"""Reading a chain of populations and couplings off an `nn.Sequential`; what cannot be held is an error."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from mep_neuro.activations import IDENTITY, Activation, activation_of
from mep_neuro.couplings import (
    AvgPool2d,
    Conv2d,
    Coupling,
    Dense,
    Dropout,
    Flatten,
    Operation,
    Shape,
    Signed,
    Weighted,
)
from mep_neuro.errors import NetworkError
from mep_neuro.modules import Diodes, SignedInput

HELD = "Linear, Conv2d, AvgPool2d, Flatten, Dropout and ReLU, ReLU6, Hardsigmoid, Hardtanh, Sigmoid, Tanh, Identity"

INSTEAD = {
    "MaxPool2d": "nn.AvgPool2d: a maximum is not linear, so it has no adjoint",
    "AdaptiveAvgPool2d": "nn.AvgPool2d with a fixed kernel size",
    "BatchNorm1d": "no normalisation: it mixes the samples of a batch, and an energy is per sample",
    "BatchNorm2d": "no normalisation: it mixes the samples of a batch, and an energy is per sample",
    "LayerNorm": "no normalisation: it is not linear in the states",
    "Softmax": 'no module: choose cost="cross_entropy", which reads the outputs through a softmax',
    "LogSoftmax": 'no module: choose cost="cross_entropy", which reads the outputs through a softmax',
    "Dropout2d": "nn.Dropout",
    "LeakyReLU": "nn.ReLU",
    "GELU": "nn.ReLU: a GELU is not monotone, so no energy has it as its activation",
    "SiLU": "nn.ReLU: a SiLU is not monotone, so no energy has it as its activation",
    "Softplus": "nn.ReLU",
    "LazyLinear": "nn.Linear with its number of inputs",
}


@dataclass(frozen=True)
class Stage:
    """One population with the coupling that leads to it."""

    coupling: Coupling
    activation: Activation


class Leaf(NamedTuple):
    """A module inside the Sequential, with its dotted name."""

    name: str
    module: nn.Module

    def __str__(self) -> str:
        return f"module {self.name!r} ({type(self.module).__name__})"


def trace(module: nn.Module, input_shape: Shape | None) -> tuple[Shape, tuple[Stage, ...]]:
    """The input's shape and the stages, in order. Raises `NetworkError` for what cannot be held."""
    leaves = list(_leaves(module, "", set()))
    _check_parameters(module, leaves)
    shape = _first_shape(leaves) if input_shape is None else input_shape
    if math.prod(shape) < 1:
        raise NetworkError(f"input_shape {shape} holds no values")
    first, stages, operations = shape, [], list[Operation]()

    def close(activation: Activation) -> None:
        operations_, start = tuple(operations), operations[0].in_shape
        stages.append(Stage(Coupling(operations_, start, operations_[-1].out_shape), activation))
        operations.clear()

    for leaf in leaves:
        known = type(leaf.module).__module__.startswith("torch.nn.") or type(leaf.module) is Diodes
        activation = activation_of(leaf.module) if known else None
        if activation is not None:
            if operations:
                close(activation)
            elif activation != IDENTITY:
                raise NetworkError(
                    f"{leaf} follows {'another activation' if stages else 'the input'}: "
                    "put a Linear or Conv2d before it; an activation closes the population that a coupling drives"
                )
            continue
        operation = _operation(leaf, shape)
        if isinstance(operation, Weighted) and any(isinstance(o, Weighted) for o in operations):
            close(IDENTITY)
        operations.append(operation)
        shape = operation.out_shape
    if operations:
        close(IDENTITY)
    if not any(s.coupling.weighted for s in stages):
        raise NetworkError("the module has no Linear or Conv2d: there is nothing to train")
    return first, tuple(stages)


def _leaves(module: nn.Module, name: str, seen: set[int]) -> Iterator[Leaf]:
    leaf = Leaf(name, module)
    if id(module) in seen:
        raise NetworkError(f"{leaf} is used twice: give each place a layer of its own")
    seen.add(id(module))
    if module._forward_hooks or module._forward_pre_hooks or module._backward_hooks:
        raise NetworkError(f"{leaf} has hooks, which settling would not run: remove them")
    if type(module) is nn.Sequential:
        if module._parameters or module._buffers:
            raise NetworkError(f"{leaf} has parameters of its own that no layer uses: remove them")
        # _modules, unlike named_children(), also gives a module that was put in twice
        for child, sub in module._modules.items():
            if sub is not None:
                yield from _leaves(sub, f"{name}.{child}" if name else child, seen)
        return
    if not name:
        raise NetworkError(
            f"the model is a {type(module).__name__}: its forward() may hide functional calls or residual adds that "
            f"settling cannot see. Write it as an nn.Sequential of {HELD}"
        )
    yield leaf


def _check_parameters(module: nn.Module, leaves: list[Leaf]) -> None:
    owners = dict[int, Leaf]()
    for leaf in leaves:
        for name, p in leaf.module._parameters.items():
            if p is None:
                if name == "weight":
                    raise NetworkError(f"{leaf} has no {name}: it was taken out; give the layer its parameter back")
                continue
            if is_lazy(p):
                raise NetworkError(f"{leaf} is not initialised yet: use its eager twin with its sizes")
            if id(p) in owners:
                raise NetworkError(f"{leaf} shares its {name} with {owners[id(p)]}: give each its own")
            owners[id(p)] = leaf
    kinds = {(p.dtype, p.device) for p in module.parameters()}
    if len(kinds) > 1:
        raise NetworkError(
            "the parameters differ in type or device: "
            + ", ".join(sorted(f"{t} on {d}" for t, d in kinds))
            + "; bring them together with module.to(...)"
        )
    if kinds and not next(iter(kinds))[0].is_floating_point:
        raise NetworkError(f"the parameters are {next(iter(kinds))[0]}; settling needs floating point")
    if kinds and next(iter(kinds))[0] in (torch.float16, torch.bfloat16):
        raise NetworkError(
            f"the parameters are {next(iter(kinds))[0]}: too coarse for the small differences that nudging makes. "
            "Keep them float32 and settle under torch.autocast"
        )


def _first_shape(leaves: list[Leaf]) -> Shape:
    doubled = 1
    for leaf in leaves:
        if isinstance(leaf.module, nn.Linear):
            return (leaf.module.in_features // doubled,)
        doubled *= 2 if type(leaf.module) is SignedInput else 1
        if not isinstance(leaf.module, nn.Flatten | nn.Dropout | SignedInput):
            break
    raise NetworkError("give input_shape=..., one sample's shape, e.g. (1, 28, 28): it cannot be told from the layers")


def _operation(leaf: Leaf, shape: Shape) -> Operation:
    name, m = leaf
    if type(m) is nn.Linear:
        if shape != (m.in_features,):
            cure = ": put an nn.Flatten before it" if math.prod(shape) == m.in_features else ""
            raise NetworkError(f"{leaf} takes {m.in_features} inputs, but what comes before gives {shape}{cure}")
        return Dense(name, shape, (m.out_features,), *_names(leaf))
    if type(m) is nn.Conv2d:
        padding = m.padding
        if m.padding_mode != "zeros" or isinstance(padding, str):
            raise NetworkError(f"{leaf} pads by {padding!r}, {m.padding_mode}: use zeros and a padding in numbers")
        out = _convolved(leaf, shape, m.kernel_size, m.stride, padding, m.dilation)
        if shape[0] != m.in_channels:
            raise NetworkError(f"{leaf} takes {m.in_channels} channels, but what comes before gives {shape}")
        return Conv2d(
            name,
            shape,
            (m.out_channels, *out),
            *_names(leaf),
            kernel=_pair(m.kernel_size),
            stride=_pair(m.stride),
            padding=_pair(padding),
            dilation=_pair(m.dilation),
            groups=m.groups,
        )
    if type(m) is nn.AvgPool2d:
        _convolved(leaf, shape, m.kernel_size, m.stride, m.padding, 1)
        out = tuple(m(torch.zeros(1, *shape)).shape[2:])
        return AvgPool2d(
            name,
            shape,
            (shape[0], *out),
            kernel=_pair(m.kernel_size),
            stride=_pair(m.stride),
            padding=_pair(m.padding),
            ceil_mode=m.ceil_mode,
            count_include_pad=m.count_include_pad,
            divisor_override=m.divisor_override,
        )
    if type(m) is nn.Flatten:
        if (m.start_dim, m.end_dim) != (1, -1):
            raise NetworkError(f"{leaf} flattens dimensions {m.start_dim}..{m.end_dim}: use nn.Flatten()")
        return Flatten(name, shape, (math.prod(shape),))
    if type(m) is nn.Dropout:
        if m.p >= 1:
            raise NetworkError(f"{leaf} drops everything (p = {m.p})")
        return Dropout(name, shape, shape, m.p)
    if type(m) is SignedInput:
        if len(shape) != 1:
            raise NetworkError(
                f"{leaf} takes one axis of units, but what comes before gives {shape}: put an nn.Flatten before it"
            )
        return Signed(name, shape, (2 * shape[0],), m.gain)
    kind = type(m).__name__
    if kind in INSTEAD:
        raise NetworkError(f"{leaf} cannot be held by an energy; use {INSTEAD[kind]}")
    raise NetworkError(
        f"{leaf} is not one of {HELD}. A module with its own forward() may hide functional calls or residual adds "
        "that settling cannot see: write it with these"
    )


def _names(leaf: Leaf) -> tuple[str, str | None]:
    return f"{leaf.name}.weight", None if getattr(leaf.module, "bias", None) is None else f"{leaf.name}.bias"


def _pair(value: int | tuple[int, ...]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[1])


def _convolved(
    leaf: Leaf,
    shape: Shape,
    kernel: int | tuple[int, ...],
    stride: int | tuple[int, ...],
    padding: int | tuple[int, ...],
    dilation: int | tuple[int, ...],
) -> tuple[int, int]:
    """Height and width after a convolution or a pooling."""
    if len(shape) != 3:
        raise NetworkError(f"{leaf} takes (channels, height, width), but what comes before gives {shape}")
    sizes = zip(shape[1:], _pair(kernel), _pair(stride), _pair(padding), _pair(dilation), strict=True)
    height, width = ((n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in sizes)
    if height < 1 or width < 1:
        raise NetworkError(f"{leaf} has a window larger than its input {shape}")
    return height, width
