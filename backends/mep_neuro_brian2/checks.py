"""What the substrate needs and what it is given, looked over: it refuses what it cannot use, and says what and why."""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import Any

import numpy as np

from mep_neuro.capabilities import Availability
from mep_neuro.errors import BackendUnavailable, CapabilityError, InputError
from mep_neuro.network import EnergyNetwork
from mep_neuro.settling import check_contrast
from mep_neuro.types import Equilibrium, Nudge, Parameters
from mep_neuro_brian2.layout import Array
from mep_neuro_brian2.options import Target, Timing

CURE = 'pip install "mep-neuro[brian2]"'
TOGETHER = "Brian2 2.9 goes with NumPy below 2.4, a newer NumPy with Brian2 2.10 or later (Python 3.12 or later)"
COMPILERS: Mapping[Target, tuple[str, ...]] = {"numpy": (), "cython": ("gcc",), "cpp_standalone": ("g++", "make")}
"""Programs that a code generation target calls."""


def availability() -> Availability:
    """By the versions that are installed: importing Brian2 takes seconds."""
    try:
        brian2 = metadata.version("brian2")
    except metadata.PackageNotFoundError:
        return Availability(False, "Brian2 is not installed", CURE)
    if _version(brian2) < (2, 10) and _version(np.__version__) >= (2, 4):
        reason = f"Brian2 {brian2} cannot be imported beside NumPy {np.__version__}: {TOGETHER}"
        return Availability(False, reason, 'pip install "numpy<2.4"')
    return Availability(True)


def compiler(target: Target) -> None:
    """Raise `BackendUnavailable` where a target's compiler is missing."""
    missing = [name for name in COMPILERS[target] if shutil.which(name) is None]
    if missing:
        raise BackendUnavailable(
            f"target {target!r} needs {' and '.join(missing)}, not found on the path: install a C++ compiler "
            "(Debian: apt install g++ make), or choose target='numpy'"
        )


def parameters(given: Parameters, network: EnergyNetwork, *, whole: bool) -> dict[str, Array]:
    """Copies in float64 by name. whole: none may be missing."""
    found = {name: array(f"parameter {name!r}", value) for name, value in given.items()}
    network.check_parameters(found, whole=whole)
    for name, value in found.items():
        if not np.isfinite(value).all():
            raise InputError(f"parameter {name!r} is not finite: the training diverged; lower the learning rate")
    return found


def batch(x: Any, network: EnergyNetwork, timing: Timing) -> Array:
    """x in float64, (batch, inputs), each a rate that the input's neurons can have."""
    found = array("x", network.batch(x) if isinstance(x, np.ndarray) else x)
    found = found.reshape(len(found), -1)
    if len(found) == 0:
        raise InputError("the batch is empty")
    finite = np.isfinite(found).all(1)
    if not finite.all():
        raise InputError(f"x is not finite in sample {int(np.argmin(finite))}: clean the data")
    if np.abs(found).max() > timing.largest:
        raise InputError(
            f"x runs from {found.min():.3g} to {found.max():.3g}, but with one spike a step it is held between "
            f"-{timing.largest:g} and {timing.largest:g}: scale the data, or give a smaller max_rate or step_seconds"
        )
    return found


def start(given: Equilibrium, network: EnergyNetwork, samples: int) -> list[Array]:
    """The states of a start."""
    shapes = [(samples, *p.shape) for p in network.populations]
    if [np.shape(s) for s in given.states] != shapes:
        raise InputError(
            f"the start has states of shape {[np.shape(s) for s in given.states]}, but x needs {shapes}: "
            "start from an equilibrium of the same samples"
        )
    return [np.asarray(s, dtype=np.float64).reshape(samples, -1) for s in given.states]


def nudge(given: Nudge, network: EnergyNetwork, samples: int) -> tuple[float, Array]:
    """beta, and the target or force, (batch, outputs)."""
    if isinstance(given.beta, complex):
        raise CapabilityError("rates are real: beta may not be complex")
    if not math.isfinite(given.beta):
        raise InputError(f"beta is {given.beta}; give a finite number")
    if (given.target is None) == (given.force is None):
        raise InputError("a nudge needs a target with a cost, or a force: one of the two")
    if given.force is not None:
        return given.beta, outputs("the force", given.force, network, samples)
    if given.cost != "squared_error":
        raise CapabilityError(f"these neurons are nudged by squared_error, not by {given.cost}")
    steepest(given.beta, network)
    return given.beta, outputs("the target", given.target, network, samples)


def steepest(beta: float, network: EnergyNetwork) -> None:
    """Raise `InputError` for a negative nudge under which the outputs have no minimum."""
    limit = network.steepest_negative_beta("squared_error")
    if beta <= -limit:
        raise InputError(f"beta is {beta}, but from {-limit:g} down the outputs have no minimum: use a smaller one")


def outputs(what: str, value: Any, network: EnergyNetwork, samples: int) -> Array:
    """Values for the outputs in float64."""
    found, shape = array(what, value), (samples, *network.outputs.shape)
    if found.shape != shape:
        raise InputError(f"{what} has shape {found.shape}; the outputs have {shape}")
    if not np.isfinite(found).all():
        raise InputError(f"{what} is not finite")
    return found


def terms(given: Sequence[tuple[complex, Equilibrium]]) -> list[float]:
    """The weights of a contrast, which sum to 0, its equilibria being of one x."""
    weights = [float(np.real(w)) for w, _ in given]
    check_contrast(weights)
    if any(not np.array_equal(e.x, given[0][1].x) for _, e in given):
        raise InputError("the equilibria of a contrast must be of the same x")
    return weights


def array(what: str, value: Any) -> Array:
    """A copy in float64 of a NumPy array of real numbers."""
    if not isinstance(value, np.ndarray):
        raise InputError(f"{what} is a {type(value).__name__}; this substrate takes NumPy arrays")
    if value.dtype.kind not in "fiu":
        raise InputError(f"{what} holds {value.dtype}; give real numbers")
    return np.array(value, dtype=np.float64)


def _version(text: str) -> tuple[int, int]:
    major, minor = text.split(".")[:2]
    return int(major), int(minor)
