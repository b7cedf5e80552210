"""Pulsed devices: their weights change by pulses, of trains that meet at them, of a given change, or until they fit.

All weights are omega = w / w_max of specs.py. What a pulse does is in `pulse_models`, when it comes in `pulse_trains`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from mep_neuro.errors import InputError, OptionError
from mep_neuro_analog.pulse_models import TINY, DeviceSteps, Direction
from mep_neuro_analog.pulse_trains import Met, Numbers, count, fire, given, moments, plan
from mep_neuro_analog.specs import PulseSpec

FEW_SLOTS = 128
BLOCK = 65536  # devices worked on at a time: their temporaries stay in a core's cache


@dataclass(frozen=True, eq=False)
class Pulsed:
    """An array after pulses. Tensors are (outputs, inputs), weights in units of omega."""

    hidden: Tensor
    """What the devices hold, and the next pulses start from."""
    apparent: Tensor
    """What is read: hidden + write_noise step xi, a xi for each device, drawn when it was last pulsed."""
    pulses: int
    """Applied in all."""
    met: Met
    """Which devices got them; `number` and `net` are worked out when they are asked for."""

    @property
    def number(self) -> Tensor:
        """Of each device, up and down; in long trains its mean, given how often its lines fired."""
        return self.met.rows(0, len(self.hidden)).number

    @property
    def net(self) -> Tensor:
        """Of each device, up less down."""
        up, down, _ = self.met.rows(0, len(self.hidden))
        if up is None or down is None:
            return self.number if down is None else -self.number
        return up - down


@dataclass(frozen=True, eq=False)
class Programmed:
    """An array after program and verify."""

    hidden: Tensor
    apparent: Tensor
    pulses: int
    reads: int
    """Readings of one device each, to verify."""
    failed: float
    """Share of devices that are still off their target by more than the tolerance."""


@final
class PulsedDevices:
    """The pulsed devices of one array of shape (outputs, inputs), and every way to pulse them.

        devices = PulsedDevices(spec, (10, 784), generator)
        after = devices.update(omega, above, below, rate)      # after.hidden, after.apparent, after.pulses

    What varies from device to device is drawn once, here, from `generator` (see `DeviceSteps`); the same generator then
    gives the trains and noise of every call. Weights are passed in and returned, never kept. omega beyond a
    device's bounds is cut to them.

    Each pulse is multiplied by 1 + cycle_noise xi. n of them at once get one normal draw of the same variance, and are
    cut to the bounds at the end, not each by itself.
    """

    def __init__(
        self,
        spec: PulseSpec,
        shape: tuple[int, int],
        generator: torch.Generator,
        *,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        if min(shape) < 1:
            raise OptionError(f"an array of shape {tuple(shape)}; give (outputs, inputs), each at least 1")
        if dtype not in (torch.float32, torch.float64):
            raise OptionError(f"omega cannot be {dtype}; give torch.float32 or torch.float64")
        self.spec = spec
        self.shape = (int(shape[0]), int(shape[1]))
        self.generator = generator
        self.dtype = dtype
        self.steps = DeviceSteps.draw(spec, self.shape, generator, dtype)
        block = self.shape[0] if generator.device.type != "cpu" else max(1, BLOCK // self.shape[1])
        ends = [(begin, min(begin + block, self.shape[0])) for begin in range(0, self.shape[0], block)]
        self._blocks = [(begin, end, self.steps.rows(begin, end)) for begin, end in ends]

    def response(self, omega: Tensor, direction: Direction) -> Tensor:
        """The mean change by one pulse at omega, signed, before the bounds cut it."""
        return self.steps.response(self._weights(omega, "omega"), direction)

    def update(
        self,
        omega: Tensor,
        above: Tensor,
        below: Tensor,
        rate: float,
        *,
        apparent: Tensor | None = None,
        exact: bool = False,
    ) -> Pulsed:
        """Pulse trains for delta omega = rate sum_s above_s (x) below_s, in units of omega.

        above: (batch, outputs); below: (batch, inputs); rate of either sign. apparent: what is read now, where the
        devices have write noise (omega, if not given).

        exact: every slot of every train by itself, sample after sample: the oracle, slow. Otherwise the response is
        integrated over all pulses of the batch at once (`DeviceSteps.move`), and their numbers are those of trains
        drawn slot by slot, counted by two matrix products, while there are at most 2 slots a sample or 128 in all; or,
        for longer trains, drawn by their first two moments with three (`pulse_trains.moments`). A device's own part of
        that draw is then added to omega together with the noise of its pulses, to first order.
        Memory: batch x (outputs + inputs) and outputs x inputs, never their product.

        InputError: shapes that do not fit, or numbers that are not finite.
        """
        omega, apparent = self._both(omega, apparent)
        trains = plan(*self._ends(above, below), rate, self.spec.step)
        if exact:
            return self._one_by_one(omega, apparent, *fire(trains, self.generator))
        if int(trains.slots.sum()) <= max(2 * len(trains.slots), FEW_SLOTS):
            return self._apply(omega, apparent, count(*fire(trains, self.generator)))
        return self._apply(omega, apparent, moments(trains, self.generator))

    def update_by(self, delta: Tensor, omega: Tensor, *, apparent: Tensor | None = None) -> Pulsed:
        """|delta| / step pulses to each device, rounded up or down at random so that the mean is right.

        For a change delta omega (outputs, inputs) that the host has worked out. InputError: wrong shape, not finite.
        """
        omega, apparent = self._both(omega, apparent)
        wanted = self._weights(delta, "delta") / self.spec.step
        number = self._uniform(wanted).add_(wanted.abs()).floor_()
        return self._apply(omega, apparent, given(number, wanted))

    def program_and_verify(
        self, omega: Tensor, target: Tensor, tolerance: float, max_pulses: int, *, apparent: Tensor | None = None
    ) -> Programmed:
        """Pulse each device towards its target until what is read is within `tolerance`, or `max_pulses` are used.

        Every round reads the devices that are not yet there and gives each half of the pulses, of mean step, that its
        distance would take, at least one. A device that is within the tolerance is left alone from then on.
        """
        omega, apparent = self._both(omega, apparent)
        target = self._weights(target, "target")
        if not bool(torch.isfinite(target).all()):
            raise InputError("target holds numbers that are infinite or NaN")
        if not (math.isfinite(tolerance) and tolerance > 0):
            raise OptionError(f"tolerance is {tolerance:g}; give a number above 0, in units of omega")
        if max_pulses < 0:
            raise OptionError(f"max_pulses is {max_pulses}; give 0 or more, for each device")
        left = torch.full(self.shape, float(max_pulses), dtype=self.dtype, device=omega.device)
        pulses, reads = 0, omega.numel()
        while True:
            error = target - apparent
            off = error.abs() > tolerance
            active = off & (left > 0)
            if not bool(active.any()):
                return Programmed(omega, apparent, pulses, reads, float(off.double().mean()))
            number = torch.minimum((error.abs() / (2 * self.spec.step)).floor().clamp(min=1), left) * active
            after = self._apply(omega, apparent, given(number, error))
            omega, apparent, left = after.hidden, after.apparent, left - number
            pulses, reads = pulses + after.pulses, reads + int(active.sum())

    def _apply(self, omega: Tensor, apparent: Tensor, met: Met) -> Pulsed:
        """The devices' answer to pulses, with the noise of the pulses and of their number; some rows at a time."""
        hidden = torch.empty_like(omega)
        read = torch.empty_like(omega) if self.spec.write_noise > 0 else hidden
        noise = omega.new_full((), self.spec.cycle_noise**2)
        for begin, end, steps in self._blocks:
            numbers = met.rows(begin, end)
            after, spread = steps.move(omega[begin:end], numbers.up, numbers.down)
            if self.spec.cycle_noise > 0 or numbers.dispersion is not None:
                spread.mul_(noise if numbers.dispersion is None else numbers.dispersion + noise)
                spread.clamp_(min=0)  # numbers are differences, and may be just below 0
                # v rsqrt(v) and not sqrt(v): where nothing is to be drawn, torch takes ten times as long over sqrt(0)
                after.addcmul_((spread + TINY).rsqrt_().mul_(spread), self._normal(after))
            steps.clip(after, out=hidden[begin:end])
            if self.spec.write_noise > 0:
                kept = apparent[begin:end] - omega[begin:end]
                read[begin:end] = self._read(hidden[begin:end], kept, numbers)
        return Pulsed(hidden, read, met.pulses, met)

    def _read(self, hidden: Tensor, kept: Tensor, numbers: Numbers) -> Tensor:
        """The apparent weights: write noise is drawn anew where a device was pulsed, and else kept."""
        number = numbers.number
        if numbers.dispersion is None:
            pulsed = number.clamp(max=1)
        else:  # a number of mean m and variance v < m is 0 with probability exp(-m sqrt(m / v)), nearly the binomial's
            none = (numbers.dispersion + TINY).rsqrt_().mul_(number).clamp_(max=30).neg_().exp_()
            pulsed = self._uniform(none).sub_(none).sign_().clamp_(min=0)
        drawn = self._normal(hidden).mul_(self.spec.write_noise * self.spec.step)
        return kept.lerp(drawn, pulsed).add_(hidden)

    def _ends(self, above: Tensor, below: Tensor) -> tuple[Tensor, Tensor]:
        """The two ends of the synapses, checked."""
        outputs, inputs = self.shape
        fits = above.dim() == 2 == below.dim() and len(above) == len(below)
        if not fits or (above.shape[1], below.shape[1]) != self.shape:
            raise InputError(
                f"above is {tuple(above.shape)} and below {tuple(below.shape)}, of an array with {outputs} outputs "
                f"and {inputs} inputs; give (batch, {outputs}) and (batch, {inputs})"
            )
        device = self.steps.up.device
        return above.detach().to(device, self.dtype), below.detach().to(device, self.dtype)

    def _one_by_one(self, omega: Tensor, apparent: Tensor, above: Tensor, below: Tensor) -> Pulsed:
        """Every slot of every train: a pulse at each coincidence, with its own noise, cut to the bounds."""
        met = count(above, below)
        hidden = self.steps.clip(omega)
        for row, column in zip(above, below, strict=True):
            sign = row[:, None] * column
            step = torch.where(sign > 0, self.steps.step(hidden, "up"), self.steps.step(hidden, "down")) * sign
            if self.spec.cycle_noise > 0:
                step = step * (1 + self.spec.cycle_noise * self._normal(step))
            hidden = self.steps.clip(hidden + step)
        read = hidden
        if self.spec.write_noise > 0:
            read = self._read(hidden, apparent - omega, met.rows(0, len(omega)))
        return Pulsed(hidden, read, met.pulses, met)

    def _normal(self, like: Tensor) -> Tensor:
        return torch.empty_like(like).normal_(generator=self.generator)

    def _uniform(self, like: Tensor) -> Tensor:
        return torch.empty_like(like).uniform_(generator=self.generator)

    def _weights(self, weights: Tensor, name: str) -> Tensor:
        if tuple(weights.shape) != self.shape:
            raise InputError(f"{name} is {tuple(weights.shape)} and the array {self.shape}")
        return weights.detach().to(self.steps.up.device, self.dtype)

    def _both(self, omega: Tensor, apparent: Tensor | None) -> tuple[Tensor, Tensor]:
        omega = self._weights(omega, "omega")
        return omega, omega if apparent is None else self._weights(apparent, "apparent")
