"""Counts add up exactly, and stand for what a hand counts."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import mep_neuro as mep
from mep_neuro.counts import BYTES, OPERATIONS, PHASES, PHYSICAL, TIMING
from mep_neuro.errors import InputError

readings = st.builds(
    mep.OperationCounts,
    st.integers(0, 9),
    st.dictionaries(st.tuples(st.sampled_from(PHASES), st.sampled_from(OPERATIONS)), st.integers(0, 10**12)),
)


whole = sorted(set(OPERATIONS) - PHYSICAL)
physical = st.builds(
    mep.OperationCounts,
    st.integers(0, 9),
    st.dictionaries(
        st.tuples(st.sampled_from(PHASES), st.sampled_from(sorted(PHYSICAL))),
        st.floats(0, 1e6, allow_subnormal=False) | st.integers(0, 10**12),
    ),
)


@given(readings, readings)
def test_readings_add_and_subtract(a: mep.OperationCounts, b: mep.OperationCounts) -> None:
    assert a + b == b + a
    assert (a + b) - b == a
    for operation in OPERATIONS:
        assert (a + b).total(operation) == a.total(operation) + b.total(operation)
        assert a.total(operation) == sum(a.total(operation, [phase]) for phase in PHASES)


@given(readings, st.integers(1, 50))
def test_so_many_times_over_is_as_many_sums(a: mep.OperationCounts, n: int) -> None:
    assert a.times(n) == sum([a] * (n - 1), a)
    assert a.times(1) == a
    assert a.times(0) == mep.OperationCounts()


@given(readings | physical)
def test_they_survive_json(a: mep.OperationCounts) -> None:
    assert mep.OperationCounts.from_json(json.loads(json.dumps(a.to_json()))) == a


@given(physical, physical)
def test_physical_quantities_add_up(a: mep.OperationCounts, b: mep.OperationCounts) -> None:
    assert a + b == b + a
    for phase in PHASES:
        for operation in PHYSICAL:
            assert (a + b)[phase, operation] == a[phase, operation] + b[phase, operation]


def test_a_quantity_of_zero_is_no_entry() -> None:
    made = mep.OperationCounts(1, {("free", "macs"): 0, ("free", "seconds"): 0.0, ("update", "flops"): 2})
    assert dict(made.entries) == {("update", "flops"): 2}
    assert made == mep.OperationCounts(1, {("update", "flops"): 2})
    assert made.to_json() == {"samples": 1, "free": {}, "nudged": {}, "update": {"flops": 2}, "input_output": {}}


def test_every_sort_of_operation_is_one_that_can_be_counted() -> None:
    assert {*BYTES, *TIMING, *PHYSICAL} <= set(OPERATIONS)
    assert BYTES.isdisjoint(PHYSICAL | TIMING)
    assert {"neuron_seconds", "dissipated_joules", "seconds"} == PHYSICAL


@pytest.mark.parametrize("operation", sorted(PHYSICAL))
def test_a_physical_quantity_need_not_be_whole(operation: Any) -> None:
    made = mep.OperationCounts(1, {("nudged", operation): 2.5e-6})
    assert made["nudged", operation] == 2.5e-6
    assert made.total(operation) == 2.5e-6
    assert made.times(4)["nudged", operation] == 1e-5


@pytest.mark.parametrize("count", [1.5, 2.0, math.nan, math.inf, True])
@pytest.mark.parametrize("operation", whole)
def test_all_else_is_counted_in_whole_numbers(operation: Any, count: Any) -> None:
    with pytest.raises(InputError, match=rf"the count of '{operation}' in phase 'free' is .*, no whole number"):
        mep.OperationCounts(1, {("free", operation): count})


@pytest.mark.parametrize("count", [math.nan, math.inf, -math.inf, True])
@pytest.mark.parametrize("operation", sorted(PHYSICAL))
def test_a_physical_quantity_is_a_finite_number(operation: Any, count: Any) -> None:
    with pytest.raises(InputError, match=rf"the count of '{operation}' in phase 'free' is .*, no finite number"):
        mep.OperationCounts(1, {("free", operation): count})


@pytest.mark.parametrize(
    ("phase", "operation", "said"),
    [
        ("nugded", "macs", r"no phase 'nugded'; there are: free, nudged, .*Did you mean 'nudged'\?"),
        ("sleep", "macs", r"no phase 'sleep'; there are: free, nudged, update, input_output\.$"),
        ("free", "mac", r"no operation 'mac' \(phase 'free'\); there are: macs, .*Did you mean 'macs'\?"),
        ("free", "synaptic_event", r"Did you mean 'synaptic_events'\?"),
        ("free", "joules", r"no operation 'joules'"),
    ],
)
def test_an_unknown_phase_or_operation_offers_the_nearest_name(phase: Any, operation: Any, said: str) -> None:
    with pytest.raises(InputError, match=said):
        mep.OperationCounts(1, {(phase, operation): 1})
    with pytest.raises(InputError, match=said):
        mep.OperationCounts.from_json({"samples": 1, phase: {operation: 1}})


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({}, "counts without a whole number of samples"),
        ({"samples": 1.5}, "counts without a whole number of samples"),
        ({"samples": "3"}, "counts without a whole number of samples"),
        ({"samples": True}, "counts without a whole number of samples"),
        ({"samples": None}, "counts without a whole number of samples"),
        ({"samples": 1, "free": 3}, "counts of phase 'free' are no table"),
        ({"samples": 1, "free": [1]}, "counts of phase 'free' are no table"),
        ({"samples": 1, "free": {"macs": "x"}}, "the count of 'macs' in phase 'free' is 'x', no number"),
        ({"samples": 1, "free": {"macs": None}}, "is None, no number"),
        ({"samples": 1, "free": {"macs": True}}, "is True, no number"),
        ({"samples": 1, "free": {"seconds": False}}, "is False, no number"),
        ({"samples": 1, "free": {"seconds": math.nan}}, "is nan, no number"),
        ({"samples": 1, "free": {"seconds": math.inf}}, "is inf, no number"),
        ({"samples": 1, "free": {"macs": 1.5}}, "is 1.5, no whole number"),
        ({"samples": 1, "sleep": {"macs": 1}}, "no phase 'sleep'"),
        ({"samples": 1, "schema": 2}, "counts of phase 'schema' are no table"),
    ],
)
def test_another_schema_is_an_error(document: dict[str, object], said: str) -> None:
    with pytest.raises(InputError, match=said):
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
