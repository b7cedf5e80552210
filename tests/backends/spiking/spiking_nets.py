"""Networks for spiking neurons."""

from __future__ import annotations

import itertools

import numpy as np
import torch
from torch import nn

from mep_neuro import EnergyNetwork


def chain(*sizes: int, seed: int = 0, activation: type[nn.Module] | None = None) -> EnergyNetwork:
    """Dense couplings that contract, with hard limits at 0 and 1 by default, and units that are mostly between them."""
    layers: list[nn.Module] = []
    for below, above in itertools.pairwise(sizes):
        layers += [nn.Linear(below, above), nn.Hardtanh(0.0, 1.0) if activation is None else activation()]
    module = nn.Sequential(*layers).double()
    rng = np.random.default_rng(seed)
    steepest = {nn.Hardsigmoid: 1 / 6}.get(activation, 1.0)
    with torch.no_grad():
        for layer in module:
            if isinstance(layer, nn.Linear):
                weight = rng.standard_normal(tuple(layer.weight.shape))
                weight *= 0.45 / steepest / np.linalg.norm(weight, 2)
                layer.weight.copy_(torch.from_numpy(weight))
                layer.bias.copy_(torch.from_numpy(rng.uniform(0.1, 0.6, len(weight))))
    return EnergyNetwork.from_module(module)


def values(network: EnergyNetwork) -> dict[str, np.ndarray]:
    return {name: p.detach().numpy().copy() for name, p in network.parameters.items()}
