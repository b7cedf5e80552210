"""The account: operation counts times the prices of a hardware profile, in joules per sample."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from mep_neuro.counts import OPERATIONS, PHASES, Operation, OperationCounts, Phase
from mep_neuro.errors import InputError
from mep_neuro.profiles import KINDS, HardwareProfile, hardware_profile


@dataclass(frozen=True)
class EnergyReport:
    """What a sample costs on a profile.

        J per sample = sum over phases and priced operations of count x price / samples

    joules_per_sample: at the prices' nominal values, in joules.
    interval:          with all prices at their low, and at their high ends, in joules.
    breakdown:         joules per sample by (phase, operation); sums to `joules_per_sample`.
    unpriced:          operations that were counted but have no price here; then the figures are lower bounds.
    grade:             the weakest kind among the prices used, from "measured" down to "assumed".
    profile:           the price list, with its sources.
    """

    joules_per_sample: float
    interval: tuple[float, float]
    breakdown: Mapping[tuple[Phase, Operation], float]
    unpriced: tuple[Operation, ...]
    grade: str
    profile: HardwareProfile

    @property
    def lower_bound(self) -> bool:
        """Whether something that was counted has no price."""
        return bool(self.unpriced)

    @property
    def sources(self) -> tuple[str, ...]:
        """Where the prices come from, one line each."""
        return tuple(
            f"{operation}: {p.value:g} {p.unit} ({p.kind}{'' if p.verified else ', not verified'}), "
            f"{p.source}, {p.place}"
            for operation, p in self.profile.prices.items()
        )

    def to_json(self) -> dict[str, object]:
        """Plain values."""
        return {
            "profile": self.profile.name,
            "joules_per_sample": self.joules_per_sample,
            "interval": list(self.interval),
            "lower_bound": self.lower_bound,
            "unpriced": list(self.unpriced),
            "grade": self.grade,
            "sources": list(self.sources),
        }


def account(counts: OperationCounts, profile: str | os.PathLike[str] | HardwareProfile = "cmos_45nm") -> EnergyReport:
    """Joules per sample of a window of counts on a hardware profile, by name, path or value.

    Raises `ProfileError` for a profile that is not there, `InputError` for counts over no samples.
    """
    if counts.samples < 1:
        raise InputError("the counts are over no samples: subtract two readings with a free phase between them")
    priced = profile if isinstance(profile, HardwareProfile) else hardware_profile(profile)
    breakdown: dict[tuple[Phase, Operation], float] = {}
    low = high = 0.0
    for phase in PHASES:
        for operation, price in priced.prices.items():
            count = counts[phase, operation] / counts.samples
            if count:
                value, least, most = price.joules
                breakdown[phase, operation] = count * value
                low, high = low + count * least, high + count * most
    used = {operation for _, operation in breakdown}
    kinds = [priced.prices[operation].kind for operation in used] or ["assumed"]
    return EnergyReport(
        joules_per_sample=sum(breakdown.values()),
        interval=(low, high),
        breakdown=breakdown,
        unpriced=tuple(o for o in OPERATIONS if counts.total(o) and o not in priced.prices),
        grade=max(kinds, key=KINDS.index),
        profile=priced,
    )
