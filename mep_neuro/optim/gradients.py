"""Where a gradient comes from: equilibrium propagation on a substrate, or backpropagation."""

from __future__ import annotations

import abc
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from mep_neuro.backend import Backend
from mep_neuro.costs import cost
from mep_neuro.costs import encode_target as encoded
from mep_neuro.couplings import Dense
from mep_neuro.errors import InputError, OptionError
from mep_neuro.network import EnergyNetwork
from mep_neuro.nudging import Nudging
from mep_neuro.optim.update import Statistics
from mep_neuro.propagation import EquilibriumPropagation, Phases
from mep_neuro.registry import backend as open_backend

Closure = Callable[[], Any]


class GradientSource(abc.ABC):
    """Fills each `p.grad`."""

    network: EnergyNetwork | None = None
    """What the parameters belong to, where that is known."""

    @abc.abstractmethod
    def fill(
        self, parameters: Iterable[Tensor], closure: Closure | None, x: Tensor | None, target: Tensor | None
    ) -> Any:
        """Make the gradient of one step; returns the loss, where it is known."""

    def statistics(self) -> Mapping[int, Statistics]:
        """Of the last gradient, by the id of a weight; nothing where none are kept."""
        return {}

    def close(self) -> None:  # noqa: B027  # most hold nothing
        """Give back what is held."""


class BackpropGradient(GradientSource):
    """Gradients by autograd, as every torch optimizer has them: `loss.backward()`, then `step()`, or a closure."""

    def __init__(self, network: EnergyNetwork | None = None) -> None:
        self.network = network

    def fill(
        self, parameters: Iterable[Tensor], closure: Closure | None, x: Tensor | None, target: Tensor | None
    ) -> Any:
        if x is not None or target is not None:
            raise InputError(
                "step(x=..., target=...) belongs to mode='ep'; in mode='backprop' call loss.backward(), then step()"
            )
        if closure is None:
            return None
        with torch.enable_grad():
            return closure()


class EPGradient(GradientSource):
    """Gradients by equilibrium propagation on a substrate: no `backward()`.

    model:    the `nn.Sequential` whose parameters are trained, or an `EnergyNetwork`.
    backend:  a backend's name, opened here on the network, or an open substrate of this model.
    energy:   "hopfield" or "prediction_error"; left out where the network or the substrate has one.
    keep:     whether `statistics` are kept for a natural gradient (dense couplings of the Hopfield energy).
    options:  of the backend, where it is opened by name.
    """

    def __init__(
        self,
        model: nn.Sequential | EnergyNetwork,
        *,
        backend: str | Backend = "torch",
        energy: str | None = None,
        beta: float = 0.5,
        nudging: Nudging | str = "centered",
        cost: str = "squared_error",
        seed: int = 0,
        keep: bool = False,
        **options: Any,
    ) -> None:
        if isinstance(backend, Backend):
            if options:
                raise OptionError(f"{', '.join(options)} cannot be given with an open substrate: open it with them")
            network = backend.network
            if network.module is not (model.module if isinstance(model, EnergyNetwork) else model):
                raise InputError("the open substrate holds another model: open it on this one")
        elif isinstance(model, EnergyNetwork):
            network = model
        else:
            network = EnergyNetwork.from_module(model, energy=energy or "hopfield")
        if energy is not None and network.energy_name != energy:
            raise OptionError(f"energy is {energy!r}, but the network has {network.energy_name!r}: give one of the two")
        if keep and network.energy_name != "hopfield":
            raise OptionError("a natural gradient needs the local statistics of the hopfield energy: energy='hopfield'")
        if keep:
            _check_dense(network)
        self.network = network
        self._own = not isinstance(backend, Backend)
        substrate = open_backend(backend, network, seed=seed, **options) if isinstance(backend, str) else backend
        self.learner = EquilibriumPropagation(substrate, beta=beta, nudging=nudging, cost=cost, seed=seed)
        self._keep, self._statistics = keep, dict[int, Statistics]()

    def fill(
        self, parameters: Iterable[Tensor], closure: Closure | None, x: Tensor | None, target: Tensor | None
    ) -> Any:
        if closure is not None:
            raise InputError("in mode='ep' there is no closure: give step(x=..., target=...)")
        if x is None and target is None and any(p.grad is not None for p in parameters):
            return None  # gradients that `accumulate` put there
        if x is None or target is None:
            raise InputError("in mode='ep' a step needs both: optimizer.step(x=inputs, target=labels)")
        return self.accumulate(x, target, add=False)

    def accumulate(self, x: Tensor, target: Tensor, *, add: bool = True) -> Tensor:
        """Estimate a batch's gradient and add it to each `p.grad`, or put it there; returns the mean free cost."""
        learner = self.learner
        phases = learner.relax(x, target)
        learner.put(learner.gradient(phases.terms), accumulate=add)
        outputs = learner.outputs(phases.free)
        if self._keep:
            self._statistics = self._local(phases)
        return cost(
            learner.cost, outputs, encoded(target.to(outputs.device), tuple(outputs.shape[1:]), outputs.dtype)
        ).mean()

    def statistics(self) -> Mapping[int, Statistics]:
        return self._statistics

    def close(self) -> None:
        if self._own:
            self.learner.substrate.close()

    def _local(self, phases: Phases) -> dict[int, Statistics]:
        """pre: s_{l-1} at the free equilibrium; post: sum_k w_k s_l at the nudged ones, -dC/d(drive) in the limit."""
        network, found = self.learner.network, dict[int, Statistics]()
        own = network.parameters
        below = [phases.free.x, *phases.free.states]
        for level, coupling in enumerate(network.couplings):
            o = coupling.weighted
            if not isinstance(o, Dense) or not own[o.weight].requires_grad:
                continue
            p = own[o.weight]
            parts = [weight * torch.as_tensor(e.states[level]) for weight, e in phases.terms]
            post = torch.stack([torch.real(part) if part.is_complex() else part for part in parts]).sum(0)
            pre = torch.as_tensor(below[level])
            found[id(p)] = Statistics(pre.flatten(1).to(p), post.flatten(1).to(p))
        return found


def _check_dense(network: EnergyNetwork) -> None:
    """Raise `OptionError` where a trained weight does not stand between two populations as they are."""
    for coupling in network.couplings:
        o = coupling.weighted
        if o is None or o.weight not in network.trained:
            continue
        if not isinstance(o, Dense) or o.in_shape[0] != math.prod(coupling.in_shape):
            raise OptionError(
                f"a natural gradient is for nn.Linear on a population, and {o.weight!r} is not one's weight: "
                "freeze it, or use smep"
            )
