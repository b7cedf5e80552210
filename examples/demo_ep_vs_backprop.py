"""Equilibrium propagation beside backpropagation: the same model, initial weights, batches and epochs.

`--plot accuracy.png` draws the accuracies by epoch; `--data mnist` takes MNIST in place of the digits.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import mep_neuro as mep
from mep_neuro.batches import draw_batches
from mep_neuro.data import DataSet, load

Step = Callable[[Tensor, Tensor], object]
Predict = Callable[[Tensor], Tensor]


def build(inputs: int) -> nn.Sequential:
    """The model, with the same initial weights each time."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(inputs, 256), nn.ReLU(), nn.Linear(256, 10))


def by_ep(model: nn.Sequential) -> tuple[Step, Predict]:
    """`smep`: the gradient from settling."""
    optimizer = mep.smep(model.parameters(), model=model, mode="ep", lr=0.01)
    return lambda x, y: optimizer.step(x=x, target=y), optimizer.gradient.learner.predict


def by_smep_backprop(model: nn.Sequential) -> tuple[Step, Predict]:
    """`smep` with the gradient from autograd, all else equal: update, bound, learning rate."""
    return by_backprop(model, mep.smep(model.parameters(), model=model, mode="backprop", lr=0.01))


def by_adam(model: nn.Sequential) -> tuple[Step, Predict]:
    """What most people would run."""
    return by_backprop(model, torch.optim.Adam(model.parameters(), lr=1e-3))


def by_backprop(model: nn.Sequential, optimizer: torch.optim.Optimizer) -> tuple[Step, Predict]:
    """Half the squared error, as EP's cost has it."""

    def step(x: Tensor, y: Tensor) -> None:
        optimizer.zero_grad()
        loss = (model(x) - F.one_hot(y, 10)).square().sum(1).mean() / 2
        loss.backward()
        optimizer.step()

    return step, model


RUNS = {"smep, EP": by_ep, "smep, backprop": by_smep_backprop, "Adam, backprop": by_adam}


def train(step: Step, predict: Predict, data: DataSet, epochs: int, batch_size: int) -> tuple[list[float], float]:
    """Test accuracies, one an epoch, and the seconds that training alone took."""
    accuracies, seconds = [], 0.0
    for epoch in range(epochs):
        started = time.perf_counter()
        for x, y in draw_batches((data.x_train, data.y_train), batch_size, seed=epoch):
            step(x, y)
        seconds += time.perf_counter() - started
        with torch.no_grad():
            accuracies.append(float((predict(data.x_test).argmax(1) == data.y_test).float().mean()))
    return accuracies, seconds


def draw(path: Path, name: str, curves: dict[str, list[float]]) -> None:
    """The accuracies by epoch, as an image."""
    from matplotlib.figure import Figure  # here, because only --plot needs it: pip install 'mep-neuro[report]'

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.add_subplot(xlabel="epoch", ylabel="test accuracy", title=f"{name}, the same weights and batches")
    for label, accuracies in curves.items():
        axes.plot(range(1, len(accuracies) + 1), accuracies, marker="o", label=label)
    axes.locator_params(axis="x", integer=True)
    axes.legend()
    figure.savefig(path)
    print(f"plot: {path}")


def main() -> None:
    """Train the three, print the table, draw the plot."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", choices=("digits", "mnist", "fashion-mnist"), default="digits")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--plot", type=Path, help="an image file to write")
    given = parser.parse_args()
    data = load(given.data)

    for method in RUNS.values():  # the first call of an operation costs more than all others: keep it out of the times
        step, _ = method(build(data.x_train.size(1)))
        step(data.x_train[: given.batch_size], data.y_train[: given.batch_size])
    curves, times = {}, {}
    for label, method in RUNS.items():
        step, predict = method(build(data.x_train.size(1)))
        curves[label], times[label] = train(step, predict, data, given.epochs, given.batch_size)

    print(f"{data.name}, {given.epochs} epochs of batches of {given.batch_size}")
    print(f"{'':<16} {'test accuracy':>13} {'seconds':>8} {'x Adam':>7}")
    for label, accuracies in curves.items():
        ratio = times[label] / times["Adam, backprop"]
        print(f"{label:<16} {accuracies[-1]:13.4f} {times[label]:8.2f} {ratio:7.1f}")
    if given.plot is not None:
        draw(given.plot, data.name, curves)
    behind = max(accuracies[-1] for accuracies in curves.values()) - curves["smep, EP"][-1]
    assert behind <= 0.02, f"EP is {behind:.4f} behind the best"


if __name__ == "__main__":
    main()
