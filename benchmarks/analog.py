"""What the analog substrate's parts cost in simulation, over the same work done digitally: ratios of times.

    python benchmarks/analog.py [--threads N] [--repeats N]

512 x 512 weights, a batch of 64, float32. Each case is timed against its baseline in one process, one after the other
in turn: medians, and in brackets the ratio of the least times, which other programs on the machine disturb less. Times
of programming are of one polarity of one tile. Writes benchmarks/results/analog.json.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy
import scipy.sparse as sp
import torch
from scipy.sparse.linalg import splu
from torch import Tensor, nn
from validation import about

from mep_neuro_analog.presets import device
from mep_neuro_analog.pulses import PulsedDevices
from mep_neuro_analog.specs import AnalogSpec, ArraySpec, DeviceSpec, PeripherySpec
from mep_neuro_analog.tiles import Tiles
from mep_neuro_analog.wires import transfer

RESULTS = Path(__file__).resolve().parent / "results" / "analog.json"
SIZE, BATCH, SEED = 512, 64, 0
DEVICE = DeviceSpec(g_min=0.0, g_max=5e-6, read_noise=0.0175)
PERIPHERY = PeripherySpec(converters="tiles", dac_bits=7, adc_bits=9, output_noise=0.06)
WIRE = 0.35
"""Ohm, from one device to the next."""

Work = Callable[[], Any]


@dataclass(frozen=True)
class Case:
    """Work on the substrate over the same work done digitally."""

    name: str
    over: str
    bar: float
    prepare: Callable[[], tuple[Work, Work]]


def programmed(spec: AnalogSpec) -> Tiles:
    """Random weights, uniform, on differential pairs."""
    generator = torch.Generator().manual_seed(SEED)
    omega = 2 * torch.rand(SIZE, SIZE, generator=generator) - 1
    tiles = Tiles(spec, SIZE, SIZE, generator)
    tiles.hold(omega.clamp_min(0) * spec.device.g_max, (-omega).clamp_min(0) * spec.device.g_max, 1.0)
    return tiles


def against_linear(product: str, spec: AnalogSpec) -> tuple[Work, Work]:
    """A product on tiles, "forward" or "adjoint", and nn.Linear's."""
    tiles, linear = programmed(spec), nn.Linear(SIZE, SIZE)
    x = 2 * torch.rand(BATCH, SIZE, generator=torch.Generator().manual_seed(SEED)) - 1
    on_tiles = getattr(tiles, product)
    return lambda: on_tiles(x), lambda: linear(x)


def against_outer(name: str, slots: float, least: float = -1.0) -> tuple[Work, Work]:
    """An update by trains of so many slots on average, with all of a device's noise, and the plain outer product.

    States are uniform from `least` to 1: from 0 as in one of EP's phases, from -1 as the differences of two.
    """
    generator = torch.Generator().manual_seed(SEED)
    spec = device(name).pulses
    assert spec is not None
    devices = PulsedDevices(spec, (SIZE, SIZE), generator)
    above, below = (least + (1 - least) * torch.rand(BATCH, SIZE, generator=generator) for _ in range(2))
    omega = 0.6 * torch.rand(SIZE, SIZE, generator=generator) - 0.3
    return lambda: devices.update(omega, above, below, slots * spec.step), lambda: above.T @ below


OUTER = "above^T @ below"
NOISY = AnalogSpec(DEVICE, ArraySpec(), PERIPHERY)
SMALL = AnalogSpec(DEVICE, ArraySpec(rows=256, columns=256), PERIPHERY)
WIRED = AnalogSpec(DeviceSpec(g_min=0.0, g_max=5e-6), ArraySpec(wire_resistance=WIRE), PeripherySpec())

NOISES = "7-bit DAC, 9-bit ADC, read and output noise"
CASES = [
    Case(f"forward, {NOISES}", "nn.Linear", 6.0, lambda: against_linear("forward", NOISY)),
    Case(f"adjoint, {NOISES}", "nn.Linear", 6.0, lambda: against_linear("adjoint", NOISY)),
    Case(f"forward, {NOISES}, 4 tiles", "nn.Linear", 6.0, lambda: against_linear("forward", SMALL)),
    Case("forward after programming with IR drop", "nn.Linear", 3.0, lambda: against_linear("forward", WIRED)),
    Case("pulsed update, ECRAM, 1 slot a sample", OUTER, 10.0, lambda: against_outer("ecram", 0.5)),
    Case("pulsed update, ECRAM, 20 slots, EP's phases", OUTER, 10.0, lambda: against_outer("ecram", 20.0, 0.0)),
    Case("pulsed update, ECRAM, 20 slots, differences", OUTER, 10.0, lambda: against_outer("ecram", 20.0)),
    Case("pulsed update, ReRAM with write noise, 20 slots", OUTER, 10.0, lambda: against_outer("reram_sb", 20.0)),
]


def seconds(works: list[Work], repeats: int) -> list[list[float]]:
    """Times of each, taken in turn, after one round that does not count."""
    times: list[list[float]] = [[] for _ in works]
    for turn in range(repeats + 1):
        for work, found in zip(works, times, strict=True):
            started = time.perf_counter()
            work()
            if turn:
                found.append(time.perf_counter() - started)
    return times


def measured(case: Case, repeats: int) -> dict[str, Any]:
    """One case's row."""
    ours, baseline = seconds(list(case.prepare()), repeats)
    ratio = statistics.median(ours) / statistics.median(baseline)
    return {
        "name": case.name,
        "over": case.over,
        "seconds": statistics.median(ours),
        "baseline_seconds": statistics.median(baseline),
        "ratio": ratio,
        "ratio_of_least": min(ours) / min(baseline),
        "bar": case.bar,
        "met": ratio <= case.bar,
    }


def conductances(size: int) -> Tensor:
    """Of one polarity."""
    return DEVICE.g_max * torch.rand(size, size, generator=torch.Generator().manual_seed(SEED), dtype=torch.float64)


def sparse_transfer(g: Tensor, r: float) -> np.ndarray:
    """What `transfer` does, by one sparse LU of all nodes and a solve for each row: what it is compared with."""
    n = len(g)
    chain = sp.diags([-np.ones(n - 1), np.r_[np.full(n - 1, 2.0), 1.0], -np.ones(n - 1)], [-1, 0, 1]) / r
    devices = sp.diags(g.numpy().ravel())
    rows, columns = sp.kron(sp.eye(n), chain) + devices, sp.kron(chain, sp.eye(n)) + devices
    driven = np.zeros((2 * n * n, n))
    driven[np.arange(n) * n, np.arange(n)] = 1 / r
    nodes = splu(sp.bmat([[rows, -devices], [-devices, columns]]).tocsc()).solve(driven)
    return np.asarray(nodes[n * n : n * n + n].T / r)


def programming(repeats: int) -> list[dict[str, Any]]:
    """Times of `transfer`, and of the sparse LU where it does not take too long."""
    rows: list[dict[str, Any]] = []
    for size, compared in ((128, True), (256, True), (512, False)):
        g = conductances(size)
        works: list[Work] = [lambda g=g: transfer(g, WIRE)]  # type: ignore[misc]
        if compared:
            works.append(lambda g=g: sparse_transfer(g, WIRE))  # type: ignore[misc]
        times = [statistics.median(t) for t in seconds(works, repeats)]
        row: dict[str, Any] = {"size": size, "seconds": times[0]}
        if compared:
            apart = np.abs(transfer(g, WIRE).numpy() - sparse_transfer(g, WIRE)).max() / float(g.max())
            row |= {"sparse_lu_seconds": times[1], "ratio": times[1] / times[0], "largest_difference": float(apart)}
        rows.append(row)
    return rows


def main() -> None:
    """Measure, print a table and write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=300)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with torch.no_grad():
        rows = [measured(case, options.repeats) for case in CASES]
        solved = programming(3)
    print(f"{'case':62} {'ms':>7} {'ratio':>6} {'':8} {'bar':>4}")
    for row in rows:
        least = f"({row['ratio_of_least']:.2f})"
        print(f"{row['name']:62} {1e3 * row['seconds']:7.3f} {row['ratio']:6.2f} {least:8} {row['bar']:4g}")
    for row in solved:
        lu = f"{row['sparse_lu_seconds']:8.2f} s, {row['ratio']:.1f} times as long" if "ratio" in row else "not tried"
        print(f"IR drop of a {row['size']} x {row['size']} tile {row['seconds']:8.3f} s; a sparse LU {lu}")
    versions = {"scipy": scipy.__version__, "python": sys.version.split()[0]}
    document = {
        "size": SIZE,
        "batch": BATCH,
        "repeats": options.repeats,
        "cases": rows,
        "programming": solved,
        **about(),
    }
    document["versions"] |= versions
    RESULTS.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
