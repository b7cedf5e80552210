"""What a pulse does to each device of an array, and what many do: the models of `PulseSpec`, with their spread.

omega is the normalised weight of specs.py. f_up(omega) is what one pulse up adds, f_down(omega) what one pulse down
takes away; both are the equations of `PulseSpec`, with each device's own step, bounds and slope.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple, TypeAlias, final

import torch
from torch import Tensor

from mep_neuro.errors import OptionError
from mep_neuro_analog.specs import PulseSpec

Direction: TypeAlias = Literal["up", "down"]

LARGEST_RATE = 40.0  # of -ln(1 - r): what is left after one pulse is then 4e-18 of the way
TINY = 1e-30
SHIFT = 1e-18  # of L, so that (1 - exp(-L)) / L is 1 at 0; not smaller, or products become denormal and slow
TRAVEL, MOST_PARTS = 0.05, 16


class Line(NamedTuple):
    """A direction's step as a straight line in omega, f = start -+ fall omega, solved for any number of pulses.

    Each pulse takes the share r = fall of the way to where f vanishes, so n of them leave exp(-n rate) of it,
    rate = -ln(1 - r).
    """

    left: Tensor
    """-rate"""
    drive: Tensor
    """rate / r start"""
    noise: Tensor
    """start exp(rate / 2) / (1 - r / 2): with it the noise of a single pulse comes out as f(omega)."""
    noise_fall: Tensor
    """fall exp(rate / 2) / (1 - r / 2) / 2, for a sum of two omegas."""


class Moved(NamedTuple):
    """Where pulses without noise lead, and what noise of the pulses would do there, both (outputs, inputs)."""

    omega: Tensor
    spread: Tensor
    """Variance of omega, were each pulse multiplied by 1 + xi with xi of variance 1."""


@final
@dataclass(frozen=True, eq=False)
class DeviceSteps:
    """Steps, bounds and slopes of the devices of one array, all (outputs, inputs), in units of omega.

        up    = |step (1 + step_spread xi_1) (1 + u)|,   u = up_down + up_down_spread xi_2
        down  = |step (1 + step_spread xi_1) (1 - u)|
        high  = |b_up (1 + bound_spread[1] xi_3)|,       low = -|b_down (1 + bound_spread[0] xi_4)|
        slope = |slope (1 + slope_spread xi)|, a xi for each direction

    xi are standard normal numbers, one each for every device. A wide spread draws some of them beyond -1 / spread: the
    absolute value is taken, as aihwkit does by default (`enforce_consistency`), so no device turns round and
    0 stays within the bounds. It makes the mean of a step larger than `step`: by 0.01 % at a spread of 0.3, 6 % at 0.8.
    A slope above 1 is at most |b| / step (or 1), so that no pulse leads past the point where its own step vanishes.
    """

    spec: PulseSpec
    up: Tensor
    down: Tensor
    low: Tensor
    high: Tensor
    slope_up: Tensor
    slope_down: Tensor

    @classmethod
    def draw(
        cls, spec: PulseSpec, shape: tuple[int, int], generator: torch.Generator, dtype: torch.dtype
    ) -> DeviceSteps:
        """Draw an array's devices, on the generator's device."""

        def spread(share: float) -> Tensor:
            if share == 0:
                return torch.zeros(shape, dtype=dtype, device=generator.device)
            return share * torch.randn(shape, generator=generator, dtype=dtype, device=generator.device)

        step = spec.step * (1 + spread(spec.step_spread))
        bias = spec.up_down + spread(spec.up_down_spread)
        high = (spec.bounds[1] * (1 + spread(spec.bound_spread[1]))).abs().clamp(min=TINY)
        low = -(spec.bounds[0] * (1 + spread(spec.bound_spread[0]))).abs().clamp(min=TINY)
        up, down = (step * (1 + bias)).abs(), (step * (1 - bias)).abs()
        slopes = {"constant": (0.0, 0.0), "linear": spec.slope, "soft_bounds": (1.0, 1.0)}.get(spec.model, (0.0, 0.0))
        slope_up, slope_down = ((s * (1 + spread(spec.slope_spread if s else 0.0))).abs() for s in slopes)
        slope_up = torch.minimum(slope_up, (high / up.clamp(min=TINY)).clamp(min=1))
        slope_down = torch.minimum(slope_down, (-low / down.clamp(min=TINY)).clamp(min=1))
        return cls(spec, up, down, low, high, slope_up, slope_down)

    def response(self, omega: Tensor, direction: Direction) -> Tensor:
        """The mean change by one pulse at omega, signed, before the bounds cut it: f_up, or -f_down."""
        if direction not in ("up", "down"):
            raise OptionError(f"the direction of a pulse is {direction!r}; give 'up' or 'down'")
        return self.step(omega, "up") if direction == "up" else -self.step(omega, "down")

    def step(self, omega: Tensor, direction: Direction) -> Tensor:
        """f_up or f_down at omega."""
        return self._tangent(omega, direction)[0]

    def clip(self, omega: Tensor, *, out: Tensor | None = None) -> Tensor:
        """omega within each device's own bounds: no device holds more."""
        return torch.clamp(omega, self.low, self.high, out=out)

    def rows(self, begin: int, end: int) -> DeviceSteps:
        """The devices of some outputs alone, in the same memory."""
        parts = (self.up, self.down, self.low, self.high, self.slope_up, self.slope_down)
        return DeviceSteps(self.spec, *(part[begin:end] for part in parts))

    def move(self, omega: Tensor, up: Tensor | None, down: Tensor | None) -> Moved:
        """omega after numbers of pulses up and down, evenly mixed, and what their noise does; None: no pulse that way.

        With L = up rate_up + down rate_down and the drive S = up f_up rate_up / r_up - down f_down rate_down / r_down,
        all at omega,

            omega + S (1 - exp(-L)) / L,     spread = exp(-L) (up f_up^2 + down f_down^2) at the middle of the way.

        Exact for any number of pulses in one direction where the step is constant or linear in omega, and for one
        pulse of any model; mixed directions are first order in r. A curved model is walked in up to 16 parts, by
        its tangent at each. The spread is right to second order in L, and exact for one pulse.
        Straight models are not cut to the bounds here, as noise may still bring them back: see `clip`.
        """
        if up is None and down is None:
            return Moved(omega.clone(), torch.zeros_like(omega))
        if self.spec.model == "constant":
            after = _sum(up, self.up, down, self.down, -1).add_(omega)
            return Moved(after, _sum(up, self._squares[0], down, self._squares[1]))
        parts = 1
        if not self.straight:
            pulses = sum(float(number.amax()) for number in (up, down) if number is not None)
            parts = max(1, math.ceil(min(pulses, pulses * self.spec.step / TRAVEL, MOST_PARTS)))
            up, down = (None if number is None else number / parts for number in (up, down))
        begin, decay = omega, torch.zeros(())
        for part in range(parts):
            ahead = None if up is None else self._line(omega, "up")
            behind = None if down is None else self._line(omega, "down")
            left = _sum(up, ahead and ahead.left, down, behind and behind.left).sub_(SHIFT)
            drive = _sum(up, ahead and ahead.drive, down, behind and behind.drive, -1).addcmul_(left, omega)
            gone = torch.expm1(left)
            omega = drive.mul_(gone).div_(left).add_(omega)
            if self._coarse:
                omega = self.clip(omega)
            decay = decay.add_(gone).addcmul_(decay, gone) if part else gone
        way = begin + omega
        squares = (
            ahead and torch.addcmul(ahead.noise, ahead.noise_fall, way, value=-1).square_(),
            behind and torch.addcmul(behind.noise, behind.noise_fall, way).square_(),
        )
        spread = _sum(up, squares[0], down, squares[1])
        spread.addcmul_(spread, decay)
        return Moved(omega, spread if parts == 1 else spread.mul_(parts))

    @property
    def straight(self) -> bool:
        """Whether steps are constant or linear in omega."""
        return self.spec.model in ("constant", "linear", "soft_bounds")

    def _line(self, omega: Tensor, direction: Direction) -> Line:
        """A direction's step as a line: the model itself where it is straight, else its tangent at omega."""
        if self.straight:
            return self._straight_lines[direction]
        step, fall = self._tangent(omega, direction)
        return _solved(step, fall.clamp_(max=1), omega, 1 if direction == "up" else -1)

    @cached_property
    def _straight_lines(self) -> dict[Direction, Line]:
        zero = torch.zeros_like(self.up)
        ahead, behind = self._tangent(zero, "up"), self._tangent(zero, "down")
        return {"up": _solved(*ahead, zero, 1), "down": _solved(*behind, zero, -1)}

    @cached_property
    def _squares(self) -> tuple[Tensor, Tensor]:
        return self.up.square(), self.down.square()

    @cached_property
    def _coarse(self) -> bool:
        """Whether a way is cut to the bounds before noise is added: a pulse may take more than half of it."""
        if not self.straight:
            return True
        falls = (self._tangent(torch.zeros_like(self.up), side)[1] for side in ("up", "down"))
        return any(float(fall.amax()) > 0.5 for fall in falls)

    def _tangent(self, omega: Tensor, direction: Direction) -> tuple[Tensor, Tensor]:
        """f at omega, and how fast it falls towards the direction's bound: -f_up' or f_down'."""
        side = 1 if direction == "up" else -1
        step = self.up if side == 1 else self.down
        if self.spec.model == "exponential":
            assert self.spec.exponential is not None
            a, b, *rest = self.spec.exponential
            height, gamma = (rest[0], rest[2]) if side == 1 else (rest[1], -rest[3])
            slant = 2 * a / (self.high - self.low)
            bend = (slant * omega).add_(b).mul_(gamma).exp_().mul_(height)
            if height > 0:  # where the model cuts the step at 0, its tangent is flat
                bend.clamp_(max=1)
                slant = slant * (bend < 1)
            return (1 - bend).mul_(step), bend.mul_(slant).mul_(step).mul_(side * gamma)
        if self.spec.model == "power":
            size = self.high - self.low
            room = ((self.high - omega if side == 1 else omega - self.low) / size).clamp(min=0)
            exponent = self.spec.exponent[0 if side == 1 else 1]
            return step * room**exponent, step * exponent / size * room.clamp(min=TINY) ** (exponent - 1)
        fall = step * self.slope_up / self.high if side == 1 else step * self.slope_down / -self.low
        return torch.addcmul(step, fall, omega, value=-side), fall


def _solved(step: Tensor, fall: Tensor, omega: Tensor, side: int) -> Line:
    """The line through f = step at omega."""
    share = fall.clamp(max=1)
    rate = torch.log1p(-share).neg_().clamp_(max=LARGEST_RATE)
    ratio = (rate + TINY) / (share + TINY)
    gain = (1 - share).clamp_(min=math.exp(-LARGEST_RATE)).rsqrt_().div_(1 - share / 2)
    drive = (ratio * step).addcmul_(rate, omega, value=side)
    return Line(-rate, drive, gain * torch.addcmul(step, fall, omega, value=side), gain * fall / 2)


def _sum(up: Tensor | None, a: Tensor | None, down: Tensor | None, b: Tensor | None, side: int = 1) -> Tensor:
    """up a + side down b, without a direction that is None."""
    if up is not None and a is not None:
        total = up * a
        return total if down is None or b is None else total.addcmul_(down, b, value=side)
    assert down is not None
    assert b is not None
    return down * b if side == 1 else (down * b).neg_()
