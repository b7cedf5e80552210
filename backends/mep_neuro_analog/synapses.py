"""Synapses: the weights of one coupling on devices, used forward and, through the same devices, back."""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeAlias, final

import torch
from torch import Tensor

from mep_neuro.errors import OptionError
from mep_neuro_analog.devices import Devices
from mep_neuro_analog.pulses import Pulsed, PulsedDevices
from mep_neuro_analog.specs import AnalogSpec
from mep_neuro_analog.tiles import Tiles

Update: TypeAlias = Literal["program", "pulses"]


class Written(NamedTuple):
    """What writing took, and what it could not do."""

    pulses: int
    clipped: float
    """Share of the weights that lie beyond the largest that the arrays hold."""


@final
class Synapses:
    """w = w_max omega on pairs of devices (see `specs`), programmed, drifting, read by `tiles`.

    spec:       devices, arrays and periphery.
    outputs, inputs: of the coupling; w is (outputs, inputs).
    fixed:      draws what is fixed for good: stuck devices, and how devices differ.
    generator:  draws all other noise.
    weight_max: w_max; None: at each programming the largest weight, and at least 1 where devices answer to pulses,
                so that there is room to grow.
    exact:      every device and every pulse is drawn, not their law.
    """

    def __init__(
        self,
        spec: AnalogSpec,
        outputs: int,
        inputs: int,
        *,
        fixed: torch.Generator,
        generator: torch.Generator,
        like: Tensor,
        weight_max: float | None,
        exact: bool,
    ) -> None:
        shape, device = (outputs, inputs), spec.device
        self._spec, self._weight_max, self._exact = spec, weight_max, exact
        self._two = spec.array.pairs == "differential"
        self._range = device.g_max - device.g_min
        self._plus = Devices(shape, device, fixed, like.dtype, like.device, generator)
        self._minus = Devices(shape, device, fixed, like.dtype, like.device, generator) if self._two else None
        self._reference = like.new_full((), device.g_min + self._range / 2)
        self._pulsed = None
        if device.pulses is not None:
            self._pulsed = PulsedDevices(device.pulses, shape, fixed, dtype=like.dtype)
            self._pulsed.generator = generator  # what differs between devices is drawn; the rest is noise
        self._hidden = like.new_zeros(shape)
        """omega that pulses start from; what the devices conduct is this with their write noise."""
        self.tiles = Tiles(spec, outputs, inputs, generator, sampled=exact)
        self.scale = weight_max or 1.0

    @property
    def devices(self) -> int:
        """How many of them can be written."""
        return self._plus.now.numel() * (1 + self._two)

    @property
    def weight(self) -> Tensor:
        """As it is now, with all faults, (outputs, inputs)."""
        return self.tiles.weight

    def program(self, weight: Tensor) -> Written:
        """Write all weights anew, one pulse a device; beyond w_max they are clipped."""
        largest = float(weight.abs().max())
        self.scale = self._weight_max or (max(1.0, largest) if self._pulsed else largest) or 1.0
        clipped = float((weight.abs() > self.scale * (1 + 1e-6)).double().mean())
        self._write((weight / self.scale).clamp(-1, 1))
        return Written(self.devices, clipped)

    def change(self, update: Tensor) -> Written:
        """Add to the weights: by pulses where devices answer to them, else by writing the devices anew."""
        if self._pulsed is None:
            wanted = self._omega() + update / self.scale
            self._write(wanted.clamp(-1, 1))
            return Written(self.devices, float((wanted.abs() > 1).double().mean()))
        after = self._pulsed.update_by(update / self.scale, self._hidden, apparent=self._omega())
        return Written(self._set(after), 0.0)

    def learn(self, above: Tensor, below: Tensor, rate: float) -> int:
        """w += rate sum_batch above (x) below by trains of pulses; returns how many devices got."""
        if self._pulsed is None:
            raise OptionError(
                f"devices {self._spec.device.name!r} do not answer to pulses: learn on the host, or open device='ecram'"
            )
        step, now = rate / self.scale, self._omega()
        return self._set(self._pulsed.update(self._hidden, above, below, step, apparent=now, exact=self._exact))

    def advance(self, seconds: float) -> None:
        """Let the devices drift."""
        self._plus.advance(seconds)
        if self._minus is not None:
            self._minus.advance(seconds)
        self._hold()

    def _omega(self) -> Tensor:
        """As the devices were last written, without drift."""
        if self._minus is None:
            return 2 * (self._plus.written - self._reference) / self._range
        return (self._plus.written - self._minus.written) / self._range

    def _write(self, omega: Tensor) -> None:
        low, width = self._spec.device.g_min, self._range
        if self._minus is None:
            self._plus.program(low + (omega + 1) / 2 * width)
        else:
            self._plus.program(low + omega.clamp_min(0) * width)
            self._minus.program(low + (-omega).clamp_min(0) * width)
        self._hidden = self._omega()
        self._hold()

    def _set(self, after: Pulsed) -> int:
        """Take over what pulses made, a pair of devices sharing a change evenly; returns how many pulses."""
        self._hidden, omega = after.hidden, after.apparent
        if self._minus is None:
            self._plus.set(self._reference + omega / 2 * self._range)
        else:
            half = (omega - self._omega()) / 2 * self._range
            self._plus.set(self._plus.written + half)
            self._minus.set(self._minus.written - half)
        self._hold()
        return after.pulses

    def _hold(self) -> None:
        minus = self._reference.expand_as(self._plus.now) if self._minus is None else self._minus.now
        self.tiles.hold(self._plus.now, minus, self.scale)
