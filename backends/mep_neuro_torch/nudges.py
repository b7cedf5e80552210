"""Nudges made ready for one stacked batch: all of them settle at once, (nudges * batch, ...)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor

from mep_neuro.activations import Activation, ClippedLinear
from mep_neuro.errors import InputError
from mep_neuro.types import Nudge
from mep_neuro_torch.minimisers import Pull
from mep_neuro_torch.operations import repeated

KEPT = 64


@final
class Nudger:
    """Turns nudges into pulls. Columns of beta are kept: moving one to a device would wait for it."""

    def __init__(self, activation: Activation) -> None:
        self._activation = activation
        self._columns: dict[tuple[object, ...], tuple[Tensor, Tensor, Tensor]] = {}

    def pull(self, nudges: Sequence[Nudge], outputs: Tensor) -> tuple[Pull, Tensor]:
        """The pull on the stacked outputs, and |beta| |dC/ds| of each row, (nudges * batch,)."""
        first, rows = nudges[0], len(nudges) * outputs.size(0)
        kind = "force" if first.force is not None else first.cost
        given = [n.target if n.force is None else n.force for n in nudges]
        if any(g is None for g in given) or any((n.force is None) != (first.force is None) for n in nudges):
            raise InputError("nudges that settle together need one kind each: a target with a cost, or a force")
        beta, gain, strength = self._column([n.beta for n in nudges], outputs, free=kind == "force")
        same = all(g is given[0] for g in given)
        wanted = given[0] if same else torch.cat([g for g in given if g is not None])
        assert wanted is not None
        stacked = repeated(wanted, rows) if same else wanted
        c, target = beta, None
        if kind == "force":
            c, size = torch.zeros_like(beta), wanted
        elif kind == "squared_error":
            size = wanted - (outputs if same else repeated(outputs, rows))
        else:
            target, p = stacked, torch.softmax(outputs, 1)
            size = wanted - (p if same else repeated(p, rows))
        size = size.abs().flatten(1).amax(1)
        q = beta * stacked
        push = q
        if isinstance(self._activation, ClippedLinear):
            a, b = self._activation.slope, self._activation.offset
            push = gain * (q + b / a if b else q)
        return Pull(self._activation, c, q, gain, push, target), strength * repeated(size, rows)

    def _column(self, betas: Sequence[complex], outputs: Tensor, *, free: bool) -> tuple[Tensor, Tensor, Tensor]:
        """beta, the gain slope / (1 + slope c) and |beta| for each row; c is 0 for a force."""
        turned = any(isinstance(beta, complex) for beta in betas)
        key = (tuple(betas), turned, free, outputs.size(0), outputs.dim(), outputs.dtype, outputs.device)
        if key not in self._columns:
            if len(self._columns) >= KEPT:
                self._columns.clear()
            dtype = outputs.dtype.to_complex() if turned else outputs.dtype
            values = torch.tensor(list(betas), dtype=dtype).to(outputs.device)
            beta = values.repeat_interleave(outputs.size(0)).view(-1, *[1] * (outputs.dim() - 1))
            a = self._activation.slope if isinstance(self._activation, ClippedLinear) else 1.0
            self._columns[key] = (beta, a / (1 + a * beta * (not free)), beta.abs().flatten())
        return self._columns[key]
