"""An `AnalogSpec` out of a device's name and the backend's options."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from mep_neuro_analog.presets import device as preset
from mep_neuro_analog.specs import AnalogSpec, ArraySpec, DeviceSpec, PeripherySpec


def spec_of(device: str | DeviceSpec, given: Mapping[str, Any]) -> AnalogSpec:
    """The spec of a preset, or of a device of one's own, with the fields of its array and periphery as given.

    Without `pairs`, devices that answer to pulses are wired against a reference, all others in differential pairs.
    """
    found = preset(device) if isinstance(device, str) else device
    fields = {kind: {f.name for f in dataclasses.fields(kind)} for kind in (ArraySpec, PeripherySpec)}
    values = {**given, "pairs": given["pairs"] or ("differential" if found.pulses is None else "offset")}
    array, periphery = ({k: v for k, v in values.items() if k in names} for names in fields.values())
    return AnalogSpec(found, ArraySpec(**array), PeripherySpec(**periphery))
