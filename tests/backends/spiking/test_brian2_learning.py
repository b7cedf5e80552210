"""Resident learning: the contrast of spikes and traces against the gradient, tied weights, compiled programs."""

from __future__ import annotations

import logging
import os

import numpy as np
import pytest
from spiking_nets import chain, values

import mep_neuro as mep
from mep_neuro.errors import BackendUnavailable
from mep_neuro_brian2 import Brian2Backend
from mep_neuro_brian2.equations import Circuit, generating
from mep_neuro_brian2.schedule import learning

BETA = 0.5


def samples(network, batch=4, seed=0):
    rng = np.random.default_rng(seed)
    y = np.eye(network.outputs.size)[rng.integers(0, network.outputs.size, batch)]
    return rng.random((batch, *network.input_shape)), y


def gradients(network, x, y):
    """Centred, with a nudge of BETA, by the reference."""
    with mep.backend("reference", network, max_steps=300) as oracle:
        oracle.program(values(network))
        free = oracle.settle(x)
        plus, minus = oracle.settle_each(x, [mep.Nudge(BETA, y), mep.Nudge(-BETA, y)], free)
        return oracle.contrast([(1 / (2 * BETA), plus), (-1 / (2 * BETA), minus)])


def learnt(network, x, y, *, rate=1e-7, beta=BETA, **options):
    """What one call of learn adds, a rate and sample, at a rate too small to change the next sample's phases."""
    with Brian2Backend(network, **options) as substrate:
        substrate.program(values(network))
        substrate.learn(x, y, rate=rate, beta=beta)
        return {name: (value - values(network)[name]) / (rate * len(x)) for name, value in substrate.read().items()}


def cosine(a, b):
    return float((a * b).sum() / (np.linalg.norm(a) * np.linalg.norm(b)))


def test_contrast_points_along_the_gradient_and_more_so_in_a_longer_window():
    network = chain(8, 10, 6, 4)
    x, y = samples(network)
    x[:, 0] *= -1
    wanted = gradients(network, x, y)
    angles = []
    for phase in (0.2, 0.8):
        found = learnt(network, x, y, phase_seconds=phase)
        cosines = {name: cosine(found[name], wanted[name]) for name in wanted}
        assert min(cosines.values()) > (0.9 if phase == 0.2 else 0.98), cosines
        assert all(0.9 < np.linalg.norm(found[n]) / np.linalg.norm(wanted[n]) < 1.1 for n in wanted)
        angles.append(np.mean([1 - c for c in cosines.values()]))
    assert angles[1] < angles[0]


def test_without_a_nudge_nothing_is_learnt_on_average():
    """Both nudged phases start from one state: at next to no nudge their spikes are the same, but by chance."""
    network = chain(6, 6, 3)
    x, y = samples(network, batch=6)
    wanted = gradients(network, x, y)
    with Brian2Backend(network) as substrate:
        substrate.program(values(network))
        outputs = substrate.settle(x).outputs
    reached = learnt(network, x, outputs, membrane="random")
    for name in wanted:
        assert np.linalg.norm(reached[name]) < 0.2 * np.linalg.norm(wanted[name])
    # beta = 1e-12: the contrast itself, without the division by 2 beta
    assert all(np.abs(v * 2e-12).max() < 1e-3 for v in learnt(network, x, y, beta=1e-12).values())


def test_a_tied_weight_acts_both_ways():
    """One Synapses object holds W and its transpose: a lone hidden unit hears its output through the same weight."""
    network = chain(2, 1, 1)
    p = values(network)
    p["0.weight"][:], p["0.bias"][:], p["2.weight"][:], p["2.bias"][:] = 0.0, 0.2, 0.5, 0.3
    with Brian2Backend(network) as substrate:
        substrate.program(p)
        hidden, outputs = (s[0, 0] for s in substrate.settle(np.ones((1, 2))).states)
        assert hidden == pytest.approx((0.2 + 0.5 * 0.3) / (1 - 0.25), abs=0.01)
        assert outputs == pytest.approx((0.3 + 0.5 * 0.2) / (1 - 0.25), abs=0.01)
        substrate.learn(np.ones((1, 2)), np.ones((1, 1)), rate=0.05, beta=BETA)
        w, b, c = (float(substrate.read()[name].ravel()[0]) for name in ("2.weight", "0.bias", "2.bias"))
        assert w > 0.502
        drive = substrate.read()["0.weight"].sum()
        hidden, outputs = (s[0, 0] for s in substrate.settle(np.ones((1, 2))).states)
        assert hidden == pytest.approx((b + drive + w * c) / (1 - w * w), abs=0.01)


def test_presenting_samples_together_or_one_by_one_is_the_same():
    network = chain(4, 5, 3)
    x, y = samples(network, batch=3)
    together = learnt(network, x, y, rate=0.2)
    with Brian2Backend(network) as substrate:
        substrate.program(values(network))
        for k in range(3):
            substrate.learn(x[k : k + 1], y[k : k + 1], rate=0.2, beta=BETA)
        for name, value in substrate.read().items():
            assert np.allclose(value, values(network)[name] + 0.6 * together[name], atol=1e-12)


def test_frozen_parameters_stay():
    network = chain(4, 5, 3)
    network.parameters["0.weight"].requires_grad_(False)
    network.parameters["2.bias"].requires_grad_(False)
    found = learnt(network, *samples(network), rate=0.1)
    assert not found["0.weight"].any()
    assert not found["2.bias"].any()
    assert found["2.weight"].any()
    assert found["0.bias"].any()


@pytest.mark.parametrize("sign", [1, -1])
def test_weight_change_is_a_sum_over_pairs_of_spikes(sign):
    """A pair dt seconds apart, its later spike in the window, adds sign (1 - step / tau)^(dt / step), whichever was
    first: Hebbian when nudged towards the target, its opposite when nudged away."""
    network = chain(1, 1)
    p = {"0.weight": np.zeros((1, 1)), "0.bias": np.array([0.37])}
    with Brian2Backend(network) as substrate:
        layout, timing = substrate.layout, substrate.timing
    x, y = np.array([[0.23]]), np.array([[0.37]])  # nudged to where it is: the same spikes in both phases
    rows = learning(layout, x, y, rate=1.0, beta=0.5, membrane=np.full((1, 2), 0.5))
    rows.weigh[2], rows.weigh[1, 1] = 0, sign
    with generating("numpy"):
        circuit = Circuit(layout, timing, rows=4, spikes=True)
        found = circuit.present(layout.weights(p), layout.biases(p), rows, (np.ones(1), np.ones(2))).weights[0]
    seconds, neurons = circuit.spikes
    steps = np.rint(seconds / timing.step).astype(int)
    lower, upper = (steps[neurons == k] for k in (0, 1))
    apart = np.abs(upper[:, None] - lower)
    counts = (np.maximum(upper[:, None], lower) >= 300) & (np.maximum(upper[:, None], lower) < 400) & (apart > 0)
    pairs = ((1 - timing.step / timing.tau) ** apart)[counts].sum()
    unit = 1 / (2 * timing.max_rate * timing.window) / (timing.max_rate * (timing.tau - timing.step))
    assert found == pytest.approx(sign * pairs * unit, rel=1e-9)
    assert abs(found) == pytest.approx(0.23 * 0.37, rel=0.1)


@pytest.mark.slow
class TestCompiled:
    def test_a_program_gives_the_spikes_of_numpy_and_is_built_once(self, programs, caplog):
        network = chain(4, 5, 3)
        x, y = samples(network)
        with caplog.at_level(logging.INFO, logger="mep_neuro_brian2"):
            runs = [learnt(network, x, y, rate=0.1, target=t, cache=programs) for t in ("cpp_standalone", "numpy")]
            assert any("building" in message for message in caplog.messages)
            for name in runs[0]:
                assert np.allclose(runs[0][name], runs[1][name], atol=1e-9)
            caplog.clear()
            with Brian2Backend(network, target="cpp_standalone", cache=programs) as substrate:
                substrate.program(values(network))
                free = substrate.settle(x)
            assert not any("building" in message for message in caplog.messages)
        with Brian2Backend(network) as substrate:
            substrate.program(values(network))
            for one, other in zip(free.states, substrate.settle(x).states, strict=True):
                assert np.allclose(one, other, atol=1e-9)

    def test_a_build_that_fails_shows_the_compilers_last_lines(self, tmp_path, monkeypatch):
        tools = tmp_path / "tools"
        tools.mkdir()
        (tools / "make").write_text("#!/bin/sh\necho 'main.cpp:1: error: no such thing' >&2\nexit 2\n")
        (tools / "make").chmod(0o755)
        monkeypatch.setenv("PATH", f"{tools}{os.pathsep}{os.environ['PATH']}")
        network = chain(3, 2)
        with Brian2Backend(network, target="cpp_standalone", cache=tmp_path / "cache") as substrate:
            substrate.program(values(network))
            with pytest.raises(BackendUnavailable, match="no such thing"):
                substrate.settle(np.ones((1, 3)))
        assert not list((tmp_path / "cache").iterdir())
