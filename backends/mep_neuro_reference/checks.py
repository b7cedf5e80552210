"""What the substrate is given, looked over: it refuses what it cannot use, and says what and why."""

from __future__ import annotations

import cmath
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mep_neuro.costs import check_cost
from mep_neuro.errors import CapabilityError, InputError
from mep_neuro.network import EnergyNetwork
from mep_neuro.types import Nudge, Parameters
from mep_neuro_reference.operations import Array

ONE = 1e-4
"""How far from 1 the sum of a cross entropy's target may be."""


def parameters(given: Parameters, network: EnergyNetwork, *, whole: bool) -> Mapping[str, Array]:
    """Copies in float64 by name. whole: none may be missing."""
    found = {name: array(f"parameter {name!r}", value) for name, value in given.items()}
    network.check_parameters(found, whole=whole)
    for name, value in found.items():
        if not np.isfinite(value).all():
            raise InputError(f"parameter {name!r} is not finite: the training diverged; lower the learning rate")
    if whole:
        network.check_conductances(found)
    return found


def batch(x: Any, network: EnergyNetwork) -> Array:
    """x as a copy in float64, (batch, *inputs)."""
    if not isinstance(x, np.ndarray):
        raise InputError(f"x is a {type(x).__name__}; this substrate takes NumPy arrays")
    found = array("x", network.batch(x))
    if len(found) == 0:
        raise InputError("the batch is empty")
    finite = np.isfinite(found).reshape(len(found), -1).all(1)
    if not finite.all():
        raise InputError(f"x is not finite in sample {int(np.argmin(finite))}: clean the data")
    return found


def states(given: Sequence[Any], network: EnergyNetwork, x: Array) -> list[Array]:
    """The states of a start."""
    shapes = [(len(x), *p.shape) for p in network.populations]
    if [np.shape(s) for s in given] != shapes:
        raise InputError(
            f"the start has states of shape {[np.shape(s) for s in given]}, but x needs {shapes}: "
            "start from an equilibrium of the same samples"
        )
    return [np.array(s) for s in given]


def nudge(given: Nudge, network: EnergyNetwork, samples: int, held: Mapping[str, Array]) -> Nudge:
    """The nudge with its target or force as a copy in float64. held: the substrate's parameters."""
    shape = (samples, *network.outputs.shape)
    if not cmath.isfinite(given.beta):
        raise InputError(f"beta is {given.beta}; give a finite number")
    if (given.target is None) == (given.force is None):
        raise InputError("a nudge needs a target with a cost, or a force: one of the two")
    what = "target" if given.force is None else "force"
    value = array(f"the {what}", given.target if given.force is None else given.force)
    if value.shape != shape:
        raise InputError(f"the {what} has shape {value.shape}; the outputs have {shape}")
    if not np.isfinite(value).all():
        raise InputError(f"the {what} is not finite")
    if isinstance(given.beta, complex):
        _check_complex(network)
    if given.force is not None:
        return Nudge(given.beta, force=value)
    network.check_cost(check_cost(given.cost))
    if given.cost == "cross_entropy" and (abs(value.sum(1) - 1) > ONE).any():
        raise InputError("cross_entropy takes targets whose values sum to 1")
    limit = network.steepest_negative_beta(given.cost, held)
    if not isinstance(given.beta, complex) and given.beta <= -limit:
        raise InputError(
            f"beta is {given.beta}, but from {-limit:g} down the outputs have no minimum: use a smaller one"
        )
    return Nudge(given.beta, target=value, cost=given.cost)


def array(what: str, value: Any) -> Array:
    """A copy in float64 of a NumPy array of real numbers."""
    if not isinstance(value, np.ndarray):
        raise InputError(f"{what} is a {type(value).__name__}; this substrate takes NumPy arrays")
    if value.dtype.kind not in "fiu":
        raise InputError(f"{what} holds {value.dtype}; give real numbers")
    return np.array(value, dtype=np.float64)


def _check_complex(network: EnergyNetwork) -> None:
    bent = [p.activation for p in network.populations if not p.activation.holomorphic]
    if bent or network.energy_name != "hopfield":
        raise CapabilityError(
            "a complex beta needs the hopfield energy and activations that extend to complex numbers "
            f"(Sigmoid, Tanh, Identity); the network has {bent[0] if bent else network.energy_name}"
        )
