"""What the neurons and synapses did, counted from their spikes.

spikes:           of all neurons, those of the input among them.
synaptic_events:  spikes that reach a synapse: upward, and downward except to the input. In `update`, spikes by which a
                  synapse's contrast grows or falls: those of either end in a nudged phase's window.
neuron_updates:   steps in which a neuron fires; inactive_updates: the others.
learning_updates: weights changed, one a presentation.
timesteps, seconds: of the phases one after the other, however the simulator runs them.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
from numpy.typing import NDArray

from mep_neuro.counts import Operation, OperationCounts, Phase, Tally
from mep_neuro_brian2.layout import Array, Layout
from mep_neuro_brian2.options import Timing
from mep_neuro_brian2.schedule import Record

ITEMSIZE = 8

FINE = 2**30
"""Seconds are counted in whole parts of so many (about a nanosecond): binary fractions, whose sums are exact."""


class SpikeTally:
    """The running counts of a substrate of spiking neurons; `host` counts what the host does for it."""

    def __init__(self, layout: Layout, timing: Timing) -> None:
        self.host = Tally()
        self._layout, self._timing = layout, timing
        self._whole: Counter[tuple[Phase, Operation]] = Counter()
        self._steps: Counter[Phase] = Counter()

    def ran(self, phase: Phase, spikes: NDArray[np.int64]) -> None:
        """Phases with these spikes, (rows, neurons)."""
        steps, fired = len(spikes) * self._timing.steps, int(spikes.sum())
        self._steps[phase] += steps
        self._whole[phase, "spikes"] += fired
        self._whole[phase, "synaptic_events"] += int((spikes @ self._layout.fan).sum())
        self._whole[phase, "neuron_updates"] += fired
        self._whole[phase, "inactive_updates"] += steps * self._layout.neurons - fired
        self._whole[phase, "timesteps"] += steps

    def learnt(self, record: Record, plastic: Array) -> None:
        """Presentations of three phases, with resident learning on. plastic: 1 for each synapse that may change."""
        spikes, samples = record.phase_spikes, len(record.spikes) // 3
        self.ran("free", spikes[0::3])
        self.ran("nudged", np.concatenate([spikes[1::3], spikes[2::3]]))
        ends = np.concatenate([self._layout.lower, self._layout.upper])
        synapses = np.bincount(ends, minlength=self._layout.neurons)
        windows = record.window_spikes.reshape(samples, 3, -1)[:, 1:]
        self._whole["update", "synaptic_events"] += int((windows @ synapses).sum())
        self._whole["update", "learning_updates"] += samples * int(plastic.sum())

    def freeze(self) -> OperationCounts:
        """The counts so far."""
        found: dict[tuple[Phase, Operation], float] = dict(self._whole)
        step = round(self._timing.step * FINE) / FINE
        for phase, steps in self._steps.items():
            found[phase, "seconds"] = steps * step
        return self.host.freeze() + OperationCounts(0, found)
