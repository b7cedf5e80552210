"""What the specs of the analog substrate refuse, and in which words."""

from __future__ import annotations

import math
from dataclasses import FrozenInstanceError, replace
from typing import Any

import pytest

from mep_neuro.errors import OptionError
from mep_neuro_analog.specs import AnalogSpec, ArraySpec, DeviceSpec, PeripherySpec, PulseSpec

DEVICE: dict[str, Any] = {"g_min": 0.0, "g_max": 25e-6}
PULSES: dict[str, Any] = {"step": 0.01}
EXPONENTIAL = (-0.5, -0.5, -1.0, -0.1, 5.0, 5.0)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"g_min": 25e-6}, "0 <= g_min < g_max"),
        ({"g_min": 30e-6}, "g_min 3e-05 S and g_max 2.5e-05 S"),
        ({"g_min": -1e-9}, "0 <= g_min < g_max"),
        ({"g_max": math.inf}, "0 <= g_min < g_max"),
        ({"g_max": math.nan}, "0 <= g_min < g_max"),
        ({"levels": 1}, "levels is 1"),
        ({"read_noise": -0.1}, "read_noise is -0.1"),
        ({"read_noise": math.nan}, "read_noise is nan"),
        ({"stuck_low": -0.1}, "stuck_low is -0.1"),
        ({"stuck_high": -0.1}, "stuck_high is -0.1"),
        ({"stuck_low": 0.6, "stuck_high": 0.5}, "more than all"),
        ({"stuck_low": 1.1}, "more than all"),
        ({"drift_start": 0.0}, "drift_start is 0"),
        ({"drift_spread": (0.0, 0.01, 0.0, 1.0)}, "drift_mean is not"),
        ({"drift_mean": (0.0, 0.05, 0.0)}, "drift_mean has 3 numbers"),
        ({"drift_mean": (0.0, 0.05, 0.0, 1.0, 0.5)}, "drift_mean has 5 numbers"),
        ({"drift_mean": (0.0, 0.05, 0.2, 0.1)}, "lower limit first"),
        ({"drift_mean": (0.0, 0.05, 0.0, 1.0), "drift_spread": (0.0, 0.05, 0.2, 0.1)}, "drift_spread is clipped"),
        ({"flicker": (0.01, 0.5)}, "flicker has 2 numbers"),
        ({"flicker": (-0.01, 0.5, 0.2, 1e-6)}, "0 or more"),
        ({"flicker": (0.01, 0.5, 0.2, 0.0)}, "t_read above 0"),
    ],
)
def test_a_device_that_cannot_be(given: dict[str, Any], words: str) -> None:
    with pytest.raises(OptionError, match=words):
        DeviceSpec(**{**DEVICE, **given})


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"model": "soft_bound"}, "Did you mean 'soft_bounds'"),
        ({"step": 0.0}, "step is 0"),
        ({"step": -0.1}, "step is -0.1"),
        ({"step": math.inf}, "step is inf"),
        ({"bounds": (0.0, 1.0)}, "below 0, above 0"),
        ({"bounds": (-1.0, 0.0)}, "below 0, above 0"),
        ({"model": "exponential"}, "takes exponential="),
        ({"exponential": EXPONENTIAL}, "takes exponential="),
        *(
            ({name: -0.1}, f"{name} is -0.1")
            for name in ("step_spread", "slope_spread", "up_down_spread", "cycle_noise", "write_noise")
        ),
    ],
)
def test_pulses_that_cannot_be(given: dict[str, Any], words: str) -> None:
    with pytest.raises(OptionError, match=words):
        PulseSpec(**{**PULSES, **given})


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"pairs": "diferential"}, "Did you mean 'differential'"),
        ({"ir_drop": "exact"}, "no ir_drop 'exact'"),
        ({"rows": 0}, "at least one row"),
        ({"columns": 0}, "at least one row and one column"),
        ({"wire_resistance": -1.0}, "wire_resistance is -1"),
        ({"wire_resistance": math.nan}, "wire_resistance is nan"),
    ],
)
def test_arrays_that_cannot_be(given: dict[str, Any], words: str) -> None:
    with pytest.raises(OptionError, match=words):
        ArraySpec(**given)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"converters": "tile"}, "Did you mean 'tiles'"),
        ({"dac_bits": 1}, "dac_bits is 1"),
        ({"adc_bits": 25}, "adc_bits is 25"),
        ({"dac_range": 0.0}, "dac_range is 0"),
        ({"adc_range": -2.0}, "adc_range is -2"),
        ({"settling_seconds": 0.0}, "settling_seconds is 0"),
        ({"v_unit": 0.0}, "v_unit is 0"),
        ({"settling_error": 1.0}, "nothing would settle"),
        *(
            ({name: -0.1}, f"{name} is -0.1")
            for name in (
                "output_noise",
                "temperature",
                "bandwidth",
                "comparator_offset",
                "neuron_gain",
                "neuron_offset",
                "settling_error",
            )
        ),
    ],
)
def test_a_periphery_that_cannot_be(given: dict[str, Any], words: str) -> None:
    with pytest.raises(OptionError, match=words):
        PeripherySpec(**given)


def test_the_ends_of_what_is_allowed() -> None:
    DeviceSpec(0.0, 1e-6, levels=2, stuck_low=0.5, stuck_high=0.5)
    PulseSpec(0.01, "exponential", exponential=EXPONENTIAL)
    PeripherySpec(dac_bits=2, adc_bits=24, temperature=0.0)
    fit = (0.0, 0.05, 0.0, 1.0, 0.5, 0.1)
    DeviceSpec(0.0, 1e-6, drift_mean=fit, drift_spread=fit, flicker=(0.0, 0.0, 0.0, 1e-6, 0.5, 0.1))


def test_specs_are_frozen() -> None:
    spec = AnalogSpec(DeviceSpec(**DEVICE))
    with pytest.raises(FrozenInstanceError):
        spec.device.g_max = 1.0  # type: ignore[misc]
    assert replace(spec.device, g_max=1.0).g_max == 1


@pytest.mark.parametrize(
    ("device", "periphery", "noisy", "reads"),
    [
        ({}, {}, False, False),
        ({"programming": (0.0, 0.0)}, {}, False, False),
        ({"programming": (1e-7,)}, {}, True, False),
        ({"stuck_low": 0.1}, {}, True, False),
        ({"flicker": (0.01, 0.5, 0.2, 1e-6)}, {}, True, False),
        ({"pulses": PulseSpec(0.01)}, {}, True, False),
        ({"read_noise": 0.01}, {}, True, True),
        ({}, {"output_noise": 0.1}, True, True),
        ({}, {"bandwidth": 1e6}, True, True),
        ({}, {"bandwidth": 1e6, "temperature": 0.0}, False, False),
        ({}, {"comparator_offset": 0.1}, True, False),
    ],
)
def test_what_is_drawn_by_chance(device: dict[str, Any], periphery: dict[str, Any], noisy: bool, reads: bool) -> None:
    spec = AnalogSpec(DeviceSpec(**{**DEVICE, **device}), periphery=PeripherySpec(**periphery))
    assert (spec.noisy, spec.noisy_reads) == (noisy, reads)
