"""The torch substrates by name: `torch`, on the module's own device, and `cuda`, which must be there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import torch

from mep_neuro.capabilities import Availability
from mep_neuro.errors import BackendUnavailable
from mep_neuro.network import EnergyNetwork
from mep_neuro.settling import DEFAULT_STEPS
from mep_neuro_torch.backend import TensorBackend


@final
class TorchBackend(TensorBackend):
    """Tensors on CPU or CUDA, in the module's own dtype and on its own device.

    device:    moves the module there first; None leaves it where it is.
    solver:    "even_odd" (default), "synchronous", "euler", "anderson", or for prediction_error "errors".
    max_steps: iterations of a phase, or (free, nudged).
    step_size: of the Euler solver, in (0, 1]; 0.5 where it is not given.
    tolerance: stop early once no sample changes by more, relative to beta |dC/ds| (free: to max(1, |outputs|)); costs
               one wait for the device an iteration. None (default) runs all steps without waiting.
    compile:   True or a `torch.compile` mode compiles the block minimisers.
    """

    @classmethod
    def availability(cls) -> Availability:
        return Availability(True)

    def __init__(
        self,
        network: EnergyNetwork,
        *,
        seed: int = 0,
        device: str | None = None,
        solver: str = "even_odd",
        max_steps: int | Sequence[int] = DEFAULT_STEPS,
        tolerance: float | None = None,
        step_size: float | None = None,
        compile: bool | str = False,
    ) -> None:
        if device is not None and torch.device(device).type == "cuda" and not torch.cuda.is_available():
            raise BackendUnavailable(f"device {device!r} is not there: {_why_no_cuda()}")
        self._open(network, seed, device, solver, max_steps, tolerance, step_size, compile)


@final
class CudaBackend(TensorBackend):
    """The torch backend on a CUDA device that must exist; options as in `TorchBackend`."""

    @classmethod
    def availability(cls) -> Availability:
        if torch.cuda.is_available():
            return Availability(True)
        return Availability(False, _why_no_cuda(), "use backend 'torch', which runs on the CPU")

    def __init__(
        self,
        network: EnergyNetwork,
        *,
        seed: int = 0,
        device: str = "cuda",
        solver: str = "even_odd",
        max_steps: int | Sequence[int] = DEFAULT_STEPS,
        tolerance: float | None = None,
        step_size: float | None = None,
        compile: bool | str = False,
    ) -> None:
        self._open(network, seed, device, solver, max_steps, tolerance, step_size, compile)


def _why_no_cuda() -> str:
    if torch.version.cuda is None:
        return f"this build of PyTorch ({torch.__version__}) has no CUDA"
    return "PyTorch finds no CUDA device"
