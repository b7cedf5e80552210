"""The state of a training run: what a checkpoint holds, and how a batch and an epoch change it."""

from __future__ import annotations

import logging
import math
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mep_neuro.accounting.optimizers import optimizer_counts
from mep_neuro.batches import Data, derived_seed, draw_batches
from mep_neuro.checkpoints import read_checkpoint, save_checkpoint
from mep_neuro.costs import correct, cost, encode_target
from mep_neuro.counts import OperationCounts
from mep_neuro.counts_file import write_counts
from mep_neuro.errors import InputError
from mep_neuro.history import EpochRecord, History
from mep_neuro.propagation import EquilibriumPropagation, Phases

EVALUATION_BATCH = 1000

log = logging.getLogger("mep_neuro.training")


def evaluate(learner: EquilibriumPropagation, data: Data) -> tuple[float, float | None]:
    """(mean cost, accuracy) of the free phase's outputs, the module in evaluation mode. The accuracy is None for
    targets that are no labels."""
    modes = [(module, module.training) for module in learner.network.module.modules()]
    learner.network.module.eval()
    try:
        sums = _Sums()
        for x, target in draw_batches(data, EVALUATION_BATCH, None):
            outputs = learner.predict(x)
            sums.add(learner, outputs, target)
    finally:
        for module, mode in modes:
            module.training = mode
    if sums.samples == 0:
        raise InputError("the data hold no samples")
    return sums.mean_cost(), sums.accuracy()


@dataclass
class _Sums:
    """Running sums over one epoch. What lives on a device is not read before the epoch ends."""

    samples: int = 0
    seconds: float = 0.0
    cost: Any = 0.0
    correct: Any = 0
    labels: bool = True
    unconverged: Any = 0
    residual: Any = 0.0

    def add(self, learner: EquilibriumPropagation, outputs: Tensor, target: Tensor) -> None:
        encoded = encode_target(target.to(outputs.device), learner.network.outputs.shape, outputs.dtype)
        self.samples += len(outputs)
        self.cost = self.cost + cost(learner.cost, outputs, encoded).sum(dtype=torch.float64)
        self.labels = self.labels and not target.is_floating_point()
        self.correct = self.correct + correct(outputs, encoded).sum()

    def add_phases(self, phases: Phases) -> None:
        rest = torch.stack([torch.as_tensor(e.converged) for e in (phases.free, *phases.nudged)])
        worst = torch.stack([torch.as_tensor(e.residual).amax() for e in (phases.free, *phases.nudged)]).amax()
        self.unconverged = self.unconverged + (~rest.all(0)).sum()
        self.residual = torch.maximum(torch.as_tensor(self.residual, dtype=worst.dtype, device=worst.device), worst)

    def mean_cost(self) -> float:
        return float(self.cost) / self.samples

    def accuracy(self) -> float | None:
        return int(self.correct) / self.samples if self.labels else None

    def plain(self) -> dict[str, Any]:
        return {
            "samples": self.samples,
            "seconds": self.seconds,
            "cost": float(self.cost),
            "correct": int(self.correct),
            "labels": self.labels,
            "unconverged": int(self.unconverged),
            "residual": float(self.residual),
        }


class TrainingRun:
    """The state of a training run: what a checkpoint holds, and how a batch and an epoch change it."""

    def __init__(
        self,
        learner: EquilibriumPropagation,
        optimizer: torch.optim.Optimizer,
        scheduler: torch.optim.lr_scheduler.LRScheduler | None,
        seed: int,
        learning: str,
    ) -> None:
        self.learner, self.optimizer, self.scheduler = learner, optimizer, scheduler
        self.seed = seed
        self.out: Path | None = None
        self.history, self.sums, self.batch, self.best = History(learning), _Sums(), 0, math.inf
        self.fixed: dict[str, Any] = {
            "seed": seed,
            "learning": learning,
            "beta": learner.beta,
            "nudging": repr(learner.nudging),
            "cost": learner.cost,
            "optimizer": type(optimizer).__name__,
            "scheduler": None if scheduler is None else type(scheduler).__name__,
        }
        self._read, self._trained, self._steps = learner.substrate.counts(), 0, 0
        own = {id(p) for p in learner.network.module.parameters()}
        held = {id(p) for group in optimizer.param_groups for p in group["params"]}
        if not own & held:
            raise InputError("the optimizer holds none of the network's parameters: give it model.parameters()")

    @property
    def lr(self) -> float:
        return float(self.optimizer.param_groups[0]["lr"])

    def step(self, x: Tensor, target: Tensor, epoch: int, index: int) -> None:
        """Learn one batch."""
        learner = self.learner
        learner.reseed(derived_seed(self.seed, epoch, index + 1))
        if self.history.learning == "resident":
            self.sums.add(learner, learner.learn(x, target, rate=self.lr), target)
        else:
            phases = learner.relax(x, target)
            learner.put(learner.gradient(phases.terms))
            self.optimizer.step()
            learner.network.project()
            self._steps += 1
            self.sums.add(learner, learner.outputs(phases.free), target)
            self.sums.add_phases(phases)
        self._trained += len(x)
        self.batch = index + 1

    def finish(self, epoch: int, epochs: int, validation: Data | None, test: Data | None) -> None:
        """Evaluate after an epoch, keep its record, and write the files."""
        if self.sums.samples == 0:
            spent = (
                "" if epoch == 0 else f" in epoch {epoch + 1}: give tensors, a DataLoader or a list, not an iterator"
            )
            raise InputError(f"the training data hold no samples{spent}")
        if not math.isfinite(self.sums.mean_cost()):
            raise InputError(
                f"the training cost of epoch {epoch + 1} is not finite: the training diverged; lower the learning rate"
            )
        self.history.counts += self._training_window()
        self.learner.reseed(derived_seed(self.seed, epoch, self.batch + 1))
        validated = (None, None) if validation is None else evaluate(self.learner, validation)
        tested = (None, None) if test is None else evaluate(self.learner, test)
        self.history.evaluation += self._window()
        sums = self.sums
        record = EpochRecord(
            epoch=epoch + 1,
            train_cost=sums.mean_cost(),
            train_accuracy=sums.accuracy(),
            validation_cost=validated[0],
            validation_accuracy=validated[1],
            test_cost=tested[0],
            test_accuracy=tested[1],
            samples=sums.samples,
            unconverged=int(sums.unconverged),
            residual=float(sums.residual),
            lr=self.lr,
            seconds=sums.seconds,
        )
        if record.unconverged:
            log.warning(
                "epoch %d: %d of %d samples had not settled within max_steps (largest residual %.2g)",
                *(record.epoch, record.unconverged, record.samples, record.residual),
            )
        self.history.epochs.append(record)
        self.sums, self.batch = _Sums(), 0
        judged = record.train_cost if validated[0] is None else validated[0]
        self._schedule(judged)
        better = judged < self.best
        self.best = min(judged, self.best)
        if better:
            self.save("best.pt")
        self.save("last.pt")
        self._write_history()
        log.info("epoch %d/%d: %s", record.epoch, epochs, record.summary())

    def save(self, name: str) -> None:
        """Write a checkpoint, if there is a folder for it."""
        if self.out is None:
            return
        self.history.counts += self._training_window()
        content = {
            "history": self.history.to_json(),
            "batch": self.batch,
            "sums": self.sums.plain(),
            "best": self.best,
            "fixed": self.fixed,
            "optimizer": self.optimizer.state_dict(),
            "scheduler": None if self.scheduler is None else self.scheduler.state_dict(),
            "substrate": self.learner.substrate_state(),
        }
        save_checkpoint(self.out / name, self.learner.network, content)

    def load(self) -> None:
        """Take the run up where `last.pt` left it."""
        assert self.out is not None
        document = read_checkpoint(self.out / "last.pt", self.learner.network)
        for name, value in self.fixed.items():
            if document["fixed"].get(name) != value:
                raise InputError(f"the run in {self.out} has {name} {document['fixed'].get(name)}, not {value}")
        try:
            self.optimizer.load_state_dict(document["optimizer"])
        except ValueError as error:
            raise InputError(f"the run in {self.out} has other parameter groups in its optimizer: {error}") from error
        if self.scheduler is not None:
            self.scheduler.load_state_dict(document["scheduler"])
        self.learner.network.module.load_state_dict(document["module"])
        self.learner.restore_substrate(document["substrate"])
        self.history = History.from_json(document["history"])
        self.batch, self.best, self.sums = document["batch"], document["best"], _Sums(**document["sums"])
        self._write_history()  # a kill may have come between the checkpoint and its last line

    def _window(self) -> OperationCounts:
        """What the substrate did since the last window."""
        before, self._read = self._read, self.learner.substrate.counts()
        return self._read - before

    def _training_window(self) -> OperationCounts:
        """What training did since the last window, the optimizer's part with it, by the samples trained on: a
        substrate may be presented each of them more than once."""
        trained, steps, self._trained, self._steps = self._trained, self._steps, 0, 0
        window = self._window() + optimizer_counts(self.optimizer).times(steps)
        return replace(window, samples=trained)

    def _schedule(self, judged: float) -> None:
        if isinstance(self.scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau):
            self.scheduler.step(judged)
        elif self.scheduler is not None:
            with warnings.catch_warnings():  # no optimizer step yet: resident learning, or resumed at an epoch's end
                warnings.filterwarnings("ignore", "Detected call of `lr_scheduler.step", UserWarning)
                self.scheduler.step()

    def _write_history(self) -> None:
        if self.out is not None and self.history.epochs:
            self.history.write_lines(self.out / "history.jsonl")
            write_counts(self.out / "counts.json", self.history.counts)
