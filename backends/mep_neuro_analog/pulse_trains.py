"""Stochastic pulse trains: the lines of an array fire at random, and a device is pulsed where both of its lines do.

For delta omega = rate sum_s above_s (x) below_s (Gokmen and Vlasov 2016, doi:10.3389/fnins.2016.00333) sample s gets a
train of BL slots. With x = max |below_s| and d = max |above_s|,

    k = |rate| x d / step,    BL = min(ceil(k), 31),
    p_j = (|below_j| / x) sqrt(k / BL),    q_i = (|above_i| / d) sqrt(k / BL),    both at most 1,

so that BL q_i p_j step is the change asked for, until k exceeds 31 and the largest are cut. The sign of
rate above_i below_j says whether the pulse is up or down. In N slots a device gets N q p pulses on average, with
variance N q p (1 - q p); devices on one line are pulsed together, with covariance N q p_1 p_2 (1 - q).
"""

from __future__ import annotations

import abc
import math
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, final

import torch
from torch import Tensor

from mep_neuro.errors import InputError
from mep_neuro_analog.pulse_models import TINY

LONGEST_TRAIN = 31


class Trains(NamedTuple):
    """One update's trains: slots of each sample (batch, 1), and each line's probability to fire, with its sign."""

    slots: Tensor
    above: Tensor
    below: Tensor


class Numbers(NamedTuple):
    """Pulses of some rows of devices, (rows, inputs). Where numbers are still to be drawn, their means."""

    up: Tensor | None
    """None: no pulse goes up."""
    down: Tensor | None
    dispersion: Tensor | None
    """Variance over mean of the number, up and down, where it is still to be drawn."""

    @property
    def number(self) -> Tensor:
        """Up and down."""
        if self.up is not None and self.down is not None:
            return self.up + self.down
        some = self.down if self.up is None else self.up
        assert some is not None
        return some


class Met(abc.ABC):
    """What pulses the devices of an array get."""

    pulses: int
    """In all."""

    @abc.abstractmethod
    def rows(self, begin: int, end: int) -> Numbers:
        """Of the devices of some outputs."""


@final
@dataclass(frozen=True, eq=False)
class MetLines(Met):
    """Pulses where lines met: |above|^T |below|, of the sign of their product, with a variance rest_0^T rest_1.

    above: (n, outputs); below: (n, inputs). Products are taken some rows at a time, so that they stay in a core's
    cache; where no line differs in sign, one does for both.
    """

    above: Tensor
    below: Tensor
    rest: tuple[Tensor, Tensor] | None
    pulses: int

    def rows(self, begin: int, end: int) -> Numbers:
        part = slice(begin, end)
        above, below, rest = self._sizes
        number = above[:, part].T @ below
        up, down = (number, None) if self._sign == 1 else (None, number)
        if self._sign is None:  # number, net and the variance are halves then
            net = self._half[:, part].T @ self.below
            up, down = number + net, number - net
        if self.rest is None:
            return Numbers(up, down, None)
        return Numbers(up, down, (rest[:, part].T @ self.rest[1]).div_(number.clamp(min=TINY)))

    @cached_property
    def _half(self) -> Tensor:
        return self.above / 2

    @cached_property
    def _sizes(self) -> tuple[Tensor, Tensor, Tensor]:
        """|above|, |below| and rest_0, the first and last halved where signs differ."""
        rest = self.above if self.rest is None else self.rest[0]
        if self._sign is None:
            return self._half.abs(), self.below.abs(), rest / 2
        return self.above.abs(), self.below.abs(), rest

    @cached_property
    def _sign(self) -> int | None:
        """That of all products, if they have one."""
        if not (self.above.numel() and self.below.numel()):
            return 1
        (low, high), (least, most) = self.above.aminmax(), self.below.aminmax()
        if bool((low >= 0) | (high <= 0)) and bool((least >= 0) | (most <= 0)):
            return 1 if bool(high > 0) is bool(most > 0) else -1
        return None


@final
@dataclass(frozen=True, eq=False)
class MetGiven(Met):
    """So many pulses for each device, in the direction of a sign, both (outputs, inputs)."""

    number: Tensor
    sign: Tensor
    pulses: int

    def rows(self, begin: int, end: int) -> Numbers:
        number = self.number[begin:end]
        net = torch.copysign(number, self.sign[begin:end])
        return Numbers((number + net).mul_(0.5), (number - net).mul_(0.5), None)


def plan(above: Tensor, below: Tensor, rate: float, step: float) -> Trains:
    """Slots and probabilities. InputError: numbers that are not finite."""
    if not math.isfinite(rate):
        raise InputError(f"rate is {rate}; give a finite number")
    d, x = above.abs().amax(1, keepdim=True), below.abs().amax(1, keepdim=True)
    wanted = x * d * (abs(rate) / step)
    if not bool(torch.isfinite(wanted).all()):
        raise InputError("above or below holds numbers that are infinite or NaN, or too large for their product")
    slots = wanted.ceil().clamp(max=LONGEST_TRAIN)
    share = (wanted / slots.clamp(min=1)).sqrt_()
    q = (above / d.clamp(min=TINY)).mul_(math.copysign(1.0, rate) * share).clamp_(-1, 1)
    return Trains(slots, q, (below / x.clamp(min=TINY)).mul_(share).clamp_(-1, 1))


def fire(trains: Trains, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw which lines fire in which slot: (slots of all samples, outputs) and (.., inputs), of -1, 0 and 1."""
    sample = torch.repeat_interleave(trains.slots[:, 0].long())
    above, below = trains.above[sample], trains.below[sample]
    fired = (torch.empty_like(p).uniform_(generator=generator).lt_(p.abs()).copysign_(p) for p in (above, below))
    return next(fired), next(fired)


def count(above: Tensor, below: Tensor) -> Met:
    """Where lines that fired (slots, outputs) and (slots, inputs) met."""
    return MetLines(above, below, None, round(_total(above, below)))


def moments(trains: Trains, generator: torch.Generator) -> Met:
    """Where long trains meet, without their slots.

    How often each line fires, c_i and c_j out of BL, is drawn (see `_times`). Its pulses then fall on slots at random,
    so a device's number is hypergeometric: mean sum_s c_i c_j / BL, and variance
    sum_s c_i (BL - c_i) c_j (BL - c_j) / (BL^2 (BL - 1)), independent of the other devices'. Three matrix products;
    means, variances and covariances of all devices' numbers are those of the trains.
    """
    slots, outputs = trains.slots.clamp(min=1), trains.above.shape[1]
    share = _times(torch.cat((trains.above, trains.below), 1), slots, generator)
    sizes = share.abs()
    rest = torch.addcmul(sizes, sizes, sizes, value=-1).clamp_(min=0)
    above, below = share[:, :outputs] * slots, share[:, outputs:]
    rest_above, rest_below = rest[:, :outputs] * (slots * slots / (slots - 1).clamp(min=1)), rest[:, outputs:]
    deviation = math.sqrt(_total(rest_above, rest_below))
    drawn = _total(above, below) + deviation * float(slots.new_empty(1).normal_(generator=generator))
    return MetLines(above, below, (rest_above, rest_below), max(0, round(drawn)))


def given(number: Tensor, sign: Tensor) -> Met:
    """So many pulses, whole numbers, in the direction of a sign. InputError: numbers that are not finite."""
    pulses = float(number.sum(dtype=torch.float64))
    if not math.isfinite(pulses):
        raise InputError("the changes asked for are infinite or NaN")
    return MetGiven(number, sign, round(pulses))


def _times(probability: Tensor, slots: Tensor, generator: torch.Generator) -> Tensor:
    """c / BL, the share of the slots in which each line fires: in [0, 1], with the binomial law's mean p and variance.

    One of two values, p - a with probability b / (a + b) or else p + b, where a b = p (1 - p) / BL: a = b unless
    that would pass 0 or 1, which are then the values themselves. The sign is that of `probability`.
    """
    p = probability.abs()
    variance = torch.addcmul(p, p, p, value=-1).clamp_(min=0).div_(slots)
    a = torch.minimum((variance + TINY).sqrt_(), p).clamp_(min=TINY)
    b = torch.minimum(variance / a, 1 - p).clamp_(min=TINY)
    a = variance.div_(b)
    both = b.add_(a)
    often = torch.empty_like(p).uniform_(generator=generator).mul_(both).lt_(a)
    return p.sub_(a).addcmul_(often, both).clamp_(min=0).copysign_(probability)


def _total(above: Tensor, below: Tensor) -> float:
    """The sum over all devices of |above|^T |below|."""
    each = above.abs().sum(1, dtype=torch.float64) * below.abs().sum(1, dtype=torch.float64)
    return float(each.sum())
