"""The suite as pytest sees it: one test for each law and each backend of `--mep-backend`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from mep_neuro.registry import backend_names
from mep_neuro.testing import LAWS, Bench, Law


def trials(benches: Iterable[Bench]) -> list[Any]:
    """Parameters (law, bench) for `pytest.mark.parametrize`; what a capability rules out is marked as skipped."""
    found = []
    for bench in benches:
        for law in LAWS:
            reason = law.ruled_out(bench)
            marks = [pytest.mark.skip(reason=f"{bench.name}: {reason}")] if reason else []
            found.append(pytest.param(law, bench, id=f"{bench.name}-{law}", marks=marks))
    return found


def check(law: Law, bench: Bench) -> None:
    """One law on one backend; a skip where the substrate says that it cannot take part."""
    reason = law(bench)
    if reason:
        pytest.skip(f"{bench.name}: {reason}")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """The backends of the command line."""
    benches: list[Bench] = getattr(metafunc.config, "mep_benches", [])
    if not benches:
        raise pytest.UsageError(
            "no backend on trial: pytest -p mep_neuro.testing.plugin --pyargs mep_neuro.testing.conformance "
            f"--mep-backend NAME; installed: {', '.join(backend_names())}"
        )
    metafunc.parametrize(("law", "bench"), trials(benches))


def test_law(law: Law, bench: Bench) -> None:
    """One law on one backend."""
    check(law, bench)
