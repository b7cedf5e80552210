"""The suite's small networks: a few units each, with parameters from a fixed seed, in float64.

Their loops contract (a synchronous sweep shrinks every difference), so that each has one free equilibrium, whatever the
start; and no unit at rest lies on a corner of its activation, so that gradients exist. Those of resistors have
conductances of about 1 S in all at a node, none of them near 0.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from mep_neuro.capabilities import Capabilities
from mep_neuro.modules import Diodes, SignedInput
from mep_neuro.network import EnergyNetwork

ENERGIES = ("hopfield", "prediction_error", "resistive")
"""The energies that the suite has networks for."""

ACTIVATIONS: Mapping[str, Callable[[], nn.Module]] = {
    "ClippedLinear": lambda: nn.Hardtanh(0.0, 1.0),
    "Logistic": nn.Sigmoid,
    "Rectifiers": Diodes,
}
"""One activation of each family; of the first two a bounded one, so that spikes and analog devices can hold it too."""

FAMILIES: Mapping[str, Sequence[str]] = {
    "hopfield": ("ClippedLinear", "Logistic"),
    "prediction_error": ("ClippedLinear", "Logistic"),
    "resistive": ("Rectifiers", "ClippedLinear"),
}
"""The activation families of each energy, the plainest first."""

STEEPEST: Mapping[str, float] = {"ClippedLinear": 1.0, "Logistic": 0.25}

CLASSES = 3
SAMPLES = 3

GAIN = 0.45
"""|f_l| times the steepest slope of rho; two of them, one to each neighbour, stay below 1."""


@dataclass(frozen=True)
class Case:
    """One network of the suite with a cost.

    layout: "dense" 4-6-5-3, "single" 4-3, "deep" 4-6-6-6-6-3, "conv" (1, 6, 6) with two convolutions, "dropout" dense,
            "unbounded" dense with ReLU. Resistors have "dense", "single" and "deep", with inputs of both signs where
            the backend holds these.
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

    @property
    def exists(self) -> bool:
        """Whether the energy can hold such a network."""
        fits = self.energy != "resistive" or self.layout in ("dense", "single", "deep")
        return fits and self.family in FAMILIES[self.energy]


def cases(held: Capabilities) -> Iterator[Case]:
    """The cases within a backend's declared capabilities: each energy, activation family, cost and layout."""
    ends = [False, True] if "ClippedLinear" in held.activations else [True]
    for energy in (e for e in ENERGIES if e in held.energies):
        families = [f for f in FAMILIES[energy] if f in held.activations]
        if "Dense" in held.couplings:
            for family in families:
                yield from (Case(energy, "dense", family, bounded=bounded) for bounded in ends)
            for cost in sorted(held.costs - {"squared_error"}):
                yield from (Case(energy, "dense", family, cost) for family in families[:1])
        if {"Dense", "Conv2d", "Flatten"} <= held.couplings:
            conv = (Case(energy, "conv", family, bounded=ends[0]) for family in families[:1])
            yield from (case for case in conv if case.exists)


def build(case: Case, held: Capabilities) -> EnergyNetwork:
    """The case's network on a module of its own, in float64."""
    module = nn.Sequential(*_layers(case, held)).double()
    rng = np.random.default_rng(1 if case.energy == "resistive" else 2024)
    first = True
    for layer in module:
        if isinstance(layer, nn.Linear | nn.Conv2d):
            if case.energy == "resistive":
                _fill_conductances(layer, rng, held)
            else:
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
    if case.energy == "resistive":
        widths = {"single": [], "deep": [6, 6, 6, 6]}.get(case.layout, [6, 5])
        doubled = "Signed" in held.couplings
        sizes = [8 if doubled else 4, *widths, CLASSES]
        layers = [m for pair in zip(sizes, widths, strict=False) for m in (nn.Linear(*pair), act())]
        return [*([SignedInput(4.0)] if doubled else []), *layers, nn.Linear(sizes[-2], CLASSES), *end]
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


def _fill_conductances(layer: nn.Linear | nn.Conv2d, rng: np.random.Generator, held: Capabilities) -> None:
    """Random conductances, 1 S in all from below to each node, none less than a fifth of another; and currents that
    make most diodes of both kinds conduct, and keep nodes off the corners of all."""
    weight = rng.uniform(0.2, 1.0, tuple(layer.weight.shape))
    weight /= weight.sum(1, keepdims=True)
    if held.weight_range is not None:
        weight *= min(1.0, 0.9 * held.weight_range[1] / weight.max())
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(weight))
        if layer.bias is not None:
            signs = np.where(np.arange(len(weight)) < (len(weight) + 1) // 2, 1.0, -1.0)
            layer.bias.copy_(torch.from_numpy(signs * rng.uniform(0.2, 0.5, len(weight))))
