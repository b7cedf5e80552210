"""account: operation counts times the prices of a hardware profile, under the prices' uncertainty."""

from __future__ import annotations

import os
import zlib

import numpy as np

from mep_neuro.accounting.bill import Bill
from mep_neuro.accounting.report import Draws, EnergyReport, Estimate, Sensitivity
from mep_neuro.counts import OperationCounts
from mep_neuro.errors import InputError, ProfileError
from mep_neuro.profiles import KINDS, HardwareProfile, hardware_profile

TWO_SIDED, ONE_SIDED = 1.6448536269514722, 1.959963984540054
"""The 95th percentile of a standard normal variable, and of its absolute value."""


def account(
    counts: OperationCounts,
    profile: str | os.PathLike[str] | HardwareProfile = "cmos_45nm",
    *,
    draws: int = 10_000,
    seed: int = 0,
    strict: bool = False,
    chips: float = 1.0,
) -> EnergyReport:
    """Joules per sample of a window of counts on a hardware profile, by name ("loihi1", "loihi1:throttled"), path or
    value.

    draws:  how often every figure of the profile is drawn. A figure is lognormal on each side of its value, so that
            this is the median and `low` and `high` are the 5th and the 95th percentile; where one of them is the value
            itself, all draws lie on the other side of it (a published minimum stays one).
    seed:   of the draws. They belong to the profile's figures and not to the run: all accounts on one profile with one
            seed share them, which is what keeps a `ratio` tight.
    strict: refuse, instead of giving a lower bound, where something that was counted has no price.
    chips:  how many chips' static power to charge; a share of one for a network that fills a part of its cores.

    Raises `ProfileError` for a profile that is not there, that prices nothing of what was counted, or, under `strict`,
    not all of it; `InputError` for counts over no samples.
    """
    if counts.samples < 1:
        raise InputError("the counts are over no samples: subtract two readings with a free phase between them")
    fallen = [f"{o} ({phase})" for (phase, o), count in counts.entries.items() if count < 0]
    if fallen:
        raise InputError(f"the counts of {', '.join(fallen)} are negative: subtract the earlier reading from the later")
    if draws < 100:
        raise InputError(f"draws is {draws}; percentiles need at least 100")
    if seed < 0:
        raise InputError(f"seed is {seed}; it must be at least 0")
    if not chips > 0:
        raise InputError(f"chips is {chips}; it must be above 0")
    priced = profile if isinstance(profile, HardwareProfile) else hardware_profile(profile)
    bill = Bill(counts, priced, chips)
    unpriced = bill.unpriced()
    if strict and unpriced:
        raise ProfileError(
            f"profile {priced.name!r} has no price for {', '.join(unpriced)}, which were counted: "
            "add prices to a copy of the profile, or leave out strict for a lower bound"
        )
    used = {key: priced.figures[key][0] for key in bill.figures}
    drawn = {key: _drawn(priced, key, draws, seed) for key in used}
    # One column at nominal values, one at all lows, one at all highs, then the draws.
    total = bill.total({key: np.concatenate([priced.figures[key][1], drawn[key]]) for key in used})
    if not used:
        total = bill.total({"": np.zeros(3 + draws)})
    joules, static = total.joules, total.over(part="static")
    kinds = [used[key].kind for key in bill.costs]  # what only the seconds rest on grades no joules
    if "dissipated_joules" in total.parts:
        kinds.append("simulated")
    return EnergyReport(
        joules=_estimate(joules),
        dynamic=_estimate(joules - static),
        static=_estimate(static),
        seconds=None if total.seconds is None else _estimate(total.seconds),
        energy_delay=None if total.seconds is None else _estimate(joules * total.seconds),
        phases={phase: _estimate(total.over(phase=phase)) for phase in total.phases},
        operations={part: _estimate(total.over(part=part)) for part in total.parts},
        breakdown={key: float(term[0]) for key, term in total.terms.items()},
        corners=(float(joules[1]), float(joules[2])),
        sensitivities=_sensitivities(bill, drawn),
        unpriced=unpriced,
        grade=max(kinds, key=KINDS.index, default="assumed"),
        used=used,
        profile=priced,
        samples=counts.samples,
        chips=chips,
        seed=seed,
        draws=joules[3:],
    )


def ratio(one: EnergyReport, other: EnergyReport) -> Estimate:
    """Joules a sample of one account over those of another, draw by draw.

    On one profile the draws are shared, so what both depend on cancels, and the interval is far tighter than the two
    totals' own. Accounts on different profiles are independent. Raises `InputError` for unequal seeds or numbers of
    draws, and where the other is 0.
    """
    if one.seed != other.seed or len(one.draws) != len(other.draws):
        raise InputError("the two accounts have other seeds or numbers of draws: make them with the same")
    if not other.joules.nominal > 0:
        raise InputError(f"the account on {other.profile.name!r} is 0 J: nothing can be divided by it")
    p5, p50, p95 = np.quantile(one.draws / other.draws, (0.05, 0.5, 0.95))
    return Estimate(float(p5), float(p50), float(p95), one.joules.nominal / other.joules.nominal)


def _estimate(columns: Draws) -> Estimate:
    p5, p50, p95 = np.quantile(columns[3:], (0.05, 0.5, 0.95))
    return Estimate(float(p5), float(p50), float(p95), float(columns[0]))


def _drawn(profile: HardwareProfile, key: str, draws: int, seed: int) -> Draws:
    """Draws of one figure; they depend on the profile's name, the figure and the seed alone, not on its scenario."""
    value, low, high = profile.figures[key][1]
    if low == high:
        return np.full(draws, value)
    name = profile.name.partition(":")[0]
    z = np.random.default_rng([seed, zlib.crc32(f"{name}/{key}".encode())]).standard_normal(draws)
    if low == value:
        return np.asarray(value * (high / value) ** (np.abs(z) / ONE_SIDED))
    if high == value:
        return np.asarray(value * (low / value) ** (np.abs(z) / ONE_SIDED))
    base = np.where(z < 0, value / low, high / value)
    return np.asarray(value * base ** (z / TWO_SIDED))


def _sensitivities(bill: Bill, drawn: dict[str, Draws]) -> tuple[Sensitivity, ...]:
    """One figure at a time, the others at their nominal values."""
    figures = bill.profile.figures
    fixed = {key: np.full(1, figures[key][1][0]) for key in bill.figures}
    ends, spread = dict[str, tuple[float, float]](), dict[str, float]()
    for key in bill.costs:
        joules = bill.total({**fixed, key: np.concatenate([figures[key][1], drawn[key]])}).joules
        ends[key] = float(joules[1]), float(joules[2])
        spread[key] = float(np.var(joules[3:])) if np.ptp(joules[3:]) > 0 else 0.0  # else it would be of rounding
    whole = sum(spread.values())
    rows = [Sensitivity(key, *ends[key], spread[key] / whole if whole else 0.0) for key in bill.costs]
    return tuple(sorted(rows, key=lambda s: (-s.share, s.figure)))
