"""Products on tiles: ideal parts give W x, each imperfection its law from theory or from drawing every device."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from mep_neuro.errors import InputError
from mep_neuro_analog.converters import quantised
from mep_neuro_analog.specs import AnalogSpec, ArraySpec, DeviceSpec, PeripherySpec
from mep_neuro_analog.tiles import BOLTZMANN, Tiles
from mep_neuro_analog.wires import closed_form, transfer

LOW, HIGH = 1e-6, 26e-6


def random(*shape: int, seed: int = 1, dtype: torch.dtype = torch.float64) -> Tensor:
    return (2 * torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) - 1).to(dtype)


def specification(array: dict[str, Any] | None = None, read_noise: float = 0.0, **periphery: Any) -> AnalogSpec:
    return AnalogSpec(
        DeviceSpec(LOW, HIGH, read_noise=read_noise), ArraySpec(**array or {}), PeripherySpec(**periphery)
    )


def pair(omega: Tensor, spec: AnalogSpec) -> tuple[Tensor, Tensor]:
    """The conductances of `specs`."""
    if spec.array.pairs == "offset":
        return LOW + (omega + 1) / 2 * (HIGH - LOW), torch.full_like(omega, (LOW + HIGH) / 2)
    return LOW + omega.clamp_min(0) * (HIGH - LOW), LOW + (-omega).clamp_min(0) * (HIGH - LOW)


def tiles(weight: Tensor, spec: AnalogSpec, *, seed: int = 0, sampled: bool = False) -> Tiles:
    made = Tiles(spec, *weight.shape, torch.Generator().manual_seed(seed), sampled=sampled)
    scale = float(weight.abs().max())
    made.hold(*pair(weight / scale, spec), scale)
    return made


def assert_same_law(drawn: Tensor, mean: Tensor, covariance: Tensor) -> None:
    """Mean and covariance of (draws, n) within 5 standard errors of a normal law's."""
    number, centred = len(drawn), drawn - drawn.mean(0)
    z = (drawn.mean(0) - mean) / (covariance.diagonal() / number).sqrt()
    assert float(z.abs().max()) < 5
    found, variance = centred.T @ centred / (number - 1), covariance.diagonal()
    error = ((torch.outer(variance, variance) + covariance.square()) / number).sqrt()
    assert float(((found - covariance) / error).abs().max()) < 5


@pytest.mark.parametrize("pairs", ["differential", "offset"])
@pytest.mark.parametrize("converters", ["ends", "tiles"])
@pytest.mark.parametrize(("dtype", "error"), [(torch.float32, 1e-6), (torch.float64, 1e-12)])
def test_ideal_parts_give_the_product(pairs: str, converters: str, dtype: torch.dtype, error: float) -> None:
    w, x, y = random(30, 50, dtype=dtype), random(8, 50, seed=2, dtype=dtype), random(8, 30, seed=3, dtype=dtype)
    made = tiles(3 * w, specification({"pairs": pairs}, converters=converters))
    for found, want in (
        (made.forward(x), 3 * x @ w.T),
        (made.adjoint(y), 3 * y @ w),
        (made.weight, 3 * w),
    ):
        assert found.dtype == dtype
        assert float((found - want).norm() / want.norm()) < error


@pytest.mark.parametrize(("rows", "columns"), [(7, 5), (50, 4), (13, 30), (1, 1)])
def test_odd_tiles_with_ideal_parts_are_one_large_tile(rows: int, columns: int) -> None:
    w, x, y = random(30, 50), random(8, 50, seed=2), random(8, 30, seed=3)
    for converters in ("ends", "tiles"):
        cut = tiles(w, specification({"rows": rows, "columns": columns}, converters=converters))
        whole = tiles(w, specification(converters=converters))
        torch.testing.assert_close(cut.forward(x), whole.forward(x), rtol=1e-12, atol=1e-13)
        torch.testing.assert_close(cut.adjoint(y), whole.adjoint(y), rtol=1e-12, atol=1e-13)


def test_a_7_bit_dac_adds_its_step_over_root_12_times_root_n_over_3() -> None:
    """Rounding errors of n inputs, each uniform over a step, times weights of mean square 1/3."""
    n, samples = 300, 2000
    w, x = random(40, n), random(samples, n, seed=2)
    made = tiles(w, specification(converters="tiles", dac_bits=7, dac_range=1.0))
    error = made.forward(x) - x @ made.weight.T
    law = 1 / 63 / math.sqrt(12) * math.sqrt(n / 3)
    # 40 rows of weights: their mean square is 1/3 within 0.9 / sqrt(12000), and 80,000 outputs add little.
    assert float(error.square().mean().sqrt()) == pytest.approx(law, rel=0.03)


@pytest.mark.parametrize("limit", [None, 1.5])
def test_every_tile_has_its_own_adc_and_codes_are_added(limit: float | None) -> None:
    w, x, y = 2 * random(9, 11), random(6, 11, seed=2), random(6, 9, seed=3)
    spec = specification(
        {"rows": 4, "columns": 5}, converters="tiles", dac_bits=6, dac_range=0.9, adc_bits=5, adc_range=limit
    )
    made = tiles(w, spec)
    held, scale = made.weight, float(w.abs().max())
    top = None if limit is None else limit * scale
    outputs, inputs = (slice(0, 5), slice(5, 9)), (slice(0, 4), slice(4, 8), slice(8, 11))
    v, u = quantised(x, 6, 0.9), quantised(y, 6, 0.9)
    forward = torch.cat([sum(quantised(v[:, i] @ held[o, i].T, 5, top) for i in inputs) for o in outputs], 1)
    back = torch.cat([sum(quantised(u[:, o] @ held[o, i], 5, top) for o in outputs) for i in inputs], 1)
    torch.testing.assert_close(made.forward(x), forward, rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(made.adjoint(y), back, rtol=1e-12, atol=1e-13)


def test_converters_at_the_ends_are_not_the_tiles_affair() -> None:
    w, x = random(9, 11), random(6, 11, seed=2)
    made = tiles(w, specification(converters="ends", dac_bits=3, adc_bits=3))
    torch.testing.assert_close(made.forward(x), x @ w.T, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize(("rows", "number"), [(512, 1), (20, 3)])
def test_output_noise_is_its_sigma_for_each_tile(rows: int, number: int) -> None:
    w, x = 4 * random(30, 50), random(4000, 50, seed=2)
    made = tiles(w, specification({"rows": rows}, output_noise=0.06))
    error = made.forward(x) - made.forward(x, None)
    sigma = 0.06 * float(w.abs().max()) * math.sqrt(number)
    assert float(error.std()) == pytest.approx(sigma, rel=5 / math.sqrt(2 * error.numel()))
    assert abs(float(error.mean())) < 5 * sigma / math.sqrt(error.numel())


@pytest.mark.parametrize("pairs", ["differential", "offset"])
@pytest.mark.parametrize("back", [False, True])
def test_read_noise_has_the_law_of_10000_products_device_by_device(pairs: str, back: bool) -> None:
    w = 1.7 * random(6, 9)
    spec = specification({"pairs": pairs, "rows": 4, "columns": 4}, read_noise=0.1)
    s = random(1, 6 if back else 9, seed=2).expand(10_000, -1)
    oracle, law = tiles(w, spec, sampled=True), tiles(w, spec, seed=5)
    plus, minus = pair(w / w.abs().max(), spec)
    unit = (2 if pairs == "offset" else 1) * float(w.abs().max()) / (HIGH - LOW)
    variance = (0.1 * unit) ** 2 * (plus.square() + minus.square())
    matrix, variance = (w.T, variance.T) if back else (w, variance)
    for made in (oracle, law):
        drawn = made.adjoint(s) if back else made.forward(s)
        assert_same_law(drawn, matrix @ s[0], torch.diag(variance @ s[0].square()))


def test_johnson_noise_at_300_k_is_root_4ktb_sum_g() -> None:
    w, bandwidth = 2 * random(6, 9), 1e9
    spec = specification({"rows": 4, "columns": 4}, temperature=300.0, bandwidth=bandwidth, v_unit=0.1)
    plus, minus = pair(w / w.abs().max(), spec)
    amps = (4 * BOLTZMANN * 300.0 * bandwidth * (plus + minus).sum(1)).sqrt()
    # A current is u sum (g+ - g-) v_unit s in amps; divided by v_unit and times w_max / range, it is in units of W s.
    units = amps / 0.1 * float(w.abs().max()) / (HIGH - LOW)
    s = random(1, 9, seed=2).expand(10_000, -1)
    for made in (tiles(w, spec, sampled=True), tiles(w, spec)):
        assert_same_law(made.forward(s), w @ s[0], torch.diag(units.square()))
    # By hand: 1 device of 25 uS at 300 K and 1 GHz: sqrt(4 x 1.380649e-23 x 300 x 1e9 x 25e-6) = 20.35 nA.
    assert math.sqrt(4 * BOLTZMANN * 300 * 1e9 * 25e-6) == pytest.approx(20.35e-9, rel=1e-3)


def test_noise_goes_through_every_tiles_adc_by_the_same_law() -> None:
    """All noises and converters together; codes of a fine ADC, so that moments are those of the noise."""
    w = random(6, 9)
    spec = specification(
        {"rows": 4, "columns": 4},
        read_noise=0.1,
        converters="tiles",
        adc_bits=14,
        adc_range=9.0,
        output_noise=0.05,
        bandwidth=1e10,
    )
    s = random(1, 9, seed=2).expand(10_000, -1)
    mean = w @ s[0]
    exact, law = tiles(w, spec, sampled=True).forward(s), tiles(w, spec, seed=5).forward(s)
    assert len(torch.unique(law)) < 9 * 10_000
    plus, minus = pair(w / w.abs().max(), spec)
    unit = float(w.abs().max()) / (HIGH - LOW)
    johnson = (unit / 0.2) ** 2 * 4 * BOLTZMANN * 300 * 1e10 * (plus + minus).sum(1)
    read = (0.1 * unit) ** 2 * (plus.square() + minus.square()) @ s[0].square()
    variance = johnson + read + 3 * (0.05 * float(w.abs().max())) ** 2
    for drawn in (exact, law):
        assert_same_law(drawn, mean, torch.diag(variance))


@pytest.mark.parametrize("pairs", ["differential", "offset"])
@pytest.mark.parametrize(("form", "solve"), [("nodal", transfer), ("closed_form", closed_form)])
def test_wires_act_on_each_tile_and_polarity(pairs: str, form: str, solve: Any) -> None:
    w, r = 1.5 * random(9, 11), 40.0
    spec = specification({"pairs": pairs, "rows": 6, "columns": 4, "wire_resistance": r, "ir_drop": form})
    made, (plus, minus) = tiles(w, spec), pair(w / w.abs().max(), spec)
    want = torch.empty_like(w)
    for o in (slice(0, 4), slice(4, 8), slice(8, 9)):
        for i in (slice(0, 6), slice(6, 11)):
            want[o, i] = (solve(plus[o, i].T, r) - solve(minus[o, i].T, r)).T
    want *= (2 if pairs == "offset" else 1) * float(w.abs().max()) / (HIGH - LOW)
    torch.testing.assert_close(made.weight, want, rtol=1e-12, atol=0)
    x, y = random(5, 11, seed=2), random(5, 9, seed=3)
    torch.testing.assert_close(made.forward(x), x @ want.T, rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(made.adjoint(y), y @ want, rtol=1e-12, atol=1e-13)
    assert float((want - w).norm() / w.norm()) > 0.005


def test_with_wires_the_law_of_read_noise_is_near_that_of_the_network() -> None:
    """Every device drawn and the network solved anew for every vector; the law leaves out second order in the drop."""
    w = random(5, 8)
    spec = specification({"wire_resistance": 60.0}, read_noise=0.05)
    s = random(1, 8, seed=2).expand(2000, -1)
    law = tiles(w, spec)
    exact = tiles(w, spec, sampled=True).forward(s)
    lost = float(1 - law.weight.abs().sum() / w.abs().sum())
    assert lost > 0.01
    drawn = law.forward(s)
    # 2,000 draws each: a ratio of deviations within 5 sqrt(2 / (2 x 2000)) of 1, and a twentieth for second order.
    ratio = exact.std(0) / drawn.std(0)
    assert float((ratio - 1).abs().max()) < 5 * math.sqrt(1 / 2000) + 0.05
    torch.testing.assert_close(exact.mean(0), law.weight @ s[0], rtol=0, atol=float(5 * exact.std(0).max() / 2000**0.5))


def test_power_is_the_sum_of_g_v_squared_by_hand() -> None:
    g_plus = torch.tensor([[2e-6, 3e-6], [5e-6, 7e-6], [1e-6, 1e-6]], dtype=torch.float64)
    g_minus = torch.tensor([[1e-6, 1e-6], [1e-6, 2e-6], [4e-6, 9e-6]], dtype=torch.float64)
    made = Tiles(specification(v_unit=0.5), 3, 2, torch.Generator())
    made.hold(g_plus, g_minus, 1.0)
    # Columns of inputs: 14 uS and 23 uS in all; rows of outputs: 7, 15 and 15 uS.
    s = torch.tensor([[1.0, 0.0], [-2.0, 3.0]], dtype=torch.float64)
    want = torch.tensor([0.25 * 14e-6, 0.25 * (4 * 14e-6 + 9 * 23e-6)], dtype=torch.float64)
    torch.testing.assert_close(made.power(s), want, rtol=1e-12, atol=0)
    t = torch.tensor([[1.0, 2.0, -1.0]], dtype=torch.float64)
    want = torch.tensor([0.25 * (7e-6 + 4 * 15e-6 + 15e-6)], dtype=torch.float64)
    torch.testing.assert_close(made.power(t, back=True), want, rtol=1e-12, atol=0)


def test_devices_and_conversions_are_counted_tile_by_tile() -> None:
    w = random(9, 11)
    array = {"rows": 4, "columns": 5}  # 3 tiles along the inputs, 2 along the outputs
    made = tiles(w, specification(array, converters="tiles"))
    assert made.devices == 2 * 9 * 11
    assert made.conversions(7) == (7 * 11 * 2, 7 * 9 * 3)
    assert made.conversions(7, back=True) == (7 * 9 * 3, 7 * 11 * 2)
    assert tiles(w, specification(array)).conversions(7) == (0, 0)


@pytest.mark.parametrize("sampled", [False, True])
def test_the_same_seed_gives_the_same_noise(sampled: bool) -> None:
    w, x = random(6, 9), random(4, 9, seed=2)
    spec = specification(read_noise=0.1, output_noise=0.1, bandwidth=1e9)
    first, same, other = (tiles(w, spec, seed=seed, sampled=sampled) for seed in (3, 3, 4))
    drawn = first.forward(x)
    assert torch.equal(drawn, same.forward(x))
    assert not torch.equal(drawn, other.forward(x))
    assert not torch.equal(drawn, first.forward(x))


@pytest.mark.parametrize("lines", [1, 3])
def test_noise_can_be_held_over_products_and_left_out(lines: int) -> None:
    w, x = random(6, 9), random(4, 9, seed=2)
    array = {"rows": 3} if lines == 3 else {}
    spec = specification(array, read_noise=0.1, output_noise=0.1, converters="tiles", adc_bits=16)
    made = tiles(w, spec)
    noise = made.draw(x)
    assert noise.shape == (lines, 4, 6)
    assert made.draw(random(4, 6), back=True).shape == (1, 4, 9)
    held = made.forward(x, noise)
    assert torch.equal(held, made.forward(x, noise))
    assert torch.equal(held, tiles(w, spec).forward(x))
    quiet = made.forward(x, None)
    assert torch.equal(quiet, tiles(w, replace(spec, device=DeviceSpec(LOW, HIGH))).forward(x, None))
    torch.testing.assert_close(quiet, x @ w.T, rtol=0, atol=1e-3)
    if lines == 1:
        assert torch.equal(held, made.forward(x, noise[0]))
    else:
        with pytest.raises(InputError, match=r"1 line\(s\) of tiles, and here are 3"):
            made.forward(x, noise[0])


def test_what_does_not_fit_is_an_error() -> None:
    made = Tiles(specification(), 3, 2, torch.Generator())
    with pytest.raises(InputError, match="hold no conductances yet"):
        made.forward(torch.ones(1, 2))
    with pytest.raises(InputError, match=r"\(2, 3\).*\(outputs, inputs\) = \(3, 2\)"):
        made.hold(torch.ones(2, 3), torch.ones(2, 3), 1.0)
    for scale in (0.0, float("nan"), float("inf")):
        with pytest.raises(InputError, match="w_max"):
            made.hold(torch.ones(3, 2), torch.ones(3, 2), scale)
    large = Tiles(specification({"rows": 2048, "columns": 2048, "wire_resistance": 1.0}), 1500, 1500, torch.Generator())
    g = torch.full((1500, 1500), 1e-6)
    with pytest.raises(InputError, match="GiB"):
        large.hold(g, g, 1.0)
