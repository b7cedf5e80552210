"""CompositeOptimizer: a torch optimizer put together from where the gradient comes from, how it becomes an update, what
bounds the weights, and what is fed back."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor
from typing_extensions import Self

from mep_neuro.errors import InputError, OptionError, did_you_mean
from mep_neuro.network import EnergyNetwork
from mep_neuro.optim.adam import AdamUpdate
from mep_neuro.optim.gradients import BackpropGradient, Closure, EPGradient, GradientSource
from mep_neuro.optim.spectral import SpectralConstraint
from mep_neuro.optim.update import PlainUpdate, Update

Groups: TypeAlias = Iterable[Tensor] | Iterable[dict[str, Any]]


@dataclass(frozen=True)
class ErrorFeedback:
    """What an update leaves out of a gradient is kept, and its share `decay` comes back with the next one.

    Source: Karimireddy et al. 2019, arXiv:1901.09847, algorithm 2.
    """

    decay: float = 0.9

    def __post_init__(self) -> None:
        if not 0 < self.decay <= 1:
            raise OptionError(f"the decay of the error feedback is {self.decay}; give a number in (0, 1]")


class CompositeOptimizer(torch.optim.Optimizer):
    """One step, for each parameter p with gradient g:

        d = update(g + what was left out before)      matrices and convolution kernels
        d = Adam(g)                                   biases, other shapes, and the read-out's weights
        p <- (1 - lr weight_decay) p - lr d
        p <- p min(1, gamma / sigma(p))               where a bound is set, for every coupling after the first

    The bound holds from the start: weights that are larger are scaled down when the optimizer is made, frozen ones
    left as they are.

    params:        parameters or parameter groups. A group may have an lr, weight_decay and options of its own.
    gradient:      `EPGradient`, `BackpropGradient` (default).
    update:        `PlainUpdate`, `MuonUpdate`, `DionUpdate`, `NaturalUpdate`.
    constraint:    `SpectralConstraint`, or None; it needs the network, and so a gradient source that knows it.
    feedback:      `ErrorFeedback`, or None; only for an update that leaves something out.
    max_grad_norm: scales all gradients down together where their norm is larger; None does not.
    options:       of the update and of Adam, such as `momentum`; param groups may have their own.

    `step(x=, target=)` with EP, `loss.backward(); step()` or `step(closure)` with backprop; both return the loss where
    it is known. `accumulate(x=, target=)` adds up EP's gradients for a `step()` without arguments.
    """

    def __init__(
        self,
        params: Groups,
        *,
        lr: float,
        weight_decay: float = 0.0,
        gradient: GradientSource | None = None,
        update: Update | None = None,
        constraint: SpectralConstraint | None = None,
        feedback: ErrorFeedback | None = None,
        max_grad_norm: float | None = None,
        **options: Any,
    ) -> None:
        self.gradient = BackpropGradient() if gradient is None else gradient
        self.update = PlainUpdate() if update is None else update
        self.rest: Update = AdamUpdate()
        self.constraint, self.feedback, self.max_grad_norm = constraint, feedback, max_grad_norm
        network = self.gradient.network
        if constraint is not None and network is None:
            raise OptionError("a spectral bound holds for every coupling after the first: give the model as well")
        if feedback is not None and not self.update.compresses:
            raise OptionError(
                f"{type(self.update).__name__} leaves nothing out: error feedback has nothing to feed back"
            )
        if max_grad_norm is not None and not max_grad_norm > 0:
            raise OptionError(f"max_grad_norm is {max_grad_norm}; give a number above 0, or None")
        self._read_out, self._bounded = _roles(network)
        known = {**self.rest.defaults, **self.update.defaults}
        for name in options:
            if name not in known:
                raise OptionError(f"no option {name!r}; there are: {', '.join(known)}.{did_you_mean(name, known)}")
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, **known, **options})
        if network is not None and not self._owned(network, self._parameters()):
            raise InputError("the optimizer holds none of the model's parameters: give it model.parameters()")

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        given = group["params"]
        try:
            for name in sorted(set(group) - {"params", "param_names", *self.defaults}):
                near = did_you_mean(name, self.defaults)
                raise OptionError(f"no option {name!r}; there are: {', '.join(self.defaults)}.{near}")
            for name in ("lr", "weight_decay"):
                if not (math.isfinite(group[name]) and group[name] >= 0):
                    raise OptionError(f"{name} is {group[name]}; it must be 0 or above")
            self.update.check(group)
            self.rest.check(group)
            network = self.gradient.network
            if isinstance(self.gradient, EPGradient) and network and len(self._owned(network, given)) < len(given):
                raise InputError("a parameter is not the model's, and EP has no gradient for it: leave it out")
        except InputError:
            self.param_groups.pop()
            raise
        for p in given:
            self._bound(p)

    @torch.no_grad()
    def step(self, closure: Closure | None = None, *, x: Tensor | None = None, target: Tensor | None = None) -> Any:
        """Make the gradient (EP: of x and target), and step."""
        loss = self.gradient.fill(self._parameters(), closure, x, target)
        self._clip()
        statistics = self.gradient.statistics()
        feedback = None if self.feedback is None else self.feedback.decay
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None or not p.requires_grad:
                    continue
                update = self.update if self._is_matrix(p) else self.rest
                d = update.direction(p, p.grad, self.state[p], group, feedback, statistics.get(id(p)))
                if group["weight_decay"]:
                    p.mul_(1 - group["lr"] * group["weight_decay"])
                p.add_(d, alpha=-float(group["lr"]))
                self._bound(p)
        return loss

    def accumulate(self, *, x: Tensor, target: Tensor) -> Tensor:
        """Add EP's gradient of a batch to each `p.grad`; returns the batch's mean free cost."""
        if not isinstance(self.gradient, EPGradient):
            raise InputError("accumulate belongs to mode='ep'; in mode='backprop' call loss.backward() several times")
        return self.gradient.accumulate(x, target)

    def to(self, device: torch.device | str) -> Self:
        """Bring the optimizer's own tensors to where the model has gone."""
        for state in self.state.values():
            state |= {name: v.to(device) if isinstance(v, Tensor) else v for name, v in state.items()}
        return self

    def close(self) -> None:
        """Close a substrate that was opened here; twice is safe."""
        self.gradient.close()

    def _parameters(self) -> list[Tensor]:
        return [p for group in self.param_groups for p in group["params"]]

    @staticmethod
    def _owned(network: EnergyNetwork, given: Iterable[Tensor]) -> list[Tensor]:
        own = {id(p) for p in network.module.parameters()}
        return [p for p in given if id(p) in own]

    def _is_matrix(self, p: Tensor) -> bool:
        return p.dim() >= 2 and p.numel() > 0 and id(p) not in self._read_out and self.update.applies(p)

    @torch.no_grad()
    def _bound(self, p: Tensor) -> None:
        operation = self._bounded.get(id(p))
        if self.constraint is not None and operation is not None and p.requires_grad:
            self.constraint.enforce(p, operation, self.state[p])

    def _clip(self) -> None:
        if self.max_grad_norm is not None:
            torch.nn.utils.clip_grad_norm_([p for p in self._parameters() if p.requires_grad], self.max_grad_norm)


def _roles(network: EnergyNetwork | None) -> tuple[set[int], Mapping[int, Any]]:
    """Ids of the read-out's weight, and the operation of each weight after the first coupling."""
    if network is None:
        return set(), {}
    own, couplings = network.parameters, network.couplings
    weighted = [(level, c.weighted) for level, c in enumerate(couplings) if c.weighted is not None]
    bounded = {id(own[o.weight]): o for level, o in weighted if level > 0}
    last = couplings[-1].weighted
    read_out = {id(own[last.weight])} if last is not None and len(couplings) > 1 else set()
    return read_out, bounded
