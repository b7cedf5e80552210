"""Brian2 in this process: phases of a batch side by side in one run, presentations one after the other."""

from __future__ import annotations

from collections import OrderedDict

from mep_neuro_brian2.engine import Learnt
from mep_neuro_brian2.equations import Circuit, generating
from mep_neuro_brian2.layout import Array, Layout
from mep_neuro_brian2.options import Target, Timing
from mep_neuro_brian2.schedule import Record, Rows

KEPT = 4
"""Circuits of different sizes that are kept."""

SYNAPSES = 1 << 21
"""Synapses in one run; larger batches take several."""

ROWS = 3 << 12
"""Phases in one run of presentations."""


class Runtime:
    """Circuits, built when they are first asked for."""

    def __init__(self, layout: Layout, timing: Timing, target: Target) -> None:
        self._layout, self._timing, self._target = layout, timing, target
        self._circuits: OrderedDict[tuple[int, int | None], Circuit] = OrderedDict()
        self.settle_rows = max(1, SYNAPSES // len(layout.lower))
        self.learn_rows: int = ROWS

    def settle(self, weights: Array, biases: Array, rows: Rows) -> Record:
        """One phase, a row in each replica."""
        with generating(self._target):
            return self._circuit(len(rows), None).settle(weights, biases, rows)

    def learn(self, weights: Array, biases: Array, rows: Rows, plastic: tuple[Array, Array]) -> Learnt:
        """The rows in turn, with learning on."""
        capacity = 1 << len(rows).bit_length()  # one of few, as compiled code holds it
        with generating(self._target):
            return self._circuit(1, capacity).present(weights, biases, rows, plastic)

    def _circuit(self, replicas: int, capacity: int | None) -> Circuit:
        """The newest stand last."""
        key = (replicas, capacity)
        found = self._circuits.pop(key, None) or Circuit(self._layout, self._timing, replicas=replicas, rows=capacity)
        self._circuits[key] = found
        if len(self._circuits) > KEPT:
            self._circuits.popitem(last=False)
        return found
