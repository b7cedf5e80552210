"""The baseline: the same run by backpropagation, with the same weights, batches, cost, optimizer and epochs."""

from __future__ import annotations

import time
from collections import Counter
from contextlib import nullcontext

import torch
from torch import nn

from mep_neuro.accounting.formulas import backpropagation
from mep_neuro.accounting.measuring import measure as meter_of
from mep_neuro.accounting.optimizers import optimizer_counts
from mep_neuro.batches import batch_count, derived_seed, draw_batches
from mep_neuro.costs import correct, cost, encode_target
from mep_neuro.counts import OperationCounts
from mep_neuro.data import DataSet
from mep_neuro.errors import InputError
from mep_neuro.history import EpochRecord, History
from mep_neuro.interaction import interruptible, progress_bar
from mep_neuro.network import EnergyNetwork
from mep_neuro.runs import RunSettings


def train_by_backprop(
    settings: RunSettings,
    module: nn.Sequential,
    data: DataSet,
    *,
    measure: str | None = None,
    progress: bool | None = None,
) -> History:
    """Train a module, read as its forward pass, by autograd; the substrate's and EP's settings are not used.

    The counts are those of `formulas.backpropagation`, batch by batch, and of the optimizer. Ctrl-C ends
    it after the batch in hand. measure: as in `fit`, on the CPU.
    """
    network, optimizer = EnergyNetwork.from_module(module), settings.torch_optimizer(module)
    train = (data.x_train, data.y_train)
    history, length = History("host"), batch_count(train, settings.batch_size)
    shape, itemsize = network.outputs.shape, network.dtype.itemsize
    meter = None if measure is None else meter_of(measure)
    with meter or nullcontext(), interruptible() as stop, progress_bar(progress, settings.epochs) as advance:
        for epoch in range(settings.epochs):
            started, total, right = time.perf_counter(), torch.zeros(()), torch.zeros(())
            made = Counter[int]()  # batches by their size
            batches = draw_batches(train, settings.batch_size, derived_seed(settings.seed, epoch, 0))
            for index, (x, y) in enumerate(batches):
                target = encode_target(y, shape, network.dtype)
                outputs = module(x)
                costs = cost(settings.cost, outputs, target)
                optimizer.zero_grad(set_to_none=True)
                torch.autograd.backward(costs.mean())
                optimizer.step()
                total += costs.detach().sum()
                right += correct(outputs.detach(), target).sum()
                made[len(x)] += 1
                advance(epoch + 1, index + 1, length)
                if stop.is_set():
                    raise KeyboardInterrupt
            seconds = time.perf_counter() - started
            if not torch.isfinite(total):
                raise InputError(
                    f"the training cost of epoch {epoch + 1} is not finite: the training diverged; "
                    "lower the learning rate"
                )
            for size, times in made.items():
                history.counts += backpropagation(network, batch=size, itemsize=itemsize).times(times)
            history.counts += optimizer_counts(optimizer).times(made.total())
            history.epochs.append(_record(settings, data, module, epoch, total, right, seconds))
    if meter is not None:
        history.measured, history.not_measured = meter.result, meter.why
    history.evaluation += _forward(network, itemsize, settings.epochs * len(data.x_test))
    return history


def _record(
    settings: RunSettings,
    data: DataSet,
    module: nn.Sequential,
    epoch: int,
    total: torch.Tensor,
    right: torch.Tensor,
    seconds: float,
) -> EpochRecord:
    samples = len(data.x_train)
    module.eval()
    with torch.no_grad():
        outputs = module(data.x_test)
        target = encode_target(data.y_test, tuple(outputs.shape[1:]), outputs.dtype)
        test_cost = float(cost(settings.cost, outputs, target).mean())
        test_accuracy = float(correct(outputs, target).sum()) / len(target)
    module.train()
    return EpochRecord(
        epoch=epoch + 1,
        train_cost=float(total) / samples,
        train_accuracy=float(right) / samples,
        validation_cost=None,
        validation_accuracy=None,
        test_cost=test_cost,
        test_accuracy=test_accuracy,
        samples=samples,
        unconverged=0,
        residual=0.0,
        lr=settings.rate,
        seconds=seconds,
    )


def _forward(network: EnergyNetwork, itemsize: int, samples: int) -> OperationCounts:
    """The forward pass alone, of so many samples in one batch."""
    whole = backpropagation(network, batch=samples, itemsize=itemsize)
    return OperationCounts(samples, {key: n for key, n in whole.entries.items() if key[0] in ("free", "input_output")})
