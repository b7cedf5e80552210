"""The spec of a substrate out of the backend's options, and which options belong to crossbars or to circuits only."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from mep_neuro.errors import CapabilityError, OptionError, check_choice
from mep_neuro.network import EnergyNetwork
from mep_neuro_analog.circuit.diodes import DIODES, Diode
from mep_neuro_analog.circuit.specs import CircuitSpec
from mep_neuro_analog.presets import device as preset
from mep_neuro_analog.specs import AnalogSpec, ArraySpec, DeviceSpec, PeripherySpec

CROSSBAR = frozenset(
    {
        "pairs",
        "tile",
        "wire_resistance",
        "converters",
        "output_noise",
        "bandwidth",
        "neuron_gain",
        "neuron_offset",
        "settling_error",
        "learning",
        "exact",
    }
)
"""Options that a circuit does not have."""

DIODE = frozenset({"saturation_current", "ideality", "temperature", "threshold", "on_resistance"})

CIRCUIT = frozenset({"diode", "node_capacitance", "v_unit", *DIODE})
"""Options that crossbars do not have."""

BEHAVIOUR = frozenset({"learning", "exact"})
"""Options that are no part of a spec."""


def spec_of(
    network: EnergyNetwork,
    device: str | DeviceSpec | None,
    spec: AnalogSpec | CircuitSpec | None,
    given: Mapping[str, Any],
) -> AnalogSpec | CircuitSpec:
    """The spec that was given, or one of the options: a `CircuitSpec` for the resistive energy, else an `AnalogSpec`.

    Raises `CapabilityError` for what belongs to the other tier, `OptionError` for a spec with options beside it.
    """
    circuit = network.energy_name == "resistive"
    _check_tier(network, spec, given)
    if spec is None:
        found = preset(device or "ideal") if not isinstance(device, DeviceSpec) else device
        return _circuit(found, given) if circuit else _crossbar(found, given)
    doubled = [*(["device"] if device is not None else []), *(name for name in given if name not in BEHAVIOUR)]
    if doubled:
        raise OptionError(f"{doubled[0]} is given, and a spec that says it already: leave one of them out")
    return spec


def _check_tier(network: EnergyNetwork, spec: AnalogSpec | CircuitSpec | None, given: Mapping[str, Any]) -> None:
    """Raise `CapabilityError` for a spec or an option of the other tier."""
    circuit = network.energy_name == "resistive"
    own, other = ("a circuit", "crossbars") if circuit else ("crossbars", "circuits")
    foreign = [name for name in given if name in (CROSSBAR if circuit else CIRCUIT)]
    if spec is not None and isinstance(spec, CircuitSpec) is not circuit:
        foreign.insert(0, f"spec={type(spec).__name__}")
    if foreign:
        cure = "leave it out" if circuit else "leave it out, or build the network with energy='resistive'"
        raise CapabilityError(
            f"{foreign[0]} belongs to {other}, and a network of energy={network.energy_name!r} is held by {own}: {cure}"
        )


def _crossbar(device: DeviceSpec, given: Mapping[str, Any]) -> AnalogSpec:
    """Without `pairs`, devices that answer to pulses are wired against a reference, others in differential pairs."""
    fields = {kind: {f.name for f in dataclasses.fields(kind)} for kind in (ArraySpec, PeripherySpec)}
    values = {"pairs": "differential" if device.pulses is None else "offset", **given}
    if "tile" in given:
        values |= {"rows": given["tile"], "columns": given["tile"]}
    array, periphery = ({k: v for k, v in values.items() if k in names} for names in fields.values())
    return AnalogSpec(device, ArraySpec(**array), PeripherySpec(**periphery))


def _circuit(device: DeviceSpec, given: Mapping[str, Any]) -> CircuitSpec:
    own = {k: v for k, v in given.items() if k not in DIODE and k != "diode"}
    return CircuitSpec(
        device, _diode(given.get("diode", "ideal"), {k: v for k, v in given.items() if k in DIODE}), **own
    )


def _diode(asked: str | Diode, given: Mapping[str, Any]) -> Diode:
    """A diode by its name, with the parameters that it has."""
    if isinstance(asked, Diode):
        if given:
            raise OptionError(f"{next(iter(given))} is given, and a diode that says it already: leave one of them out")
        return asked
    kind = DIODES[check_choice("diode", asked, DIODES)]
    owners = {f.name: diode.name for diode in DIODES.values() for f in dataclasses.fields(diode)}  # type: ignore[arg-type]
    for name in given:
        if owners[name] != kind.name:
            raise OptionError(f"{name} belongs to diode={owners[name]!r}, and the diode is {kind.name!r}")
    return kind(**given)
