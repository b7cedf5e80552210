"""The conformance suite is tested itself: each law is broken by a backend made for it, and kept by one that is not."""

from __future__ import annotations

import broken
import broken_dynamics
import pytest
from wrapper import Wrapper

from mep_neuro.testing import LAWS, Bench, Law

BROKEN = [
    kind
    for module in (broken, broken_dynamics)
    for kind in vars(module).values()
    if isinstance(kind, type) and issubclass(kind, Wrapper) and kind.breaks
]
BY_NAME = {law.name: law for law in LAWS}


@pytest.mark.parametrize("kind", BROKEN, ids=lambda kind: kind.__name__)
def test_a_broken_backend_breaks_its_law(kind: type[Wrapper]) -> None:
    law, bench = BY_NAME[kind.breaks], Bench(kind)
    assert law.ruled_out(bench) == ""
    with pytest.raises(AssertionError, match=f"{kind.__name__} breaks {law}"):
        law(bench)


@pytest.mark.parametrize("law", LAWS, ids=str)
def test_the_same_backend_unbroken_keeps_every_law(law: Law) -> None:
    bench = Bench(Wrapper)
    assert law.ruled_out(bench) == ""
    assert law(bench) == ""


def test_every_law_has_a_backend_that_breaks_it() -> None:
    assert {kind.breaks for kind in BROKEN} == set(BY_NAME)
