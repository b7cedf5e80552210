"""counts.json: read back as written; a file of another schema is told of by file and key."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import mep_neuro as mep
from mep_neuro.errors import InputError

COUNTS = mep.OperationCounts(3, {("free", "macs"): 10, ("nudged", "seconds"): 2.5e-6})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "counts.json"
    mep.write_counts(path, COUNTS)
    return path


def test_counts_survive_a_file(path: Path) -> None:
    assert mep.read_counts(path) == COUNTS
    document = json.loads(path.read_text("utf-8"))
    assert (document["schema"], document["schema_version"]) == ("mep-neuro/counts", 1)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"schema": "mep-neuro/compare"}, "schema is 'mep-neuro/compare', not 'mep-neuro/counts': give a counts.json"),
        ({"schema": None}, "schema is None"),
        ({"schema_version": 2}, "schema_version is 2, and this version of mep-neuro reads 1: write the counts anew"),
        ({"samples": "3"}, "without a whole number of samples"),
        ({"free": {"mac": 3}}, r"no operation 'mac' .*Did you mean 'macs'\?"),
        ({"fre": {"macs": 3}}, r"no phase 'fre'.*Did you mean 'free'\?"),
        ({"free": {"macs": 1.5}}, "the count of 'macs' in phase 'free' is 1.5, no whole number"),
        ({"free": {"macs": "many"}}, "is 'many', no number"),
    ],
)
def test_another_schema_is_told_of_by_file_and_key(path: Path, change: dict[str, Any], said: str) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text("utf-8")), **change}), encoding="utf-8")
    with pytest.raises(InputError, match=said) as caught:
        mep.read_counts(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "[1, 2]", "{", "3"])
def test_what_is_no_file_of_counts(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=r"counts\.json( is no JSON|: schema is None)"):
        mep.read_counts(path)
    with pytest.raises(InputError, match="cannot be read"):
        mep.read_counts(path.parent / "none.json")
