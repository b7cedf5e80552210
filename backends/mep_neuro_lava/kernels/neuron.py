"""The EP neuron: a leaky integrator that saturates at its activation's limits, with a bias and a nudge.

    v <- clip(v + ((g a >> 12) + o - v + n) >> leak, low, high)
    n  = (b (y - v) >> 12)   towards a target y,      or a constant push

At rest v = clip(slope a + offset + slope beta (y - v)), which minimises E + beta C in the neuron's own state. a: the
drive, bias included; g = slope 2^12; o = offset; b = slope beta 2^12. v, a, y and o are worth 2^-fraction each and are
24 bits wide (or `state_bits`); products with a constant are held whole until they are shifted back. The payload that a
neuron sends is v, rounded to the payload's format; a payload of 0 is not sent.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .fixed import CONSTANT_FRACTION, Format, Ints, rounded, shifted

ONE = 1 << CONSTANT_FRACTION


@dataclass(frozen=True)
class Neuron:
    """The constants of one population's neurons.

    low, high: limits of the state.
    gain:      slope, n 2^-12.
    offset:    of the activation, in units of the state.
    leak:      a step goes 2^-leak of the way.
    fraction:  a state is worth 2^-fraction.
    payload:   the format of what is sent.
    """

    low: int
    high: int
    gain: int
    offset: int
    leak: int
    fraction: int
    payload: Format

    def send(self, v: Ints) -> Ints:
        """Payloads of states."""
        code = rounded(v, self.payload.fraction - self.fraction)
        return np.clip(code, self.payload.low, self.payload.high, out=code)

    def step(
        self, v: Ints, drive: Ints, *, pull: int = 0, target: Ints | None = None, push: Ints | None = None
    ) -> Ints:
        """The states after one timestep. pull: slope beta 2^12, towards the target; push: slope beta force."""
        change = drive if self.gain == ONE else shifted(self.gain * drive, -CONSTANT_FRACTION)
        change = change - v
        if self.offset:
            change += self.offset
        if target is not None:
            change += shifted(pull * (target - v), -CONSTANT_FRACTION)
        if push is not None:
            change += push
        change = shifted(change, -self.leak)
        change += v
        return np.clip(change, self.low, self.high, out=change)
