"""The account: counts times prices, by hand; its interval, its parts, its lower bounds, and what two accounts share."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mep_neuro as mep
from mep_neuro.accounting import EnergyReport, ratio
from mep_neuro.counts import OPERATIONS, PHASES, PHYSICAL
from mep_neuro.errors import InputError, ProfileError
from mep_neuro.profiles import HardwareProfile

Z05, Z50 = 1.6448536269514722, 0.6744897501960817  # of a standard normal: 95th percentile; 75th
ONE_SIDED = 1.959963984540054  # its 97.5th, so the 95th of its absolute value


def figure(value: float, low: float | None = None, high: float | None = None, unit: str = "nJ", **own: Any) -> Any:
    """One figure of a profile, fixed where no band is given."""
    common = {"kind": "measured", "scope": "marginal", "conditions": "8 bits", "source": "my bench", "place": "page 1"}
    band = {"low": value if low is None else low, "high": value if high is None else high}
    return {"value": value, "unit": unit, **band, **common, "verified": True, **own}


def watts(value: float, low: float | None = None, high: float | None = None, **own: Any) -> Any:
    return figure(value, low, high, "W", **{"scope": "static", **own})


def seconds(value: float, low: float | None = None, high: float | None = None, unit: str = "s", **own: Any) -> Any:
    return figure(value, low, high, unit, **own)


def profile(name: str = "mine", **tables: Mapping[str, Any]) -> HardwareProfile:
    texts = {"name": name, "title": "a chip of my own", "class": "digital", "describes": "for this test"}
    return HardwareProfile.model_validate({**texts, **tables})


def counts(samples: int = 1, **entries: Mapping[str, float]) -> mep.OperationCounts:
    """counts(4, free={"macs": 3}, ...)"""
    found: Any = {(phase, o): n for phase, operations in entries.items() for o, n in operations.items()}
    return mep.OperationCounts(samples, found)


COUNTS = counts(
    4,
    free={"macs": 1000, "weight_bytes": 4000},
    nudged={"macs": 600, "weight_bytes": 400},
    update={"macs": 200, "flops": 48},
)
PRICES = {
    "macs": figure(2, 1, 5),
    "weight_bytes": figure(10, 5, 20, "pJ/bit"),
    "flops": figure(3, 3, 6),
}
MINE = profile(prices=PRICES)


class TestByHand:
    def test_counts_times_prices(self) -> None:
        report = mep.account(COUNTS, MINE)
        expected = {
            ("free", "macs"): 250 * 2e-9,
            ("free", "weight_bytes"): 1000 * 80e-12,
            ("nudged", "macs"): 150 * 2e-9,
            ("nudged", "weight_bytes"): 100 * 80e-12,
            ("update", "macs"): 50 * 2e-9,
            ("update", "flops"): 12 * 3e-9,
        }
        assert report.breakdown == pytest.approx(expected, rel=1e-14)
        assert report.joules.nominal == pytest.approx(sum(expected.values()), rel=1e-14)
        assert report.phases["nudged"].nominal == pytest.approx(300e-9 + 8e-9, rel=1e-14)
        assert report.operations["macs"].nominal == pytest.approx(900e-9, rel=1e-14)
        assert (list(report.phases), list(report.operations)) == (
            ["free", "nudged", "update"],
            ["macs", "flops", "weight_bytes"],
        )
        assert report.dynamic == report.joules
        assert report.static == (0, 0, 0, 0)
        assert report.seconds is None
        assert report.energy_delay is None
        assert (report.samples, report.seed, report.chips, report.profile) == (4, 0, 1.0, MINE)
        assert not report.lower_bound

    def test_the_default_profile_is_the_literatures_convention(self) -> None:
        """Horowitz 2014: a 32-bit multiplication and addition in 45 nm is 3.7 + 0.9 pJ."""
        report = mep.account(counts(4, free={"macs": 1000}, update={"macs": 200}))
        assert report.profile.name == "cmos_45nm"
        assert report.joules.nominal == pytest.approx(300 * 4.6e-12, rel=1e-14)
        assert report.corners == pytest.approx((300 * 2.3e-12, 300 * 9.2e-12), rel=1e-14)
        assert report.grade == "published"

    def test_what_is_counted_in_seconds_is_priced_in_watts(self) -> None:
        on = profile(prices={"neuron_seconds": figure(5, unit="uW"), "seconds": figure(2, unit="mW")})
        report = mep.account(counts(2, free={"neuron_seconds": 3e-3, "seconds": 1e-3}), on)
        assert report.joules.nominal == pytest.approx(1.5e-3 * 5e-6 + 0.5e-3 * 2e-3, rel=1e-14)
        assert report.seconds is not None
        assert report.seconds.nominal == 0.5e-3

    def test_corners_have_all_figures_at_one_end(self) -> None:
        report = mep.account(COUNTS, MINE)
        low = 450 * 1e-9 + 1100 * 40e-12 + 12 * 3e-9
        high = 450 * 5e-9 + 1100 * 160e-12 + 12 * 6e-9
        assert report.corners == pytest.approx((low, high), rel=1e-14)
        assert report.corners[0] < report.joules.p5 < report.joules.p95 < report.corners[1]

    @settings(deadline=None)
    @given(st.integers(1, 10**6), st.integers(0, 10**9))
    def test_it_is_per_sample(self, samples: int, macs: int) -> None:
        report = mep.account(counts(samples, free={"macs": macs}), MINE, draws=100)
        assert report.joules.nominal == pytest.approx(macs / samples * 2e-9, rel=1e-14)
        assert report.joules_per_sample == report.joules.p50
        assert report.interval == (report.joules.p5, report.joules.p95)


def standard_error(q: float, density: float, draws: int) -> float:
    """Of the q-quantile of so many draws, given the density there."""
    return math.sqrt(q * (1 - q) / draws) / density


def normal(z: float) -> float:
    return math.exp(-z * z / 2) / math.sqrt(2 * math.pi)


class TestInterval:
    """Percentiles of one price are its value, low and high, up to the sampling error of the draws: four standard
    errors, sqrt(q (1 - q) / n) / density, of the normal variable behind them, on the price's log scale."""

    @pytest.mark.parametrize("draws", [1000, 10_000, 100_000])
    @pytest.mark.parametrize(("value", "low", "high"), [(2, 1, 5), (1, 0.001, 1000), (1, 0.99, 1.5), (7, 6, 7.1)])
    def test_of_a_two_sided_price(self, value: float, low: float, high: float, draws: int) -> None:
        on = profile(prices={"macs": figure(value, low, high, "J")})
        joules = mep.account(counts(free={"macs": 1}), on, draws=draws).joules
        end, middle = standard_error(0.05, normal(Z05), draws), standard_error(0.5, normal(0), draws)
        sides = math.log(value / low) / Z05, math.log(high / value) / Z05
        assert math.log(joules.p5 / low) == pytest.approx(0, abs=4 * end * sides[0])
        assert math.log(joules.p95 / high) == pytest.approx(0, abs=4 * end * sides[1])
        assert math.log(joules.p50 / value) == pytest.approx(0, abs=4 * middle * max(sides))
        assert joules.nominal == value

    @pytest.mark.parametrize("other", [1.1, 10, 1e4])
    def test_of_a_published_minimum_or_maximum(self, other: float) -> None:
        """A band on one side: no draw crosses the value, 95 % lie within the other end, and half lie beyond the
        quartile of a normal variable, 0.674 of 1.96 of the way on a log scale."""
        draws = 10_000
        end = 4 * standard_error(0.95, 2 * normal(ONE_SIDED), draws) / ONE_SIDED * math.log(other)
        middle = 4 * standard_error(0.5, 2 * normal(Z50), draws) / ONE_SIDED * math.log(other)
        least = mep.account(counts(free={"macs": 1}), profile(prices={"macs": figure(2, 2, 2 * other, "J")}))
        assert least.draws.min() >= 2
        assert math.log(least.joules.p95 / (2 * other)) == pytest.approx(0, abs=end)
        assert math.log(least.joules.p50 / 2) == pytest.approx(Z50 / ONE_SIDED * math.log(other), abs=middle)
        most = mep.account(counts(free={"macs": 1}), profile(prices={"macs": figure(2, 2 / other, 2, "J")}))
        assert most.draws.max() <= 2
        assert math.log(most.joules.p5 * other / 2) == pytest.approx(0, abs=end)
        assert math.log(2 / most.joules.p50) == pytest.approx(Z50 / ONE_SIDED * math.log(other), abs=middle)

    def test_of_a_fixed_price(self) -> None:
        report = mep.account(counts(free={"macs": 3}), profile(prices={"macs": figure(2, unit="J")}))
        assert report.joules == (6, 6, 6, 6)
        assert report.corners == (6, 6)
        assert set(report.draws.tolist()) == {6.0}
        free = mep.account(counts(free={"macs": 3}), profile(prices={"macs": figure(0)}))
        assert free.joules == (0, 0, 0, 0)

    @settings(deadline=None)
    @given(st.floats(1e-3, 1e3), st.floats(1, 1e3), st.floats(1, 1e3), st.integers(0, 2**31))
    def test_percentiles_are_in_order(self, value: float, down: float, up: float, seed: int) -> None:
        on = profile(
            prices={"macs": figure(value, value / down, value * up)},
            times={"macs": seconds(1, 1 / down, up)},
            static={"chip": watts(value, value / down, value * up)},
        )
        report = mep.account(counts(free={"macs": 3}, update={"macs": 1}), on, draws=100, seed=seed)
        estimates = [report.joules, report.dynamic, report.static, report.seconds, report.energy_delay]
        for e in [*estimates, *report.phases.values(), *report.operations.values()]:
            assert e is not None
            assert 0 <= e.p5 <= e.p50 <= e.p95
        assert report.corners[0] <= report.joules.nominal <= report.corners[1]

    def test_draws_do_not_stop_at_low_and_high(self) -> None:
        """They are percentiles: a tenth of the draws lies beyond them (within 4 standard errors of a share)."""
        report = mep.account(counts(free={"macs": 1}), profile(prices={"macs": figure(2, 1, 5, "J")}))
        beyond = float(np.mean((report.draws < 1) | (report.draws > 5)))
        assert beyond == pytest.approx(0.1, abs=4 * math.sqrt(0.1 * 0.9 / 10_000))


EVERYTHING = profile(
    prices={
        o: figure(1 + i, 1, 100, "W" if o in PHYSICAL else "pJ/byte" if o.endswith("bytes") else "pJ")
        for i, o in enumerate(OPERATIONS)
        if o != "dissipated_joules"
    },
)
TIMED = profile(
    prices=EVERYTHING.model_dump()["prices"],
    times={o: seconds(2, 1, 4, "ns/byte" if o.endswith("bytes") else "ns") for o in OPERATIONS if o not in PHYSICAL},
    static={"chip": watts(0.5, 0.25, 1), "host": watts(3, 3, 4)},
)

readings = st.builds(
    mep.OperationCounts,
    st.integers(1, 9),
    st.dictionaries(st.tuples(st.sampled_from(PHASES), st.sampled_from(OPERATIONS)), st.integers(1, 10**9), min_size=1),
)


class TestSums:
    @settings(max_examples=50, deadline=None)
    @given(readings, st.sampled_from([EVERYTHING, TIMED]))
    def test_phases_operations_and_terms_sum_to_the_total(self, a: mep.OperationCounts, on: HardwareProfile) -> None:
        report = mep.account(a, on, draws=100)
        whole = pytest.approx(report.joules.nominal, rel=1e-12)
        assert sum(e.nominal for e in report.phases.values()) == whole
        assert sum(e.nominal for e in report.operations.values()) == whole
        assert sum(report.breakdown.values()) == whole
        assert report.dynamic.nominal + report.static.nominal == whole
        for phase, e in report.phases.items():
            parts = [j for (p, _), j in report.breakdown.items() if p == phase]
            assert sum(parts) == pytest.approx(e.nominal, rel=1e-12)
        static = report.operations.get("static")
        assert report.static.nominal == (0 if static is None else static.nominal)
        assert set(report.unpriced) <= {"static power (no time is known)"}

    @settings(max_examples=50, deadline=None)
    @given(readings, readings)
    def test_windows_add_up_weighted_by_their_samples(self, a: mep.OperationCounts, b: mep.OperationCounts) -> None:
        one, other, both = (mep.account(c, EVERYTHING, draws=100) for c in (a, b, a + b))
        weighted = a.samples * one.joules.nominal + b.samples * other.joules.nominal
        assert (a.samples + b.samples) * both.joules.nominal == pytest.approx(weighted, rel=1e-12)
        drawn = a.samples * one.draws + b.samples * other.draws
        assert (a.samples + b.samples) * both.draws == pytest.approx(drawn, rel=1e-12)

    def test_one_window_lets_resources_overlap_that_two_windows_keep_apart(self) -> None:
        """Static power over max(2, 8) s, against max(2, 0) + max(0, 8) s."""
        on = profile(prices=PRICES, static={"chip": watts(1)}, times={"macs": seconds(2), "flops": seconds(8)})
        a, b = counts(free={"macs": 1}), counts(free={"flops": 1})
        assert 2 * mep.account(a + b, on).static.nominal == 8
        assert mep.account(a, on).static.nominal + mep.account(b, on).static.nominal == 10

    @pytest.mark.parametrize("doubled", sorted(PRICES))
    def test_doubling_a_price_doubles_its_term_exactly_and_nothing_else(self, doubled: str) -> None:
        twice = {k: 2 * PRICES[doubled][k] for k in ("value", "low", "high")}
        before = mep.account(COUNTS, MINE)
        after = mep.account(COUNTS, profile(prices={**PRICES, doubled: {**PRICES[doubled], **twice}}))
        for key, joules in before.breakdown.items():
            assert after.breakdown[key] == (2 * joules if key[1] == doubled else joules)
        for part, e in before.operations.items():
            assert after.operations[part] == (tuple(2 * v for v in e) if part == doubled else e)

    @settings(deadline=None)
    @given(st.integers(0, 60))
    def test_doubling_all_counts_doubles_everything_exactly(self, exponent: int) -> None:
        before = mep.account(COUNTS, MINE, draws=100)
        after = mep.account(
            mep.OperationCounts(COUNTS.samples, {key: n * 2**exponent for key, n in COUNTS.entries.items()}),
            MINE,
            draws=100,
        )
        assert after.draws.tolist() == [j * 2**exponent for j in before.draws.tolist()]


class TestTimeAndStaticPower:
    ON = profile(
        prices={"macs": figure(2), "weight_bytes": figure(1, unit="nJ/byte")},
        times={"macs": seconds(3, unit="ms"), "weight_bytes": seconds(5, unit="ms/byte")},
        static={"chip": watts(10), "fan": watts(2)},
    )

    def test_the_slower_resource_sets_the_pace_in_each_phase_and_phases_add(self) -> None:
        """A sample: free max(10 x 3, 2 x 5) = 30 ms, nudged max(1 x 3, 4 x 5) = 20 ms; 12 W."""
        made = counts(2, free={"macs": 20, "weight_bytes": 4}, nudged={"macs": 2, "weight_bytes": 8})
        report = mep.account(made, self.ON)
        assert report.seconds == pytest.approx((50e-3,) * 4, rel=1e-14)
        assert report.breakdown["free", "static"] == pytest.approx(12 * 30e-3, rel=1e-14)
        assert report.breakdown["nudged", "static"] == pytest.approx(12 * 20e-3, rel=1e-14)
        assert report.static.nominal == pytest.approx(0.6, rel=1e-14)
        assert report.dynamic.nominal == pytest.approx(11 * 2e-9 + 6 * 1e-9, rel=1e-6)
        assert report.joules.nominal == pytest.approx(0.6 + 28e-9, rel=1e-14)

    def test_the_substrates_own_seconds_come_on_top(self) -> None:
        """Free 30 ms + 7 ms; nudged, where nothing else is counted, 1 ms."""
        made = counts(2, free={"macs": 20, "seconds": 14e-3}, nudged={"seconds": 2e-3})
        report = mep.account(made, self.ON)
        assert report.breakdown["free", "static"] == pytest.approx(12 * 37e-3, rel=1e-14)
        assert report.breakdown["nudged", "static"] == pytest.approx(12 * 1e-3, rel=1e-14)
        assert report.seconds == pytest.approx((38e-3,) * 4, rel=1e-14)
        assert not report.lower_bound

    @pytest.mark.parametrize("chips", [5 / 128, 1, 32])
    def test_chips_scale_static_power_and_nothing_else(self, chips: float) -> None:
        made = counts(2, free={"macs": 20})
        one, many = mep.account(made, self.ON), mep.account(made, self.ON, chips=chips)
        assert many.static.nominal == pytest.approx(chips * one.static.nominal, rel=1e-14)
        assert many.breakdown["free", "macs"] == one.breakdown["free", "macs"]
        assert many.seconds == one.seconds
        assert many.chips == chips

    def test_times_without_static_power_give_seconds_and_no_joules(self) -> None:
        on = profile(prices={"macs": figure(2)}, times={"macs": seconds(1, 0.5, 3), "launches": seconds(4)})
        report = mep.account(counts(free={"macs": 2, "launches": 1}), on)
        assert report.static == (0, 0, 0, 0)
        assert report.seconds is not None
        assert report.seconds.nominal == 4
        assert report.seconds.p5 == 4
        assert report.seconds.p95 == pytest.approx(6, rel=0.05)
        assert report.energy_delay is not None
        assert report.energy_delay.nominal == pytest.approx(4e-9 * 4, rel=1e-14)
        assert [s.figure for s in report.sensitivities] == ["prices.macs"]

    def test_energy_delay_is_joules_times_seconds_draw_by_draw(self) -> None:
        """One clock behind both: J = P t, so J t = P t^2 at every draw, and so at every percentile."""
        on = profile(prices={"macs": figure(0)}, times={"macs": seconds(2, 1, 4)}, static={"chip": watts(3)})
        report = mep.account(counts(free={"macs": 1}), on)
        assert report.seconds is not None
        assert report.energy_delay == pytest.approx(tuple(3 * t * t for t in report.seconds), rel=1e-3)
        assert report.energy_delay.nominal == pytest.approx(3 * 2 * 2, rel=1e-14)

    def test_static_power_without_a_known_time_is_a_lower_bound(self) -> None:
        on = profile(prices={"macs": figure(2)}, times={"timesteps": seconds(1)}, static={"chip": watts(10)})
        report = mep.account(counts(free={"macs": 2}), on)
        assert report.unpriced == ("static power (no time is known)",)
        assert report.lower_bound
        assert report.static == (0, 0, 0, 0)
        assert report.joules.nominal == pytest.approx(4e-9, rel=1e-14)
        with pytest.raises(ProfileError, match="no price for static power"):
            mep.account(counts(free={"macs": 2}), on, strict=True)
        known = mep.account(counts(free={"macs": 2, "timesteps": 3}), on, strict=True)
        assert known.static.nominal == 30

    def test_static_power_beside_an_all_in_price_is_refused_by_file_key_and_cure(self, tmp_path: Path) -> None:
        path = tmp_path / "twice.toml"
        path.write_text(
            TOML.replace('"marginal"', '"all_in"', 1) + TOML_FIGURE.format("static.chip", "mW", "static"),
            encoding="utf-8",
        )
        with pytest.raises(ProfileError) as caught:
            mep.account(COUNTS, path)
        message = str(caught.value)
        assert message.startswith(f"{path}: prices.macs is all_in, so static power is inside it")
        assert "remove static.chip" in message
        assert "or give a marginal price" in message

    def test_what_only_takes_time_is_missed_only_where_static_power_waits_for_it(self) -> None:
        made = counts(free={"macs": 1, "launches": 5, "timesteps": 3})
        assert mep.account(made, MINE).unpriced == ()
        on = profile(prices=PRICES, times={"macs": seconds(1), "timesteps": seconds(1)}, static={"chip": watts(1)})
        assert mep.account(made, on).unpriced == ("launches",)


TOML_FIGURE = """
[{}]
value = 2.0
unit = "{}"
low = 1.0
high = 5.0
kind = "measured"
scope = "{}"
conditions = "8 bits"
source = "my bench"
place = "page 1"
verified = true
"""
TOML_TOP = 'name = "mine"\ntitle = "a chip of my own"\nclass = "digital"\ndescribes = "for this test"\n'
TOML_SCENARIO = '\n[scenarios.slow]\ndescribes = "at half the voltage"\n'
TOML = (
    TOML_TOP
    + TOML_FIGURE.format("prices.macs", "nJ", "marginal")
    + TOML_SCENARIO
    + TOML_FIGURE.format("scenarios.slow.prices.macs", "pJ", "marginal")
)


class TestLowerBounds:
    MACS_ONLY = profile(prices={"macs": figure(2, 1, 5)}, included={"state_bytes": "inside the multiply-accumulate"})

    def test_what_has_no_price_makes_it_one(self) -> None:
        more = counts(0, free={"weight_bytes": 7}, update={"neuron_updates": 3})
        report = mep.account(counts(free={"macs": 4}) + more, self.MACS_ONLY)
        assert report.lower_bound
        assert report.unpriced == ("neuron_updates", "weight_bytes")
        assert report.joules == mep.account(counts(free={"macs": 4}), self.MACS_ONLY).joules

    def test_strict_refuses_it_by_name(self) -> None:
        more = counts(free={"macs": 4, "weight_bytes": 7}, update={"neuron_updates": 3})
        with pytest.raises(ProfileError, match="'mine' has no price for neuron_updates, weight_bytes, which were"):
            mep.account(more, self.MACS_ONLY, strict=True)
        whole = counts(free={"macs": 4})
        assert mep.account(whole, self.MACS_ONLY, strict=True) == mep.account(whole, self.MACS_ONLY)

    def test_what_is_included_costs_nothing_and_is_not_missed(self) -> None:
        report = mep.account(counts(free={"macs": 4, "state_bytes": 10**9}), self.MACS_ONLY, strict=True)
        assert report.unpriced == ()
        assert report.joules == mep.account(counts(free={"macs": 4}), self.MACS_ONLY).joules
        assert "state_bytes" not in report.operations

    @pytest.mark.parametrize("operation", ["macs", "synaptic_events", "cell_reads", "accumulates"])
    def test_a_profile_that_prices_no_work_that_was_done_is_refused(self, operation: str) -> None:
        other = profile("other", prices={"flops": figure(1)})
        with pytest.raises(ProfileError) as caught:
            mep.account(counts(free={operation: 4, "seconds": 1e-3}, update={"flops": 3}), other)
        message = str(caught.value)
        assert message.startswith(f"profile 'other' prices flops, and none of {operation}, which were counted")
        assert "take a profile of the same kind of machine" in message

    def test_a_chip_of_events_is_refused_for_counts_of_products(self) -> None:
        with pytest.raises(ProfileError, match=r"profile 'loihi1' prices .*, and none of macs, which were counted"):
            mep.account(COUNTS, "loihi1")


class TestDissipatedJoules:
    HEAT = counts(2, free={"dissipated_joules": 3e-9, "cell_reads": 8}, nudged={"dissipated_joules": 1e-9})

    def test_they_need_no_price(self) -> None:
        on = profile(prices={"adc_conversions": figure(1)}, included={"cell_reads": "their heat is counted"})
        report = mep.account(self.HEAT, on, strict=True)
        assert report.joules == pytest.approx((2e-9,) * 4, rel=1e-14)
        by_hand = {("free", "dissipated_joules"): 1.5e-9, ("nudged", "dissipated_joules"): 0.5e-9}
        assert report.breakdown == pytest.approx(by_hand)
        assert report.sensitivities == ()

    def test_they_are_not_charged_twice_where_a_price_holds_them(self) -> None:
        on = profile(prices={"cell_reads": figure(1)}, included={"dissipated_joules": "inside the read"})
        report = mep.account(self.HEAT, on, strict=True)
        assert report.breakdown == pytest.approx({("free", "cell_reads"): 4e-9})

    def test_they_are_simulated_and_so_is_the_account(self) -> None:
        on = profile(prices={"adc_conversions": figure(1)}, included={"cell_reads": "their heat is counted"})
        assert mep.account(self.HEAT, on).grade == "simulated"
        used = self.HEAT + counts(0, free={"adc_conversions": 1})
        assert mep.account(used, on).grade == "simulated"
        weak = profile(prices={"adc_conversions": figure(1, kind="assumed"), "cell_reads": figure(1)})
        assert mep.account(used, weak).grade == "assumed"


class TestGradeAndSources:
    KINDS = ("measured", "fitted", "simulated", "published", "datasheet", "assumed")

    @pytest.mark.parametrize("one", KINDS)
    @pytest.mark.parametrize("other", KINDS)
    def test_the_grade_is_the_weakest_kind_in_use(self, one: str, other: str) -> None:
        prices = {"macs": figure(2, kind=one), "flops": figure(2, kind=other), "spikes": figure(2, kind="assumed")}
        report = mep.account(counts(free={"macs": 1}, update={"flops": 1}), profile(prices=prices))
        assert report.grade == max(one, other, key=self.KINDS.index)
        assert set(report.used) == {"prices.macs", "prices.flops"}

    def test_the_clock_and_the_static_power_are_in_use_too(self) -> None:
        on = profile(
            prices={"macs": figure(2)},
            times={"macs": seconds(1, kind="assumed"), "flops": seconds(1)},
            static={"chip": watts(1, kind="published")},
        )
        report = mep.account(counts(free={"macs": 1}), on)
        assert set(report.used) == {"prices.macs", "times.macs", "static.chip"}
        assert report.grade == "assumed"

    def test_where_nothing_has_a_price_nothing_is_known(self) -> None:
        report = mep.account(counts(update={"flops": 3}), profile(prices={"macs": figure(1)}))
        assert report.joules == (0, 0, 0, 0)
        assert report.unpriced == ("flops",)
        assert report.grade == "assumed"

    def test_sources_stand_beside_the_figures_and_say_what_was_not_verified(self) -> None:
        guess = figure(100, 50, 200, "fJ", kind="assumed", source="a guess", place="nowhere", verified=False)
        on = profile(prices={"macs": figure(2, 1, 5), "accumulates": guess}, static={"chip": watts(1)})
        report = mep.account(counts(free={"macs": 3, "accumulates": 1, "seconds": 1}), on)
        assert set(report.sources) == {
            "macs: 2 nJ [1, 5] (measured), my bench, page 1",
            "accumulates: 100 fJ [50, 200] (assumed, not verified), a guess, nowhere",
            "static.chip: 1 W [1, 1] (measured), my bench, page 1",
        }
        assert report.unverified == ("prices.accumulates",)
        assert mep.account(counts(free={"macs": 3}), on).unverified == ()


class TestDraws:
    def test_the_same_seed_gives_the_same_draws_and_another_others(self) -> None:
        one, again = mep.account(COUNTS, MINE, seed=3), mep.account(COUNTS, MINE, seed=3)
        assert one == again
        assert one.draws.tolist() == again.draws.tolist()
        other = mep.account(COUNTS, MINE, seed=4)
        assert not set(one.draws.tolist()) & set(other.draws.tolist())
        assert other.joules.nominal == one.joules.nominal

    def test_they_belong_to_the_figure_whatever_else_was_counted(self) -> None:
        alone = mep.account(counts(free={"macs": 450}), MINE)
        assert mep.account(COUNTS, MINE).operations["macs"] == pytest.approx(alone.joules, rel=1e-14)

    def test_they_belong_to_the_profile(self) -> None:
        macs = counts(free={"macs": 1})
        mine, other = (mep.account(macs, profile(name, prices=PRICES)) for name in ("mine", "other"))
        assert not set(mine.draws.tolist()) & set(other.draws.tolist())

    def test_figures_of_one_profile_are_drawn_independently(self) -> None:
        """The correlation of n independent pairs is 0 with a standard error of 1 / sqrt(n)."""
        on = profile(prices={"macs": figure(2, 1, 4), "flops": figure(2, 1, 4)})
        macs, flops = (mep.account(counts(free={o: 1}), on).draws for o in ("macs", "flops"))
        correlation = np.corrcoef(np.log(macs), np.log(flops))[0, 1]
        assert correlation == pytest.approx(0, abs=4 / math.sqrt(10_000))


class TestRatio:
    @settings(max_examples=25, deadline=None)
    @given(readings, st.sampled_from([EVERYTHING, TIMED]), st.integers(0, 99))
    def test_twice_the_counts_are_twice_the_joules_without_any_doubt(
        self, a: mep.OperationCounts, on: HardwareProfile, seed: int
    ) -> None:
        b = mep.OperationCounts(a.samples, {key: 2 * n for key, n in a.entries.items()})
        one, other = (mep.account(c, on, draws=100, seed=seed) for c in (a, b))
        if one.joules.nominal > 0:
            assert ratio(one, other) == (0.5, 0.5, 0.5, 0.5)
            assert ratio(other, one) == (2, 2, 2, 2)

    def test_of_a_mix_is_much_tighter_than_the_totals(self) -> None:
        on = profile(prices={"macs": figure(2, 0.5, 8), "weight_bytes": figure(2, 1, 4, "nJ/byte")})
        a, b = (
            mep.account(c, on)
            for c in (counts(free={"macs": 1000, "weight_bytes": 100}), counts(free={"macs": 300, "weight_bytes": 100}))
        )
        found = ratio(a, b)
        assert found.p5 <= found.p50 <= found.p95
        assert found.nominal == pytest.approx(1100 / 400, rel=1e-14)
        assert 1 < found.p5 < found.p95 < 1000 / 300
        for total in (a.joules, b.joules):
            assert found.p95 / found.p5 < 0.25 * (total.p95 / total.p5)

    def test_between_scenarios_of_a_profile_shares_its_draws(self) -> None:
        """A 32-bit and an 8-bit multiply-accumulate, 4.6 and 0.23 pJ, both known to half and twice."""
        macs = counts(free={"macs": 1})
        found = ratio(mep.account(macs, "cmos_45nm"), mep.account(macs, "cmos_45nm:int8"))
        assert found == pytest.approx((20, 20, 20, 20), rel=1e-12)

    def test_between_profiles_takes_both_at_their_own_draws(self) -> None:
        """Of two independent lognormal prices of one band: sqrt(2) times as wide on a log scale, within 4 %."""
        one, other = (
            mep.account(counts(free={"macs": 3}), profile(name, prices={"macs": figure(2, 1, 4)}), draws=100_000)
            for name in ("mine", "other")
        )
        found = ratio(one, other)
        assert found.nominal == 1
        assert found.p50 == pytest.approx(1, rel=0.01)
        assert math.log(found.p95 / found.p5) == pytest.approx(math.sqrt(2) * math.log(4), rel=0.04)

    def test_of_unlike_draws_is_refused(self) -> None:
        one = mep.account(COUNTS, MINE)
        for other in (mep.account(COUNTS, MINE, seed=1), mep.account(COUNTS, MINE, draws=200)):
            with pytest.raises(InputError, match=r"other seeds or numbers of draws: make them with the same"):
                ratio(one, other)

    def test_over_nothing_is_refused(self) -> None:
        nothing = mep.account(counts(update={"flops": 1}), profile("other", prices={"macs": figure(1)}))
        with pytest.raises(InputError, match="the account on 'other' is 0 J"):
            ratio(mep.account(COUNTS, MINE), nothing)
        assert ratio(nothing, mep.account(COUNTS, MINE)) == (0, 0, 0, 0)


class TestSensitivities:
    def test_low_and_high_have_one_figure_at_its_ends_and_the_others_at_their_values(self) -> None:
        found = {s.figure: (s.low, s.high) for s in mep.account(COUNTS, MINE).sensitivities}
        macs, read, flops = 450 * 1e-9, 1100 * 80e-12, 12 * 1e-9
        assert found == {
            "prices.macs": pytest.approx((macs + read + 3 * flops, 5 * macs + read + 3 * flops), rel=1e-14),
            "prices.weight_bytes": pytest.approx((2 * macs + read / 2 + 3 * flops, 2 * macs + 2 * read + 3 * flops)),
            "prices.flops": pytest.approx((2 * macs + read + 3 * flops, 2 * macs + read + 6 * flops), rel=1e-14),
        }

    @settings(max_examples=25, deadline=None)
    @given(readings)
    def test_shares_sum_to_one_the_largest_first(self, a: mep.OperationCounts) -> None:
        found = mep.account(a, TIMED, draws=100).sensitivities
        shares = [s.share for s in found]
        assert shares == sorted(shares, reverse=True)
        if any(s.high > s.low for s in found):
            assert sum(shares) == pytest.approx(1, rel=1e-12)
        assert all(s.low <= s.high for s in found)

    def test_the_only_uncertain_figure_has_it_all(self) -> None:
        on = profile(prices={"macs": figure(2), "flops": figure(3, 3, 6), "weight_bytes": figure(1, unit="J/byte")})
        found = {s.figure: s.share for s in mep.account(COUNTS, on).sensitivities}
        assert found == {"prices.flops": 1, "prices.macs": 0, "prices.weight_bytes": 0}

    def test_where_nothing_is_uncertain_nobody_has_a_share(self) -> None:
        found = mep.account(COUNTS, profile(prices={"macs": figure(2), "flops": figure(1)})).sensitivities
        assert [(s.figure, s.share) for s in found] == [("prices.flops", 0), ("prices.macs", 0)]

    def test_twice_the_joules_under_one_band_is_four_times_the_variance(self) -> None:
        """Shares 0.8 and 0.2; 100,000 draws of a lognormal give a variance within 3 %, so a share within 0.02."""
        on = profile(prices={"macs": figure(2, 1, 4), "flops": figure(2, 1, 4)})
        found = mep.account(counts(free={"macs": 200}, update={"flops": 100}), on, draws=100_000).sensitivities
        assert [s.figure for s in found] == ["prices.macs", "prices.flops"]
        assert found[0].share == pytest.approx(0.8, abs=0.02)

    def test_the_clock_counts_where_static_power_waits_for_it(self) -> None:
        on = profile(
            prices={"macs": figure(2, unit="J")},
            times={"macs": seconds(1, 0.5, 3), "flops": seconds(1)},
            static={"chip": watts(4, 3, 5)},
        )
        found = {s.figure: (s.low, s.high) for s in mep.account(counts(free={"macs": 2}), on).sensitivities}
        assert found == {
            "prices.macs": pytest.approx((12, 12)),
            "static.chip": pytest.approx((4 + 6, 4 + 10)),
            "times.macs": pytest.approx((4 + 4, 4 + 24)),
        }


def plain(report: EnergyReport) -> Any:
    return json.loads(json.dumps(report.to_json(), allow_nan=False))


class TestAsPlainValues:
    def test_it_goes_through_json_unchanged(self) -> None:
        report = mep.account(counts(2, free={"macs": 3, "spikes": 1}, update={"flops": 7}), TIMED)
        assert plain(report) == report.to_json()
        document = plain(report)
        assert document["profile"] == "mine"
        assert document["joules_per_sample"] == {
            "p5": report.joules.p5,
            "p50": report.joules.p50,
            "p95": report.joules.p95,
            "nominal": report.joules.nominal,
        }
        assert document["corners"] == list(report.corners)
        assert set(document["phases"]) == {"free", "update"}
        assert set(document["operations"]) == {"macs", "flops", "spikes", "static"}
        assert {(t["phase"], t["operation"]): t["joules"] for t in document["breakdown"]} == report.breakdown
        assert [s["figure"] for s in document["sensitivities"]] == [s.figure for s in report.sensitivities]
        assert document["seconds_per_sample"]["p50"] == report.seconds.p50 if report.seconds else False
        assert (document["lower_bound"], document["unpriced"]) == (False, [])
        assert (document["grade"], document["unverified"], document["chips"]) == ("measured", [], 1.0)
        assert document["sources"] == list(report.sources)

    def test_what_is_not_known_is_none(self) -> None:
        document = plain(mep.account(counts(free={"macs": 3, "spikes": 1}), MINE))
        assert document["seconds_per_sample"] is None
        assert document["energy_delay"] is None
        assert (document["lower_bound"], document["unpriced"]) == (True, ["spikes"])


class TestOnesOwnProfile:
    def test_by_path_by_scenario_and_as_a_value(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = tmp_path / "somewhere" / "chip.toml"
        path.parent.mkdir()
        path.write_text(TOML, encoding="utf-8")
        made = counts(4, free={"macs": 1000})
        report = mep.account(made, path)
        assert report.profile.name == "mine"
        assert report.joules.nominal == pytest.approx(250 * 2e-9, rel=1e-14)
        assert mep.account(made, str(path)) == report
        assert mep.account(made, mep.hardware_profile(path)) == report
        slow = mep.account(made, f"{path}:slow")
        assert slow.profile.name == "mine:slow"
        assert slow.joules.nominal == pytest.approx(250 * 2e-12, rel=1e-14)
        monkeypatch.chdir(path.parent)
        assert mep.account(made, "chip.toml:slow") == slow

    def test_an_unknown_profile_offers_the_nearest(self) -> None:
        with pytest.raises(ProfileError, match=r"no hardware profile 'cmos_4nm'.*Did you mean 'cmos_45nm'\?"):
            mep.account(COUNTS, "cmos_4nm")


class TestBadInput:
    @pytest.mark.parametrize("samples", [0, -1])
    def test_counts_over_no_samples(self, samples: int) -> None:
        with pytest.raises(InputError, match="over no samples: subtract two readings with a free phase between them"):
            mep.account(counts(samples, free={"macs": 1}), MINE)

    @pytest.mark.parametrize(
        ("option", "value", "said"),
        [
            ("draws", 99, "draws is 99; percentiles need at least 100"),
            ("draws", -1, "draws is -1"),
            ("seed", -1, "seed is -1; it must be at least 0"),
            ("chips", 0, "chips is 0; it must be above 0"),
            ("chips", -1.5, "chips is -1.5; it must be above 0"),
            ("chips", math.nan, "chips is nan; it must be above 0"),
        ],
    )
    def test_options_out_of_range(self, option: str, value: Any, said: str) -> None:
        with pytest.raises(InputError, match=said):
            mep.account(COUNTS, MINE, **{option: value})


def test_counts_that_fell_are_refused() -> None:
    """Two readings subtracted the wrong way round."""
    before = mep.OperationCounts(samples=2, entries={("free", "macs"): 10})
    after = mep.OperationCounts(samples=5, entries={("free", "macs"): 4})
    with pytest.raises(InputError, match=r"macs \(free\) are negative: subtract the earlier reading from the later"):
        mep.account(after - before)


def test_a_clock_without_static_power_grades_no_joules() -> None:
    """The seconds of gpu_h100:all_in rest on an assumed utilisation, its joules on the datasheet alone."""
    counts = mep.OperationCounts(samples=1, entries={("free", "macs"): 10})
    report = mep.account(counts, "gpu_h100:all_in")
    assert report.used["times.macs"].kind == "assumed"
    assert report.grade == report.used["prices.macs"].kind == "datasheet"
