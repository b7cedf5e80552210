"""A rig: one substrate open on a network of the suite, with its samples, and the measurements that laws are made of.

Samples, states and gradients are float64 tensors on the CPU here; the substrate gets and gives the arrays that it
declares. With noise each sample stands in the batch many times over, and the rig looks at means over these.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from mep_neuro.backend import Backend
from mep_neuro.errors import InputError
from mep_neuro.network import EnergyNetwork
from mep_neuro.nudging import Nudging
from mep_neuro.propagation import EquilibriumPropagation
from mep_neuro.testing import oracle
from mep_neuro.testing.networks import Case, samples
from mep_neuro.types import Array, Equilibrium, Nudge


class Rig:
    """An open substrate with its network and samples."""

    def __init__(self, case: Case, network: EnergyNetwork, substrate: Backend, repeats: int, tolerance: float) -> None:
        self.case, self.network, self.substrate = case, network, substrate
        self.repeats, self.tolerance = repeats, tolerance
        self.x, self.target = samples(network)
        self.beta = 0.4 * min(1.0, network.steepest_negative_beta(case.cost))
        """A nudge of middling strength, which may be negative too."""

    def give(self, value: Tensor) -> Array:
        """A tensor as the kind of array that the substrate takes."""
        if self.substrate.capabilities.arrays == "torch":
            return value.to(self.network.device, self.network.dtype, copy=True)
        return value.numpy().copy()

    def feed(self, value: Tensor) -> Array:
        """Values of a batch, repeated where there is noise to average."""
        return self.give(value.repeat(self.repeats, *[1] * (value.dim() - 1)))

    def program(self, parameters: Mapping[str, Tensor]) -> None:
        """Write all parameters."""
        self.substrate.program({name: self.give(p) for name, p in parameters.items()})

    def parameters(self) -> dict[str, Tensor]:
        """The parameters as the substrate holds them."""
        return {name: take(value) for name, value in self.substrate.read().items()}

    def free(self, x: Tensor | None = None, start: Equilibrium | None = None) -> Equilibrium:
        """The free phase of the rig's samples, or of others."""
        return self.substrate.settle(self.feed(self.x if x is None else x), start=start)

    def nudged(self, beta: complex, start: Equilibrium, *, target: Tensor | None = None) -> Equilibrium:
        """The phase with the case's cost, nudged towards the rig's target or another one."""
        value = self.feed(self.target if target is None else target)
        return self.substrate.settle(start.x, nudge=Nudge(beta, value, self.case.cost), start=start)

    def forced(self, beta: float, start: Equilibrium, force: Tensor) -> Equilibrium:
        """The phase with a force on the outputs."""
        return self.substrate.settle(start.x, nudge=Nudge(beta, force=self.feed(force)), start=start)

    def begin(self, states: Sequence[Tensor], x: Tensor | None = None) -> Equilibrium:
        """Any states as a start: what settling may go on from, though no substrate settled there."""
        x = self.x if x is None else x
        return Equilibrium(
            x=self.feed(x),
            states=tuple(self.feed(s) for s in states),
            outputs=self.feed(oracle.outputs(self.network, states)),
            steps=0,
            residual=self.feed(torch.zeros(len(x), dtype=torch.float64)),
            tolerance=1.0,
        )

    def altered(self, e: Equilibrium, states: Sequence[Tensor]) -> Equilibrium:
        """The same phase with other states, and nothing that the substrate remembers of it."""
        return dataclasses.replace(e, states=tuple(self.feed(s) for s in states), context=None)

    def anywhere(self, seed: int, spread: float = 1.0) -> list[Tensor]:
        """Random states for the rig's samples; activities lie in their range."""
        rng, found = np.random.default_rng(seed), []
        for population in self.network.populations:
            s = spread * torch.from_numpy(rng.uniform(-1, 1, (len(self.x), *population.shape)))
            act = population.activation
            if oracle.bounded(self.network) and act.low > -1e9:
                s = act.low + (act.high - act.low) * (s / spread + 1) / 2
            found.append(s)
        return found

    def states(self, e: Equilibrium) -> list[Tensor]:
        """s_1 .. s_L of each sample, means over repeats."""
        return [self.mean(s) for s in e.states]

    def mean(self, value: Array) -> Tensor:
        """Values of a batch that was fed, means over repeats."""
        tensor = take(value)
        return tensor.reshape(self.repeats, -1, *tensor.shape[1:]).mean(0)

    def unrest(self, e: Equilibrium, pull: oracle.Pull | None = None) -> float:
        """How far an equilibrium is from a stationary point of F, by the oracle."""
        return oracle.unrest(self.network, self.x, self.states(e), self.parameters(), pull)

    def pull(self, beta: float) -> oracle.Pull:
        """The case's nudge as the oracle sees it."""
        return oracle.cost_pull(beta, self.case.cost, self.target)

    def cost(self, e: Equilibrium) -> float:
        """The mean cost of an equilibrium's outputs."""
        return float(self.pull(1.0)(self.mean(e.outputs)).mean())

    def contrast(self, terms: Sequence[tuple[complex, Equilibrium]]) -> dict[str, Tensor]:
        """What the substrate makes of phases."""
        return {name: take(value) for name, value in self.substrate.contrast(terms).items()}

    def estimate(self, nudging: Nudging, beta: float) -> dict[str, Tensor]:
        """The gradient of the mean cost, as the learner puts it together."""
        free = self.free()
        terms = nudging.terms(beta, np.random.default_rng(0))
        return self.contrast([(-w, self.nudged(b, free) if b != 0 else free) for b, w in terms])

    def exact(self) -> dict[str, Tensor]:
        """The exact gradient of the mean cost at the free equilibrium, by the oracle."""
        free = self.states(self.free())
        return oracle.gradient(self.network, self.x, free, self.parameters(), self.case.cost, self.target)

    def learner(self) -> EquilibriumPropagation:
        """A learner on the substrate, with a nudging that it can do."""
        return EquilibriumPropagation(
            self.substrate,
            beta=self.beta,
            nudging="centered" if self.substrate.capabilities.negative_nudging else "one_sided",
            cost=self.case.cost,
        )

    def require(self, holds: bool, message: str) -> None:
        """Raise AssertionError unless it holds; the message is told the network."""
        if not holds:
            raise AssertionError(f"on {self.case}: {message}")

    def require_small(self, what: str, measured: float, allowed: float) -> None:
        """Raise AssertionError unless a measured error is within what is allowed."""
        self.require(
            measured <= allowed,
            f"{what} is {measured:.3g}; allowed is {allowed:.3g} (capabilities.tolerance is {self.tolerance:g})",
        )

    @contextmanager
    def refuses(self, what: str, *kinds: type[Exception]) -> Iterator[None]:
        """Raise AssertionError unless what is done inside raises one of these errors (`InputError`)."""
        kinds = kinds or (InputError,)
        names = " or ".join(f"mep_neuro.errors.{kind.__name__}" for kind in kinds)
        try:
            yield
        except kinds:
            return
        except Exception as other:
            raise AssertionError(f"on {self.case}: {what} raises {other!r}; it must raise {names}") from other
        raise AssertionError(f"on {self.case}: {what} goes through in silence; it must raise {names}")


def take(value: Array) -> Tensor:
    """Any array as a float64 (or complex) tensor on the CPU, of its own memory."""
    tensor = value.detach().cpu() if isinstance(value, Tensor) else torch.from_numpy(np.array(value))
    return tensor.to(torch.complex128 if tensor.is_complex() else torch.float64, copy=True)
