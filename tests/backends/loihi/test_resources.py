"""What a program takes of a chip, against counts by hand."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
import torch
from torch import nn

import mep_neuro as mep
from mep_neuro.errors import CapabilityError
from mep_neuro_lava.program import Program
from mep_neuro_lava.resources import LOIHI_1, LOIHI_2, resources


def program(*sizes: int) -> Program:
    torch.manual_seed(0)
    parts: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(sizes):
        parts += [nn.Linear(inputs, outputs), nn.Hardsigmoid()]
    network = mep.EnergyNetwork.from_module(nn.Sequential(*parts))
    with mep.backend("loihi", network) as substrate:
        substrate.program({name: p.detach().double().numpy() for name, p in network.parameters.items()})
        held: Program = substrate.held  # type: ignore[attr-defined]
        return held


def test_equals_a_count_by_hand() -> None:
    found = resources(program(784, 256, 10), LOIHI_2)
    assert [(s.neurons, s.synapses) for s in found.shares] == [(784, 0), (256, 256 * 794), (10, 2560)]
    assert found.synapses == 784 * 256 + 2 * 2560
    assert found.shares[1].bytes == 256 * (794 + 5 * 4)  # 814 bytes a neuron
    assert found.shares[1].cores == 2  # 196,608 bytes hold 241 of them
    assert found.cores == 1 + 2 + 1
    assert found.neurons == 784 + 256 + 10


def test_loihi_1_has_smaller_cores() -> None:
    assert resources(program(784, 256, 10), LOIHI_1).shares[1].cores == 2  # 131,072 bytes hold 161
    assert resources(program(2000, 10), LOIHI_1).shares[0].cores == 2  # 1,024 units a core


def test_a_network_that_does_not_fit_is_an_error_with_its_numbers() -> None:
    held = program(784, 256, 10)
    with pytest.raises(CapabilityError, match=r"takes 4 cores .*Loihi 2 has 3; population 1 alone takes 2: make it"):
        resources(held, replace(LOIHI_2, cores=3))
    with pytest.raises(CapabilityError, match=r"population 1 has 794 synapses, 814 bytes, .* Loihi 2 has 800"):
        resources(held, replace(LOIHI_2, memory=800))
