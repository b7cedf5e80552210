"""What settling is on every digital backend: its options `solver`, `max_steps`, `tolerance` and `step_size`, looked
over, and what counts as a loop that runs away."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from typing import Any

from mep_neuro.activations import Activation, open_ended
from mep_neuro.errors import InputError, OptionError, SettlingError, check_choice

DEFAULT_STEPS = 20
"""Iterations of the free and of each nudged phase where `max_steps` is not given."""

CONVERGED = 1e-3
"""The residual up to which a sample counts as converged where `tolerance` is not given."""

RUNAWAY = 100.0
GROWTH = 10.0
"""A sample runs away when its last change is above RUNAWAY scales, GROWTH times that of the phase's first iteration,
and larger than the one before. The largest residual of a healthy run was 1.6 (three hidden populations of ReLUs at
PyTorch's initial weights); a phase that contracts, however slowly, has changes that fall."""


def can_run_away(activations: Sequence[Activation]) -> bool:
    """Whether states can grow without end: where two neighbouring populations are both without a limit."""
    return any(open_ended(below) and open_ended(above) for below, above in itertools.pairwise(activations))


def runs_away(what: str, energy: str) -> SettlingError:
    """The error for a state that grows without end, or is not finite, with what helps."""
    if energy == "resistive":
        return SettlingError(
            f"{what}: resistors by themselves come to rest, so it is the nudge. Cures: a smaller beta, or "
            "nudging='one_sided'; conductances and inputs that are not too large to be squared"
        )
    first = (
        "bound the weights of every coupling after the first (mep.SpectralConstraint, on in smep; or a smaller gamma)"
    )
    other = ", or take energy='prediction_error'" if energy == "hopfield" else ""
    return SettlingError(
        f"{what}: its loop runs away. Cures: {first}{other}. A bounded activation (nn.Hardsigmoid, nn.Hardtanh(0, 1)) "
        "helps as well, and in a nudged phase nudging='one_sided' or a smaller beta"
    )


def check_solver(name: str, known: Iterable[str], energy: str) -> str:
    """The solver's name. Raises `OptionError` with the nearest one, and for a solver that the energy does not have."""
    check_choice("solver", name, known)
    if name == "errors" and energy != "prediction_error":
        raise OptionError(f"the solver 'errors' is for energy='prediction_error', not {energy!r}: use 'even_odd'")
    return name


def check_contrast(weights: Sequence[complex]) -> None:
    """Raise `InputError` unless the weights of a contrast's equilibria sum to 0."""
    if not weights or abs(sum(weights)) > 1e-6 * sum(map(abs, weights)):
        raise InputError("the weights of a contrast must sum to 0")


def step_limits(max_steps: int | Sequence[int]) -> tuple[int, int]:
    """(free, nudged) iterations out of one number or a pair. Raises `OptionError`."""
    pair: Any = (max_steps, max_steps) if isinstance(max_steps, int) else max_steps
    whole = isinstance(pair, Sequence) and all(type(n) is int for n in pair)
    if not whole or len(pair) != 2:
        raise OptionError(f"max_steps is {max_steps!r}; give a whole number, or a pair (free, nudged)")
    if min(pair) < 1:
        raise OptionError(f"max_steps is {max_steps}; settling takes at least 1 step")
    return pair[0], pair[1]


def check_tolerance(tolerance: float | None) -> float | None:
    """A positive number, or None to run all steps. Raises `OptionError`."""
    number: Any = tolerance
    usable = type(number) in (int, float) and math.isfinite(number) and number > 0
    if tolerance is not None and not usable:
        raise OptionError(f"tolerance is {tolerance!r}; give a positive number, or None to run all steps")
    return tolerance


def check_step_size(step_size: float | None, solver: str) -> float:
    """h of the Euler solver, in (0, 1]; 0.5 where it is not given. Raises `OptionError`, also with another solver."""
    number: Any = 0.5 if step_size is None else step_size
    if type(number) not in (int, float) or not 0 < number <= 1:
        raise OptionError(f"step_size is {step_size!r}; give a number in (0, 1], the share of the way that a step goes")
    if step_size is not None and solver != "euler":
        raise OptionError(f"step_size belongs to solver='euler', and the solver is {solver!r}: leave one of them out")
    return float(number)
