"""page: a comparison as one self-contained HTML page, drawn from its document alone."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mep_neuro.compare.quantities import cost, count, interval, number, percent, quantity, words
from mep_neuro.compare.sources import linked
from mep_neuro.compare.summary import joined, summary
from mep_neuro.counts import PHASES
from mep_neuro.errors import InputError
from mep_neuro.profiles import KINDS

LIBRARIES = ("jinja2", "matplotlib")

Document = Mapping[str, Any]


def check_page() -> None:
    """Raises `InputError` where the libraries that the page needs are not installed, before anything runs."""
    if any(importlib.util.find_spec(library) is None for library in LIBRARIES):
        raise InputError(f"the page needs {' and '.join(LIBRARIES)}: pip install 'mep-neuro[report]'")


def page(document: dict[str, Any]) -> str:
    """The page: the same document gives the same bytes. It holds all that it shows, and loads nothing."""
    check_page()
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    from mep_neuro.compare.figures import figures

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "cost": cost,
        "count": count,
        "interval": interval,
        "joined": joined,
        "linked": lambda text: Markup(linked(text)),
        "number": number,
        "percent": percent,
        "quantity": quantity,
        "svg": Markup,
        "words": words,
    }
    return environment.get_template("page.html").render(
        document=document,
        figures=figures(document),
        kinds=KINDS,
        measured=[run for run in document["runs"] if run["mep:measured"]],
        not_measured=_not_measured(document),
        profiles=[{**_priced(document, p), "at": i} for i, p in enumerate(document["profiles"], 1)],
        runs={run["name"]: _run(document, run) for run in document["runs"]},
        summary=summary(document),
    )


def _priced(document: Document, profile: Document) -> dict[str, Any]:
    """A profile with its accounts, the figures that they rest on, and what they leave without a price."""
    accounts = [a for a in document["accounts"] if a["profile"] == profile["name"]]
    rests_on = {key for account in accounts for key in account["used"]}
    used = [f["figure"] for f in profile["figures"] if f["figure"] in rests_on]
    unpriced = dict.fromkeys(operation for account in accounts for operation in account["unpriced"])
    return {**profile, "accounts": accounts, "used": used, "unpriced": list(unpriced)}


def _not_measured(document: Document) -> list[tuple[str, list[str]]]:
    """Reasons why joules were not measured, each with the runs that it holds for."""
    reasons: dict[str, list[str]] = {}
    for run in document["runs"]:
        if not run["mep:measured"]:
            reasons.setdefault(run["mep:not_measured"] or "no reading was asked for", []).append(run["name"])
    return list(reasons.items())


def _run(document: Document, run: Document) -> dict[str, Any]:
    """A run with its accounts, its counts as rows, its metrics as pairs, and its phases in words."""
    accounts = [a for a in document["accounts"] if a["run"] == run["name"]]
    return {
        **run,
        "accounts": accounts,
        "breakdown": _breakdown(accounts),
        "phases": _phases(run["algorithm"]),
        "rows": _rows(run["mep:counts"]),
        "evaluation_rows": _rows(run["mep:evaluation_counts"]),
        "metrics": list(_flat(run["neurobench"])),
        "options": list(_flat(run["settings"])),
    }


def _breakdown(accounts: Sequence[Document]) -> list[tuple[tuple[str, str], list[float | None]]]:
    """By phase and operation, the joules on each profile; None where there it costs nothing of its own."""
    tables = [{(part["phase"], part["operation"]): part["joules"] for part in a["breakdown"]} for a in accounts]
    found = {key for table in tables for key in table}
    order = sorted(found, key=lambda key: (PHASES.index(key[0]), key[1]))
    return [(key, [table.get(key) for table in tables]) for key in order]


def _phases(algorithm: str) -> dict[str, str]:
    """A run's phases in words: backpropagation has passes."""
    forward, backward = (" (forward)", " (backward)") if algorithm == "backpropagation" else ("", "")
    return {
        "free": f"free{forward}",
        "nudged": f"nudged{backward}",
        "update": "update",
        "input_output": "input and output",
    }


def _rows(counts: Document) -> list[tuple[str, dict[str, float]]]:
    """Operations with their counts by phase."""
    phases = {phase: entries for phase, entries in counts.items() if isinstance(entries, Mapping)}
    operations = dict.fromkeys(operation for entries in phases.values() for operation in entries)
    return [(o, {phase: entries.get(o, 0) for phase, entries in phases.items()}) for o in operations]


def _flat(values: Document, above: str = "") -> Iterator[tuple[str, object]]:
    """Names and values of nested mappings, the names joined by dots."""
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{above}{name}.")
        else:
            yield f"{above}{name}", value
