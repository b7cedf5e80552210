"""The account: counts times prices, by hand; an interval; a lower bound that says that it is one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

import mep_neuro as mep
from mep_neuro.errors import InputError, ProfileError

COUNTS = mep.OperationCounts(samples=4, entries={("free", "macs"): 1000, ("update", "macs"): 200})

PROFILE = """
name = "mine"
title = "a chip of my own"
describes = "for this test"

[prices.macs]
value = 2.0
unit = "nJ"
low = 1.0
high = 5.0
kind = "measured"
scope = "marginal"
conditions = "8 bits"
source = "my bench"
place = "page 1"
verified = true

[prices.accumulates]
value = 100
unit = "fJ"
low = 100
high = 100
kind = "assumed"
scope = "marginal"
conditions = "none"
source = "a guess"
place = "nowhere"
verified = false
"""


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    path = tmp_path / "mine.toml"
    path.write_text(PROFILE, encoding="utf-8")
    return path


def test_macs_cost_4_6_picojoules_each() -> None:
    report = mep.account(COUNTS)
    assert report.joules_per_sample == pytest.approx(1200 / 4 * 4.6e-12, rel=1e-14)
    assert report.interval == pytest.approx((300 * 2.3e-12, 300 * 9.2e-12), rel=1e-14)
    assert report.breakdown == pytest.approx({("free", "macs"): 250 * 4.6e-12, ("update", "macs"): 50 * 4.6e-12})
    assert report.profile.name == "cmos_45nm"
    assert report.grade == "published"
    assert not report.lower_bound
    assert report.unpriced == ()


def test_prices_of_several_operations_add_up(mine: Path) -> None:
    counts = COUNTS + mep.OperationCounts(entries={("nudged", "accumulates"): 40})
    report = mep.account(counts, mine)
    assert report.joules_per_sample == pytest.approx(300 * 2e-9 + 10 * 1e-13, rel=1e-14)
    assert report.interval == pytest.approx((300e-9 + 1e-12, 1500e-9 + 1e-12), rel=1e-14)
    assert sum(report.breakdown.values()) == pytest.approx(report.joules_per_sample, rel=1e-14)
    assert report.breakdown["nudged", "accumulates"] == pytest.approx(1e-12, rel=1e-14)
    assert not report.lower_bound


def test_the_grade_is_that_of_the_weakest_price_in_use(mine: Path) -> None:
    assert mep.account(COUNTS, mine).grade == "measured"
    used = COUNTS + mep.OperationCounts(entries={("free", "accumulates"): 1})
    assert mep.account(used, mine).grade == "assumed"


def test_what_has_no_price_makes_it_a_lower_bound() -> None:
    more = mep.OperationCounts(entries={("free", "state_bytes"): 7, ("update", "neuron_updates"): 3})
    report = mep.account(COUNTS + more)
    assert report.lower_bound
    assert report.unpriced == ("neuron_updates", "state_bytes")
    assert report.joules_per_sample == mep.account(COUNTS).joules_per_sample
    document = report.to_json()
    assert document["lower_bound"] is True
    assert document["unpriced"] == ["neuron_updates", "state_bytes"]


def test_it_is_per_sample() -> None:
    assert mep.account(COUNTS + COUNTS).joules_per_sample == mep.account(COUNTS).joules_per_sample
    halved = replace(COUNTS, samples=8)
    assert mep.account(halved).joules_per_sample == mep.account(COUNTS).joules_per_sample / 2


def test_sources_stand_beside_the_figures(mine: Path) -> None:
    (line,) = mep.account(COUNTS).sources
    assert line.startswith("macs: 4.6 pJ (published), Horowitz, ISSCC 2014, doi:10.1109/ISSCC.2014.6757323")
    assert mep.account(COUNTS, mine).sources == (
        "macs: 2 nJ (measured), my bench, page 1",
        "accumulates: 100 fJ (assumed, not verified), a guess, nowhere",
    )


def test_as_plain_values() -> None:
    report = mep.account(COUNTS)
    assert report.to_json() == {
        "profile": "cmos_45nm",
        "joules_per_sample": report.joules_per_sample,
        "interval": list(report.interval),
        "lower_bound": False,
        "unpriced": [],
        "grade": "published",
        "sources": list(report.sources),
    }


@pytest.mark.parametrize("samples", [0, -1])
def test_counts_over_no_samples(samples: int) -> None:
    with pytest.raises(InputError, match="over no samples"):
        mep.account(mep.OperationCounts(samples=samples, entries={("free", "macs"): 1}))


def test_a_profile_by_name_by_path_or_as_a_value(mine: Path) -> None:
    by_path = mep.account(COUNTS, str(mine))
    assert by_path.profile.name == "mine"
    assert mep.account(COUNTS, mine) == by_path
    assert mep.account(COUNTS, mep.hardware_profile(mine)) == by_path
    assert mep.account(COUNTS, "cmos_45nm") == mep.account(COUNTS)


def test_an_unknown_profile() -> None:
    with pytest.raises(ProfileError, match=r"no hardware profile 'cmos_4nm'.*Did you mean 'cmos_45nm'\?"):
        mep.account(COUNTS, "cmos_4nm")
