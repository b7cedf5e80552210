"""Update: how the gradient of one parameter becomes a direction. The protocol, and the plain one."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mep_neuro.errors import OptionError


class Statistics(NamedTuple):
    """What the two ends of a coupling's synapses saw in one estimate.

    pre:  states below, (batch, inputs).
    post: the nudged difference of the states above over the difference in beta, (batch, outputs): an estimate of
          -dC/d(drive) a sample, with the sign that a descent has.
    """

    pre: Tensor
    post: Tensor


class Update(abc.ABC):
    """How the gradient of one parameter becomes a direction; the parameter moves by -lr x direction.

    defaults:   its options, which become entries of the parameter groups: a group may have values of its own.
    compresses: whether something of the gradient is left out, which error feedback could bring back.
    """

    defaults: Mapping[str, Any]
    compresses: bool = False

    @staticmethod
    def applies(p: Tensor) -> bool:
        """Whether this update can take a parameter; all that it cannot take goes to another one."""
        return True

    @abc.abstractmethod
    def direction(
        self,
        p: Tensor,
        gradient: Tensor,
        state: dict[str, Any],
        group: Mapping[str, Any],
        feedback: float | None,
        statistics: Statistics | None,
    ) -> Tensor:
        """The direction for one parameter, in its shape; neither p nor its gradient is changed.

        state:      the parameter's own: tensors and numbers only.
        feedback:   None without error feedback, else the share in (0, 1] of what was left out that comes back.
        statistics: of the coupling whose weight this is, where the gradient came from EP on dense couplings.
        """

    def check(self, group: Mapping[str, Any]) -> None:
        """Raise `OptionError` for options of a group that make no sense."""
        momentum = group["momentum"]
        if not 0 <= momentum < 1:
            raise OptionError(f"momentum is {momentum}; it must lie in [0, 1)")


def with_momentum(gradient: Tensor, state: dict[str, Any], momentum: float, nesterov: bool = False) -> Tensor:
    """b <- momentum b + g, and b, or g + momentum b with Nesterov's look ahead; g itself without momentum."""
    if momentum == 0:
        return gradient
    if "momentum_buffer" not in state:
        state["momentum_buffer"] = torch.zeros_like(gradient)
    buffer: Tensor = state["momentum_buffer"]
    buffer.mul_(momentum).add_(gradient)
    return gradient + momentum * buffer if nesterov else buffer


class PlainUpdate(Update):
    """Gradient descent with heavy-ball momentum, b <- momentum b + g, as `torch.optim.SGD` has it."""

    defaults: Mapping[str, Any] = {"momentum": 0.9}

    def direction(
        self,
        p: Tensor,
        gradient: Tensor,
        state: dict[str, Any],
        group: Mapping[str, Any],
        feedback: float | None,
        statistics: Statistics | None,
    ) -> Tensor:
        return with_momentum(gradient, state, group["momentum"])
