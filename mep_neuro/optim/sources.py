"""What a factory's arguments stand for: where the gradient comes from, and what is fed back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

from torch import nn

from mep_neuro.backend import Backend
from mep_neuro.errors import OptionError, did_you_mean
from mep_neuro.network import EnergyNetwork
from mep_neuro.optim.composite import ErrorFeedback
from mep_neuro.optim.gradients import BackpropGradient, EPGradient, GradientSource

Model: TypeAlias = nn.Sequential | EnergyNetwork
Mode: TypeAlias = Literal["ep", "backprop"]

COSTS = {"mse": "squared_error", "cross_entropy": "cross_entropy"}


def source_of(
    model: Model,
    mode: str,
    given: Mapping[str, Any],
    *,
    beta: float,
    steps: int,
    loss_type: str = "mse",
    keep: bool = False,
) -> GradientSource:
    """The gradient source, of what was given (None: not given) and of a factory's own defaults."""
    if mode not in ("ep", "backprop"):
        raise OptionError(f"mode is {mode!r}; give 'ep' or 'backprop'.{did_you_mean(str(mode), ('ep', 'backprop'))}")
    named = [name for name, value in given.items() if value is not None]
    if mode == "backprop":
        if named:
            raise OptionError(f"{', '.join(named)} belong to mode='ep', and the mode is 'backprop': leave them out")
        return BackpropGradient(network_of(model))
    loss = loss_type if given["loss_type"] is None else given["loss_type"]
    if loss not in COSTS:
        raise OptionError(
            f"loss_type is {loss!r}; give {' or '.join(map(repr, COSTS))}.{did_you_mean(str(loss), COSTS)}"
        )
    options: dict[str, Any] = {}
    if isinstance(given["backend"], Backend):
        settling = [name for name in ("settle_steps", "settle_lr", "seed") if given[name] is not None]
        if settling:
            raise OptionError(f"{', '.join(settling)} cannot be given with an open substrate: open it with them")
    else:
        options = {"max_steps": steps if given["settle_steps"] is None else given["settle_steps"]}
        if given["settle_lr"] is not None:
            options |= {"solver": "euler", "step_size": given["settle_lr"]}
    return EPGradient(
        model,
        backend="torch" if given["backend"] is None else given["backend"],
        energy=given["energy"],
        beta=beta if given["beta"] is None else given["beta"],
        nudging="centered" if given["nudging"] is None else given["nudging"],
        cost=COSTS[loss],
        seed=given["seed"] or 0,
        keep=keep,
        **options,
    )


def feedback_of(use: bool, decay: float) -> ErrorFeedback | None:
    """Error feedback, where it is asked for."""
    return ErrorFeedback(decay) if use else None


def network_of(model: Model) -> EnergyNetwork:
    """A model's network."""
    return model if isinstance(model, EnergyNetwork) else EnergyNetwork.from_module(model)
