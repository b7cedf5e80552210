"""EnergyReport: what a sample costs on a hardware profile, with its interval, its parts and its sources."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mep_neuro.counts import Operation, Phase
from mep_neuro.profiles import HardwareProfile, Kind, Price

Draws: TypeAlias = NDArray[np.float64]
Part: TypeAlias = str
"""An operation's name, or "static"."""


class Estimate(NamedTuple):
    """A quantity under the prices' uncertainty: its percentiles over the draws, and its value at nominal prices."""

    p5: float
    p50: float
    p95: float
    nominal: float

    def to_json(self) -> dict[str, float]:
        """Plain values."""
        return self._asdict()


@dataclass(frozen=True)
class Sensitivity:
    """What one figure of the profile does to the total while all others are at their nominal values.

    figure:    "prices.macs", "static.chip", "times.timesteps".
    low, high: joules a sample with this figure at its low and at its high end.
    share:     of the variance of the total; the shares of all figures add up to 1 (0 where nothing varies).
    """

    figure: str
    low: float
    high: float
    share: float


@dataclass(frozen=True)
class EnergyReport:
    """What a sample costs on a profile, in joules.

        J = sum over phases and operations of count x price / samples   (dynamic)
          + chips x static power x time a sample                        (static)
        time a sample = sum over phases of max over resources (count x time) / samples, + physical seconds

    A phase in which nothing that has a time was counted takes none.

    joules, dynamic, static: `Estimate`s in J; static is 0 where the profile draws no static power or has it inside
               an all-in price.
    seconds:   time a sample in s; None where the profile does not tell.
    energy_delay: joules x seconds, in J s.
    phases, operations: joules by phase (its static part inside) and by operation ("static" is one of them).
    breakdown: joules at nominal prices by (phase, operation); sums to `joules.nominal`.
    corners:   joules with all figures at their low, and all at their high ends: an interval that assumes nothing.
    sensitivities: by figure, the largest share of the variance first.
    unpriced:  what was counted and has no price here; then all joules are lower bounds.
    grade:     the weakest kind among the figures that the joules rest on, from "measured" down to "assumed";
               dissipated joules are simulated.
    used:      the figures behind the total, by "table.key".
    chips:     how many chips' static power is charged.
    draws:     the draws of `joules`, shared between all accounts on one profile with one seed.
    """

    joules: Estimate
    dynamic: Estimate
    static: Estimate
    seconds: Estimate | None
    energy_delay: Estimate | None
    phases: Mapping[Phase, Estimate]
    operations: Mapping[Part, Estimate]
    breakdown: Mapping[tuple[Phase, Part], float]
    corners: tuple[float, float]
    sensitivities: tuple[Sensitivity, ...]
    unpriced: tuple[Operation | str, ...]
    grade: Kind
    used: Mapping[str, Price]
    profile: HardwareProfile
    samples: int
    chips: float
    seed: int
    draws: Draws = field(repr=False, compare=False)

    @property
    def joules_per_sample(self) -> float:
        """The median over the draws."""
        return self.joules.p50

    @property
    def interval(self) -> tuple[float, float]:
        """The 5th and the 95th percentile over the draws."""
        return self.joules.p5, self.joules.p95

    @property
    def lower_bound(self) -> bool:
        """Whether something that was counted has no price."""
        return bool(self.unpriced)

    @property
    def unverified(self) -> tuple[str, ...]:
        """The figures used that were not read in their source."""
        return tuple(key for key, price in self.used.items() if not price.verified)

    @property
    def sources(self) -> tuple[str, ...]:
        """Where the figures come from, one line each."""
        return tuple(
            f"{key.removeprefix('prices.')}: {p.value:g} {p.unit} [{p.low:g}, {p.high:g}] "
            f"({p.kind}{'' if p.verified else ', not verified'}), {p.source}, {p.place}"
            for key, p in self.used.items()
        )

    def to_json(self) -> dict[str, object]:
        """Plain values."""
        return {
            "profile": self.profile.name,
            "joules_per_sample": self.joules.to_json(),
            "corners": list(self.corners),
            "dynamic": self.dynamic.to_json(),
            "static": self.static.to_json(),
            "seconds_per_sample": None if self.seconds is None else self.seconds.to_json(),
            "energy_delay": None if self.energy_delay is None else self.energy_delay.to_json(),
            "phases": {phase: e.to_json() for phase, e in self.phases.items()},
            "operations": {part: e.to_json() for part, e in self.operations.items()},
            "breakdown": [
                {"phase": phase, "operation": part, "joules": j} for (phase, part), j in self.breakdown.items()
            ],
            "sensitivities": [
                {"figure": s.figure, "low": s.low, "high": s.high, "share": s.share} for s in self.sensitivities
            ],
            "lower_bound": self.lower_bound,
            "unpriced": list(self.unpriced),
            "grade": self.grade,
            "used": list(self.used),
            "unverified": list(self.unverified),
            "chips": self.chips,
            "sources": list(self.sources),
        }
