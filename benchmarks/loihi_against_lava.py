"""The integer kernels of `loihi` against the same program run in Lava: samples a second, and the time of an epoch.

    python benchmarks/loihi_against_lava.py [--threads N] [--batch N] [--samples N] [--updates N]

784-256-10, Hardtanh(0, 1), inputs as sparse as MNIST's (19 % other than 0), 60 free timesteps and 20 nudged ones, one
thread unless said otherwise. Both settle the same samples, free and nudged, and the states must be equal. `loihi` takes
them as a batch, and one by one; `lava` has no other way than one by one. Then host learning on `loihi` by a centred
nudge: updates are timed, and 60,000 samples estimated from their median. Writes results/loihi_against_lava.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from validation import about

import mep_neuro as mep
from mep_neuro.types import Nudge
from mep_neuro_lava import LavaBackend, LoihiBackend

RESULTS = Path(__file__).resolve().parent / "results" / "loihi_against_lava.json"
SIZES, SEED, BETA = (784, 256, 10), 0, 0.5
TIMESTEPS = (60, 20)
EPOCH = 60_000
NONZERO = 0.19
"""The share of MNIST's training pixels that are not 0."""
BAR, EPOCH_BAR = 200.0, 300.0
"""Times as many samples a second as Lava; seconds of an epoch on 2 cores."""


def network() -> mep.EnergyNetwork:
    """784-256-10 with PyTorch's initial weights."""
    torch.manual_seed(SEED)
    module = nn.Sequential(nn.Linear(*SIZES[:2]), nn.Hardtanh(0.0, 1.0), nn.Linear(*SIZES[1:]))
    return mep.EnergyNetwork.from_module(module)


def samples(n: int) -> tuple[np.ndarray, np.ndarray]:
    """x and one-hot targets."""
    rng = np.random.default_rng(SEED)
    x = rng.uniform(0.1, 1.0, (n, SIZES[0])) * (rng.random((n, SIZES[0])) < NONZERO)
    return x, np.eye(SIZES[-1])[rng.integers(SIZES[-1], size=n)]


def programmed(substrate: Any) -> Any:
    """With the parameters of its network's module."""
    substrate.program({name: p.detach().double().numpy() for name, p in substrate.network.parameters.items()})
    return substrate


def settled(substrate: Any, x: np.ndarray, target: np.ndarray, at_once: int) -> list[np.ndarray]:
    """States of both phases, so many samples at a time."""
    states = []
    for start in range(0, len(x), at_once):
        part = slice(start, start + at_once)
        free = substrate.settle(x[part])
        nudged = substrate.settle(x[part], nudge=Nudge(BETA, target[part]), start=free)
        states.append(np.concatenate([*free.states, *nudged.states], 1))
    return states


def seconds(work: Callable[[], object], repeats: int) -> float:
    """Median time, after one round that does not count."""
    times = []
    for _ in range(repeats + 1):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return statistics.median(times[1:])


def against_lava(batch: int, n: int) -> list[dict[str, Any]]:
    """A row a way to run the same samples."""
    x, target = samples(max(batch, n))
    found: dict[str, np.ndarray] = {}
    rates: dict[str, float] = {}
    with programmed(LoihiBackend(network(), timesteps=TIMESTEPS)) as loihi:
        for name, size, rows in (("loihi, in a batch", batch, batch), ("loihi, one by one", 1, n)):
            rates[name] = rows / seconds(lambda s=size, r=rows: settled(loihi, x[:r], target[:r], s), 5)  # type: ignore[misc]
            found[name] = np.concatenate(settled(loihi, x[:rows], target[:rows], size))[:n]
    started = time.perf_counter()
    with programmed(LavaBackend(network(), timesteps=TIMESTEPS)) as lava:
        settled(lava, x[:1], target[:1], 1)
        opening = time.perf_counter() - started
        rates["lava"] = n / seconds(lambda: settled(lava, x[:n], target[:n], n), 1)
        found["lava"] = np.concatenate(settled(lava, x[:n], target[:n], n))
    rows = []
    for name, rate in rates.items():
        equal = bool(np.array_equal(found[name], found["lava"][: len(found[name])]))
        times = rate / rates["lava"]
        row = {"name": name, "samples_a_second": rate, "times_lava": times, "states_equal_lavas": equal}
        rows.append(row | ({"opening_and_first_sample_seconds": opening} if name == "lava" else {}))
    rows[0] |= {"batch": batch, "bar": BAR, "met": rows[0]["times_lava"] >= BAR}
    return rows


def epoch(batch: int, updates: int) -> dict[str, Any]:
    """Host learning by a centred nudge: the time of an update, and what 60,000 samples take at that."""
    x, target = samples(batch)
    net = network()
    optimizer = torch.optim.SGD(net.module.parameters(), lr=0.01)
    with LoihiBackend(net, timesteps=TIMESTEPS) as substrate:
        learner = mep.EquilibriumPropagation(substrate, beta=BETA, nudging="centered", cost="squared_error")
        given = torch.from_numpy(x).float(), torch.from_numpy(target.argmax(1))

        def update() -> None:
            learner.estimate(*given)
            optimizer.step()

        took = seconds(update, updates)
    total = took * EPOCH / batch
    return {
        "batch": batch,
        "timesteps": [TIMESTEPS[0], *[TIMESTEPS[1]] * 2],
        "update_seconds": took,
        "epoch_seconds_estimated": total,
        "bar": EPOCH_BAR,
        "met": total <= EPOCH_BAR,
    }


def main() -> None:
    """Measure, print and write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--samples", type=int, default=16, help="that Lava settles")
    parser.add_argument("--updates", type=int, default=20)
    options = parser.parse_args()
    if os.environ.get("OMP_NUM_THREADS") != str(options.threads):  # NumPy reads it once, when it is imported
        os.environ["OMP_NUM_THREADS"] = str(options.threads)
        os.execv(sys.executable, [sys.executable, *sys.argv])
    torch.set_num_threads(options.threads)
    rows, learning = against_lava(options.batch, options.samples), epoch(options.batch, options.updates)
    for row in rows:
        rate, times = row["samples_a_second"], row["times_lava"]
        print(f"{row['name']:20} {rate:10.2f} samples/s {times:8.0f} x  equal to lava: {row['states_equal_lavas']}")
    print(f"an epoch on loihi    {learning['epoch_seconds_estimated']:.1f} s (estimated; bar {EPOCH_BAR:g} s)")
    document = {
        "sizes": SIZES,
        "timesteps": TIMESTEPS,
        "samples_on_lava": options.samples,
        "rows": rows,
        "epoch": learning,
        **about(),
    }
    document["versions"] |= {"lava-nc": version("lava-nc"), "python": platform.python_version()}
    RESULTS.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
