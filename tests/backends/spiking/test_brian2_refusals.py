"""What the spiking substrate refuses, and in what words."""

from __future__ import annotations

import shutil
from importlib import metadata

import numpy as np
import pytest
from spiking_nets import chain, values
from torch import nn

import mep_neuro as mep
from mep_neuro.errors import BackendUnavailable, CapabilityError, InputError, OptionError
from mep_neuro_brian2 import Brian2Backend, checks


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"phase_seconds": 0.1}, r"phase_seconds=0.2 or more"),
        ({"synapse_seconds": 0.02}, r"at least ten time constants of the synapses, 0.2 s"),
        ({"phase_seconds": 0.2015}, r"no multiple of 4 time steps of 0.001 s"),
        ({"step_seconds": 0.0}, r"step_seconds is 0.0"),
        ({"max_rate": 300.0}, r"refractory period"),
        ({"leak_seconds": 0.01}, r"leak_seconds"),
        ({"target": "cpp"}, r"no target 'cpp'; there are: numpy, cython, cpp_standalone"),
        ({"membrane": "halv"}, r"Did you mean 'half'"),
    ],
)
def test_options(options, words):
    with pytest.raises(OptionError, match=words):
        Brian2Backend(chain(2, 2), **options)


@pytest.mark.parametrize("last", [nn.Identity(), nn.ReLU(), nn.Hardtanh(), nn.Sigmoid()])
def test_activations_without_a_spiking_twin(last):
    network = mep.EnergyNetwork.from_module(nn.Sequential(nn.Linear(3, 2), last))
    with pytest.raises(CapabilityError, match="spiking twin"):
        Brian2Backend(network)


def test_couplings_and_energies():
    with pytest.raises(CapabilityError, match="prediction_error"):
        Brian2Backend(mep.EnergyNetwork.from_module(chain(2, 2).module, energy="prediction_error"))
    module = nn.Sequential(nn.Conv2d(1, 2, 2), nn.Hardtanh(0, 1), nn.Flatten(), nn.Linear(8, 2), nn.Hardtanh(0, 1))
    with pytest.raises(CapabilityError, match=r"nn\.Linear"):
        Brian2Backend(mep.EnergyNetwork.from_module(module, input_shape=(1, 3, 3)))


def test_values():
    network = chain(3, 2)
    x, y = np.full((2, 3), 0.5), np.eye(2)
    with Brian2Backend(network) as substrate:
        with pytest.raises(InputError, match="program the parameters"):
            substrate.settle(x)
        substrate.program(values(network))
        with pytest.raises(InputError, match="between -2 and 2: scale the data"):
            substrate.settle(5 * x)
        with pytest.raises(InputError, match="rate is 0"):
            substrate.learn(x, y, rate=0, beta=0.5)
        with pytest.raises(InputError, match="no minimum"):
            substrate.learn(x, y, rate=0.1, beta=1.0)
        with pytest.raises(InputError, match="outputs have"):
            substrate.learn(x, np.eye(3)[:2], rate=0.1, beta=0.5)
        with pytest.raises(CapabilityError, match="cross_entropy"):
            substrate.settle(x, nudge=mep.Nudge(0.5, y, "cross_entropy"))


def test_a_missing_compiler(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    for target, program in (("cython", "gcc"), ("cpp_standalone", r"g\+\+ and make")):
        with pytest.raises(BackendUnavailable, match=program):
            Brian2Backend(chain(2, 2), target=target)


def test_versions_that_do_not_go_together(monkeypatch):
    assert checks.availability()
    monkeypatch.setattr(np, "__version__", "2.4.1")
    monkeypatch.setattr(metadata, "version", lambda name: "2.9.0")
    broken = checks.availability()
    assert not broken
    assert "Brian2 2.9 goes with NumPy below 2.4" in broken.reason
    assert broken.cure == 'pip install "numpy<2.4"'

    def missing(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", missing)
    assert checks.availability().cure == 'pip install "mep-neuro[brian2]"'
