"""The analog substrate: crossbars of conductances with their noise, drift, wires, converters and pulses.

`AnalogBackend` is opened by name: `mep.backend("analog", network, device="pcm")`. Specs are in SI units.
"""

from mep_neuro_analog.backend import AnalogBackend
from mep_neuro_analog.explain import explain
from mep_neuro_analog.presets import DEVICES, device
from mep_neuro_analog.specs import AnalogSpec, ArraySpec, DeviceSpec, PeripherySpec, PulseSpec

__all__ = [
    "AnalogBackend",
    "AnalogSpec",
    "ArraySpec",
    "DEVICES",
    "DeviceSpec",
    "PeripherySpec",
    "PulseSpec",
    "device",
    "explain",
]
