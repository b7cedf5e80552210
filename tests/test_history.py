"""History: records that go to JSON and come back the same, and one line an epoch."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

import mep_neuro as mep
from mep_neuro.errors import InputError

FIRST = mep.EpochRecord(
    epoch=1,
    train_cost=0.1 + 0.2,  # no short decimal: it must come back to the last bit
    train_accuracy=1 / 3,
    validation_cost=None,
    validation_accuracy=None,
    test_cost=0.25,
    test_accuracy=0.9,
    samples=12,
    unconverged=2,
    residual=1e-7,
    lr=5e-4,
    seconds=0.04,
)
SECOND = dataclasses.replace(FIRST, epoch=2, train_accuracy=None, test_accuracy=None, validation_accuracy=0.5)


def history() -> mep.History:
    return mep.History(
        "host",
        [FIRST, SECOND],
        mep.OperationCounts(24, {("free", "macs"): 2**60 + 1, ("update", "state_bytes"): 3}),
        mep.OperationCounts(6, {("free", "macs"): 5}),
    )


def test_to_json_and_back() -> None:
    back = mep.History.from_json(json.loads(json.dumps(history().to_json())))
    assert back == history()
    assert back.counts["free", "macs"] == 2**60 + 1


def test_one_line_an_epoch(tmp_path: Path) -> None:
    history().write_lines(tmp_path / "history.jsonl")
    lines = (tmp_path / "history.jsonl").read_text("utf-8").splitlines()
    assert [mep.EpochRecord(**json.loads(line)) for line in lines] == [FIRST, SECOND]


def test_the_last_record() -> None:
    assert history().last is history().epochs[-1]


def test_a_line_for_a_log() -> None:
    assert FIRST.summary() == "train cost 0.3000, train accuracy 33.33 %, test accuracy 90.00 %, 0.0 s"
    assert SECOND.summary() == "train cost 0.3000, validation accuracy 50.00 %, 0.0 s"


def test_histories_share_nothing() -> None:
    one, other = mep.History("host"), mep.History("host")
    one.epochs.append(FIRST)
    assert other.epochs == []


def test_a_record_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        FIRST.train_cost = 0.0  # type: ignore[misc]


@pytest.mark.parametrize("counts", [{}, {"samples": 1.5}, {"samples": 1, "free": 3}, {"samples": 1, "x": {"macs": 1}}])
def test_counts_that_are_none(counts: dict[str, object]) -> None:
    with pytest.raises(InputError):
        mep.History.from_json({**history().to_json(), "counts": counts})
