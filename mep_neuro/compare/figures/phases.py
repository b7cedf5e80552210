"""Figure 2: what each phase takes of the joules, on a linear axis, beside the total, on a logarithmic one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from mep_neuro.compare.figures.canvas import (
    BLUE,
    GREEN,
    ORANGE,
    PURPLE,
    Look,
    PageFigure,
    ends,
    joules,
    log_axis,
    looks,
    padded,
    short,
    svg,
    titled,
    whisker,
)
from mep_neuro.compare.quantities import cost

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Document = Mapping[str, Any]

PHASES = {
    "free": ("free (backprop: forward)", BLUE, ""),
    "nudged": ("nudged (backprop: backward)", ORANGE, "////"),
    "update": ("update", GREEN, "\\\\\\\\"),
    "input_output": ("input and output", PURPLE, "||||"),
}
"""Each phase in words, its colour, and its hatch as a second code."""


def joules_by_phase(document: Document) -> PageFigure:
    """A panel a profile, a bar a run."""
    title = "Where the joules go: phases, and the total"
    styles = looks(run["name"] for run in document["runs"])
    panels = []
    for i, profile in enumerate(dict.fromkeys(a["profile"] for a in document["accounts"])):
        rows = [a for a in document["accounts"] if a["profile"] == profile and a["joules_per_sample"]["nominal"] > 0]
        reach = ends(a["joules_per_sample"] for a in rows)
        if reach:
            draw = partial(_panel, profile=profile, rows=rows, styles=styles, reach=reach)
            panels.append(svg(f"phases-{i}", _label(profile, rows), 1.75 + 0.3 * len(rows), draw))
    if not panels:
        return PageFigure(title, "", [], "No run costs more than zero joules.")
    return PageFigure(
        title,
        "Left: each phase's share at nominal prices, the static power drawn meanwhile with it. Right: the whole "
        "sample, median and p5 to p95. Backpropagation has no free and nudged phases: its forward pass stands under "
        "free, its backward pass under nudged. Update is the contrast or gradient of the weights, and the optimizer.",
        panels,
    )


def _panel(
    figure: Figure, profile: str, rows: Sequence[Document], styles: Mapping[str, Look], reach: tuple[float, float]
) -> None:
    bars, totals = figure.subplots(1, 2, sharey=True, width_ratios=[3, 2])
    figure.get_layout_engine().set(wspace=0.07)  # type: ignore[union-attr, call-arg]
    for place, account in enumerate(rows):
        begin = 0.0
        for phase, share in _shares(account).items():
            words, colour, hatch = PHASES.get(phase, (phase, "#bbbbbb", "oo"))
            bars.barh(place, share, left=begin, height=0.62, color=colour, hatch=hatch, edgecolor="white", label=words)
            begin += share
        whisker(totals, account["joules_per_sample"], place, styles[account["run"]])
    bars.set(xlim=(0, 100), ylim=(len(rows) - 0.5, -0.5), xlabel="share (%)", xticks=range(0, 101, 25))
    bars.set_yticks(range(len(rows)), [short(a["run"], 14) for a in rows])
    bars.grid(visible=False)
    titled(figure, profile)
    totals.tick_params(left=False)
    log_axis(totals, "x", *padded(*reach), joules, most=3)
    totals.set_xlabel("joules a sample (log)")
    named = dict(zip(*reversed(bars.get_legend_handles_labels()), strict=True))
    order = [words for words, *_ in PHASES.values() if words in named]
    figure.legend([named[w] for w in order], order, loc="outside lower center", ncols=2, handlelength=2.4)


def _shares(account: Document) -> dict[str, float]:
    """Each phase's percents of the joules at nominal prices."""
    whole = account["joules_per_sample"]["nominal"]
    return {phase: 100 * estimate["nominal"] / whole for phase, estimate in account["phases"].items()}


def _label(profile: str, rows: Sequence[Document]) -> str:
    said = []
    for account in rows:
        shares = ", ".join(f"{phase.replace('_', ' ')} {share:.1f} %" for phase, share in _shares(account).items())
        said.append(f"{account['run']} {cost(account)}: {shares}")
    return f"Shares of the phases and total joules a sample on {profile}. {'; '.join(said)}."
