"""The learning engine: weights changed by sums of products of 7-bit traces, with stochastic rounding.

A product of a rule such as  dw = m 2^e x0 (x1 + c) y1 y3  is worked out as Lava's bit-approximate model does it:

    p     = m prod_i clip(f_i, -2^w_i, 2^w_i - 1)           w_i the width of a factor's trace, 7 bits
    p     = (p >> max(0, sum_i w_i + 4 - 15)) << (e + 7)        saturated to -2^15 - 1 .. 2^15 - 1
    acc   = (w << 7) + p                                        saturated as well
    w     = floor(acc / 128) + (r < acc / 128 - floor(acc / 128)),       clipped to -256 .. 255

So two traces change a mantissa by m 2^(e-3) f_1 f_2, and three by m 2^(e-10) f_1 f_2 f_3. The mantissa m lies in
-8 .. 7, the exponent e in -7 .. 8. r is uniform in [0, 1): Lava draws one number for all synapses in each epoch; one
for each synapse is what a chip is assumed to do. Source: lava-nc 0.10.0, magma/core/learning/learning_rule_applier.py
and magma/core/model/py/connection.py. Not bit-accurate of any chip, as Lava says of its own model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from .fixed import Ints, rounded, shifted

TRACE_BITS = 7
SCALE_BITS = 4
ACCUMULATOR_BITS = 15
WEIGHT_SHIFT = 7
"""A weight's place in the accumulator: 16 - 9 bits."""
LOWEST_EXPONENT, HIGHEST_EXPONENT = -7, 8
LOWEST_POWER, HIGHEST_POWER = -7, 10
"""Powers of two that a scale can be."""
WEIGHT_LIMITS = (-256, 255)


class Factor(NamedTuple):
    """A trace plus a constant, as an array that goes with the weights (outputs, inputs)."""

    value: Ints
    bits: int = TRACE_BITS


@dataclass(frozen=True)
class Product:
    """The scale of one product of a rule, mantissa 2^exponent. Raises ValueError for what the engine cannot hold."""

    mantissa: int
    exponent: int

    def __post_init__(self) -> None:
        if not (-8 <= self.mantissa <= 7 and LOWEST_EXPONENT <= self.exponent <= HIGHEST_EXPONENT):
            raise ValueError(f"a scale of {self.mantissa} * 2^{self.exponent}: mantissa -8 .. 7, exponent -7 .. 8")

    @classmethod
    def of(cls, power: int) -> Product:
        """The scale 2^power with as large a mantissa as there can be, which floors the least."""
        bits = max(0, min(2, power - LOWEST_EXPONENT))
        return cls(1 << bits, power - bits)

    def __call__(self, factors: Sequence[Factor]) -> Ints:
        """The change of the accumulator, in units of 2^-7 of a mantissa."""
        total, width = np.float64(self.mantissa), SCALE_BITS
        for value, bits in factors:
            total = total * np.clip(value, -(1 << bits), (1 << bits) - 1)
            width += bits
        total = shifted(np.asarray(total), -max(0, width - ACCUMULATOR_BITS))
        return _saturated(shifted(total, self.exponent + 7))


def changed(weights: Ints, changes: Sequence[Ints], random: Ints | float) -> Ints:
    """Mantissas after the changes of a rule's products, stochastically rounded with random numbers in [0, 1)."""
    accumulator = weights * 2.0**WEIGHT_SHIFT
    for change in changes:
        accumulator = _saturated(accumulator + change)
    exact = accumulator * 2.0**-WEIGHT_SHIFT
    whole = np.floor(exact)
    whole += random < exact - whole
    return np.clip(whole, *WEIGHT_LIMITS, out=whole)


@dataclass(frozen=True)
class Encoding:
    """How a neuron puts a number into a trace: as it is (1 .. 127, and 0 is not sent) or 64 above itself (-63 .. 63).

    A trace x1 is set to half of a graded spike's payload, and keeps its old value where nothing is sent.

    fraction: of the number, whose units are worth 2^-fraction.
    bits:     after the point in the code.
    """

    fraction: int
    bits: int
    signed: bool

    @property
    def offset(self) -> int:
        """The constant c of the rule's factor (x1 + c)."""
        return -64 if self.signed else 0

    def code(self, value: Ints) -> Ints:
        """The code of each number, saturated."""
        found = rounded(value, self.bits - self.fraction)
        return np.clip(found, -63 if self.signed else 0, 63 if self.signed else 127, out=found)

    def payload(self, code: Ints) -> Ints:
        """The graded spike that brings a code into x1; 0, no spike, for the code 0."""
        return np.where(code == 0, 0.0, 2 * (code - self.offset))


def _saturated(value: Ints) -> Ints:
    return np.clip(value, -(1 << ACCUMULATOR_BITS) - 1, (1 << ACCUMULATOR_BITS) - 1)
