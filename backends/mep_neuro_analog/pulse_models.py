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
TRAVEL, MOST_PARTS = 0.05, 16


class Line(NamedTuple):
    """A direction's step as a straight line in omega, f = start -+ fall omega, solved for any number of pulses.

    Each pulse takes the share r = fall of the way to where f vanishes, so n of them leave exp(-n rate) of it,
    rate = -ln(1 - r). Kept for 2 n, and a sum of two omegas, which saves halving them:
    """

    left: Tensor
    """-rate / 2"""
    drive: Tensor
    """rate / r start / 2"""
    noise: Tensor
    """start exp(rate / 2) / (1 - r / 2) / sqrt(2): with it the noise of a single pulse comes out as f(omega)."""
    noise_fall: Tensor
    """fall exp(rate / 2) / (1 - r / 2) / sqrt(8)"""


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
        return torch.minimum(torch.maximum(omega, self.low, out=out), self.high, out=out)

    def rows(self, begin: int, end: int) -> DeviceSteps:
        """The devices of some outputs alone, in the same memory."""
        parts = (self.up, self.down, self.low, self.high, self.slope_up, self.slope_down)
        return DeviceSteps(self.spec, *(part[begin:end] for part in parts))

    def move(self, omega: Tensor, number: Tensor, net: Tensor) -> Moved:
        """omega after `number` pulses, evenly mixed, `net` more of them up than down, and what their noise does.

        With u up, d down, L = u rate_up + d rate_down and the drive S = u f_up rate_up / r_up - d f_down rate_down /
        r_down, all at omega,

            omega + S (1 - exp(-L)) / L,     spread = exp(-L) (u f_up^2 + d f_down^2) at the middle of the way.

        Exact for any number of pulses in one direction where the step is constant or linear in omega, and for one
        pulse of any model; mixed directions are first order in r. A curved model is walked in up to 16 parts, by
        its tangent at each. The spread is right to second order in L, and exact for one pulse.
        Straight models are not cut to the bounds here, as noise may still bring them back: see `clip`.
        """
        up, down = number + net, number - net
        if self.spec.model == "constant":
            half_up, half_down, square_up, square_down = self._constants
            after = torch.addcmul(omega, up, half_up).addcmul_(down, half_down, value=-1)
            return Moved(after, up.mul_(square_up).addcmul_(down, square_down))
        parts = 1
        if not self.straight:
            pulses = float(number.amax())
            parts = max(1, math.ceil(min(pulses, pulses * self.spec.step / TRAVEL, MOST_PARTS)))
            up, down = up.div_(parts), down.div_(parts)
        begin, decay = omega, None
        for _ in range(parts):
            ahead, behind = self._lines(omega)
            left = (up * ahead.left).addcmul_(down, behind.left).sub_(TINY)
            drive = (up * ahead.drive).addcmul_(down, behind.drive, value=-1).addcmul_(left, omega)
            gone = torch.expm1(left)
            omega = drive.mul_(gone).div_(left).add_(omega)
            if self._coarse:
                omega = self.clip(omega)
            decay = gone if decay is None else decay.add_(gone).addcmul_(decay, gone)
        assert decay is not None  # there is at least one part
        way = begin + omega
        spread = torch.addcmul(ahead.noise, ahead.noise_fall, way, value=-1).square_().mul_(up)
        spread.addcmul_(torch.addcmul(behind.noise, behind.noise_fall, way).square_(), down)
        spread.addcmul_(spread, decay)
        return Moved(omega, spread if parts == 1 else spread.mul_(parts))

    @property
    def straight(self) -> bool:
        """Whether steps are constant or linear in omega."""
        return self.spec.model in ("constant", "linear", "soft_bounds")

    def _lines(self, omega: Tensor) -> tuple[Line, Line]:
        """Both directions' steps as lines: the model itself where it is straight, else its tangents at omega."""
        if not self.straight:
            (f_up, fall_up), (f_down, fall_down) = self._tangent(omega, "up"), self._tangent(omega, "down")
            return _line(f_up, fall_up.clamp(max=1), omega, 1), _line(f_down, fall_down.clamp(max=1), omega, -1)
        return self._straight_lines

    @cached_property
    def _straight_lines(self) -> tuple[Line, Line]:
        zero = torch.zeros_like(self.up)
        return _line(*self._tangent(zero, "up"), zero, 1), _line(*self._tangent(zero, "down"), zero, -1)

    @cached_property
    def _constants(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return self.up / 2, self.down / 2, self.up.square() / 2, self.down.square() / 2

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


def _line(step: Tensor, fall: Tensor, omega: Tensor, side: int) -> Line:
    share = fall.clamp(max=1)
    rate = torch.log1p(-share).neg_().clamp_(max=LARGEST_RATE)
    ratio = (rate + TINY) / (share + TINY)
    gain = (1 - share).clamp_(min=math.exp(-LARGEST_RATE)).rsqrt_().div_(2 - share).mul_(math.sqrt(2))
    drive = (ratio * step).addcmul_(rate, omega, value=side).div_(2)
    return Line(rate / -2, drive, gain * torch.addcmul(step, fall, omega, value=side), gain * fall / 2)
