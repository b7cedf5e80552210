"""The analog substrate: crossbars of conductances with their noise, drift, wires, converters and pulses, and circuits
of resistors and diodes.

`AnalogBackend` is opened by name: `mep.backend("analog", network, device="pcm")`. Specs are in SI units.
"""

from mep_neuro_analog.backend import AnalogBackend
from mep_neuro_analog.circuit.diodes import DIODES, Diode, IdealDiode, PiecewiseDiode, ShockleyDiode
from mep_neuro_analog.circuit.specs import CircuitSpec
from mep_neuro_analog.circuit.transient import Transient
from mep_neuro_analog.explain import explain
from mep_neuro_analog.presets import DEVICES, device
from mep_neuro_analog.specs import AnalogSpec, ArraySpec, DeviceSpec, PeripherySpec, PulseSpec

__all__ = [
    "AnalogBackend",
    "AnalogSpec",
    "ArraySpec",
    "CircuitSpec",
    "DEVICES",
    "DIODES",
    "DeviceSpec",
    "Diode",
    "IdealDiode",
    "PeripherySpec",
    "PiecewiseDiode",
    "PulseSpec",
    "ShockleyDiode",
    "Transient",
    "device",
    "explain",
]
