"""The suite's small networks: a few units each, with parameters from a fixed seed, in float64.

Their loops contract (a synchronous sweep shrinks every difference), so that each has one free equilibrium, whatever the
start; and no unit at rest lies on a corner of its activation, so that gradients exist.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from mep_neuro.capabilities import Capabilities
from mep_neuro.network import EnergyNetwork

ENERGIES = ("hopfield", "prediction_error")
"""The energies that the suite has networks for."""

ACTIVATIONS: Mapping[str, Callable[[], nn.Module]] = {
    "ClippedLinear": lambda: nn.Hardtanh(0.0, 1.0),
    "Logistic": nn.Sigmoid,
}
"""One activation of each family, bounded, so that spikes and analog devices can hold it too."""

STEEPEST: Mapping[str, float] = {"ClippedLinear": 1.0, "Logistic": 0.25}

CLASSES = 3
SAMPLES = 3

GAIN = 0.45
"""|f_l| times the steepest slope of rho; two of them, one to each neighbour, stay below 1."""


@dataclass(frozen=True)
class Case:
    """One network of the suite with a cost.

    layout: "dense" 4-6-5-3, "single" 4-3, "deep" 4-6-6-6-6-3, "conv" (1, 6, 6) with two convolutions, "dropout" dense,
            "unbounded" dense with ReLU.
    family: of the hidden activations; of the outputs too where `bounded`, which are linear otherwise.
    """

    energy: str
    layout: str = "dense"
    family: str = "ClippedLinear"
    cost: str = "squared_error"
    bounded: bool = False

    def __str__(self) -> str:
        ends = "bounded" if self.bounded else "linear"
        return f"{self.energy}, {self.layout}, {self.family}, {ends} outputs, {self.cost}"


def cases(held: Capabilities) -> Iterator[Case]:
    """The cases within a backend's declared capabilities: each energy, activation family, cost and layout."""
    families = [f for f in ACTIVATIONS if f in held.activations]
    ends = [False, True] if "ClippedLinear" in families else [True]
    for energy in (e for e in ENERGIES if e in held.energies):
        if "Dense" in held.couplings:
            for family in families:
                yield from (Case(energy, "dense", family, bounded=bounded) for bounded in ends)
            for cost in sorted(held.costs - {"squared_error"}):
                yield Case(energy, "dense", families[0], cost)
        if {"Dense", "Conv2d", "Flatten"} <= held.couplings:
            yield Case(energy, "conv", families[0], bounded=ends[0])


def build(case: Case, held: Capabilities) -> EnergyNetwork:
    """The case's network on a module of its own, in float64."""
    module = nn.Sequential(*_layers(case, held)).double()
    rng = np.random.default_rng(2024)
    first = True
    for layer in module:
        if isinstance(layer, nn.Linear | nn.Conv2d):
            _fill(layer, rng, GAIN / STEEPEST[case.family] * (2 if first else 1), held)
            first = False
    shape = (1, 6, 6) if case.layout == "conv" else (4,)
    return EnergyNetwork.from_module(module.eval(), energy=case.energy, input_shape=shape)


def samples(network: EnergyNetwork, count: int = SAMPLES) -> tuple[Tensor, Tensor]:
    """x in [0, 1], (count, *inputs), and one-hot targets, (count, classes)."""
    rng = np.random.default_rng(7)
    x = torch.from_numpy(rng.random((count, *network.input_shape)))
    return x, torch.eye(CLASSES, dtype=torch.float64)[torch.arange(count) % CLASSES]


def _layers(case: Case, held: Capabilities) -> list[nn.Module]:
    act = nn.ReLU if case.layout == "unbounded" else ACTIVATIONS[case.family]
    end = [act()] if case.bounded else []
    match case.layout:
        case "single":
            return [nn.Linear(4, CLASSES), *end]
        case "deep":
            hidden = [m for width in (4, 6, 6, 6) for m in (nn.Linear(width, 6), act())]
            return [*hidden, nn.Linear(6, CLASSES), *end]
        case "conv" if "AvgPool2d" in held.couplings:
            return [
                *(nn.Conv2d(1, 2, 3, padding=1), nn.AvgPool2d(2), act()),  # (2, 3, 3)
                *(nn.AvgPool2d(2, stride=1), nn.Conv2d(2, 4, 2, stride=2, padding=1, bias=False), act()),  # (4, 2, 2)
                *(nn.Flatten(), nn.Linear(16, CLASSES), *end),
            ]
        case "conv":
            return [
                *(nn.Conv2d(1, 2, 3, stride=2, padding=1), act()),  # (2, 3, 3)
                *(nn.Conv2d(2, 4, 2, bias=False), act()),  # (4, 2, 2)
                *(nn.Flatten(), nn.Linear(16, CLASSES), *end),
            ]
    drop = [nn.Dropout(0.5)] if case.layout == "dropout" else []
    return [nn.Linear(4, 6), act(), *drop, nn.Linear(6, 5), act(), nn.Linear(5, CLASSES), *end]


def _fill(layer: nn.Linear | nn.Conv2d, rng: np.random.Generator, gain: float, held: Capabilities) -> None:
    """Random weights whose product stretches by at most `gain`, and biases that keep most units off their limits."""
    weight = rng.standard_normal(tuple(layer.weight.shape))
    matrix = weight.reshape(len(weight), -1)
    stretch = float(np.linalg.norm(matrix, 2))
    if isinstance(layer, nn.Conv2d):  # each input is in at most so many windows
        stretch *= float(np.prod([-(-k // s) for k, s in zip(layer.kernel_size, layer.stride, strict=True)])) ** 0.5
    weight *= gain / stretch
    bias = rng.uniform(0.2, 0.6, len(weight)) - 0.2 * (weight.reshape(len(weight), -1).sum(1) > 0)
    if held.weight_range is not None:
        limit = 0.9 * min(abs(end) for end in held.weight_range)
        weight *= min(1.0, limit / np.abs(weight).max())
        bias = bias.clip(-limit, limit)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(weight))
        if layer.bias is not None:
            layer.bias.copy_(torch.from_numpy(bias))
