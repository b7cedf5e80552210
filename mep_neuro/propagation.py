"""EquilibriumPropagation: the gradient of a cost from phases of settling and a local contrast."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mep_neuro.backend import Backend
from mep_neuro.costs import check_cost, encode_target
from mep_neuro.errors import CapabilityError, InputError
from mep_neuro.nudging import Nudging, nudging_of
from mep_neuro.types import Array, Equilibrium, Nudge


@dataclass(frozen=True)
class Phases:
    """The settled phases of one batch: the free one, and (weight, equilibrium) whose contrast is the gradient."""

    free: Equilibrium
    terms: tuple[tuple[complex, Equilibrium], ...]

    @property
    def nudged(self) -> tuple[Equilibrium, ...]:
        """The phases with a nudge."""
        return tuple(e for _, e in self.terms if e.nudge is not None)


class EquilibriumPropagation:
    """Estimates dC/dtheta on a substrate (Scellier and Bengio 2017), for any optimizer that reads `p.grad`:

        free phase      s_0 = argmin_s E(s; x)
        nudged phases   s_b = argmin_s E(s; x) + b C(s, target)
        gradient        sum_k w_k dE/dtheta(s_{b_k})        (the nudging gives b_k and w_k)

    substrate: an open backend.
    beta:      strength of the nudge, positive. Smaller is less biased; larger stands out of noise better.
    nudging:   `"centered"`, `"one_sided"`, `"random_sign"`, `"holomorphic"`, or such a value.
    cost:      `"squared_error"` or `"cross_entropy"`.
    seed:      of the random sign.

    Raises `CapabilityError` where the substrate cannot do this, before anything runs.
    """

    def __init__(
        self,
        substrate: Backend,
        *,
        beta: float = 0.5,
        nudging: Nudging | str = "centered",
        cost: str = "squared_error",
        seed: int = 0,
    ) -> None:
        self.substrate = substrate
        self.network = substrate.network
        self.beta = beta
        self.nudging = nudging_of(nudging)
        self.cost = check_cost(cost)
        self.network.check_cost(cost)
        self._check_beta()
        self._check_capabilities()
        self._rng = np.random.default_rng(seed)
        self._written: dict[str, Tensor] = {}

    def estimate(
        self,
        x: Tensor,
        target: Tensor | None = None,
        *,
        force: Tensor | Callable[[Tensor], Tensor] | None = None,
        accumulate: bool = False,
    ) -> dict[str, Tensor]:
        """The gradient of the batch's mean cost, by parameter name; it is also put into each `p.grad`.

        x:          (batch, *inputs).
        target:     integer labels (batch,), or values (batch, *outputs).
        force:      instead of a target, any force on the outputs (batch, *outputs), or a function that gives it from
                    the free outputs; the gradient is then that of -<force, outputs>.
        accumulate: add to `p.grad` instead of replacing it. Frozen parameters get no gradient.
        """
        terms = self.relax(x, target, force=force).terms  # a free phase that is no term is let go before the contrast
        gradient = self.gradient(terms)
        self.put(gradient, accumulate=accumulate)
        return gradient

    def put(self, gradient: dict[str, Tensor], *, accumulate: bool = False) -> None:
        """Put a gradient into each `p.grad`, in place of what is there or on top of it."""
        for name, p in self.network.parameters.items():
            if name in gradient:
                p.grad = p.grad + gradient[name] if accumulate and p.grad is not None else gradient[name]

    def relax(
        self,
        x: Tensor,
        target: Tensor | None = None,
        *,
        force: Tensor | Callable[[Tensor], Tensor] | None = None,
    ) -> Phases:
        """Settle all phases of one estimate. Arguments as in `estimate`."""
        if (target is None) == (force is None):
            raise InputError("give a target or a force, one of the two")
        if target is not None and len(target) != len(x):
            raise InputError(f"x has {len(x)} samples, but the target has {len(target)}")
        if force is not None and not self.substrate.capabilities.forces:
            raise CapabilityError(f"{type(self.substrate).__name__} nudges by a target only, not by a force")
        encoded = None if target is None else self._encode(target)
        free = self.free(x)
        if callable(force):
            force = force(self.outputs(free))
        if force is not None and force.shape != (len(x), *self.network.outputs.shape):
            raise InputError(f"the force has shape {tuple(force.shape)}; give that of the outputs")
        kinds = {
            "target": None if encoded is None else self._give(encoded),
            "force": None if force is None else self._give(force),
        }
        terms = self.nudging.terms(self.beta, self._rng)
        nudges = [Nudge(beta=beta, cost=self.cost, **kinds) for beta, _ in terms if beta != 0]
        nudged = iter(self.substrate.settle_each(free.x, nudges, free))
        return Phases(free, tuple((weight, next(nudged) if beta != 0 else free) for beta, weight in terms))

    def gradient(self, terms: Sequence[tuple[complex, Equilibrium]]) -> dict[str, Tensor]:
        """The contrast of settled phases, `Phases.terms`, as a gradient; nothing is put anywhere."""
        contrast = self.substrate.contrast([(-weight, e) for weight, e in terms])
        own = self.network.parameters
        return {name: _tensor(value, own[name]) for name, value in contrast.items() if own[name].requires_grad}

    def learn(self, x: Tensor, target: Tensor, *, rate: float) -> Tensor:
        """Resident learning: the substrate settles and changes its own weights; the module's follow.

        Returns the free outputs (batch, *outputs) from before the change. Needs a substrate with that capability.
        """
        if not self.substrate.capabilities.resident_learning:
            raise CapabilityError(f"{type(self.substrate).__name__} cannot change its own weights: use estimate()")
        outputs = self.predict(x)
        self.substrate.learn(
            self._give(self.network.batch(x)), self._give(self._encode(target)), rate=rate, beta=self.beta
        )
        held = self.substrate.read()
        with torch.no_grad():
            for name, p in self.network.parameters.items():
                p.copy_(_tensor(held[name], p))
                self._written[name] = p.detach().clone()
        return outputs

    def free(self, x: Tensor) -> Equilibrium:
        """The free equilibrium, with the substrate brought up to date first."""
        x = self.network.batch(x)
        if len(x) == 0:
            raise InputError("the batch is empty")
        self.update_substrate()
        return self.substrate.settle(self._give(x))

    def predict(self, x: Tensor) -> Tensor:
        """The network's answer, (batch, *outputs): the outputs of the free phase. Dropout follows the module's
        `train()` and `eval()`."""
        return self.outputs(self.free(x))

    def outputs(self, equilibrium: Equilibrium) -> Tensor:
        """An equilibrium's outputs as a tensor like the parameters."""
        return torch.as_tensor(equilibrium.outputs).to(self.network.device, self.network.dtype)

    def update_substrate(self) -> None:
        """Bring the substrate's parameters up to date with the module's, which are put in range first
        (`EnergyNetwork.project`).

        Nothing where it shares the module's tensors; otherwise all are programmed the first time, and after a change
        either programmed again or given the difference (`apply`), as the substrate's capabilities say. Values are
        compared, so that no way of changing them goes unseen.
        """
        self.network.project()
        capabilities = self.substrate.capabilities
        if capabilities.shares_parameters:
            return
        own = {name: p.detach() for name, p in self.network.parameters.items()}
        if self._written and all(torch.equal(own[name], old) for name, old in self._written.items()):
            return
        for name, p in own.items():
            if not bool(torch.isfinite(p).all()):
                raise InputError(f"parameter {name!r} is not finite: the training diverged; lower the learning rate")
        if self._written and capabilities.writes == "apply":
            self.substrate.apply({name: self._give(p - self._written[name]) for name, p in own.items()})
        else:
            self.substrate.program({name: self._give(p) for name, p in own.items()})
        self._written = {name: p.clone() for name, p in own.items()}

    def substrate_state(self) -> dict[str, dict[str, Tensor]]:
        """What a substrate with parameters of its own holds, and the module's values when it was last written."""
        if self.substrate.capabilities.shares_parameters or not self._written:
            return {}
        held = {name: torch.as_tensor(value).clone() for name, value in self.substrate.read().items()}
        return {"held": held, "written": dict(self._written)}

    def restore_substrate(self, state: dict[str, dict[str, Tensor]]) -> None:
        """Bring a fresh substrate to what `substrate_state` told."""
        if state and not self.substrate.capabilities.shares_parameters:
            numpy = self.substrate.capabilities.arrays == "numpy"  # in its own precision, whatever the module's is
            held = {name: value.cpu().numpy() if numpy else value for name, value in state["held"].items()}
            self.substrate.program(held)
            self._written = dict(state["written"])

    def reseed(self, seed: int) -> None:
        """Restart all randomness: the sign of the nudge and the substrate's own."""
        self._rng = np.random.default_rng(seed)
        self.substrate.reseed(seed)

    def _encode(self, target: Tensor) -> Tensor:
        encoded = encode_target(target, self.network.outputs.shape, self.network.dtype)
        if target.is_floating_point():
            if not bool(torch.isfinite(encoded).all()):
                raise InputError("the target is not finite")
            if self.cost == "cross_entropy" and bool(((encoded.sum(1) - 1).abs() > 1e-4).any()):
                raise InputError("cross_entropy takes labels, or targets whose values sum to 1")
        return encoded

    def _give(self, value: Tensor) -> Array:
        """A tensor as the kind of array that the substrate takes."""
        if self.substrate.capabilities.arrays == "torch":
            return value.to(self.network.device, self.network.dtype)
        array = value.detach().cpu().numpy()
        if not np.isfinite(array).all():
            raise InputError("the data hold NaN or infinity: clean them")
        return array

    def _check_beta(self) -> None:
        if not (math.isfinite(self.beta) and self.beta > 0):
            raise InputError(
                f"beta is {self.beta}; give a positive number. For a negative nudge choose the nudging: "
                '"centered" runs both signs, "random_sign" draws one'
            )
        limit = self.network.steepest_negative_beta(self.cost)
        if self.nudging.negative and self.beta >= limit:
            raise InputError(
                f"beta is {self.beta}, but pushing these outputs away from the target has no minimum "
                f'from beta = {limit:g} on: choose a smaller beta or nudging="one_sided"'
            )

    def _check_capabilities(self) -> None:
        kind, capabilities = type(self.substrate).__name__, self.substrate.capabilities
        if self.cost not in capabilities.costs:
            raise CapabilityError(
                f"{kind} cannot nudge by {self.cost}; it takes: {', '.join(sorted(capabilities.costs))}"
            )
        if self.nudging.complex:
            if not capabilities.complex_nudging:
                raise CapabilityError(f"{kind} has no complex states: use nudging='centered'")
            bent = [p.activation for p in self.network.populations if not p.activation.holomorphic]
            if bent or self.network.energy_name != "hopfield":
                raise CapabilityError(
                    "holomorphic nudging needs the hopfield energy and activations that extend to complex numbers "
                    f"(Sigmoid, Tanh, Identity); the network has {bent[0] if bent else self.network.energy_name}"
                )
        elif self.nudging.negative and not capabilities.negative_nudging:
            raise CapabilityError(f"{kind} cannot nudge with negative beta: use nudging='one_sided'")


def _tensor(value: Array, like: Tensor) -> Tensor:
    return torch.as_tensor(value).to(like.device, like.dtype)
