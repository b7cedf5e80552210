"""The options of the spiking substrate, looked over: code generation, times in seconds, rates in hertz."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

from mep_neuro.errors import OptionError, check_choice

Target: TypeAlias = Literal["numpy", "cython", "cpp_standalone"]
Membrane: TypeAlias = Literal["half", "random"]

TIME_CONSTANTS = 10
"""A window holds at least so many time constants of the synapses."""

QUARTERS = 4
"""Spikes are read at every quarter of a phase; the window, in which rates count, is its second half."""


@dataclass(frozen=True)
class Timing:
    """Times of the simulation: phase and step (s), the synapses' tau (s), the leak's time constant (s, or None for
    none), and the largest rate (Hz), whose inverse is the refractory period.

    Raises `OptionError` for times that are not whole numbers of steps, or too short to tell a rate.
    """

    phase: float
    step: float
    tau: float
    leak: float | None
    max_rate: float

    def __post_init__(self) -> None:
        times = {"phase_seconds": self.phase, "step_seconds": self.step, "synapse_seconds": self.tau}
        times |= {} if self.leak is None else {"leak_seconds": self.leak}
        for name, value in {**times, "max_rate": self.max_rate}.items():
            number: Any = value
            if type(number) not in (int, float) or not (math.isfinite(number) and number > 0):
                raise OptionError(f"{name} is {value!r}; give a number above 0")
        if self.tau < 2 * self.step:
            raise OptionError(
                f"synapse_seconds is {self.tau:g}; give at least two steps, {2 * self.step:g} (step_seconds)"
            )
        if self.leak is not None and self.leak < 5 * self.tau:
            raise OptionError(
                f"leak_seconds is {self.leak:g}; give at least {5 * self.tau:g}, five times synapse_seconds: "
                "a faster leak silences small drives"
            )
        if not _whole(1 / (self.max_rate * self.step)):
            raise OptionError(
                f"max_rate is {self.max_rate:g} Hz: its refractory period of {1 / self.max_rate:g} s is no multiple of "
                f"step_seconds, {self.step:g}"
            )
        if self.window < TIME_CONSTANTS * self.tau * (1 - 1e-9):
            least = TIME_CONSTANTS * self.tau
            raise OptionError(
                f"the window, half of phase_seconds, is {self.window:g} s; it must be at least ten time constants of "
                f"the synapses, {least:g} s: give phase_seconds={2 * least:g} or more, or a smaller synapse_seconds"
            )
        if not _whole(self.phase / (QUARTERS * self.step)):
            raise OptionError(
                f"phase_seconds is {self.phase:g}, no multiple of {QUARTERS} time steps of {self.step:g} s: "
                f"give a multiple of {QUARTERS * self.step:g}"
            )

    @property
    def window(self) -> float:
        """Seconds in which rates are taken: the second half of a phase."""
        return self.phase / 2

    @property
    def steps(self) -> int:
        """Time steps of a phase."""
        return round(self.phase / self.step)

    @property
    def largest(self) -> float:
        """The largest |x| that an input neuron can fire at: a spike in every step, in shares of the largest rate."""
        return 1 / (self.max_rate * self.step)

    @property
    def full(self) -> float:
        """Spikes of a window at the largest rate."""
        return self.max_rate * self.window


def check_target(target: str) -> Target:
    """The code generation target. Raises `OptionError` with the nearest name."""
    return check_choice("target", target, get_args(Target))


def check_membrane(membrane: str) -> Membrane:
    """How membranes start. Raises `OptionError` with the nearest name."""
    return check_choice("membrane", membrane, get_args(Membrane))


def _whole(ratio: float) -> bool:
    return round(ratio) >= 1 and abs(ratio - round(ratio)) < 1e-6
