"""Units of prices: converted exactly, and refused where they say something else than what is wanted."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mep_neuro.errors import InputError
from mep_neuro.units import factor

PREFIXES = {
    "z": 1e-21,
    "a": 1e-18,
    "f": 1e-15,
    "p": 1e-12,
    "n": 1e-9,
    "u": 1e-6,
    "µ": 1e-6,
    "m": 1e-3,
    "": 1.0,
    "k": 1e3,
}


@pytest.mark.parametrize(("prefix", "scale"), PREFIXES.items())
@pytest.mark.parametrize("unit", ["J", "W", "s"])
def test_a_prefix_is_its_power_of_ten_and_not_a_bit_more(prefix: str, scale: float, unit: str) -> None:
    assert factor(prefix + unit, unit) == scale


@pytest.mark.parametrize(
    ("unit", "wanted", "expected"),
    [
        ("pJ/bit", "J/byte", 8e-12),
        ("J/byte", "J/byte", 1.0),
        ("pJ/B", "J/byte", 1e-12),
        ("ps/byte", "s/byte", 1e-12),
        ("ns/bit", "s/byte", 8e-9),
        ("W*s", "J", 1.0),
        ("pJ/ns", "W", 1e-3),
        ("nJ/ms", "W", 1e-6),
        ("picojoule", "J", 1e-12),
        ("milliwatt", "W", 1e-3),
        ("mW * ns", "J", 1e-12),
        ("J / byte", "J/byte", 1.0),
        ("J/kB", "J/byte", 1e-3),
    ],
)
def test_compound_units_by_hand(unit: str, wanted: str, expected: float) -> None:
    assert factor(unit, wanted) == expected


@settings(deadline=None)
@given(st.sampled_from(sorted(PREFIXES)), st.sampled_from(sorted(PREFIXES)), st.sampled_from(["J", "W", "s"]))
def test_factors_of_two_prefixes_are_as_their_powers_of_ten(one: str, other: str, unit: str) -> None:
    assert factor(one + unit, unit) / factor(other + unit, unit) == pytest.approx(
        PREFIXES[one] / PREFIXES[other], rel=1e-15
    )


@pytest.mark.parametrize(
    ("unit", "wanted"),
    [
        ("s", "J"),  # a time is no price
        ("pJ", "J/byte"),  # joules are never taken for joules a byte
        ("pJ/byte", "J"),
        ("pJ/bit", "J"),
        ("W", "J"),
        ("J", "W"),
        ("us", "s/byte"),
        ("pJ/byte", "s/byte"),
        ("bit", "J/byte"),
        ("J*byte", "J/byte"),
        ("J**2", "J"),
        ("1", "J"),
        ("", "J"),
        (" ", "J"),
        ("eV", "J"),  # units that nobody defined here
        ("kWh", "J"),
        ("pj", "J"),
        ("PJ", "J"),  # a prefix that would hide a factor of 1e27
        ("MJ", "J"),
        ("pJ/FLOP", "J"),
        ("p J", "J"),
        ("pJ/", "J"),
        ("(pJ", "J"),
        ("2 pJ", "J"),
        ("J/0", "J"),
        ("__import__('os')", "J"),
        ("J\nJ", "J"),
    ],
)
def test_what_is_no_unit_or_one_of_another_dimension_is_refused_with_an_example(unit: str, wanted: str) -> None:
    with pytest.raises(InputError) as caught:
        factor(unit, wanted)
    message = str(caught.value)
    assert message.startswith(f"unit {unit!r} does not give {wanted}: write one like '")
    assert "\n" not in message


@pytest.mark.parametrize("wanted", ["J", "J/byte", "W", "s", "s/byte"])
def test_the_units_that_an_error_proposes_are_good_ones(wanted: str) -> None:
    with pytest.raises(InputError) as caught:
        factor("furlong", wanted)
    proposed = str(caught.value).partition("write one like ")[2].partition(" (")[0].split(" or ")
    assert len(proposed) >= 1
    for unit in proposed:
        assert 0 < factor(unit.strip("'"), wanted) < 1


@settings(deadline=None)
@given(st.text(max_size=12), st.sampled_from(["J", "J/byte", "W", "s", "s/byte"]))
def test_any_text_gives_a_positive_factor_or_an_input_error(text: str, wanted: str) -> None:
    try:
        found = factor(text, wanted)
    except InputError:
        return
    assert found > 0
