"""The kernels against plain loops over Python integers, which neither round nor wrap."""

from __future__ import annotations

import ast
import math
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import mep_neuro_lava.kernels as kernels
from mep_neuro_lava.kernels import (
    Format,
    KernelOverflow,
    Neuron,
    accumulate,
    check_width,
    finest_exponent,
    mantissas,
    rounded,
    shifted,
    sign_mode,
)

WHOLE = st.integers(-(2**23), 2**23 - 1)
SHIFT = st.integers(-12, 7)


def ints(shape: tuple[int, ...], low: int, high: int) -> st.SearchStrategy[np.ndarray]:
    return arrays(np.float64, shape, elements=st.integers(low, high).map(float))


def shift(value: int, exponent: int) -> int:
    return value << exponent if exponent >= 0 else value >> -exponent


@given(WHOLE, SHIFT)
def test_shifts_floor_as_integers_do(value: int, exponent: int) -> None:
    assert shifted(np.array([float(value)]), exponent)[0] == shift(value, exponent)


@given(WHOLE, st.integers(0, 12))
def test_a_rounding_shift_adds_half_a_unit_first(value: int, places: int) -> None:
    half = 1 << (places - 1) if places else 0
    assert rounded(np.array([float(value)]), -places)[0] == (value + half) >> places


@given(ints((3, 4), -256, 255), ints((2, 4), -4096, 4095), st.integers(-8, 2))
def test_the_dense_product_is_lavas(weights: np.ndarray, payload: np.ndarray, exponent: int) -> None:
    found = accumulate(weights, payload, exponent, "the drive")
    for b, row in enumerate(payload):
        for i, w in enumerate(weights):
            total = sum(int(m) * int(p) for m, p in zip(w, row, strict=True))
            assert found[b, i] == shift(total, exponent)


@settings(max_examples=200)
@given(
    v=st.integers(-(2**18), 2**18),
    drive=WHOLE,
    gain=st.integers(1, 2**13),
    offset=st.integers(-(2**17), 2**17),
    leak=st.integers(0, 7),
    pull=st.integers(-2048, 4096),
    target=st.integers(-(2**18), 2**18),
    push=st.integers(-(2**16), 2**16),
    towards=st.booleans(),
)
def test_the_neuron_is_its_formula(
    v: int, drive: int, gain: int, offset: int, leak: int, pull: int, target: int, push: int, towards: bool
) -> None:
    neuron = Neuron(-(2**18), 2**18, gain, offset, leak, 16, Format.over(-4, 4, 12))
    change = (gain * drive >> 12) - v + offset + ((pull * (target - v) >> 12) if towards else push)
    wanted = min(max(v + (change >> leak), -(2**18)), 2**18)
    nudge = {"pull": pull, "target": np.array([float(target)])} if towards else {"push": np.array([float(push)])}
    assert neuron.step(np.array([float(v)]), np.array([float(drive)]), **nudge)[0] == wanted


@given(st.integers(-(2**18), 2**18), st.integers(2, 16))
def test_a_payload_is_the_rounded_state(v: int, bits: int) -> None:
    form = Format.over(-4, 4, bits)
    sent = Neuron(-(2**18), 2**18, 4096, 0, 1, 16, form).send(np.array([float(v)]))[0]
    places = 16 - form.fraction
    assert sent == min(max((v + (1 << places >> 1)) >> places, form.low), form.high)


@given(st.floats(-4, 4), st.sampled_from([(0.0, 1.0), (-1.0, 1.0), (0.0, 6.0), (-4.0, 4.0)]), st.integers(2, 16))
def test_a_code_is_within_half_a_unit_or_at_an_end(value: float, limits: tuple[float, float], bits: int) -> None:
    form = Format.over(*limits, bits)
    value = min(max(value, limits[0]), limits[1])
    code = form.encode(np.array([value]))
    at_the_end = code[0] == form.high
    assert abs(form.decode(code)[0] - value) <= form.unit * (1 if at_the_end else 0.5)
    assert form.high - form.low < 1 << bits
    assert (form.encode(form.decode(code)) == code).all()


@pytest.mark.parametrize(
    ("limits", "mode"), [((-1.0, 1.0), "mixed"), ((0.0, 1.0), "excitatory"), ((-1.0, 0.0), "inhibitory")]
)
def test_mantissas_are_the_nearest_that_a_sign_mode_has(limits: tuple[float, float], mode: str) -> None:
    rng = np.random.default_rng(0)
    step = 2 if mode == "mixed" else 1
    for scale in (1e-3, 0.3, 1.0, 40.0):
        weights = scale * rng.uniform(*limits, (5, 7))
        assert sign_mode(weights) == mode
        fraction = finest_exponent(weights, mode)
        held = mantissas(weights, fraction, mode)
        assert (held % step == 0).all()
        assert (np.abs(held * 2.0**-fraction - weights) <= step / 2 * 2.0**-fraction).all()
        assert np.abs(held).max() >= 126  # a bit finer would not fit
        assert np.abs(held).max() <= 256


def test_mixed_mantissas_reach_from_minus_256_to_254() -> None:
    assert mantissas(np.array([[-1.0, 0.9999]]), 8, "mixed").tolist() == [[-256.0, 254.0]]
    assert finest_exponent(np.array([[-1.0, 0.5]]), "mixed") == 8
    assert finest_exponent(np.array([[-0.5, 1.0]]), "mixed") == 7
    assert finest_exponent(np.zeros((2, 2)), "mixed") is None


def test_stochastic_rounding_is_unbiased() -> None:
    rng = np.random.default_rng(0)
    weights = np.full((200, 200), 0.1234)
    weights[0, 0] = -0.5
    held = mantissas(weights, 8, "mixed", rng.random(weights.shape))
    assert set(held[1:].ravel()) == {30.0, 32.0}
    assert abs(held[1:].mean() / 256 - 0.1234) < 4 * 2 / 256 / 200


def test_what_a_learning_engine_left_is_written_back_as_it_was() -> None:
    odd = np.array([[-255.0, 255.0, 3.0, 0.0]])
    assert (mantissas(odd * 2.0**-9, 9, "mixed") == odd).all()


@pytest.mark.parametrize("value", [2.0**23, -(2.0**23) - 1, math.inf, math.nan])
def test_what_a_register_does_not_hold_is_named(value: float) -> None:
    with pytest.raises(KernelOverflow, match="the drive of population 3 reaches") as caught:
        check_width(np.array([0.0, value]), 24, "the drive of population 3")
    assert caught.value.bits == 24


def test_a_register_holds_its_ends() -> None:
    ends = np.array([-(2.0**23), 2.0**23 - 1])
    assert check_width(ends, 24, "ends") is ends


def test_a_sum_that_is_too_wide_before_its_shift_is_an_overflow() -> None:
    weights, payload = np.full((1, 4096), 254.0), np.full((1, 4096), 4095.0)
    with pytest.raises(KernelOverflow, match="32 signed bits"):
        accumulate(weights, payload, -12, "the drive")


def test_the_kernels_import_nothing_but_numpy() -> None:
    allowed = {"numpy", *sys.stdlib_module_names}
    for path in Path(kernels.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [str(node.module)]
            assert {name.partition(".")[0] for name in names} <= allowed, path
