"""Presets: devices with published figures, each with its source. Conductances in S, times in s.

    sigma(G) = sum_k c_k (G / g_max)^k,    `device(name, g_max=...)` scales g_min and all c_k with g_max

so that a device of another size keeps its error relative to its range. To use only a part of the same device's range
is another thing: sigma(G) stays as it is, and c_k is to be multiplied by (new g_max / old g_max)^k.

Pulse figures are fits of whole weights: omega is a pair's, in units of what the pair can hold. They were read in the
presets of aihwkit 1.1.0 (simulator/presets/devices.py), and not in the papers they are fits to. Where a fit is of
another form than `PulseSpec` has, the source says what is lost.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import TypeAlias

from mep_neuro.errors import OptionError, did_you_mean
from mep_neuro_analog.specs import DeviceSpec, PulseSpec

MICRO = 1e-6

Range: TypeAlias = tuple[float, float, str]
"""g_min and g_max, S, and how they are known."""

GONG_2018 = "Gong et al., Nat. Commun. 9, 2102 (2018), 10.1038/s41467-018-04485-1, through aihwkit 1.1.0"
GONG_2022 = "Gong, Rasch et al., IEDM 2022, 10.1109/IEDM45625.2022.10019569, through aihwkit 1.1.0"
ARRAY = (
    "the fit's spread of steps is log-normal, here normal of the same figure; {} % of the array's devices did not "
    "switch, which is not included; aihwkit's cycle noise adds to a step, here it multiplies it"
)
RERAM: Range = (4e-6, 40e-6, "g_min and g_max assumed: the order of HfOx cells, 40 uS in Wan et al. 2022")
ECRAM: Range = (
    15e-6,
    30e-6,
    "g_min and g_max assumed: a range of another ECRAM, Nat. Commun. 2023, 10.1038/s41467-023-41958-4, Fig. 2",
)


def ideal() -> DeviceSpec:
    """A conductance that is what it was programmed to."""
    return DeviceSpec(0.0, 25e-6, "ideal", source="no device; g_max that of pcm, so that powers can be compared")


def pcm() -> DeviceSpec:
    """Phase-change memory, doped Ge2Sb2Te5 in 90 nm: programmed, drifting, with 1/f noise."""
    return DeviceSpec(
        0.0,
        25e-6,
        "pcm",
        programming=(0.26348 * MICRO, 1.9650 * MICRO, -1.1731 * MICRO),
        drift_mean=(-0.0155, 0.0244, 0.049, 0.1),
        drift_spread=(-0.0125, -0.0059, 0.008, 0.045),
        drift_start=20.0,
        flicker=(0.0088, 0.65, 0.2, 250e-9),
        source="Joshi et al., Nat. Commun. 11, 2473 (2020), 10.1038/s41467-020-16108-9, and Nandakumar et al., ICECS "
        "2019, 10.1109/ICECS46596.2019.8964852; fits read in aihwkit's PCMLikeNoiseModel and docs/pcm_inference.rst",
    )


def hermes() -> DeviceSpec:
    """Phase-change memory of IBM's HERMES chip, 14 nm, two devices side by side in each cell."""
    return DeviceSpec(
        0.0,
        20.7e-6,
        "hermes",
        programming=(0.16603222 * MICRO, 4.71806468 * MICRO, -8.48101252 * MICRO, 4.68961419 * MICRO),
        drift_mean=(-0.0387, -0.0182, 0.0720, 0.13, 0.0945, 0.0736, -0.0126, -0.0436),
        drift_spread=(-0.0117, -0.0057, 0.0091, 0.04, 0.3055, 0.0073, 0.0093, -0.0118),
        drift_start=300.0,
        flicker=(0.00656, 0.451, 0.04, 512e-9, 0.16, 0.0123, 0.0211, -0.0280, 0.0069),
        source="Le Gallo et al., Nat. Electron. 2023, 10.1038/s41928-023-01010-1; fits read in aihwkit 1.1.0, "
        "HermesNoiseModel(num_devices=2); 1/f noise below 0.16 g_max: a power law within 11 % of that fit's logarithm",
    )


def rram() -> DeviceSpec:
    """HfOx filaments of the NeuRRAM chip, 130 nm: programmed and verified, 1 s after."""
    return DeviceSpec(
        0.0,
        40e-6,
        "rram",
        programming=(1.053 * MICRO, 0.2374 * 40 * MICRO, -0.01167 * 40**2 * MICRO, 1.536e-4 * 40**3 * MICRO),
        source="Wan et al., Nature 608, 504 (2022), 10.1038/s41586-022-04992-8, Extended Data Fig. 3 at 1 s; cubic fit "
        "up to 39.3 uS read in CrossSim's RRAMWan; relaxation over days and 1/f noise not included",
    )


def reram_sb() -> DeviceSpec:
    """HfO2 ReRAM under pulses, soft bounds."""
    pulses = PulseSpec(
        0.002,
        "soft_bounds",
        bounds=(-0.75, 1.25),
        step_spread=0.3,
        bound_spread=(0.3 / 0.75, 0.3 / 1.25),
        up_down_spread=0.01,
        cycle_noise=3.75,
        write_noise=56.0,
    )
    note = "aihwkit's cycle noise adds to a step and does not shrink with it near the bounds, here it does"
    return _pulsed("reram_sb", pulses, RERAM, f"{GONG_2018}, ReRamSBPresetDevice; {note}")


def reram_es() -> DeviceSpec:
    """HfO2 ReRAM under pulses, exponential steps: the closer fit of the same devices as reram_sb."""
    pulses = PulseSpec(
        0.00135,
        "exponential",
        exponential=(-0.5, -0.5, -1.18445, -0.081404, 5.0, 5.0),
        up_down=0.259359,
        step_spread=0.2,
        bound_spread=(0.3, 0.3),
        up_down_spread=0.05,
        cycle_noise=5.0,
        write_noise=75.0,
    )
    note = "up_down as aihwkit documents it; its code multiplies up by 1 and down by 1 - up_down"
    return _pulsed("reram_es", pulses, RERAM, f"{GONG_2018}, ReRamESPresetDevice; {note}")


def reram_om() -> DeviceSpec:
    """ReRAM array in 14 nm with the optimised material, under pulses."""
    pulses = PulseSpec(
        0.0949,
        "soft_bounds",
        step_spread=0.7829,
        bound_spread=(0.5695, 0.3499),
        up_down_spread=0.01,
        cycle_noise=0.4158,
        write_noise=1.4113,
    )
    return _pulsed("reram_om", pulses, RERAM, f"{GONG_2022}, ReRamArrayOMPresetDevice; {ARRAY.format('13.5')}")


def hfo2() -> DeviceSpec:
    """ReRAM array in 14 nm with plain HfO2, under pulses."""
    pulses = PulseSpec(
        0.4622,
        "soft_bounds",
        step_spread=0.7125,
        bound_spread=(0.5990, 0.4295),
        up_down_spread=0.01,
        cycle_noise=0.2174,
        write_noise=0.5841,
    )
    return _pulsed("hfo2", pulses, RERAM, f"{GONG_2022}, ReRamArrayHfO2PresetDevice; {ARRAY.format('9.8')}")


def ecram() -> DeviceSpec:
    """Lithium electrochemical memory under pulses."""
    pulses = PulseSpec(
        0.002,
        "linear",
        bounds=(-0.8276, 1.1724),
        slope=(0.1153, 0.5085),
        step_spread=0.1,
        bound_spread=(0.05, 0.05),
        slope_spread=0.05,
        up_down_spread=0.01,
        cycle_noise=0.3,
    )
    paper = "Tang et al., IEDM 2018, 10.1109/IEDM.2018.8614551, through aihwkit 1.1.0, EcRamPresetDevice"
    return _pulsed("ecram", pulses, ECRAM, paper)


def ecram_mo() -> DeviceSpec:
    """Metal-oxide electrochemical memory under pulses."""
    pulses = PulseSpec(
        2.8214e-4,
        "linear",
        bounds=(-0.8286, 1.1714),
        slope=(0.4152, 0.7342),
        step_spread=0.1,
        bound_spread=(0.05, 0.05),
        slope_spread=0.05,
        up_down_spread=0.01,
        cycle_noise=2.0,
    )
    paper = "Kim et al., IEDM 2019, 10.1109/IEDM19573.2019.8993463, through aihwkit 1.1.0, EcRamMOPresetDevice"
    return _pulsed("ecram_mo", pulses, ECRAM, paper)


def capacitor() -> DeviceSpec:
    """A capacitor on the gate of a transistor, charged by pulses."""
    pulses = PulseSpec(
        0.005,
        "linear",
        slope=(0.05, 0.05),
        step_spread=0.1,
        bound_spread=(0.07, 0.07),
        slope_spread=0.01,
        up_down_spread=0.06,
        cycle_noise=0.3,
    )
    paper = "Li et al., VLSI Technology 2018, 10.1109/VLSIT.2018.8510648, through aihwkit 1.1.0, CapacitorPresetDevice"
    assumed = (1e-6, 10e-6, "g_min and g_max assumed: a small transistor's order; its leak is not included")
    return _pulsed("capacitor", pulses, assumed, paper)


def gokmen_vlasov() -> DeviceSpec:
    """The device that training asks for: 1200 even steps, as wide apart from each other as it may be."""
    pulses = PulseSpec(0.0016, step_spread=0.3, bound_spread=(0.3, 0.3), up_down_spread=0.01, cycle_noise=0.3)
    paper = (
        "a specification, not a device: Gokmen and Vlasov, Front. Neurosci. 10, 333 (2016), "
        "10.3389/fnins.2016.00333, through aihwkit 1.1.0, GokmenVlasovPresetDevice"
    )
    assumed = (
        1 / 112e6,
        1 / 14e6,
        "g_min and g_max, of 112 and 14 Mohm, assumed: recalled from the paper, not re-read",
    )
    return _pulsed("gokmen_vlasov", pulses, assumed, paper)


def _pulsed(name: str, pulses: PulseSpec, conducts: Range, source: str) -> DeviceSpec:
    g_min, g_max, note = conducts
    return DeviceSpec(g_min, g_max, name, pulses=pulses, source=f"{source}; {note}")


DEVICES: Mapping[str, Callable[[], DeviceSpec]] = MappingProxyType(
    {
        make.__name__: make
        for make in (
            ideal,
            pcm,
            hermes,
            rram,
            reram_sb,
            reram_es,
            reram_om,
            hfo2,
            ecram,
            ecram_mo,
            capacitor,
            gokmen_vlasov,
        )
    }
)


def device(name: str, g_max: float | None = None) -> DeviceSpec:
    """The preset of a name, with another range if g_max is given, S; raises OptionError for an unknown name."""
    if name not in DEVICES:
        raise OptionError(f"no device {name!r}; there are: {', '.join(DEVICES)}.{did_you_mean(name, DEVICES)}")
    spec = DEVICES[name]()
    if g_max is None:
        return spec
    scale = g_max / spec.g_max
    return replace(spec, g_min=spec.g_min * scale, g_max=g_max, programming=tuple(c * scale for c in spec.programming))
