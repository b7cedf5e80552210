"""Trains what docs/benchmarks/VALIDATION_RESULTS.md reports, and writes benchmarks/results/validation/ROW.json.

    python benchmarks/validation.py [ROW ...] [--threads N]

Each row trains EP and its twins by backprop on the same data, sizes, batches, epochs, cost, linear decay of the
learning rate and seeds, and tests once at the end. Learning rates were chosen on 5,000 held-out training images, seed 0
(`--tune` does it again and prints every candidate); the test sets were not used for that.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import platform
import statistics
import subprocess
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import mep_neuro as mep
from mep_neuro.data import DataSet, load

RESULTS = Path(__file__).resolve().parent / "results" / "validation"
SEEDS = (0, 1, 2)

Make = Callable[[nn.Sequential, float, dict[str, Any]], torch.optim.Optimizer]

METHODS: dict[str, tuple[str, Make]] = {
    "smep": ("ep", lambda m, lr, ep: mep.smep(m.parameters(), m, lr=lr, **ep)),
    "smep, mode='backprop'": (
        "backprop",
        lambda m, lr, ep: mep.smep(m.parameters(), m, mode="backprop", lr=lr, gamma=ep.get("gamma", 0.95)),
    ),
    "muon_backprop": ("backprop", lambda m, lr, ep: mep.muon_backprop(m.parameters(), m, lr=lr)),
    "torch.optim.Muon + Adam": ("backprop", lambda m, lr, ep: TorchMuon(m, lr)),
    "SGD, momentum 0.9": ("backprop", lambda m, lr, ep: torch.optim.SGD(m.parameters(), lr=lr, momentum=0.9)),
    "Adam": ("backprop", lambda m, lr, ep: torch.optim.Adam(m.parameters(), lr=lr)),
}
"""How p.grad is made, and the optimizer of a model at a learning rate, with a row's settings of EP."""

CANDIDATES = {
    "smep": (0.005, 0.01, 0.02),
    "smep, mode='backprop'": (0.005, 0.01, 0.02),
    "muon_backprop": (0.005, 0.01, 0.02),
    "torch.optim.Muon + Adam": (0.005, 0.01, 0.02),
    "SGD, momentum 0.9": (0.01, 0.03, 0.1),
    "Adam": (0.0005, 0.001, 0.003),
}

SQUARED = {"loss_type": "mse", "settle_steps": 10}
"""smep's own energy, Hopfield, and its bound."""
ENTROPY = {"loss_type": "cross_entropy", "energy": "prediction_error", "gamma": None, "settle_steps": 6}
"""A bound would hold the logits flat; prediction_error settles without one."""

ROWS: dict[str, dict[str, Any]] = {
    "mnist_256": {"data": "mnist", "hidden": 256, "epochs": 3, "batch": 64, "bar": 0.973, "ep": SQUARED},
    "mnist_512": {
        "data": "mnist",
        "hidden": 512,
        "epochs": 10,
        "batch": 128,
        "bar": 0.982,
        "ep": ENTROPY,
        "candidates": {
            "smep": [0.005, 0.01],
            "smep, mode='backprop'": [0.005, 0.01],
            "muon_backprop": [0.005, 0.01],
            "torch.optim.Muon + Adam": [0.005, 0.01],
            "SGD, momentum 0.9": [0.03, 0.1],
            "Adam": [0.0005, 0.001],
        },
    },
    "fashion_256": {"data": "fashion-mnist", "hidden": 256, "epochs": 3, "batch": 64, "bar": 0.875, "ep": SQUARED},
}


class TorchMuon(torch.optim.Optimizer):
    """torch.optim.Muon on the matrices but the read-out's, and Adam on the rest, stepped together."""

    def __init__(self, model: nn.Sequential, lr: float) -> None:
        matrices = [p for p in model.parameters() if p.dim() == 2][:-1]
        rest = [p for p in model.parameters() if all(p is not q for q in matrices)]
        self.parts = [torch.optim.Muon(matrices, lr=lr, momentum=0.9, weight_decay=5e-4), torch.optim.Adam(rest, lr=lr)]
        super().__init__(model.parameters(), {"lr": lr})

    def step(self, closure: Any = None) -> None:
        """Both, at this optimizer's learning rate."""
        for part in self.parts:
            part.param_groups[0]["lr"] = self.param_groups[0]["lr"]
            part.step()


def model_of(hidden: int, seed: int) -> nn.Sequential:
    """784-hidden-10 with ReLU."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(784, hidden), nn.ReLU(), nn.Linear(hidden, 10))


def loss_of(row: dict[str, Any], outputs: Tensor, y: Tensor) -> Tensor:
    """The row's cost, the mean over the batch."""
    if row["ep"]["loss_type"] == "cross_entropy":
        return F.cross_entropy(outputs, y)
    return (0.5 * (outputs - F.one_hot(y, 10)).square().sum(1)).mean()


def trained(row: dict[str, Any], data: DataSet, method: str, lr: float, seed: int) -> tuple[float, float]:
    """(test accuracy, seconds of training)."""
    model, (mode, make) = model_of(row["hidden"], seed), METHODS[method]
    optimizer, batch = make(model, lr, row["ep"]), row["batch"]
    steps = row["epochs"] * -(-len(data.x_train) // batch)
    decay = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: max(0.0, 1 - step / steps))
    generator, started = torch.Generator().manual_seed(seed), time.perf_counter()
    for _ in range(row["epochs"]):
        for rows in torch.randperm(len(data.x_train), generator=generator).split(batch):
            x, y = data.x_train[rows], data.y_train[rows]
            if isinstance(optimizer, mep.CompositeOptimizer) and mode == "ep":
                optimizer.step(x=x, target=y)
            else:
                optimizer.zero_grad()
                loss_of(row, model(x), y).backward()
                optimizer.step()
            decay.step()
    seconds = time.perf_counter() - started
    if isinstance(optimizer, mep.CompositeOptimizer) and isinstance(optimizer.gradient, mep.EPGradient):
        accuracy = mep.evaluate(optimizer.gradient.learner, (data.x_test, data.y_test))[1]
        return float(accuracy or 0.0), seconds
    with torch.no_grad():
        return float((model(data.x_test).argmax(1) == data.y_test).float().mean()), seconds


def tuned(row: dict[str, Any], method: str) -> list[tuple[float, float | None]]:
    """(learning rate, accuracy on held-out training images) of each candidate, seed 0; one alone is not tried."""
    candidates = row.get("candidates", {}).get(method, CANDIDATES[method])
    if len(candidates) == 1:
        return [(candidates[0], None)]
    data = load(row["data"]).hold_out(5000)
    return [(lr, trained(row, data, method, lr, 0)[0]) for lr in candidates]


def checksum(data: DataSet) -> str:
    """SHA-256 of the images and labels as they were trained on."""
    digest = hashlib.sha256()
    for part in (data.x_train, data.y_train, data.x_test, data.y_test):
        digest.update(part.contiguous().numpy().tobytes())
    return digest.hexdigest()


def commit() -> str:
    """The commit that was checked out, with + for changes on top of it."""
    run = ("git", "-C", str(RESULTS.parent))
    head = subprocess.run([*run, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=False)
    changed = subprocess.run([*run, "status", "--porcelain"], capture_output=True, text=True, check=False)
    return head.stdout.strip() + ("+" if changed.stdout.strip() else "")


def about() -> dict[str, Any]:
    """What a result was made with."""
    return {
        "versions": {"mep-neuro": mep.__version__, "torch": torch.__version__, "numpy": version("numpy")},
        "machine": f"{platform.machine()}, {torch.get_num_threads()} thread(s)",
        "commit": commit(),
    }


def write(name: str, row: dict[str, Any], methods: list[str]) -> None:
    """Choose learning rates, train on three seeds, and write the row's file after every method."""
    data, document = load(row["data"]), dict[str, Any]()
    path = RESULTS / f"{name}.json"
    for method in methods:
        candidates = tuned(row, method)
        lr = max(candidates, key=lambda c: c[1] or 0.0)[0]
        runs = [trained(row, data, method, lr, seed) for seed in SEEDS]
        accuracies = [a for a, _ in runs]
        document[method] = {
            "lr": lr,
            "held_out": [{"lr": c, "accuracy": a} for c, a in candidates],
            "accuracy": accuracies,
            "median": statistics.median(accuracies),
            "seconds": [s for _, s in runs],
        }
        print(name, method, f"lr {lr:g}", [f"{a:.4f}" for a in accuracies], flush=True)
        whole = {
            "row": row,
            "seeds": SEEDS,
            "checksum": checksum(data),
            "samples": [len(data.x_train), len(data.x_test)],
            **about(),
            "methods": document,
        }
        RESULTS.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(whole, indent=2) + "\n", encoding="utf-8")


def main() -> None:
    """Run the rows asked for, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", choices=[*ROWS, []], help="left out: all")
    parser.add_argument("--methods", nargs="*", choices=list(METHODS), default=list(METHODS))
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    for name in given.rows or ROWS:
        write(name, ROWS[name], given.methods)


if __name__ == "__main__":
    main()
