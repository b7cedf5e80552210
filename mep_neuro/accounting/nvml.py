"""NVML: the energy counter of an NVIDIA GPU, in its driver.

The counter is in millijoules since the driver was loaded, for the GPU and its circuitry (memory, for one), whoever used
it. Volta and newer GPUs have it; for older ones power would have to be polled, which is not done here. On A100 and H100
the power behind it is sampled during 25 % of the time only: windows must be seconds long (Yang, Adamek, Armour,
SC24, arXiv:2312.02741).

Source: NVIDIA, NVML API reference, nvmlDeviceGetTotalEnergyConsumption.
"""

from __future__ import annotations

import contextlib
import importlib
from typing import Any

import torch

from mep_neuro.accounting.sensors import SensorUnavailable


class NvmlSensor:
    """One GPU's counter. Closing it gives NVML back."""

    name = "nvml"

    def __init__(self, nvml: Any, handle: Any, title: str) -> None:
        self._nvml, self._handle, self._title = nvml, handle, title
        self._closed = False

    @property
    def covers(self) -> str:
        """The GPU by its name and UUID."""
        return f"GPU {self._title} with its memory, all programs on it, no CPU"

    def read(self) -> float:
        """Joules since the driver was loaded. Raises `SensorUnavailable`."""
        try:
            return float(self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._handle)) * 1e-3
        except self._nvml.NVMLError as error:
            raise SensorUnavailable(f"the energy counter of {self._title} does not answer: {error}") from error

    def close(self) -> None:
        """Give NVML back, once."""
        if not self._closed:
            self._closed = True
            with contextlib.suppress(self._nvml.NVMLError):
                self._nvml.nvmlShutdown()


def find_nvml(index: int | None) -> NvmlSensor | str:
    """The counter of the GPU that torch calls `cuda:index` (None: torch's current one), or why there is none."""
    try:
        nvml: Any = importlib.import_module("pynvml")
    except ImportError:
        return "the package nvidia-ml-py is not installed: pip install 'mep-neuro[measure]'"
    try:
        nvml.nvmlInit()
    except nvml.NVMLError_LibraryNotFound:
        return "no NVIDIA driver (libnvidia-ml.so is missing)"
    except nvml.NVMLError as error:
        return f"NVML does not start: {error}"
    try:
        found = _sensor(nvml, index)
    except nvml.NVMLError as error:
        found = f"NVML does not answer: {error}"
    if isinstance(found, str):
        with contextlib.suppress(nvml.NVMLError):
            nvml.nvmlShutdown()
    return found


def torch_uuid(index: int | None) -> str:
    """The UUID, "GPU-...", of torch's device `cuda:index`. Raises `RuntimeError` where torch has no such device.

    torch numbers the GPUs as CUDA_VISIBLE_DEVICES and CUDA_DEVICE_ORDER say, NVML as they stand on the PCI bus: a
    number means different GPUs to the two, a UUID the same.
    """
    try:
        uuid = str(torch.cuda.get_device_properties(index).uuid)
    except AssertionError as error:  # a torch without CUDA, or a number out of range
        raise RuntimeError(str(error)) from error
    return uuid if uuid.startswith(("GPU-", "MIG-")) else f"GPU-{uuid}"


def _sensor(nvml: Any, index: int | None) -> NvmlSensor | str:
    try:
        uuid = torch_uuid(index)
    except RuntimeError as error:
        number = "" if index is None else f" {index}"
        return f"torch has no CUDA device{number} here ({str(error).splitlines()[0]})"
    try:
        handle = nvml.nvmlDeviceGetHandleByUUID(uuid)
    except nvml.NVMLError as error:
        return f"NVML finds no GPU {uuid} ({error}; a MIG slice has no energy counter of its own)"
    title = f"{nvml.nvmlDeviceGetName(handle)} ({uuid})"
    if uuid.startswith("MIG-") or _sliced(nvml, handle):
        return f"{title} is cut into MIG slices, and its energy counter is one for all of them"
    sensor = NvmlSensor(nvml, handle, title)
    try:
        nvml.nvmlDeviceGetTotalEnergyConsumption(handle)
    except nvml.NVMLError_NotSupported:
        return f"{title} has no energy counter: Volta and newer GPUs have one"
    return sensor


def _sliced(nvml: Any, handle: Any) -> bool:
    """Whether the GPU is in MIG mode. GPUs before Ampere know no such mode."""
    try:
        current, _ = nvml.nvmlDeviceGetMigMode(handle)
    except nvml.NVMLError_NotSupported:
        return False
    return bool(current == nvml.NVML_DEVICE_MIG_ENABLE)
