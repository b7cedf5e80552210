"""Figure 1: joules a sample against test accuracy, a panel a profile, with a brain and Landauer's bound for scale."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from mep_neuro.compare.figures.canvas import (
    GREY,
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
from mep_neuro.compare.quantities import cost, interval, percent, quantity

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FAR = 2.0
"""A reference whose median is below the cheapest run's least by this factor stands on an axis of its own."""

Document = Mapping[str, Any]


class Scene(NamedTuple):
    """What all panels share.

    scored:    test accuracy in percent, by run.
    styles:    how each run is drawn.
    near, far: references drawn among the runs, and those on an axis of their own, each with its style of line.
    near_axis, far_axis, accuracy_axis: ranges, in joules and percent; `far_axis` is None where nothing is far.
    """

    scored: Mapping[str, float]
    styles: Mapping[str, Look]
    near: Sequence[tuple[Document, str]]
    far: Sequence[tuple[Document, str]]
    near_axis: tuple[float, float]
    far_axis: tuple[float, float] | None
    accuracy_axis: tuple[float, float]


def joules_by_accuracy(document: Document) -> PageFigure:
    """Each run's joules and accuracy on each profile."""
    title = "Joules a sample against test accuracy"
    scored = {run["name"]: 100 * run["test_accuracy"] for run in document["runs"] if run["test_accuracy"] is not None}
    accounts = [a for a in document["accounts"] if a["run"] in scored]
    scene = _scene(document, scored, accounts)
    if scene is None:
        return PageFigure(title, "", [], "No run has both a test accuracy and a cost above zero.")
    panels = []
    for i, profile in enumerate(dict.fromkeys(a["profile"] for a in accounts)):
        rows = [a for a in accounts if a["profile"] == profile]
        label = _label(profile, rows, scored, document["references"])
        panels.append(svg(f"accuracy-{i}", label, 3.1, partial(_panel, profile=profile, rows=rows, scene=scene)))
    return PageFigure(title, _caption(document, scene), panels)


def _scene(document: Document, scored: Mapping[str, float], accounts: Sequence[Document]) -> Scene | None:
    costs = [a["joules_per_sample"] for a in accounts]
    reach = ends(costs)
    if reach is None:
        return None
    lines = list(zip(document["references"], ("--", ":", "-.", "-"), strict=False))
    near = [line for line in lines if line[0]["joules_per_sample"]["p50"] > reach[0] / FAR]
    far = [line for line in lines if 0 < line[0]["joules_per_sample"]["p50"] <= reach[0] / FAR]
    reach = ends([*costs, *(r["joules_per_sample"] for r, _ in near)]) or reach
    away = ends(r["joules_per_sample"] for r, _ in far)
    return Scene(
        scored=scored,
        styles=looks(run["name"] for run in document["runs"]),
        near=near,
        far=far,
        near_axis=padded(*reach),
        far_axis=padded(*away, share=0.15) if away else None,
        accuracy_axis=_accuracies(list(scored.values())),
    )


def _panel(figure: Figure, profile: str, rows: Sequence[Document], scene: Scene) -> None:
    if scene.far_axis is None:
        axes = first = figure.subplots()
    else:
        first, axes = figure.subplots(1, 2, sharey=True, width_ratios=[1, 3])
        log_axis(first, "x", *scene.far_axis, joules, most=2)
        _break(first, axes)
        _references(first, scene.far)
    log_axis(axes, "x", *scene.near_axis, joules)
    _references(axes, scene.near)
    for a, y in zip(rows, _apart([scene.scored[a["run"]] for a in rows], scene.accuracy_axis), strict=True):
        whisker(axes, a["joules_per_sample"], y, scene.styles[a["run"]], label=short(a["run"]))
    first.set(ylim=scene.accuracy_axis, ylabel="test accuracy (%)")
    titled(figure, profile)
    axes.set_xlabel("joules a sample (log)")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=3)


def _references(axes: Axes, references: Sequence[tuple[Document, str]]) -> None:
    """A line each, its name along it, and a band where it has an interval."""
    for reference, style in references:
        estimate = reference["joules_per_sample"]
        if estimate["p5"] < estimate["p95"]:
            axes.axvspan(estimate["p5"], estimate["p95"], color="#e8e8e8", zorder=0)
        axes.axvline(estimate["p50"], color=GREY, linestyle=style, linewidth=1.4)
        low, high = axes.get_xlim()
        inwards = "left" if estimate["p50"] ** 2 < low * high else "right"  # of the line, where there is room
        axes.text(
            estimate["p50"],
            0.97,
            f" {short(reference['profile'], 24)} ",
            transform=axes.get_xaxis_transform(),
            rotation=90,
            ha=inwards,
            va="top",
            fontsize=9,
            color=GREY,
        )


def _break(left: Axes, right: Axes) -> None:
    """Two slashes that say that the axis is broken between the two."""
    right.spines["left"].set_visible(False)
    right.tick_params(left=False)
    mark: dict[str, Any] = {
        "marker": [(-0.6, -1), (0.6, 1)],
        "markersize": 9,
        "color": "black",
        "linestyle": "none",
        "clip_on": False,
    }
    left.plot([1], [0], transform=left.transAxes, **mark)
    right.plot([0], [0], transform=right.transAxes, **mark)


def _accuracies(found: Sequence[float]) -> tuple[float, float]:
    """A range of accuracies in percent with room for runs that are drawn apart."""
    room = max(0.3 * (max(found) - min(found)), 0.5)
    return min(found) - room, max(found) + room


def _apart(values: Sequence[float], axis: tuple[float, float]) -> list[float]:
    """Heights at which runs of all but equal accuracy do not cover one another."""
    step = 0.055 * (axis[1] - axis[0])
    order = sorted(range(len(values)), key=values.__getitem__)
    heights = list(values)
    group: list[int] = []
    for i in [*order, None]:
        if i is not None and (not group or values[i] - values[group[0]] < step / 2):
            group.append(i)
            continue
        for place, member in enumerate(group):
            heights[member] += step * (place - (len(group) - 1) / 2)
        group = [] if i is None else [i]
    return heights


def _label(profile: str, rows: Sequence[Document], scored: Mapping[str, float], references: Sequence[Document]) -> str:
    points = [
        f"{a['run']} {quantity(a['joules_per_sample']['p50'], 'J')} at {percent(scored[a['run']] / 100)}" for a in rows
    ]
    points += [f"reference {r['profile']} {quantity(r['joules_per_sample']['p50'], 'J')}" for r in references]
    return f"Joules a sample against test accuracy on {profile}: {'; '.join(points)}."


def _band(estimate: Mapping[str, float]) -> str:
    return interval(estimate, "J") if estimate["p5"] < estimate["p95"] else ""


def _caption(document: Document, scene: Scene) -> str:
    said = [
        "Further left is cheaper, higher is more accurate. Markers are medians, whiskers run from p5 to p95; runs of "
        "equal accuracy are drawn a little apart. All panels have the same axes, so that chips can be compared; the "
        "axis of accuracy does not begin at 0."
    ]
    references = document["references"]
    if references:
        costs = "; ".join(f"{r['profile']}, {cost(r)} {_band(r['joules_per_sample'])}".strip() for r in references)
        said.append(f"Grey, for scale: what the operations of {references[0]['run']} would cost ({costs}).")
    if scene.far:
        names = " and ".join(r["profile"] for r, _ in scene.far)
        said.append(f"The slashes mark where the axis is broken; far below all runs: {names}.")
    if len(scene.scored) < len(document["runs"]):
        said.append("Runs without a test accuracy are not shown.")
    return " ".join(said)
