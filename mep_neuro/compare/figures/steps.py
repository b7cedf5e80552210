"""Figure 4: the joules of equilibrium propagation over those of backpropagation, by settling steps a phase."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from mep_neuro.compare.figures.canvas import (
    BLUE,
    GREEN,
    GREY,
    VERMILION,
    PageFigure,
    log_axis,
    padded,
    svg,
    titled,
)
from mep_neuro.compare.quantities import count, interval, number

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Document = Mapping[str, Any]


def ratio_by_steps(document: Document) -> PageFigure:
    """A panel a profile: the ratio's median and band, the line at 1, and the run's own point."""
    title = "Equilibrium propagation against backpropagation, by settling steps"
    panels = []
    for i, row in enumerate(document["by_steps"]):
        panels.append(svg(f"steps-{i}", _label(row), 3.1, partial(_panel, row=row)))
    if not panels:
        return PageFigure(title, "", [], _missing(document))
    run = document["by_steps"][0]["run"]
    return PageFigure(
        title,
        "How many times the joules of a sample by backpropagation one by equilibrium propagation takes, by the closed "
        f"formulas for counts, at the batch size and all other settings of the run on {run}. Line: median; band: p5 "
        "to p95, with each price drawn once for both. Below 1, equilibrium propagation is the cheaper. The step of a "
        "circuit that settles by physics is not a step of this axis.",
        panels,
    )


def crossover(row: Document) -> str:
    """Where the median passes 1, or that it does not."""
    medians = [r["p50"] for r in row["ratio"]]
    if row["crossover"] is not None:
        return f"crosses 1 at {number(row['crossover'])} steps"
    if min(medians) > 1:
        return f"no crossover: {number(medians[0])} at {_steps(row['steps'][0])} already"
    if max(medians) <= 1:
        return f"no crossover: below 1 up to {_steps(row['steps'][-1])}"
    return "no crossover from below"


def _panel(figure: Figure, row: Document) -> None:
    axes = figure.subplots()
    steps, ratios, own = row["steps"], row["ratio"], row["ratio_of_the_run"]
    axes.fill_between(steps, [r["p5"] for r in ratios], [r["p95"] for r in ratios], color=BLUE, alpha=0.22, linewidth=0)
    axes.plot(steps, [r["p50"] for r in ratios], color=BLUE, linewidth=1.8, label="median, p5 to p95")
    axes.axhline(1, color=GREY, linestyle="--", linewidth=1.4, label="as much as backprop")
    x = row["steps_of_the_run"]
    axes.plot([x, x], [own["p5"], own["p95"]], "_-", color=VERMILION, linewidth=1.4, markersize=7)
    drawn: dict[str, Any] = {
        "color": VERMILION,
        "markerfacecolor": "white",
        "markeredgewidth": 1.6,
        "linestyle": "none",
    }
    axes.plot([x], [own["p50"]], "s", **drawn, markersize=6.5, label=f"the run: {number(own['p50'])}")
    if row["crossover"] is not None:
        axes.plot([row["crossover"]], [1], "D", color=GREEN, linestyle="none", markersize=7, label=crossover(row))
    ends = [1.0, own["p5"], own["p95"], *(r[key] for r in ratios for key in ("p5", "p95") if r[key] > 0)]
    log_axis(axes, "x", *padded(min(steps), max(*steps, x), 0.03), count, most=7)
    log_axis(axes, "y", *padded(min(ends), max(ends)), lambda tick: f"{tick:g}", most=7)
    if row["crossover"] is None:
        above = min(r["p50"] for r in ratios) > 1
        place: dict[str, Any] = {"ha": "left", "va": "top"} if above else {"ha": "right", "va": "bottom"}
        axes.text(
            *((0.03, 0.97) if above else (0.97, 0.03)), crossover(row), transform=axes.transAxes, fontsize=9, **place
        )
    axes.set(xlabel="settling steps a phase (log)", ylabel="joules, EP / backprop (log)")
    titled(figure, row["profile"])
    figure.legend(loc="outside lower center", ncols=2)


def _steps(steps: float) -> str:
    return f"{count(steps)} step{'' if steps == 1 else 's'}"


def _missing(document: Document) -> str:
    """Why there are no curves."""
    algorithms = {run["algorithm"] for run in document["runs"]}
    if "backpropagation" not in algorithms:
        return "There is no run by backpropagation here to compare with."
    if "equilibrium propagation" not in algorithms:
        return "There is no run by equilibrium propagation here."
    return (
        "The closed formulas for other numbers of steps hold for a run on the Hopfield energy, in block sweeps (solver "
        "even_odd) of a fixed number, and for profiles with a price for macs: here is none."
    )


def _label(row: Document) -> str:
    own = row["ratio_of_the_run"]
    first, last = row["ratio"][0]["p50"], row["ratio"][-1]["p50"]
    return (
        f"Joules of equilibrium propagation over those of backpropagation on {row['profile']}: {number(first)} at "
        f"{_steps(row['steps'][0])}, {number(last)} at {_steps(row['steps'][-1])}; the run, at "
        f"{_steps(row['steps_of_the_run'])}, {number(own['p50'])} {interval(own)}; {crossover(row)}."
    )
