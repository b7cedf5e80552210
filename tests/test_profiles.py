"""Hardware profiles: each figure with unit, interval, kind and source; a malformed one is told of by file and key."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import mep_neuro as mep
from mep_neuro.counts import OPERATIONS
from mep_neuro.errors import ProfileError
from mep_neuro.profiles import KINDS, HardwareProfile, profile_folder, wanted_unit

TOP = """\
name = "mine"
title = "a chip of my own"
class = "digital"
describes = "for this test"
excludes = ["the host"]
"""

MACS = """
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

BYTES = """
[prices.weight_bytes]
value = 10
unit = "pJ/bit"
low = 10
high = 20
kind = "published"
scope = "marginal"
conditions = "memory beside the chip"
source = "a paper"
place = "table 2"
verified = false
"""

TIME = """
[times.macs]
value = 3
unit = "ns"
low = 3
high = 3
kind = "datasheet"
scope = "marginal"
conditions = "at the highest clock"
source = "a data sheet"
place = "page 3"
verified = true
"""

STATIC = """
[static.chip]
value = 4
unit = "mW"
low = 3.5
high = 4.5
kind = "measured"
scope = "static"
conditions = "at rest"
source = "my meter"
place = "page 4"
verified = true
"""

INCLUDED = """
[included]
state_bytes = "inside the multiply-accumulate"
"""

SCENARIO = """
[scenarios.slow]
describes = "at the lowest clock"
without = ["static.chip"]

[scenarios.slow.times.macs]
value = 300
unit = "ns"
low = 300
high = 300
kind = "datasheet"
scope = "marginal"
conditions = "at the lowest clock"
source = "a data sheet again"
place = "page 5"
verified = true
"""

GOOD = TOP + MACS + BYTES + TIME + STATIC + INCLUDED + SCENARIO


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "mine.toml"
    path.write_text(GOOD, encoding="utf-8")
    return path


def said_of(path: Path, text: str) -> str:
    """What is said of a file that holds this text: one line that begins with the file's path."""
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ProfileError) as caught:
        mep.hardware_profile(path)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    assert "the file:" not in message
    return message.removeprefix(str(path))


class TestThoseThatComeAlong:
    def test_there_are_at_least_twenty(self) -> None:
        assert len(mep.profile_names()) >= 20
        assert mep.profile_names() == tuple(sorted(path.stem for path in profile_folder().iterdir()))

    @pytest.mark.parametrize("name", mep.profile_names())
    def test_every_figure_says_what_it_is_and_where_from(self, name: str) -> None:
        profile = mep.hardware_profile(name)
        assert profile.name == name
        for p in [profile, *map(profile.under, profile.scenarios)]:
            check_figures(p)

    @pytest.mark.parametrize("name", mep.profile_names())
    def test_every_scenario_changes_something(self, name: str) -> None:
        profile = mep.hardware_profile(name)
        for scenario in profile.scenarios:
            under = mep.hardware_profile(f"{name}:{scenario}")
            assert under.name == f"{name}:{scenario}"
            assert (under.figures, under.included) != (profile.figures, profile.included)

    def test_a_figure_that_is_an_assumption_is_not_called_verified(self) -> None:
        for name in mep.profile_names():
            for key, (price, _) in mep.hardware_profile(name).figures.items():
                assert not (price.kind == "assumed" and price.verified), f"{name}: {key}"


def check_figures(profile: HardwareProfile) -> None:
    """Unit, interval, kind, conditions, source and place of all prices, times and static powers."""
    tables = [("prices", profile.prices), ("times", profile.times), ("static", profile.static)]
    scopes = {"prices": ("marginal", "all_in"), "times": ("marginal",), "static": ("static",)}
    assert len(profile.figures) == sum(len(table) for _, table in tables) > 0
    for table, figures in tables:
        for key, price in figures.items():
            where = f"{profile.name}: {table}.{key}"
            assert table == "static" or key in OPERATIONS, where
            assert price.kind in KINDS, where
            assert price.scope in scopes[table], where
            value, low, high = price.si(wanted_unit(table, key))
            assert 0 < low <= value <= high < 1e3, f"{where}: {low, value, high} {wanted_unit(table, key)}"
            assert re.search(r"doi:10\.\d{4,}/\S|https?://[\w-]+\.\w", price.source), (
                f"{where}: no DOI or address in {price.source!r}"
            )
            assert price.place.strip(), where
            assert price.conditions.strip(), where
    assert not {*profile.prices} & {*profile.included}
    assert set(profile.included) <= set(OPERATIONS)
    assert all(reason.strip() for reason in profile.included.values())
    assert not (profile.static and any(price.scope == "all_in" for price in profile.prices.values()))


class TestReading:
    def test_figures_are_in_si_units(self, path: Path) -> None:
        figures = mep.hardware_profile(path).figures
        assert {key: si for key, (_, si) in figures.items()} == {
            "prices.macs": pytest.approx((2e-9, 1e-9, 5e-9), rel=1e-15),
            "prices.weight_bytes": pytest.approx((80e-12, 80e-12, 160e-12), rel=1e-15),
            "times.macs": pytest.approx((3e-9, 3e-9, 3e-9), rel=1e-15),
            "static.chip": pytest.approx((4e-3, 3.5e-3, 4.5e-3), rel=1e-15),
        }
        assert figures["prices.macs"][0].source == "my bench"

    def test_what_is_counted_in_seconds_is_priced_in_watts(self, path: Path) -> None:
        text = GOOD.replace("[prices.macs]", "[prices.neuron_seconds]").replace('"nJ"', '"uW"')
        path.write_text(text, encoding="utf-8")
        assert mep.hardware_profile(path).figures["prices.neuron_seconds"][1] == pytest.approx((2e-6, 1e-6, 5e-6))

    def test_texts_and_classes(self, path: Path) -> None:
        profile = mep.hardware_profile(path)
        assert (profile.name, profile.title, profile.class_) == ("mine", "a chip of my own", "digital")
        assert (profile.describes, profile.excludes) == ("for this test", ("the host",))
        assert profile.included == {"state_bytes": "inside the multiply-accumulate"}
        for kind in ("convention", "neuromorphic", "analog", "reference"):
            path.write_text(GOOD.replace('"digital"', f'"{kind}"'), encoding="utf-8")
            assert mep.hardware_profile(path).class_ == kind

    def test_by_path(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        assert mep.hardware_profile(path) == mep.hardware_profile(str(path))
        monkeypatch.chdir(path.parent)
        assert mep.hardware_profile("mine.toml") == mep.hardware_profile(path)

    def test_a_changed_file_is_read_again(self, path: Path) -> None:
        assert mep.hardware_profile(path).prices["macs"].value == 2.0
        path.write_text(GOOD.replace("value = 2.0", "value = 3.0"), encoding="utf-8")
        assert mep.hardware_profile(path).prices["macs"].value == 3.0

    def test_one_sided_and_fixed_figures_are_good(self, path: Path) -> None:
        path.write_text(GOOD.replace("low = 1.0", "low = 2.0"), encoding="utf-8")
        assert mep.hardware_profile(path).figures["prices.macs"][1] == pytest.approx((2e-9, 2e-9, 5e-9))
        path.write_text(GOOD.replace("high = 5.0", "high = 2.0"), encoding="utf-8")
        assert mep.hardware_profile(path).figures["prices.macs"][1] == pytest.approx((2e-9, 1e-9, 2e-9))
        free = MACS.replace("value = 2.0", "value = 0").replace("low = 1.0", "low = 0")
        path.write_text(TOP + free.replace("high = 5.0", "high = 0"), encoding="utf-8")
        assert mep.hardware_profile(path).figures["prices.macs"][1] == (0, 0, 0)

    def test_prices_cannot_be_changed(self, path: Path) -> None:
        profile = mep.hardware_profile(path)
        with pytest.raises(ValueError, match="frozen"):
            profile.prices["macs"].value = 0.0  # type: ignore[misc]
        with pytest.raises(ValueError, match="frozen"):
            profile.name = "other"  # type: ignore[misc]


class TestScenarios:
    def test_its_tables_stand_in_for_the_profiles_own(self, path: Path) -> None:
        slow = mep.hardware_profile(f"{path}:slow")
        assert slow.name == "mine:slow"
        assert slow.title == "a chip of my own; at the lowest clock"
        assert slow.times["macs"].value == 300
        assert slow.static == {}
        own = mep.hardware_profile(path)
        assert (slow.prices, slow.included, slow.excludes) == (own.prices, own.included, own.excludes)
        assert slow.class_ == own.class_
        assert own.times["macs"].value == 3
        assert own.under("slow") == slow

    def test_a_price_takes_what_was_included_out_and_the_other_way_round(self, path: Path) -> None:
        own = MACS.replace("[prices.macs]", "[scenarios.other.prices.state_bytes]").replace('"nJ"', '"pJ/byte"')
        added = '[scenarios.other]\ndescribes = "the other way"\nincluded = {weight_bytes = "now inside"}\n'
        path.write_text(GOOD + added + own, encoding="utf-8")
        other = mep.hardware_profile(f"{path}:other")
        assert set(other.prices) == {"macs", "state_bytes"}
        assert other.included == {"weight_bytes": "now inside"}

    def test_without_static_power_an_all_in_price_is_good(self, path: Path) -> None:
        whole = MACS.replace("prices", "scenarios.whole.prices").replace('"marginal"', '"all_in"')
        head = '\n[scenarios.whole]\ndescribes = "power over rate"\nwithout = ["static.chip"]\n'
        path.write_text(GOOD + head + whole, encoding="utf-8")
        profile = mep.hardware_profile(f"{path}:whole")
        assert profile.prices["macs"].scope == "all_in"
        assert profile.static == {}

    def test_one_that_is_not_there_offers_the_nearest(self, path: Path) -> None:
        with pytest.raises(ProfileError, match=r"no scenario 'slwo'; there are: slow\. Did you mean 'slow'\?"):
            mep.hardware_profile(f"{path}:slwo")
        with pytest.raises(ProfileError, match=r"'mine' has no scenario 'fast'; there are: slow\.$"):
            mep.hardware_profile(f"{path}:fast")
        with pytest.raises(ProfileError, match=r"'cmos_45nm' has no scenario 'int_8'.*Did you mean 'int8'\?"):
            mep.hardware_profile("cmos_45nm:int_8")
        path.write_text(TOP + MACS, encoding="utf-8")
        with pytest.raises(ProfileError, match="'mine' has no scenario 'slow'; there are: none"):
            mep.hardware_profile(f"{path}:slow")

    def test_by_the_name_of_a_profile_that_comes_along(self) -> None:
        own, int8 = mep.hardware_profile("cmos_45nm"), mep.hardware_profile("cmos_45nm:int8")
        assert own.figures["prices.macs"][1] == pytest.approx((4.6e-12, 2.3e-12, 9.2e-12))
        assert int8.figures["prices.macs"][1] == pytest.approx((0.23e-12, 0.115e-12, 0.46e-12))
        assert int8.prices["flops"] == own.prices["flops"]

    def test_of_a_profile_that_is_not_there(self) -> None:
        with pytest.raises(ProfileError, match=r"no hardware profile 'cmos_4nm'.*Did you mean 'cmos_45nm'\?"):
            mep.hardware_profile("cmos_4nm:int8")
        with pytest.raises(ProfileError, match=r"no hardware profile 'nope\.toml'"):
            mep.hardware_profile("nope.toml:int8")


class TestMalformed:
    @pytest.mark.parametrize(
        ("old", "new", "said"),
        [
            ('unit = "nJ"\n', "", "prices.macs.unit: Field required"),
            ('unit = "nJ"', "unit = 3", "prices.macs.unit: Input should be a valid string"),
            ('unit = "nJ"', 'unit = ""', "prices.macs.unit: String should have at least 1 character"),
            ('unit = "nJ"', 'unit = "kWh"', "prices.macs.unit: unit 'kWh' does not give J: write one like 'pJ'"),
            ('unit = "nJ"', 'unit = "s"', "prices.macs.unit: unit 's' does not give J: write one like 'pJ'"),
            ('unit = "nJ"', 'unit = "pJ/byte"', "prices.macs.unit: unit 'pJ/byte' does not give J: write one"),
            (
                'unit = "pJ/bit"',
                'unit = "pJ"',
                "prices.weight_bytes.unit: unit 'pJ' does not give J/byte: write one like 'pJ/byte' or 'pJ/bit'",
            ),
            ('"ns"\nlow = 3\n', '"pJ"\nlow = 3\n', "times.macs.unit: unit 'pJ' does not give s: write one like 'us'"),
            ('unit = "mW"', 'unit = "mJ"', "static.chip.unit: unit 'mJ' does not give W: write one like 'mW'"),
            ("value = 2.0\n", "", "prices.macs.value: Field required"),
            ("low = 1.0\n", "", "prices.macs.low: Field required"),
            ("high = 5.0\n", "", "prices.macs.high: Field required"),
            ("value = 2.0", "value = -2.0", "prices.macs.value: Input should be greater than or equal to 0"),
            ("low = 1.0", "low = -1.0", "prices.macs.low: Input should be greater than or equal to 0"),
            ("value = 2.0", "value = nan", "prices.macs.value: Input should be"),
            ("high = 5.0", "high = inf", "prices.macs.high: Input should be a finite number"),
            ("value = 2.0", 'value = "2.0"', "prices.macs.value: Input should be a valid number"),
            ("value = 2.0", "value = true", "prices.macs.value: Input should be a valid number"),
            ("low = 1.0", "low = 2.5", "prices.macs: needs low <= value <= high, not 2.5, 2.0, 5.0"),
            ("high = 5.0", "high = 1.5", "prices.macs: needs low <= value <= high, not 1.0, 2.0, 1.5"),
            ("low = 1.0", "low = 0", "prices.macs: low is 0: draws are spread over decades, so give the least"),
            ("low = 3.5", "low = 4.1", "static.chip: needs low <= value <= high, not 4.1, 4.0, 4.5"),
            ("value = 300", "value = 200", "scenarios.slow.times.macs: needs low <= value <= high"),
            ('source = "my bench"\n', "", "prices.macs.source: Field required"),
            ('source = "my bench"', 'source = ""', "prices.macs.source: String should have at least 1 character"),
            ('source = "my bench"', 'source = "  "', "prices.macs.source: String should have at least 1 character"),
            ('source = "a data sheet again"\n', "", "scenarios.slow.times.macs.source: Field required"),
            ('place = "page 1"\n', "", "prices.macs.place: Field required"),
            ('conditions = "8 bits"\n', "", "prices.macs.conditions: Field required"),
            ('kind = "published"', 'kind = "guessed"', "prices.weight_bytes.kind: Input should be 'measured'"),
            ('scope = "static"', 'scope = "total"', "static.chip.scope: Input should be 'marginal'"),
            ('scope = "static"', 'scope = "marginal"', "static.chip.scope is 'marginal'; here it is static"),
            (
                '"marginal"\nconditions = "8',
                '"static"\nconditions = "8',
                "prices.macs.scope is 'static'; here it is marg",
            ),
            (
                '"marginal"\nconditions = "at the h',
                '"all_in"\nconditions = "at',
                "times.macs.scope is 'all_in'; here it",
            ),
            (
                '"marginal"\nconditions = "8',
                '"all_in"\nconditions = "8',
                "prices.macs is all_in, so static power is inside it: remove static.chip",
            ),
            ("verified = false", 'verified = "no"', "prices.weight_bytes.verified: Input should be a valid boolean"),
            ('class = "digital"\n', "", "class: Field required"),
            ('class = "digital"', 'class = "optical"', "class: Input should be 'convention', 'digital'"),
            ('name = "mine"\n', "", "name: Field required"),
            ('excludes = ["the host"]', 'excludes = "the host"', "excludes: Input should be a valid"),
            ('excludes = ["the host"]', 'excludes = [""]', "excludes.0: String should have at least 1 character"),
            ("state_bytes = ", "macs = ", "prices.macs and included.macs are both there: keep one of the two"),
            ('"inside the multiply-accumulate"', '""', "included.state_bytes: String should have at least 1 character"),
            ('describes = "at the lowest clock"\n', "", "scenarios.slow.describes: Field required"),
            (
                'without = ["static.chip"]',
                'without = ["static.chop"]',
                "scenarios.slow.without: there is no 'static.chop' to leave out. Did you mean 'static.chip'?",
            ),
            (
                'without = ["static.chip"]',
                'without = ["voltage"]',
                "scenarios.slow.without: there is no 'voltage' to leave out. There are: prices.macs, prices.w",
            ),
            (
                'without = ["static.chip"]',
                'without = ["scenarios.slow"]',
                "scenarios.slow.without: there is no 'scenarios.slow' to leave out",
            ),
            (
                "[scenarios.slow.times.macs]",
                "[scenarios.slow.prices.macs]",
                "scenarios.slow: prices.macs.unit: unit 'ns'",
            ),
        ],
    )
    def test_one_is_told_of_by_file_and_key(self, path: Path, old: str, new: str, said: str) -> None:
        assert GOOD.count(old) == 1
        assert said_of(path, GOOD.replace(old, new)).startswith(f": {said}")

    @pytest.mark.parametrize(
        ("old", "new", "said"),
        [
            ('title = "a chip', 'titel = "a chip', "titel: unknown key. Did you mean 'title'?"),
            ('class = "digital"', 'class_ = "digital"', "class_: unknown key. Did you mean 'class'?"),
            ("[prices.macs]", "[price.macs]", "price: unknown key. Did you mean 'prices'?"),
            ("[prices.macs]", "[prices.mac]", "prices.mac: unknown key. Did you mean 'macs'?"),
            ("[times.macs]", "[times.mac]", "times.mac: unknown key. Did you mean 'macs'?"),
            ("state_bytes = ", "state_byte = ", "included.state_byte: unknown key. Did you mean 'state_bytes'?"),
            ("value = 2.0", "valeu = 2.0", "prices.macs.valeu: unknown key. Did you mean 'value'?"),
            ('place = "page 1"', 'place = ""\nplaces = 3', "prices.macs.places: unknown key. Did you mean 'place'?"),
            ('place = "page 3"', 'place = ""\nplaces = 3', "times.macs.places: unknown key. Did you mean 'place'?"),
            ('place = "page 4"', 'place = ""\nplaces = 3', "static.chip.places: unknown key. Did you mean 'place'?"),
            ("without = ", "withot = ", "scenarios.slow.withot: unknown key. Did you mean 'without'?"),
            ("slow.times.macs]", "slow.time.macs]", "scenarios.slow.time: unknown key. Did you mean 'times'?"),
            ("slow.times.macs]", "slow.times.mac]", "scenarios.slow.times.mac: unknown key. Did you mean 'macs'?"),
            ("value = 300", "valeu = 300", "scenarios.slow.times.macs.valeu: unknown key. Did you mean 'value'?"),
            ("without = ", "zzz = ", "scenarios.slow.zzz: unknown key."),
        ],
    )
    def test_an_unknown_key_offers_the_nearest_at_every_level(self, path: Path, old: str, new: str, said: str) -> None:
        assert GOOD.count(old) == 1
        assert said_of(path, GOOD.replace(old, new)) == f": {said}"

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            (TOP, "needs at least one price, [prices.OPERATION]."),
            (TOP + INCLUDED, "needs at least one price, [prices.OPERATION]."),
            (TOP + "prices = 3", "prices: Input should be a valid dictionary."),
            (TOP + "[prices]\nmacs = 3", "prices.macs: Input should be a valid dictionary or instance of Price."),
            (TOP + MACS + "[scenarios]\na = 1", "scenarios.a: Input should be a valid dictionary or instance of Scen"),
        ],
    )
    def test_what_holds_no_prices(self, path: Path, text: str, said: str) -> None:
        assert said_of(path, text).startswith(f": {said}")

    def test_static_power_in_a_scenario_with_an_all_in_price(self, path: Path) -> None:
        whole = MACS.replace("prices", "scenarios.whole.prices").replace('"marginal"', '"all_in"')
        said = said_of(path, f'{GOOD}\n[scenarios.whole]\ndescribes = "power over rate"\n{whole}')
        assert said == (
            ": scenarios.whole: prices.macs is all_in, so static power is inside it: "
            'remove static.chip (in a scenario by "without"), or give a marginal price.'
        )

    def test_a_price_beside_included_in_a_scenario(self, path: Path) -> None:
        """Else both would be dropped, each as the other's stand-in."""
        both = f'\n[scenarios.both]\ndescribes = "both"\nincluded = {{macs = "inside"}}\n{MACS}'
        said = said_of(path, GOOD + both.replace("[prices", "[scenarios.both.prices"))
        assert said == ": scenarios.both: prices.macs and included.macs are both there: keep one of the two."

    @pytest.mark.parametrize(
        ("old", "key"),
        [
            ("[prices.macs]", "prices.dissipated_joules"),
            ("[times.macs]", "times.seconds"),
            ("[times.macs]", "times.neuron_seconds"),
            ("[times.macs]", "times.dissipated_joules"),
        ],
    )
    def test_a_price_or_time_of_what_is_counted_in_joules_or_seconds(self, path: Path, old: str, key: str) -> None:
        said = said_of(path, GOOD.replace(old, f"[{key}]"))
        assert said == f": {key}: it is counted in joules or seconds as it is: remove it."

    def test_a_scenario_that_leaves_nothing(self, path: Path) -> None:
        said = said_of(path, f'{TOP}{MACS}\n[scenarios.empty]\ndescribes = "empty"\nwithout = ["prices.macs"]\n')
        assert said == ": scenarios.empty: needs at least one price, [prices.OPERATION]."

    def test_a_scenario_with_a_colon_in_its_name(self, path: Path) -> None:
        said = said_of(path, f'{GOOD}\n[scenarios."a:b"]\ndescribes = "nobody can ask for it"\n')
        assert said == ": scenarios.a:b: leave the colon out of the name, since it stands behind one."

    def test_a_key_with_a_line_break(self, path: Path) -> None:
        assert said_of(path, GOOD + '["a\\nb"]\nc = 1') == ": a b: unknown key."

    @pytest.mark.parametrize("text", [GOOD.replace("value = 2.0", "value = = 2"), "\0", "name = "])
    def test_what_is_no_toml(self, path: Path, text: str) -> None:
        assert said_of(path, text).startswith(" is no TOML: ")

    def test_what_is_no_text(self, path: Path) -> None:
        path.write_bytes(b"\xff\xfe\x00")
        with pytest.raises(ProfileError, match="is no TOML"):
            mep.hardware_profile(path)


class TestNotThere:
    @pytest.mark.parametrize("name", ["nope", "nope.toml", "", ".", "../hardware_profiles/none", ":", "nope:slow"])
    def test_one_that_is_not_there(self, name: str) -> None:
        with pytest.raises(ProfileError, match=r"there are: .*cmos_45nm.*or give the path of a \.toml file"):
            mep.hardware_profile(name)

    def test_a_name_near_to_one_that_exists(self) -> None:
        with pytest.raises(ProfileError, match=r"no hardware profile 'gpu_h10'.*Did you mean 'gpu_h100'\?"):
            mep.hardware_profile("gpu_h10")

    def test_a_folder_is_no_profile(self, tmp_path: Path) -> None:
        (tmp_path / "folder.toml").mkdir()
        with pytest.raises(ProfileError, match="no hardware profile"):
            mep.hardware_profile(tmp_path / "folder.toml")
