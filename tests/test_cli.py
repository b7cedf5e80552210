"""The command line: one JSON document or one table on standard output, one line for a user's error and exit code 2."""

from __future__ import annotations

import contextlib
import gzip
import importlib
import io
import json
import logging
import os
import re
import signal
import subprocess
import sys
import sysconfig
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

import pytest
import torch

import mep_neuro as mep
from mep_neuro import cli
from mep_neuro import data as data_sets
from mep_neuro.cli.options import backend_options
from mep_neuro.compare import compare
from mep_neuro.compare.comparison import PROFILES
from mep_neuro.datafiles import COLLECTIONS
from mep_neuro.profiles import profile_folder
from mep_neuro.runs import RunSettings, settings_from, train


def flags(**values: object) -> list[str]:
    return [part for name, value in values.items() for part in (f"--{name.replace('_', '-')}", str(value))]


QUICK = flags(layers="64,8,10", activation="hardsigmoid", epochs=1, batch_size=128, set="max_steps=6")
SETTINGS = RunSettings(layers=(64, 8, 10), activation="hardsigmoid", epochs=1, batch_size=128, options={"max_steps": 6})
FILES = ["best.pt", "config.json", "counts.json", "history.jsonl", "last.pt"]
SMALL = ("compare", "--layers", "64,4,10", "--activation", "hardsigmoid", "--epochs", 1, "--measure", "off")


@dataclass
class Ran:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        return json.loads(self.out)


Command = Callable[..., Ran]


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Command]:
    """mep-neuro in this process, in an empty folder, as its entry point runs it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    root, own = logging.getLogger(), logging.getLogger("mep_neuro")
    handlers, level = root.handlers[:], own.level

    def run(*arguments: object) -> Ran:
        root.handlers[:] = []  # those of pytest would keep the command from setting up its own
        monkeypatch.setattr(sys, "argv", ["mep-neuro", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as caught:
            cli.main()
        shown = capsys.readouterr()
        code = caught.value.code
        return Ran(code if isinstance(code, int) else int(code is not None), shown.out, shown.err)

    yield run
    root.handlers[:], own.level = handlers, level


def content(folder: Path) -> dict[str, bytes | None]:
    """Everything in a folder; None for a folder."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


def refused(ran: Ran, said: str) -> None:
    assert ran.code == 2, ran
    assert ran.out == ""
    assert ran.err.startswith("error: ")
    assert ran.err.count("\n") == 1, ran.err
    assert ran.err.endswith("\n")
    assert said in ran.err


# --- what the commands say --------------------------------------------------------------------------------------------


def test_backends_agree_with_the_registry(command: Command) -> None:
    rows = command("backends", "--json").document
    assert [row["name"] for row in rows] == list(mep.backend_names())
    for row in rows:
        here = mep.registry.backend_class(row["name"]).availability()  # type: ignore[attr-defined]
        assert (row["available"], row["reason"], row["cure"]) == (here.available, here.reason, here.cure)
        assert row["describes"]
        assert row["available"] or (row["reason"] and row["cure"])
    table = command("backends")
    assert table.code == 0
    assert table.err == ""
    assert all(name in table.out for name in mep.backend_names())


@pytest.fixture
def broken_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stranger's backend whose vendor's library is missing, beside the others."""
    broken = EntryPoint(name="broken", value="no_such_module:Backend", group="mep_neuro.backends")

    def points(*, group: str) -> list[EntryPoint]:
        return [*entry_points(group=group), broken]

    monkeypatch.setattr("mep_neuro.registry.entry_points", points)


def test_a_backend_that_cannot_be_imported_is_shown_and_not_compared(command: Command, broken_backend: None) -> None:
    rows = {row["name"]: row for row in command("backends", "--json").document}
    assert not rows["broken"]["available"]
    assert "No module named 'no_such_module'" in rows["broken"]["reason"]
    assert rows["torch"]["available"]
    assert "no_such_module" in command("backends").out
    compared = command(*SMALL, "--baseline", "none", "--json")
    assert compared.code == 0
    left_out = re.findall(r"(?m)^(\w+) is left out: ", compared.err)
    here = [name for name in rows if rows[name]["available"] and name not in left_out]
    assert [run["backend"] for run in compared.document["runs"]] == here
    refused(command("train", "--backend", "broken"), "backend 'broken' cannot be imported")


def test_data_sets_agree_with_the_library(command: Command) -> None:
    rows = command("data", "list", "--json").document
    assert [row["name"] for row in rows] == data_sets.data_names()
    for row in rows:
        folder = data_sets.located(row["name"])
        assert row["folder"] == (None if folder is None else str(folder))
    table = command("data", "list")
    assert table.code == 0
    assert max(map(len, table.out.splitlines())) <= 80
    assert all(name in table.out for name in data_sets.data_names())


def test_a_long_path_is_shown_whole(command: Command, tmp_path: Path) -> None:
    folder = tmp_path / ("x" * 60)
    folder.mkdir()
    for file in COLLECTIONS["mnist"].files:
        (folder / file.name).write_bytes(b"\0" * 2_000_000)
    shown = command("data", "list", "--data-dir", folder).out
    cells = [line.split("│")[2].strip() for line in shown.splitlines() if line.count("│") == 4]
    assert str(folder) in "".join(cells)
    assert "8.0" in shown


def test_getting_data_that_need_no_download(command: Command) -> None:
    ran = command("data", "get", "digits")
    assert ran.code == 0
    assert ran.out == f"digits is in {data_sets.located('digits')}\n"


def test_a_run_as_json_agrees_with_the_library(command: Command, tmp_path: Path) -> None:
    ran = command("train", *QUICK, "--out", "run", "--json")
    assert ran.code == 0
    history = train(SETTINGS)
    document = ran.document
    assert document["test_accuracy"] == history.last.test_accuracy
    assert document["train_accuracy"] == history.last.train_accuracy
    assert document["account"] == json.loads(json.dumps(mep.account(history.counts).to_json()))
    assert settings_from(document["settings"]) == SETTINGS
    assert document["out"] == "run"
    assert document["learning"] == "host"
    assert document["counts"] == history.counts.to_json()
    assert document["versions"]["mep-neuro"] == mep.__version__
    assert [{**e, "seconds": 0} for e in document["epochs"]] == [
        {**e, "seconds": 0} for e in history.to_json()["epochs"]
    ]
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == FILES
    assert [
        json.loads(line) for line in (tmp_path / "run" / "history.jsonl").read_text("utf-8").splitlines()
    ] == document["epochs"]


def test_a_run_for_a_reader_fits_80_columns(command: Command, tmp_path: Path) -> None:
    ran = command("train", *QUICK, "--out", "run")
    assert ran.code == 0
    *report, where = ran.out.splitlines()
    assert where == "Checkpoints and history are in run"
    assert max(map(len, report)) <= 80
    last = json.loads((tmp_path / "run" / "history.jsonl").read_text("utf-8"))
    assert f"{100 * last['test_accuracy']:.2f} %" in ran.out
    flat = " ".join(ran.out.split())
    report = mep.account(train(SETTINGS).counts)
    low, high = (f"{1e9 * end:.3g} nJ" for end in report.interval)
    assert f"A training sample costs >= {1e9 * report.joules_per_sample:.3g} nJ [{low}, {high}], estimated on" in flat
    assert "cmos_45nm (published prices): 45 nm CMOS" in flat
    assert "Horowitz, ISSCC 2014, doi:10.1109/ISSCC.2014.6757323" in flat
    assert "no price in it: neuron_updates, weight_bytes, state_bytes, host_bytes." in flat
    assert ran.err.splitlines()[0] == "learning on the host"
    assert re.fullmatch(r"epoch 1/1: train cost .*, test accuracy .* %, \d+\.\d s", ran.err.splitlines()[-1])


def test_what_did_not_settle_is_reported(command: Command) -> None:
    ran = command("train", *QUICK, "--set", "max_steps=1", "--out", "run")
    assert "warning: epoch 1: 1438 of 1438 samples had not settled" in ran.err
    flat = " ".join(ran.out.split())
    assert "1,438" in flat
    assert "Not settled: training samples of which a phase had not come to rest within max_steps" in flat
    assert "Not settled" not in command("train", *QUICK, "--set", "max_steps=60", "--out", "other").out


def test_names_are_shown_as_they_are(command: Command, tmp_path: Path) -> None:
    name = "run[bold]:fire:[/]"  # what Rich would take for markup and an emoji
    ran = command("train", *QUICK, "--out", name)
    assert ran.out.endswith(f"Checkpoints and history are in {name}\n")
    assert (tmp_path / name / "last.pt").exists()
    refused(command("train", *QUICK, "--out", name), f"{name} already holds a run")


@pytest.mark.parametrize(
    ("text", "value"),
    [("3", 3), ("2.5", 2.5), ("true", True), ("[20, 10]", [20, 10]), ("euler", "euler"), ("a=b", "a=b"), ("", "")],
)
def test_option_values_are_json_where_they_can_be(text: str, value: object) -> None:
    assert backend_options([f"key={text}"]) == {"key": value}


def test_options_reach_the_backend(command: Command, tmp_path: Path) -> None:
    given = ("--set", "max_steps=[7, 2]", "--set", "solver=synchronous")
    document = command("train", *QUICK, *given, "--out", "run", "--json").document
    assert document["settings"]["options"] == {"max_steps": [7, 2], "solver": "synchronous"}
    settings = SETTINGS.model_copy(update={"options": {"max_steps": [7, 2], "solver": "synchronous"}})
    assert document["counts"] == train(settings).counts.to_json()


def test_every_setting_has_a_flag_that_reaches_it(command: Command) -> None:
    given = {
        "data": "digits",
        "layers": "64,7,10",
        "activation": "hardsigmoid",
        "output-activation": "identity",
        "energy": "prediction_error",
        "backend": "reference",
        "epochs": "2",
        "batch-size": "256",
        "beta": "0.3",
        "nudging": "one_sided",
        "cost": "cross_entropy",
        "optimizer": "sgd",
        "lr": "0.01",
        "seed": "4",
        "hold-out": "100",
        "learning": "host",
        "input-gain": "20.0",
        "set": "max_steps=4",
    }
    flags = [part for name, value in given.items() for part in (f"--{name}", value)]
    document = command("train", *flags, "--out", "run", "--json").document
    assert settings_from(document["settings"]) == RunSettings(
        data="digits",
        layers=(64, 7, 10),
        activation="hardsigmoid",
        output_activation="identity",
        energy="prediction_error",
        backend="reference",
        epochs=2,
        batch_size=256,
        beta=0.3,
        nudging="one_sided",
        cost="cross_entropy",
        optimizer="sgd",
        lr=0.01,
        seed=4,
        hold_out=100,
        learning="host",
        options={"max_steps": 4},
        input_gain=20.0,
    )
    assert set(document["settings"]) == {name.replace("-", "_") for name in given if name != "set"} | {"options"}


def test_a_dated_folder_is_made_where_none_is_given(command: Command, tmp_path: Path) -> None:
    out = command("train", *QUICK, "--json").document["out"]
    assert re.fullmatch(r"runs/\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d_digits_torch", out)
    assert sorted(path.name for path in (tmp_path / out).iterdir()) == FILES


def test_runs_of_one_second_get_folders_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    train_command: Any = importlib.import_module("mep_neuro.cli.train")

    class Clock(train_command.datetime.datetime):  # type: ignore[misc]
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return cls(2026, 1, 2, 3, 4, 5)

    monkeypatch.setattr(train_command.datetime, "datetime", Clock)
    folders = [train_command._dated_folder(SETTINGS).name for _ in range(3)]
    name = "2026-01-02_03-04-05_digits_torch"
    assert folders == [name, f"{name}_2", f"{name}_3"]


def timeless(document: dict[str, Any]) -> dict[str, Any]:
    """A comparison without the times that its runs took here."""
    return {**document, "runs": [{**run, "seconds_here": 0} for run in document["runs"]]}


def test_compare_agrees_with_the_library_and_with_its_files(command: Command, tmp_path: Path) -> None:
    given = ("compare", "--layers", "64,24,10", "--epochs", 1, "--seed", 3, "--backends", "torch, reference")
    options = ("--profiles", "cmos_45nm,gpu_h100:on_chip", "--measure", "off", "--out", "report")
    document = command(*given, *options, "--json").document
    settings = RunSettings(layers=(64, 24, 10), epochs=1, seed=3)
    ours = compare(settings, ["torch", "reference"], profiles=["cmos_45nm", "gpu_h100:on_chip"]).document
    assert timeless(document) == timeless(json.loads(json.dumps(ours)))
    assert all(run["seconds_here"] > 0 for run in document["runs"])
    assert json.loads((tmp_path / "report" / "compare.json").read_text("utf-8")) == document
    assert (tmp_path / "report" / "report.html").read_text("utf-8").startswith("<!doctype html>")
    table = command(*given, *options)
    assert table.code == 0
    *lines, json_path, html_path = table.out.splitlines()
    assert (json_path, html_path) == ("Written: report/compare.json", "Written: report/report.html")
    assert max(map(len, lines)) <= 80
    for run in document["runs"]:
        assert f"{run['name']}: test accuracy {100 * run['test_accuracy']:.2f} %, batch 32" in table.out
    shown = [line for line in lines if line.startswith("  cmos_45nm ")]
    accounts = [a for a in document["accounts"] if a["profile"] == "cmos_45nm"]
    for line, account in zip(shown, accounts, strict=True):
        assert f">= {1e9 * account['joules_per_sample']['p50']:.3g}n [" in line
    said = [line for line in table.err.splitlines() if line.startswith("training")]
    assert said == ["training on torch", "training on reference", "training by backpropagation"]


def test_compare_takes_all_that_run_here_and_backprop(command: Command) -> None:
    ran = command(*SMALL, "--json")
    document, left_out = ran.document, re.findall(r"(?m)^(\w+) is left out: ", ran.err)
    here = [row["name"] for row in command("backends", "--json").document if row["available"]]
    assert [run["backend"] for run in document["runs"]] == [*(name for name in here if name not in left_out), None]
    assert set(left_out) <= {"brian2", "lava"}  # the outputs have no limit; it is slow
    assert document["runs"][-1]["algorithm"] == "backpropagation"
    assert {a["profile"] for a in document["accounts"]} == set(PROFILES)


def test_compare_takes_finished_runs_as_they_are(command: Command, tmp_path: Path) -> None:
    kept = command("train", *QUICK, "--out", "mine", "--json").document
    before = content(tmp_path / "mine")
    document = command("compare", "--runs", "mine", "--measure", "off", "--json").document
    mine, backprop = document["runs"]
    assert (mine["name"], mine["test_accuracy"]) == ("mine", kept["test_accuracy"])
    assert mine["mep:counts"] == kept["counts"]
    assert mine["settings"] == backprop["settings"]
    assert mine["neurobench"]["ParameterCount"] == 64 * 8 + 8 + 8 * 10 + 10
    assert content(tmp_path / "mine") == before


def test_accounting_for_a_file_of_counts(command: Command) -> None:
    counts = mep.OperationCounts.from_json(command("train", *QUICK, "--out", "run", "--json").document["counts"])
    document = command("account", "run/counts.json", "--profiles", "cmos_45nm,loihi2", "--json").document
    assert document["counts"] == counts.to_json()
    wanted = [mep.account(counts, name).to_json() for name in ("cmos_45nm", "loihi2")]
    assert document["accounts"] == json.loads(json.dumps(wanted))
    table = command("account", "run/counts.json")
    assert table.code == 0
    assert all(name in table.out for name in PROFILES)
    assert max(map(len, table.out.splitlines())) <= 80
    refused(command("account", "run/counts.json", "--strict"), "profile 'cmos_45nm' has no price for neuron_updates")
    refused(command("account", "run/counts.json", "--profiles", "truenorth"), "take a profile of the same kind")


def test_profiles_are_listed_shown_and_checked(command: Command, tmp_path: Path) -> None:
    listed = command("profiles", "--json").document
    assert [p["name"] for p in listed] == list(mep.profile_names())
    assert len(listed) >= 20
    assert all(name in command("profiles").out for name in mep.profile_names())
    (tmp_path / "mine.toml").write_bytes((profile_folder() / "cmos_45nm.toml").read_bytes())
    for name in ("loihi1:throttled", "mine.toml", "brain"):
        shown = command("profiles", name)
        assert shown.code == 0
        assert max(map(len, shown.out.splitlines())) <= 80
        profile = mep.hardware_profile(name)
        assert command("profiles", name, "--json").document[0]["name"] == profile.name
        assert all(key in shown.out for key in profile.figures)
    assert command("profiles", "check", "mine.toml").out.endswith("mine.toml can be used: --profiles mine.toml\n")
    (tmp_path / "mine.toml").write_text('name = "mine"\n', encoding="utf-8")
    refused(command("profiles", "check", "mine.toml"), "mine.toml: title: Field required")
    refused(command("profiles", "check"), "profiles check needs a file")
    refused(command("profiles", "brain", "mine.toml"), "for a file, profiles check FILE")
    refused(command("profiles", "loihi3"), "Did you mean 'loihi")


def test_a_run_is_accounted_on_the_profile_asked_for(command: Command) -> None:
    document = command("train", *QUICK, "--profile", "gpu_h100", "--out", "run", "--json").document
    assert document["account"]["profile"] == "gpu_h100"
    assert document["measured"] is None
    assert document["not_measured"] == ""


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("train", "Learning rate; left out: 0.1 for sgd, 0.0005 else."),
        ("train", "Folder of the run; left out: a dated one under runs/."),
        ("train", "hardsigmoid, hardtanh, identity, relu"),
        ("compare", "Names, by commas; left out: all that run here, but for very slow ones."),
        ("data", "get"),
    ],
)
def test_help_says_all_that_was_written(command: Command, arguments: str, said: str) -> None:
    ran = command(*arguments.split(), "--help")
    assert ran.code == 0
    assert said in " ".join(re.sub("[│\n]", " ", ran.out).split())  # Rich would swallow what stands in brackets


# --- bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("as_json", [False, True], ids=["plain", "json"])
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("--backend toch", "no backend 'toch'; installed: "),
        ("--backend toch", "Did you mean 'torch'?"),
        ("--activation rellu", "Did you mean 'relu'?"),
        ("--energy hopfeild", "Did you mean 'hopfield'?"),
        ("--nudging centred", "Did you mean 'centered'?"),
        ("--cost squared_eror", "Did you mean 'squared_error'?"),
        ("--optimizer adm", "Did you mean 'adam'?"),
        ("--data digit", "Did you mean 'digits'?"),
        ("--set max_step=3", "backend 'torch' has no option 'max_step'"),
        ("--set max_step=3", "Did you mean 'max_steps'?"),
        ("--set max_steps", "--set max_steps: write KEY=VALUE"),
        ("--set =3", "--set =3: write KEY=VALUE"),
        ("--set max_steps=0", "max_steps is 0; settling takes at least 1 step"),
        ("--set max_steps=[5,0]", "settling takes at least 1 step"),
        ("--set tolerance=0", "tolerance is 0"),
        ("--set seed=3", "'seed' is no option of a backend"),
        ("--set solver=oiler", "Did you mean 'euler'?"),
        ("--beta 0", "beta is 0.0; give a positive number"),
        ("--beta -0.5", "beta is -0.5; give a positive number"),
        ("--beta nan", "beta is nan"),
        ("--beta 1", "no minimum from beta = 1 on: choose a smaller beta"),
        ("--beta 7", "no minimum from beta = 1 on"),
        ("--beta 2 --cost cross_entropy", "no minimum from beta = 2 on"),
        ("--epochs 0", "epochs is '0'"),
        ("--batch-size 0", "batch-size is '0'"),
        ("--lr 0", "lr is '0.0': Input should be greater than 0"),
        ("--lr -1", "lr is '-1.0'"),
        ("--lr inf", "lr is 'inf'"),
        ("--seed -1", "seed is '-1'"),
        ("--seed 4294967296", "seed is '4294967296'"),
        ("--layers 64,128,11", "the layers are 64,128,11: begin with 64 and end with 10"),
        ("--layers 784,10", "begin with 64 and end with 10"),
        ("--layers 64", "begin with 64 and end with 10"),
        ("--layers 64,0,10", "layers is 64,0,10"),
        ("--layers 64,x,10", "layers is 'x'"),
        ("--layers 64,,10", "layers is ''"),
        ("--hold-out -1", "hold-out is '-1'"),
        ("--hold-out 1438", "cannot hold out 1438 of 1438 training samples"),
        ("--learning remote", "learning is 'remote'"),
        ("--learning resident", "TorchBackend cannot change its own weights"),
        ("--nudging holomorphic", "holomorphic nudging needs"),
        ("--resume", "--resume needs --out"),
        ("--resume --out nothing", "nothing holds no run"),
        ("--out file/below", "file is a file. Give another folder."),
        ("--out file", "file is a file. Give another folder."),
        ("--data mnist --data-dir none", "mnist: no folder holds train-images-idx3-ubyte"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    command: Command, tmp_path: Path, arguments: str, said: str, as_json: bool
) -> None:
    (tmp_path / "file").write_bytes(b"content")
    refused(command("train", *arguments.split(), *(["--json"] if as_json else [])), said)
    assert content(tmp_path) == {"file": b"content"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("compare --backends torch,refrence", "Did you mean 'reference'?"),
        ("compare --backends ,", "there is nothing to compare"),
        ("compare --backends torch,torch", "two of the runs are called 'torch'"),
        ("compare --backends torch --profiles cmos_4nm", "Did you mean 'cmos_45nm'?"),
        ("compare --backends torch --profiles loihi1:throtled", "Did you mean 'throttled'?"),
        ("compare --backends torch --profiles mine.toml", "no hardware profile 'mine.toml'"),
        ("compare --backends torch --baseline sgd", "baseline is 'sgd'; give 'backprop' or 'none'"),
        ("compare --backends torch --measure watts", "no sensor 'watts'; there are: auto, rapl, nvml, or off"),
        ("train --measure raple", "Did you mean 'rapl'?"),
        ("compare --runs nothing", "nothing holds no run"),
        ("account nothing.json", "nothing.json cannot be read"),
        ("train --profile loihi3", "Did you mean 'loihi"),
        ("compare --epochs 0", "epochs is '0'"),
        ("compare --backends torch --layers 63,10", "begin with 64"),
        ("compare --backends torch --data mnst", "Did you mean 'mnist'?"),
        ("data get mnst", "Did you mean 'mnist'?"),
    ],
)
def test_bad_input_to_the_other_commands(command: Command, tmp_path: Path, arguments: str, said: str) -> None:
    refused(command(*arguments.split()), said)
    assert content(tmp_path) == {}


def test_a_backend_that_cannot_run_here(command: Command, tmp_path: Path) -> None:
    missing = [row for row in command("backends", "--json").document if not row["available"]]
    if not missing:
        pytest.skip("every installed backend runs here")
    ran = command("train", "--backend", missing[0]["name"])
    refused(ran, f"backend '{missing[0]['name']}' cannot run here: {missing[0]['reason']}; {missing[0]['cure']}")
    assert content(tmp_path) == {}


@pytest.mark.parametrize("damage", ["empty", "truncated", "truncated gzip", "altered", "no IDX"])
def test_damaged_data_files(command: Command, tmp_path: Path, damage: str) -> None:
    images = bytes.fromhex("00000803") + (60_000).to_bytes(4, "big") + (28).to_bytes(4, "big") * 2
    damaged = {
        "empty": b"",
        "truncated": images + bytes(1000),
        "truncated gzip": gzip.compress(images + bytes(range(256)) * 100)[:-40],
        "altered": images + bytes(60_000 * 784),
        "no IDX": b"<html>not found</html>",
    }[damage]
    (tmp_path / "data").mkdir()
    for file in COLLECTIONS["mnist"].files:
        (tmp_path / "data" / (file.name + (".gz" if "gzip" in damage else ""))).write_bytes(damaged)
    before = content(tmp_path)
    ran = command("train", "--data", "mnist", "--layers", "784,8,10", "--data-dir", "data", "--out", "run")
    refused(ran, "train-images-idx3-ubyte")
    assert "mep-neuro data get mnist" in ran.err
    assert content(tmp_path) == before


@pytest.mark.parametrize(
    "arguments", ["train --nope", "nope", "train --epochs many", "data", "data get", "train extra"]
)
def test_a_command_that_there_is_not(command: Command, tmp_path: Path, arguments: str) -> None:
    ran = command(*arguments.split())
    assert ran.code == 2
    assert "Usage: mep-neuro" in ran.err + ran.out
    assert "Traceback" not in ran.err
    assert content(tmp_path) == {}


# --- resuming ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def run(command: Command, tmp_path: Path) -> Path:
    """A finished run of one epoch."""
    assert command("train", *QUICK, "--out", "run").code == 0
    return tmp_path / "run"


def test_an_existing_run_is_not_overwritten(command: Command, run: Path) -> None:
    before = content(run)
    refused(command("train", *QUICK, "--out", "run"), "run already holds a run: add --resume to go on with it")
    assert content(run) == before


def test_a_finished_run_can_be_read_again_and_goes_on(command: Command, run: Path) -> None:
    again = command("train", "--resume", "--out", "run", "--json").document
    assert again["epochs"] == [json.loads(line) for line in (run / "history.jsonl").read_text("utf-8").splitlines()]
    assert len(again["epochs"]) == 1
    longer = command("train", "--resume", "--out", "run", "--epochs", 2, "--layers", "64,8,10", "--json").document
    assert [{**e, "seconds": 0} for e in longer["epochs"]] == [
        {**e, "seconds": 0} for e in train(SETTINGS.model_copy(update={"epochs": 2})).to_json()["epochs"]
    ]
    kept = json.loads((run / "config.json").read_text("utf-8"))
    assert settings_from(kept) == SETTINGS.model_copy(update={"epochs": 2})


@pytest.mark.parametrize(
    ("flag", "value", "said"),
    [
        ("--lr", "0.5", "the run in run has lr None, not 0.5: leave out --lr, or start a new run"),
        ("--beta", "0.25", "has beta 0.5, not 0.25: leave out --beta"),
        ("--seed", "1", "has seed 0, not 1"),
        ("--batch-size", "32", "has batch_size 128, not 32: leave out --batch-size"),
        ("--hold-out", "9", "leave out --hold-out"),
        ("--layers", "64,9,10", "has layers (64, 8, 10), not (64, 9, 10)"),
        ("--backend", "reference", "has backend torch, not reference"),
        ("--nudging", "one_sided", "has nudging centered, not one_sided"),
        ("--cost", "cross_entropy", "has cost squared_error, not cross_entropy"),
        ("--activation", "tanh", "has activation hardsigmoid, not tanh"),
        ("--energy", "prediction_error", "has energy hopfield, not prediction_error"),
        ("--optimizer", "sgd", "has optimizer adam, not sgd"),
        ("--data", "mnist", "has data digits, not mnist"),
        ("--learning", "host", "has learning auto, not host"),
        ("--set", "max_steps=7", "leave out --set"),
        ("--set", "max_steps", "write KEY=VALUE"),
        ("--epochs", "0", "epochs is '0'"),
    ],
)
def test_a_flag_against_the_run_is_refused(command: Command, run: Path, flag: str, value: str, said: str) -> None:
    before = content(run)
    refused(command("train", "--resume", "--out", "run", flag, value), said)
    assert content(run) == before


@pytest.mark.parametrize(
    ("file", "damaged", "said"),
    [
        ("config.json", b"", "run holds no run"),
        ("config.json", b"[1]", "is '[1]'"),
        ("config.json", b'{"momentum": 1}', "momentum is '1'"),
        ("config.json", b"\xff", "run holds no run"),
        ("last.pt", b"", "last.pt is truncated or no checkpoint"),
        ("last.pt", b"not a checkpoint", "last.pt is truncated or no checkpoint"),
    ],
)
def test_a_damaged_run_is_refused_and_left(command: Command, run: Path, file: str, damaged: bytes, said: str) -> None:
    (run / file).write_bytes(damaged)
    before = content(run)
    refused(command("train", "--resume", "--out", "run", "--epochs", 2), said)
    assert content(run) == before


# --- as processes -----------------------------------------------------------------------------------------------------

DEADLINE = 60.0
SCRIPT = Path(sysconfig.get_path("scripts")) / ("mep-neuro.exe" if os.name == "nt" else "mep-neuro")
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "80"}


def test_a_process_ends_with_exit_code_2(tmp_path: Path) -> None:
    done = subprocess.run(
        [SCRIPT, "train", "--json", "--backend", "toch"],
        cwd=tmp_path,
        env=ENVIRONMENT,
        capture_output=True,
        timeout=DEADLINE,
    )
    refused(Ran(done.returncode, done.stdout.decode(), done.stderr.decode()), "no backend 'toch'; installed: ")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.name != "posix", reason="terminals as POSIX has them")
def test_a_terminal_shows_a_progress_bar_and_standard_output_stays_clean(tmp_path: Path) -> None:
    import pty

    ours, theirs = pty.openpty()
    shown = io.BytesIO()

    def read() -> None:
        with contextlib.suppress(OSError):  # the terminal's end
            while part := os.read(ours, 4096):
                shown.write(part)

    reader = threading.Thread(target=read)
    reader.start()
    environment = {**ENVIRONMENT, "TERM": "xterm"}
    process = subprocess.Popen(
        [SCRIPT, "train", *QUICK, "--json"], cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=theirs
    )
    os.close(theirs)
    out, _ = process.communicate(timeout=DEADLINE)
    reader.join(DEADLINE)
    os.close(ours)
    assert process.returncode == 0
    document = json.loads(out)
    assert out.decode() == json.dumps(document, indent=2) + "\n"
    assert document["test_accuracy"] == train(SETTINGS).last.test_accuracy
    terminal = shown.getvalue().decode()
    assert re.search(r"epoch 1/1 .*12/12.* batches", terminal)
    assert "epoch 1/1: train cost" in terminal


LONG = flags(layers="64,8,10", activation="hardsigmoid", epochs=3, batch_size=8, seed=5)
LONG_SETTINGS = RunSettings(layers=(64, 8, 10), activation="hardsigmoid", epochs=3, batch_size=8, seed=5)


@dataclass
class Whole:
    """A run that nobody disturbed."""

    weights: dict[str, torch.Tensor]
    document: Any
    names: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Whole]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in the processes: sums are cut differently by more
    folder = tmp_path_factory.mktemp("whole")
    history = train(LONG_SETTINGS, out=folder)
    last = torch.load(folder / "last.pt", weights_only=True)
    yield Whole(last["module"], history.to_json(), sorted(path.name for path in folder.iterdir()))
    torch.set_num_threads(threads)


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + DEADLINE
    while not condition():
        assert process.poll() is None, "the run ended before it could be stopped"
        assert time.monotonic() < until, "the run made no progress"
        time.sleep(0.002)


@pytest.mark.skipif(os.name != "posix", reason="signals as POSIX has them")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL], ids=lambda s: s.name)
def test_a_run_that_is_killed_goes_on_to_the_same_weights(
    command: Command, tmp_path: Path, whole: Whole, number: signal.Signals
) -> None:
    with (tmp_path / "err").open("wb") as err_file:
        process = subprocess.Popen(
            [SCRIPT, "train", *LONG, "--out", "run", "--json"],
            cwd=tmp_path,
            env=ENVIRONMENT,
            stdout=subprocess.PIPE,
            stderr=err_file,
        )
    try:
        # Said once the files of an epoch are written: what follows is the middle of the next epoch.
        wait_for(lambda: b"epoch 1/3: " in (tmp_path / "err").read_bytes(), process)
        process.send_signal(number)
        out, _ = process.communicate(timeout=DEADLINE)
    finally:
        process.kill()
        process.wait()
    err = (tmp_path / "err").read_text("utf-8")
    assert out == b""
    first, second, *_ = err.splitlines()
    assert first == "learning on the host"
    assert second.startswith("epoch 1/3: train cost ")
    assert not any(sign in err for sign in ("Traceback", "\x1b", "batches"))  # no bar where there is no terminal
    stopped = torch.load(tmp_path / "run" / "last.pt", weights_only=True)
    assert len(stopped["history"]["epochs"]) < 3
    if number == signal.SIGKILL:
        assert process.returncode == -signal.SIGKILL
    else:
        assert process.returncode == 130
        assert err.endswith("stopped; go on with: mep-neuro train --resume --out run\n")
        assert content(tmp_path / "run").keys() == set(whole.names)
    ran = command("train", "--resume", "--out", "run", "--json")
    assert ran.code == 0, ran.err
    last = torch.load(tmp_path / "run" / "last.pt", weights_only=True)["module"]
    assert last.keys() == whole.weights.keys()
    assert all(torch.equal(last[name], whole.weights[name]) for name in last)
    document = ran.document
    assert document["counts"] == whole.document["counts"]
    assert document["evaluation"] == whole.document["evaluation"]
    assert [{**e, "seconds": 0} for e in document["epochs"]] == [{**e, "seconds": 0} for e in whole.document["epochs"]]
    if number != signal.SIGKILL:  # which may strike while a file is being written under its temporary name
        assert sorted(path.name for path in (tmp_path / "run").iterdir()) == whole.names
