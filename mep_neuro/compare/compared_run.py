"""ComparedRun: a training run that is compared, trained now or taken from its folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import nn

from mep_neuro.accounting.neurobench import neurobench_metrics
from mep_neuro.backprop import train_by_backprop
from mep_neuro.checkpoints import load_checkpoint
from mep_neuro.data import DataSet
from mep_neuro.history import History
from mep_neuro.network import EnergyNetwork
from mep_neuro.runs import RunSettings, prepared, settings_of

Algorithm = Literal["equilibrium propagation", "backpropagation"]


@dataclass(frozen=True)
class ComparedRun:
    """One run of a comparison.

    name:      what it is called there: the backend's name, "backprop", or the folder's.
    metrics:   of inference with the module's forward pass, under NeuroBench's names (see `neurobench_metrics`).
    """

    name: str
    algorithm: Algorithm
    settings: RunSettings
    history: History
    metrics: Mapping[str, object]

    @property
    def seconds(self) -> float:
        """Wall time of training on the machine that ran it: the simulator's, not a chip's."""
        return sum(record.seconds for record in self.history.epochs)

    def to_json(self) -> dict[str, object]:
        """Plain values; the counts are raw."""
        measured = self.history.measured
        return {
            "name": self.name,
            "algorithm": self.algorithm,
            "backend": self.settings.backend if self.algorithm == "equilibrium propagation" else None,
            "test_accuracy": self.history.last.test_accuracy,
            "batch_size": self.settings.batch_size,
            "epochs": len(self.history.epochs),
            "learning": self.history.learning,
            "seconds_here": self.seconds,
            "settings": self.settings.model_dump(mode="json"),
            "neurobench": dict(self.metrics),
            "mep:counts": self.history.counts.to_json(),
            "mep:evaluation_counts": self.history.evaluation.to_json(),
            "mep:measured": None if measured is None else measured.to_json(),
            "mep:not_measured": self.history.not_measured,
        }


def trained(settings: RunSettings, data: DataSet, *, measure: str | None, progress: bool | None) -> ComparedRun:
    """Train by equilibrium propagation on the settings' backend."""
    with prepared(settings, data=data) as run:
        history = run.train(measure=measure, progress=progress)
        metrics = _metrics(run.learner.network.module, data)
    return ComparedRun(settings.backend, "equilibrium propagation", settings, history, metrics)


def trained_by_backprop(
    settings: RunSettings, data: DataSet, *, measure: str | None, progress: bool | None
) -> ComparedRun:
    """Train the same module by backpropagation; for resistors, a feed-forward network of the same layers."""
    settings = settings.feed_forward()
    module = settings.model()
    history = train_by_backprop(settings, module, data, measure=measure, progress=progress)
    return ComparedRun("backprop", "backpropagation", settings, history, _metrics(module, data))


def loaded(folder: Path, data_dir: Path | None) -> ComparedRun:
    """A run as `mep-neuro train --out` left it. Raises `InputError` for a folder that holds none."""
    settings = settings_of(folder)
    network = EnergyNetwork.from_module(settings.model(), energy=settings.energy)
    history = History.from_json(load_checkpoint(folder / "last.pt", network)["history"])
    metrics = _metrics(network.module, settings.data_set(data_dir))
    return ComparedRun(folder.name, "equilibrium propagation", settings, history, metrics)


def _metrics(module: nn.Sequential, data: DataSet) -> dict[str, object]:
    with torch.no_grad():
        return neurobench_metrics(module, (data.x_test, data.y_test))
