"""compare: one training run, the same but for the substrate, side by side."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mep_neuro.accounting import EnergyReport, account
from mep_neuro.counts import OperationCounts
from mep_neuro.history import History
from mep_neuro.profiles import hardware_profile
from mep_neuro.runs import RunSettings, prepared

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Comparison:
    """One substrate's row: the run's history and what a training sample costs."""

    backend: str
    history: History
    account: EnergyReport

    @property
    def seconds(self) -> float:
        """Wall time of training on the machine that ran it: the simulator's, not a chip's."""
        return sum(record.seconds for record in self.history.epochs)

    @property
    def counts(self) -> OperationCounts:
        """Operations of training."""
        return self.history.counts

    def to_json(self) -> dict[str, object]:
        """Plain values."""
        return {
            "backend": self.backend,
            "test_accuracy": self.history.last.test_accuracy,
            "seconds": self.seconds,
            "macs_per_sample": self.counts.total("macs") / self.counts.samples,
            "account": self.account.to_json(),
            "counts": self.counts.to_json(),
        }


def compare(
    settings: RunSettings,
    backends: Sequence[str],
    *,
    profile: str = "cmos_45nm",
    data_dir: Path | None = None,
    progress: bool | None = None,
) -> list[Comparison]:
    """Train the same settings on each backend, from the same initial weights and in the same order of samples.

    All backends are opened once, and the profile is read, before the first one trains: what is wrong is said then.
    """
    prices = hardware_profile(profile)
    runs = [settings.model_copy(update={"backend": name}) for name in backends]
    data = settings.data_set(data_dir)
    for run in runs:
        with prepared(run, data=data):
            pass
    rows = []
    for run in runs:
        log.info("training on %s", run.backend)
        with prepared(run, data=data) as ready:
            history = ready.train(progress=progress)
        rows.append(Comparison(run.backend, history, account(history.counts, prices)))
    return rows
