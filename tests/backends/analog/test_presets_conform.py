"""The conformance suite with faulty devices, within the tolerance that is stated here for each.

Circuits have theirs in test_circuit_conform.py.
"""

from __future__ import annotations

import dataclasses

import pytest

from mep_neuro.testing import Bench, Law
from mep_neuro.testing.conformance import check, trials
from mep_neuro_analog import AnalogBackend

FAULTS = {
    "pcm": ({"device": "pcm"}, 0.3),
    "rram": ({"device": "rram"}, 0.3),
    "hermes": ({"device": "hermes"}, 0.3),
    "noisy": ({"dac_bits": 8, "adc_bits": 8, "output_noise": 0.01}, 0.1),
}
"""Options, and the relative error that the laws allow."""


def benches() -> list[Bench]:
    found = []
    for name, (options, tolerance) in FAULTS.items():
        held = dataclasses.replace(
            AnalogBackend.capabilities, energies=frozenset({"hopfield"}), deterministic=False, tolerance=tolerance
        )
        kind = type(name, (AnalogBackend,), {"capabilities": held})  # final for those who would change it
        found.append(Bench(kind, **options))
    return found


@pytest.mark.parametrize(("law", "bench"), trials(benches()))
def test_a_law_holds_within_the_faults(law: Law, bench: Bench) -> None:
    check(law, bench)
