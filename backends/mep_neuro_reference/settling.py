"""Settling: how the states of a phase come to rest, by updates of one population at a time or of all at once.

    even_odd      every second level, then the others, each set to its block's minimum m_l(s): E never rises
    synchronous   s_l <- m_l(s) for all levels at once, from the old states
    euler         s_l <- s_l + h (m_l(s) - s_l) at once, h = 1/2: the leaky flow ds/dt = rho(drive) - s
    anderson      synchronous, extrapolated from the last 4 iterations (Walker and Ni 2011, for each sample)

A sample's way through one settling is `even_odd` from top to bottom: the forward pass has set the states; each
iteration updates the levels, and `Course` measures the largest change of any unit and says when that is rest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TypeAlias, final

import numpy as np

from mep_neuro.network import EnergyNetwork
from mep_neuro.settling import GROWTH, RUNAWAY, can_run_away, runs_away
from mep_neuro_reference.chains import Chain
from mep_neuro_reference.operations import Array

ANDERSON_MEMORY = 4
ANDERSON_RCOND = 1e-6


@final
class Course:
    """One settling under way: its limits, and how far it has come.

    scale:     (batch,), what a change is measured against.
    max_steps: iterations at most.
    min_steps: iterations before which nothing is stopped: as many as a nudge needs to reach every level, and one.
    tolerance: stop once every sample's residual is no larger; None runs all steps.
    step_size: h of the Euler solver.
    rested:    whether the states are at rest but for the nudge, which starts at the outputs.
    energy:    the energy's name.
    residual:  (batch,), the largest change of any unit in the last iteration, over the scale.
    steps:     iterations done.
    """

    def __init__(
        self,
        scale: Array,
        *,
        max_steps: int,
        min_steps: int,
        tolerance: float | None,
        step_size: float,
        phase: str,
        rested: bool,
        energy: str,
    ) -> None:
        self.scale, self.max_steps, self.min_steps, self.step_size = scale, max_steps, min_steps, step_size
        self.tolerance, self.phase, self.rested, self._energy = tolerance, phase, rested, energy
        self.residual, self.steps = np.zeros_like(scale), 0
        self._change = np.zeros_like(scale)
        self._first = self._before = self._change
        self._by_level: dict[int, Array] = {}

    def iterations(self) -> Iterator[int]:
        """1, 2, ... until the samples rest or the steps are used up; each residual is noted after its iteration."""
        for step in range(1, self.max_steps + 1):
            self._before = self._change
            self.steps, self._change = step, np.zeros_like(self.scale)
            yield step
            self._first = self._change if step == 1 else self._first
            self.residual = self._change / self.scale
            if self.tolerance is not None and self.steps >= self.min_steps and (self.residual <= self.tolerance).all():
                return

    def moved(self, level: int, new: Array, old: Array) -> None:
        """Note a population's change."""
        check_finite(level, new, self.steps, self.phase, self._energy)
        self._by_level[level] = np.abs(new - old).reshape(len(new), -1).max(1)
        self._change = np.maximum(self._change, self._by_level[level])

    def check_growth(self, network: EnergyNetwork) -> None:
        """Raise `SettlingError` for a sample whose last change is large and grows (see `mep_neuro.settling`)."""
        grows = (self._change > self._before) & (self._change >= GROWTH * self._first)
        lost = (self.residual > RUNAWAY) & grows
        if self.steps > 2 and lost.any() and can_run_away([p.activation for p in network.populations]):
            sample = int(np.argmax(lost))
            level = max(self._by_level, key=lambda level: float(self._by_level[level][sample]))
            raise runs_away(
                f"population {level + 1} still moves by {self.residual[sample]:.3g} scales in iteration {self.steps} "
                f"of the {self.phase} phase (sample {sample}), and by more each time",
                network.energy_name,
            )


def check_finite(level: int, s: Array, step: int, phase: str, energy: str) -> None:
    """Raise `SettlingError` where a state is infinite or NaN. Iteration 0 is the forward pass."""
    if not np.isfinite(s).all():
        raise runs_away(f"population {level + 1} is not finite in iteration {step} of the {phase} phase", energy)


def even_odd(chain: Chain, course: Course) -> None:
    """Even/odd block sweeps.

    Levels of one parity touch no common coupling, so each finds its exact minimum given the others. After a forward
    pass the outputs are at their minimum, and the level below them goes first. In a nudged phase the outputs go first;
    the nudge travels down one level each half sweep, and levels that it has not reached are at rest and left alone.
    """
    first = chain.top if course.phase == "nudged" else chain.top + 1
    half_sweeps = 0
    for _ in course.iterations():
        for parity in (first % 2, (first + 1) % 2):
            for level in range(chain.top, -1, -1):
                reached = not course.rested or chain.top - level <= half_sweeps
                if level % 2 == parity and reached:
                    old = chain.states[level]
                    chain.descend(level)
                    course.moved(level, chain.states[level], old)
            half_sweeps += 1


def synchronous(chain: Chain, course: Course) -> None:
    """All levels at once; E may rise, and the states may swing for ever."""
    _all_at_once(chain, course, lambda new, old: new)


def euler(chain: Chain, course: Course) -> None:
    """The leaky flow in steps of h."""
    h = course.step_size
    _all_at_once(chain, course, lambda new, old: [o + h * (n - o) for n, o in zip(new, old, strict=True)])


def anderson(chain: Chain, course: Course) -> None:
    """Synchronous iterations g(s), extrapolated: with f = g(s) - s and differences D between the iterations kept,
    s <- g - Dg a, where a minimises |f - Df a| for each sample."""
    kept: list[tuple[Array, Array]] = []

    def extrapolate(new: list[Array], old: list[Array]) -> list[Array]:
        g, s = (np.concatenate([part.reshape(len(part), -1) for part in states], 1) for states in (new, old))
        kept.append((g, g - s))
        del kept[:-ANDERSON_MEMORY]
        mixed = np.stack([_mixed([(g[i], f[i]) for g, f in kept]) for i in range(len(g))])
        parts = np.split(mixed, np.cumsum([part[0].size for part in new])[:-1], axis=1)
        return [part.reshape(like.shape) for part, like in zip(parts, new, strict=True)]

    _all_at_once(chain, course, extrapolate)


def errors(chain: Chain, course: Course) -> None:
    """Errors from the top down, then states from the bottom up (Goemaere et al. 2025, arXiv:2505.20137)."""
    for _ in course.iterations():
        old = list(chain.states)
        chain.pass_errors()
        for level, s in enumerate(chain.states):
            course.moved(level, s, old[level])


def _mixed(kept: list[tuple[Array, Array]]) -> Array:
    """One sample's next states, flat, from its last iterations (g, f), oldest first."""
    g, f = (np.stack(column, 1) for column in zip(*kept, strict=True))  # (units, iterations)
    if not (np.isfinite(g).all() and np.isfinite(f).all()):
        return g[:, -1]
    a = np.linalg.lstsq(np.diff(f), f[:, -1], rcond=ANDERSON_RCOND)[0]
    mixed: Array = g[:, -1] - np.diff(g) @ a
    return mixed


def _all_at_once(chain: Chain, course: Course, move: Callable[[list[Array], list[Array]], list[Array]]) -> None:
    for _ in course.iterations():
        old = list(chain.states)
        new = move([chain.minimum(level) for level in range(len(old))], old)
        for level, s in enumerate(new):
            chain.put(level, s)
            course.moved(level, s, old[level])


Solver: TypeAlias = Callable[[Chain, Course], None]

SOLVERS: Mapping[str, Solver] = {
    "even_odd": even_odd,
    "synchronous": synchronous,
    "euler": euler,
    "anderson": anderson,
    "errors": errors,
}
