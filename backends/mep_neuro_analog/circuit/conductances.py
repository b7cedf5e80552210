"""Conductances: the weights of one coupling, each on one device, programmed, pulsed and drifting."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor

from mep_neuro_analog.devices import Devices
from mep_neuro_analog.pulses import PulsedDevices
from mep_neuro_analog.specs import DeviceSpec
from mep_neuro_analog.synapses import Written


@final
class Conductances:
    """G (outputs, inputs), S, on as many devices; below g_min and above g_max targets are cut.

    A device that answers to pulses is at G = g_min + (omega + 1) / 2 (g_max - g_min), omega as in its `PulseSpec`.

    fixed:     draws what is fixed for good; generator: all other noise.
    """

    def __init__(
        self,
        device: DeviceSpec,
        shape: tuple[int, int],
        *,
        fixed: torch.Generator,
        generator: torch.Generator,
        where: torch.device,
    ) -> None:
        self._spec, self._half = device, (device.g_max - device.g_min) / 2
        self._devices = Devices(shape, device, fixed, torch.float64, where, generator)
        self._pulsed = None
        if device.pulses is not None:
            self._pulsed = PulsedDevices(device.pulses, shape, fixed, dtype=torch.float64)
            self._pulsed.generator = generator  # what differs between devices is drawn; the rest is noise
        self._hidden = torch.full(shape, -1.0, dtype=torch.float64, device=where)

    @property
    def now(self) -> Tensor:
        """As they are, with all faults, S."""
        return self._devices.now

    def program(self, target: Tensor) -> Written:
        """Write all anew, one pulse a device."""
        self._devices.program(target)
        self._hidden = self._omega()
        return Written(target.numel(), self._beyond(target))

    def change(self, update: Tensor) -> Written:
        """Add to them, S: by pulses where devices answer to them, else by writing them anew."""
        wanted = self._devices.written + update
        if self._pulsed is None:
            return self.program(wanted)
        after = self._pulsed.update_by(update / self._half, self._hidden, apparent=self._omega())
        self._hidden = after.hidden
        self._devices.set((after.apparent + 1) * self._half + self._spec.g_min)
        return Written(after.pulses, self._beyond(wanted))

    def advance(self, seconds: float) -> None:
        """Let them drift."""
        self._devices.advance(seconds)

    def _omega(self) -> Tensor:
        return (self._devices.written - self._spec.g_min) / self._half - 1

    def _beyond(self, wanted: Tensor) -> float:
        """Share of what was wanted that devices cannot conduct."""
        spec, slack = self._spec, 2e-6 * self._half
        return float(((wanted < spec.g_min - slack) | (wanted > spec.g_max + slack)).double().mean())
