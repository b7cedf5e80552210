"""compare: the same run on several substrates, which agree where they should."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

import mep_neuro as mep
from mep_neuro.compare import compare
from mep_neuro.errors import BackendNotFound, CapabilityError, InputError, ProfileError
from mep_neuro.profiles import profile_folder
from mep_neuro.runs import RunSettings, train

SETTINGS = RunSettings(layers=(64, 12, 10), epochs=2, batch_size=64, options={"max_steps": 6}, lr=1e-2)


def test_two_substrates_learn_the_same() -> None:
    torch, reference = compare(SETTINGS, ["torch", "reference"])
    assert (torch.backend, reference.backend) == ("torch", "reference")
    assert torch.counts.samples == reference.counts.samples == 2 * 1438
    assert torch.counts["update", "macs"] == reference.counts["update", "macs"] == 2 * 1438 * (64 * 12 + 2 * 12 * 10)
    for one, other in zip(torch.history.epochs, reference.history.epochs, strict=True):
        assert one.train_cost == pytest.approx(other.train_cost, rel=1e-4)  # the one in float32, the other in float64
        assert one.test_accuracy == pytest.approx(other.test_accuracy, abs=0.01)
        assert one.train_cost != other.train_cost  # really two substrates


def test_a_row_is_that_backends_own_run() -> None:
    (row,) = compare(SETTINGS, ["torch"])
    alone = train(SETTINGS)
    assert [r.train_cost for r in row.history.epochs] == [r.train_cost for r in alone.epochs]
    assert row.counts == alone.counts
    assert row.account == mep.account(alone.counts)
    assert row.seconds == sum(r.seconds for r in row.history.epochs) > 0


def test_a_row_as_plain_values() -> None:
    (row,) = compare(SETTINGS, ["torch"])
    document = json.loads(json.dumps(row.to_json()))
    assert document["backend"] == "torch"
    assert document["test_accuracy"] == row.history.last.test_accuracy
    assert document["seconds"] == row.seconds
    per_sample = row.counts.total("macs") / (2 * 1438)
    assert document["macs_per_sample"] == per_sample
    assert document["account"]["joules_per_sample"] == pytest.approx(per_sample * 4.6e-12, rel=1e-12)
    assert mep.OperationCounts.from_json(document["counts"]) == row.counts


def test_a_profile_of_ones_own(tmp_path: Path) -> None:
    shipped = (profile_folder() / "cmos_45nm.toml").read_text("utf-8")
    (tmp_path / "mine.toml").write_text(shipped.replace('"pJ"', '"nJ"').replace('"cmos_45nm"', '"mine"'), "utf-8")
    (mine,) = compare(SETTINGS, ["torch"], profile=str(tmp_path / "mine.toml"))
    (usual,) = compare(SETTINGS, ["torch"])
    assert mine.account.profile.name == "mine"
    assert mine.account.joules_per_sample == pytest.approx(1000 * usual.account.joules_per_sample)


def test_what_is_wrong_is_said_before_anything_trains(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "mep_neuro"):
        with pytest.raises(BackendNotFound, match=r"no backend 'refrence'.*Did you mean 'reference'\?"):
            compare(SETTINGS, ["torch", "refrence"])
        with pytest.raises(ProfileError, match="no hardware profile 'nope'"):
            compare(SETTINGS, ["torch"], profile="nope")
        with pytest.raises(InputError, match="begin with 64"):
            compare(SETTINGS.model_copy(update={"layers": (63, 10)}), ["torch"])
        with pytest.raises(CapabilityError, match="cannot change its own weights"):
            compare(SETTINGS.model_copy(update={"learning": "resident"}), ["torch"])
    assert caplog.text == ""
