"""Figure 3: dynamic and static joules a sample by batch size, a panel a profile that draws static power."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from mep_neuro.compare.figures.canvas import (
    BLUE,
    GREY,
    VERMILION,
    PageFigure,
    joules,
    log_axis,
    padded,
    svg,
    titled,
)
from mep_neuro.compare.quantities import count, quantity

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Document = Mapping[str, Any]

ALGORITHMS = {"equilibrium propagation": ("EP", BLUE), "backpropagation": ("backprop", VERMILION)}
PARTS = {"dynamic": ("o", "-"), "static": ("s", "--")}


def joules_by_batch(document: Document) -> PageFigure:
    """Static power is shared by the samples of a batch: what is left of it at each size."""
    title = "Dynamic and static joules by batch size"
    curves = [c for c in document["by_batch"] if any(v > 0 for part in PARTS for v in c[part])]
    if not curves:
        return PageFigure(title, "", [], _missing(document))
    batches = sorted({run["batch_size"] for run in document["runs"]})
    panels = []
    for i, profile in enumerate(dict.fromkeys(c["profile"] for c in curves)):
        rows = [c for c in curves if c["profile"] == profile]
        draw = partial(_panel, profile=profile, rows=rows, batches=batches)
        panels.append(svg(f"batches-{i}", _label(profile, rows), 3.1, draw))
    return PageFigure(
        title,
        "At nominal prices, by the closed formulas for counts, of equilibrium propagation as the run "
        f"{curves[0]['run']} was set up, and of backpropagation. Dynamic: what the operations take. Static: what is "
        "drawn all the time, over the time a sample takes. Upright line: the batch size "
        f"{_runs(batches)}.{_others(document, curves)}",
        panels,
    )


def _panel(figure: Figure, profile: str, rows: Sequence[Document], batches: Sequence[int]) -> None:
    axes = figure.subplots()
    for row in rows:
        words, colour = ALGORITHMS.get(row["algorithm"], (row["algorithm"], GREY))
        for part, (marker, style) in PARTS.items():
            points = [(b, j) for b, j in zip(row["batch"], row[part], strict=True) if j > 0]
            if points:
                drawn: dict[str, Any] = {
                    "color": colour,
                    "marker": marker,
                    "linestyle": style,
                    "label": f"{words}, {part}",
                }
                axes.plot(*zip(*points, strict=True), **drawn, markersize=5, markerfacecolor="white", linewidth=1.5)
    for batch in batches:
        axes.axvline(batch, color=GREY, linestyle=":", linewidth=1.4)
    values = [j for row in rows for part in PARTS for j in row[part] if j > 0]
    log_axis(axes, "y", *padded(min(values), max(values)), joules, most=6)
    sizes = sorted({b for row in rows for b in row["batch"]})
    axes.set_xscale("log", base=2)
    axes.set_xticks(sizes, [count(b) for b in sizes])
    axes.set_xticks([], minor=True)
    axes.set(xlabel="batch size (samples, log)", ylabel="joules a sample (log)")
    titled(figure, profile)
    figure.legend(loc="outside lower center", ncols=2, handlelength=3)


def _runs(batches: Sequence[int]) -> str:
    return "of the runs" if len(batches) == 1 else f"of a run ({', '.join(map(str, batches))})"


def _others(document: Document, curves: Sequence[Document]) -> str:
    """Which profiles have no panel."""
    shown = {curve["profile"] for curve in curves}
    others = ", ".join(p["name"] for p in document["profiles"] if p["name"] not in shown)
    why = "profiles whose static power does not stand apart, or that have no price for macs"
    return f" Not shown: {why} ({others})." if others else ""


def _missing(document: Document) -> str:
    """Why there are no curves."""
    if not any(f["figure"].startswith("static.") for p in document["profiles"] for f in p["figures"]):
        return "No profile here has static power apart from its other prices, so no cost is shared by a batch."
    return (
        "The closed formulas for other batch sizes hold for a run by equilibrium propagation on the Hopfield energy, "
        "in block sweeps (solver even_odd) of a fixed number, and for profiles with a price or time for macs: here "
        "is none."
    )


def _label(profile: str, rows: Sequence[Document]) -> str:
    said = []
    for row in rows:
        for part in PARTS:
            first, last = quantity(row[part][0], "J"), quantity(row[part][-1], "J")
            said.append(f"{row['algorithm']}, {part}: {first} at {row['batch'][0]}, {last} at {row['batch'][-1]}")
    return f"Joules a sample by batch size on {profile}. {'; '.join(said)}."
