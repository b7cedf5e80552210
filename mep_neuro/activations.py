"""Activations rho, s = rho(drive): monotone functions, described so that every substrate can hold them.

Each is one of three families. With p = (s - low) / (high - low):

    ClippedLinear   rho(d) = clip(slope d + offset, low, high)      rho^-1(s) = (s - offset) / slope
    Logistic        rho(d) = low + (high - low) / (1 + exp(-rate d))      rho^-1(s) = log(p / (1 - p)) / rate
    Rectifiers      rho(d) = max(d, 0) in a population's first half, min(d, 0) in its second      rho^-1(s) = s

The population's own term of the energy, G with G' = rho^-1 (convex, as rho is monotone):

    ClippedLinear   G(s) = (s - offset)^2 / (2 slope)        on [low, high]
    Logistic        G(s) = (high - low) / rate [p log p + (1 - p) log(1 - p)]
    Rectifiers      G(s) = s^2 / 2                           on s >= 0, or s <= 0
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor, nn

from mep_neuro.errors import OptionError, did_you_mean
from mep_neuro.modules import Diodes, half_rectified


@dataclass(frozen=True)
class ClippedLinear:
    """rho(d) = clip(slope d + offset, low, high): ReLU, hard sigmoid, hard tanh, identity."""

    slope: float = 1.0
    offset: float = 0.0
    low: float = -math.inf
    high: float = math.inf

    @property
    def steepest(self) -> float:
        """The largest derivative of rho."""
        return self.slope

    @property
    def linear(self) -> bool:
        """Whether it clips nothing."""
        return math.isinf(self.low) and math.isinf(self.high)

    @property
    def holomorphic(self) -> bool:
        """Whether rho extends to complex drives."""
        return self.linear


@dataclass(frozen=True)
class Logistic:
    """rho(d) = low + (high - low) / (1 + exp(-rate d)): sigmoid, tanh."""

    low: float = 0.0
    high: float = 1.0
    rate: float = 1.0

    @property
    def steepest(self) -> float:
        """The largest derivative of rho."""
        return self.rate * (self.high - self.low) / 4

    linear = False
    holomorphic = True


@dataclass(frozen=True)
class Rectifiers:
    """rho(d) = max(d, 0) in a population's first half (the larger, of an odd number), min(d, 0) in its second."""

    low = -math.inf
    high = math.inf
    steepest = 1.0
    linear = False
    holomorphic = False


Activation: TypeAlias = ClippedLinear | Logistic | Rectifiers

IDENTITY = ClippedLinear()

MODULES: Mapping[str, Callable[[], nn.Module]] = {
    "clipped_relu": lambda: nn.Hardtanh(0.0, 1.0),
    "diodes": Diodes,
    "hardsigmoid": nn.Hardsigmoid,
    "hardtanh": nn.Hardtanh,
    "identity": nn.Identity,
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
}
"""Activation modules by name, as the command line takes them."""


def activation_module(name: str) -> nn.Module:
    """The `nn.Module` of an activation's name. Raises `OptionError` with the nearest name."""
    if name not in MODULES:
        raise OptionError(f"no activation {name!r}; there are: {', '.join(MODULES)}.{did_you_mean(name, MODULES)}")
    return MODULES[name]()


def activation_of(module: nn.Module) -> Activation | None:
    """How the energy sees an activation module; None where the module is not one that it can hold."""
    match module:
        case nn.ReLU6():  # before Hardtanh, which it inherits from
            return ClippedLinear(low=0.0, high=6.0)
        case nn.ReLU():
            return ClippedLinear(low=0.0)
        case nn.Hardtanh():
            return ClippedLinear(low=float(module.min_val), high=float(module.max_val))
        case nn.Hardsigmoid():
            return ClippedLinear(slope=1 / 6, offset=0.5, low=0.0, high=1.0)
        case nn.Sigmoid():
            return Logistic()
        case nn.Tanh():
            return Logistic(low=-1.0, high=1.0, rate=2.0)
        case nn.Identity():
            return IDENTITY
        case Diodes():
            return Rectifiers()
    return None


def open_ended(activation: Activation) -> bool:
    """Whether states may grow without a limit."""
    return isinstance(activation, Rectifiers) or (
        isinstance(activation, ClippedLinear) and math.isinf(max(-activation.low, activation.high))
    )


def potential(activation: Activation, s: Tensor) -> Tensor:
    """G(s), elementwise: the population's own term of the Hopfield energy (formulas above)."""
    if isinstance(activation, ClippedLinear):
        return (s - activation.offset).square() / (2 * activation.slope)
    if isinstance(activation, Rectifiers):
        return s.square() / 2
    width = activation.high - activation.low
    p = (s - activation.low) / width
    return (width / activation.rate) * (torch.xlogy(p, p) + torch.xlogy(1 - p, 1 - p))


def respond(activation: Activation, drive: Tensor) -> Tensor:
    """rho(drive), elementwise."""
    if isinstance(activation, ClippedLinear):
        if activation.slope != 1 or activation.offset != 0:
            drive = activation.slope * drive + activation.offset
        return drive if activation.linear else drive.clamp(activation.low, activation.high)
    if isinstance(activation, Rectifiers):
        return half_rectified(drive)
    return activation.low + (activation.high - activation.low) * torch.sigmoid(activation.rate * drive)


def slope(activation: Activation, drive: Tensor) -> Tensor:
    """rho'(drive), elementwise; 0 at a clipped line's corners and beyond them."""
    if isinstance(activation, ClippedLinear):
        if activation.linear:
            return torch.full_like(drive, activation.slope)
        s = activation.slope * drive + activation.offset
        return activation.slope * ((s > activation.low) & (s < activation.high)).to(drive.dtype)
    if isinstance(activation, Rectifiers):
        return (half_rectified(drive) != 0).to(drive.dtype)
    p = torch.sigmoid(activation.rate * drive)
    return activation.rate * (activation.high - activation.low) * p * (1 - p)


def limits(activation: Activation, like: Tensor) -> tuple[Tensor, Tensor]:
    """The least and the largest state of each unit, (1, *population) each; `like`: (batch, *population)."""
    low, high = (torch.full_like(like[:1], end) for end in (activation.low, activation.high))
    if isinstance(activation, Rectifiers):
        half = (like.size(1) + 1) // 2
        low[:, :half], high[:, half:] = 0.0, 0.0
    return low, high
