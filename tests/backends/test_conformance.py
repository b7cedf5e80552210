"""The conformance suite on every backend that runs here, and its pytest plug-in."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from mep_neuro.errors import BackendNotFound, BackendUnavailable
from mep_neuro.registry import backend_names
from mep_neuro.testing import LAWS, LEVELS, Bench, Law
from mep_neuro.testing.conformance import check, trials
from mep_neuro.testing.plugin import option_of

SUITE = ("-p", "mep_neuro.testing.plugin", "--pyargs", "mep_neuro.testing.conformance")


@pytest.fixture
def folder(pytester: pytest.Pytester) -> pytest.Pytester:
    """A folder that no configuration further up reaches."""
    pytester.makeini("[pytest]")
    return pytester


def benches() -> Iterator[Bench]:
    """Every installed backend that is available here; `cuda` where there is a device."""
    for name in backend_names():
        try:
            yield Bench(name)
        except BackendUnavailable:
            continue


BENCHES = list(benches())
QUICK = [bench for bench in BENCHES if not bench.capabilities.on_request]
SLOW = [bench for bench in BENCHES if bench.capabilities.on_request]


@pytest.mark.parametrize(("law", "bench"), trials(QUICK))
def test_law(law: Law, bench: Bench) -> None:
    check(law, bench)


@pytest.mark.parametrize(("law", "bench"), trials(SLOW))
def test_law_on_a_slow_backend(law: Law, bench: Bench) -> None:
    if law.level == "L3":
        pytest.skip("slow: many minutes; pytest -p mep_neuro.testing.plugin --mep-backend runs it")
    check(law, bench)


def test_our_backends_are_on_trial() -> None:
    assert {"reference", "torch"} <= {bench.name for bench in BENCHES}


def test_every_law_has_a_level_a_name_of_its_own_and_a_statement() -> None:
    assert {law.level for law in LAWS} == set(LEVELS)
    assert len({law.name for law in LAWS}) == len(LAWS)
    assert [law.name for law in LAWS if not law.statement.endswith(".")] == []


def test_the_suite_opens_all_that_our_backends_declare() -> None:
    """But for populations without a limit, which payloads and spikes cannot carry."""
    refused = [(bench.name, reason) for bench in BENCHES for reason in bench.refused.values()]
    known = re.compile("without a limit|no spiking twin")
    assert [(name, reason) for name, reason in refused if not known.search(reason)] == []


def test_the_plug_in_runs_a_registered_backend(folder: pytest.Pytester) -> None:
    result = folder.runpytest_inprocess(*SUITE, "--mep-backend", "torch", "--mep-option", "max_steps=30", "-k", "L4")
    result.assert_outcomes(passed=6, deselected=len(LAWS) - 6)
    result.stdout.fnmatch_lines(["mep-neuro: torch, *TorchBackend, options {'max_steps': 30}, tolerance *"])


def test_the_plug_in_finds_a_broken_class(folder: pytest.Pytester) -> None:
    result = folder.runpytest_inprocess(*SUITE, "--mep-backend", "broken:SquaresCounts", "-k", "counts_add_up")
    result.assert_outcomes(failed=1, deselected=len(LAWS) - 1)
    result.stdout.fnmatch_lines(["*SquaresCounts breaks L4-counts_add_up: Two batches on one substrate count *"])


def test_the_plug_in_tells_which_capability_rules_a_law_out(folder: pytest.Pytester) -> None:
    result = folder.runpytest_inprocess(*SUITE, "-rs", "--mep-backend", "torch", "-k", "resident_learning")
    result.assert_outcomes(skipped=1, deselected=len(LAWS) - 1)
    result.stdout.fnmatch_lines(["SKIPPED*torch: resident_learning is False"])


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--mep-backend", "torhc"], "*no backend 'torhc'; installed: *Did you mean 'torch'?"),
        (["--mep-backend", "torch", "--mep-option", "max_steps"], "*'max_steps': write KEY=VALUE"),
        (["--mep-backend", "mep_neuro.network:EnergyNetwork"], "*is no mep_neuro.Backend"),
        (["--mep-backend", "no_such_module:Backend"], "*No module named 'no_such_module'"),
    ],
)
def test_the_plug_in_says_what_is_wrong(arguments: list[str], told: str, folder: pytest.Pytester) -> None:
    result = folder.runpytest_inprocess(*SUITE, *arguments)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: {told}"])


def test_the_plug_in_asks_for_a_backend(folder: pytest.Pytester) -> None:
    result = folder.runpytest_inprocess(*SUITE)
    assert result.ret != pytest.ExitCode.OK
    result.stdout.fnmatch_lines(["*no backend on trial: *--mep-backend NAME; installed: *"])


def test_a_bench_of_a_backend_that_is_not_there_is_an_error() -> None:
    with pytest.raises(BackendNotFound, match="torch"):
        Bench("torhc")


@pytest.mark.parametrize(
    ("text", "option"),
    [
        ("max_steps=30", ("max_steps", 30)),
        ("tolerance=1e-6", ("tolerance", 1e-6)),
        ("solver=euler", ("solver", "euler")),
        ("max_steps=(20, 10)", ("max_steps", (20, 10))),
    ],
)
def test_an_option_is_read_as_python_writes_it(text: str, option: tuple[str, object]) -> None:
    assert option_of(text) == option
