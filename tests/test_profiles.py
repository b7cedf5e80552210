"""Hardware profiles: each price with unit, interval, kind and source; a malformed one is told of by file and key."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import mep_neuro as mep
from mep_neuro.counts import OPERATIONS
from mep_neuro.errors import ProfileError
from mep_neuro.profiles import JOULES, KINDS, profile_folder

GOOD = """\
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
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "mine.toml"
    path.write_text(GOOD, encoding="utf-8")
    return path


def test_there_are_profiles() -> None:
    assert "cmos_45nm" in mep.profile_names()
    assert mep.profile_names() == tuple(sorted(path.stem for path in profile_folder().iterdir()))


@pytest.mark.parametrize("name", mep.profile_names())
def test_every_price_that_comes_along_says_what_it_is_and_where_from(name: str) -> None:
    profile = mep.hardware_profile(name)
    assert profile.name == name
    assert profile.prices
    for operation, price in profile.prices.items():
        assert operation in OPERATIONS
        assert price.unit in JOULES
        assert price.kind in KINDS
        assert 0 <= price.low <= price.value <= price.high
        assert price.high > 0
        assert re.search(r"doi:10\.|https?://", price.source), f"{operation}: no DOI or address in {price.source!r}"
        assert price.place
        assert price.conditions


def test_ones_own_by_path(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    price = mep.hardware_profile(str(path)).prices["macs"]
    assert price.joules == pytest.approx((2e-9, 1e-9, 5e-9), rel=1e-14)
    assert mep.hardware_profile(path) == mep.hardware_profile(str(path))
    monkeypatch.chdir(path.parent)
    assert mep.hardware_profile("mine.toml").name == "mine"


def test_a_changed_file_is_read_again(path: Path) -> None:
    assert mep.hardware_profile(path).prices["macs"].value == 2.0
    path.write_text(GOOD.replace("value = 2.0", "value = 3.0"), encoding="utf-8")
    assert mep.hardware_profile(path).prices["macs"].value == 3.0


@pytest.mark.parametrize("unit", JOULES)
def test_units(path: Path, unit: str) -> None:
    path.write_text(GOOD.replace('"nJ"', f'"{unit}"'), encoding="utf-8")
    scale = {"J": 1, "mJ": 1e-3, "uJ": 1e-6, "nJ": 1e-9, "pJ": 1e-12, "fJ": 1e-15}[unit]
    assert mep.hardware_profile(path).prices["macs"].joules[0] == pytest.approx(2 * scale, rel=1e-14)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('unit = "nJ"\n', "", "prices.macs.unit: Field required"),
        ('unit = "nJ"', 'unit = "kWh"', "prices.macs.unit: Input should be 'J', 'mJ'"),
        ("value = 2.0\n", "", "prices.macs.value: Field required"),
        ("value = 2.0", "valeu = 2.0", "prices.macs.valeu: unknown key. Did you mean 'value'?"),
        ('place = "page 1"', 'place = "page 1"\nplaces = 3', "prices.macs.places: unknown key. Did you mean 'place'?"),
        ("[prices.macs]", "[prices.mac]", "prices.mac: unknown key. Did you mean 'macs'?"),
        ('title = "a chip', 'titel = "a chip', "titel: unknown key. Did you mean 'title'?"),
        ('name = "mine"\n', "", "name: Field required"),
        ("low = 1.0", "low = 2.5", "prices.macs: Value error, needs low <= value <= high, not 2.5, 2.0, 5.0"),
        ("high = 5.0", "high = 1.5", "prices.macs: Value error, needs low <= value <= high, not 1.0, 2.0, 1.5"),
        ("value = 2.0", "value = -2.0", "prices.macs.value: Input should be greater than or equal to 0"),
        ("low = 1.0", "low = -1.0", "prices.macs.low: Input should be greater than or equal to 0"),
        ("value = 2.0", "value = nan", "prices.macs.value: Input should be"),
        ("high = 5.0", "high = inf", "prices.macs.high: Input should be a finite number"),
        ("value = 2.0", 'value = "2.0"', "prices.macs.value: Input should be a valid number"),
        ("value = 2.0", "value = true", "prices.macs.value: Input should be a valid number"),
        ('source = "my bench"\n', "", "prices.macs.source: Field required"),
        ('source = "my bench"', 'source = ""', "prices.macs.source: String should have at least 1 character"),
        ('source = "my bench"', 'source = "  "', "prices.macs.source: String should have at least 1 character"),
        ('kind = "measured"', 'kind = "measurd"', "prices.macs.kind: Input should be 'measured'"),
        ('scope = "marginal"', 'scope = "total"', "prices.macs.scope: Input should be 'marginal'"),
        ("verified = true", 'verified = "yes"', "prices.macs.verified: Input should be a valid boolean"),
        (GOOD[GOOD.index("[prices.macs]") :], "[prices]", "prices: Dictionary should have at least 1 item"),
        (GOOD[GOOD.index("[prices.macs]") :], "prices = 3", "prices: Input should be a valid dictionary"),
        ("value = 2.0", "value = = 2", "is no TOML"),
        (GOOD, "\0", "is no TOML"),
    ],
)
def test_a_malformed_one_is_told_of_by_file_and_key(path: Path, old: str, new: str, said: str) -> None:
    assert GOOD.count(old) == 1
    path.write_text(GOOD.replace(old, new), encoding="utf-8")
    with pytest.raises(ProfileError) as caught:
        mep.hardware_profile(path)
    assert str(caught.value).startswith(str(path))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_is_no_text(path: Path) -> None:
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ProfileError, match="is no TOML"):
        mep.hardware_profile(path)


@pytest.mark.parametrize("name", ["nope", "nope.toml", "", ".", "../hardware_profiles/none"])
def test_one_that_is_not_there(name: str) -> None:
    with pytest.raises(ProfileError, match=r"there are: .*cmos_45nm.*or give the path of a \.toml file"):
        mep.hardware_profile(name)


def test_a_folder_is_no_profile(tmp_path: Path) -> None:
    (tmp_path / "folder.toml").mkdir()
    with pytest.raises(ProfileError, match="no hardware profile"):
        mep.hardware_profile(tmp_path / "folder.toml")


def test_prices_cannot_be_changed(path: Path) -> None:
    profile = mep.hardware_profile(path)
    with pytest.raises(ValueError, match="frozen"):
        profile.prices["macs"].value = 0.0  # type: ignore[misc]
    with pytest.raises(ValueError, match="frozen"):
        profile.name = "other"  # type: ignore[misc]
