"""The same model, the same batch, two substrates: the gradients agree."""

from __future__ import annotations

import torch
from torch import nn

import mep_neuro as mep
from mep_neuro.data import load

BACKENDS = ("reference", "torch")


def main() -> None:
    """Estimate one gradient on each backend and set them side by side."""
    data = load("digits")
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 128), nn.Hardsigmoid(), nn.Linear(128, 10)).double()  # float64, as `reference`
    network = mep.EnergyNetwork.from_module(model)
    x, y = data.x_train[:32].double(), data.y_train[:32]

    gradients = {}
    for name in BACKENDS:
        with mep.backend(name, network, seed=0, max_steps=50) as substrate:  # the one line that differs
            gradients[name] = mep.EquilibriumPropagation(substrate).estimate(x, y)

    one, other = (gradients[name] for name in BACKENDS)
    for name in one:
        apart = float((one[name] - other[name]).norm() / one[name].norm())
        print(f"{name:<9} |gradient| = {float(one[name].norm()):.6f}, relative difference {apart:.1e}")
        assert apart < 1e-6, name


if __name__ == "__main__":
    main()
