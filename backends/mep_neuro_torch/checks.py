"""Errors that say what is wrong with parameters, data and states."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, final

import torch
from torch import Tensor

from mep_neuro.errors import InputError
from mep_neuro.network import EnergyNetwork
from mep_neuro.settling import GROWTH, RUNAWAY, can_run_away, runs_away
from mep_neuro_torch.relaxation import Phase, Relaxation
from mep_neuro_torch.solvers import Course, largest_change


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
    """A relaxation that looks at every state it is given, to tell where numbers stop being finite, or grow."""

    def __init__(
        self, inner: Relaxation, states: Sequence[Tensor], course: Course, network: EnergyNetwork, batch: int
    ) -> None:
        self._inner, self._course, self._network, self._batch = inner, course, network, batch
        self.states, self.products = inner.states, inner.products
        self._changes = defaultdict[int, dict[int, Tensor]](dict)  # by iteration, then by level: (rows,)
        for level, s in enumerate(states):
            inner.put(level, s)

    def minimum(self, level: int) -> Tensor:
        return self._inner.minimum(level)

    def put(self, level: int, s: Tensor) -> None:
        self._look(level, s, self.states[level])
        self._inner.put(level, s)

    def pass_errors(self) -> None:
        before = list(self.states)
        self._inner.pass_errors()
        for level, s in enumerate(self.states):
            self._look(level, s, before[level])

    def check_growth(self) -> None:
        """Raise `SettlingError` for a sample whose last change is large and grows (see `mep_neuro.settling`)."""
        course, changes = self._course, [list(by_level.values()) for by_level in self._changes.values()]
        if len(changes) < 3 or not can_run_away([p.activation for p in self._network.populations]):
            return
        first, before, last = (torch.stack(changes[step]).amax(0) for step in (0, -2, -1))
        lost = (course.residual > RUNAWAY) & (last > before) & (last >= GROWTH * first)
        if bool(lost.any()):
            row, by_level = int(lost.int().argmax()), self._changes[course.steps]
            level = max(by_level, key=lambda level: float(by_level[level][row]))
            raise runs_away(
                f"population {level + 1} still moves by {float(course.residual[row]):.3g} scales in iteration "
                f"{course.steps} of the {self._phase} phase (sample {row % self._batch}), and by more each time",
                self._network.energy_name,
            )

    @property
    def _phase(self) -> str:
        return "nudged" if self._course.nudged else "free"

    def _look(self, level: int, s: Tensor, old: Tensor) -> None:
        step = self._course.steps + 1
        if not bool(torch.isfinite(s.abs()).all()):
            what = f"population {level + 1} is not finite in iteration {step} of the {self._phase} phase"
            raise runs_away(what, self._network.energy_name)
        self._changes[step][level] = largest_change(s, old, self._course.scale.size(0))

    def again(self, phase: Phase, rows: int) -> Relaxation:
        return self._inner.again(phase, rows)

    def local(self) -> tuple[list[Tensor], list[Tensor]]:
        return self._inner.local()
