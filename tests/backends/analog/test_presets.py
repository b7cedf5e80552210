"""Presets: the published figures, their sources, and what another range does to them."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from mep_neuro.errors import OptionError
from mep_neuro_analog.devices import drift_moments, flicker_share, programming_sigma
from mep_neuro_analog.presets import DEVICES, device

NAMES = {
    "ideal",
    "pcm",
    "hermes",
    "rram",
    "reram_sb",
    "reram_es",
    "reram_om",
    "hfo2",
    "ecram",
    "ecram_mo",
    "capacitor",
    "gokmen_vlasov",
}
SHARES = (0.004, 0.05, 0.2, 0.5, 1.0)


def at(share: float, g_max: float) -> torch.Tensor:
    return torch.tensor([share * g_max], dtype=torch.float64)


def test_the_names() -> None:
    assert set(DEVICES) == NAMES
    for name in NAMES:
        assert device(name).name == name


@pytest.mark.parametrize("name", sorted(NAMES - {"ideal"}))
def test_every_preset_says_where_its_figures_are_from(name: str) -> None:
    spec = device(name)
    assert "10." in spec.source
    if spec.pulses is not None:
        assert "assumed" in spec.source
        assert "aihwkit" in spec.source


def test_an_unknown_name_offers_the_nearest() -> None:
    with pytest.raises(OptionError, match=r"no device 'ercam'; there are: ideal, .*Did you mean 'ecram'"):
        device("ercam")


@pytest.mark.parametrize("share", SHARES)
def test_pcm_is_the_published_fit(share: float) -> None:
    spec, g = device("pcm"), at(share, 25e-6)
    sigma = (0.26348 + 1.9650 * share - 1.1731 * share**2) * 1e-6
    mean = min(max(-0.0155 * math.log(share) + 0.0244, 0.049), 0.1)
    spread = min(max(-0.0125 * math.log(share) - 0.0059, 0.008), 0.045)
    assert programming_sigma(g, spec).item() == pytest.approx(sigma, rel=1e-12)
    assert [m.item() for m in drift_moments(g, spec)] == pytest.approx([mean, spread], rel=1e-12)
    assert flicker_share(g, spec).item() == pytest.approx(min(0.0088 / share**0.65, 0.2), rel=1e-12)


@pytest.mark.parametrize("share", SHARES)
def test_hermes_is_the_published_fit(share: float) -> None:
    spec, g, log = device("hermes"), at(share, 20.7e-6), math.log(share)
    sigma = 0.16603222 + 4.71806468 * share - 8.48101252 * share**2 + 4.68961419 * share**3
    mean = min(max(-0.0387 * log - 0.0182, 0.0720), 0.13)
    spread = min(max(-0.0117 * log - 0.0057, 0.0091), 0.04)
    flicker = min(max(-0.0117 * log - 0.0069, 0.015), 0.04)
    if share >= 0.0945:
        mean = -0.0436 * share**2 - 0.0126 * share + 0.0736
    if share >= 0.3055:
        spread = -0.0118 * share**2 + 0.0093 * share + 0.0073
    if share >= 0.16:
        flicker = 0.0069 * share**3 - 0.0280 * share**2 + 0.0211 * share + 0.0123
    assert programming_sigma(g, spec).item() == pytest.approx(sigma * 1e-6, rel=1e-9)
    assert [m.item() for m in drift_moments(g, spec)] == pytest.approx([mean, spread], rel=1e-9)
    assert flicker_share(g, spec).item() == pytest.approx(flicker, rel=1e-9 if share >= 0.16 else 0.11)


@pytest.mark.parametrize("microsiemens", [0.0, 6.25, 14.1, 25.0, 39.0])
def test_rram_is_the_published_fit_in_absolute_conductances(microsiemens: float) -> None:
    g = torch.tensor([microsiemens * 1e-6], dtype=torch.float64)
    fit = 1.536e-4 * microsiemens**3 - 1.167e-2 * microsiemens**2 + 0.2374 * microsiemens + 1.053
    assert programming_sigma(g, device("rram")).item() == pytest.approx(fit * 1e-6, rel=1e-9)


@pytest.mark.parametrize("name", ["pcm", "hermes", "rram"])
@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_another_range_keeps_the_error_relative_to_it(name: str, share: float) -> None:
    whole, small = device(name), device(name, g_max=device(name).g_max * 25 / 40)
    relative = [(programming_sigma(at(share, s.g_max), s) / s.g_max).item() for s in (whole, small)]
    assert relative[0] == pytest.approx(relative[1], rel=1e-12)
    assert drift_moments(at(share, small.g_max), small)[0] == drift_moments(at(share, whole.g_max), whole)[0]


def test_rram_at_25_uS_is_not_too_noisy_by_the_ratio_of_the_ranges() -> None:
    """A fit in S with only g_max replaced is 40 / 25 times too noisy, as aihwkit's ReRamWan2022NoiseModel is."""
    right, wrong = device("rram", g_max=25e-6), replace(device("rram"), g_max=25e-6)
    g = at(0.25, 25e-6)
    assert (programming_sigma(g, wrong) / programming_sigma(g, right)).item() == pytest.approx(1.6, rel=1e-12)
    assert programming_sigma(g, right).item() == pytest.approx(2.413 * 25 / 40 * 1e-6, rel=1e-3)


def test_a_range_scales_the_least_conductance_too() -> None:
    spec = device("ecram", g_max=300e-6)
    assert (spec.g_min, spec.g_max) == pytest.approx((150e-6, 300e-6))
    with pytest.raises(OptionError, match="0 <= g_min < g_max"):
        device("ecram", g_max=-1e-6)


@pytest.mark.parametrize(
    ("name", "step", "bounds", "cycle", "write"),
    [
        ("reram_sb", 0.002, (-0.75, 1.25), 3.75, 56.0),
        ("reram_es", 0.00135, (-1.0, 1.0), 5.0, 75.0),
        ("reram_om", 0.0949, (-1.0, 1.0), 0.4158, 1.4113),
        ("hfo2", 0.4622, (-1.0, 1.0), 0.2174, 0.5841),
        ("ecram", 0.002, (-0.8276, 1.1724), 0.3, 0.0),
        ("ecram_mo", 2.8214e-4, (-0.8286, 1.1714), 2.0, 0.0),
        ("capacitor", 0.005, (-1.0, 1.0), 0.3, 0.0),
        ("gokmen_vlasov", 0.0016, (-1.0, 1.0), 0.3, 0.0),
    ],
)
def test_pulses(name: str, step: float, bounds: tuple[float, float], cycle: float, write: float) -> None:
    pulses = device(name).pulses
    assert pulses is not None
    assert (pulses.step, pulses.bounds, pulses.cycle_noise, pulses.write_noise) == (step, bounds, cycle, write)
    assert pulses.volts is None, "no figure for a pulse's volts was found"
    assert pulses.seconds is None
    assert device(name).programming == ()


def test_what_is_programmed_does_not_answer_to_pulses() -> None:
    assert [n for n in DEVICES if device(n).pulses is None] == ["ideal", "pcm", "hermes", "rram"]
