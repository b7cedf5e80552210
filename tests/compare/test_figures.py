"""The figures: each is a sound SVG with labelled axes and a second code beside colour, however matplotlib is set."""

from __future__ import annotations

import copy
import logging
import math
import re
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from typing import Any

import pytest

from mep_neuro.compare import compare
from mep_neuro.compare.figures import (
    PageFigure,
    figures,
    joules_by_accuracy,
    joules_by_batch,
    joules_by_phase,
    ratio_by_steps,
    tornado,
)
from mep_neuro.compare.figures.accuracy import _apart
from mep_neuro.compare.figures.canvas import COLOURS, joules, log_ticks, looks, short, svg
from mep_neuro.compare.figures.phases import PHASES
from mep_neuro.compare.figures.steps import crossover
from mep_neuro.compare.quantities import cost, count, interval, number, percent, quantity
from mep_neuro.runs import RunSettings

matplotlib = pytest.importorskip("matplotlib", reason="the figures need mep-neuro[report]")

SETTINGS = RunSettings(layers=(64, 12, 10), epochs=1, batch_size=64, options={"max_steps": 6})
SVG = "{http://www.w3.org/2000/svg}"
EVIL = '<script>alert("1")</script> & $\\alpha$ id="x" \'q\''


@pytest.fixture(scope="module")
def made() -> dict[str, Any]:
    logging.disable(logging.WARNING)
    try:
        return compare(SETTINGS, ["torch"], profiles=["cmos_45nm", "gpu_h100"], draws=200).document
    finally:
        logging.disable(logging.NOTSET)


@pytest.fixture
def document(made: dict[str, Any]) -> dict[str, Any]:
    """A comparison's document, for a test to change as it likes."""
    return copy.deepcopy(made)


def texts(panel: str) -> list[str]:
    """What is written in a panel; it is parsed as XML, so it must be whole."""
    return [element.text or "" for element in ET.fromstring(panel).iter(f"{SVG}text")]


def label(panel: str) -> str:
    root = ET.fromstring(panel)
    assert root.tag == f"{SVG}svg"
    assert root.get("role") == "img"
    return root.get("aria-label") or ""


def scaled(estimate: dict[str, float], factor: float) -> dict[str, float]:
    return {key: factor * value for key, value in estimate.items()}


def test_axes_say_what_they_show_and_in_which_unit(document: dict[str, Any]) -> None:
    wanted = [
        {"test accuracy (%)", "joules a sample (log)"},
        {"share (%)", "joules a sample (log)"},
        {"batch size (samples, log)", "joules a sample (log)"},
        {"settling steps a phase (log)", "joules, EP / backprop (log)"},
        {"joules a sample (log)", "variance"},
    ]
    for figure, axes in zip(figures(document), wanted, strict=True):
        assert figure.panels
        for panel in figure.panels:
            assert axes <= set(texts(panel)), figure.title
            assert len(label(panel)) > 40


def test_a_panel_a_profile_named_above_it(document: dict[str, Any]) -> None:
    both = ["cmos_45nm", "gpu_h100"]
    for figure, profiles in zip(figures(document), [both, both, ["gpu_h100"], both, both], strict=True):
        assert len(figure.panels) == len(profiles)
        for panel, profile in zip(figure.panels, profiles, strict=True):
            assert profile in label(panel)
            assert any(text.startswith(profile) for text in texts(panel))


def test_ids_are_unique_across_figures_and_every_use_finds_its_own(document: dict[str, Any]) -> None:
    panels = [panel for figure in figures(document) for panel in figure.panels]
    ids = [found for panel in panels for found in re.findall(r'\bid="([^"]*)"', panel)]
    assert len(ids) == len(set(ids)) > 100
    for panel in panels:
        own = set(re.findall(r'\bid="([^"]*)"', panel))
        used = re.findall(r'href="#([^"]*)"|url\(#([^)]*)\)', panel)
        assert used
        assert {a or b for a, b in used} <= own


def test_the_same_document_gives_the_same_figures_whatever_matplotlib_is_set_to(document: dict[str, Any]) -> None:
    before = dict(matplotlib.rcParams)
    first = figures(document)
    assert dict(matplotlib.rcParams) == before
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "red", "svg.fonttype": "path"}):
        assert figures(document) == first


def test_no_style_for_the_page_no_metadata_no_date(document: dict[str, Any]) -> None:
    for figure in figures(document):
        for panel in figure.panels:
            assert "<style" not in panel
            assert "<metadata" not in panel
            assert not re.search(r"20\d\d-\d\d-\d\d", panel)


def test_names_come_out_as_they_are(document: dict[str, Any]) -> None:
    for run in document["runs"]:
        run["name"] = EVIL if run["name"] == "torch" else run["name"]
    for account in document["accounts"]:
        account["run"] = EVIL if account["run"] == "torch" else account["run"]
    for figure in figures(document):
        for panel in figure.panels:
            assert "<script" not in panel
    (first, *_) = joules_by_accuracy(document).panels
    assert EVIL in label(first)
    assert short(EVIL) in texts(first)


def test_text_is_no_formula() -> None:
    def draw(figure: Any) -> None:
        figure.text(0, 0, EVIL)

    assert texts(svg("x", "x", 2, draw)) == [EVIL]


def test_each_run_has_a_second_code_beside_its_colour() -> None:
    drawn = looks(f"run {i}" for i in range(77))
    assert len(set(drawn.values())) == 77
    for some in (7, 11):
        first = [drawn[f"run {i}"] for i in range(some)]
        assert len({look.marker for look in first}) == some
    assert len(set(COLOURS)) == 7
    assert len({hatch for _, _, hatch in PHASES.values()}) == len(PHASES)


def test_accuracy_shows_each_cost_and_both_references(document: dict[str, Any]) -> None:
    figure = joules_by_accuracy(document)
    for panel, profile in zip(figure.panels, ("cmos_45nm", "gpu_h100"), strict=True):
        assert {"brain", "landauer", "torch", "backprop"} <= {text.strip() for text in texts(panel)}
        for account in document["accounts"]:
            if account["profile"] == profile:
                assert f"{account['run']} {quantity(account['joules_per_sample']['p50'], 'J')}" in label(panel)
    assert "broken" in figure.caption
    for reference in document["references"]:
        assert cost(reference) in figure.caption


def test_references_near_the_runs_need_no_broken_axis(document: dict[str, Any]) -> None:
    for reference in document["references"]:
        reference["joules_per_sample"] = document["accounts"][0]["joules_per_sample"]
    assert "broken" not in joules_by_accuracy(document).caption
    document["references"] = []
    figure = joules_by_accuracy(document)
    assert "scale" not in figure.caption
    assert "landauer" not in "".join(texts(figure.panels[0]))


def test_runs_of_one_accuracy_are_drawn_apart_and_others_where_they_are() -> None:
    heights = _apart([95.0, 97.0, 95.0], (94.0, 98.0))
    assert heights[1] == 97.0
    assert heights[0] < 95.0 < heights[2]
    assert heights[2] - heights[0] == pytest.approx(0.055 * 4)
    assert _apart([95.0], (94.0, 96.0)) == [95.0]


def test_shares_of_the_phases_are_those_of_the_document(document: dict[str, Any]) -> None:
    for panel, profile in zip(joules_by_phase(document).panels, ("cmos_45nm", "gpu_h100"), strict=True):
        for account in (a for a in document["accounts"] if a["profile"] == profile):
            shares = [e["nominal"] / account["joules_per_sample"]["nominal"] for e in account["phases"].values()]
            assert math.fsum(shares) == pytest.approx(1)
            said = label(panel)[label(panel).index(f"{account['run']} {cost(account)}") :].partition(";")[0]
            assert re.findall(r"([\d.]+) %", said) == [f"{100 * share:.1f}" for share in shares]


def test_batches_have_both_parts_of_both_algorithms(document: dict[str, Any]) -> None:
    (panel,) = joules_by_batch(document).panels
    assert {"EP, dynamic", "EP, static", "backprop, dynamic", "backprop, static"} <= set(texts(panel))
    assert {count(batch) for batch in document["by_batch"][0]["batch"]} <= set(texts(panel))
    for row in document["by_batch"]:
        assert f"{quantity(row['static'][0], 'J')} at 1" in label(panel)
        row["static"] = [0.0] * len(row["static"])
    (panel,) = joules_by_batch(document).panels
    assert "EP, static" not in texts(panel)


def test_the_crossover_is_marked_or_said_not_to_exist(document: dict[str, Any]) -> None:
    row = document["by_steps"][0]
    assert row["crossover"] is None
    assert crossover(row).startswith("no crossover: ")
    assert crossover(row) in texts(ratio_by_steps(document).panels[0])
    assert number(row["ratio_of_the_run"]["p50"]) in label(ratio_by_steps(document).panels[0])
    row["ratio"] = [scaled(r, 1e-3) for r in row["ratio"]]
    assert crossover(row) == f"no crossover: below 1 up to {row['steps'][-1]} steps"
    row["crossover"] = 12.345
    assert "crosses 1 at 12.3 steps" in texts(ratio_by_steps(document).panels[0])


def test_a_tornado_has_the_figures_that_matter(document: dict[str, Any]) -> None:
    figure = tornado(document)
    for panel, account in zip(figure.panels, [a for a in document["accounts"] if a["run"] == "torch"], strict=True):
        first = account["sensitivities"][0]
        assert f"{quantity(first['low'], 'J')} to {quantity(first['high'], 'J')}" in label(panel)
        assert f"{100 * first['share']:.1f} %" in texts(panel)
    assert "time of launches" in texts(figure.panels[1])
    assert "price of host bytes" not in texts(figure.panels[1])
    assert "torch" in texts(figure.panels[0])[-1]


def test_what_cannot_be_drawn_is_said(document: dict[str, Any]) -> None:
    def reason(figure: PageFigure) -> str:
        assert figure.panels == []
        return figure.missing

    document |= {"by_batch": [], "by_steps": []}
    assert "Hopfield" in reason(joules_by_batch(document))
    assert "Hopfield" in reason(ratio_by_steps(document))
    document["profiles"] = document["profiles"][:1]
    assert "static power" in reason(joules_by_batch(document))
    document["runs"] = document["runs"][:1]
    document["accounts"] = [a for a in document["accounts"] if a["run"] == document["runs"][0]["name"]]
    assert "no run by backpropagation" in reason(ratio_by_steps(document))
    for account in document["accounts"]:
        account["joules_per_sample"] = scaled(account["joules_per_sample"], 0)
        account["sensitivities"] = []
    assert "zero" in reason(joules_by_accuracy(document))
    assert "zero" in reason(joules_by_phase(document))
    assert "interval" in reason(tornado(document))
    for run in document["runs"]:
        run["test_accuracy"] = None
    assert "accuracy" in reason(joules_by_accuracy(document))


@pytest.mark.parametrize("low", [1.0, 1.3, 2.2, 3.1, 6.0, 9.7])
@pytest.mark.parametrize("decades", [1, 1.2, 1.7, 2, 3, 5, 11])
@pytest.mark.parametrize("most", [2, 3, 5, 7])
def test_log_ticks_are_two_at_least_and_not_too_many(low: float, decades: float, most: int) -> None:
    low, high = low * 1e-9, low * 1e-9 * 10**decades
    ticks = log_ticks(low, high, most)
    assert 2 <= len(ticks) <= max(most, 4)
    assert all(low * 0.99 <= tick <= high * 1.01 for tick in ticks)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (8.0797e-7, "808 nJ"),
        (9.996e-7, "1.00 µJ"),
        (72.0, "72.0 J"),
        (0.0, "0 J"),
        (2.871e-21, "2.87 zJ"),
        (1.5e3, "1.50 kJ"),
    ],
)
def test_quantities_have_three_digits_and_a_prefix(value: float, said: str) -> None:
    assert quantity(value, "J").replace("\N{NO-BREAK SPACE}", " ") == said
    if value:
        read = float(said.split()[0]) * {"n": 1e-9, "µ": 1e-6, "z": 1e-21, "k": 1e3}.get(said.split()[1][0], 1)
        assert read == pytest.approx(value, rel=5e-3)


def test_other_numbers_in_words() -> None:
    def spaced(text: str) -> str:
        return text.replace("\N{NO-BREAK SPACE}", " ")

    assert [joules(v) for v in (2e-8, 1e-6)] == ["20\N{NO-BREAK SPACE}nJ", "1\N{NO-BREAK SPACE}µJ"]
    estimate: Mapping[str, float] = {"p5": 9.1e-10, "p50": 2.05e-9, "p95": 1.234e-6}
    assert spaced(interval(estimate, "J")) == "[0.910, 1230] nJ"
    assert interval({"p5": 7.296, "p50": 8.0, "p95": 8.388}) == "[7.30, 8.39]"
    assert [number(v) for v in (0, 9.996, 999.7, 123456, 1.5e-5)] == ["0", "10.0", "1,000", "123,000", "1.50e-05"]
    assert [count(v) for v in (1234567, 0.5)] == ["1,234,567", "0.500"]
    assert (spaced(percent(0.95821)), percent(None)) == ("95.82 %", "not known")
    assert short("a" * 30, 10) == "aaaaa…aaaa"
