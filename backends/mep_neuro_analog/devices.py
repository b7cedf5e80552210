"""Device physics: what programming, time and faults make of conductances, drawn from the laws of a `DeviceSpec`."""

from __future__ import annotations

import math
from typing import final

import torch
from torch import Tensor

from mep_neuro.errors import CheckpointError, InputError
from mep_neuro_analog.specs import DeviceSpec

LEAST_SHARE = 1e-9
"""G / g_max at which fits in ln G, and in powers of 1 / G, are taken for a device that does not conduct."""


def programming_sigma(g: Tensor, spec: DeviceSpec) -> Tensor:
    """Standard deviation of what a device conducts after it was programmed to g, S: max(sum_k c_k (g / g_max)^k, 0)."""
    return _polynomial(g / spec.g_max, spec.programming).clamp_min(0)


def drift_moments(g: Tensor, spec: DeviceSpec) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of nu in G(t) = G (t / t_0)^-nu for devices written to g, S; zeros without drift."""
    mean, spread = spec.drift_mean, spec.drift_spread
    return (
        torch.zeros_like(g) if mean is None else _logarithmic(g / spec.g_max, mean),
        torch.zeros_like(g) if spread is None else _logarithmic(g / spec.g_max, spread),
    )


def flicker_share(g: Tensor, spec: DeviceSpec) -> Tensor:
    """Q of devices written to g, S: their 1/f noise has the standard deviation G(t) Q flicker_growth(t)."""
    if spec.flicker is None:
        return torch.zeros_like(g)
    (q, exponent, most), (_, *tail) = spec.flicker[:3], spec.flicker[3:]
    x = g / spec.g_max
    return _spliced(x, (q / x.clamp_min(LEAST_SHARE) ** exponent).clamp_max(most), tail)


def flicker_growth(seconds: Tensor, spec: DeviceSpec) -> Tensor:
    """sqrt(ln((t + t_read) / (2 t_read))) of 1/f noise, and 0 for a t of less than t_read since programming, s."""
    if spec.flicker is None:
        return torch.zeros_like(seconds)
    read = spec.flicker[3]
    return ((seconds + read) / (2 * read)).log().clamp_min(0).sqrt()


def levelled(target: Tensor, spec: DeviceSpec) -> Tensor:
    """The nearest conductances that can be aimed at, S: inside the range, and on one of the levels if there are any."""
    target = target.clamp(spec.g_min, spec.g_max)
    if spec.levels is None:
        return target
    step = (spec.g_max - spec.g_min) / (spec.levels - 1)
    return ((target - spec.g_min) / step).round() * step + spec.g_min


def programmed(target: Tensor, spec: DeviceSpec, generator: torch.Generator) -> Tensor:
    """Conductances right after programming, S: max(T + sigma(T) xi, 0), with the target T on its nearest level.

    The clamp biases what is aimed at about 0: a device aimed at 0 conducts sigma(0) / sqrt(2 pi) in the mean.

    target: S, any shape; beyond the device's range its end is aimed at. xi is a standard normal for each device.
    """
    target = levelled(target, spec)
    if not any(spec.programming):
        return target
    return (target + programming_sigma(target, spec) * _normal(target, generator)).clamp_min_(0)


@final
class Devices:
    """The conductances of one array, with a clock.

        G(t) = G (max(t, t_0) / t_0)^-nu,    now = max(G(t) (1 + Q sqrt(ln((t + t_read) / (2 t_read))) xi), 0)

    t is each device's time since it was last written, by `program` or by a pulse. nu is drawn for each device when it
    is written, with the moments that `drift_moments` gives for where it was aimed; xi anew at each move of the clock,
    independently of the one before (true 1/f noise remembers). Stuck devices are drawn once, and conduct g_min or
    g_max whatever is written. At first all devices are at g_min, at t = 0.

    shape:     of the array, any.
    fixed:     draws the stuck devices.
    generator: draws all else; None: `fixed` does. The same generators in the same state give the same devices.

    Tensors that are given out are not to be written into. Raises InputError for another shape or a negative time.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        spec: DeviceSpec,
        fixed: torch.Generator,
        dtype: torch.dtype,
        device: torch.device | str,
        generator: torch.Generator | None = None,
    ) -> None:
        self._spec, self._generator = spec, fixed if generator is None else generator
        self._ageing = spec.drift_mean is not None or spec.flicker is not None
        self._written = torch.full(shape, spec.g_min, dtype=dtype, device=device)
        self._stuck = torch.zeros((), dtype=torch.int8, device=device)
        if spec.stuck_low or spec.stuck_high:
            drawn = torch.rand(shape, generator=fixed, dtype=torch.float64, device=fixed.device).to(device)
            self._stuck = (drawn > 1 - spec.stuck_high).to(torch.int8) - (drawn < spec.stuck_low).to(torch.int8)
        self._age = torch.zeros((), dtype=torch.float64, device=device)
        self._nu = self._share = self._xi = self._written.new_zeros(())
        self._now: Tensor | None = None
        self._aim(self._written)

    @property
    def written(self) -> Tensor:
        """Conductances as they were last written, without drift, noise and stuck devices, S."""
        return self._written

    @property
    def now(self) -> Tensor:
        """Conductances at the clock, with drift, 1/f noise and stuck devices, S."""
        if self._now is None:
            spec, g = self._spec, self._drifted()
            if spec.flicker is not None:
                growth = flicker_growth(self._age, spec).to(g.dtype)
                g = (g * (1 + self._share * growth * self._xi)).clamp_min(0)
            if spec.stuck_low or spec.stuck_high:
                g = g.masked_fill(self._stuck < 0, spec.g_min).masked_fill(self._stuck > 0, spec.g_max)
            self._now = g
        return self._now

    def program(self, target: Tensor) -> None:
        """Program all devices to `target`, S (see `programmed`); their clocks start again."""
        self._check(target)
        self._written = programmed(target.to(self._written), self._spec, self._generator)
        self._age = self._age.new_zeros(())
        self._xi = self._written.new_zeros(())
        self._aim(levelled(target.to(self._written), self._spec))
        self._now = None

    def set(self, g: Tensor) -> None:
        """Write conductances by pulses, without programming noise, S; where they differ the clock starts again.

        What answers to pulses keeps to the bounds of its `PulseSpec`, which may lie somewhat beyond g_min and g_max,
        and here is only kept from conducting less than 0; any other device is kept between g_min and g_max.
        """
        self._check(g)
        self._write(self._kept(g), g != self._written)

    def add(self, delta: Tensor) -> None:
        """Add to conductances by pulses, S, from where they have drifted to; kept in range as by `set`.

        A device that gets 0 is not pulsed: it goes on drifting as before.
        """
        self._check(delta)
        self._write(self._kept(self._drifted() + delta), delta != 0)

    def advance(self, seconds: float) -> None:
        """Move the clock on: drift goes on, and 1/f noise is drawn anew. A move of 0 s changes nothing."""
        if not (math.isfinite(seconds) and seconds >= 0):
            raise InputError(f"the clock cannot move by {seconds} s; give 0 or more")
        if not self._ageing or not seconds:
            return
        self._age = self._age + seconds
        if self._spec.flicker is not None:
            self._xi = _normal(self._written, self._generator)
        self._now = None

    def state(self) -> dict[str, Tensor]:
        """All that was drawn, written and counted, for a checkpoint; the generators' states are not in it."""
        names = ("written", "stuck", "age", "nu", "share", "xi")
        return {name: getattr(self, f"_{name}") for name in names}

    def load(self, state: dict[str, Tensor]) -> None:
        """Take over what `state` gave; raises CheckpointError for that of another array."""
        here = self.state()
        if state.keys() != here.keys():
            raise CheckpointError(f"devices need {', '.join(here)}; there are: {', '.join(state)}")
        shape = self._written.shape
        for name, value in state.items():
            if value.shape not in ((shape,) if name == "written" else (shape, ())):
                raise CheckpointError(f"{name!r} of these devices is {tuple(shape)}, and there {tuple(value.shape)}")
        for name, value in state.items():
            setattr(self, f"_{name}", value.to(here[name]))
        self._now = None

    def _check(self, given: Tensor) -> None:
        if given.shape != self._written.shape:
            raise InputError(f"these devices are {tuple(self._written.shape)}; got {tuple(given.shape)}")

    def _kept(self, g: Tensor) -> Tensor:
        return g.clamp(self._spec.g_min, self._spec.g_max) if self._spec.pulses is None else g.clamp_min(0)

    def _write(self, g: Tensor, pulsed: Tensor) -> None:
        self._written = torch.where(pulsed, g, self._written) if self._ageing else g
        if self._ageing:
            self._age = torch.where(pulsed, torch.zeros_like(self._age), self._age)
            self._aim(self._written, pulsed)
        self._now = None

    def _aim(self, g: Tensor, where: Tensor | None = None) -> None:
        """Draw nu, and work out Q, of the devices that were aimed at g."""
        found: dict[str, Tensor] = {}
        if self._spec.drift_mean is not None:
            mean, spread = drift_moments(g, self._spec)
            drawn = self._spec.drift_spread is not None
            found["_nu"] = (mean + spread * _normal(g, self._generator)).abs() if drawn else mean
        if self._spec.flicker is not None:
            found["_share"] = flicker_share(g, self._spec)
        for name, value in found.items():
            setattr(self, name, value if where is None else torch.where(where, value, getattr(self, name)))

    def _drifted(self) -> Tensor:
        if self._spec.drift_mean is None:
            return self._written
        start = self._spec.drift_start
        return self._written * (-self._nu * (self._age.clamp_min(start) / start).log().to(self._nu.dtype)).exp()


def _polynomial(x: Tensor, coefficients: tuple[float, ...] | list[float]) -> Tensor:
    """sum_k c_k x^k."""
    total = torch.zeros_like(x)
    for c in reversed(coefficients):
        total = total * x + c
    return total


def _logarithmic(x: Tensor, fit: tuple[float, ...]) -> Tensor:
    """clip(a ln x + b, low, high), and a polynomial from the split on."""
    a, b, low, high, *tail = fit
    return _spliced(x, (a * x.clamp_min(LEAST_SHARE).log() + b).clamp(low, high), tail)


def _spliced(x: Tensor, below: Tensor, tail: list[float]) -> Tensor:
    return torch.where(x < tail[0], below, _polynomial(x, tail[1:])) if tail else below


def _normal(like: Tensor, generator: torch.Generator) -> Tensor:
    drawn = torch.randn(like.shape, generator=generator, dtype=like.dtype, device=generator.device)
    return drawn.to(like.device)
