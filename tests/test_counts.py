"""Counts add up exactly, and stand for what a hand counts."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import mep_neuro as mep
from mep_neuro.counts import OPERATIONS, PHASES
from mep_neuro.errors import InputError

readings = st.builds(
    mep.OperationCounts,
    st.integers(0, 9),
    st.dictionaries(st.tuples(st.sampled_from(PHASES), st.sampled_from(OPERATIONS)), st.integers(0, 10**12)),
)


@given(readings, readings)
def test_readings_add_and_subtract(a: mep.OperationCounts, b: mep.OperationCounts) -> None:
    assert a + b == b + a
    assert (a + b) - b == a
    for operation in OPERATIONS:
        assert (a + b).total(operation) == a.total(operation) + b.total(operation)
        assert a.total(operation) == sum(a.total(operation, [phase]) for phase in PHASES)


@given(readings)
def test_they_survive_json(a: mep.OperationCounts) -> None:
    assert mep.OperationCounts.from_json(a.to_json()) == a


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"samples": 1.5},
        {"samples": 1, "free": 3},
        {"samples": 1, "free": {"macs": "x"}},
        {"samples": 1, "sleep": {"macs": 1}},
    ],
)
def test_another_schema_is_an_error(document: dict[str, object]) -> None:
    with pytest.raises(InputError):
        mep.OperationCounts.from_json(document)


@pytest.mark.parametrize("name", ["torch", "reference"])
def test_one_estimate_is_a_hand_count(name: str) -> None:
    """4-3-2, one sample, 2 free and 1 nudged sweeps, centered."""
    network = mep.EnergyNetwork.from_module(nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)))
    substrate = mep.backend(name, network, max_steps=(2, 1))
    mep.EquilibriumPropagation(substrate).estimate(torch.ones(1, 4), torch.tensor([1]))
    counts = substrate.counts()
    assert counts.samples == 1
    # the clamped drive once; the forward pass; then a sweep: s_1 takes W_2^T s_2, s_2 takes W_2 s_1
    assert counts["free", "macs"] == 12 + 6 + 2 * (6 + 6)
    assert counts["free", "neuron_updates"] == 5 + 2 * 5
    # outputs first (what is below them is shared, so torch works it out once), then s_1 in both phases
    assert counts["nudged", "macs"] == (6 if name == "torch" else 12) + 2 * 6
    assert counts["nudged", "neuron_updates"] == 2 * 5
    # W_1: one product with x; W_2: two
    assert counts["update", "macs"] == 12 + 2 * 6
    item = 4 if name == "torch" else 8
    assert counts["update", "weight_bytes"] == (12 + 3 + 6 + 2) * item
