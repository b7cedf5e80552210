"""Every example in a docstring prints what it says."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import mep_neuro

MODULES = [
    "mep_neuro",
    *(m.name for m in pkgutil.walk_packages(mep_neuro.__path__, "mep_neuro.") if "__main__" not in m.name),
]


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings(name: str) -> None:
    assert doctest.testmod(importlib.import_module(name)).failed == 0
