"""Resident learning: the weights that the engine leaves, by hand, and what they are worth."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import nn

import mep_neuro as mep
from mep_neuro.data import load
from mep_neuro.errors import InputError
from mep_neuro.types import Nudge
from mep_neuro_lava import LoihiBackend
from mep_neuro_lava.resident import Rounding, rule_of


def opened(*sizes: int, seed: int = 0, **options: object) -> LoihiBackend:
    torch.manual_seed(seed)
    layers: list[nn.Module] = []
    for a, b in itertools.pairwise(sizes):
        layers += [nn.Linear(a, b), nn.Hardtanh(0.0, 1.0)]
    net = mep.EnergyNetwork.from_module(nn.Sequential(*layers[:-1]).double())
    substrate = LoihiBackend(net, **options)
    substrate.program({name: p.detach().numpy() for name, p in net.parameters.items()})
    return substrate


def code(value: int, places: int, low: int, high: int) -> int:
    return min(max((value + (1 << places >> 1)) >> places, low), high)


def test_one_sample_is_the_rule_by_hand() -> None:
    """Both turns on 3-4-2, synapse by synapse in Python integers, with Lava's random numbers."""
    steps, rate, beta = (9, 5), 0.05, 0.5
    substrate = opened(3, 4, 2, timesteps=steps, headroom=1)
    x, target = np.array([[0.5, -0.25, 1.0]]), np.array([[1.0, 0.0]])
    held, rule = substrate.held, rule_of(substrate.held, rate / beta)
    free = substrate.settle(x)
    nudged = substrate.settle(x, nudge=Nudge(beta, target), start=free)
    before, after = ([[int(v * 2**16) for v in s[0]] for s in e.states] for e in (free, nudged))
    weights = [s.mantissas.astype(int).tolist() for s in held.synapses]
    mean = [[code(int(v * 512), 5, -63, 63) for v in x[0]]]  # +-4 in a trace: 4 bits after the point
    mean += [[code(a + b >> 1, 16 - 7, 0, 127) for a, b in zip(before[0], after[0], strict=True)]]
    mean += [[code(a + b >> 1, 16 - 5, -63, 63) for a, b in zip(before[1], after[1], strict=True)]]
    moved = [
        [0, 0, 0],
        *(
            [code(b - a, 16 - 7, -63, 63) for a, b in zip(u, v, strict=True)]
            for u, v in zip(before, after, strict=True)
        ),
    ]
    random = np.random.default_rng(2)
    draws = [random.random() for _ in range(1 + 1 + sum(steps) + 2)]  # one at the start, then one a timestep
    for turn in range(2):
        told = [(mean, moved)[(level + turn) % 2][level] for level in range(3)]
        for level in range(2):
            if (level + turn) % 2 and not level:
                continue
            scale = rule.by_difference[level - 1] if (level + turn) % 2 else rule.by_mean[level]
            for i, up in enumerate(told[level + 1]):
                for j, low in enumerate(told[level]):
                    change = (scale.mantissa * up * low * rule.rate >> 10) << (scale.exponent + 7)
                    total = (weights[level][i][j] << 7) + change
                    weights[level][i][j] = (total >> 7) + (draws[-2 + turn] < (total & 127) / 128)
    substrate.learn(x, target, rate=rate, beta=beta)
    assert [s.mantissas.tolist() for s in substrate.held.synapses] == weights
    for level, bias in enumerate(held.biases):
        r = round(rate / beta * 2**20)
        wanted = [
            int(b) + ((r * (v - u) + 2**19) >> 20) for b, u, v in zip(bias, before[level], after[level], strict=True)
        ]
        assert substrate.held.biases[level].tolist() == wanted


def test_the_mean_change_is_the_contrast() -> None:
    """Over many roundings, weights move by rate / beta times EP's one-sided contrast, within the traces' 6 bits."""
    rng = np.random.default_rng(0)
    x, target = rng.uniform(-1, 1, (1, 6)), np.array([[1.0, 0.0, 0.0]])
    total, runs = {}, 60
    for seed in range(runs):
        substrate = opened(6, 8, 3, headroom=2, learning_rounding="independent")
        substrate.reseed(seed)
        start = substrate.read()
        free = substrate.settle(x)
        nudged = substrate.settle(x, nudge=Nudge(0.5, target), start=free)
        wanted = substrate.contrast([(2.0, nudged), (-2.0, free)])
        substrate.learn(x, target, rate=0.2, beta=0.5)
        for name, value in substrate.read().items():
            total[name] = total.get(name, 0.0) + (value - start[name]) / (0.2 * runs)
    for name, value in wanted.items():
        cosine = (value * total[name]).sum() / np.linalg.norm(value) / np.linalg.norm(total[name])
        assert cosine > 0.97, name
        assert abs(np.linalg.norm(total[name]) / np.linalg.norm(value) - 1) < 0.15, name


def test_counts_of_learning_are_a_hand_count() -> None:
    substrate = opened(3, 4, 2, timesteps=(9, 5))
    x, target = np.array([[0.5, 0.0, 1.0]]), np.array([[1.0, 0.0]])
    free = substrate.settle(x)
    nudged = substrate.settle(x, nudge=Nudge(0.5, target), start=free)
    before = substrate.counts()
    substrate.learn(x, target, rate=0.05, beta=0.5)
    counts = substrate.counts() - before
    hidden, outputs = (
        [(int(a * 2**16), int(b * 2**16)) for a, b in zip(u[0], v[0], strict=True)]
        for u, v in zip(free.states, nudged.states, strict=True)
    )
    differ = [sum(code(b - a, 9, -63, 63) != 0 for a, b in part) for part in (hidden, outputs)]
    mean = [
        sum(code(a + b >> 1, 9, 0, 127) != 0 for a, b in hidden),
        sum(code(a + b >> 1, 11, -63, 63) != 0 for a, b in outputs),
    ]
    spikes = (2 + differ[0] + mean[1]) + (mean[0] + differ[1])
    events = (2 * 4 + differ[0] * 2 + mean[1] * 4) + (mean[0] * 2 + differ[1] * 4)
    assert counts["update", "spikes"] == spikes
    assert counts["update", "learning_updates"] == counts["update", "synaptic_events"] == events
    assert counts["update", "timesteps"] == 2
    assert counts["update", "neuron_updates"] + counts["update", "inactive_updates"] == 2 * 6
    assert counts["free", "timesteps"] == 10
    assert counts["nudged", "timesteps"] == 5
    assert counts.samples == 1


def test_shared_rounding_draws_as_lava_does() -> None:
    rounding, lava = Rounding("shared", 2), np.random.default_rng(2)
    drawn = [lava.random(1)[0] for _ in range(8)]
    assert rounding((2, 2)) == drawn[0]
    rounding.advance(5)
    assert rounding((3,)) == drawn[5]
    rounding.advance(1)
    assert rounding((3,)) == drawn[6]


def test_samples_are_learnt_one_after_the_other() -> None:
    rng = np.random.default_rng(0)
    x, target = rng.uniform(-1, 1, (4, 3)), np.eye(2)[[0, 1, 1, 0]]
    together, alone = opened(3, 4, 2), opened(3, 4, 2)
    together.learn(x, target, rate=0.4, beta=0.5)
    for i in range(4):
        alone.learn(x[i : i + 1], target[i : i + 1], rate=0.1, beta=0.5)
    for name, value in together.read().items():
        assert np.array_equal(value, alone.read()[name])


def test_an_equilibrium_of_before_keeps_its_weights() -> None:
    substrate = opened(3, 4, 2)
    x, target = np.array([[0.5, -0.5, 1.0]]), np.array([[1.0, 0.0]])
    free = substrate.settle(x)
    kept = [s.mantissas.copy() for s in free.context.program.synapses]
    for _ in range(10):
        substrate.learn(x, target, rate=0.2, beta=0.5)
    assert all(np.array_equal(a, s.mantissas) for a, s in zip(kept, free.context.program.synapses, strict=True))
    assert not np.array_equal(kept[0], substrate.held.synapses[0].mantissas)


def test_frozen_parameters_stay() -> None:
    substrate = opened(3, 4, 2)
    for name in ("0.weight", "2.bias"):
        substrate.network.parameters[name].requires_grad_(False)
    before = substrate.read()
    for _ in range(10):
        substrate.learn(np.array([[0.5, -0.5, 1.0]]), np.array([[1.0, 0.0]]), rate=0.2, beta=0.5)
    for name, value in substrate.read().items():
        assert np.array_equal(value, before[name]) == (name in ("0.weight", "2.bias"))


def test_a_run_may_be_taken_up_where_the_units_are_fixed() -> None:
    options = {"weight_fractions": [7, 7], "learning_rounding": "independent"}
    x, target = np.array([[0.5, -0.5, 1.0]]), np.array([[1.0, 0.0]])
    substrate = opened(3, 4, 2, **options)
    for _ in range(5):
        substrate.learn(x, target, rate=0.2, beta=0.5)
    other = opened(3, 4, 2, seed=1, **options)
    other.program(substrate.read())
    for run in (substrate, other):
        run.reseed(3)
        run.learn(x, target, rate=0.2, beta=0.5)
    for name, value in substrate.read().items():
        assert np.array_equal(value, other.read()[name])


@pytest.mark.parametrize("rate", [0.0, -1.0, 1e-9, 1e6, float("nan")])
def test_a_rate_beyond_the_engines_scales_is_refused(rate: float) -> None:
    with pytest.raises(InputError, match="the learning step"):
        opened(3, 4, 2).learn(np.zeros((1, 3)), np.zeros((1, 2)), rate=rate, beta=0.5)


@pytest.mark.parametrize("beta", [-0.5, 1e-6])
def test_a_beta_that_does_not_serve_is_refused(beta: float) -> None:
    with pytest.raises(InputError, match="beta is"):
        opened(3, 4, 2).learn(np.zeros((1, 3)), np.zeros((1, 2)), rate=0.1, beta=beta)


@pytest.mark.slow
def test_digits_by_resident_learning() -> None:
    data = load("digits")
    substrate = opened(64, 32, 10, timesteps=(30, 15), headroom=1)
    targets = np.eye(10)[data.y_train.numpy()]
    rng = np.random.default_rng(0)
    for epoch in range(3):
        order = rng.permutation(len(targets))
        rate = 0.02 * 0.7**epoch * len(order)
        substrate.learn(data.x_train.double().numpy()[order], targets[order], rate=rate, beta=0.5)
    found = substrate.settle(data.x_test.double().numpy()).outputs.argmax(1)
    assert (found == data.y_test.numpy()).mean() >= 0.88
