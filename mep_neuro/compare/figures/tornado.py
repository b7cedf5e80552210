"""Figure 5: which figures of a profile the joules hang on: a tornado a profile, for one run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from mep_neuro.compare.figures.canvas import BLUE, ORANGE, PageFigure, joules, log_axis, padded, short, svg, titled
from mep_neuro.compare.quantities import quantity, words

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Document = Mapping[str, Any]

MOST = 8
"""Bars in a panel."""
SLIGHT = 0.01
"""A smaller share of the variance, with a swing that is smaller too, needs no bar."""


def tornado(document: Document) -> PageFigure:
    """A panel a profile, of the first run there by equilibrium propagation, or the first at all."""
    title = "What the estimates hang on"
    panels = []
    for i, account in enumerate(_accounts(document)):
        bars = _bars(account)
        if bars:
            draw = partial(_panel, account=account, bars=bars)
            panels.append(svg(f"tornado-{i}", _label(account, bars), 1.35 + 0.32 * len(bars), draw))
    if not panels:
        return PageFigure(title, "", [], "No figure that was used has an interval, so the estimates hang on none.")
    return PageFigure(
        title,
        "Each bar: the total when this one figure is at its low end (solid) or at its high end (hatched), and all "
        "others at their nominal values. Upright line: all at nominal values. Variance: the figure's share of that of "
        "the total. Prices are joules an operation; times set how long static power is drawn. Figures that move the "
        "total by less than 1 % and have less than 1 % of the variance are left out.",
        panels,
    )


def _accounts(document: Document) -> list[Document]:
    """One a profile."""
    algorithms = {run["name"]: run["algorithm"] for run in document["runs"]}
    chosen: dict[str, Document] = {}
    for account in sorted(document["accounts"], key=lambda a: algorithms[a["run"]] != "equilibrium propagation"):
        chosen.setdefault(account["profile"], account)
    order = list(dict.fromkeys(a["profile"] for a in document["accounts"]))
    return [chosen[profile] for profile in order]


def _bars(account: Document) -> list[Document]:
    """The sensitivities that deserve a bar, the greatest first."""
    found = [
        s
        for s in account["sensitivities"]
        if 0 < s["low"] < s["high"] and (s["share"] >= SLIGHT or s["high"] > s["low"] * (1 + SLIGHT))
    ]
    return found[:MOST]


def _panel(figure: Figure, account: Document, bars: Sequence[Document]) -> None:
    axes = figure.subplots()
    nominal = account["joules_per_sample"]["nominal"]
    low, high = min(bar["low"] for bar in bars), max(bar["high"] for bar in bars)
    for place, bar in enumerate(bars):
        middle = min(max(nominal, bar["low"]), bar["high"])
        axes.barh(place, middle - bar["low"], left=bar["low"], height=0.6, color=BLUE, edgecolor="white")
        drawn: dict[str, Any] = {"color": ORANGE, "hatch": "////", "edgecolor": "white"}
        axes.barh(place, bar["high"] - middle, left=middle, height=0.6, **drawn)
        beside = axes.get_yaxis_transform()
        axes.text(1.02, place, _share(bar), transform=beside, va="center", fontsize=9)
    axes.axvline(nominal, color="black", linewidth=1.2)
    log_axis(axes, "x", *padded(low, high), joules)
    axes.set_yticks(range(len(bars)), [short(words(bar["figure"]), 30) for bar in bars])
    axes.set(ylim=(len(bars) - 0.5, -0.5), xlabel="joules a sample (log)")
    axes.grid(visible=False, axis="y")
    axes.text(1.02, 1.0, "variance", transform=axes.transAxes, va="bottom", fontsize=9)
    titled(figure, account["profile"], account["run"])


def _share(bar: Document) -> str:
    return "< 0.1 %" if bar["share"] < 0.0005 else f"{100 * bar['share']:.1f} %"


def _label(account: Document, bars: Sequence[Document]) -> str:
    said = [
        f"{words(bar['figure'])} {quantity(bar['low'], 'J')} to {quantity(bar['high'], 'J')}, "
        f"{_share(bar)} of the variance"
        for bar in bars
    ]
    return f"What the joules of a sample hang on: {account['run']} on {account['profile']}. {'; '.join(said)}."
