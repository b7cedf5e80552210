"""MeasuredEnergy: joules that a sensor counted over a block of work, with idle power, interval and windows."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Annotated, Any, NamedTuple, TypeAlias

from pydantic import Field, TypeAdapter, ValidationError

from mep_neuro.errors import InputError

SHORTEST = 2.0
"""Seconds that a window must be long."""

FEWEST, MOST = 5, 100
"""Windows that an interval needs, and windows that are kept: in a longer run, neighbours are joined."""

Interval: TypeAlias = tuple[float, float]
Reading: TypeAlias = tuple[float, float]
"""A time in seconds, and the sensor's joules at it."""

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class JoulesPerSample(NamedTuple):
    """Measured joules divided by samples; intervals from p5 to p95, None where there were too few windows."""

    joules: float
    interval: Interval | None
    dynamic_joules: float
    dynamic_interval: Interval | None


@dataclass(frozen=True)
class MeasuredEnergy:
    """Joules that a sensor counted over a block of work, and the power before and after it.

        dynamic joules = joules - idle_watts x seconds

    sensor:      which one: "rapl", "nvml".
    covers:      whose joules these are, in words; other programs on the same device are among them.
    joules:      over the block, with the device's idle power in it.
    seconds:     that the block took.
    idle_before: mean power in watts just before the block.
    idle_after:  and just after it; clocks and temperature may still be up, which is why both are kept.
    windows:     (seconds, joules) of consecutive stretches of the block; together they are the block.
    """

    sensor: str
    covers: str
    joules: Positive
    seconds: Positive
    idle_before: NotNegative
    idle_after: NotNegative
    windows: Annotated[tuple[tuple[Positive, NotNegative], ...], Field(min_length=1)]

    @property
    def idle_watts(self) -> float:
        """Mean of the two idle baselines, in watts."""
        return (self.idle_before + self.idle_after) / 2

    @property
    def running_watts(self) -> float:
        """Mean power over the block, in watts."""
        return self.joules / self.seconds

    @property
    def dynamic_joules(self) -> float:
        """Joules above idle. Below zero where the idle power varied by more than the work took."""
        return self.joules - self.idle_watts * self.seconds

    @property
    def interval(self) -> Interval | None:
        """p5 and p95 of the joules that such a block takes, from how power varied over it; None: see `note`.

            joules -+ t(0.95; n - 1) s / sqrt(n) x seconds

        n windows of mean power P_i with standard deviation s, and Student's t. It knows nothing of the sensor's own
        error, which stays the same from window to window.
        """
        if len(self.windows) < FEWEST:
            return None
        from scipy.special import stdtrit  # type: ignore[import-untyped, unused-ignore]

        watts = [joules / seconds for seconds, joules in self.windows]
        n, mean = len(watts), math.fsum(watts) / len(watts)
        deviation = math.sqrt(math.fsum((power - mean) ** 2 for power in watts) / (n - 1))
        half = float(stdtrit(n - 1, 0.95)) * deviation / math.sqrt(n) * self.seconds
        return max(0.0, self.joules - half), self.joules + half

    @property
    def dynamic_interval(self) -> Interval | None:
        """p5 and p95 of `dynamic_joules`: those of `interval`, less an idle power anywhere between the baselines."""
        if self.interval is None:
            return None
        low, high = self.interval
        least, most = sorted((self.idle_before, self.idle_after))
        return low - most * self.seconds, high - least * self.seconds

    @property
    def note(self) -> str:
        """Why there is no interval; empty where there is one."""
        n = len(self.windows)
        return "" if n >= FEWEST else f"no interval: {n} of the {FEWEST} windows that it needs; train longer"

    def per_sample(self, samples: int) -> JoulesPerSample:
        """All joules divided by the samples that the block worked on. Raises `InputError` for none."""
        if samples < 1:
            raise InputError(f"joules cannot be shared among {samples} samples; give how many the block worked on")

        def share(interval: Interval | None) -> Interval | None:
            return None if interval is None else (interval[0] / samples, interval[1] / samples)

        return JoulesPerSample(
            self.joules / samples, share(self.interval), self.dynamic_joules / samples, share(self.dynamic_interval)
        )

    def to_json(self) -> dict[str, Any]:
        """Plain values, with what follows from them for a reader's sake."""
        return {
            **asdict(self),
            "windows": [list(window) for window in self.windows],
            "idle_watts": self.idle_watts,
            "running_watts": self.running_watts,
            "interval": None if self.interval is None else list(self.interval),
            "dynamic_joules": self.dynamic_joules,
            "dynamic_interval": None if self.dynamic_interval is None else list(self.dynamic_interval),
            "note": self.note,
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> MeasuredEnergy:
        """The inverse of `to_json`. Raises `InputError` for anything else."""
        try:
            return TypeAdapter(cls).validate_json(json.dumps(document), strict=True)
        except (ValidationError, TypeError, ValueError) as error:
            first = error.errors()[0] if isinstance(error, ValidationError) else {"loc": (), "msg": str(error)}
            where = ".".join(map(str, first["loc"])) or "the document"
            raise InputError(f"this is no measured energy: {where}: {first['msg']}") from error


def split(readings: Sequence[Reading]) -> tuple[tuple[float, float], ...]:
    """Consecutive windows (seconds, joules) between readings that span at least `SHORTEST` seconds.

    None is shorter than that: a short rest at the end belongs to the window before it.
    """
    cuts = [readings[0]]
    for reading in readings:
        if reading[0] - cuts[-1][0] >= SHORTEST:
            cuts.append(reading)
    cuts[-1] = readings[-1]
    kept = [*cuts[: -1 : math.ceil((len(cuts) - 1) / MOST)], cuts[-1]]
    return tuple((end - begin, full - empty) for (begin, empty), (end, full) in pairwise(kept))
