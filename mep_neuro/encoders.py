"""Encoders: a value x in [0, 1] as spikes over T steps, whose mean is read back as x. Each states its error.

    RateIF       v <- v + x, a spike where v >= 1, then v <- v - 1           |mean - x| <= 1 / (2 T)
    Bernoulli    a spike with probability x                                  rms error sqrt(x (1 - x) / T)
    SigmaDelta   p <- p + x_t, q = round(levels p) / levels, p <- p - q      |mean - mean of x_t| <= 1 / (2 levels T)

An integrator's error falls with 1 / T, as what one spike leaves the next one takes up; that of independent draws falls
with 1 / sqrt(T). RateIF is what the input neurons of a spiking substrate do. SigmaDelta (O'Connor, Gavves and Welling
2019) follows a signal that changes; with `levels` above 1 its spikes are graded. The mean of what an encoder gives can
be put to any substrate in place of x. A tensor gives tensors, a NumPy array gives NumPy arrays.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal, TypeAlias, final

import torch
from torch import Tensor

from mep_neuro.errors import InputError
from mep_neuro.types import Array


@final
@dataclass(frozen=True)
class RateIF:
    """Integrate and fire from half of the threshold, with what is above it kept."""

    order: ClassVar[Literal["1/T", "1/sqrt(T)"]] = "1/T"

    def encode(self, x: Array, steps: int) -> Array:
        """x (...) in [0, 1] to spikes (steps, ...) of 0 and 1."""
        whole = _checked(x, steps)
        counts = torch.floor(0.5 + whole * _counting(whole, steps + 1))
        return _like(counts.diff(dim=0), x)

    def error(self, steps: int) -> float:
        """The largest error of the mean of so many steps."""
        return 1 / (2 * steps)


@final
@dataclass(frozen=True)
class Bernoulli:
    """Independent draws from a seed."""

    seed: int = 0

    order: ClassVar[Literal["1/T", "1/sqrt(T)"]] = "1/sqrt(T)"

    def encode(self, x: Array, steps: int) -> Array:
        """x (...) in [0, 1] to spikes (steps, ...) of 0 and 1."""
        whole = _checked(x, steps)
        drawn = torch.rand(
            (steps, *whole.shape), generator=torch.Generator().manual_seed(self.seed), dtype=torch.float64
        )
        return _like((drawn.to(whole.device) < whole).to(whole.dtype), x)

    def error(self, steps: int) -> float:
        """The largest rms error of the mean of so many steps, that of x = 1/2."""
        return 0.5 / math.sqrt(steps)


@final
@dataclass(frozen=True)
class SigmaDelta:
    """Rounds the running sum of a signal, and sends what it has grown by. levels: 1 for spikes of 0 and 1."""

    levels: int = 1

    order: ClassVar[Literal["1/T", "1/sqrt(T)"]] = "1/T"

    def __post_init__(self) -> None:
        if self.levels < 1:
            raise InputError(f"levels is {self.levels}; give at least 1")

    def encode(self, x: Array, steps: int) -> Array:
        """x (...) in [0, 1], held for all steps, to spikes (steps, ...) in multiples of 1 / levels."""
        whole = _checked(x, steps)
        return _like(self._follow(whole * _counting(whole, steps + 1)), x)

    def follow(self, signal: Array) -> Array:
        """A signal (steps, ...) in [0, 1] to spikes (steps, ...) in multiples of 1 / levels."""
        whole = _checked(signal, len(signal))
        return _like(self._follow(torch.cat([torch.zeros_like(whole[:1]), whole.cumsum(0)])), signal)

    def error(self, steps: int) -> float:
        """The largest error of the mean of so many steps."""
        return 1 / (2 * self.levels * steps)

    def _follow(self, sums: Tensor) -> Tensor:
        return (torch.floor(sums * self.levels + 0.5) / self.levels).diff(dim=0)


Encoder: TypeAlias = RateIF | Bernoulli | SigmaDelta

ENCODERS = {"rate_if": RateIF(), "bernoulli": Bernoulli(), "sigma_delta": SigmaDelta()}
"""Encoders by name."""


def _checked(x: Array, steps: int) -> Tensor:
    whole = torch.as_tensor(x)
    if not whole.is_floating_point():
        raise InputError(f"x holds {whole.dtype}; give floating point numbers")
    if steps < 1:
        raise InputError(f"steps is {steps}; give at least 1")
    if not bool(((whole >= 0) & (whole <= 1)).all()):
        raise InputError("x leaves [0, 1], the range of a rate: scale the data")
    return whole


def _counting(like: Tensor, steps: int) -> Tensor:
    """0 .. steps - 1 before the axes of `like`."""
    return torch.arange(steps, dtype=like.dtype, device=like.device).reshape(-1, *[1] * like.dim())


def _like(spikes: Tensor, given: Array) -> Array:
    return spikes if isinstance(given, Tensor) else spikes.numpy()
