"""Bars on small budgets that no change may break: accuracy on digits after five epochs.

Nothing here is timed. The full budgets are in docs/benchmarks/VALIDATION_RESULTS.md, the bars of depth in
tests/backends/test_errors_solver.py, those of XOR in the example's own test.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import mep_neuro as mep
from mep_neuro.data import load

EPOCHS, BATCH, SEEDS = 5, 32, (0, 1, 2)
DIGITS = load("digits")
Make = Callable[[nn.Sequential], torch.optim.Optimizer]


def model(seed: int) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))


def accuracy(make: Make) -> float:
    """On the test digits, median of three seeds, with the learning rate falling to 0."""
    found = []
    for seed in SEEDS:
        net = model(seed)
        optimizer, generator = make(net), torch.Generator().manual_seed(seed)
        steps = EPOCHS * -(-len(DIGITS.x_train) // BATCH)
        decay = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step, steps=steps: max(0.0, 1 - step / steps))
        for _ in range(EPOCHS):
            for rows in torch.randperm(len(DIGITS.x_train), generator=generator).split(BATCH):
                x, y = DIGITS.x_train[rows], DIGITS.y_train[rows]
                if isinstance(optimizer, mep.CompositeOptimizer) and isinstance(optimizer.gradient, mep.EPGradient):
                    optimizer.step(x=x, target=y)
                else:
                    optimizer.zero_grad()
                    (0.5 * (net(x) - F.one_hot(y, 10)).square().sum(1)).mean().backward()
                    optimizer.step()
                decay.step()
        outputs = net(DIGITS.x_test)
        if isinstance(optimizer, mep.CompositeOptimizer) and isinstance(optimizer.gradient, mep.EPGradient):
            outputs = optimizer.gradient.learner.predict(DIGITS.x_test)
        found.append(float((outputs.argmax(1) == DIGITS.y_test).float().mean()))
    return statistics.median(found)


@pytest.mark.parametrize(
    ("make", "bar"),
    [
        pytest.param(lambda m: mep.smep(m.parameters(), m, lr=0.01), 0.975, id="smep"),
        pytest.param(lambda m: mep.smep_fast(m.parameters(), m, lr=0.01), 0.97, id="smep_fast"),
        pytest.param(lambda m: mep.sdmep(m.parameters(), m, lr=0.01, dion_thresh=1000), 0.95, id="sdmep"),
        pytest.param(lambda m: mep.natural_ep(m.parameters(), m, lr=0.02, beta=0.1), 0.96, id="natural_ep"),
        pytest.param(lambda m: mep.local_ep(m.parameters(), m, lr=0.02), 0.95, id="local_ep"),
        pytest.param(lambda m: mep.smep(m.parameters(), m, mode="backprop", lr=0.01), 0.97, id="smep, backprop"),
        pytest.param(lambda m: mep.muon_backprop(m.parameters(), m, lr=0.01), 0.97, id="muon_backprop"),
    ],
)
def test_accuracy_on_digits(make: Make, bar: float) -> None:
    assert accuracy(make) >= bar


def test_smep_is_not_below_adam_by_backprop_with_the_same_budget() -> None:
    smep = accuracy(lambda m: mep.smep(m.parameters(), m, lr=0.01))
    assert smep >= accuracy(lambda m: torch.optim.Adam(m.parameters(), lr=0.003)) - 0.005
