"""The learning engine against its formula in Python integers, and figures out of Lava 0.10.0's own run."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mep_neuro_lava.kernels import Encoding, Factor, Product, changed

TRACE = st.integers(-200, 200)
LOW, HIGH = -(2**15) - 1, 2**15 - 1


def clip(value: int, low: int, high: int) -> int:
    return min(max(value, low), high)


def by_hand(w: int, terms: list[tuple[int, int, list[int]]], r: float) -> int:
    """One synapse: terms (mantissa, exponent, factors)."""
    accumulator = w << 7
    for mantissa, exponent, factors in terms:
        product = mantissa
        for f in factors:
            product *= clip(f, -128, 127)
        product = (product >> max(0, 7 * len(factors) + 4 - 15)) << (exponent + 7)
        accumulator = clip(accumulator + clip(product, LOW, HIGH), LOW, HIGH)
    whole, part = accumulator >> 7, (accumulator & 127) / 128
    return clip(whole + (r < part), -256, 255)


@settings(max_examples=300)
@given(
    w=st.integers(-256, 255),
    terms=st.lists(
        st.tuples(st.integers(-8, 7), st.integers(-7, 8), st.lists(TRACE, min_size=1, max_size=3)),
        min_size=1,
        max_size=3,
    ),
    r=st.floats(0, 1, exclude_max=True),
)
def test_a_rule_is_its_formula(w: int, terms: list[tuple[int, int, list[int]]], r: float) -> None:
    changes = [
        Product(mantissa, exponent)([Factor(np.array([[float(f)]])) for f in factors])
        for mantissa, exponent, factors in terms
    ]
    assert changed(np.array([[float(w)]]), changes, r)[0, 0] == by_hand(w, terms, r)


def test_products_floor_as_lavas_do() -> None:
    """reference/lava.md, part 4: 2^-3 x1 y1 with (10, 10) and (10, -10) moves the accumulator by 192 and -208."""
    scale = Product(1, -3)
    ten = Factor(np.array([[10.0]]))
    assert scale([ten, ten])[0, 0] == 192
    assert scale([ten, Factor(np.array([[-10.0]]))])[0, 0] == -208


def test_factors_go_with_the_weights() -> None:
    rng = np.random.default_rng(0)
    w, x, y = rng.integers(-256, 256, (4, 5)), rng.integers(0, 128, 5), rng.integers(-64, 64, 4)
    factors = Factor(x[None].astype(float)), Factor(y[:, None].astype(float)), Factor(np.float64(90))
    found = changed(w.astype(float), [Product(4, -7)(factors)], 0.3)
    for i in range(4):
        for j in range(5):
            assert found[i, j] == by_hand(int(w[i, j]), [(4, -7, [int(x[j]), int(y[i]), 90])], 0.3)


def test_rounding_is_unbiased_with_a_random_number_a_synapse() -> None:
    rng = np.random.default_rng(0)
    w = np.zeros((300, 300))
    found = changed(w, [np.full_like(w, 40.0)], rng.random(w.shape))
    assert set(np.unique(found)) == {0.0, 1.0}
    assert abs(found.mean() - 40 / 128) < 4 * math.sqrt(0.25) / 300


def test_nothing_to_learn_changes_nothing() -> None:
    w = np.arange(-256.0, 256.0)
    assert (changed(w, [np.zeros_like(w)], 0.0) == w).all()


@pytest.mark.parametrize("power", range(-7, 11))
def test_a_power_of_two_is_a_scale_with_the_largest_mantissa(power: int) -> None:
    scale = Product.of(power)
    assert scale.mantissa * 2.0**scale.exponent == 2.0**power
    assert scale.mantissa == 4 or scale.exponent == -7


@pytest.mark.parametrize(("mantissa", "exponent"), [(8, 0), (-9, 0), (1, -8), (1, 9)])
def test_a_scale_beyond_the_engines_is_an_error(mantissa: int, exponent: int) -> None:
    with pytest.raises(ValueError, match=r"mantissa -8 \.\. 7, exponent -7 \.\. 8"):
        Product(mantissa, exponent)


@pytest.mark.parametrize("signed", [False, True])
def test_a_code_travels_through_a_trace(signed: bool) -> None:
    encoding = Encoding(16, 6, signed)
    values = np.array([-3.0, -0.5, 0.0, 0.2, 0.5, 1.0, 3.0]) * 2**16
    codes = encoding.code(values)
    assert codes.min() >= (-63 if signed else 0)
    assert codes.max() <= (63 if signed else 127)
    payload = encoding.payload(codes)
    assert ((payload == 0) == (codes == 0)).all()  # a 0 is not sent
    assert (payload >= 0).all()
    assert (payload <= 254).all()
    trace = np.round(payload / 2).astype(np.uint8).astype(float)  # as Lava sets x1
    assert (trace[codes != 0] + encoding.offset == codes[codes != 0]).all()
