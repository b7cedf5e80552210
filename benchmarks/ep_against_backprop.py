"""Time and memory of one training step by equilibrium propagation, against plain backprop on the same layers.

    python benchmarks/ep_against_backprop.py [--out FILE.json] [--data-dir DIR] [--threads N] [--rounds N] [--quick]

Both train the same sizes with the same optimizer (Adam, fused) at batch 64 on MNIST's training images, step by step in
turn in one process; medians are compared. EP is centered, and settles for the sweeps of least work that bring the
cosine of every parameter's gradient with the fully settled one to 0.999, on a batch that is not trained on. How many
that takes depends on the activation and on the weights, so each row names both: `initial`, as PyTorch draws them, and
`trained`, after 500 steps. Peak memory is the most that one step allocates at a time, gradients included, by PyTorch's
profiler.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

import mep_neuro as mep
from mep_neuro.activations import activation_module
from mep_neuro.data import load
from mep_neuro.files import write_json_atomically

BATCH, BETA, FULLY_SETTLED, ALIKE = 64, 0.5, 300, 0.999
MOST_WORK = 160
BARS = {"784-512-10": 1.3, "784-512-512-10": 2.5}


def model_of(sizes: list[int], activation: str) -> nn.Sequential:
    """Linear layers with an activation between them."""
    torch.manual_seed(0)
    parts = list[nn.Module]()
    for i, (inputs, outputs) in enumerate(itertools.pairwise(sizes)):
        parts += [activation_module(activation)] if i else []
        parts.append(nn.Linear(inputs, outputs))
    return nn.Sequential(*parts)


def learner_on(model: nn.Sequential, steps: tuple[int, int]) -> mep.EquilibriumPropagation:
    """A learner on the torch backend that runs so many sweeps."""
    network = mep.EnergyNetwork.from_module(model)
    return mep.EquilibriumPropagation(mep.backend("torch", network, max_steps=steps), beta=BETA)


def worst_cosine(gradient: dict[str, torch.Tensor], settled: dict[str, torch.Tensor]) -> float:
    """The least cosine of a parameter's gradient with the settled one."""
    return min(float(F.cosine_similarity(settled[n].flatten(), gradient[n].flatten(), dim=0)) for n in settled)


def fewest_sweeps(model: nn.Sequential, x: torch.Tensor, y: torch.Tensor) -> tuple[tuple[int, int], float]:
    """The (free, nudged) sweeps of least work whose gradient is alike enough, and its cosine."""
    settled = learner_on(model, (FULLY_SETTLED, FULLY_SETTLED)).estimate(x, y)
    for work in range(3, MOST_WORK):
        for nudged in range(1, (work + 1) // 2):
            steps = (work - 2 * nudged, nudged)  # a nudged sweep moves two phases, so it weighs twice
            cosine = worst_cosine(learner_on(model, steps).estimate(x, y), settled)
            if cosine >= ALIKE:
                return steps, cosine
    raise SystemExit(f"no sweeps of a work below {MOST_WORK} are enough")


def medians(steps: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median seconds of each step, taken in turn."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values[rounds // 5 :]) for name, values in times.items()}


def peak_bytes(step: Callable[[], object], optimizer: torch.optim.Optimizer) -> int:
    """The most that PyTorch held above what it held before one step, gradients included."""
    step()
    optimizer.zero_grad()
    with torch.profiler.profile(profile_memory=True, activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        step()
    events = [e for e in profile.profiler.kineto_results.events() if e.name() == "[memory]"]
    held = peak = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak


def measure(
    sizes: list[int], activation: str, weights: str, x: torch.Tensor, y: torch.Tensor, rounds: int
) -> dict[str, Any]:
    """One row: the sweeps that are needed, and both steps' time and memory."""
    batches = list(zip(x.split(BATCH), y.split(BATCH), strict=True))
    first, rest = batches[0], batches[1:]
    start = model_of(sizes, activation)
    if weights == "trained":
        learner, adam = learner_on(start, (40, 30)), torch.optim.Adam(start.parameters(), lr=5e-4, fused=True)
        for batch in itertools.islice(itertools.cycle(rest), 500):
            learner.estimate(*batch)
            adam.step()
    sweeps, cosine = fewest_sweeps(start, *first)

    models = [copy.deepcopy(start), copy.deepcopy(start)]
    # no learning rate: the weights, and with them the settling, stay what the row says
    ep_adam, bp_adam = (torch.optim.Adam(m.parameters(), lr=0.0, fused=True) for m in models)
    ep, feed = learner_on(models[0], sweeps), itertools.cycle(rest)

    def ep_step() -> None:
        ep_adam.zero_grad()
        ep.estimate(*next(feed))
        ep_adam.step()

    def bp_step() -> None:
        batch, labels = next(feed)
        bp_adam.zero_grad()
        target = F.one_hot(labels, sizes[-1]).float()
        (0.5 * (models[1](batch) - target).square().sum(1).mean()).backward()
        bp_adam.step()

    seconds = medians({"ep": ep_step, "backprop": bp_step}, rounds)
    memory = {"ep": peak_bytes(ep_step, ep_adam), "backprop": peak_bytes(bp_step, bp_adam)}
    name = "-".join(map(str, sizes))
    return {
        "layers": name,
        "activation": activation,
        "weights": weights,
        "sweeps": sweeps,
        "worst_cosine": cosine,
        "seconds": seconds,
        "time_ratio": seconds["ep"] / seconds["backprop"],
        "time_bar": BARS[name],
        "peak_bytes": memory,
        "memory_ratio": memory["ep"] / memory["backprop"],
        "memory_bar": 1.2,
    }


def main() -> None:
    """Print a line a row, and write them with `--out`."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=400)
    parser.add_argument("--quick", action="store_true", help="one activation, on initial weights")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    data = load("mnist", given.data_dir)
    x, y = data.x_train[: 100 * BATCH], data.y_train[: 100 * BATCH]
    rows = []
    cases = [("hardsigmoid", "relu"), ("initial", "trained")]
    if given.quick:
        cases = [("hardsigmoid",), ("initial",)]
    nets = ([784, 512, 10], [784, 512, 512, 10])
    for sizes, activation, weights in itertools.product(nets, *cases):
        rows.append(row := measure(sizes, activation, weights, x, y, given.rounds))
        print(
            f"{row['layers']} {activation} {weights}: sweeps {row['sweeps']}, worst cosine {row['worst_cosine']:.4f}, "
            f"time {row['time_ratio']:.2f} x backprop (bar {row['time_bar']}), "
            f"peak memory {row['memory_ratio']:.2f} x (bar {row['memory_bar']}), "
            f"{1e3 * row['seconds']['backprop']:.2f} ms backprop",
            flush=True,
        )
    if given.out:
        document = {"torch": torch.__version__, "threads": given.threads, "batch": BATCH, "rows": rows}
        write_json_atomically(given.out, json.loads(json.dumps(document)))


if __name__ == "__main__":
    main()
