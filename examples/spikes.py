"""Spiking neurons in Brian2: a sample's spikes through its phases, rates against the equilibrium, and what a pair of
spikes changes.

    free phase, then +beta and -beta, 0.2 s each; a rate counts in the second half of its phase

    python examples/spikes.py [spikes.png]

Tells how far the rates are from the equilibrium that `reference` finds, and draws where it is asked to. Needs
pip install "mep-neuro[brian2,report]".
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn

import mep_neuro as mep
from mep_neuro.data import load
from mep_neuro_brian2.recording import Trial, present

BETA = 0.5


def main(out: Path | None) -> None:
    """Record one handwritten digit, compare and draw."""
    data = load("digits")
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 32), nn.Hardtanh(0.0, 1.0), nn.Linear(32, 10), nn.Hardtanh(0.0, 1.0))
    with torch.no_grad():
        model[0].bias.fill_(0.5)
        model[2].bias.fill_(0.1)
    network = mep.EnergyNetwork.from_module(model)
    x, target = data.x_train[:1], torch.eye(10)[data.y_train[:1]]
    trial = present(network, x.double().numpy(), target.double().numpy(), beta=BETA)
    wanted = equilibria(network, x, target)
    error = np.abs(trial.states - wanted).max()
    print(f"{len(trial.seconds)} spikes in 0.6 s; the rates, from 0 to 1, are within {error:.4f} of the equilibrium")
    assert error < 0.02, error
    if out is not None:
        draw(trial, wanted, out)


def equilibria(network: mep.EnergyNetwork, x: torch.Tensor, target: torch.Tensor) -> np.ndarray:
    """(3, units): the free equilibrium and those under +beta and -beta, by the reference."""
    with mep.backend("reference", network, max_steps=200) as substrate:
        learner = mep.EquilibriumPropagation(substrate, beta=BETA)
        phases = learner.relax(x, target)
        return np.stack([np.concatenate(e.states, 1)[0] for e in (phases.free, *phases.nudged)])


def draw(trial: Trial, wanted: np.ndarray, out: Path) -> None:
    """The raster, the rates, and the change of a weight by the time between two spikes."""
    try:
        import matplotlib
    except ModuleNotFoundError:
        print('no picture: pip install "mep-neuro[report]" brings matplotlib', file=sys.stderr)
        return
    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, (raster, rates, pairs) = plt.subplots(1, 3, figsize=(13, 4), layout="constrained")
    raster.plot(trial.seconds, trial.neurons, "|", color="k", markersize=3)
    for k, name in enumerate(("free", "+beta", "-beta")):
        raster.axvspan(0.2 * k + 0.1, 0.2 * k + 0.2, color="C0", alpha=0.15)
        raster.text(0.2 * k + 0.02, 106, name)
    raster.set(xlabel="seconds", ylabel="neuron: 64 inputs, 32 hidden, 10 outputs", title="one sample's spikes")
    for k, name in enumerate(("free", "+beta", "-beta")):
        rates.plot(wanted[k], trial.states[k], ".", label=name)
    rates.plot([0, 1], [0, 1], color="k", linewidth=0.5)
    rates.set(xlabel="reference equilibrium", ylabel="rate / largest rate", title="rates in the windows")
    rates.legend()
    apart, change = trial.kernel
    for sign, name in ((1, "+beta"), (-1, "-beta")):
        pairs.plot(1e3 * apart, sign * change, label=name)
    pairs.set(xlabel="upper spike - lower spike (ms)", ylabel="change of C", title="one pair of spikes")
    pairs.legend()
    figure.savefig(out, dpi=120)
    print(f"wrote {out}")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
