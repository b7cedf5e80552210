"""Sensors of energy: what one is, and which of them counts the joules of a given device here."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import torch

from mep_neuro.errors import MepNeuroError, OptionError, did_you_mean

SENSORS = ("rapl", "nvml")
"""Sensors by name: CPU packages through Linux powercap, and NVIDIA GPUs through their driver."""

POWERCAP = Path("/sys/class/powercap")
"""Where Linux shows RAPL's counters."""


class SensorUnavailable(MepNeuroError, OSError):
    """A sensor that was asked for by name and is not there, or that stopped answering; with the reason and the cure."""


class Sensor(Protocol):
    """A counter of joules in hardware."""

    @property
    def name(self) -> str:
        """One of `SENSORS`, or a stranger's own."""

    @property
    def covers(self) -> str:
        """Whose joules these are, in words."""

    def read(self) -> float:
        """Joules since some moment in the past; never falls. Raises `SensorUnavailable`."""

    def close(self) -> None:
        """Let go of it; twice is safe."""


def find_sensor(
    wanted: str = "auto", *, device: str | torch.device | None = None, powercap: Path = POWERCAP
) -> Sensor | str:
    """The sensor that counts the joules of work on `device`, or the reason why there is none.

    wanted:   `"auto"` is NVML for work on a CUDA device and RAPL for work on the CPU. A GPU is never measured for work
              that ran on the CPU, nor a CPU in place of a GPU. Or a name of `SENSORS`.
    device:   where the network is, `"cuda:0"` or `"cpu"`; None is the CPU.
    powercap: the folder with RAPL's counters.

    Raises:
        OptionError: no sensor has that name, or torch knows no such device.
        SensorUnavailable: a sensor that was asked for by name is not there.
    """
    from mep_neuro.accounting import nvml, rapl  # they stand on this module

    if wanted not in ("auto", *SENSORS):
        known = ("auto", *SENSORS)
        raise OptionError(f"no sensor {wanted!r}; there are: {', '.join(known)}.{did_you_mean(wanted, known)}")
    place = _device(device)
    chosen = {"cuda": "nvml", "cpu": "rapl"}.get(place.type) if wanted == "auto" else wanted
    found: Sensor | str
    if chosen is None:
        found = f"none is known for device {str(place)!r}"
    elif chosen == "rapl":
        found = rapl.find_rapl(powercap)
    elif place.type != "cuda":
        found = f"it counts the joules of a GPU, and the work is on device {str(place)!r}"
    else:
        found = nvml.find_nvml(place.index)
    if isinstance(found, str):
        if wanted == "auto":
            return f"no sensor: {found}"
        raise SensorUnavailable(f"sensor {wanted!r} cannot be used: {found}. Sensor 'auto' goes on without measuring.")
    return found


def _device(device: str | torch.device | None) -> torch.device:
    try:
        return torch.device("cpu" if device is None else device)
    except RuntimeError as error:
        raise OptionError(f"no device {device!r} is known to torch; give 'cpu', 'cuda' or 'cuda:0'") from error
