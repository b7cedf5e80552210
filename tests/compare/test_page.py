"""The page: it holds the document's numbers, loads nothing, lets nothing in, and a browser finds no fault with it."""

from __future__ import annotations

import copy
import json
import logging
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from mep_neuro.compare import compare
from mep_neuro.compare import page as page_module
from mep_neuro.compare.page import check_page, page
from mep_neuro.compare.quantities import cost, interval, number, percent, quantity
from mep_neuro.compare.sources import linked
from mep_neuro.compare.summary import summary
from mep_neuro.errors import InputError
from mep_neuro.runs import RunSettings

for library in ("jinja2", "matplotlib"):
    pytest.importorskip(library, reason="the page needs mep-neuro[report]")

SETTINGS = RunSettings(layers=(64, 12, 10), epochs=1, batch_size=64, options={"max_steps": 6})
BROWSER = next((path for name in ("chromium", "google-chrome", "chrome") if (path := shutil.which(name))), None)
EVIL = "<script>alert(\"1\")</script> & <img src=x onerror=alert(2)> '{{ 7 * 7 }}'"
VOID = {"meta", "br", "img", "link", "hr", "input"}


class Page(HTMLParser):
    """A page as tests read it: its tags with their attributes, its tables' cells by id, and their exact values."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.tables: dict[str, list[list[str]]] = {}
        self.values: list[float] = []
        self.text = ""
        self._table: list[list[str]] = []
        self._open: list[str] = []
        self.feed(text)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = {name: value or "" for name, value in attrs}
        self.tags.append((tag, attributes))
        if tag not in VOID:
            self._open.append(tag)
        if tag == "table":
            self._table = self.tables.setdefault(attributes.get("id", f"table {len(self.tables)}"), [])
        elif tag == "tr":
            self._table.append([])
        elif tag in ("td", "th"):
            self._table[-1].append("")
        elif tag == "data":
            self.values.append(float(attributes["value"]))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data
        if "table" in self._open and {"td", "th"} & set(self._open):
            self._table[-1][-1] = " ".join(f"{self._table[-1][-1]} {data}".split())


@pytest.fixture(scope="module")
def made() -> dict[str, Any]:
    logging.disable(logging.WARNING)
    try:
        return compare(SETTINGS, ["torch"], profiles=["cmos_45nm", "cpu_laptop", "gpu_h100"], draws=200).document
    finally:
        logging.disable(logging.NOTSET)


@pytest.fixture(scope="module")
def whole(made: dict[str, Any]) -> str:
    return page(made)


@pytest.fixture
def document(made: dict[str, Any]) -> dict[str, Any]:
    """A comparison's document, for a test to change as it likes."""
    return copy.deepcopy(made)


def spaced(text: str) -> str:
    return " ".join(text.replace("\N{NO-BREAK SPACE}", " ").split())


def estimate(e: dict[str, float] | None, unit: str) -> str:
    """An estimate as a cell has it."""
    if e is None:
        return "not known"
    return quantity(e["p50"], unit) + (f" {interval(e, unit)}" if e["p5"] != e["p95"] else "")


def expected(document: dict[str, Any]) -> list[list[str]]:
    """The rows of the table of estimates, by profile."""
    runs = {run["name"]: run for run in document["runs"]}
    rows = []
    for profile in document["profiles"]:
        for a in document["accounts"]:
            if a["profile"] == profile["name"]:
                run, times, band = runs[a["run"]], a["ratio_to_baseline"], a["joules_per_sample"]
                corners = {"p5": a["corners"][0], "p50": band["p50"], "p95": a["corners"][1]}
                base = "it is the baseline" if run["algorithm"] == "backpropagation" else "none"
                cells = [
                    *(a["run"], percent(run["test_accuracy"]), f"{run['batch_size']}", a["profile"]),
                    (">= " if a["lower_bound"] else "") + estimate(band, "J"),
                    interval(corners, "J"),
                    *(estimate(a[part], "J") for part in ("dynamic", "static")),
                    estimate(a["seconds_per_sample"], "s"),
                    estimate(a["energy_delay"], "J s"),
                    f"{number(times['p50'])} {interval(times)}" if times else base,
                    a["grade"] + (f" {len(a['unverified'])} not verified" if a["unverified"] else ""),
                ]
                rows.append([spaced(cell) for cell in cells])
    return rows


def with_measured(document: dict[str, Any], *, windows: int = 6) -> dict[str, Any]:
    """The document with joules measured for its first run."""
    samples = document["runs"][0]["mep:counts"]["samples"]
    many = windows > 4
    document["runs"][0]["mep:measured"] = {
        "sensor": "rapl",
        "covers": "the CPU package",
        "joules": 2e-3 * samples,
        "seconds": 12.5,
        "idle_before": 1.25,
        "idle_after": 1.5,
        "windows": [[2.0, 1.0]] * windows,
        "idle_watts": 1.375,
        "running_watts": 2.5,
        "interval": [1.9e-3 * samples, 2.1e-3 * samples] if many else None,
        "dynamic_joules": 1e-3 * samples,
        "dynamic_interval": [0.9e-3 * samples, 1.1e-3 * samples] if many else None,
        "note": "" if many else "no interval: too few windows",
    }
    for account in document["accounts"]:
        if account["run"] == document["runs"][0]["name"]:
            account["estimated_over_measured"] = account["joules_per_sample"]["p50"] / 2e-3
    return document


def test_the_table_of_estimates_is_the_documents(made: dict[str, Any], whole: str) -> None:
    read = Page(whole)
    head, *rows = read.tables["estimated"]
    assert [[spaced(cell) for cell in row] for row in rows] == expected(made)
    assert len(rows) == len(made["accounts"]) == 6
    assert len(head) == 12
    exact = {a[part]["p50"] for a in made["accounts"] for part in ("joules_per_sample", "dynamic", "static")}
    assert exact <= set(read.values)
    assert not any("measured" in cell for cell in head)


def test_lower_bounds_and_figures_not_verified_are_marked(made: dict[str, Any], whole: str) -> None:
    rows = {(row[0], row[3]): row for row in Page(whole).tables["estimated"][1:]}
    bounds = [a["lower_bound"] for a in made["accounts"]]
    flags = [bool(a["unverified"]) for a in made["accounts"]]
    assert True in bounds
    assert False in bounds
    assert True in flags
    assert False in flags
    for a in made["accounts"]:
        row = rows[a["run"], a["profile"]]
        assert row[4].startswith(">=") == a["lower_bound"]
        assert ("not verified" in row[11]) == bool(a["unverified"])


def test_measured_joules_stand_in_a_table_of_their_own(document: dict[str, Any]) -> None:
    read = Page(page(with_measured(document)))
    head, row = [[spaced(cell) for cell in row] for row in read.tables["measured"]]  # fmt: skip
    assert head[0] == "run"
    assert row[0] == "torch"
    assert row[3:7] == ["rapl: the CPU package", "2.00 mJ [1.90, 2.10] mJ", "1.00 mJ [0.900, 1.10] mJ", "2.50 W"]
    assert row[7:9] == ["1.25 W, 1.50 W", "12.5 s in 6 windows"]
    ratios = [a for a in document["accounts"] if a["run"] == "torch"]
    bounds = [">= " if a["lower_bound"] else "" for a in ratios]
    told = [f"{a['profile']} {b}{number(a['estimated_over_measured'])}" for a, b in zip(ratios, bounds, strict=True)]
    assert row[9] == "; ".join(told)
    assert read.tables["estimated"] == Page(page(document)).tables["estimated"]
    assert "Joules were measured for torch." in read.text


def test_too_few_windows_have_no_interval_but_a_note(document: dict[str, Any]) -> None:
    row = [spaced(cell) for cell in Page(page(with_measured(document, windows=1))).tables["measured"][1]]
    assert row[4:6] == ["2.00 mJ", "1.00 mJ"]
    assert row[8] == "12.5 s in 1 window; no interval: too few windows"


def test_why_nothing_was_measured_is_said(document: dict[str, Any]) -> None:
    for run in document["runs"]:
        run["mep:not_measured"] = "no sensor: <nothing> here"
    read = Page(page(document))
    assert "measured" not in read.tables
    assert "torch and backprop: not measured; no sensor: <nothing> here" in read.text
    assert "Nothing was measured." in read.text


def test_the_page_loads_nothing(whole: str) -> None:
    read = Page(whole)
    assert {tag for tag, _ in read.tags} & {
        "script",
        "link",
        "img",
        "iframe",
        "object",
        "embed",
        "base",
        "form",
    } == set()
    policy = next(a["content"] for tag, a in read.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'; style-src 'unsafe-inline'")
    ids = [a["id"] for _, a in read.tags if "id" in a]
    assert len(ids) == len(set(ids))
    for tag, attributes in read.tags:
        assert not {name for name in attributes if name.startswith("on") or name in ("src", "srcset", "data")}
        for name in ("href", "xlink:href"):
            target = attributes.get(name, "")
            assert target[1:] in ids if target.startswith("#") else not target or tag == "a"
            assert target == "" or re.match(r"#|https?://", target)
    assert re.findall(r"url\((?!#)|@import", whole) == []


def test_the_same_document_gives_the_same_page(made: dict[str, Any], whole: str) -> None:
    assert page(json.loads(json.dumps(made))) == whole


def test_what_comes_from_outside_comes_out_inert(document: dict[str, Any]) -> None:
    document["data"] = EVIL
    document["left_out"] = [{"run": EVIL, "profile": EVIL, "reason": EVIL}]
    document["runs"][0] |= {"name": EVIL, "mep:not_measured": EVIL}
    document["runs"][0]["settings"]["options"] = {EVIL: EVIL}
    for key in ("title", "describes", "name", "sha256"):
        document["profiles"][0][key] = EVIL
    document["profiles"][0] |= {"excludes": [EVIL], "included": {"macs": EVIL}}
    for figure in document["profiles"][0]["figures"]:
        figure |= dict.fromkeys(("unit", "conditions", "source", "place"), EVIL)
    for rows in (document["accounts"], document["by_batch"], document["by_steps"]):
        for row in rows:
            row["profile"] = EVIL if row["profile"] == "cmos_45nm" else row["profile"]
            if row.get("run") == "torch":
                row["run"] = EVIL
    text = page(document)
    read = Page(text)
    assert {"script", "img"} & {tag for tag, _ in read.tags} == set()
    assert not [name for _, attributes in read.tags for name in attributes if name.startswith("on")]
    assert "alert(2)>" not in text.replace("&gt;", "")
    assert read.text.count(EVIL) > 20  # as text, it is all there
    assert "49" not in [word for row in read.tables["estimated"] for word in row[0].split()]
    assert read.tables["estimated"][1][0] == EVIL


def test_sources_are_links_where_they_are_addresses() -> None:
    assert linked("a (https://a.org/b_(c)?d=1&e).") == (
        'a (<a href="https://a.org/b_(c)?d=1&amp;e">https://a.org/b_(c)?d=1&amp;e</a>).'
    )
    assert linked("doi:10.1016/S0893-6080(05)80125-X, p. 1") == (
        '<a href="https://doi.org/10.1016/S0893-6080(05)80125-X">doi:10.1016/S0893-6080(05)80125-X</a>, p. 1'
    )
    for text in ("javascript:alert(1)", "javascript://a.org/%0aalert(1)", "data:text/html,x", "doi:javascript:1", "a"):
        assert linked(text) == text
    assert linked('https://a.org/"onclick="x') == '<a href="https://a.org/">https://a.org/</a>&quot;onclick=&quot;x'
    assert "<b>" not in linked("https://a.org/<b>x</b>")


def test_all_prices_are_there_with_their_sources(made: dict[str, Any], whole: str) -> None:
    read = Page(whole)
    rows = [row for table in read.tables.values() if table[0][0] == "figure" for row in table[1:]]
    figures = [figure for profile in made["profiles"] for figure in profile["figures"]]
    assert len(rows) == len(figures)
    for row, f in zip(rows, figures, strict=True):
        assert row[1:4] == [f"{f['value']:g}", f"[{f['low']:g}, {f['high']:g}]", f["unit"]]
        assert row[4:7] == [f["kind"], f["scope"].replace("_", " "), "yes" if f["verified"] else "not verified"]
        assert row[7].replace(" ", "") == f["conditions"].replace(" ", "")
        assert row[8].replace(" ", "") == f"{f['source']}, {f['place']}".replace(" ", "")
    targets = {a.get("href") for tag, a in read.tags if tag == "a"}
    assert "https://doi.org/10.1109/ISSCC.2014.6757323" in targets


def test_a_mark_leads_to_the_prices_that_it_is_about(whole: str) -> None:
    read = Page(whole)
    flags = {a["href"] for tag, a in read.tags if a.get("class") == "flag" and tag == "a"}
    headings = re.findall(r'<h3 id="([^"]*)">(\w+):', whole)
    assert flags == {f"#{at}" for at, name in headings if name in ("cpu_laptop", "gpu_h100")}


def test_what_is_left_out_is_said(document: dict[str, Any]) -> None:
    document["left_out"] = [{"run": "torch", "profile": "odin", "reason": "it has no price for macs"}]
    read = Page(page(document))
    assert "No account of torch on odin: it has no price for macs" in spaced(read.text)
    rows = {row[0]: row for row in read.tables["left-out"][1:]}
    assert rows["cmos_45nm"][1] == "neuron updates, weight bytes, state bytes, host bytes"
    assert rows["gpu_h100"][1] == "nothing"
    for profile in document["profiles"]:
        for left_out in profile["excludes"]:
            assert left_out in rows[profile["name"]][2]
        for why in profile["included"].values():
            assert why in rows[profile["name"]][3]


def test_raw_counts_metrics_and_provenance_are_there(made: dict[str, Any], whole: str) -> None:
    read = Page(whole)
    cells = {cell for table in read.tables.values() for row in table for cell in row}
    for run in made["runs"]:
        for phase in ("free", "nudged", "update", "input_output"):
            assert {f"{n:,}" for n in run["mep:counts"][phase].values()} <= cells
        metrics = run["neurobench"]
        assert {"Footprint", "SynapticOperations.Effective_MACs", str(metrics["ActivationSparsity"])} <= cells
    assert {"free (forward)", "nudged (backward)", "free", "nudged"} <= cells
    for account in made["accounts"]:
        assert {part["joules"] for part in account["breakdown"]} <= set(read.values)
    for said in (*made["versions"].values(), *(p["sha256"] for p in made["profiles"]), made["schema"]):
        assert said in read.text
    assert f"{made['draws']:,}" in read.text


def test_the_summary_is_made_from_the_numbers(document: dict[str, Any]) -> None:
    said = spaced(summary(document))
    assert "2 runs of a network 64-12-10 on digits, 1 epoch at a batch size of 64" in said
    best = max(document["runs"], key=lambda run: run["test_accuracy"])
    assert f"The best test accuracy is {spaced(percent(best['test_accuracy']))} ({best['name']})" in said
    costs = sorted(document["accounts"], key=lambda a: a["joules_per_sample"]["p50"])
    assert f"from {spaced(cost(costs[0]))} [" in said
    assert f"to {spaced(cost(costs[-1]))} [" in said
    ratios = sorted(a["ratio_to_baseline"]["p50"] for a in document["accounts"] if a["ratio_to_baseline"])
    assert f"costs from {number(ratios[0])} [" in said
    assert f"to {number(ratios[-1])} [" in said
    assert "No chip gave the estimated joules" in said
    document["runs"][0] |= {"epochs": 3, "batch_size": 32}
    document["runs"][0]["settings"]["layers"] = [64, 10]
    said = spaced(summary(document))
    assert "2 runs of networks 64-10 and 64-12-10 on digits, 1 to 3 epochs at a batch size of 32 to 64" in said


def only(document: dict[str, Any], run: str, profile: str) -> dict[str, Any]:
    """The document of one run on one profile, without a baseline."""
    document["runs"] = [r for r in document["runs"] if r["name"] == run]
    document["profiles"] = [p for p in document["profiles"] if p["name"] == profile]
    document["accounts"] = [a for a in document["accounts"] if (a["run"], a["profile"]) == (run, profile)]
    for account in document["accounts"]:
        account["ratio_to_baseline"] = None
    return document | {"by_batch": [], "by_steps": []}


def test_one_run_on_one_profile_without_a_baseline(document: dict[str, Any]) -> None:
    one = only(document, "torch", "cpu_laptop")
    read = Page(page(one))
    assert [[spaced(cell) for cell in row] for row in read.tables["estimated"][1:]] == expected(one)
    assert read.tables["estimated"][1][10] == "none"
    assert read.text.count("Not drawn.") == 2
    assert "There is no run by backpropagation here to compare with." in read.text
    assert "what backpropagation costs" not in spaced(read.text)


def test_a_run_without_accuracy_and_without_cost(document: dict[str, Any]) -> None:
    one = only(document, "torch", "cpu_laptop")
    one["runs"][0]["test_accuracy"] = None
    (account,) = one["accounts"]
    nothing = dict.fromkeys(("p5", "p50", "p95", "nominal"), 0.0)
    account |= {"joules_per_sample": nothing, "dynamic": nothing, "static": nothing, "corners": [0.0, 0.0]}
    account |= {"phases": {}, "operations": {}, "breakdown": [], "sensitivities": [], "references": []}
    read = Page(page(one))
    assert [[spaced(cell) for cell in row] for row in read.tables["estimated"][1:]] == expected(one)
    assert read.tables["estimated"][1][1] == "not known"
    assert read.text.count("Not drawn.") == 5
    assert "No test accuracy is known." in read.text


def test_a_missing_library_is_said_before_anything_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    check_page()
    find = page_module.importlib.util.find_spec
    monkeypatch.setattr(
        page_module.importlib.util, "find_spec", lambda name: None if name == "matplotlib" else find(name)
    )
    with pytest.raises(InputError, match=r"jinja2 and matplotlib: pip install 'mep-neuro\[report\]'"):
        check_page()
    with pytest.raises(InputError, match="mep-neuro"):
        page({})


def loaded(text: str, folder: Path) -> tuple[str, list[str]]:
    """The page's elements once a browser has read it, and what the browser said about it."""
    (folder / "report.html").write_text(text, encoding="utf-8")
    assert BROWSER is not None
    done = subprocess.run(
        [
            *(BROWSER, "--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder / 'profile'}"),
            *("--dump-dom", "--enable-logging=stderr", "--v=0", (folder / "report.html").as_uri()),
        ],
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=120,
        check=True,
    )
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


@pytest.mark.skipif(BROWSER is None, reason="no chromium or google-chrome on the PATH")
def test_a_browser_shows_the_documents_numbers_without_complaint(
    made: dict[str, Any], whole: str, tmp_path: Path
) -> None:
    dom, complaints = loaded(whole, tmp_path)
    assert complaints == []
    assert [[spaced(cell) for cell in row] for row in Page(dom).tables["estimated"][1:]] == expected(made)
    assert dom.count("<svg") == whole.count("<svg") == 13
    # The same browser does complain of what the page must not hold.
    _, complaints = loaded(whole.replace("<main>", '<main><img src="https://example.org/x.png" alt="">'), tmp_path)
    assert "Content Security Policy" in "".join(complaints)
