"""The error tree. Each error is a `MepNeuroError` and the builtin that a Python user would catch.

    MepNeuroError
    ├── InputError           (ValueError)    a tensor, label, nudge or option that cannot be used
    │   ├── NetworkError                     a module that the energy cannot hold
    │   ├── OptionError                      an unknown or senseless option; the nearest name is offered
    │   └── ProfileError                     a hardware profile that is missing or malformed
    ├── BackendNotFound      (LookupError)   no backend of that name is installed
    ├── BackendUnavailable   (ImportError)   installed, but it cannot run here: the reason and the cure
    ├── CapabilityError      (TypeError)     the substrate cannot do what is asked of it
    ├── SettlingError        (ArithmeticError)  a state grows without end or is not finite: population and iteration
    ├── DataError            (OSError)       a data file that is missing, truncated or altered
    └── CheckpointError      (ValueError)    a checkpoint that is truncated or of another network

A message says what was asked, what is there, and what to do.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import TypeVar

Choice = TypeVar("Choice", bound=str)


class MepNeuroError(Exception):
    """Base of every error that mep-neuro raises on purpose."""


class InputError(MepNeuroError, ValueError):
    """A tensor, label, nudge or setting that cannot be used."""


class NetworkError(InputError):
    """A module that the energy cannot hold; the message names it and what to use instead."""


class OptionError(InputError):
    """An unknown or senseless option; the message offers the nearest name."""


class ProfileError(InputError):
    """A hardware profile that is missing or malformed."""


class BackendNotFound(MepNeuroError, LookupError):
    """No backend of that name is installed."""


class BackendUnavailable(MepNeuroError, ImportError):
    """The backend is installed but cannot run here; the message gives the reason and the cure."""


class CapabilityError(MepNeuroError, TypeError):
    """The substrate lacks what was asked of it. Raised when a learner is built, before anything runs."""


class SettlingError(MepNeuroError, ArithmeticError):
    """A state grows without end, or is infinite or NaN; the message names population, iteration and cures."""


class DataError(MepNeuroError, OSError):
    """A data file that is missing, truncated or altered."""


class CheckpointError(MepNeuroError, ValueError):
    """A checkpoint that is truncated, of another format, or of another network."""


def did_you_mean(asked: str, known: Iterable[str]) -> str:
    """`" Did you mean 'torch'?"` for the nearest of the known names, or an empty string."""
    near = difflib.get_close_matches(asked, list(known), n=1, cutoff=0.6)
    return f" Did you mean {near[0]!r}?" if near else ""


def check_choice(name: str, value: str, known: Iterable[Choice]) -> Choice:
    """The one of the known names that an option's value is. Raises `OptionError` with the nearest."""
    known = tuple(known)
    for choice in known:
        if choice == value:
            return choice
    raise OptionError(f"no {name} {value!r}; there are: {', '.join(known)}.{did_you_mean(str(value), known)}")
