"""Four ways to train one network: EP with Adam, EP with Muon (`smep`), and backpropagation with SGD and with Adam.

By default on scikit-learn's digits, which need no download; `--data mnist --epochs 3` is MNIST, 784-256-10, in full
(`mep-neuro data fetch mnist`, or MEP_NEURO_DATA, the folder that holds it).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional as F

import mep_neuro as mep
from mep_neuro.batches import draw_batches
from mep_neuro.data import DataSet, load

Result = tuple[float, float]  # test accuracy, seconds of training


def ep_adam(model: nn.Sequential, data: DataSet, epochs: int, batch_size: int) -> Result:
    """`mep.fit`: EP fills `p.grad`, any torch optimizer steps."""
    with mep.backend("torch", mep.EnergyNetwork.from_module(model), seed=0, max_steps=30) as substrate:
        history = mep.fit(
            mep.EquilibriumPropagation(substrate, beta=0.5),
            (data.x_train, data.y_train),
            (data.x_test, data.y_test),
            optimizer=torch.optim.Adam(model.parameters(), lr=1e-3),
            epochs=epochs,
            batch_size=batch_size,
        )
    return history.last.test_accuracy or 0.0, sum(record.seconds for record in history.epochs)


def ep_muon(model: nn.Sequential, data: DataSet, epochs: int, batch_size: int) -> Result:
    """`mep.smep`: EP's gradient, orthogonalised, with the settling held contracting."""
    optimizer = mep.smep(model.parameters(), model=model, lr=0.01)
    started = time.perf_counter()
    for epoch in range(epochs):
        for x, y in draw_batches((data.x_train, data.y_train), batch_size, seed=epoch):
            optimizer.step(x=x, target=y)
    seconds = time.perf_counter() - started
    return accuracy(optimizer.gradient.learner.predict(data.x_test), data), seconds


def backprop_sgd(model: nn.Sequential, data: DataSet, epochs: int, batch_size: int) -> Result:
    """SGD with momentum."""
    return backprop(model, torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9), data, epochs, batch_size)


def backprop_adam(model: nn.Sequential, data: DataSet, epochs: int, batch_size: int) -> Result:
    """Adam as in `ep_adam`."""
    return backprop(model, torch.optim.Adam(model.parameters(), lr=1e-3), data, epochs, batch_size)


def backprop(
    model: nn.Sequential, optimizer: torch.optim.Optimizer, data: DataSet, epochs: int, batch_size: int
) -> Result:
    """Half the squared error, as EP's cost has it."""
    started = time.perf_counter()
    for epoch in range(epochs):
        for x, y in draw_batches((data.x_train, data.y_train), batch_size, seed=epoch):
            optimizer.zero_grad()
            loss = (model(x) - F.one_hot(y, 10)).square().sum(1).mean() / 2
            loss.backward()
            optimizer.step()
    seconds = time.perf_counter() - started
    with torch.no_grad():
        return accuracy(model(data.x_test), data), seconds


def accuracy(outputs: torch.Tensor, data: DataSet) -> float:
    """Share of the test set that is answered right."""
    return float((outputs.argmax(1) == data.y_test).float().mean())


Method = Callable[[nn.Sequential, DataSet, int, int], Result]
METHODS: dict[str, Method] = {
    "EP + Adam": ep_adam,
    "EP + Muon": ep_muon,
    "backprop + SGD": backprop_sgd,
    "backprop + Adam": backprop_adam,
}


def main() -> None:
    """Train four times from the same weights and print a row each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", choices=("digits", "mnist", "fashion-mnist"), default="digits")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch-size", type=int, default=64)
    given = parser.parse_args()
    data = load(given.data)
    inputs = data.x_train.size(1)

    found = {}
    print(f"{data.name}, {inputs}-256-10, {given.epochs} epochs of batches of {given.batch_size}, one seed")
    print(f"{'':<16} {'test accuracy':>13} {'seconds an epoch':>17}")
    for name, method in METHODS.items():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(inputs, 256), nn.ReLU(), nn.Linear(256, 10))
        found[name], seconds = method(model, data, given.epochs, given.batch_size)
        print(f"{name:<16} {found[name]:13.4f} {seconds / given.epochs:17.2f}")
    assert min(found.values()) >= 0.95, found
    assert found["EP + Muon"] >= max(found.values()) - 0.02, found


if __name__ == "__main__":
    main()
