"""Device physics against the published laws, written out anew: programming, drift, 1/f noise, faults."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from mep_neuro_analog.devices import Devices, flicker_growth, levelled, programmed, programming_sigma
from mep_neuro_analog.presets import device
from mep_neuro_analog.specs import DeviceSpec

N = 200_000
Z = 5.0
"""Standard errors a statistic may be off."""

SHARES = (0.05, 0.2, 0.4, 0.7, 1.0)
TIMES = (30.0, 3600.0, 86400.0)
PLAIN: dict[str, Any] = {"g_min": 0.0, "g_max": 25e-6}
DRIFT = {"drift_mean": (0.0, 0.05, 0.0, 1.0)}


def seeded(seed: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def array(spec: DeviceSpec, n: int = N, seed: int = 1, fixed: int = 7) -> Devices:
    return Devices((n,), spec, seeded(fixed), torch.float64, "cpu", seeded(seed))


def full(share: float, n: int = N) -> Tensor:
    return torch.full((n,), share * 25e-6, dtype=torch.float64)


def off_mean(x: Tensor, mean: float, spread: float) -> float:
    """Standard errors that the mean of x is away from where it should be."""
    return abs(x.mean().item() - mean) / (spread / math.sqrt(len(x)))


def off_spread(x: Tensor, spread: float) -> float:
    """The same of the standard deviation of normal numbers."""
    return abs(x.std().item() / spread - 1) * math.sqrt(2 * len(x))


@pytest.mark.parametrize("share", SHARES)
def test_pcm_programming(share: float) -> None:
    spec = device("pcm")
    sigma = (0.26348 + 1.9650 * share - 1.1731 * share**2) * 1e-6
    g = programmed(full(share), spec, seeded())
    z = share * 25e-6 / sigma
    if z > 4:
        assert off_mean(g, share * 25e-6, sigma) < Z
        assert off_spread(g, sigma) < Z
    else:  # the clamp at 0 is felt: E max(X, 0) = mu Phi(z) + sigma phi(z)
        phi, below = math.exp(-(z**2) / 2) / math.sqrt(2 * math.pi), math.erfc(z / math.sqrt(2)) / 2
        assert off_mean(g, share * 25e-6 * (1 - below) + sigma * phi, sigma) < Z
        assert g.min().item() == 0


def test_pcm_aimed_at_zero_conducts_a_little() -> None:
    g = programmed(full(0.0), device("pcm"), seeded())
    assert g.mean().item() == pytest.approx(0.26348e-6 / math.sqrt(2 * math.pi), rel=0.02)
    assert (g == 0).double().mean().item() == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("seconds", TIMES)
def test_pcm_drift(share: float, seconds: float) -> None:
    spec = replace(device("pcm"), programming=(), flicker=None)
    devices = array(spec)
    devices.program(full(share))
    devices.advance(seconds)
    mean = min(max(-0.0155 * math.log(share) + 0.0244, 0.049), 0.1)
    spread = min(max(-0.0125 * math.log(share) - 0.0059, 0.008), 0.045)
    nu = -(devices.now / (share * 25e-6)).log() / math.log(seconds / 20)
    assert nu.min().item() >= 0
    if mean / spread > 4:
        assert off_mean(nu, mean, spread) < Z
        assert off_spread(nu, spread) < Z
    else:  # |nu| of a nu that would be negative: the folded normal
        z = mean / spread
        folded = spread * math.sqrt(2 / math.pi) * math.exp(-(z**2) / 2) + mean * math.erf(z / math.sqrt(2))
        assert off_mean(nu, folded, spread) < Z
        square = mean**2 + spread**2
        assert nu.square().mean().item() == pytest.approx(square, rel=0.02)


@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("seconds", TIMES)
def test_pcm_flicker(share: float, seconds: float) -> None:
    spec = replace(device("pcm"), programming=(), drift_mean=(0.0, 0.06, 0.0, 1.0), drift_spread=None)
    devices = array(spec)
    devices.program(full(share))
    devices.advance(seconds)
    drifted = share * 25e-6 * (seconds / 20) ** -0.06
    q = min(0.0088 / share**0.65, 0.2)
    sigma = drifted * q * math.sqrt(math.log((seconds + 250e-9) / (2 * 250e-9)))
    assert off_mean(devices.now, drifted, sigma) < Z
    assert off_spread(devices.now, sigma) < Z


def test_flicker_of_the_share_that_was_written_and_the_conductance_that_is_left() -> None:
    """Q is the written conductance's, and does not grow as the device drifts to where Q would be larger."""
    spec = DeviceSpec(**PLAIN, drift_mean=(0.0, 0.2, 0.0, 1.0), flicker=(0.01, 0.65, 0.2, 1e-6))
    devices = array(spec)
    devices.program(full(0.5))
    devices.advance(1e6)
    left = (1e6 / 20) ** -0.2
    relative = 0.01 / 0.5**0.65 * math.sqrt(math.log((1e6 + 1e-6) / 2e-6))
    assert off_spread(devices.now / (0.5 * 25e-6 * left), relative) < Z


def test_flicker_is_drawn_once_a_move_and_not_for_times_shorter_than_a_read() -> None:
    devices = array(DeviceSpec(**PLAIN, flicker=(0.01, 0.5, 0.2, 1e-6)), 1000)
    devices.program(full(0.5, 1000))
    assert torch.equal(devices.now, full(0.5, 1000))
    devices.advance(1e-7)
    assert torch.equal(devices.now, full(0.5, 1000))
    devices.advance(10.0)
    first = devices.now
    assert devices.now is first
    devices.advance(0.0)
    assert devices.now is first
    devices.advance(10.0)
    second = devices.now
    correlation = torch.corrcoef(torch.stack((first, second)))[0, 1].item()
    assert abs(correlation) < Z / math.sqrt(1000)
    growth = flicker_growth(torch.tensor([0.0, 1e-6, 1.0], dtype=torch.float64), DeviceSpec(**PLAIN))
    assert growth.tolist() == [0, 0, 0]


def test_nothing_conducts_less_than_nothing() -> None:
    spec = DeviceSpec(**PLAIN, programming=(10e-6,), flicker=(2.0, 0.5, 2.0, 1e-6))
    devices = array(spec, 2000)
    devices.program(full(0.1, 2000))
    devices.advance(1e4)
    assert devices.now.min().item() == 0
    assert programming_sigma(torch.ones(1), DeviceSpec(0, 1, programming=(0.5, -1.0))).item() == 0


@pytest.mark.parametrize("levels", [2, 5, 16])
def test_levels(levels: int) -> None:
    spec = DeviceSpec(2e-6, 10e-6, levels=levels)
    target = torch.linspace(1e-6, 11e-6, 1001, dtype=torch.float64)
    g = programmed(target, spec, seeded())
    assert len(g.unique()) == levels
    assert (g.min().item(), g.max().item()) == pytest.approx((2e-6, 10e-6))
    assert (g - target.clamp(2e-6, 10e-6)).abs().max().item() <= 8e-6 / (levels - 1) / 2 * (1 + 1e-9)
    assert torch.allclose(levelled(g, spec), g, rtol=1e-12, atol=0)


def test_a_target_out_of_range_ends_at_its_end() -> None:
    g = programmed(torch.tensor([0.0, 5e-6, 1.0], dtype=torch.float64), DeviceSpec(2e-6, 10e-6), seeded())
    assert g.tolist() == [2e-6, 5e-6, 10e-6]


def test_stuck_devices_stay_whatever_is_written_and_whenever() -> None:
    spec = DeviceSpec(1e-6, 25e-6, stuck_low=0.1, stuck_high=0.03, flicker=(0.01, 0.5, 0.2, 1e-6), **DRIFT)
    devices = array(spec)
    devices.program(full(0.5))
    low, high = devices.now == 1e-6, devices.now == 25e-6
    for found, share in ((low, 0.1), (high, 0.03)):
        assert abs(found.double().mean().item() - share) < Z * math.sqrt(share * (1 - share) / N)
    devices.program(full(0.7))
    devices.advance(1e5)
    devices.set(full(0.3))
    devices.advance(1e5)
    assert torch.equal(devices.now == 1e-6, low)
    assert torch.equal(devices.now == 25e-6, high)
    other = array(spec, seed=2)
    other.program(full(0.5))
    assert torch.equal(other.now == 1e-6, low), "the same fixed generator, the same stuck devices"


@pytest.mark.parametrize(("low", "high"), [(1.0, 0.0), (0.0, 1.0)])
def test_all_stuck(low: float, high: float) -> None:
    devices = array(DeviceSpec(1e-6, 25e-6, stuck_low=low, stuck_high=high), 100)
    devices.program(full(0.5, 100))
    assert set(devices.now.tolist()) == {1e-6 if low else 25e-6}
