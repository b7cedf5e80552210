"""AdamUpdate: for what has no matrix to work on, and for the read-out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mep_neuro.errors import OptionError
from mep_neuro.optim.update import Statistics, Update


class AdamUpdate(Update):
    """m / (sqrt(v) + eps) with running means m of g and v of g^2, both corrected for their start at 0.

    Source: Kingma and Ba 2015, algorithm 1.
    """

    defaults: Mapping[str, Any] = {"betas": (0.9, 0.999), "eps": 1e-8}

    def direction(
        self,
        p: Tensor,
        gradient: Tensor,
        state: dict[str, Any],
        group: Mapping[str, Any],
        feedback: float | None,
        statistics: Statistics | None,
    ) -> Tensor:
        if "exp_avg" not in state:
            state |= {"exp_avg": torch.zeros_like(p), "exp_avg_sq": torch.zeros_like(p), "adam_steps": 0}
        one, two = group["betas"]
        state["adam_steps"] += 1
        mean, square, n = state["exp_avg"], state["exp_avg_sq"], state["adam_steps"]
        mean.lerp_(gradient, 1 - one)
        square.mul_(two).addcmul_(gradient, gradient, value=1 - two)
        step: Tensor = (mean / (1 - one**n)) / ((square / (1 - two**n)).sqrt() + group["eps"])
        return step

    def check(self, group: Mapping[str, Any]) -> None:
        betas = group["betas"]
        if len(betas) != 2 or not all(0 <= b < 1 for b in betas):
            raise OptionError(f"betas is {betas}; give two numbers in [0, 1)")
