"""The conformance suite on circuits: with ideal and real diodes, and with faulty devices within a stated tolerance."""

from __future__ import annotations

import dataclasses

import pytest

from mep_neuro.testing import Bench, Law
from mep_neuro.testing.conformance import check, trials
from mep_neuro_analog import AnalogBackend

FAULTS = {
    "ideal": ({}, None),
    "units": ({"v_unit": 0.2, "weight_max": 3.0}, None),
    "pcm": ({"device": "pcm", "weight_max": 1.0}, 0.3),
    "hermes": ({"device": "hermes"}, 0.3),
    "noisy": ({"dac_bits": 8, "adc_bits": 8}, 0.1),
}
"""Options, and the relative error that the laws allow; None: that of the backend. Real diodes are another energy than
the suite's, and held against scalar root finders, finite differences and ngspice instead."""


def benches() -> list[Bench]:
    found = []
    for name, (options, tolerance) in FAULTS.items():
        held = dataclasses.replace(AnalogBackend.capabilities, energies=frozenset({"resistive"}))
        if tolerance is not None:
            held = dataclasses.replace(held, deterministic=False, tolerance=tolerance)
        kind = type(name, (AnalogBackend,), {"capabilities": held})  # final for those who would change it
        found.append(Bench(kind, **options))
    return found


BENCHES = benches()


@pytest.mark.parametrize(("law", "bench"), trials(BENCHES))
def test_a_law_holds_on_circuits(law: Law, bench: Bench) -> None:
    check(law, bench)


def test_no_network_of_resistors_is_refused() -> None:
    for bench in BENCHES:
        assert {case.family for case in bench.cases} == {"Rectifiers", "ClippedLinear"}
        assert bench.refused == {}
