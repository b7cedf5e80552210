"""Solvers: ways to bring the states of a phase to rest by their block minimisers m_l(s).

    even_odd      all even levels s_l <- m_l(s), then all odd ones: never raises E, whatever the weights
    synchronous   all levels at once from the old states; half as fast, and no descent is guaranteed
    euler         s_l <- s_l + h (m_l(s) - s_l) at once, h = `step_size`: the leaky flow ds/dt = rho(drive) - s
    errors        prediction_error only: e_L off the outputs, e_l <- rho'(s_l) f_{l+1}^T(e_{l+1}) from the top down,
                  then s_l <- mu_l + e_l from the bottom up; a nudge goes through any depth in one iteration
    anderson      synchronous, extrapolated from the last 4 steps by least squares, for each sample

Sources: Scellier et al. 2023 (even/odd), Goemaere et al. 2025, arXiv:2505.20137 (errors), Laborieux et al. 2021
(synchronous), Scellier and Bengio 2017 (flow), Walker and Ni 2011 (Anderson). Nothing in the loops waits for the device
unless a tolerance asks for early stopping.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from mep_neuro_torch.operations import by_copies, repeated
from mep_neuro_torch.relaxation import Relaxation

ANDERSON_MEMORY = 4
ANDERSON_RIDGE = 1e-10


@dataclass
class Course:
    """How a settling goes: its limits, and what came of it."""

    max_steps: int
    min_steps: int
    scale: Tensor
    """(batch,), what a change of states is measured against."""
    tolerance: float | None
    """Stop once every sample's residual is no larger; None runs all steps."""
    step_size: float
    """h of the Euler solver."""
    nudged: bool
    reached: bool
    """Whether every level may be away from rest at the start."""
    updates: list[int]
    """Samples updated, by level."""
    residual: Tensor
    """(batch,), the last measured change over the scale."""
    steps: int = 0
    """Iterations done."""

    def measures(self, step: int) -> bool:
        """Whether this iteration's changes must be measured."""
        return step == self.max_steps or (self.tolerance is not None and step >= self.min_steps)

    def ends(self, step: int, change: Tensor | None) -> bool:
        """Note the change that an iteration made; say whether it was the last one."""
        self.steps = step
        if change is None:
            return False
        self.residual = change / self.scale
        return self.tolerance is not None and bool((self.residual <= self.tolerance).all())


def even_odd(relaxation: Relaxation, course: Course) -> None:
    """Even/odd block sweeps. In a nudged phase the nudge travels one level each half sweep, starting at the outputs;
    levels that it has not reached yet are at rest and are left alone."""
    top = len(relaxation.states) - 1
    first = top % 2 if course.nudged else (top + 1) % 2  # where states are away from their minimum
    half = 0
    for step in range(1, course.max_steps + 1):
        change = None
        for parity in (first, 1 - first):
            for level in range(top - (top - parity) % 2, -1, -2):
                if not course.reached and top - level > half:
                    continue
                s = relaxation.minimum(level)
                if course.measures(step):
                    change = _larger(change, largest_change(s, relaxation.states[level], course.scale.size(0)))
                relaxation.put(level, s)
                course.updates[level] += s.size(0)
            half += 1
        if course.ends(step, change):
            return


def synchronous(relaxation: Relaxation, course: Course) -> None:
    """All levels at once."""
    _at_once(relaxation, course, lambda new, old: new)


def euler(relaxation: Relaxation, course: Course) -> None:
    """The leaky flow in steps of h."""

    def move(new: list[Tensor], old: list[Tensor]) -> list[Tensor]:
        return [torch.lerp(repeated(o, n.size(0)), n, course.step_size) for n, o in zip(new, old, strict=True)]

    _at_once(relaxation, course, move)


def anderson(relaxation: Relaxation, course: Course) -> None:
    """Synchronous steps with Anderson's extrapolation over the last few."""
    history: list[tuple[Tensor, Tensor]] = []

    def extrapolate(new: list[Tensor], old: list[Tensor]) -> list[Tensor]:
        rows = course.scale.size(0)
        new, old = ([repeated(s, rows) for s in states] for states in (new, old))
        g = torch.cat([s.flatten(1) for s in new], 1)
        f = g - torch.cat([s.flatten(1) for s in old], 1)
        history.append((g, f))
        del history[:-ANDERSON_MEMORY]
        mixed = _mix(history)
        parts = torch.split_with_sizes(mixed, [s[0].numel() for s in new], 1)
        return [part.reshape(s.shape) for part, s in zip(parts, new, strict=True)]

    _at_once(relaxation, course, extrapolate)


def errors(relaxation: Relaxation, course: Course) -> None:
    """Errors down, states up. Where it comes to rest, every block's gradient is 0; it does where the nudge is small."""
    for step in range(1, course.max_steps + 1):
        old, change = list(relaxation.states), None
        relaxation.pass_errors()
        for level, s in enumerate(relaxation.states):
            if course.measures(step):
                change = _larger(change, largest_change(s, old[level], course.scale.size(0)))
            course.updates[level] += s.size(0)
        if course.ends(step, change):
            return


def _mix(history: list[tuple[Tensor, Tensor]]) -> Tensor:
    """sum_i a_i g_i with sum_i a_i = 1 that minimises |sum_i a_i f_i|, for each sample."""
    g, f = (torch.stack(column, 1) for column in zip(*history, strict=True))
    gram = f @ f.mH
    size = gram.diagonal(dim1=1, dim2=2).sum(1).real.clamp_min(torch.finfo(f.dtype).tiny)
    gram = gram / size[:, None, None] + ANDERSON_RIDGE * torch.eye(len(history), dtype=g.dtype, device=g.device)
    a = torch.linalg.solve_ex(gram, torch.ones_like(gram[:, :, :1]))[0]
    a = a / a.sum(1, keepdim=True)
    mixed: Tensor = (a.mT @ g).squeeze(1)
    return mixed


def _at_once(
    relaxation: Relaxation, course: Course, move: Callable[[list[Tensor], list[Tensor]], list[Tensor]]
) -> None:
    for step in range(1, course.max_steps + 1):
        old, change = list(relaxation.states), None
        new = move([relaxation.minimum(level) for level in range(len(old))], old)
        for level, s in enumerate(new):
            if course.measures(step):
                change = _larger(change, largest_change(s, old[level], course.scale.size(0)))
            relaxation.put(level, s)
            course.updates[level] += s.size(0)
        if course.ends(step, change):
            return


def largest_change(new: Tensor, old: Tensor, rows: int) -> Tensor:
    """(rows,), the largest change of any unit."""
    return repeated(_magnitude(by_copies(torch.sub, new, old)).flatten(1).amax(1), rows)


def _magnitude(change: Tensor) -> Tensor:
    """|change|, in place where it stays real."""
    return change.abs() if change.is_complex() else change.abs_()


def _larger(change: Tensor | None, other: Tensor) -> Tensor:
    return other if change is None else torch.maximum(change, other)


Solver: TypeAlias = Callable[[Relaxation, Course], None]

SOLVERS: Mapping[str, Solver] = {
    "even_odd": even_odd,
    "synchronous": synchronous,
    "euler": euler,
    "anderson": anderson,
    "errors": errors,
}
