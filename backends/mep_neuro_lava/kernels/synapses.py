"""Synapses: 8-bit weight mantissas with one exponent, and the product of a dense connection.

    w = mantissa 2^-fraction,      a = floor((mantissas @ payload) 2^exponent)      (Lava's Dense, bit-accurate model)

Where signs are mixed, one of the 8 bits is the sign and mantissas are even, -256 .. 254; where all are of one sign they
run from 0 to 255 or from -255 to 0. The accumulated drive is 24 bits wide. Source: lava-nc 0.10.0,
proc/dense/models.py and utils/weightutils.py.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from .fixed import Ints, check_width, shifted

DRIVE_BITS = 24
ACCUMULATOR_BITS = 32
"""Width of the sum before the exponent's shift, as Lava computes it."""

SignMode = Literal["mixed", "excitatory", "inhibitory"]

LIMITS: dict[SignMode, tuple[int, int, int]] = {
    "mixed": (-256, 254, 2),
    "excitatory": (0, 255, 1),
    "inhibitory": (-255, 0, 1),
}
"""Smallest and largest mantissa, and the step between two of them."""


@dataclass(frozen=True)
class Synapses:
    """One coupling's synapses. mantissas: (outputs, inputs); a weight is mantissa 2^-fraction."""

    mantissas: Ints
    fraction: int
    sign_mode: SignMode

    @property
    def weights(self) -> Ints:
        """The weights that these stand for."""
        return self.mantissas * 2.0**-self.fraction


def sign_mode(weights: Ints) -> SignMode:
    """The sign mode of weights, as Lava determines it."""
    if not weights.size or float(weights.min()) >= 0:
        return "excitatory"
    return "inhibitory" if float(weights.max()) <= 0 else "mixed"


def finest_exponent(weights: Ints, mode: SignMode) -> int | None:
    """The largest fraction at which the mantissas of all weights fit; None where all are 0."""
    largest, limits = float(np.abs(weights).max(initial=0.0)), LIMITS[mode]
    if largest == 0:
        return None
    return math.floor(math.log2(max(-limits[0], limits[1]) / largest)) if mode != "mixed" else _finest_mixed(weights)


def mantissas(weights: Ints, fraction: int, mode: SignMode, noise: Ints | float = 0.5) -> Ints:
    """Mantissas of weights: the nearest ones, or with uniform noise in [0, 1) stochastically rounded ones.

    Weights that lie on the grid of single steps already, as a learning engine leaves them, are kept as they are, odd
    ones too. Mantissas beyond the limits saturate.
    """
    low, high, step = LIMITS[mode]
    exact = weights * 2.0**fraction
    if mode == "mixed" and bool((exact == np.floor(exact)).all()):
        return np.clip(exact, low, high + 1)
    return np.clip(step * np.floor(exact / step + noise), low, high)


def accumulate(synapses: Ints, payload: Ints, exponent: int, what: str, *, checked: bool = True) -> Ints:
    """The drive (batch, outputs) of payloads (batch, inputs) through mantissas (outputs, inputs), shifted and floored.

    checked: look whether the sums fit their registers, and raise `KernelOverflow` naming `what` where they do not. A
    caller who has bounded them beforehand leaves it out.
    """
    total = payload @ synapses.T
    if checked:
        check_width(total, ACCUMULATOR_BITS, what)
        return check_width(shifted(total, exponent), DRIVE_BITS, what)
    return shifted(total, exponent)


def _finest_mixed(weights: Ints) -> int:
    positive, negative = float(weights.max()), -float(weights.min())
    ends = [254 / positive] * (positive > 0) + [256 / negative] * (negative > 0)
    return math.floor(math.log2(min(ends)))
