"""History: what a training run measured, epoch by epoch, and what its substrate did."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mep_neuro.accounting import EnergyReport, account
from mep_neuro.accounting.measured import JoulesPerSample, MeasuredEnergy
from mep_neuro.counts import OperationCounts
from mep_neuro.files import write_text_atomically


@dataclass(frozen=True)
class EpochRecord:
    """One epoch. Costs are means over samples; accuracies are shares, None for targets that are no labels.

    train_*:     at the free equilibria met while training, so with the parameters as they changed.
    test_*, validation_*: after the epoch, in evaluation mode; None where no such data were given.
    unconverged: training samples of which some phase had not come to rest within its steps.
    residual:    the largest residual of any training sample (see `Equilibrium`).
    seconds:     training alone, without evaluation.
    """

    epoch: int
    train_cost: float
    train_accuracy: float | None
    validation_cost: float | None
    validation_accuracy: float | None
    test_cost: float | None
    test_accuracy: float | None
    samples: int
    unconverged: int
    residual: float
    lr: float
    seconds: float

    def summary(self) -> str:
        """One line for a log."""
        parts = [f"train cost {self.train_cost:.4f}"]
        named = {"train": self.train_accuracy, "validation": self.validation_accuracy, "test": self.test_accuracy}
        parts += [f"{name} accuracy {100 * value:.2f} %" for name, value in named.items() if value is not None]
        return ", ".join([*parts, f"{self.seconds:.1f} s"])


@dataclass
class History:
    """All epochs of a run.

    learning:   where learning happened, `"host"` or `"resident"`.
    epochs:     a record each.
    counts:     what the substrate did while training; evaluation is left out.
    evaluation: what it did while evaluating.
    measured:   joules that a sensor read over the whole run, the evaluation after each epoch with it; None where none
                was asked for, or none could be had: `not_measured` then says why.
    """

    learning: str
    epochs: list[EpochRecord] = field(default_factory=list)
    counts: OperationCounts = field(default_factory=OperationCounts)
    evaluation: OperationCounts = field(default_factory=OperationCounts)
    measured: MeasuredEnergy | None = None
    not_measured: str = ""

    @property
    def measured_per_sample(self) -> JoulesPerSample | None:
        """What was measured, by the samples trained on."""
        return None if self.measured is None else self.measured.per_sample(self.counts.samples)

    @property
    def last(self) -> EpochRecord:
        """The last epoch's record."""
        return self.epochs[-1]

    def estimated_over_measured(self, report: EnergyReport) -> float | None:
        """Joules estimated for all that was measured, evaluation included, over those measured; None where nothing
        was. report: the account of `counts`."""
        if self.measured is None:
            return None
        estimated = report.joules_per_sample * self.counts.samples
        if self.evaluation.samples:
            tested = account(self.evaluation, report.profile, draws=len(report.draws), seed=report.seed)
            estimated += tested.joules_per_sample * self.evaluation.samples
        return estimated / self.measured.joules

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "learning": self.learning,
            "epochs": [dataclasses.asdict(record) for record in self.epochs],
            "counts": self.counts.to_json(),
            "evaluation": self.evaluation.to_json(),
            "measured": None if self.measured is None else self.measured.to_json(),
            "not_measured": self.not_measured,
        }

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> History:
        """The inverse of `to_json`."""
        return cls(
            learning=document["learning"],
            epochs=[EpochRecord(**record) for record in document["epochs"]],
            counts=OperationCounts.from_json(document["counts"]),
            evaluation=OperationCounts.from_json(document["evaluation"]),
            measured=MeasuredEnergy.from_json(document["measured"]) if document.get("measured") else None,
            not_measured=document.get("not_measured", ""),
        )

    def write_lines(self, path: Path) -> None:
        """One JSON line an epoch."""
        write_text_atomically(path, "".join(json.dumps(dataclasses.asdict(r)) + "\n" for r in self.epochs))
