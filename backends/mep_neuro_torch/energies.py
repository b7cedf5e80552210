"""The energies that the torch substrate can minimise, by name."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from mep_neuro.errors import OptionError
from mep_neuro.network import EnergyNetwork
from mep_neuro_torch.hopfield import Hopfield
from mep_neuro_torch.prediction_error import PredictionError
from mep_neuro_torch.relaxation import Blocks
from mep_neuro_torch.resistive import Resistive

ENERGIES = frozenset({"hopfield", "prediction_error", "resistive"})


def blocks(network: EnergyNetwork, compiled: bool | str) -> Blocks:
    """The network's energy. Raises `OptionError` where its minimisers cannot be compiled."""
    if network.energy_name == "hopfield":
        return Hopfield(network, _compiler(compiled))
    if compiled:
        raise OptionError(f"compile works on the hopfield energy; leave it out for {network.energy_name}")
    return Resistive(network) if network.energy_name == "resistive" else PredictionError(network)


def _compiler(compiled: bool | str) -> Callable[[Callable[..., Tensor]], Callable[..., Tensor]]:
    def wrap(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        if not compiled:
            return function
        mode = compiled if isinstance(compiled, str) else None
        return torch.compile(function, mode=mode)

    return wrap
