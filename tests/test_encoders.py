"""Encoders: errors of the mean, against what each states, and against reference as the oracle."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import mep_neuro as mep
from mep_neuro.encoders import ENCODERS, Bernoulli, RateIF, SigmaDelta
from mep_neuro.errors import InputError

X = torch.linspace(0, 1, 501, dtype=torch.float64)


@pytest.mark.parametrize("encoder", [RateIF(), SigmaDelta(), SigmaDelta(levels=7)])
@pytest.mark.parametrize("steps", [1, 10, 333])
def test_an_integrators_error_stays_below_its_bound(encoder, steps):
    spikes = encoder.encode(X, steps)
    assert spikes.shape == (steps, 501)
    error = float((spikes.mean(0) - X).abs().max())
    assert error <= encoder.error(steps) * (1 + 1e-9)
    assert error >= 0.8 * encoder.error(steps)  # and the bound is tight


@pytest.mark.parametrize("name", ENCODERS)
def test_errors_fall_with_the_stated_order(name):
    encoder = ENCODERS[name]
    steps = np.array([50, 200, 800, 3200])
    rms = [float((encoder.encode(X, int(n)).mean(0) - X).square().mean().sqrt()) for n in steps]
    slope = np.polyfit(np.log(steps), np.log(rms), 1)[0]
    assert slope == pytest.approx({"1/T": -1.0, "1/sqrt(T)": -0.5}[encoder.order], abs=0.1)


def test_bernoullis_rms_error_is_binomial():
    half = torch.full((4000,), 0.5, dtype=torch.float64)
    rms = float((Bernoulli(seed=1).encode(half, 100).mean(0) - half).square().mean().sqrt())
    assert rms == pytest.approx(Bernoulli().error(100), rel=0.05)
    assert torch.equal(Bernoulli(3).encode(half, 20), Bernoulli(3).encode(half, 20))
    assert not torch.equal(Bernoulli(3).encode(half, 20), Bernoulli(4).encode(half, 20))


def test_sigma_delta_follows_a_signal_that_changes():
    signal = (1 + torch.sin(torch.arange(400, dtype=torch.float64)[:, None] / torch.tensor([5.0, 20.0, 70.0]))) / 2
    for levels in (1, 4):
        spikes = SigmaDelta(levels).follow(signal)
        assert float((spikes.cumsum(0) - signal.cumsum(0)).abs().max()) <= 0.5 / levels + 1e-9
    held = torch.full((30, 2), 0.31, dtype=torch.float64)
    assert torch.equal(SigmaDelta(3).follow(held), SigmaDelta(3).encode(held[0], 30))


def test_spikes_are_zero_or_one_and_numpy_stays_numpy():
    x = np.linspace(0, 1, 11)
    for encoder in ENCODERS.values():
        spikes = encoder.encode(x, 40)
        assert isinstance(spikes, np.ndarray)
        assert set(np.unique(spikes)) <= {0.0, 1.0}
        assert not spikes[:, 0].any()
        assert spikes[:, -1].all()


def test_reference_is_the_oracle_of_encoded_inputs():
    """With |W| below the loops' bound, states move by no more than the inputs' error times a constant."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(6, 8), nn.Hardtanh(0.0, 1.0), nn.Linear(8, 3), nn.Hardtanh(0.0, 1.0)).double()
    x = torch.rand(5, 6, dtype=torch.float64)
    with mep.backend("reference", mep.EnergyNetwork.from_module(module), max_steps=100) as substrate:
        learner = mep.EquilibriumPropagation(substrate)
        wanted = learner.predict(x)
        errors = {
            name: [float((learner.predict(e.encode(x, n).mean(0)) - wanted).abs().max()) for n in (100, 10_000)]
            for name, e in ENCODERS.items()
        }
    for name, (few, many) in errors.items():
        assert few / many > {"1/T": 30, "1/sqrt(T)": 3}[ENCODERS[name].order], errors
        assert few < 10 * ENCODERS[name].error(100)


@pytest.mark.parametrize(
    "bad", [torch.tensor([1.1]), torch.tensor([-0.1]), torch.tensor([float("nan")]), torch.ones(2).int()]
)
def test_what_is_no_rate_is_refused(bad):
    with pytest.raises(InputError):
        RateIF().encode(bad, 10)
    with pytest.raises(InputError, match="steps"):
        SigmaDelta().encode(X, 0)
    with pytest.raises(InputError, match="levels"):
        SigmaDelta(0)
