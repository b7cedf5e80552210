"""Converters: counts of codes, error laws from theory, clipping, zeros."""

from __future__ import annotations

import math

import pytest
import torch

from mep_neuro_analog.converters import quantised


def uniform(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 2 * torch.rand(*shape, generator=generator, dtype=dtype) - 1


@pytest.mark.parametrize("bits", [2, 3, 7])
def test_a_converter_has_2_to_the_bits_less_2_even_steps(bits: int) -> None:
    levels = quantised(torch.linspace(-1.5, 1.5, 20001, dtype=torch.float64)[None], bits, 1.0).unique()
    assert len(levels) == 2**bits - 1
    torch.testing.assert_close(levels, torch.linspace(-1, 1, 2**bits - 1, dtype=torch.float64), rtol=0, atol=1e-15)
    assert 0.0 in levels


def test_it_is_odd_rounds_to_the_nearest_code_and_clips() -> None:
    v = 3 * uniform(20, 50)
    q = quantised(v, 5, 2.0)
    assert torch.equal(quantised(-v, 5, 2.0), -q)
    step = 2.0 / 15
    inside = v.abs() <= 2
    assert float((q - v)[inside].abs().max()) <= step / 2 + 1e-15
    assert torch.equal(q[~inside], 2.0 * v[~inside].sign())


def test_without_a_limit_each_sample_has_its_own_range() -> None:
    v = uniform(6, 40) * torch.tensor([1e-9, 1e-3, 1.0, 5.0, 1e3, 0.0], dtype=torch.float64)[:, None]
    q = quantised(v, 7, None)
    for sample, found in zip(v[:-1], q[:-1], strict=True):
        torch.testing.assert_close(found, quantised(sample[None], 7, float(sample.abs().max()))[0], rtol=1e-12, atol=0)
    largest = v.abs().argmax(1)[:, None]
    torch.testing.assert_close(q.gather(1, largest), v.gather(1, largest), rtol=1e-15, atol=0)
    assert torch.equal(q[-1], torch.zeros(40, dtype=torch.float64))


@pytest.mark.parametrize("bits", [2, 24])
def test_zeros_stay_zeros_in_float32(bits: int) -> None:
    assert torch.equal(quantised(torch.zeros(3, 4), bits, None), torch.zeros(3, 4))


def test_the_root_mean_square_error_is_the_step_over_root_12() -> None:
    v = uniform(100, 1000)
    error = quantised(v, 7, 1.0) - v
    # 100,000 draws: the mean square of a uniform error has a relative standard deviation of 0.9 / sqrt(100,000).
    assert float(error.square().mean()) == pytest.approx((1 / 63) ** 2 / 12, rel=5 * 0.9 / math.sqrt(1e5))


def test_out_is_written_and_may_be_the_values_or_a_part() -> None:
    v = uniform(4, 10)
    want = quantised(v, 4, 0.7)
    whole = v.clone()
    assert quantised(whole, 4, 0.7, out=whole) is whole
    assert torch.equal(whole, want)
    part = v.clone()
    quantised(part[:, 3:7], 4, None, out=part[:, 3:7])
    assert torch.equal(part[:, 3:7], quantised(v[:, 3:7].clone(), 4, None))
    assert torch.equal(part[:, :3], v[:, :3])


def test_an_ideal_converter_gives_the_values_back() -> None:
    v = uniform(4, 10)
    assert quantised(v, None, 0.1) is v
    assert torch.equal(quantised(v, None, None, out=torch.empty_like(v)), v)
