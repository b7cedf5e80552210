"""Resources: what a program takes of a chip's cores, against the published limits of Loihi 1 and Loihi 2.

A neuron's core holds the synapses that come in to it, one byte each (an 8-bit mantissa; a dense connection needs no
indices), and its registers. So a unit of population l takes

    bytes_l = n_{l-1} + n_{l+1} + registers,      units a core = min(neurons a core, floor(memory / bytes_l))

Populations do not share a core here, and the chip's own compiler may pack better or need room for axons: an estimate.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

from mep_neuro.errors import CapabilityError
from mep_neuro_lava.program import Program

REGISTERS = 5
"""24-bit words of an EP neuron: state, latched drive, bias, target, and the free state that learning compares with."""
WORD_BYTES = 4
"""A word's place in memory: 24 bits, aligned."""


@final
@dataclass(frozen=True)
class Chip:
    """Published limits of one chip. memory: bytes a core for synapses and neurons; verified: whether the source was
    read, or is quoted from memory."""

    name: str
    title: str
    cores: int
    neurons: int
    memory: int
    graded: bool
    source: str
    verified: bool


LOIHI_1 = Chip(
    name="loihi1",
    title="Loihi 1",
    cores=128,
    neurons=1024,
    memory=128 * 1024,
    graded=False,
    source="Davies et al., IEEE Micro 2018, doi:10.1109/MM.2018.112130359: 128 cores of 1,024 units, 128 KB of weights",
    verified=False,
)
LOIHI_2 = Chip(
    name="loihi2",
    title="Loihi 2",
    cores=128,
    neurons=8192,
    memory=192 * 1024,
    graded=True,
    source="Intel Labs, technology brief on Loihi 2 and Lava, 2021, table of features: 128 cores, 1 million neurons, "
    "192 KB a core, allocated freely",
    verified=False,
)


@final
@dataclass(frozen=True)
class Share:
    """What one population takes. synapses: those that come in to it."""

    population: str
    neurons: int
    synapses: int
    bytes: int
    cores: int


@final
@dataclass(frozen=True)
class Resources:
    """What a program takes of a chip; the inputs, which only send, are the first share."""

    chip: Chip
    shares: tuple[Share, ...]

    @property
    def cores(self) -> int:
        """Of all populations."""
        return sum(share.cores for share in self.shares)

    @property
    def synapses(self) -> int:
        """Of all connections, both directions counted."""
        return sum(share.synapses for share in self.shares)

    @property
    def neurons(self) -> int:
        """Of all populations, inputs too."""
        return sum(share.neurons for share in self.shares)


def resources(program: Program, chip: Chip) -> Resources:
    """The report. Raises `CapabilityError`, with the numbers, for a network that does not fit on one chip."""
    sizes = [program.synapses[0].mantissas.shape[1], *(len(bias) for bias in program.biases)]
    shares = []
    for level, units in enumerate(sizes):
        incoming = 0 if level == 0 else sizes[level - 1] + (sizes[level + 1] if level + 1 < len(sizes) else 0)
        each = incoming + WORD_BYTES * (REGISTERS if level else 1)
        if each > chip.memory:
            raise CapabilityError(
                f"a neuron of population {level} has {incoming:,} synapses, {each:,} bytes, and a core of {chip.title} "
                f"has {chip.memory:,}: make its neighbours smaller"
            )
        a_core = min(chip.neurons, chip.memory // each)
        name = f"population {level}" if level else "inputs"
        shares.append(Share(name, units, units * incoming, units * each, math.ceil(units / a_core)))
    found = Resources(chip, tuple(shares))
    if found.cores > chip.cores:
        largest = max(shares, key=lambda share: share.cores)
        raise CapabilityError(
            f"the network takes {found.cores:,} cores ({found.synapses:,} synapses, {found.neurons:,} neurons) and "
            f"{chip.title} has {chip.cores}; {largest.population} alone takes {largest.cores:,}: make it smaller"
        )
    return found
