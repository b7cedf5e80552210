"""fit: the training loop, with metrics, checkpoints and exact resumption; evaluate: a data set's cost and accuracy."""

from __future__ import annotations

import contextlib
import logging
import math
import signal
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

from mep_neuro.checkpoints import load_checkpoint, save_checkpoint
from mep_neuro.costs import correct, cost, encode_target
from mep_neuro.errors import CapabilityError, InputError
from mep_neuro.files import writable_folder
from mep_neuro.history import EpochRecord, History
from mep_neuro.propagation import EquilibriumPropagation, Phases

Data: TypeAlias = tuple[Tensor, Tensor] | Iterable[tuple[Tensor, Tensor]]
"""(x, target) tensors, from which batches are drawn, or anything that gives batches, such as a DataLoader."""

EVALUATION_BATCH = 1000

log = logging.getLogger(__name__)


def fit(
    learner: EquilibriumPropagation,
    train: Data,
    test: Data | None = None,
    *,
    optimizer: torch.optim.Optimizer,
    epochs: int,
    batch_size: int = 64,
    validation: Data | None = None,
    scheduler: torch.optim.lr_scheduler.LRScheduler | None = None,
    learning: Literal["auto", "host", "resident"] = "auto",
    seed: int = 0,
    out: Path | str | None = None,
    resume: bool = False,
    progress: bool | None = None,
) -> History:
    """Train for so many epochs in all and return what was measured.

    train, test, validation: (x, target) tensors, or an iterable of batches (then `batch_size` is not used).
    optimizer:  any torch optimizer over the module's parameters; in resident learning only its learning rate is used.
    scheduler:  stepped after every epoch.
    learning:   `"host"`: the gradient is read out and the optimizer steps; `"resident"`: the substrate changes its own
                weights; `"auto"`: what the substrate's capabilities prefer. The log and `History.learning` say which.
    seed:       of the order of samples and, batch by batch, of all the substrate's randomness.
    out:        a folder for `last.pt`, `best.pt` (lowest validation cost; training cost where there is no validation)
                and `history.jsonl`, written after every epoch.
    resume:     go on from `out/last.pt`; the result is that of a run that was never stopped, bit for bit on a CPU.
    progress:   show a progress bar; None shows one where standard error is a terminal.

    Ctrl-C (or a SIGTERM) lets the batch in hand finish, writes `last.pt`, and then raises `KeyboardInterrupt`.
    """
    if epochs < 1 or batch_size < 1:
        raise InputError(f"epochs is {epochs} and batch_size {batch_size}; both must be at least 1")
    if resume and out is None:
        raise InputError("resume needs out=..., the folder of the run to go on with")
    run = _Run(learner, optimizer, scheduler, seed, _where(learner, learning), _folder(out))
    log.info("learning on the %s", "host" if run.history.learning == "host" else "substrate (resident)")
    if resume:
        run.load()
    with _interruptible() as stop, _bar(progress, epochs, len(run.history.epochs)) as advance:
        while len(run.history.epochs) < epochs:
            epoch, started = len(run.history.epochs), time.perf_counter()
            batches = _batches(train, batch_size, _seed(seed, epoch))
            length = _length(train, batch_size)
            for index, (x, target) in enumerate(batches):
                if index < run.batch:
                    continue
                run.step(x, target, epoch, index)
                advance(index + 1, length)
                if stop.is_set():
                    run.sums.seconds += time.perf_counter() - started
                    run.save("last.pt")
                    raise KeyboardInterrupt
            run.sums.seconds += time.perf_counter() - started
            run.finish(epoch, validation, test)
    return run.history


def evaluate(learner: EquilibriumPropagation, data: Data) -> tuple[float, float | None]:
    """(mean cost, accuracy) of the free phase's outputs, the module in evaluation mode. The accuracy is None for
    targets that are no labels."""
    module, mode = learner.network.module, learner.network.module.training
    module.eval()
    try:
        sums = _Sums()
        for x, target in _batches(data, EVALUATION_BATCH, None):
            outputs = learner.predict(x)
            sums.add(learner, outputs, target)
    finally:
        module.train(mode)
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


class _Run:
    """The state of a training run: what a checkpoint holds, and how a batch and an epoch change it."""

    def __init__(
        self,
        learner: EquilibriumPropagation,
        optimizer: torch.optim.Optimizer,
        scheduler: torch.optim.lr_scheduler.LRScheduler | None,
        seed: int,
        learning: str,
        out: Path | None,
    ) -> None:
        self.learner, self.optimizer, self.scheduler = learner, optimizer, scheduler
        self.seed, self.out = seed, out
        self.history, self.sums, self.batch, self.best = History(learning), _Sums(), 0, math.inf
        own = {id(p) for p in learner.network.module.parameters()}
        held = {id(p) for group in optimizer.param_groups for p in group["params"]}
        if not own & held:
            raise InputError("the optimizer holds none of the network's parameters: give it model.parameters()")

    @property
    def lr(self) -> float:
        return float(self.optimizer.param_groups[0]["lr"])

    def step(self, x: Tensor, target: Tensor, epoch: int, index: int) -> None:
        """Learn one batch."""
        learner, before = self.learner, self.learner.substrate.counts()
        learner.reseed(_seed(self.seed, epoch, index))
        if self.history.learning == "resident":
            self.sums.add(learner, learner.learn(x, target, rate=self.lr), target)
        else:
            phases = learner.relax(x, target)
            learner.put(learner.gradient(phases))
            self.optimizer.step()
            self.sums.add(learner, learner.outputs(phases.free), target)
            self.sums.add_phases(phases)
        self.history.counts += learner.substrate.counts() - before
        self.batch = index + 1

    def finish(self, epoch: int, validation: Data | None, test: Data | None) -> None:
        """Evaluate after an epoch, keep its record, and write the files."""
        if self.sums.samples == 0:
            raise InputError("the training data hold no samples")
        before = self.learner.substrate.counts()
        validated = (None, None) if validation is None else evaluate(self.learner, validation)
        tested = (None, None) if test is None else evaluate(self.learner, test)
        self.history.evaluation += self.learner.substrate.counts() - before
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
        if self.scheduler is not None:
            self.scheduler.step()
        judged = record.train_cost if validated[0] is None else validated[0]
        better = judged < self.best
        self.best = min(judged, self.best)
        if better:
            self.save("best.pt")
        self.save("last.pt")
        if self.out is not None:
            self.history.write_lines(self.out / "history.jsonl")

    def save(self, name: str) -> None:
        """Write a checkpoint, if there is a folder for it."""
        if self.out is None:
            return
        substrate = self.learner.substrate
        shared = substrate.capabilities.shares_parameters
        content = {
            "history": self.history.to_json(),
            "batch": self.batch,
            "sums": self.sums.plain(),
            "best": self.best,
            "seed": self.seed,
            "optimizer": self.optimizer.state_dict(),
            "scheduler": None if self.scheduler is None else self.scheduler.state_dict(),
            "substrate": {} if shared else {k: torch.as_tensor(v).clone() for k, v in substrate.read().items()},
        }
        save_checkpoint(self.out / name, self.learner.network, content)

    def load(self) -> None:
        """Take the run up where `last.pt` left it."""
        assert self.out is not None
        document = load_checkpoint(self.out / "last.pt", self.learner.network)
        if document["seed"] != self.seed:
            raise InputError(f"the run in {self.out} has seed {document['seed']}, not {self.seed}")
        self.history = History.from_json(document["history"])
        self.batch, self.best, self.sums = document["batch"], document["best"], _Sums(**document["sums"])
        self.optimizer.load_state_dict(document["optimizer"])
        if self.scheduler is not None and document["scheduler"] is not None:
            self.scheduler.load_state_dict(document["scheduler"])


def _where(learner: EquilibriumPropagation, learning: str) -> str:
    capabilities = learner.substrate.capabilities
    if learning not in ("auto", "host", "resident"):
        raise InputError(f"learning is {learning!r}; give 'auto', 'host' or 'resident'")
    chosen = capabilities.prefers if learning == "auto" else learning
    if chosen == "resident" and not capabilities.resident_learning:
        raise CapabilityError(
            f"{type(learner.substrate).__name__} cannot change its own weights: use learning='host' or 'auto'"
        )
    return chosen


def _folder(out: Path | str | None) -> Path | None:
    return None if out is None else writable_folder(out)


def _seed(*parts: int) -> int:
    """One seed out of several numbers."""
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint32)[0])


def _batches(data: Data, batch_size: int, seed: int | None) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of a pair of tensors, in an order drawn from the seed (in their own without one), or an iterable's own.

    An iterable that draws from PyTorch's global generator, as a shuffling DataLoader does, draws from the seed; the
    global generator is left as it was.
    """
    if isinstance(data, tuple):
        x, target = data
        if len(x) != len(target):
            raise InputError(f"x has {len(x)} samples, but the target has {len(target)}")
        generator = torch.Generator().manual_seed(seed or 0)
        order = torch.arange(len(x)) if seed is None else torch.randperm(len(x), generator=generator)
        for rows in order.to(x.device).split(batch_size):
            yield x[rows], target[rows]
        return
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed or 0)
        batches = iter(data)
    for x, target in batches:
        yield x, target


def _length(data: Data, batch_size: int) -> int | None:
    if isinstance(data, tuple):
        return math.ceil(len(data[0]) / batch_size)
    return len(data) if hasattr(data, "__len__") else None


@contextlib.contextmanager
def _interruptible() -> Iterator[threading.Event]:
    """An event that Ctrl-C or SIGTERM sets instead of raising at once; a second Ctrl-C raises as ever."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    old = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)}

    def note(number: int, frame: object) -> None:
        stop.set()
        signal.signal(signal.SIGINT, old[signal.SIGINT])

    for number in old:
        signal.signal(number, note)
    try:
        yield stop
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _bar(show: bool | None, epochs: int, done: int) -> Iterator[Any]:
    """A function (batch, batches) that moves a progress bar on standard error."""
    if not (sys.stderr.isatty() if show is None else show):
        yield lambda batch, batches: None
        return
    columns = (
        TextColumn("epoch {task.fields[epoch]}/{task.fields[epochs]}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("batches"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("training", total=None, epoch=done + 1, epochs=epochs)

        def advance(batch: int, batches: int | None) -> None:
            nonlocal done
            bar.update(task, completed=batch, total=batches, epoch=done + 1)
            if batch == batches:
                done += 1

        yield advance
