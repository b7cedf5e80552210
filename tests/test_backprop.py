"""The baseline: plain backpropagation, with the weights, batches and optimizer of the run that it stands beside."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import mep_neuro as mep
from mep_neuro.accounting.formulas import backpropagation, optimizer_step
from mep_neuro.backprop import train_by_backprop
from mep_neuro.batches import derived_seed, draw_batches
from mep_neuro.errors import InputError
from mep_neuro.runs import RunSettings

SETTINGS = RunSettings(layers=(64, 12, 10), epochs=2, batch_size=100, lr=1e-2)


def test_it_is_a_plain_training_loop() -> None:
    module, data = SETTINGS.model(), SETTINGS.data_set(None)
    history = train_by_backprop(SETTINGS, module, data)

    plain = SETTINGS.model()
    optimizer = torch.optim.Adam(plain.parameters(), lr=1e-2, fused=True)
    one_hot = torch.eye(10)
    for epoch in range(2):
        for x, y in draw_batches((data.x_train, data.y_train), 100, derived_seed(0, epoch, 0)):
            optimizer.zero_grad()
            (0.5 * (plain(x) - one_hot[y]).square().sum(1)).mean().backward()
            optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(module.parameters(), plain.parameters(), strict=True))
    right = (plain(data.x_test).argmax(1) == data.y_test).float().mean()
    assert history.last.test_accuracy == pytest.approx(float(right))
    assert history.last.test_accuracy > 0.7


def test_counts_are_those_of_the_formula_and_of_torch() -> None:
    settings = SETTINGS.model_copy(update={"epochs": 1})
    module, data = settings.model(), settings.data_set(None)
    with FlopCounterMode(display=False) as counter:
        history = train_by_backprop(settings, module, data)
    network = mep.EnergyNetwork.from_module(module)
    whole, rest = divmod(len(data.x_train), 100)
    step = optimizer_step(64 * 12 + 12 + 12 * 10 + 10, 2)
    by_hand = backpropagation(network, batch=100).times(whole) + backpropagation(network, batch=rest)
    assert history.counts == by_hand + step.times(whole + 1)
    tested = history.evaluation.total("macs")
    assert tested == len(data.x_test) * (64 * 12 + 12 * 10)
    assert counter.get_total_flops() == 2 * (history.counts.total("macs") + tested)


def test_the_same_seed_gives_the_same_run() -> None:
    data = SETTINGS.data_set(None)
    one, other = (train_by_backprop(SETTINGS, SETTINGS.model(), data) for _ in range(2))
    assert [r.train_cost for r in one.epochs] == [r.train_cost for r in other.epochs]
    assert one.counts == other.counts


def test_a_training_that_diverges_is_an_error() -> None:
    settings = SETTINGS.model_copy(update={"optimizer": "sgd", "lr": 1e9})
    with pytest.raises(InputError, match="the training diverged; lower the learning rate"):
        train_by_backprop(settings, settings.model(), settings.data_set(None))
