"""Target: the protocol of a chip that a trained network is written out for."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from torch import Tensor

from mep_neuro.network import EnergyNetwork


@final
@dataclass(frozen=True)
class Trained:
    """What is deployed.

    network: with the trained parameters in its module.
    options: of the target's substrate.
    seed:    of its randomness.
    beta:    strength of the nudge that the bundle's nudged phase has.
    x, labels: (samples, *input_shape), (samples,): test samples that go into the bundle.
    source:  where it comes from: run, data set, checkpoint and its SHA-256.
    """

    network: EnergyNetwork
    options: Mapping[str, Any]
    seed: int
    beta: float
    x: Tensor
    labels: Tensor
    source: Mapping[str, str]


@final
@dataclass(frozen=True)
class Bundle:
    """What was written.

    folder:   the bundle.
    accuracy: on its samples, in simulation, at export.
    samples:  how many.
    table:    what it takes of the chip: a heading, then rows.
    notes:    what a reader of the table must know.
    """

    folder: Path
    accuracy: float
    samples: int
    table: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...]


class Target(abc.ABC):
    """A chip to deploy to.

    `export` rounds the network to what the chip holds, lets it settle on samples in simulation, and writes a folder
    that runs without mep-neuro.
    """

    substrate: str
    """Name of the backend that simulates the chip; options of a run on it hold here too."""

    @abc.abstractmethod
    def export(self, trained: Trained, folder: Path) -> Bundle:
        """Write the bundle to a new folder. Raises `CapabilityError`, with numbers, for what the chip cannot hold."""
