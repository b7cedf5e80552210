"""compare: the same run on several substrates and by backpropagation, which agree where they should."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

import mep_neuro as mep
from mep_neuro.compare import compare
from mep_neuro.compare.comparison import REFERENCES, SCHEMA, SCHEMA_VERSION
from mep_neuro.errors import BackendNotFound, CapabilityError, InputError, ProfileError
from mep_neuro.profiles import profile_folder
from mep_neuro.runs import RunSettings, prepared, train

SETTINGS = RunSettings(layers=(64, 12, 10), epochs=2, batch_size=64, options={"max_steps": 6}, lr=1e-2)


@pytest.fixture(scope="module")
def found() -> mep.Comparison:
    return compare(SETTINGS, ["torch", "reference"], profiles=["cmos_45nm", "gpu_h100", "loihi1"])


def test_two_substrates_learn_the_same(found: mep.Comparison) -> None:
    torch, reference, backprop = found.runs
    assert [run.name for run in found.runs] == ["torch", "reference", "backprop"]
    assert found.baseline is backprop
    for run in (torch, reference):
        counts = run.history.counts
        assert counts.samples == 2 * 1438
        assert counts["update", "macs"] == 2 * 1438 * (64 * 12 + 2 * 12 * 10)
    for one, other in zip(torch.history.epochs, reference.history.epochs, strict=True):
        assert one.train_cost == pytest.approx(other.train_cost, rel=1e-4)  # the one in float32, the other in float64
        assert one.test_accuracy == pytest.approx(other.test_accuracy, abs=0.01)
        assert one.train_cost != other.train_cost  # really two substrates


def test_a_run_is_that_backends_own(found: mep.Comparison) -> None:
    alone = train(SETTINGS)
    run = found.runs[0]
    assert [r.train_cost for r in run.history.epochs] == [r.train_cost for r in alone.epochs]
    assert run.history.counts == alone.counts
    assert found.accounts["torch", "cmos_45nm"] == mep.account(alone.counts)
    assert run.seconds == sum(r.seconds for r in run.history.epochs) > 0


def test_what_a_profile_cannot_price_is_left_out_with_the_reason(found: mep.Comparison) -> None:
    assert set(found.left_out) == {(run.name, "loihi1") for run in found.runs}
    assert all("none of macs" in why for why in found.left_out.values())
    assert set(found.accounts) == {(run.name, p) for run in found.runs for p in ("cmos_45nm", "gpu_h100")}


def test_ratios_are_to_backprop_on_the_same_profile(found: mep.Comparison) -> None:
    for entry in found.document["accounts"]:
        ours, base = found.accounts[entry["run"], entry["profile"]], found.accounts["backprop", entry["profile"]]
        if entry["run"] == "backprop":
            assert entry["ratio_to_baseline"] is None
        else:
            assert entry["ratio_to_baseline"] == mep.ratio(ours, base).to_json()
            assert entry["ratio_to_baseline"]["p5"] > 1


def test_the_document_is_plain_and_holds_what_it_rests_on(found: mep.Comparison) -> None:
    document = json.loads(json.dumps(found.document, allow_nan=False))
    assert document == found.document
    assert (document["schema"], document["schema_version"]) == (SCHEMA, SCHEMA_VERSION)
    assert document["versions"]["mep-neuro"] == mep.__version__
    assert (document["seed"], document["draws"]) == (0, 10_000)
    for run, entry in zip(found.runs, document["runs"], strict=True):
        assert mep.OperationCounts.from_json(entry["mep:counts"]) == run.history.counts
        assert entry["test_accuracy"] == run.history.last.test_accuracy
        assert entry["neurobench"]["Footprint"] == 4 * (64 * 12 + 12 + 12 * 10 + 10)
    backprop = document["runs"][-1]  # whose answer is the forward pass; EP settles, so NeuroBench's figure is another
    assert backprop["neurobench"]["ClassificationAccuracy"] == pytest.approx(backprop["test_accuracy"])
    hashes = {p["name"]: p["sha256"] for p in document["profiles"]}
    assert len(set(hashes.values())) == 3
    assert [r["profile"] for r in document["references"]] == list(REFERENCES)
    brain, landauer = (r["joules_per_sample"]["p50"] for r in document["references"])
    cheapest = min(a["joules_per_sample"]["p5"] for a in document["accounts"])
    assert landauer < brain < cheapest


def test_one_content_one_hash(tmp_path: Path) -> None:
    copy = tmp_path / "mine.toml"
    text = (profile_folder() / "cmos_45nm.toml").read_text("utf-8")
    copy.write_text(text + "\n# a comment changes no price\n", encoding="utf-8")

    def sha(profile: str | Path) -> str:
        return str(compare(SETTINGS, ["torch"], profiles=[profile], baseline="none").document["profiles"][0]["sha256"])

    assert sha(copy) == sha("cmos_45nm")
    copy.write_text(text.replace("value = 4.6", "value = 4.7"), encoding="utf-8")
    assert sha(copy) != sha("cmos_45nm")


def test_a_profile_of_ones_own(tmp_path: Path) -> None:
    shipped = (profile_folder() / "cmos_45nm.toml").read_text("utf-8")
    path = tmp_path / "mine.toml"
    path.write_text(shipped.replace('"pJ"', '"nJ"').replace('"cmos_45nm"', '"mine"'), "utf-8")
    ours = compare(SETTINGS, ["torch"], profiles=[path, "cmos_45nm"], baseline="none")
    assert ours.baseline is None
    mine, usual = (ours.accounts["torch", name].joules.nominal for name in ("mine", "cmos_45nm"))
    assert mine == pytest.approx(1000 * usual)
    assert ours.document["by_steps"] == []
    assert all(a["ratio_to_baseline"] is None for a in ours.document["accounts"])


def test_curves_pass_through_the_run(found: mep.Comparison) -> None:
    """The closed formulas at the run's own batch size and steps are what the reference substrate counted, but for
    its words of 8 bytes and its last, smaller batch."""
    rows = {row["profile"]: row for row in found.document["by_steps"]}
    assert set(rows) == {"cmos_45nm", "gpu_h100"}
    row = rows["cmos_45nm"]
    assert row["steps_of_the_run"] == 6
    counted = mep.ratio(found.accounts["reference", "cmos_45nm"], found.accounts["backprop", "cmos_45nm"])
    assert row["ratio_of_the_run"]["nominal"] == pytest.approx(counted.nominal, rel=1e-3)
    medians = [r["p50"] for r in row["ratio"]]
    assert medians == sorted(medians)
    assert row["crossover"] is None
    assert medians[0] > 1


def test_static_joules_fall_with_the_batch(found: mep.Comparison) -> None:
    rows = found.document["by_batch"]
    assert {row["profile"] for row in rows} == {"gpu_h100"}
    assert [row["algorithm"] for row in rows] == ["equilibrium propagation", "backpropagation"]
    for row in rows:
        assert row["static"] == sorted(row["static"], reverse=True)
        assert row["dynamic"] == sorted(row["dynamic"], reverse=True)  # weights and the optimizer's words are shared
        assert row["static"][0] / row["static"][-1] > 100


def test_a_run_that_the_formula_does_not_hold_for_has_no_curves() -> None:
    other = compare(SETTINGS.model_copy(update={"energy": "prediction_error"}), ["torch"], profiles=["cmos_45nm"])
    assert other.document["by_steps"] == other.document["by_batch"] == []


def test_finished_runs_are_taken_as_they_are(tmp_path: Path) -> None:
    with prepared(SETTINGS) as run:
        history = run.train(out=tmp_path / "kept")
    ours = compare(SETTINGS, [], runs=[tmp_path / "kept"], profiles=["cmos_45nm"])
    kept, backprop = ours.runs
    assert kept.name == "kept"
    assert kept.history.to_json() == history.to_json()
    assert kept.settings == SETTINGS
    assert kept.metrics == compare(SETTINGS, ["torch"], profiles=["cmos_45nm"], baseline="none").runs[0].metrics
    assert backprop.algorithm == "backpropagation"


def test_written_files_hold_the_document(found: mep.Comparison, tmp_path: Path) -> None:
    json_path, html_path = found.write(tmp_path / "out")
    assert json.loads(json_path.read_text("utf-8")) == found.document
    assert html_path.read_text("utf-8").startswith("<!doctype html>")


def test_what_is_wrong_is_said_before_anything_trains(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    with caplog.at_level(logging.INFO, "mep_neuro"):
        with pytest.raises(BackendNotFound, match=r"no backend 'refrence'.*Did you mean 'reference'\?"):
            compare(SETTINGS, ["torch", "refrence"])
        with pytest.raises(ProfileError, match="no hardware profile 'nope'"):
            compare(SETTINGS, ["torch"], profiles=["nope"])
        with pytest.raises(InputError, match="begin with 64"):
            compare(SETTINGS.model_copy(update={"layers": (63, 10)}), ["torch"])
        with pytest.raises(CapabilityError, match="cannot change its own weights"):
            compare(SETTINGS.model_copy(update={"learning": "resident"}), ["torch"])
        with pytest.raises(InputError, match="two of the runs are called 'torch'"):
            compare(SETTINGS, ["torch", "torch"])
        with pytest.raises(InputError, match="nothing to compare"):
            compare(SETTINGS, [], baseline="none")
        with pytest.raises(InputError, match="nothing to compare"):
            compare(SETTINGS, ["torch"], profiles=[])
        with pytest.raises(InputError, match="baseline is 'bp'"):
            compare(SETTINGS, ["torch"], baseline="bp")
        with pytest.raises(InputError, match="holds no run"):
            compare(SETTINGS, ["torch"], runs=[tmp_path])
    assert caplog.text == ""


def test_no_profile_prices_anything() -> None:
    with pytest.raises(ProfileError, match="none of the profiles prices what was counted"):
        compare(SETTINGS.model_copy(update={"epochs": 1}), ["torch"], profiles=["truenorth"], baseline="none")
