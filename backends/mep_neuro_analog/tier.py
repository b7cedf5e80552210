"""A tier: one way in which an analog substrate holds a network, on crossbars or as a circuit."""

from __future__ import annotations

import abc
import logging
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mep_neuro.errors import InputError
from mep_neuro.network import EnergyNetwork
from mep_neuro.types import Equilibrium, Nudge, Parameters
from mep_neuro_analog.counting import PhysicalTally

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Opening:
    """What every tier is opened with.

    random:     draws all noise.
    fixed:      draws what is fixed for good: stuck devices, and how devices and comparators differ.
    weight_max: the largest weight that is held; None: as the tier says.
    steps:      of settling at most, (free, nudged).
    tolerance:  at which it stops earlier; None: never.
    """

    network: EnergyNetwork
    random: torch.Generator
    fixed: torch.Generator
    weight_max: float | None
    steps: tuple[int, int]
    tolerance: float | None


class Tier(abc.ABC):
    """Parameters on devices, phases that settle through them, and counts of what that took.

    The methods are those of `mep_neuro.backend.Backend`.
    """

    def __init__(self) -> None:
        self.tally = PhysicalTally()
        self.clipped: dict[str, float] = {}

    @abc.abstractmethod
    def program(self, parameters: Parameters) -> None:
        """Write all parameters."""

    @abc.abstractmethod
    def read(self) -> Parameters:
        """The parameters as they are held."""

    @abc.abstractmethod
    def apply(self, update: Parameters) -> None:
        """Add to the parameters."""

    @abc.abstractmethod
    def settle(self, x: Tensor, nudge: Nudge | None, start: Equilibrium | None) -> Equilibrium:
        """Relax to rest."""

    @abc.abstractmethod
    def contrast(self, terms: Sequence[tuple[complex, Equilibrium]]) -> Parameters:
        """sum_k weight_k (-dE/dtheta)(s_k), the mean over the batch."""

    @abc.abstractmethod
    def learn(self, x: Tensor, target: Tensor, rate: float, beta: float) -> None:
        """Resident learning."""

    @abc.abstractmethod
    def advance(self, seconds: float) -> None:
        """Move the devices' clock."""

    def _wrote(self, name: str, pulses: int, clipped: float) -> None:
        """Count the pulses that a parameter took, and tell when some of it does not fit."""
        self.tally.add("update", "write_pulses", pulses)
        if clipped and not self.clipped.get(name):
            log.warning("%.2g %% of %r are beyond %s and are clipped", 100 * clipped, name, self._bound)
        self.clipped[name] = clipped

    @property
    @abc.abstractmethod
    def _bound(self) -> str:
        """What a weight that is clipped is beyond."""


def check_programmed(held: object) -> None:
    """Raise `InputError` where nothing is held yet."""
    if not held:
        raise InputError("the substrate holds no parameters yet: program the parameters first")
