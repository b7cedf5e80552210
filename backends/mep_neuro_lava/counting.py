"""Counts: what a chip would do in each timestep, taken from the kernels' own payloads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import final

from mep_neuro.counts import Operation, OperationCounts, Phase, Tally
from mep_neuro.network import EnergyNetwork

STATE_BYTES = 3
"""Bytes of a state, bias or target that the host reads or writes: 24 bits."""
HOST_BYTES = 8
"""Bytes of a number of the host's: float64."""


@final
class ChipTally:
    """The running counts of a network on a chip. A neuron that sends nothing is an inactive one; its update is counted
    in every timestep all the same. An event is counted at each synapse of the connections that it goes out by.

    contrasts: the host's own products.
    """

    def __init__(self, network: EnergyNetwork, payload_bits: int) -> None:
        self._sizes = [p.size for p in network.populations]
        self._inputs = network.couplings[0].sizes[0]
        self._input_bytes = -(-payload_bits // 8)
        self._found: Counter[tuple[Phase, Operation]] = Counter()
        self._samples = 0
        self.contrasts = Tally()

    def presented(self, samples: int) -> None:
        """Samples whose free phase was asked for."""
        self._samples += samples
        self._add("input_output", "host_bytes", samples * (self._inputs * self._input_bytes + self.outputs_bytes))

    @property
    def outputs_bytes(self) -> int:
        """Bytes of one sample's outputs."""
        return self._sizes[-1] * STATE_BYTES

    def states_read(self, samples: int, phases: int) -> None:
        """All states of a batch, read by the host in so many phases."""
        self._add("input_output", "host_bytes", samples * phases * sum(self._sizes) * STATE_BYTES)

    def latched(self, phase: Phase, events: int, samples: int) -> None:
        """The timestep in which x is sent, with so many payloads other than 0; all neurons update and are silent."""
        self._add(phase, "spikes", events)
        self._add(phase, "synaptic_events", events * self._sizes[0])
        self._timesteps(phase, [0] * len(self._sizes), samples)

    def relaxed(self, phase: Phase, sent: Sequence[int], samples: int, timesteps: int) -> None:
        """Timesteps of a batch in which the populations sent so many payloads."""
        self._timesteps(phase, sent, samples * timesteps)
        for level, events in enumerate(sent):
            self._add(phase, "spikes", events)
            self._add(phase, "synaptic_events", events * self._fan_out(level))

    def learnt(self, inputs: int, sent: Sequence[int], timesteps: int) -> None:
        """Timesteps of learning: each spike is delivered, and sets off the learning engine at each synapse that it
        comes to."""
        events = inputs * self._sizes[0] + sum(n * self._fan_out(level) for level, n in enumerate(sent))
        self._timesteps("update", sent, timesteps)
        self._add("update", "spikes", inputs + sum(sent))
        self._add("update", "synaptic_events", events)
        self._add("update", "learning_updates", events)

    def freeze(self) -> OperationCounts:
        """The counts so far."""
        return OperationCounts(self._samples, dict(self._found)) + self.contrasts.freeze()

    def _fan_out(self, level: int) -> int:
        """Synapses that a neuron's event comes to: those of the population above, and below where that is not x."""
        above = self._sizes[level + 1] if level + 1 < len(self._sizes) else 0
        return above + (self._sizes[level - 1] if level else 0)

    def _timesteps(self, phase: Phase, sent: Sequence[int], timesteps: int) -> None:
        self._add(phase, "timesteps", timesteps)
        self._add(phase, "neuron_updates", sum(sent))
        self._add(phase, "inactive_updates", timesteps * sum(self._sizes) - sum(sent))

    def _add(self, phase: Phase, operation: Operation, count: int) -> None:
        self._found[phase, operation] += count
