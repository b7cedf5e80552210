"""OperationCounts: what a substrate did, by phase and operation. Counts are exact and additive."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal, TypeAlias, get_args

from mep_neuro.couplings import Coupling
from mep_neuro.errors import InputError

Phase: TypeAlias = Literal["free", "nudged", "update", "input_output"]
Operation: TypeAlias = Literal[
    "macs",
    "accumulates",
    "neuron_updates",
    "weight_bytes",
    "state_bytes",
]
PHASES: tuple[Phase, ...] = get_args(Phase)
OPERATIONS: tuple[Operation, ...] = get_args(Operation)


@dataclass(frozen=True)
class OperationCounts:
    """Operations by (phase, operation), over `samples` presented samples. A missing entry is zero.

    macs:           multiply-accumulates (1 MAC = 2 FLOP), padded positions of a convolution included.
    accumulates:    additions without a product (average pooling).
    neuron_updates: evaluations of an activation, one a unit and update.
    weight_bytes:   bytes of weights read, once for each product of a whole batch; in `update`, bytes of gradient
                    written.
    state_bytes:    bytes of states read by products and written by neuron updates.

    Two readings of a substrate subtract to a window; windows add up:

    >>> a = OperationCounts(samples=2, entries={("free", "macs"): 10})
    >>> (a + a - a) == a
    True
    >>> (a + a).total("macs")
    20
    """

    samples: int = 0
    entries: Mapping[tuple[Phase, Operation], int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for phase, operation in self.entries:
            if phase not in PHASES or operation not in OPERATIONS:
                raise InputError(f"no count for phase {phase!r} and operation {operation!r}")
        kept = {key: self.entries[key] for key in sorted(self.entries) if self.entries[key]}
        object.__setattr__(self, "entries", MappingProxyType(kept))

    def __add__(self, other: OperationCounts) -> OperationCounts:
        return OperationCounts(self.samples + other.samples, self._merged(other, 1))

    def __sub__(self, other: OperationCounts) -> OperationCounts:
        return OperationCounts(self.samples - other.samples, self._merged(other, -1))

    def __getitem__(self, key: tuple[Phase, Operation]) -> int:
        return self.entries.get(key, 0)

    def total(self, operation: Operation, phases: Iterable[Phase] = PHASES) -> int:
        """The operation's count over the phases."""
        return sum(self[phase, operation] for phase in phases)

    def to_json(self) -> dict[str, object]:
        """Plain values: `{"samples": n, "free": {"macs": n, ...}, ...}`."""
        document: dict[str, object] = {"samples": self.samples}
        for phase in PHASES:
            document[phase] = {o: self[phase, o] for o in OPERATIONS if self[phase, o]}
        return document

    @classmethod
    def from_json(cls, document: Mapping[str, object]) -> OperationCounts:
        """The inverse of `to_json`. Raises `InputError` for anything else."""
        samples, entries = document.get("samples"), {}
        for phase, operations in document.items():
            if phase == "samples":
                continue
            if not isinstance(operations, Mapping):
                raise InputError(f"counts of phase {phase!r} are no table")
            for operation, count in operations.items():
                if not isinstance(count, int):
                    raise InputError(f"count of {operation!r} in phase {phase!r} is no whole number")
                entries[phase, operation] = count
        if not isinstance(samples, int):
            raise InputError("counts without a whole number of samples")
        return cls(samples, entries)  # type: ignore[arg-type]  # keys are checked in __post_init__

    def _merged(self, other: OperationCounts, sign: int) -> dict[tuple[Phase, Operation], int]:
        return {key: self[key] + sign * other[key] for key in {*self.entries, *other.entries}}


class Tally:
    """The running counts of a substrate that works in products and neuron updates."""

    def __init__(self) -> None:
        self._samples = 0
        self._products: Counter[tuple[Phase, Coupling, bool, int, int]] = Counter()
        self._neurons: Counter[tuple[Phase, int]] = Counter()
        self._outer: Counter[tuple[Coupling, int, int, int]] = Counter()

    def presented(self, samples: int) -> None:
        """Samples whose free phase was asked for."""
        self._samples += samples

    def product(
        self, phase: Phase, coupling: Coupling, batch: int, itemsize: int, times: int = 1, *, back: bool = False
    ) -> None:
        """`times` products of a coupling with a batch, forward or back through its adjoint."""
        self._products[phase, coupling, back, batch, itemsize] += times

    def neurons(self, phase: Phase, units: int, batch: int, itemsize: int, times: int = 1) -> None:
        """`times` updates of a population of so many units."""
        self._neurons[phase, itemsize] += units * batch * times

    def outer(self, coupling: Coupling, batch: int, itemsize: int, times: int = 1) -> None:
        """`times` sums over the batch of an outer product of a coupling's two ends, and the gradient written once."""
        self._outer[coupling, batch, itemsize, times] += 1

    def freeze(self) -> OperationCounts:
        """The counts so far."""
        found: Counter[tuple[Phase, Operation]] = Counter()
        for (phase, coupling, back, batch, itemsize), times in self._products.items():
            found[phase, "macs"] += coupling.macs * batch * times
            found[phase, "accumulates"] += coupling.accumulates * batch * times
            found[phase, "weight_bytes"] += coupling.weights * itemsize * times
            found[phase, "state_bytes"] += coupling.sizes[back] * batch * itemsize * times
        for (phase, itemsize), updates in self._neurons.items():
            found[phase, "neuron_updates"] += updates
            found[phase, "state_bytes"] += updates * itemsize
        for (coupling, batch, itemsize, times), sums in self._outer.items():
            found["update", "macs"] += coupling.macs * batch * times * sums
            found["update", "weight_bytes"] += coupling.weights * itemsize * sums
            found["update", "state_bytes"] += sum(coupling.sizes) * batch * itemsize * times * sums
        return OperationCounts(self._samples, dict(found))
