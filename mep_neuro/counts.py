"""OperationCounts: what a substrate did, by phase and operation. Counts are exact and additive."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal, TypeAlias, get_args

from mep_neuro.couplings import Coupling
from mep_neuro.errors import InputError, did_you_mean

Phase: TypeAlias = Literal["free", "nudged", "update", "input_output"]
Operation: TypeAlias = Literal[
    "macs",
    "accumulates",
    "flops",
    "neuron_updates",
    "inactive_updates",
    "synaptic_events",
    "learning_updates",
    "spikes",
    "hops_ew",
    "hops_ns",
    "resets",
    "cell_reads",
    "dac_conversions",
    "adc_conversions",
    "write_pulses",
    "neuron_seconds",
    "dissipated_joules",
    "weight_bytes",
    "state_bytes",
    "host_bytes",
    "launches",
    "timesteps",
    "seconds",
]
PHASES: tuple[Phase, ...] = get_args(Phase)
OPERATIONS: tuple[Operation, ...] = get_args(Operation)

BYTES: frozenset[Operation] = frozenset({"weight_bytes", "state_bytes", "host_bytes"})
"""Operations counted in bytes."""
TIMING: frozenset[Operation] = frozenset({"launches", "timesteps", "seconds"})
"""Operations that take time, and in general nothing else."""
PHYSICAL: frozenset[Operation] = frozenset({"neuron_seconds", "dissipated_joules", "seconds"})
"""Physical quantities, which need not be whole numbers."""


@dataclass(frozen=True)
class OperationCounts:
    """Operations by (phase, operation), over `samples` presented samples. A missing entry is zero.

    A digital machine counts:

    macs:           multiply-accumulates (1 MAC = 2 FLOP), padded positions of a convolution included.
    accumulates:    additions without a product (average pooling; a binary spike at a synapse).
    flops:          floating-point operations outside products: what the optimizer does.
    neuron_updates: evaluations of an activation, one a unit and update.
    weight_bytes:   bytes of weights read, once for each product of a whole batch; in `update`, bytes of gradient
                    written, and the optimizer's reads and writes of weights, gradients and its own state.
    state_bytes:    bytes of states read by products and written by neuron updates.
    host_bytes:     bytes of inputs brought to the substrate, and of outputs fetched (or, as many, of targets brought).
    launches:       products and outer products of a whole batch that were started, each with what follows it.

    A chip of neurons that send events counts besides:

    inactive_updates: updates of units that send nothing (then `neuron_updates` are those of units that do).
    synaptic_events:  events that reach a synapse.
    learning_updates: changes of a synapse's weight by the chip's own learning engine.
    spikes:           events sent, graded ones included.
    hops_ew, hops_ns: steps of an event from one tile to the next, east-west and north-south.
    resets:           clearings of a chip's state between samples.
    timesteps:        the chip's own steps, each ended by a barrier.

    A circuit counts physical quantities:

    cell_reads:        weights that a voltage is put across, one a weight however many devices hold it.
    dac_conversions, adc_conversions: digital values turned into voltages, and voltages into digital values.
    write_pulses:      programming pulses given to devices.
    dissipated_joules: joules that the simulated conductances turned into heat, the sum of g v^2 t.
    neuron_seconds:    seconds that neurons' amplifiers were on, summed over the neurons.
    seconds:           physical seconds of the substrate (settling times); never those of the simulator.

    Two readings of a substrate subtract to a window; windows add up:

    >>> a = OperationCounts(samples=2, entries={("free", "macs"): 10})
    >>> (a + a - a) == a
    True
    >>> (a + a).total("macs")
    20
    """

    samples: int = 0
    entries: Mapping[tuple[Phase, Operation], float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for (phase, operation), count in self.entries.items():
            if phase not in PHASES:
                raise InputError(f"no phase {phase!r}; there are: {', '.join(PHASES)}.{did_you_mean(phase, PHASES)}")
            if operation not in OPERATIONS:
                raise InputError(
                    f"no operation {operation!r} (phase {phase!r}); there are: {', '.join(OPERATIONS)}."
                    f"{did_you_mean(operation, OPERATIONS)}"
                )
            whole, physical = isinstance(count, int) and not isinstance(count, bool), operation in PHYSICAL
            if not whole and (not physical or isinstance(count, bool) or not math.isfinite(count)):
                kind = "finite" if physical else "whole"
                raise InputError(f"the count of {operation!r} in phase {phase!r} is {count!r}, no {kind} number")
        kept = {key: self.entries[key] for key in sorted(self.entries) if self.entries[key]}
        object.__setattr__(self, "entries", MappingProxyType(kept))

    def __add__(self, other: OperationCounts) -> OperationCounts:
        return OperationCounts(self.samples + other.samples, self._merged(other, 1))

    def __sub__(self, other: OperationCounts) -> OperationCounts:
        return OperationCounts(self.samples - other.samples, self._merged(other, -1))

    def times(self, factor: int) -> OperationCounts:
        """These counts so many times over."""
        return OperationCounts(self.samples * factor, {key: count * factor for key, count in self.entries.items()})

    def __getitem__(self, key: tuple[Phase, Operation]) -> float:
        return self.entries.get(key, 0)

    def total(self, operation: Operation, phases: Iterable[Phase] = PHASES) -> float:
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
                if not isinstance(count, (int, float)) or isinstance(count, bool) or not math.isfinite(count):
                    raise InputError(f"the count of {operation!r} in phase {phase!r} is {count!r}, no number")
                entries[phase, operation] = count
        if not isinstance(samples, int) or isinstance(samples, bool):
            raise InputError("counts without a whole number of samples")
        return cls(samples, entries)  # type: ignore[arg-type]  # keys are checked in __post_init__

    def _merged(self, other: OperationCounts, sign: int) -> dict[tuple[Phase, Operation], float]:
        return {key: self[key] + sign * other[key] for key in {*self.entries, *other.entries}}


class Tally:
    """The running counts of a substrate that works in products and neuron updates."""

    def __init__(self) -> None:
        self._samples = 0
        self._host_bytes = 0
        self._products: Counter[tuple[Phase, Coupling, bool, int, int]] = Counter()
        self._neurons: Counter[tuple[Phase, int]] = Counter()
        self._outer: Counter[tuple[Coupling, int, int, int]] = Counter()

    def presented(self, samples: int, host_bytes: int) -> None:
        """Samples whose free phase was asked for, and the bytes of one sample's inputs and outputs."""
        self._samples += samples
        self._host_bytes += samples * host_bytes

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
        found["input_output", "host_bytes"] = self._host_bytes
        for (phase, coupling, back, batch, itemsize), times in self._products.items():
            found[phase, "launches"] += times
            found[phase, "macs"] += coupling.macs * batch * times
            found[phase, "accumulates"] += coupling.accumulates * batch * times
            found[phase, "weight_bytes"] += coupling.weights * itemsize * times
            found[phase, "state_bytes"] += coupling.sizes[back] * batch * itemsize * times
        for (phase, itemsize), updates in self._neurons.items():
            found[phase, "neuron_updates"] += updates
            found[phase, "state_bytes"] += updates * itemsize
        for (coupling, batch, itemsize, times), sums in self._outer.items():
            found["update", "launches"] += times * sums
            found["update", "macs"] += coupling.macs * batch * times * sums
            found["update", "weight_bytes"] += coupling.weights * itemsize * sums
            found["update", "state_bytes"] += sum(coupling.sizes) * batch * itemsize * times * sums
        return OperationCounts(self._samples, dict(found))
