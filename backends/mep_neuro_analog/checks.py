"""What a network, a nudge and parameters must be for an analog substrate to hold them."""

from __future__ import annotations

import torch

from mep_neuro.couplings import Coupling, Signed, Weighted
from mep_neuro.errors import CapabilityError, InputError, OptionError
from mep_neuro.network import EnergyNetwork
from mep_neuro.types import Nudge, Parameters
from mep_neuro_analog.settling import Pull


def as_number(name: str, value: object) -> float:
    """An option that must be a number. Raises `OptionError`."""
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise OptionError(f"{name} is {value!r}; give a number")
    return float(value)


def weighted(coupling: Coupling) -> Weighted:
    """The coupling's layer with weights."""
    if coupling.weighted is None:
        raise CapabilityError("a coupling without weights has no crossbar: put a Linear layer there")
    return coupling.weighted


def check_unsigned(network: EnergyNetwork) -> None:
    """Raise `CapabilityError` for inputs of both signs, which circuits need and crossbars do not."""
    for coupling in network.couplings:
        for o in coupling.operations:
            if isinstance(o, Signed):
                raise CapabilityError(
                    f"module {o.name!r} (SignedInput) is for circuits; weights on crossbars have both signs: "
                    "leave it out"
                )


def pull(nudge: Nudge) -> Pull:
    """A nudge as currents on the outputs."""
    if nudge.force is not None:
        return Pull(0.0, None, real(nudge.beta) * nudge.force)
    return Pull(real(nudge.beta), nudge.target, None)


def real(value: complex) -> float:
    """A strength or weight that must be real."""
    if value.imag:
        raise CapabilityError("an analog substrate has no complex states: use nudging='centered'")
    return value.real


def check_finite(parameters: Parameters) -> None:
    """Raise `InputError` for parameters that are infinite or NaN."""
    for name, value in parameters.items():
        if not bool(torch.isfinite(value).all()):
            raise InputError(f"parameter {name!r} is not finite: the training diverged; lower the learning rate")
