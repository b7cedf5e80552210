"""Chain: the populations of one batch in one phase, whatever the energy."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from typing import ClassVar

from typing_extensions import Self

from mep_neuro.counts import Phase, Tally
from mep_neuro.errors import OptionError
from mep_neuro.network import EnergyNetwork
from mep_neuro_reference.connections import Connection
from mep_neuro_reference.minima import Pull
from mep_neuro_reference.operations import Array, Masks

ITEMSIZE = 8
"""Bytes of a weight and of a state: float64."""


class Chain(abc.ABC):
    """States s_1 .. s_L over a clamped x, and for each of them the minimum of F = E + beta C in its block.

    An energy is a subclass: it says what its forward pass, its block minimiser and its local statistic are. Products
    and neuron updates are counted here, where they are done. Levels are numbered from 0: level l holds s_{l+1}.

    clamped: f_1(x) + b_1, worked out once for a batch; taken over from an earlier phase where it is given.
    pull:    beta C as a function of the outputs; None in the free phase.
    """

    free_is_forward: ClassVar[bool]
    """Whether the forward pass is the free equilibrium already, so that nothing need be iterated."""
    of_drops: ClassVar[bool] = False
    """Whether a synapse sees the difference of its two ends, -dE/dW = -1/2 (above - below)^2, not their product."""

    def __init__(
        self,
        network: EnergyNetwork,
        connections: Sequence[Connection],
        masks: Masks,
        x: Array,
        tally: Tally,
        clamped: Array | None = None,
    ) -> None:
        self.network, self.connections, self.masks, self.x, self.tally = network, connections, masks, x, tally
        self.phase: Phase = "free"
        self.pull: Pull | None = None
        self.states: list[Array] = []
        self.clamped = self.forward(0, x) if clamped is None else clamped

    @property
    def top(self) -> int:
        """The output population's level."""
        return len(self.network.populations) - 1

    @property
    @abc.abstractmethod
    def outputs(self) -> Array:
        """What the network answers, (batch, *outputs)."""

    @abc.abstractmethod
    def forward_pass(self) -> None:
        """Set the states by one pass from x up: where a phase without a start begins."""

    @abc.abstractmethod
    def resume(self, states: Sequence[Array]) -> None:
        """Take over states of x, and work out whatever goes with them."""

    @abc.abstractmethod
    def minimum(self, level: int) -> Array:
        """The state of one population that minimises F with all others held, or that lowers it where there is no
        closed form."""

    @abc.abstractmethod
    def put(self, level: int, s: Array) -> None:
        """Set one population's state."""

    def pass_errors(self) -> None:
        """Hand the errors down from the outputs, and the states up from x: an iteration of the `errors` solver."""
        raise OptionError("the solver 'errors' is for the prediction_error energy")

    def descend(self, level: int) -> None:
        """Set one population's state to its minimum: F does not rise."""
        self.put(level, self.minimum(level))

    @abc.abstractmethod
    def local(self) -> tuple[list[Array], list[Array]]:
        """What each coupling's synapses see of their two ends, above and below: -dE/dW = above (x) below."""

    def nudged(self, pull: Pull) -> Self:
        """A nudged phase that starts from these states."""
        other = type(self)(self.network, self.connections, self.masks, self.x, self.tally, self.clamped)
        other.phase, other.pull, other.states = "nudged", pull, list(self.states)
        return other

    def forward(self, level: int, s: Array) -> Array:
        """f(s) + b of the coupling that leads to a level; counted."""
        self.tally.product(self.phase, self.connections[level].coupling, len(s), ITEMSIZE)
        return self.connections[level].forward(s, self.masks)

    def adjoint(self, level: int, t: Array) -> Array:
        """f^T(t) of the coupling that leads to a level; counted."""
        self.tally.product(self.phase, self.connections[level].coupling, len(t), ITEMSIZE, back=True)
        return self.connections[level].adjoint(t, self.masks)

    def count_update(self, level: int) -> None:
        """One update of a population."""
        self.tally.neurons(self.phase, self.network.populations[level].size, len(self.x), ITEMSIZE)
