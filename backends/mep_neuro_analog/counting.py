"""Counts of an analog substrate: what a circuit does in a phase, and never the solver's sweeps."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor

from mep_neuro.counts import Operation, OperationCounts, Phase
from mep_neuro_analog.settling import Chain
from mep_neuro_analog.specs import AnalogSpec


@final
class PhysicalTally:
    """The running counts. Heat is summed where the states are and brought to the host when it is asked for."""

    def __init__(self) -> None:
        self._samples = 0
        self._whole: Counter[tuple[Phase, Operation]] = Counter()
        self._physical: defaultdict[tuple[Phase, Operation], float] = defaultdict(float)
        self._heat: dict[Phase, Tensor] = {}

    def add(self, phase: Phase, operation: Operation, count: int) -> None:
        """So many of an operation."""
        self._whole[phase, operation] += count

    def spent(self, phase: Phase, operation: Operation, amount: float) -> None:
        """So much of a physical quantity."""
        self._physical[phase, operation] += amount

    def heated(self, phase: Phase, joules: Tensor) -> None:
        """Heat of conductances, a scalar in float64."""
        self._heat[phase] = self._heat.get(phase, 0) + joules

    def presented(self, samples: int, host_values: int, itemsize: int) -> None:
        """Samples whose free phase was asked for; inputs are turned into voltages once and held for all phases."""
        self._samples += samples
        self.add("input_output", "host_bytes", samples * host_values * itemsize)

    def freeze(self) -> OperationCounts:
        """The counts so far."""
        found: dict[tuple[Phase, Operation], float] = {**self._whole, **self._physical}
        for phase, heat in self._heat.items():
            found[phase, "dissipated_joules"] = float(heat)
        return OperationCounts(self._samples, found)


def count_crossbars(tally: PhysicalTally, spec: AnalogSpec, phase: Phase, chain: Chain, sweeps: int) -> None:
    """A batch that settled on crossbars: each coupling's weights read forward, and all but the first one's back as
    well, with the voltages of the end state for the whole settling time. Only where converters stand between the tiles
    are sweeps the machine's own steps, and counted."""
    stepped = spec.periphery.converters == "tiles"
    times = max(sweeps, 1) if stepped else 1
    batch, seconds = len(chain.x), spec.periphery.settling_seconds * times
    ends: Sequence[Tensor] = [chain.x, *chain.states]
    watts = torch.zeros((), dtype=torch.float64, device=chain.x.device)
    for level, connection in enumerate(chain.connections):
        tiles = connection.synapses.tiles
        tally.add(phase, "cell_reads", batch * tiles.weight.numel() * times * (1 + (level > 0)))
        watts = watts + tiles.power(ends[level].flatten(1)).sum(dtype=torch.float64)
        if level > 0:
            watts = watts + tiles.power(ends[level + 1].flatten(1), back=True).sum(dtype=torch.float64)
        for back in (False, True)[: 1 + (level > 0)]:
            dac, adc = tiles.conversions(batch, back=back)
            tally.add(phase, "dac_conversions", dac * times)
            tally.add(phase, "adc_conversions", adc * times)
    tally.heated(phase, watts * seconds)
    units = sum(s[0].numel() for s in chain.states)
    tally.spent(phase, "seconds", batch * seconds)
    tally.spent(phase, "neuron_seconds", batch * units * seconds)
