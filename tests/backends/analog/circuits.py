"""Small networks of resistors for the tests of circuits."""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch import Tensor, nn

import mep_neuro as mep


def network(
    *sizes: int,
    hidden: Any = mep.Diodes,
    gain: float = 8.0,
    end: Any = None,
    bias: bool = True,
    dtype: torch.dtype = torch.float64,
) -> mep.EnergyNetwork:
    """sizes[0] inputs, doubled; conductances off 0, and currents of both signs."""
    layers: list[nn.Module] = [mep.SignedInput(gain)]
    for n, (below, above) in enumerate(itertools.pairwise([2 * sizes[0], *sizes[1:]])):
        layers += [hidden()] if n else []
        layers.append(nn.Linear(below, above, bias=bias))
    module = nn.Sequential(*layers, *([end()] if end else [])).to(dtype)
    rng = torch.Generator().manual_seed(0)
    mep.resistive_init_(module, generator=rng)
    with torch.no_grad():
        for name, p in module.named_parameters():
            if name.endswith("bias"):
                p.uniform_(-0.3, 0.3, generator=rng)
            else:
                p.add_(0.05)
    return mep.EnergyNetwork.from_module(module, energy="resistive")


def data(inputs: int, outputs: int, samples: int = 4) -> tuple[Tensor, Tensor]:
    """Inputs of both signs and one-hot targets."""
    x = torch.randn(samples, inputs, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return x, torch.eye(outputs, dtype=torch.float64)[torch.arange(samples) % outputs]


def opened(net: mep.EnergyNetwork, **options: Any) -> Any:
    """A circuit of it, programmed."""
    substrate = mep.backend("analog", net, **{"max_steps": 3000, "tolerance": 1e-13, **options})
    substrate.program({name: p.detach() for name, p in net.parameters.items()})
    return substrate
