"""Curves of a comparison, by the closed formulas: joules by batch size, and EP against backprop by settling steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from mep_neuro.accounting import EnergyReport, Estimate, account, ratio
from mep_neuro.accounting.formulas import backpropagation, equilibrium_propagation, optimizer_step
from mep_neuro.compare.compared_run import ComparedRun
from mep_neuro.counts import OperationCounts
from mep_neuro.network import EnergyNetwork
from mep_neuro.nudging import nudging_of
from mep_neuro.profiles import HardwareProfile
from mep_neuro.runs import RunSettings
from mep_neuro.settling import DEFAULT_STEPS, step_limits

BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
STEPS = (1, 2, 3, 4, 5, 7, 10, 15, 20, 30, 50, 100)


def by_batch(runs: Sequence[ComparedRun], profiles: Sequence[HardwareProfile]) -> list[dict[str, Any]]:
    """Dynamic and static joules a sample, at nominal prices, of EP and of backprop by batch size; for profiles that
    draw static power, and the first run whose settling the formula holds for."""
    run = _formula_run(runs)
    if run is None:
        return []
    rows = []
    for profile in profiles:
        if not profile.static or "macs" not in profile.prices:
            continue
        for algorithm, counts_of in (("equilibrium propagation", _ep), ("backpropagation", _backprop)):
            reports = [account(counts_of(run.settings, batch), profile, draws=100) for batch in BATCHES]
            rows.append(
                {
                    "run": run.name,
                    "profile": profile.name,
                    "algorithm": algorithm,
                    "batch": list(BATCHES),
                    "dynamic": [r.dynamic.nominal for r in reports],
                    "static": [r.static.nominal for r in reports],
                }
            )
    return rows


def by_steps(
    runs: Sequence[ComparedRun], profiles: Sequence[HardwareProfile], baseline: ComparedRun | None
) -> list[dict[str, Any]]:
    """EP's joules over backprop's, at the run's batch size, by settling steps a phase; and where it crosses 1."""
    run = _formula_run(runs)
    if run is None or baseline is None:
        return []
    rows = []
    for profile in profiles:
        if "macs" not in profile.prices:
            continue
        base = account(_backprop(run.settings, run.settings.batch_size), profile)
        found = [ratio(_at(run.settings, steps, profile), base) for steps in STEPS]
        rows.append(
            {
                "run": run.name,
                "profile": profile.name,
                "steps": list(STEPS),
                "ratio": [r.to_json() for r in found],
                "crossover": _crossover(found),
                "steps_of_the_run": _steps(run.settings),
                "ratio_of_the_run": ratio(account(_ep(run.settings, run.settings.batch_size), profile), base).to_json(),
            }
        )
    return rows


def _formula_run(runs: Sequence[ComparedRun]) -> ComparedRun | None:
    """The first run that the formula of block sweeps on the Hopfield energy describes."""
    for run in runs:
        options = run.settings.options
        sweeps = options.get("solver", "even_odd") == "even_odd" and options.get("tolerance") is None
        macs = run.history.counts.total("macs") > 0
        if run.algorithm == "equilibrium propagation" and run.settings.energy == "hopfield" and sweeps and macs:
            return run
    return None


def _steps(settings: RunSettings) -> float:
    """Settling steps of a phase, the mean over free and nudged ones."""
    (free, nudged), phases = _limits(settings), _phases(settings)
    return (free + phases * nudged) / (1 + phases)


def _limits(settings: RunSettings) -> tuple[int, int]:
    return step_limits(settings.options.get("max_steps", DEFAULT_STEPS))


def _phases(settings: RunSettings) -> int:
    """Nudged phases of one estimate."""
    terms = nudging_of(settings.nudging).terms(settings.beta, np.random.default_rng(0))
    return sum(beta != 0 for beta, _ in terms)


def _ep(settings: RunSettings, batch: int, steps: int | None = None) -> OperationCounts:
    free, nudged = (steps, steps) if steps else _limits(settings)
    network = EnergyNetwork.from_module(settings.model())
    counts = equilibrium_propagation(
        network, batch=batch, free_steps=free, nudged_steps=nudged, phases=_phases(settings)
    )
    return counts + _optimizer(settings, network)


def _backprop(settings: RunSettings, batch: int) -> OperationCounts:
    network = EnergyNetwork.from_module(settings.model())
    return backpropagation(network, batch=batch) + _optimizer(settings, network)


def _optimizer(settings: RunSettings, network: EnergyNetwork) -> OperationCounts:
    weights = sum(coupling.weights for coupling in network.couplings)
    return optimizer_step(weights, 1 if settings.optimizer == "sgd" else 2)


def _at(settings: RunSettings, steps: int, profile: HardwareProfile) -> EnergyReport:
    return account(_ep(settings, settings.batch_size, steps), profile)


def _crossover(found: Sequence[Estimate]) -> float | None:
    """Steps at which the median ratio passes 1, between two points on a straight line; None where it does not."""
    for (low, one), (high, other) in zip(
        zip(STEPS, found, strict=True), zip(STEPS[1:], found[1:], strict=True), strict=False
    ):
        if one.p50 <= 1.0 < other.p50:
            return low + (high - low) * (1.0 - one.p50) / (other.p50 - one.p50)
    return None
