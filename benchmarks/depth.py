"""EP's gradient against autograd's in deep networks, and XOR: the rows of VALIDATION_RESULTS.md without a data set.

    python benchmarks/depth.py [--threads N]

Dense ReLU layers of width 64 and a read-out of 10 from He's initial weights, 32 random samples, squared error, float32.
EP with the prediction_error energy, its `errors` solver (8 iterations) and centered nudging. For every layer's weight:
cosine with autograd's gradient, and the ratio of norms. Times are of one gradient, medians of interleaved repetitions
in one process. Writes benchmarks/results/depth.json and xor.json.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import mep_neuro as mep

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "examples"))
import xor
from validation import SEEDS, about

RESULTS = Path(__file__).resolve().parent / "results"
ROWS = ({"layers": 20, "beta": 1e-4, "bar": 0.99}, {"layers": 100, "beta": 1e-6, "bar": 0.95})
WIDTH, SAMPLES, STEPS, REPEATS = 64, 32, 8, 30


def net(layers: int, seed: int) -> tuple[nn.Sequential, Tensor, Tensor]:
    """The network and a batch."""
    torch.manual_seed(seed)
    modules: list[nn.Module] = []
    for level in range(layers):
        linear = nn.Linear(WIDTH, WIDTH if level < layers - 1 else 10)
        nn.init.kaiming_normal_(linear.weight, nonlinearity="relu")
        modules += [linear, nn.ReLU()]
    return nn.Sequential(*modules[:-1]), torch.rand(SAMPLES, WIDTH), torch.randint(10, (SAMPLES,))


def seconds(functions: list[Callable[[], Any]]) -> list[float]:
    """Median time of each, taken in turn."""
    times: list[list[float]] = [[] for _ in functions]
    for _ in range(REPEATS):
        for function, found in zip(functions, times, strict=True):
            started = time.perf_counter()
            function()
            found.append(time.perf_counter() - started)
    return [statistics.median(found) for found in times]


def compared(row: dict[str, Any], seed: int) -> dict[str, float]:
    """The worst layer's cosine and ratio of norms, and how many backprop gradients one of EP takes."""
    module, x, y = net(row["layers"], seed)
    network = mep.EnergyNetwork.from_module(module, energy="prediction_error")
    learner = mep.EquilibriumPropagation(
        mep.backend("torch", network, solver="errors", max_steps=STEPS), beta=row["beta"]
    )

    def backprop() -> None:
        module.zero_grad()
        (0.5 * (module(x) - F.one_hot(y, 10)).square().sum(1)).mean().backward()

    backprop()
    true = {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None and p.dim() == 2}
    found = learner.estimate(x, y)
    cosines = [float(F.cosine_similarity(found[n].flatten(), g.flatten(), 0)) for n, g in true.items()]
    ratios = [float(found[n].norm() / g.norm()) for n, g in true.items()]
    ep, bp = seconds([lambda: learner.estimate(x, y), backprop])
    return {"cosine": min(cosines), "least_norm": min(ratios), "largest_norm": max(ratios), "time": ep / bp}


def solved(seed: int) -> bool:
    """Whether XOR is right on all four inputs after the example's steps."""
    return bool(((xor.train(seed) > 0.5) == (xor.Y > 0.5)).all())


def main() -> None:
    """Write both files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    torch.set_num_threads(parser.parse_args().threads)
    rows = [row | {"seeds": SEEDS, "runs": [compared(row, seed) for seed in SEEDS]} for row in ROWS]
    answers = {"steps": xor.STEPS, "seeds": 20, "solved": sum(solved(seed) for seed in range(20))}
    for name, found in (("depth", {"rows": rows}), ("xor", answers)):
        (RESULTS / f"{name}.json").write_text(json.dumps({**found, **about()}, indent=2) + "\n", encoding="utf-8")
        print(found)


if __name__ == "__main__":
    main()
