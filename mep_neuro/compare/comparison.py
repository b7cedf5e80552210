"""Comparison: runs, what they cost on each hardware profile, and the document that all outputs are drawn from."""

from __future__ import annotations

import hashlib
import logging
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy
import torch

from mep_neuro.accounting import EnergyReport, account, ratio
from mep_neuro.compare.compared_run import ComparedRun, loaded, trained, trained_by_backprop
from mep_neuro.compare.curves import by_batch, by_steps
from mep_neuro.errors import InputError, ProfileError
from mep_neuro.files import writable_folder, write_json_atomically, write_text_atomically
from mep_neuro.profiles import HardwareProfile, hardware_profile
from mep_neuro.runs import RunSettings, prepared

SCHEMA, SCHEMA_VERSION = "mep-neuro/compare", 1
PROFILES = ("cmos_45nm", "cpu_laptop", "gpu_h100", "loihi2")
REFERENCES = ("brain", "landauer")
BASELINES = ("backprop", "none")

log = logging.getLogger("mep_neuro.compare")


@dataclass(frozen=True)
class Comparison:
    """Runs side by side, and what a training sample of each costs on each profile.

    accounts: by (run's name, profile's name).
    left_out: pairs of (run's name, profile's name) without an account, with the reason.
    """

    runs: tuple[ComparedRun, ...]
    profiles: tuple[HardwareProfile, ...]
    accounts: Mapping[tuple[str, str], EnergyReport]
    left_out: Mapping[tuple[str, str], str]

    @property
    def baseline(self) -> ComparedRun | None:
        """The run by backpropagation, if there is one."""
        return next((run for run in self.runs if run.algorithm == "backpropagation"), None)

    @cached_property
    def document(self) -> dict[str, Any]:
        """All of it as plain values: what `compare.json` holds, and what the table and the page are drawn from."""
        first = next(iter(self.accounts.values()))
        return {
            "schema": SCHEMA,
            "schema_version": SCHEMA_VERSION,
            "versions": versions(),
            "seed": first.seed,
            "draws": len(first.draws),
            "data": self.runs[0].settings.data,
            "layers": list(self.runs[0].settings.layers),
            "runs": [run.to_json() for run in self.runs],
            "profiles": [_profile(profile) for profile in self.profiles],
            "accounts": [self._account(*key, report) for key, report in self.accounts.items()],
            "left_out": [{"run": run, "profile": p, "reason": why} for (run, p), why in self.left_out.items()],
            "by_batch": by_batch(self.runs, self.profiles),
            "by_steps": by_steps(self.runs, self.profiles, self.baseline),
            "references": self._references(),
        }

    def write(self, folder: str | os.PathLike[str]) -> tuple[Path, Path]:
        """`compare.json` and `report.html` in a folder; returns the two paths. Needs `pip install 'mep-neuro[report]'`
        for the page."""
        from mep_neuro.compare.page import page

        whole = page(self.document)
        out = writable_folder(folder)
        write_json_atomically(out / "compare.json", self.document)
        write_text_atomically(out / "report.html", whole)
        return out / "compare.json", out / "report.html"

    def _account(self, run: str, profile: str, report: EnergyReport) -> dict[str, object]:
        base = None if self.baseline is None else self.accounts.get((self.baseline.name, profile))
        times = None if base is None or base is report or not base.joules.nominal > 0 else ratio(report, base)
        history = next(r for r in self.runs if r.name == run).history
        return {
            "run": run,
            **report.to_json(),
            "ratio_to_baseline": None if times is None else times.to_json(),
            "estimated_over_measured": history.estimated_over_measured(report),
        }

    def _references(self) -> list[dict[str, object]]:
        """What the baseline's operations would cost a brain, and at the thermodynamic limit."""
        run = self.baseline or self.runs[0]
        found: list[dict[str, object]] = []
        for name in REFERENCES:
            report = account(run.history.counts, name)
            found.append(
                {
                    "profile": name,
                    "title": report.profile.title,
                    "run": run.name,
                    "joules_per_sample": report.joules.to_json(),
                    "lower_bound": report.lower_bound,
                    "sources": list(report.sources),
                }
            )
        return found


def compare(
    settings: RunSettings,
    backends: Sequence[str],
    *,
    profiles: Sequence[str | os.PathLike[str]] = PROFILES,
    baseline: str = "backprop",
    runs: Sequence[str | os.PathLike[str]] = (),
    data_dir: Path | None = None,
    measure: str | None = None,
    draws: int = 10_000,
    progress: bool | None = None,
) -> Comparison:
    """Train the same settings on each backend, from the same initial weights and in the same order of samples, and
    account for what a training sample costs on each hardware profile.

    profiles: names or paths, in a scenario or not ("loihi1:throttled").
    baseline: "backprop" trains the same module by backpropagation beside them; "none" does not.
    runs:     folders of runs that `mep-neuro train --out` wrote, which are taken as they are.
    measure:  also measure joules where there is a sensor (see `measure`); None does not.

    All backends are opened once, and the profiles are read, before the first one trains: what is wrong is said then.
    """
    if baseline not in BASELINES:
        raise InputError(f"baseline is {baseline!r}; give {' or '.join(map(repr, BASELINES))}")
    priced = tuple(dict.fromkeys(profiles))
    if not priced or not (backends or runs):
        raise InputError("there is nothing to compare: give at least one backend or run, and one profile")
    prices = tuple(hardware_profile(profile) for profile in priced)
    _check_names([profile.name for profile in prices], "profiles")
    wanted = [settings.model_copy(update={"backend": name}) for name in backends]
    _check_names(
        [*backends, *(Path(folder).name for folder in runs), *(["backprop"] if baseline != "none" else [])], "runs"
    )
    data = settings.data_set(data_dir)
    done = [loaded(Path(folder), data_dir) for folder in runs]
    for run in done:
        if run.settings.data != settings.data:
            raise InputError(
                f"the run {run.name!r} is on {run.settings.data}, and the comparison on {settings.data}: "
                "compare runs on the same data"
            )
    for one in wanted:
        with prepared(one, data=data):
            pass
    for one in wanted:
        log.info("training on %s", one.backend)
        done.append(trained(one, data, measure=measure, progress=progress))
    if baseline != "none":
        log.info("training by backpropagation")
        done.append(trained_by_backprop(settings, data, measure=measure, progress=progress))
    accounts: dict[tuple[str, str], EnergyReport] = {}
    left_out: dict[tuple[str, str], str] = {}
    for run in done:
        for profile in prices:
            try:
                accounts[run.name, profile.name] = account(run.history.counts, profile, draws=draws)
            except ProfileError as error:
                left_out[run.name, profile.name] = str(error)
    if not accounts:
        raise ProfileError(f"none of the profiles prices what was counted: {next(iter(left_out.values()))}")
    return Comparison(tuple(done), prices, accounts, left_out)


def versions() -> dict[str, str]:
    """Versions of what the figures were made with."""
    ours = {"mep-neuro": version("mep-neuro"), "torch": torch.__version__, "numpy": numpy.__version__}
    return {**ours, "python": platform.python_version(), "platform": f"{platform.system()} {platform.machine()}"}


def _check_names(names: Sequence[str], what: str) -> None:
    twice = next((name for name in names if list(names).count(name) > 1), None)
    if twice is not None:
        raise InputError(f"two of the {what} are called {twice!r}: give each a name of its own")


def _profile(profile: HardwareProfile) -> dict[str, object]:
    """A profile as plain values, with a hash of its content: two profiles of one hash give the same joules."""
    content = profile.model_dump_json(by_alias=True, exclude={"scenarios"})
    return {
        "name": profile.name,
        "title": profile.title,
        "class": profile.class_,
        "describes": profile.describes,
        "excludes": list(profile.excludes),
        "included": dict(profile.included),
        "sha256": hashlib.sha256(content.encode()).hexdigest(),
        "figures": [{"figure": key, **price.model_dump(mode="json")} for key, (price, _) in profile.figures.items()],
    }
