"""Errors that say what is wrong with parameters, data and states."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, final

import torch
from torch import Tensor

from mep_neuro.errors import InputError, SettlingError
from mep_neuro_torch.relaxation import Phase, Relaxation
from mep_neuro_torch.solvers import Course


def check_finite(parameters: Mapping[str, Any]) -> None:
    """Raise `InputError` naming a parameter that is not finite."""
    for name, p in parameters.items():
        if not bool(torch.isfinite(torch.as_tensor(p)).all()):
            raise InputError(f"parameter {name!r} is not finite: the training diverged; lower the learning rate")


def check_samples(x: Tensor) -> None:
    """Raise `InputError` naming the first sample that is not finite."""
    bad = (~torch.isfinite(x)).flatten(1).any(1).nonzero()
    if len(bad):
        raise InputError(f"x is not finite in sample {int(bad[0])}: clean the data")


@final
class Watched(Relaxation):
    """A relaxation that looks at every state it is given, to tell where numbers stop being finite."""

    def __init__(self, inner: Relaxation, states: Sequence[Tensor], course: Course) -> None:
        self._inner, self._course = inner, course
        self.states, self.products = inner.states, inner.products
        for level, s in enumerate(states):
            inner.put(level, s)

    def minimum(self, level: int) -> Tensor:
        return self._inner.minimum(level)

    def put(self, level: int, s: Tensor) -> None:
        if not bool(torch.isfinite(s.abs()).all()):
            raise SettlingError(
                f"population {level + 1} is not finite in iteration {self._course.steps + 1} of the "
                f"{'nudged' if self._course.nudged else 'free'} phase: its loop runs away. Scale the weights down, "
                "use a bounded activation (nn.Hardsigmoid, nn.Hardtanh(0, 1)), or a smaller beta"
            )
        self._inner.put(level, s)

    def again(self, phase: Phase, rows: int) -> Relaxation:
        return self._inner.again(phase, rows)

    def local(self) -> tuple[list[Tensor], list[Tensor]]:
        return self._inner.local()
