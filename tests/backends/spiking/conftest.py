"""Without Brian2, which is an extra, these tests are left out."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

collect_ignore_glob = [] if find_spec("brian2") else ["test_*.py"]


@pytest.fixture(scope="session")
def programs(tmp_path_factory) -> Path:
    """A cache of compiled programs, for the session."""
    return tmp_path_factory.mktemp("programs")
