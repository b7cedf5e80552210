"""What a torch optimizer's steps cost, read off the optimizer itself."""

from __future__ import annotations

import torch

from mep_neuro.accounting.formulas import optimizer_step
from mep_neuro.counts import OperationCounts


def optimizer_counts(optimizer: torch.optim.Optimizer) -> OperationCounts:
    """Counts of one step of a torch optimizer (see `optimizer_step`). Its buffers are the tensors of a parameter's own
    shape in its state, so they are known once it has made a step."""
    counts = OperationCounts()
    for group in optimizer.param_groups:
        for p in group["params"]:
            if p.grad is None:
                continue
            held = {name: value for name, value in optimizer.state.get(p, {}).items() if name != "step"}
            buffers = sum(isinstance(value, torch.Tensor) and value.shape == p.shape for value in held.values())
            counts += optimizer_step(p.numel(), buffers, p.element_size())
    return counts
