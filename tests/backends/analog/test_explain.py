"""The error budget: every term against the physics it sums up, run by Monte Carlo, and the table it is printed in."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch

from mep_neuro.errors import OptionError
from mep_neuro_analog.budget import SWING, TIMES, error_budget
from mep_neuro_analog.converters import quantised
from mep_neuro_analog.devices import Devices
from mep_neuro_analog.explain import effective_bits, explain
from mep_neuro_analog.presets import DEVICES, device
from mep_neuro_analog.specs import AnalogSpec, ArraySpec, DeviceSpec, PeripherySpec, PulseSpec
from mep_neuro_analog.tiles import Tiles

PLAIN: dict[str, Any] = {"g_min": 2e-6, "g_max": 25e-6}
NAMES = (
    "levels",
    "programming",
    "pulse write noise",
    "stuck devices",
    "drift",
    "1/f noise",
    "read noise",
    "DAC",
    "ADC",
    "output noise",
    "thermal noise",
    "comparator offset",
    "neuron gain",
    "neuron offset",
    "settling error",
)


def errors(spec: AnalogSpec, rows: int) -> dict[str, tuple[float, ...]]:
    return {t.name: t.errors for t in error_budget(spec, rows)}


def simulated(spec: AnalogSpec, rows: int, seconds: float = 0.0, outputs: int = 600, batch: int = 100) -> float:
    """rms error of products on the arrays themselves, over rms(y) = sqrt(rows) / 3."""
    generator, d = torch.Generator().manual_seed(3), spec.device
    two, width = spec.array.pairs == "differential", d.g_max - d.g_min
    omega = torch.rand(outputs, rows, generator=generator, dtype=torch.float64) * 2 - 1
    s = torch.rand(batch, rows, generator=generator, dtype=torch.float64)
    plus, minus = (Devices((outputs, rows), d, generator, torch.float64, "cpu") for _ in range(2))
    plus.program(d.g_min + (omega.clamp_min(0) if two else (omega + 1) / 2) * width)
    minus.program(d.g_min + (-omega).clamp_min(0) * width)
    for devices in (plus, minus):
        devices.advance(seconds)
    reference = minus.now if two else torch.full_like(omega, d.g_min + width / 2)
    tiles = Tiles(spec, outputs, rows, generator)
    tiles.hold(plus.now, reference, 1.0)
    return (tiles.forward(s) - s @ omega.T).square().mean().sqrt().item() / (math.sqrt(rows) / 3)


@pytest.mark.parametrize("pairs", ["differential", "offset"])
@pytest.mark.parametrize(
    ("name", "given", "hours"),
    [
        ("levels", {"levels": 9}, 0.0),
        ("programming", {"programming": (1e-6, 2e-6, -1e-6)}, 0.0),
        ("programming", {"g_min": 0.0, "programming": (1e-6, 2e-6, -1e-6)}, 0.0),
        ("stuck devices", {"stuck_low": 0.04, "stuck_high": 0.02}, 0.0),
        ("drift", {"drift_mean": (-0.0155, 0.0244, 0.049, 0.1), "drift_spread": (0.0, 0.03, 0.0, 1.0)}, 1.0),
        ("drift", {"drift_mean": (-0.0155, 0.0244, 0.049, 0.1), "drift_spread": (0.0, 0.03, 0.0, 1.0)}, 24.0),
        ("drift", {"drift_mean": (0.0, 0.05, 0.0, 1.0)}, 24.0),
        ("1/f noise", {"flicker": (0.0088, 0.65, 0.2, 250e-9)}, 1.0),
        ("1/f noise", {"flicker": (0.0088, 0.65, 0.2, 250e-9)}, 24.0),
        ("read noise", {"read_noise": 0.1}, 0.0),
    ],
)
def test_device_terms(name: str, given: dict[str, Any], hours: float, pairs: Any) -> None:
    spec = AnalogSpec(DeviceSpec(**{**PLAIN, **given}), ArraySpec(pairs=pairs))
    at = {0.0: 0, 1.0: 1, 24.0: 2}[hours]
    found = errors(spec, 64)
    assert found[name][at] == pytest.approx(simulated(spec, 64, hours * 3600), rel=0.04)
    assert all(not any(e) for other, e in found.items() if other != name)


@pytest.mark.parametrize("rows", [1, 2, 500])
def test_an_error_that_all_weights_share_adds_up(rows: int) -> None:
    """Half the devices of offset pairs stuck at g_min: every weight is lowered in the mean, a bias over all rows."""
    spec = AnalogSpec(DeviceSpec(**PLAIN, stuck_low=0.5), ArraySpec(pairs="offset"))
    found = simulated(spec, rows, outputs=2000 if rows < 10 else 100, batch=3000)
    assert errors(spec, rows)["stuck devices"][0] == pytest.approx(found, rel=0.05)


@pytest.mark.parametrize("name", ["pcm", "hermes", "rram"])
def test_all_terms_of_a_preset_together(name: str) -> None:
    spec = AnalogSpec(replace(device(name), levels=33, read_noise=0.02))
    total = math.sqrt(sum(e[1] ** 2 for e in errors(spec, 64).values()))
    assert total == pytest.approx(simulated(spec, 64, TIMES[1]), rel=0.06)


@pytest.mark.parametrize("pairs", ["differential", "offset"])
@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("DAC", {"dac_bits": 4, "dac_range": 1.0}),
        ("DAC", {"dac_bits": 5, "dac_range": 0.8}),
        ("ADC", {"adc_bits": 6, "adc_range": 12.0}),
        ("output noise", {"output_noise": 0.1}),
        ("thermal noise", {"bandwidth": 1e9}),
    ],
)
@pytest.mark.parametrize("cells", [64, 24])
def test_periphery_terms(name: str, given: dict[str, Any], pairs: Any, cells: int) -> None:
    periphery = PeripherySpec(converters="tiles", **given)
    spec = AnalogSpec(DeviceSpec(**PLAIN), ArraySpec(pairs=pairs, rows=cells), periphery)
    assert errors(spec, 64)[name][0] == pytest.approx(simulated(spec, 64), rel=0.04)


def test_converters_that_fit_themselves_to_each_sample() -> None:
    spec = AnalogSpec(DeviceSpec(**PLAIN), periphery=PeripherySpec(converters="tiles", dac_bits=5))
    assert errors(spec, 256)["DAC"][0] == pytest.approx(simulated(spec, 256), rel=0.04)
    spec = AnalogSpec(DeviceSpec(**PLAIN), periphery=PeripherySpec(converters="tiles", adc_bits=7))
    assert errors(spec, 256)["ADC"][0] == pytest.approx(simulated(spec, 256, outputs=200), rel=0.1)


@pytest.mark.parametrize("limit", [1.0, 4.0, 8.0])
def test_an_adc_with_a_small_range_clips(limit: float) -> None:
    spec = AnalogSpec(DeviceSpec(**PLAIN), periphery=PeripherySpec(converters="tiles", adc_bits=6, adc_range=limit))
    y = 8 / 3 * torch.randn(20, 50_000, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    off = (quantised(y, 6, limit) - y).square().mean().sqrt().item() / (8 / 3)
    assert errors(spec, 64)["ADC"][0] == pytest.approx(off, rel=0.01)
    assert errors(spec, 64)["ADC"][0] == pytest.approx(simulated(spec, 64), rel=0.25), "outputs are nearly normal"


@pytest.mark.parametrize("limit", [None, 0.7, 1.0, 2.0])
def test_an_adc_at_the_ends_reads_states(limit: float | None) -> None:
    spec = AnalogSpec(DeviceSpec(**PLAIN), periphery=PeripherySpec(adc_bits=4, adc_range=limit))
    s = torch.rand(20, 5000, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    off = (quantised(s, 4, limit) - s).square().mean().sqrt() / s.square().mean().sqrt()
    assert errors(spec, 64)["ADC"][0] == pytest.approx(off.item(), rel=0.03)


def test_states_terms_are_relative_to_a_state() -> None:
    given = {"comparator_offset": 0.01, "neuron_gain": 0.02, "neuron_offset": 0.03, "settling_error": 0.04}
    found = errors(AnalogSpec(DeviceSpec(**PLAIN), periphery=PeripherySpec(**given)), 100)
    s = torch.rand(100_000, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    rms = s.square().mean().sqrt().item()
    assert found["comparator offset"][0] == pytest.approx(0.01 / rms, rel=0.01)
    assert found["neuron gain"][0] == 0.02
    assert found["neuron offset"][0] == pytest.approx(0.03 / rms, rel=0.01)
    assert found["settling error"][0] == 0.04


def test_write_noise_is_of_omega() -> None:
    spec = AnalogSpec(DeviceSpec(**PLAIN, pulses=PulseSpec(0.01, write_noise=5.0)), ArraySpec(pairs="offset"))
    generator = torch.Generator().manual_seed(1)
    noise = 0.05 * torch.randn(1000, 64, generator=generator, dtype=torch.float64)
    s = torch.rand(1000, 64, generator=generator, dtype=torch.float64)
    off = (noise * s).sum(1).square().mean().sqrt().item() / (8 / 3)
    assert errors(spec, 64)["pulse write noise"][0] == pytest.approx(off, rel=0.1)


def test_nothing_is_wrong_with_an_ideal_device() -> None:
    spec = AnalogSpec(device("ideal"))
    assert all(not any(e) for e in errors(spec, 256).values())
    assert "exact" in explain(spec)
    assert effective_bits(0.0) == math.inf


@pytest.mark.parametrize("bits", [4, 8, 12])
def test_effective_bits_are_those_of_the_converter_that_errs_as_much(bits: int) -> None:
    y = torch.linspace(-SWING, SWING, 300_001, dtype=torch.float64)
    off = (quantised(y[None], bits, SWING) - y).square().mean().sqrt().item()
    assert effective_bits(off) == pytest.approx(math.log2(2**bits - 2), abs=0.01)


@pytest.mark.parametrize("name", sorted(DEVICES))
def test_the_table_has_every_term_and_the_source(name: str) -> None:
    spec = AnalogSpec(device(name), periphery=PeripherySpec(dac_bits=8, adc_bits=8, bandwidth=1e6))
    text = explain(spec, rows=128)
    lines = text.splitlines()
    for term in error_budget(spec, 128):
        (line,) = [one for one in lines if one.startswith(f"{term.name} ")]
        for error in term.errors:
            assert (f"{100 * error:.3g}" if error else " - ") in line
        assert term.formula in line
        assert term.source in line
    assert tuple(t.name for t in error_budget(spec, 128)) == NAMES
    assert spec.device.source in text
    (line,) = [one for one in lines if one.startswith("effective bits ")]
    total = math.sqrt(sum(e[0] ** 2 for e in errors(spec, 128).values()))
    assert f"{effective_bits(total):.1f}" in line


def test_wires_and_pulses_are_named_as_what_is_left_out() -> None:
    text = explain(AnalogSpec(device("ecram"), ArraySpec(pairs="offset", wire_resistance=2.0)))
    assert "The drop along wires of 2 ohm is not in the budget" in text
    assert "Pulses: 1e+03 steps of 0.002" in text


def test_a_product_of_nothing() -> None:
    with pytest.raises(OptionError, match="a product of 0 inputs"):
        explain(AnalogSpec(device("ideal")), rows=0)
