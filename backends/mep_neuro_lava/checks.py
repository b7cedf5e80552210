"""What the substrate is given, looked over and laid out in the chip's numbers: it refuses what it cannot use."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mep_neuro.activations import ClippedLinear
from mep_neuro.errors import CapabilityError, InputError, OptionError
from mep_neuro.network import EnergyNetwork
from mep_neuro.types import Nudge, Parameters
from mep_neuro_lava.formats import Formats
from mep_neuro_lava.kernels import KernelOverflow, check_width, constant
from mep_neuro_lava.kernels.fixed import CONSTANT_FRACTION, Ints
from mep_neuro_lava.plan import Pull

ROUGH = 0.01
"""Relative error up to which a constant counts as representable."""


def parameters(given: Parameters, network: EnergyNetwork, *, whole: bool) -> Mapping[str, Ints]:
    """Copies in float64 by name. whole: none may be missing."""
    found = {name: array(f"parameter {name!r}", value) for name, value in given.items()}
    network.check_parameters(found, whole=whole)
    return found


def payloads(x: Any, network: EnergyNetwork, formats: Formats, limits: tuple[float, float]) -> Ints:
    """x (batch, *inputs) as payloads (batch, inputs)."""
    if not isinstance(x, np.ndarray):
        raise InputError(f"x is a {type(x).__name__}; this substrate takes NumPy arrays")
    found = network.batch(x)
    if len(found) == 0:
        raise InputError("the batch is empty")
    found = array("x", found.reshape(len(found), -1))
    low, high = float(found.min()), float(found.max())
    if low < limits[0] or high > limits[1]:
        raise InputError(
            f"x lies in {low:.4g} .. {high:.4g}, but payloads were laid out for {limits[0]:g} .. {limits[1]:g}: "
            f"scale x, or open the substrate with input_range=({math.floor(low)}, {math.ceil(high)})"
        )
    return formats.input.encode(found)


def states(given: Sequence[Any], network: EnergyNetwork, formats: Formats, batch: int) -> tuple[Ints, ...]:
    """The states of a start, in units of a state."""
    shapes = [(batch, *p.shape) for p in network.populations]
    if [np.shape(s) for s in given] != shapes:
        raise InputError(
            f"the start has states of shape {[np.shape(s) for s in given]}, but x needs {shapes}: "
            "start from an equilibrium of the same samples"
        )
    laid = [np.floor(array("a start's state", s) * 2.0**formats.fraction + 0.5) for s in given]
    return tuple(np.clip(v, n.low, n.high) for v, n in zip(laid, formats.neurons, strict=True))


def pull(nudge: Nudge, network: EnergyNetwork, formats: Formats, batch: int) -> Pull:
    """A nudge as the output neurons hold it."""
    if isinstance(nudge.beta, complex) or not math.isfinite(nudge.beta):
        raise InputError(f"beta is {nudge.beta}; give a finite real number")
    if (nudge.target is None) == (nudge.force is None):
        raise InputError("a nudge needs a target with a cost, or a force: one of the two")
    if nudge.force is None and nudge.cost != "squared_error":
        raise CapabilityError(f"this substrate nudges by squared_error, not by {nudge.cost}")
    what = "target" if nudge.force is None else "force"
    value = array(f"the {what}", nudge.target if nudge.force is None else nudge.force)
    if value.shape != (batch, *network.outputs.shape):
        raise InputError(f"the {what} has shape {value.shape}; the outputs have {(batch, *network.outputs.shape)}")
    activation = network.outputs.activation
    slope = activation.slope if isinstance(activation, ClippedLinear) else 1.0
    if nudge.force is not None:
        return Pull(push=_laid(slope * nudge.beta * value, formats, "beta times the force"))
    return Pull(pull=beta_constant(nudge.beta, slope, formats), target=_laid(value, formats, "the target"))


def beta_constant(beta: float, slope: float, formats: Formats) -> int:
    """slope beta as a neuron's constant. Raises `InputError` where it is too coarse for that or unstable."""
    n, unit = constant(slope * beta), slope * 2**CONSTANT_FRACTION
    if abs(n - beta * unit) > ROUGH * abs(beta * unit):
        near = sorted({k / unit for k in (math.floor(beta * unit), math.ceil(beta * unit)) if k})
        raise InputError(
            f"beta is {beta:g}, and the output neurons hold multiples of {1 / unit:.3g}: "
            f"the nearest are {' and '.join(f'{b:.4g}' for b in near)}"
        )
    if slope * beta <= -1:
        raise InputError(f"beta is {beta}, but from {-1 / slope:g} down the outputs have no minimum: use a smaller one")
    leak = formats.neurons[-1].leak
    if (1 + slope * beta) * 2.0**-leak >= 2:
        raise InputError(f"beta is {beta:g}: with leak={leak} the output neurons would overshoot; give a larger leak")
    return n


def real(weight: complex) -> float:
    """A real number. Raises `InputError` for a complex one."""
    if weight.imag:
        raise InputError(f"a contrast's weight is {weight}; this substrate has real states only")
    return float(weight.real)


def timesteps(given: int | Sequence[int]) -> tuple[int, int]:
    """(free, nudged) out of one number or a pair."""
    pair: Any = (given, given) if type(given) is int else given
    if not isinstance(pair, Sequence) or len(pair) != 2 or any(type(n) is not int or n < 1 for n in pair):
        raise OptionError(f"timesteps is {given!r}; give a whole number from 1, or a pair (free, nudged)")
    return pair[0], pair[1]


def array(what: str, value: Any) -> Ints:
    """A copy in float64 of a NumPy array of finite real numbers."""
    if not isinstance(value, np.ndarray):
        raise InputError(f"{what} is a {type(value).__name__}; this substrate takes NumPy arrays")
    if value.dtype.kind not in "fiu":
        raise InputError(f"{what} holds {value.dtype}; give real numbers")
    if not np.isfinite(value).all():
        raise InputError(f"{what} is not finite")
    return np.array(value, dtype=np.float64)


def _laid(value: Ints, formats: Formats, what: str) -> Ints:
    try:
        return check_width(np.floor(value * 2.0**formats.fraction + 0.5), formats.bits, what)
    except KernelOverflow as error:
        limit = 2.0 ** (formats.bits - 1 - formats.fraction)
        raise InputError(f"{error}: it must lie between -{limit:g} and {limit:g}") from error
