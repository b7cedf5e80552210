"""The canvas: what all figures of the page share. Colours with a second code each, log axes in SI units, SVG text.

matplotlib is imported here and nowhere else, and only once something is drawn.
"""

from __future__ import annotations

import io
import math
import re
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from mep_neuro.compare.quantities import quantity

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH = 5.0
"""Inches: 360 units of an SVG, so that text of 10 units is legible where the page is as narrow as a telephone."""

# Okabe and Ito's colours, which the colour-blind tell apart; their yellow is too pale for lines on white.
ORANGE, SKY, GREEN, BLUE, VERMILION, PURPLE = "#E69F00", "#56B4E9", "#009E73", "#0072B2", "#D55E00", "#CC79A7"
BLACK, GREY = "#000000", "#595959"
COLOURS = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, BLACK)
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p", "h")

STYLE = {
    "svg.fonttype": "none",
    "text.parse_math": False,  # a "$" in a name is a "$"
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 10,
    "figure.titlesize": 10.5,
    "figure.titleweight": "bold",
    "axes.labelsize": 10,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "legend.fontsize": 9,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "hatch.linewidth": 0.8,
    "figure.constrained_layout.use": True,
}


class Look(NamedTuple):
    """How a run is drawn: no two of 77 runs share both."""

    color: str
    marker: str


class PageFigure(NamedTuple):
    """A figure of the page: a panel or more, or the reason why there are none."""

    title: str
    caption: str
    panels: Sequence[str]
    missing: str = ""


def looks(names: Iterable[str]) -> dict[str, Look]:
    """A look for each run, by its place among all runs."""
    return {
        name: Look(COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)]) for i, name in enumerate(dict.fromkeys(names))
    }


def svg(name: str, label: str, height: float, draw: Callable[[Figure], None]) -> str:
    """What `draw` puts on a figure, as an SVG element that can stand in a page.

    name:   comes before each id in it: unique on the page, letters, digits and "-".
    label:  says to who cannot see it what it shows.
    height: in inches.
    """
    from matplotlib import style
    from matplotlib.figure import Figure

    target = io.StringIO()
    with warnings.catch_warnings(), style.context(["default", {**STYLE, "svg.hashsalt": name}]):
        warnings.filterwarnings("ignore", message="Glyph .* missing from", category=UserWarning)
        figure = Figure(figsize=(WIDTH, height))
        draw(figure)
        figure.savefig(target, format="svg", metadata={"Date": None})
    return _embedded(target.getvalue(), name, label)


def log_axis(
    axes: Axes, which: Literal["x", "y"], low: float, high: float, written: Callable[[float], str], *, most: int = 5
) -> None:
    """Make an axis logarithmic, from low to high and at least over a decade, with labels where there is room."""
    low, high = _decade(low, high)
    axes.set(**{f"{which}scale": "log", f"{which}lim": (low, high)})
    axis = axes.xaxis if which == "x" else axes.yaxis
    ticks = log_ticks(low, high, most)
    axis.set_ticks(ticks, labels=[written(tick) for tick in ticks])
    axis.set_ticks([], minor=True)


def log_ticks(low: float, high: float, most: int) -> list[float]:
    """Round values between low and high, two at least: 1, 2, 5 or 1, 3 a decade where there are no more than `most`;
    else decades, some left out.

    >>> log_ticks(0.9, 20, most=5), log_ticks(0.9, 2e6, most=5)
    ([1.0, 2.0, 5.0, 10.0, 20.0], [1.0, 100.0, 10000.0, 1000000.0])
    """
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    tiers = [[k * 10.0**e for e in range(first, last + 1) for k in ks] for ks in ((1, 2, 5), (1, 3))]
    tiers += [[10.0**e for e in range(first, last + 1) if e % step == 0] for step in range(1, last - first + 1)]
    inside = [[tick for tick in tier if low * 0.999 <= tick <= high * 1.001] for tier in tiers]
    legible = [ticks for ticks in inside if len(ticks) > 1]
    return next((ticks for ticks in legible if len(ticks) <= most), min(legible, key=len))


def joules(value: float) -> str:
    """A tick of an axis of joules: "20 nJ"."""
    return re.sub(r"\.0+(?=\D)", "", quantity(value, "J"))


def whisker(axes: Axes, estimate: Mapping[str, float], y: float, look: Look, **options: Any) -> None:
    """A median with its interval from p5 to p95, along x; the marker is hollow, so that what coincides shows."""
    axes.plot([estimate["p5"], estimate["p95"]], [y, y], color=look.color, linewidth=1.4, solid_capstyle="butt")
    axes.plot([estimate["p5"], estimate["p95"]], [y, y], "|", color=look.color, markersize=6)
    drawn: dict[str, Any] = {
        "markersize": 6.5,
        "markerfacecolor": "white",
        "markeredgewidth": 1.6,
        "linestyle": "none",
        **options,
    }
    axes.plot([estimate["p50"]], [y], look.marker, color=look.color, **drawn)


def titled(figure: Figure, *names: str) -> None:
    """Put the names above all axes; shortened, so that they fit."""
    figure.suptitle(", ".join(short(name, 44 // len(names)) for name in names), x=0.02, ha="left")


def ends(estimates: Iterable[Mapping[str, float]]) -> tuple[float, float] | None:
    """The least and the most that intervals reach; None where nothing is above zero and so on a log axis."""
    found = [value for e in estimates for value in (e["p5"], e["p50"], e["p95"]) if 0 < value < math.inf]
    return (min(found), max(found)) if found else None


def padded(low: float, high: float, share: float = 0.07) -> tuple[float, float]:
    """The two, apart by a share of their ratio more on either side."""
    low, high = _decade(low, high)
    return low * (low / high) ** share, high * (high / low) ** share


def short(name: str, most: int = 20) -> str:
    """A name that fits, its middle left out where it is long."""
    return name if len(name) <= most else f"{name[: most // 2]}…{name[-(most // 2 - 1) :]}"


def _decade(low: float, high: float) -> tuple[float, float]:
    """Wide enough for a decade, about the same middle."""
    room = max(1.0, math.sqrt(10.0 * low / high))
    return low / room, high * room


def _embedded(document: str, name: str, label: str) -> str:
    """An SVG file's root element, with ids of its own, no style for the page and no metadata."""
    root = document[document.index("<svg") :].strip()
    root = re.sub(r"\s*<metadata>.*?</metadata>|\s*<defs>\s*<style.*?</style>\s*</defs>", "", root, flags=re.DOTALL)
    box = re.search(r'viewBox="([^"]*)"', root)
    inner = root[root.index(">") + 1 :]
    inner = re.sub(r"<[^<>]+>", lambda tag: _own(tag[0], name), inner)
    return (
        f'<svg role="img" aria-label="{escape(label)}" viewBox="{box[1] if box else ""}" '
        'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'style="stroke-linejoin:round;stroke-linecap:butt">{inner}'
    )


def _own(tag: str, name: str) -> str:
    """A tag with the figure's name before each id, and no more decimals than an eye can see."""
    tag = re.sub(r'( id="|href="#|url\(#)', rf"\g<1>{name}-", tag)
    return re.sub(r"(\.\d\d)\d+", r"\1", " ".join(tag.split()))
