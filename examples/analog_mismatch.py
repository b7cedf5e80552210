"""Faulty crossbars: weights trained by backprop and programmed onto them, against EP trained through the same faults.

    python examples/analog_mismatch.py                                            one fault, one seed: a minute
    python examples/analog_mismatch.py --faults all --seeds 3 --out docs/analog   all of docs/analog_substrate.md

A 64-32-10 network on digits. "Programmed": trained in software by backprop through its settling, then written once
onto arrays with the fault, and tested there. "In situ": EP trains with the arrays in the loop, so that it sees what is
wrong with them. The last fault is one of pulses, which only in situ learning has. Each seed has its own initial
weights and its own devices.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import mep_neuro as mep
from mep_neuro.data import DataSet, load
from mep_neuro_analog import AnalogSpec, ArraySpec, DeviceSpec, PeripherySpec, PulseSpec

EPOCHS, BATCH, SWEEPS, BETA = 6, 32, 12, 0.5
G_MAX = 25e-6


def spec(*, periphery: PeripherySpec | None = None, pulses: PulseSpec | None = None, **device: object) -> AnalogSpec:
    """Arrays that are ideal but for what is given."""
    parts = DeviceSpec(0.0, G_MAX, pulses=pulses, **device)  # type: ignore[arg-type]
    pairs = "differential" if pulses is None else "offset"
    return AnalogSpec(parts, ArraySpec(pairs=pairs), periphery or PeripherySpec())


FAULTS: dict[str, tuple[str, tuple[float, ...], Callable[[float], AnalogSpec]]] = {
    "programming": (
        "programming noise, share of g_max",
        (0.0, 0.03, 0.06, 0.1, 0.2),
        lambda level: spec(programming=(level * G_MAX,)),
    ),
    "stuck": (
        "stuck devices, half at each end",
        (0.0, 0.02, 0.05, 0.1, 0.2),
        lambda level: spec(stuck_low=level / 2, stuck_high=level / 2),
    ),
    "mismatch": (
        "mismatch of neurons' gains",
        (0.0, 0.1, 0.2, 0.4, 0.6),
        lambda level: spec(periphery=PeripherySpec(neuron_gain=level)),
    ),
    "offset": (
        "mismatch of neurons' offsets",
        (0.0, 0.05, 0.1, 0.2, 0.4),
        lambda level: spec(periphery=PeripherySpec(neuron_offset=level)),
    ),
    "comparator": (
        "comparator offset between the phases",
        (0.0, 0.003, 0.01, 0.03, 0.1),
        lambda level: spec(periphery=PeripherySpec(comparator_offset=level)),
    ),
    "adc": (
        "bits of the converters that read states",
        (8, 6, 5, 4, 3),
        lambda level: spec(periphery=PeripherySpec(adc_bits=int(level))),
    ),
    "asymmetry": (
        "pulses' asymmetry, up against down",
        (0.0, 0.1, 0.2, 0.4, 0.6),
        lambda level: spec(pulses=PulseSpec(0.002, "soft_bounds", up_down=level, cycle_noise=0.3)),
    ),
}


def model_of(seed: int) -> nn.Sequential:
    """64-32-10 with units between 0 and 1."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(64, 32), nn.Hardtanh(0.0, 1.0), nn.Linear(32, 10))


def settled(model: nn.Sequential, x: Tensor) -> Tensor:
    """The network's answer at rest, sweep by sweep, open to autograd."""
    first, rho, last = model
    drive = first(x)
    hidden = rho(drive)
    for _ in range(SWEEPS):
        hidden = rho(drive + last(hidden) @ last.weight)
    return last(hidden)


def backprop(data: DataSet, seed: int) -> nn.Sequential:
    """Trained in software, by backprop through the sweeps."""
    model = model_of(seed)
    optimizer, generator = torch.optim.Adam(model.parameters(), lr=0.005), torch.Generator().manual_seed(seed)
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(data.x_train), generator=generator).split(BATCH):
            optimizer.zero_grad()
            wanted = F.one_hot(data.y_train[rows], 10)
            (0.5 * (settled(model, data.x_train[rows]) - wanted).square().sum(1)).mean().backward()
            optimizer.step()
    return model


def accuracy(model: nn.Sequential, arrays: AnalogSpec, data: DataSet, seed: int) -> float:
    """Of a model written onto arrays."""
    network = mep.EnergyNetwork.from_module(model)
    with mep.backend("analog", network, spec=arrays, seed=seed, max_steps=SWEEPS) as substrate:
        return float(mep.evaluate(mep.EquilibriumPropagation(substrate), (data.x_test, data.y_test))[1] or 0.0)


def in_situ(arrays: AnalogSpec, data: DataSet, seed: int) -> float:
    """EP with the arrays in the loop: by pulses where the devices answer to them, else written anew each step."""
    model = model_of(seed)
    network = mep.EnergyNetwork.from_module(model)
    pulsed = arrays.device.pulses is not None
    options = {"weight_max": 0.5} if pulsed else {}
    with mep.backend("analog", network, spec=arrays, seed=seed, max_steps=SWEEPS, **options) as substrate:
        learner = mep.EquilibriumPropagation(substrate, beta=BETA)
        if pulsed:
            optimizer: torch.optim.Optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
        else:
            optimizer = torch.optim.Adam(model.parameters(), lr=0.005)
        mep.fit(
            learner,
            (data.x_train, data.y_train),
            optimizer=optimizer,
            epochs=EPOCHS,
            batch_size=1 if pulsed else BATCH,
            learning="resident" if pulsed else "host",
            seed=seed,
            progress=False,
        )
        return float(mep.evaluate(learner, (data.x_test, data.y_test))[1] or 0.0)


def study(faults: list[str], seeds: int) -> dict[str, dict[str, list[list[float]]]]:
    """Accuracies by fault: {"levels": ..., "programmed": [[of each seed] of each level], "in situ": ...}."""
    data, found = load("digits"), {}
    trained = [backprop(data, seed) for seed in range(seeds)]
    for name in faults:
        label, levels, arrays = FAULTS[name]
        rows: dict[str, list[list[float]]] = {"levels": [[level] for level in levels], "programmed": [], "in situ": []}
        print(f"\n{label}\n{'':>8s} {'programmed':>11s} {'in situ':>9s}")
        for level in levels:
            still = spec() if arrays(level).device.pulses else arrays(level)
            rows["programmed"].append([accuracy(trained[seed], still, data, seed) for seed in range(seeds)])
            rows["in situ"].append([in_situ(arrays(level), data, seed) for seed in range(seeds)])
            one, other = (100 * statistics.median(rows[key][-1]) for key in ("programmed", "in situ"))
            print(f"{level:8g} {one:9.2f} % {other:7.2f} %", flush=True)
        found[name] = rows
    return found


def table(found: dict[str, dict[str, list[list[float]]]]) -> str:
    """Medians over seeds, per cent, as Markdown."""
    lines = ["| Fault | level | programmed, % | EP in situ, % |", "| --- | --- | --- | --- |"]
    for name, rows in found.items():
        for (level,), *both in zip(rows["levels"], rows["programmed"], rows["in situ"], strict=True):
            shown = " | ".join(f"{100 * statistics.median(row):.1f}" for row in both)
            lines.append(f"| {FAULTS[name][0]} | {level:g} | {shown} |")
    return "\n".join(lines) + "\n"


def plot(found: dict[str, dict[str, list[list[float]]]], path: Path) -> None:
    """One panel a fault: medians, and every seed as a point."""
    import matplotlib.pyplot as plt

    columns = min(4, len(found))
    lines = -(-len(found) // columns)
    figure, axes = plt.subplots(lines, columns, figsize=(3.1 * columns, 2.8 * lines), squeeze=False, sharey=True)
    for ax in axes.flat[len(found) :]:
        ax.axis("off")
    for ax, (name, rows) in zip(axes.flat, found.items(), strict=False):
        label, levels, _ = FAULTS[name]
        places = range(len(levels))
        for key, colour, marker in (("programmed", "#b5523b", "s"), ("in situ", "#2b6a99", "o")):
            ax.plot(places, [100 * statistics.median(r) for r in rows[key]], color=colour, label=key)
            for place, row in zip(places, rows[key], strict=True):
                ax.plot([place] * len(row), [100 * a for a in row], marker, color=colour, ms=3, alpha=0.6)
        ax.set_xticks(list(places), [f"{level:g}" for level in levels])
        ax.set_xlabel(label, fontsize=8)
        ax.grid(alpha=0.3)
    for ax in axes[:, 0]:
        ax.set_ylabel("test accuracy, %")
    axes[0, 0].legend(fontsize=8, loc="lower left")
    figure.tight_layout()
    figure.savefig(path, dpi=130)
    plt.close(figure)


def main() -> None:
    """Run the study, and check what it claims where both ends of it were run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--faults", nargs="+", choices=[*FAULTS, "all"], default=["stuck"])
    parser.add_argument("--out", type=Path, help="folder for results.json, table.txt and analog_mismatch.png")
    given = parser.parse_args()
    found = study(list(FAULTS) if "all" in given.faults else given.faults, given.seeds)
    if given.out is not None:
        given.out.mkdir(parents=True, exist_ok=True)
        (given.out / "results.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        (given.out / "table.txt").write_text(table(found), encoding="utf-8")
        plot(found, given.out / "analog_mismatch.png")
    for name in {"stuck", "offset"} & set(found):
        worst = {key: statistics.median(found[name][key][-1]) for key in ("programmed", "in situ")}
        assert worst["in situ"] > worst["programmed"], (name, worst)


if __name__ == "__main__":
    main()
