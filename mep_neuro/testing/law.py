"""A law: one statement about a substrate, with a level, and the capabilities without which it says nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from mep_neuro.errors import CapabilityError
from mep_neuro.testing.bench import Bench

Check: TypeAlias = Callable[[Bench], None]
Need: TypeAlias = Callable[[Bench], str]
"""Why a law does not concern a backend; an empty string where it does."""

LEVELS = {"L0": "protocol", "L1": "dynamics", "L2": "learning", "L3": "a real task", "L4": "counts"}


@dataclass(frozen=True)
class Law:
    """`check` raises AssertionError, in words that a backend's author can act on, where a substrate breaks it."""

    level: str
    check: Check
    needs: tuple[Need, ...]

    @property
    def name(self) -> str:
        """The function's name."""
        return self.check.__name__

    @property
    def statement(self) -> str:
        """The first line of the function's docstring."""
        return (self.check.__doc__ or "").partition("\n")[0]

    def __str__(self) -> str:
        return f"{self.level}-{self.name}"

    def ruled_out(self, bench: Bench) -> str:
        """The declared capability that rules the law out for this backend; empty where none does."""
        return next((reason for need in self.needs if (reason := need(bench))), "")

    def __call__(self, bench: Bench) -> str:
        """Check the law. Returns why it could not be checked, or an empty string; raises AssertionError if broken.

        Above L0 a `CapabilityError` of the substrate says that it cannot take part.
        """
        try:
            self.check(bench)
        except AssertionError as broken:
            raise AssertionError(f"{bench.name} breaks {self}: {self.statement}\n    {broken}") from None
        except CapabilityError as lacks:
            if self.level == "L0":
                raise
            return str(lacks)
        return ""


LAWS: list[Law] = []
"""All laws, by level."""


def law(level: str, *needs: Need) -> Callable[[Check], Check]:
    """Register a function as a law of a level."""

    def register(check: Check) -> Check:
        LAWS.append(Law(level, check, needs))
        LAWS.sort(key=lambda entry: entry.level)
        return check

    return register


def cases(bench: Bench) -> str:
    """The suite has networks that the backend declares to hold."""
    return "" if bench.cases else "the suite has no network within the declared energies, couplings and activations"


def negative(bench: Bench) -> str:
    """beta may be negative."""
    return "" if bench.capabilities.negative_nudging else "negative_nudging is False"


def complex_nudging(bench: Bench) -> str:
    """beta may be complex."""
    return "" if bench.capabilities.complex_nudging else "complex_nudging is False"


def forces(bench: Bench) -> str:
    """The nudge may be any force."""
    return "" if bench.capabilities.forces else "forces is False"


def rate(bench: Bench) -> str:
    """States are graded rates."""
    return "" if bench.capabilities.dynamics == "rate" else f"dynamics is {bench.capabilities.dynamics!r}"


def deterministic(bench: Bench) -> str:
    """The same calls give the same numbers."""
    return "" if bench.capabilities.deterministic else "deterministic is False"


def macs(bench: Bench) -> str:
    """Settling is counted in multiply-accumulates."""
    return "" if bench.capabilities.counts_macs else "counts_macs is False"


def resident(bench: Bench) -> str:
    """The substrate learns by itself."""
    return "" if bench.capabilities.resident_learning else "resident_learning is False"


def exact(bench: Bench) -> str:
    """States are exact enough for orders in beta."""
    tolerance = bench.capabilities.tolerance
    if tolerance > 1e-3:
        return f"tolerance is {tolerance:g}: too coarse for small nudges"
    return deterministic(bench)


def fine_weights(bench: Bench) -> str:
    """Weights can be changed by little, for finite differences."""
    bits = bench.capabilities.weight_bits
    return "" if bits is None else f"weight_bits is {bits}: too coarse for finite differences"


def option(name: str) -> Need:
    """The backend has an option of this name."""
    return lambda bench: "" if bench.has(name) else f"it has no option {name!r}"


def energy(*names: str) -> Need:
    """The backend holds one of these energies."""
    shown = " and ".join(map(repr, names))
    return lambda bench: (
        "" if any(c.energy in names for c in bench.cases) else f"energies leave out {shown} (or its networks)"
    )


def coupling(name: str) -> Need:
    """The backend holds this coupling."""
    return lambda bench: "" if name in bench.capabilities.couplings else f"couplings leave out {name!r}"
