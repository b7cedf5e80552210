"""Fixed-point numbers: a value is an integer times 2^-fraction. Shifts floor, as Lava's `>>`; nothing wraps."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.float64]
"""Integers held exactly in float64."""

CONSTANT_FRACTION = 12
"""Constants of a neuron (slope, beta) are n 2^-12."""


class KernelOverflow(OverflowError):
    """A number that its register cannot hold. what: which number; value: the largest magnitude met; bits: the width."""

    def __init__(self, what: str, value: float, bits: int) -> None:
        self.what, self.value, self.bits = what, value, bits
        super().__init__(f"{what} reaches {value:.0f}, which {bits} signed bits do not hold ({1 << (bits - 1)})")


def shifted(value: Ints, exponent: int) -> Ints:
    """floor(value 2^exponent): `<<`, or the arithmetic `>>` where the exponent is negative."""
    if exponent == 0:
        return value
    scaled = value * 2.0**exponent
    return scaled if exponent > 0 else np.floor(scaled, out=scaled)


def rounded(value: Ints, exponent: int) -> Ints:
    """floor(value 2^exponent + 1/2): a shift that rounds, halves upwards. One addition before the shift."""
    scaled = value * 2.0**exponent
    if exponent < 0:
        scaled += 0.5
        np.floor(scaled, out=scaled)
    return scaled


def check_width(value: Ints, bits: int, what: str) -> Ints:
    """The value itself, if `bits` signed bits hold it. Raises `KernelOverflow` naming it otherwise."""
    if value.size:
        low, high = float(value.min()), float(value.max())
        if not (-(1 << (bits - 1)) <= low and high < 1 << (bits - 1)):
            raise KernelOverflow(what, max(-low, high), bits)
    return value


def constant(value: float) -> int:
    """The nearest n of a neuron's constant n 2^-12."""
    return math.floor(value * (1 << CONSTANT_FRACTION) + 0.5)


@dataclass(frozen=True)
class Format:
    """The codes that a value can have: integers low .. high, each worth 2^-fraction."""

    fraction: int
    low: int
    high: int

    @classmethod
    def over(cls, low: float, high: float, bits: int) -> Format:
        """The finest format of so many bits for values from low to high: unsigned where low >= 0, else two's
        complement. A value of exactly 2^k at the end of the range saturates at the largest code, 2^k less a unit."""
        signed = low < 0
        extent = max(abs(low), abs(high))
        codes = 1 << (bits - signed)
        return cls(bits - signed - math.ceil(math.log2(extent)), -codes if signed else 0, codes - 1)

    @property
    def unit(self) -> float:
        """The value of the code 1."""
        return 2.0**-self.fraction

    @property
    def largest(self) -> int:
        """The largest magnitude of a code."""
        return max(-self.low, self.high)

    def encode(self, value: Any) -> Ints:
        """The nearest code of each value (halves upwards), saturating."""
        code = np.floor(np.asarray(value, np.float64) * 2.0**self.fraction + 0.5)
        return np.clip(code, self.low, self.high, out=code)

    def decode(self, code: Ints) -> Ints:
        """The value of each code."""
        return code * self.unit
