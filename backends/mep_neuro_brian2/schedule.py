"""The schedule: what is put to the neurons in one run, a row for each phase. A presentation of resident learning is
three rows: free, nudged towards the target (+beta), and nudged away from it (-beta)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mep_neuro_brian2.layout import Array, Layout
from mep_neuro_brian2.options import QUARTERS, Timing

GO_ON, FREE, KEEP, RETURN = 0, 1, 2, 3
"""What a phase starts from: where the last one ended; afresh; where the last one ended, which is noted; what was
noted. Only even ones leave the membranes as they are."""

ARRAYS = {
    "turn": False,
    "hold": False,
    "commit": False,
    "weigh": False,
    "drive": True,
    "current": True,
    "membrane": True,
}
"""Names of the schedule's arrays, and whether they have a column for each neuron."""


@dataclass(frozen=True, eq=False)
class Rows:
    """Phases. turn, hold, commit: (rows,); weigh: (rows, 2); drive, current, membrane: (rows, neurons).

    turn:     what the phase starts from.
    hold:     beta of a squared error, which stiffens the outputs; 0 for none, or for a force.
    commit:   rate / (2 beta), by which the contrast is learnt when the phase ends.
    weigh:    for each half of the phase, the sign with which spikes add to the contrast.
    drive:    x at the input, beta times the target or force at the outputs.
    current, membrane: I and v of a phase that starts afresh.
    """

    turn: Array
    hold: Array
    commit: Array
    weigh: Array
    drive: Array
    current: Array
    membrane: Array

    def __len__(self) -> int:
        return len(self.turn)

    def part(self, first: int, last: int) -> Rows:
        """Rows first .. last - 1."""
        return Rows(**{name: getattr(self, name)[first:last] for name in ARRAYS})


@dataclass(frozen=True, eq=False)
class Record:
    """What was read while rows ran: spikes so far and membranes at each quarter, (rows, 5, neurons)."""

    spikes: Array
    membranes: Array

    def rates(self, layout: Layout, timing: Timing, half: slice = slice(2, 5)) -> Array:
        """States by neuron, (rows, neurons): spikes in the window, and the part of one that the membrane gathered
        meanwhile, over those at the largest rate.

        half: quarters, first to last; the window by default.
        """
        marks = (self.spikes + self.membranes)[:, half]
        share = (marks[:, -1] - marks[:, 0]) / timing.full * (QUARTERS / 2) / (marks.shape[1] - 1)
        found: Array = np.clip(share, 0, 1) * layout.high
        return found

    @property
    def phase_spikes(self) -> NDArray[np.int64]:
        """Spikes of each row, (rows, neurons)."""
        return _whole(self.spikes[:, -1] - self.spikes[:, 0])

    @property
    def window_spikes(self) -> NDArray[np.int64]:
        """Spikes of each row's window, (rows, neurons)."""
        return _whole(self.spikes[:, -1] - self.spikes[:, QUARTERS // 2])


def settling(drive: Array, hold: Array, current: Array, membrane: Array) -> Rows:
    """One phase for each row, each afresh."""
    rows = len(drive)
    return Rows(np.full(rows, float(FREE)), hold, np.zeros(rows), np.zeros((rows, 2)), drive, current, membrane)


def learning(layout: Layout, x: Array, target: Array, *, rate: float, beta: float, membrane: Array) -> Rows:
    """Three phases for each sample."""
    signs = np.tile([0.0, 1.0, -1.0], len(x))
    drive = np.zeros((3 * len(x), layout.neurons))
    drive[:, : layout.inputs] = np.repeat(x, 3, axis=0)
    drive[:, layout.top] = beta * signs[:, None] * np.repeat(target, 3, axis=0)
    return Rows(
        turn=np.tile([FREE, KEEP, RETURN], len(x)).astype(float),
        hold=beta * signs,
        commit=np.tile([0.0, 0.0, rate / (2 * beta)], len(x)),
        weigh=np.stack([np.zeros_like(signs), signs], 1),
        drive=drive,
        current=np.zeros_like(drive),
        membrane=np.repeat(membrane, 3, axis=0),
    )


def padded(rows: Rows, capacity: int) -> dict[str, Array]:
    """The arrays by name with zeros after their last row, (capacity, ...); a row's contrast is learnt when the next
    one starts. weigh is by half phases, (2 capacity,)."""
    found = {}
    for name in ARRAYS:
        value = getattr(rows, name)
        found[name] = np.zeros((capacity, *value.shape[1:]))
        late = name == "commit"
        found[name][late : len(rows) + late] = value
    found["weigh"] = found["weigh"].ravel()
    return found


def record(spikes: Any, membranes: Any, rows: int, neurons: int) -> Record:
    """From readings at each quarter in turn, (4 rows + 1, neurons) and perhaps more, which are left out."""
    at = QUARTERS * np.arange(rows)[:, None] + np.arange(QUARTERS + 1)
    return Record(np.asarray(spikes).reshape(-1, neurons)[at], np.asarray(membranes).reshape(-1, neurons)[at])


def _whole(values: Array) -> NDArray[np.int64]:
    return np.rint(values).astype(np.int64)
