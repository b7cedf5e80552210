"""L3, a real task: the substrate learns to read handwritten digits."""

from __future__ import annotations

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from mep_neuro.modules import SignedInput, resistive_init_
from mep_neuro.network import EnergyNetwork
from mep_neuro.propagation import EquilibriumPropagation
from mep_neuro.testing.bench import Bench
from mep_neuro.testing.law import cases, law
from mep_neuro.testing.networks import ACTIVATIONS

BAR = 0.9
"""Accuracy on images that were not trained on; chance is 0.1."""

TRAIN, TEST, EPOCHS, BATCH = 1000, 400, 5, 50


@law("L3", cases)
def digits_are_learnt(bench: Bench) -> None:
    """64-32-10 reads 0.90 of 400 unseen digits after 5 epochs of 1,000, with the backend's own defaults and Adam.

    Resistors get 10 epochs.
    """
    images, labels = (torch.from_numpy(np.asarray(a)) for a in load_digits(return_X_y=True))
    order = torch.from_numpy(np.random.default_rng(0).permutation(len(images)))
    x, y = (images / 16).double()[order], labels[order]
    for case in bench.plain():
        module = _resistors(case.family) if case.energy == "resistive" else _model(case.family, case.bounded)
        network = EnergyNetwork.from_module(module, energy=case.energy)
        with bench.kind(network, seed=0, **bench.options) as substrate:
            beta = 0.5 * min(1.0, network.steepest_negative_beta("squared_error"))
            nudging = "centered" if bench.capabilities.negative_nudging else "one_sided"
            learner = EquilibriumPropagation(substrate, beta=beta, nudging=nudging)
            optimizer = torch.optim.Adam(module.parameters(), lr=0.003 if case.bounded else 0.01)
            for _ in range(EPOCHS * (2 if case.energy == "resistive" else 1)):
                for start in range(0, TRAIN, BATCH):
                    learner.estimate(
                        x[start : start + BATCH].to(network.device), y[start : start + BATCH].to(network.device)
                    )
                    optimizer.step()
            accuracy = _accuracy(learner, x[-TEST:], y[-TEST:])
        if accuracy < BAR:
            raise AssertionError(f"on {case.energy}, {case.family}: accuracy is {accuracy:.3f}; the bar is {BAR:g}")


def _model(family: str, bounded: bool) -> nn.Sequential:
    act = ACTIVATIONS[family]
    module = nn.Sequential(nn.Linear(64, 32), act(), nn.Linear(32, 10), *([act()] if bounded else [])).double()
    rng = np.random.default_rng(0)
    with torch.no_grad():
        for p in module.parameters():
            bound = 64**-0.5 if p.dim() > 1 else 0.0
            p.copy_(torch.from_numpy(rng.uniform(-bound, bound, tuple(p.shape))))
        next(p for p in module.parameters() if p.dim() == 1).fill_(0.5 if family == "ClippedLinear" else 0.0)
    return module


def _resistors(family: str) -> nn.Sequential:
    module = nn.Sequential(SignedInput(8.0), nn.Linear(128, 32), ACTIVATIONS[family](), nn.Linear(32, 10))
    resistive_init_(module, scale=3.0, generator=torch.Generator().manual_seed(0))
    return module.double()


def _accuracy(learner: EquilibriumPropagation, x: Tensor, y: Tensor) -> float:
    parts = [learner.predict(part.to(learner.network.device)).argmax(1).cpu() for part in torch.split(x, BATCH)]
    return float((torch.cat(parts) == y).double().mean())
