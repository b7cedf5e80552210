"""What the command prints on standard output: tables for people, one JSON document for programs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Column, Table

from mep_neuro.accounting import EnergyReport
from mep_neuro.compare.comparison import versions
from mep_neuro.compare.quantities import SPACE, quantity
from mep_neuro.errors import ProfileError
from mep_neuro.history import History
from mep_neuro.profiles import HardwareProfile
from mep_neuro.runs import RunSettings
from mep_neuro.target import Bundle

PLAIN: dict[str, Any] = {"markup": False, "emoji": False, "highlight": False}  # names and paths are shown as they are

OUT = Console(**PLAIN)
ERROR = Console(**PLAIN, stderr=True, soft_wrap=True)


def document(
    settings: RunSettings, history: History, report: EnergyReport | ProfileError, folder: Path
) -> dict[str, Any]:
    """A training run as plain values; `account` is null where the profile has no price for any of its work."""
    return {
        "test_accuracy": history.last.test_accuracy,
        "train_accuracy": history.last.train_accuracy,
        "account": report.to_json() if isinstance(report, EnergyReport) else None,
        "not_accounted": None if isinstance(report, EnergyReport) else str(report),
        "settings": settings.model_dump(mode="json"),
        "out": str(folder),
        "versions": versions(),
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


def print_account(report: EnergyReport, history: History) -> None:
    """What a training sample costs, and what that rests on."""
    low, high = (_si(end, "J") for end in report.interval)
    cost = f"{'>= ' if report.lower_bound else ''}{_si(report.joules_per_sample, 'J')} [{low}, {high}]"
    profile = report.profile
    OUT.print(f"A training sample costs {cost}, estimated on {profile.name} ({report.grade} prices): {profile.title}.")
    for source in report.sources:
        OUT.print(f"  {source}")
    if report.unpriced:
        OUT.print(f"'>=' because these have no price in it: {', '.join(report.unpriced)}.")
    measured = history.measured_per_sample
    if history.measured is not None and measured is not None:
        sensor = history.measured
        OUT.print(
            f"Measured here, the evaluation after each epoch with it: {_si(measured.joules, 'J')} a training sample, "
            f"{_si(measured.dynamic_joules, 'J')} of it above idle ({sensor.sensor}: {sensor.covers}). "
            f"Estimated / measured: {history.estimated_over_measured(report):.2g}."
        )
    elif history.not_measured:
        OUT.print(f"Not measured: {history.not_measured}")


def print_comparison(document: dict[str, Any]) -> None:
    """A table a run with a line a profile, estimated; what was measured; and what the figures leave open."""
    OUT.print(f"{document['data']}, {'-'.join(map(str, document['layers']))}: what a training sample costs, estimated")
    heads = ("joules [5 %, 95 %]", "static", "x backprop", "prices")
    for run in document["runs"]:
        accounts = [a for a in document["accounts"] if a["run"] == run["name"]]
        share, batch = _share(run["test_accuracy"]), run["batch_size"]
        table = _table("profile", *heads, title=f"{run['name']}: test accuracy {share}, batch {batch}")
        for a in accounts:
            table.add_row(a["profile"], *_cells(a, "x backprop"))
        if accounts:
            OUT.print(table)
    _print_measured(document)
    for left in document["left_out"]:
        OUT.print(f"Left out: {left['run']} on {left['profile']}: {left['reason']}")
    for profile in dict.fromkeys(a["profile"] for a in document["accounts"]):
        here = [a for a in document["accounts"] if a["profile"] == profile]
        _print_list(f"'>=' on {profile}: no price for", {o for a in here for o in a["unpriced"]})
        _print_list(f"'*' on {profile}: not verified in their source:", {key for a in here for key in a["unverified"]})


def print_accounts(reports: list[EnergyReport]) -> None:
    """A line a profile."""
    heads = ("joules [5 %, 95 %]", "static", "seconds", "prices")
    table = _table("profile", *heads, title="a sample, estimated")
    for report in reports:
        table.add_row(report.profile.name, *_cells(report.to_json(), "seconds"))
    OUT.print(table)
    for report in reports:
        _print_list(f"'>=' on {report.profile.name}: no price for", set(report.unpriced))
        _print_list(f"'*' on {report.profile.name}: not verified in their source:", set(report.unverified))


def print_profiles(profiles: list[HardwareProfile]) -> None:
    """A line a profile."""
    table = Table("profile", "class", "what it is", "scenarios")
    for p in profiles:
        table.add_row(p.name, p.class_, p.title, ", ".join(p.scenarios))
    OUT.print(table)


def print_profile(profile: HardwareProfile) -> None:
    """All of one profile: figures, conditions, sources."""
    OUT.print(f"{profile.name}: {profile.title}\n{profile.describes}")
    for left_out in profile.excludes:
        OUT.print(f"  leaves out: {left_out}")
    for key, (p, _) in profile.figures.items():
        kind = f"{p.kind}, {p.scope}{'' if p.verified else ', not verified'}"
        OUT.print(f"{key}: {p.value:g} {p.unit} [{p.low:g}, {p.high:g}] ({kind})")
        OUT.print(Padding(f"{p.conditions}\n{p.source}, {p.place}", (0, 0, 0, 4)))
    for operation, why in profile.included.items():
        OUT.print(f"  {operation} cost nothing of their own: {why}")
    for name, scenario in profile.scenarios.items():
        OUT.print(f"  {profile.name}:{name}: {scenario.describes}")


def print_bundle(bundle: Bundle) -> None:
    """What was written, and what it takes of the chip."""
    head, *rows = bundle.table
    table = _table(*(text.replace(" a ", "\na ") for text in head), title="What the network takes of the chip")
    for row in rows:
        table.add_row(*row)
    OUT.print(table)
    for note in bundle.notes:
        OUT.print(note)
    OUT.print()
    OUT.print(f"{_share(bundle.accuracy)} of {bundle.samples} test samples are right in simulation")
    OUT.print(f"The bundle is {bundle.folder}; its README.md says how to run it", soft_wrap=True)


def _cells(a: dict[str, Any], third: Literal["seconds", "x backprop"]) -> tuple[str, str, str, str]:
    """One account's cells; more than these would not fit 80 columns, and are in the files."""
    j, times, seconds = a["joules_per_sample"], a.get("ratio_to_baseline"), a["seconds_per_sample"]
    cells = {
        "seconds": "" if seconds is None else _si(seconds["p50"]),
        "x backprop": "" if times is None else f"{times['p50']:.2g} [{times['p5']:.2g}, {times['p95']:.2g}]",
    }
    return (
        f"{'>= ' if a['lower_bound'] else ''}{_si(j['p50'])} [{_si(j['p5'])}, {_si(j['p95'])}]",
        _si(a["static"]["p50"]),
        cells[third],
        a["grade"] + ("*" if a["unverified"] else ""),
    )


def _print_list(head: str, names: set[str]) -> None:
    if names:
        OUT.print(f"{head} {', '.join(sorted(names))}.")


def _print_measured(document: dict[str, Any]) -> None:
    """Measured joules, in a table of their own."""
    runs = [run for run in document["runs"] if run["mep:measured"]]
    if runs:
        heads = ("joules", "above idle", "watts", "idle watts", "estimated / measured")
        table = _table("run", *heads, title="a training sample, measured here (evaluation with it)")
        for run in runs:
            m, samples = run["mep:measured"], run["mep:counts"]["samples"]
            ratios = [
                f"{a['profile']} {a['estimated_over_measured']:.2g}"
                for a in document["accounts"]
                if a["run"] == run["name"] and a["estimated_over_measured"]
            ]
            cells = (_si(m["joules"] / samples), _si(m["dynamic_joules"] / samples))
            watts = (f"{m['running_watts']:.1f}", f"{m['idle_watts']:.1f}")
            table.add_row(run["name"], *cells, *watts, "\n".join(ratios))
        OUT.print(table)
    for why in dict.fromkeys(run["mep:not_measured"] for run in document["runs"] if run["mep:not_measured"]):
        OUT.print(f"Not measured: {why}")


def _table(first: str, *numbers: str, title: str) -> Table:
    columns = [Column(first, overflow="fold"), *(Column(head, justify="right", no_wrap=True) for head in numbers)]
    return Table(*columns, title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 0, 0, 1))


def _si(value: float, unit: str = "") -> str:
    """Three digits and a prefix: "1.23µ" in a table that has the unit in its head, else "1.23 µJ"."""
    return quantity(value, unit).replace(SPACE, " " if unit else "")


def _share(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.2f} %"
