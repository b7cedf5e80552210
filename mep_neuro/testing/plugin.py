"""The pytest plug-in of the conformance suite.

    pytest -p mep_neuro.testing.plugin --pyargs mep_neuro.testing.conformance --mep-backend acme

--mep-backend NAME       a registered backend, or module:Class while it is not installed yet; may be given again
--mep-option KEY=VALUE   an option of the backends, for every substrate; VALUE as Python writes it, else a string
"""

from __future__ import annotations

import ast
import importlib
from typing import Any

import pytest

from mep_neuro.backend import Backend
from mep_neuro.errors import MepNeuroError
from mep_neuro.testing import Bench


def pytest_addoption(parser: pytest.Parser) -> None:
    """The suite's options."""
    group = parser.getgroup("mep-neuro", "conformance of mep-neuro backends")
    group.addoption("--mep-backend", action="append", default=[], metavar="NAME", help="a backend on trial")
    group.addoption("--mep-option", action="append", default=[], metavar="KEY=VALUE", help="an option of the backends")


def pytest_configure(config: pytest.Config) -> None:
    """Open the benches; a backend that is not there or cannot run here ends the run."""
    try:
        options = dict(option_of(text) for text in config.getoption("--mep-option"))
        benches = [Bench(backend_of(name), **options) for name in config.getoption("--mep-backend")]
    except (MepNeuroError, ImportError, AttributeError, ValueError) as error:
        raise pytest.UsageError(str(error)) from error
    config.mep_benches = benches  # type: ignore[attr-defined]


def pytest_report_header(config: pytest.Config) -> list[str]:
    """What is on trial, and what is allowed."""
    benches: list[Bench] = config.mep_benches  # type: ignore[attr-defined]
    return [
        f"mep-neuro: {b.name}, {b.kind.__module__}.{b.kind.__qualname__}, options {b.options or 'none'}, "
        f"tolerance {b.capabilities.tolerance:g}, {b.repeats} sample(s) a mean"
        for b in benches
    ]


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """The suite's networks that a backend refused to hold: a law that passed says nothing about these."""
    for bench in config.mep_benches:  # type: ignore[attr-defined]
        for case, reason in bench.refused.items():
            terminalreporter.write_line(f"mep-neuro: {bench.name} does not hold {case}: {reason}")


def option_of(text: str) -> tuple[str, Any]:
    """KEY=VALUE as a pair."""
    key, sign, value = text.partition("=")
    if not sign:
        raise ValueError(f"--mep-option {text!r}: write KEY=VALUE")
    try:
        return key, ast.literal_eval(value)
    except (SyntaxError, ValueError):
        return key, value


def backend_of(name: str) -> str | type[Backend]:
    """A registered name as it is, module:Class as the class."""
    module, sign, attribute = name.partition(":")
    if not sign:
        return name
    kind = getattr(importlib.import_module(module), attribute)
    if not (isinstance(kind, type) and issubclass(kind, Backend)):
        raise ValueError(f"{name} is no mep_neuro.Backend")
    return kind
