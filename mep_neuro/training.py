"""fit: the training loop, with metrics, checkpoints and exact resumption; evaluate: a data set's cost and accuracy."""

from __future__ import annotations

import contextlib
import logging
import math
import operator
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from torch import Tensor
from typing_extensions import TypeIs

from mep_neuro.checkpoints import read_checkpoint, save_checkpoint
from mep_neuro.costs import correct, cost, encode_target
from mep_neuro.errors import CapabilityError, InputError
from mep_neuro.files import writable_folder
from mep_neuro.history import EpochRecord, History
from mep_neuro.network import EnergyNetwork
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
    scheduler:  stepped after every epoch; a ReduceLROnPlateau with the cost that decides `best.pt`.
    learning:   `"host"`: the gradient is read out and the optimizer steps; `"resident"`: the substrate changes its own
                weights; `"auto"`: what the substrate's capabilities prefer. The log and `History.learning` say which.
    seed:       of the order of samples and, batch by batch, of all the substrate's randomness.
    out:        a folder for `last.pt`, `best.pt` (lowest validation cost; training cost where there is no validation)
                and `history.jsonl`, written after every epoch.
    resume:     go on from `out/last.pt`; the result is that of a run that was never stopped, bit for bit on a CPU. What
                decides the numbers must be as it was; only `epochs` may differ. An iterable must give the same batches
                again: by PyTorch's global generator, which is seeded here, or by none.
    progress:   show a progress bar; None shows one where standard error is a terminal.

    Ctrl-C (or a SIGTERM) lets the batch in hand finish, writes `last.pt`, and then raises `KeyboardInterrupt`.

    Raises `InputError` for settings and data that cannot be used, before anything is written where they show
    themselves by then, and `CapabilityError` where the substrate cannot learn in the place asked for.
    """
    if epochs < 1 or batch_size < 1:
        raise InputError(f"epochs is {epochs} and batch_size {batch_size}; both must be at least 1")
    if resume and out is None:
        raise InputError("resume needs out=..., the folder of the run to go on with")
    for name, data in (("training", train), ("test", test), ("validation", validation)):
        _check_pair(name, data, learner.network)
    run = _Run(learner, optimizer, scheduler, seed, learning_place(learner, learning))
    if _is_pair(train):
        run.fixed |= {"batch size": batch_size, "number of training samples": len(train[0])}
    if out is not None:
        run.out = writable_folder(out)
    log.info("learning on the %s", "host" if run.history.learning == "host" else "substrate (resident)")
    if resume:
        run.load()
    length = _length(train, batch_size)
    with _interruptible() as stop, _bar(progress, epochs) as advance:
        while len(run.history.epochs) < epochs:
            epoch, started = len(run.history.epochs), time.perf_counter()
            batches = _batches(train, batch_size, _seed(seed, epoch, 0))
            advance(epoch + 1, run.batch, length)
            for index, (x, target) in enumerate(batches):
                if index < run.batch:
                    continue
                run.step(x, target, epoch, index)
                advance(epoch + 1, index + 1, length)
                if stop.is_set():
                    run.sums.seconds += time.perf_counter() - started
                    run.save("last.pt")
                    raise KeyboardInterrupt
            run.sums.seconds += time.perf_counter() - started
            run.finish(epoch, epochs, validation, test)
            if stop.is_set():
                raise KeyboardInterrupt
    return run.history


def evaluate(learner: EquilibriumPropagation, data: Data) -> tuple[float, float | None]:
    """(mean cost, accuracy) of the free phase's outputs, the module in evaluation mode. The accuracy is None for
    targets that are no labels."""
    modes = [(module, module.training) for module in learner.network.module.modules()]
    learner.network.module.eval()
    try:
        sums = _Sums()
        for x, target in _batches(data, EVALUATION_BATCH, None):
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


class _Run:
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
        learner.reseed(_seed(self.seed, epoch, index + 1))
        if self.history.learning == "resident":
            self.sums.add(learner, learner.learn(x, target, rate=self.lr), target)
        else:
            phases = learner.relax(x, target)
            learner.put(learner.gradient(phases.terms))
            self.optimizer.step()
            self.sums.add(learner, learner.outputs(phases.free), target)
            self.sums.add_phases(phases)
        self.history.counts += learner.substrate.counts() - before
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
        before = self.learner.substrate.counts()
        self.learner.reseed(_seed(self.seed, epoch, self.batch + 1))
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
        content = {
            "history": self.history.to_json(),
            "batch": self.batch,
            "sums": self.sums.plain(),
            "best": self.best,
            "fixed": self.fixed,
            "optimizer": self.optimizer.state_dict(),
            "scheduler": None if self.scheduler is None else self.scheduler.state_dict(),
            "substrate": _substrate_state(self.learner),
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
        _restore_substrate(self.learner, document["substrate"])
        self.history = History.from_json(document["history"])
        self.batch, self.best, self.sums = document["batch"], document["best"], _Sums(**document["sums"])
        self._write_history()  # a kill may have come between the checkpoint and its last line

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


def _substrate_state(learner: EquilibriumPropagation) -> dict[str, dict[str, Tensor]]:
    """What a substrate with parameters of its own holds, and the module's values when it was last written."""
    if learner.substrate.capabilities.shares_parameters or not learner._written:
        return {}
    held = {name: torch.as_tensor(value).clone() for name, value in learner.substrate.read().items()}
    return {"held": held, "written": dict(learner._written)}


def _restore_substrate(learner: EquilibriumPropagation, state: dict[str, dict[str, Tensor]]) -> None:
    """Bring a fresh substrate to what `_substrate_state` told."""
    if not state or learner.substrate.capabilities.shares_parameters:
        return
    numpy = learner.substrate.capabilities.arrays == "numpy"
    learner.substrate.program({n: v.cpu().numpy() if numpy else v for n, v in state["held"].items()})
    learner._written = dict(state["written"])


def learning_place(learner: EquilibriumPropagation, learning: str) -> Literal["host", "resident"]:
    """Where learning will happen, `"host"` or `"resident"`, when `fit` is asked for `learning`.

    Raises `CapabilityError` where the substrate cannot change its own weights.
    """
    capabilities = learner.substrate.capabilities
    if learning not in ("auto", "host", "resident"):
        raise InputError(f"learning is {learning!r}; give 'auto', 'host' or 'resident'")
    chosen: Literal["host", "resident"] = capabilities.prefers
    if learning != "auto":
        chosen = "resident" if learning == "resident" else "host"
    if chosen == "resident" and not capabilities.resident_learning:
        raise CapabilityError(
            f"{type(learner.substrate).__name__} cannot change its own weights: use learning='host' or 'auto'"
        )
    return chosen


def _seed(*parts: int) -> int:
    """One seed out of several numbers. Trailing zeros change nothing: (1, 2) and (1, 2, 0) give the same."""
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint32)[0])


def _is_pair(data: Data) -> TypeIs[tuple[Tensor, Tensor]]:
    """Whether these are (x, target), and not batches."""
    return isinstance(data, tuple) and len(data) == 2 and all(isinstance(part, Tensor) for part in data)


def _check_pair(name: str, data: Data | None, network: EnergyNetwork) -> None:
    """Say what is wrong with a pair of tensors before anything runs."""
    if data is None or not _is_pair(data):
        return
    x, target = data
    if len(x) != len(target):
        raise InputError(f"x has {len(x)} samples, but the target has {len(target)} (the {name} data)")
    if len(x) == 0:
        raise InputError(f"the {name} data hold no samples")
    for what, values in (("x", x), ("the target", target)):
        bad = ~torch.isfinite(values).flatten(1).all(1) if values.dim() > 1 else ~torch.isfinite(values)
        if bool(bad.any()):
            raise InputError(f"{what} is not finite in sample {int(bad.nonzero()[0])} of the {name} data: clean them")
    network.batch(x[:1])
    labels = target.dim() == 1 and not target.is_floating_point()
    encode_target(torch.stack(target.aminmax()) if labels else target[:1], network.outputs.shape, network.dtype)


def _batches(data: Data, batch_size: int, seed: int | None) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of a pair of tensors, in an order drawn from the seed (in their own without one), or an iterable's own.

    An iterable that draws from PyTorch's global generator, as a shuffling DataLoader does, draws from the seed; the
    global generator is left as it was.
    """
    if not _is_pair(data):
        yield from _drawn(data, seed or 0)
        return
    x, target = data
    generator = torch.Generator().manual_seed(seed or 0)
    order = torch.arange(len(x)) if seed is None else torch.randperm(len(x), generator=generator)
    for rows in torch.split(order.to(x.device), batch_size):
        yield x[rows], target[rows]


def _drawn(data: Iterable[tuple[Tensor, Tensor]], seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """An iterable's batches, drawn while the global generator is lent a state of its own."""
    lent, batches = torch.Generator().manual_seed(seed).get_state(), None
    while True:
        outside = torch.get_rng_state()
        torch.set_rng_state(lent)
        try:
            batches = iter(data) if batches is None else batches
            x, target = next(batches)
        except StopIteration:
            return
        finally:
            lent = torch.get_rng_state()
            torch.set_rng_state(outside)
        yield x, target


def _length(data: Data, batch_size: int) -> int | None:
    """How many batches there are; None where that is not known."""
    return math.ceil(len(data[0]) / batch_size) if _is_pair(data) else operator.length_hint(data) or None


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
def _bar(show: bool | None, epochs: int) -> Iterator[Callable[[int, int, int | None], None]]:
    """A function (epoch, batches done in it, batches in it) that moves a progress bar on standard error."""
    if not (sys.stderr.isatty() if show is None else show):
        yield lambda epoch, batch, batches: None
        return
    columns = (
        TextColumn("epoch {task.fields[epoch]}/{task.fields[epochs]}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("batches"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        tasks = list[TaskID]()

        def advance(epoch: int, batch: int, batches: int | None) -> None:
            done = batch if batches is None else (epoch - 1) * batches + batch
            total = None if batches is None else epochs * batches
            if tasks:
                bar.update(tasks[0], completed=done, epoch=epoch)
            else:  # begun where the run is, so that the time remaining is told from what is done from here on
                tasks.append(bar.add_task("training", total=total, completed=done, epoch=epoch, epochs=epochs))

        yield advance
