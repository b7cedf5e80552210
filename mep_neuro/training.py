"""fit: the training loop, with metrics, checkpoints and exact resumption."""

from __future__ import annotations

import logging
import time
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Literal

import torch

from mep_neuro.accounting.measuring import measure as meter_of
from mep_neuro.batches import Data, batch_count, check_data, derived_seed, draw_batches, is_pair
from mep_neuro.errors import CapabilityError, InputError
from mep_neuro.files import writable_folder
from mep_neuro.history import History
from mep_neuro.interaction import interruptible, progress_bar
from mep_neuro.propagation import EquilibriumPropagation
from mep_neuro.training_run import TrainingRun

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
    measure: str | None = None,
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
                and `history.jsonl` and `counts.json`, written after every epoch.
    resume:     go on from `out/last.pt`; the result is that of a run that was never stopped, bit for bit on a CPU. What
                decides the numbers must be as it was; only `epochs` may differ. An iterable must give the same batches
                again: by PyTorch's global generator, which is seeded here, or by none.
    measure:    read joules off a sensor meanwhile: "rapl", "nvml", "auto" (that of the network's device), or None. The
                device is left idle for 2 s before and after, for its idle power. See `mep_neuro.measure`; the result,
                or why there is none, is in the history.
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
        check_data(name, data, learner.network)
    run = TrainingRun(learner, optimizer, scheduler, seed, learning_place(learner, learning))
    if is_pair(train):
        run.fixed |= {"batch size": batch_size, "number of training samples": len(train[0])}
    if out is not None:
        run.out = writable_folder(out)
    log.info("learning on the %s", "host" if run.history.learning == "host" else "substrate (resident)")
    if resume:
        run.load()
    length = batch_count(train, batch_size)
    on_torch = learner.substrate.capabilities.arrays == "torch"
    device = learner.network.device if on_torch else torch.device("cpu")  # NumPy works on the CPU
    wait = partial(torch.cuda.synchronize, device) if device.type == "cuda" else lambda: None
    meter = None if measure is None or resume else meter_of(measure, device=device, synchronize=wait)
    with meter or nullcontext(), interruptible() as stop, progress_bar(progress, epochs) as advance:
        while len(run.history.epochs) < epochs:
            epoch, started = len(run.history.epochs), time.perf_counter()
            batches = draw_batches(train, batch_size, derived_seed(seed, epoch, 0))
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
    if meter is not None:
        run.history.measured, run.history.not_measured = meter.result, meter.why
        run.save("last.pt")
    elif measure is not None:
        run.history.not_measured = "the run was resumed, so only a part of it could be measured: train it in one go"
    return run.history


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
