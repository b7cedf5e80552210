"""A correct backend around the torch one, on a copy of the module. Each broken backend changes one thing of it."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from torch import Tensor

from mep_neuro.backend import Backend
from mep_neuro.capabilities import Availability, Capabilities
from mep_neuro.counts import OperationCounts
from mep_neuro.network import EnergyNetwork
from mep_neuro.testing import oracle
from mep_neuro.types import Array, Equilibrium, Nudge, Parameters
from mep_neuro_torch import TorchBackend

HELD = dataclasses.replace(TorchBackend.capabilities, shares_parameters=False, resident_learning=True)


class Wrapper(Backend):
    """Passes every call on to the torch backend."""

    capabilities: Capabilities = HELD
    usual_solver: ClassVar[str] = "even_odd"
    breaks: ClassVar[str] = ""
    """The law that a broken backend is meant to break."""

    @classmethod
    def availability(cls) -> Availability:
        return Availability(True)

    def __init__(
        self,
        network: EnergyNetwork,
        *,
        seed: int = 0,
        solver: str | None = None,
        max_steps: int = 20,
        tolerance: float | None = None,
    ) -> None:
        self.network, self.seed = network, seed
        own = dataclasses.replace(network, module=copy.deepcopy(network.module))
        solver = solver or self.usual_solver
        self.inner = TorchBackend(own, seed=seed, solver=solver, max_steps=max_steps, tolerance=tolerance)
        self.tolerance = tolerance
        self.opened()

    def opened(self) -> None:
        """What a broken one does at last."""

    def program(self, parameters: Parameters) -> None:
        self.inner.program(parameters)

    def read(self) -> Parameters:
        return self.inner.read()

    def settle(self, x: Array, *, nudge: Nudge | None = None, start: Equilibrium | None = None) -> Equilibrium:
        self.inner.network.module.train(self.network.module.training)
        return self.inner.settle(x, nudge=nudge, start=start)

    def contrast(self, terms: Sequence[tuple[complex, Equilibrium]]) -> Parameters:
        return self.inner.contrast(terms)

    def apply(self, update: Parameters) -> None:
        self.inner.apply(update)

    def learn(self, x: Array, target: Array, *, rate: float, beta: float) -> None:
        free = self.settle(x)
        ends = [self.settle(x, nudge=Nudge(b, target), start=free) for b in (beta, -beta)]
        self.apply(self.contrast([(rate / (2 * beta), ends[0]), (-rate / (2 * beta), ends[1])]))

    def reseed(self, seed: int) -> None:
        self.inner.reseed(seed)

    def counts(self) -> OperationCounts:
        return self.inner.counts()

    def settle_with(self, x: Array, nudge: Nudge | None, start: Equilibrium | None, **changed: Any) -> Equilibrium:
        """Settle under another nudge, and tell the one that was asked for."""
        other = None if nudge is None else dataclasses.replace(nudge, **changed)
        return dataclasses.replace(Wrapper.settle(self, x, nudge=other, start=start), nudge=nudge)

    def moved(self, e: Equilibrium, move: Callable[[Tensor, int], Tensor]) -> Equilibrium:
        """The equilibrium with each state moved, from the state and its level."""
        states = tuple(move(s, level) for level, s in enumerate(e.states))
        return dataclasses.replace(e, states=states, outputs=oracle.outputs(self.network, states), context=None)
