"""Bill: which figures of a profile a window of counts calls for, how often a sample, and what they come to."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from mep_neuro.accounting.report import Draws, Part
from mep_neuro.counts import OPERATIONS, PHASES, TIMING, Operation, OperationCounts, Phase
from mep_neuro.errors import ProfileError
from mep_neuro.profiles import HardwareProfile

WORK: tuple[Operation, ...] = ("macs", "accumulates", "synaptic_events", "cell_reads", "dissipated_joules")
"""What a substrate's products are counted as: a profile that knows none of those counted says nothing about it."""


@dataclass(frozen=True)
class Total:
    """Joules a sample by (phase, part), and seconds a sample; each an array over the draws of the figures."""

    terms: Mapping[tuple[Phase, Part], Draws]
    seconds: Draws | None
    zero: Draws

    @property
    def phases(self) -> tuple[Phase, ...]:
        """The phases that cost anything, in their order."""
        return tuple(p for p in PHASES if any(phase == p for phase, _ in self.terms))

    @property
    def parts(self) -> tuple[Part, ...]:
        """The operations that cost anything, in their order, and "static"."""
        return tuple(p for p in (*OPERATIONS, "static") if any(part == p for _, part in self.terms))

    @property
    def joules(self) -> Draws:
        """The total."""
        return self.zero + sum(self.terms.values())

    def over(self, phase: Phase | None = None, part: Part | None = None) -> Draws:
        """The sum over one phase, or over one part."""
        return self.zero + sum(j for (p, q), j in self.terms.items() if phase in (None, p) and part in (None, q))


class Bill:
    """A window of counts, by the sample, against a profile. Raises `ProfileError` where they have nothing in common."""

    def __init__(self, counts: OperationCounts, profile: HardwareProfile, chips: float) -> None:
        self.profile, self.chips = profile, chips
        self.counts = {key: count / counts.samples for key, count in counts.entries.items()}
        self.counted = tuple(o for o in OPERATIONS if any(operation == o for _, operation in self.counts))
        work = [o for o in self.counted if o in WORK]
        if work and not {*profile.prices, *profile.included, "dissipated_joules"} & set(work):
            raise ProfileError(
                f"profile {profile.name!r} prices {', '.join(profile.prices) or 'static power alone'}, and none of "
                f"{', '.join(work)}, which were counted: these counts say nothing about it; "
                "take a profile of the same kind of machine"
            )
        self.resources: dict[Phase, list[Operation]] = defaultdict(list)
        for phase, operation in self.counts:
            if operation in profile.times:
                self.resources[phase].append(operation)
        clocks = {f"times.{o}" for operations in self.resources.values() for o in operations}
        self.timed = bool(clocks) or "seconds" in self.counted
        costs = {f"prices.{o}" for o in self.counted if o in profile.prices}
        if self.timed and profile.static:
            costs |= clocks | {f"static.{name}" for name in profile.static}
        self.costs = tuple(sorted(costs))
        """Figures that the joules depend on."""
        self.figures = tuple(sorted(costs | clocks))
        """Figures that joules or seconds depend on."""

    def unpriced(self) -> tuple[str, ...]:
        """What was counted and has no price. What only takes time matters only to who draws static power."""
        profile, missing = self.profile, list[str]()
        for o in self.counted:
            if o in profile.prices or o in profile.included or o == "dissipated_joules":
                continue
            if o in TIMING and (not profile.static or o == "seconds" or o in profile.times):
                continue
            missing.append(o)
        if profile.static and not self.timed:
            missing.append("static power (no time is known)")
        return tuple(missing)

    def total(self, figures: Mapping[str, Draws]) -> Total:
        """Joules and seconds a sample, with each figure of `self.figures` an array of draws, in SI units."""
        zero = np.zeros(max((len(drawn) for drawn in figures.values()), default=1))
        terms: dict[tuple[Phase, Part], Draws] = {}
        seconds: Draws | None = None
        for phase in PHASES:
            for operation in self.counted:
                count = self.counts.get((phase, operation))
                if count is None:
                    continue
                if operation == "dissipated_joules" and operation not in self.profile.included:
                    terms[phase, operation] = zero + count
                elif operation in self.profile.prices:
                    terms[phase, operation] = count * figures[f"prices.{operation}"]
            time = self._time(phase, figures)
            if time is None:
                continue
            seconds = time if seconds is None else seconds + time
            if self.profile.static:
                watts = sum(self.chips * figures[f"static.{name}"] for name in self.profile.static)
                terms[phase, "static"] = watts * time
        return Total(terms, None if seconds is None else zero + seconds, zero)

    def _time(self, phase: Phase, figures: Mapping[str, Draws]) -> Draws | None:
        """Seconds of a phase: the slowest of its resources, and the substrate's own physical time."""
        times = [self.counts[phase, o] * figures[f"times.{o}"] for o in self.resources.get(phase, ())]
        own = self.counts.get((phase, "seconds"))
        if own is not None:
            times = [time + own for time in times] or [np.full(1, own)]
        return np.maximum.reduce(np.broadcast_arrays(*times)) if times else None
