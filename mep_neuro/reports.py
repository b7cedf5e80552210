"""What the command prints on standard output: tables for people, one JSON document for programs."""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy
import torch
from rich.console import Console
from rich.table import Column, Table

from mep_neuro.accounting import EnergyReport
from mep_neuro.compare import Comparison
from mep_neuro.history import History
from mep_neuro.runs import RunSettings

PLAIN: dict[str, Any] = {"markup": False, "emoji": False, "highlight": False}  # names and paths are shown as they are

OUT = Console(**PLAIN)


def document(settings: RunSettings, history: History, report: EnergyReport, folder: Path) -> dict[str, Any]:
    """A training run as plain values."""
    return {
        "test_accuracy": history.last.test_accuracy,
        "train_accuracy": history.last.train_accuracy,
        "account": report.to_json(),
        "settings": settings.model_dump(mode="json"),
        "out": str(folder),
        "versions": {"mep-neuro": version("mep-neuro"), "torch": torch.__version__, "numpy": numpy.__version__},
        **history.to_json(),
    }


def print_json(values: object) -> None:
    """One JSON document."""
    print(json.dumps(values, indent=2))


def print_history(history: History, settings: RunSettings) -> None:
    """A line an epoch."""
    where = "the host" if history.learning == "host" else "the substrate"
    title = f"{settings.data}, {'-'.join(map(str, settings.layers))} on {settings.backend}, learning on {where}"
    table = _table("epoch", "train\ncost", "train\naccuracy", "test\naccuracy", "not\nsettled", "seconds", title=title)
    for r in history.epochs:
        row = (f"{r.epoch}", f"{r.train_cost:.4f}", _share(r.train_accuracy), _share(r.test_accuracy))
        table.add_row(*row, f"{r.unconverged:,}", f"{r.seconds:.1f}")
    OUT.print(table)
    if any(r.unconverged for r in history.epochs):
        worst = max(r.residual for r in history.epochs)
        OUT.print(
            f"Not settled: training samples of which a phase had not come to rest within max_steps; the largest "
            f"residual was {worst:.2g}. More steps (--set max_steps=...) or a bounded activation may help."
        )


def print_account(report: EnergyReport) -> None:
    """What a training sample costs, and what that rests on."""
    OUT.print(f"A training sample costs {_joules(report)} J (estimated; prices: {report.grade}).")
    _print_prices(report)


def _print_prices(report: EnergyReport) -> None:
    """What the joules rest on: the profile, its sources, and what it leaves out."""
    OUT.print(f"Profile {report.profile.name}: {report.profile.title}.")
    for source in report.sources:
        OUT.print(f"  {source}")
    if report.unpriced:
        OUT.print(f"'>=' because these have no price in it: {', '.join(report.unpriced)}.")


def print_comparison(rows: list[Comparison], settings: RunSettings) -> None:
    """A line a backend."""
    title = (
        f"{settings.data}, {'-'.join(map(str, settings.layers))}, {settings.epochs} epochs, batch {settings.batch_size}"
    )
    heads = ("test\naccuracy", "seconds\nhere", "MACs a\nsample", "joules a sample\n(estimated)")
    table = _table("backend", *heads, title=title)
    for row in rows:
        macs = row.counts.total("macs") / row.counts.samples
        accuracy = _share(row.history.last.test_accuracy)
        table.add_row(row.backend, accuracy, f"{row.seconds:.1f}", f"{macs:,.0f}", _joules(row.account))
    OUT.print(table)
    _print_prices(rows[0].account)


def _table(first: str, *numbers: str, title: str) -> Table:
    return Table(first, *(Column(head, justify="right") for head in numbers), title=title, title_justify="left")


def _joules(report: EnergyReport) -> str:
    low, high = report.interval
    return f"{'>= ' if report.lower_bound else ''}{report.joules_per_sample:.2e} [{low:.2e}, {high:.2e}]"


def _share(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.2f} %"
