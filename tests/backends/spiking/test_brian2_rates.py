"""Settling: rates against the reference's equilibrium, starts, seeds, targets, counts."""

from __future__ import annotations

import numpy as np
import pytest
from spiking_nets import chain, values
from torch import nn

import mep_neuro as mep
from mep_neuro_brian2 import Brian2Backend


def settled(network, x, nudges=(), **options):
    """States side by side, (phases, batch, units): free, and under each nudge."""
    with Brian2Backend(network, **options) as substrate:
        return _settled(substrate, network, x, nudges)


def exact(network, x, nudges=()):
    with mep.backend("reference", network, max_steps=300) as substrate:
        return _settled(substrate, network, x, nudges)


def _settled(substrate, network, x, nudges):
    substrate.program(values(network))
    free = substrate.settle(x)
    phases = [free, *substrate.settle_each(x, nudges, free)]
    return np.stack([np.concatenate(e.states, 1) for e in phases])


def drawn(network, batch=4, seed=0):
    rng = np.random.default_rng(seed)
    return rng.random((batch, *network.input_shape)), np.eye(network.outputs.size)[rng.integers(0, 2, batch)]


@pytest.mark.parametrize("seed", range(20))
def test_free_rates_are_the_reference_equilibrium(seed):
    """Within 3 / sqrt(window x rate) of each unit, in shares of the largest rate, for random nets."""
    sizes = np.random.default_rng(seed).integers(2, 9, 2 + seed % 3)
    network = chain(*map(int, sizes), 3, seed=seed)
    x, _ = drawn(network, seed=seed)
    wanted, found = exact(network, x), settled(network, x)
    spikes = np.maximum(wanted * 0.1 * 500, 1)  # a window of 0.1 s at up to 500 Hz
    assert (np.abs(found - wanted) < 3 / np.sqrt(spikes)).all()
    assert np.abs(found - wanted).max() < 0.01  # which is far more than it needs


@pytest.mark.parametrize("activation", [nn.Hardsigmoid, nn.ReLU6])
def test_each_activation_has_its_rate_when_free_and_nudged(activation):
    network = chain(4, 6, 3, activation=activation)
    x, y = drawn(network)
    nudges = [mep.Nudge(beta, y) for beta in (0.5, -0.5)] + [mep.Nudge(0.5, force=y - 0.5)]
    wanted, found = exact(network, x, nudges), settled(network, x, nudges)
    high = network.outputs.activation.high
    assert np.abs(found - wanted).max() < 0.01 * high


def test_inputs_may_be_negative_and_above_one():
    network = chain(4, 6, 3)
    x, y = drawn(network)
    x = 4 * x - 2
    wanted, found = (run(network, x, [mep.Nudge(0.4, y)]) for run in (exact, settled))
    assert np.abs(found - wanted).max() < 0.02


def test_saturated_and_silent_units_are_exact():
    network = chain(3, 4, 2)
    for p, bias in zip(list(network.parameters.values())[1::2], ((5.0, -5.0, 5.0, -5.0), (-3.0, 3.0)), strict=True):
        p.data.copy_(p.data.new_tensor(bias))
    found = settled(network, drawn(network)[0])[0]
    assert np.array_equal(found, np.tile([1.0, 0.0, 1.0, 0.0, 0.0, 1.0], (4, 1)))


def test_a_longer_window_is_more_exact():
    network = chain(6, 8, 5, 3)
    x, y = drawn(network, batch=8)
    wanted = exact(network, x, [mep.Nudge(0.4, y)])
    errors = [
        np.sqrt(((settled(network, x, [mep.Nudge(0.4, y)], phase_seconds=t) - wanted) ** 2).mean()) for t in (0.2, 0.8)
    ]
    assert errors[1] < 0.6 * errors[0]


def test_a_leak_costs_little_and_randomness_none():
    network = chain(6, 8, 3)
    x, _ = drawn(network)
    wanted = exact(network, x)
    assert np.abs(settled(network, x, leak_seconds=0.1) - wanted).max() < 0.03
    assert np.abs(settled(network, x, membrane="random") - wanted).max() < 0.01


def test_one_seed_gives_the_same_spikes_and_another_gives_others():
    network = chain(5, 6, 3)
    x, _ = drawn(network)
    runs = [settled(network, x, membrane="random", seed=seed) for seed in (1, 1, 2)]
    assert np.array_equal(runs[0], runs[1])
    assert not np.array_equal(runs[0], runs[2])
    with Brian2Backend(network, membrane="random") as substrate:
        assert not substrate.capabilities.deterministic


def test_a_start_is_where_currents_begin():
    """With the equilibrium for a start, the first quarter of the phase is at rest already."""
    network = chain(5, 6, 3)
    x, _ = drawn(network)
    with mep.backend("reference", network, max_steps=300) as oracle:
        oracle.program(values(network))
        rest = oracle.settle(x)
    with Brian2Backend(network) as substrate:
        substrate.program(values(network))
        records = []
        keep = substrate._record
        substrate._record = lambda rows: records.append(keep(rows)) or records[-1]
        for start in (None, rest):
            substrate.settle(x, start=start)
        wanted = np.concatenate(rest.states, 1)
        first = [r.rates(substrate.layout, substrate.timing, slice(0, 2))[:, 5:] for r in records]
    assert np.abs(first[1] - wanted).max() < 0.5 * np.abs(first[0] - wanted).max()


def test_counts_are_those_of_the_spikes():
    """One input, one unit: 0.2 s at drive 1/2 and 500 Hz are 50 spikes of each."""
    network = chain(1, 1)
    weight, bias = network.parameters.values()
    weight.data.fill_(1.0)
    bias.data.fill_(0.0)
    with Brian2Backend(network) as substrate:
        substrate.program(values(network))
        free = substrate.settle(np.array([[0.5]]))
        counts = substrate.counts()
        assert free.states[0][0, 0] == pytest.approx(0.5, abs=0.01)
        assert counts["free", "spikes"] == pytest.approx(100, abs=3)
        assert counts["free", "synaptic_events"] == 50  # the input's spikes go up; none come down to it
        assert counts["free", "neuron_updates"] + counts["free", "inactive_updates"] == 2 * 200
        assert counts["free", "timesteps"] == 200
        assert counts["free", "seconds"] == pytest.approx(0.2)
        substrate.learn(np.array([[0.5]]), np.array([[1.0]]), rate=0.1, beta=0.5)
        window = substrate.counts() - counts
        assert window["update", "learning_updates"] == 1
        assert window["nudged", "timesteps"] == 2 * window["free", "timesteps"] == 400
        # in 0.1 s: 25 spikes of the input; of the unit 33 at (1/2 + 1/2) / (1 + 1/2), none at (1/2 - 1/2) / (1/2)
        assert window["update", "synaptic_events"] == pytest.approx(25 + 33 + 25, abs=3)
        assert window.samples == 1


@pytest.mark.slow
def test_numpy_and_cython_give_the_same_spikes():
    network = chain(4, 5, 3)
    x, y = drawn(network)
    runs = []
    for target in ("numpy", "cython"):
        with Brian2Backend(network, target=target) as substrate:
            runs.append((_settled(substrate, network, x, [mep.Nudge(0.4, y)]), substrate.counts()))
    (states, counts), (others, other_counts) = runs
    assert counts == other_counts  # every spike
    assert np.abs(states - others).max() < 1e-12  # what membranes hold, summed in another order
