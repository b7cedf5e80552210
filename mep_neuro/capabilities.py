"""What a backend declares about itself. A difference between substrates is a capability, never a name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Capabilities:
    """What a substrate can hold and do."""

    dynamics: Literal["rate", "spiking"] = "rate"
    """Whether states are graded rates or come out of spikes."""
    deterministic: bool = True
    """Whether the same calls give the same numbers whatever the seed."""
    energies: frozenset[str] = frozenset({"hopfield"})
    """Names of the energies that it can minimise."""
    couplings: frozenset[str] = frozenset({"Dense"})
    """Class names of the operations that it can hold (see `mep_neuro.couplings`)."""
    activations: frozenset[str] = frozenset({"ClippedLinear"})
    """Class names of the activation families that it can hold."""
    costs: frozenset[str] = frozenset({"squared_error"})
    """Names of the costs that it can nudge with."""
    forces: bool = False
    """Whether it takes a nudge by any force on the outputs."""
    negative_nudging: bool = True
    """Whether beta may be negative."""
    complex_nudging: bool = False
    """Whether beta, and with it the states, may be complex."""
    resident_learning: bool = False
    """Whether it changes its own weights (`learn`)."""
    prefers: Literal["host", "resident"] = "host"
    """Where learning happens when the user leaves the choice open."""
    writes: Literal["program", "apply"] = "program"
    """How new parameters reach it when the user leaves the choice open: whole arrays, or the difference."""
    shares_parameters: bool = False
    """Whether it works on the module's own tensors, so that nothing need be written."""
    counts_macs: bool = True
    """Whether settling is counted in multiply-accumulates and neuron updates; else as a circuit's or a chip's work."""
    arrays: Literal["numpy", "torch"] = "numpy"
    """The kind of array that it takes and gives."""
    weight_bits: int | None = None
    """Bits of a weight; None for floating point."""
    weight_range: tuple[float, float] | None = None
    """Smallest and largest weight that it can hold; None for no limit."""
    on_request: bool = False
    """Whether it is so slow that comparisons take it only where it is named."""
    tolerance: float = 1e-4
    """Relative error of states and gradients that the conformance suite allows it."""


@dataclass(frozen=True)
class Availability:
    """Whether a backend runs here; if not, why, and the one command or step that mends it."""

    available: bool
    reason: str = ""
    cure: str = ""

    def __bool__(self) -> bool:
        return self.available
