"""Backend: the protocol, and the one class that a backend's author writes."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from types import TracebackType

from typing_extensions import Self

from mep_neuro.capabilities import Availability, Capabilities
from mep_neuro.counts import OperationCounts
from mep_neuro.errors import CapabilityError
from mep_neuro.network import EnergyNetwork
from mep_neuro.types import Array, Equilibrium, Nudge, Parameters


class Backend(abc.ABC):
    """A substrate that holds one network and lets it settle to argmin_s E(s; x) + beta C(s).

    A subclass is final. It takes and gives the kind of array that its capabilities declare; x comes as
    (batch, *network.input_shape), targets as (batch, *outputs). All is per sample: cutting a batch differently changes
    no equilibrium. Randomness comes from the seed alone.
    """

    capabilities: Capabilities
    """Of the class; an open substrate may narrow its own."""
    network: EnergyNetwork
    """The network that is held; set by `__init__`."""

    @classmethod
    @abc.abstractmethod
    def availability(cls) -> Availability:
        """Whether it runs here; if not, why, and the one command or step that mends it."""

    @abc.abstractmethod
    def __init__(self, network: EnergyNetwork, *, seed: int) -> None:
        """Open the substrate on a network, with the backend's own options as further keywords."""

    @abc.abstractmethod
    def program(self, parameters: Parameters) -> None:
        """Write all parameters; the substrate may round, clip or disturb them."""

    @abc.abstractmethod
    def read(self) -> Parameters:
        """The parameters as the substrate really holds them."""

    @abc.abstractmethod
    def settle(self, x: Array, *, nudge: Nudge | None = None, start: Equilibrium | None = None) -> Equilibrium:
        """Relax to rest with x (batch, *inputs) clamped; without a nudge this is the free phase.

        start: an equilibrium of the same x to go on from; dropout masks are taken over from it.
        """

    def settle_each(self, x: Array, nudges: Sequence[Nudge], start: Equilibrium) -> tuple[Equilibrium, ...]:
        """One nudged phase for each nudge, all from one start. A substrate that can run them at once does so here."""
        return tuple(self.settle(x, nudge=nudge, start=start) for nudge in nudges)

    @abc.abstractmethod
    def contrast(self, terms: Sequence[tuple[complex, Equilibrium]]) -> Parameters:
        """sum_k weight_k (-dE/dtheta)(s_k), the mean over the batch, for each parameter that is not frozen.

        terms: (weight, equilibrium) of the same x; the weights sum to 0. Local: a synapse's entry depends on nothing
        but the two populations that it joins. Factorised, so that close phases do not cancel; real, as parameters are.
        """

    @abc.abstractmethod
    def apply(self, update: Parameters) -> None:
        """Add an update to the parameters, the way this substrate can (pulses, rounding)."""

    def learn(self, x: Array, target: Array, *, rate: float, beta: float) -> None:
        """Resident learning: the substrate changes its own weights. Only with that capability."""
        raise CapabilityError(f"{type(self).__name__} cannot change its own weights: it declares no resident_learning")

    def reseed(self, seed: int) -> None:  # noqa: B027  # a substrate without randomness has nothing to do
        """Restart the substrate's randomness, so that a training run can be taken up again exactly."""

    @abc.abstractmethod
    def counts(self) -> OperationCounts:
        """Operations since it was opened; never falls. Subtract two readings for a window."""

    def close(self) -> None:  # noqa: B027  # most simulators hold nothing to give back
        """Give back what is held; calling it twice is safe."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
