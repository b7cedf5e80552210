"""`mep-neuro deploy`, and a run that no account of its profile goes with."""

from __future__ import annotations

import json
import subprocess
import sysconfig
from pathlib import Path

import pytest

SCRIPT = Path(sysconfig.get_path("scripts")) / "mep-neuro"
RUN = ["train", "--layers", "64,4,10", "--activation", "clipped_relu", "--backend", "loihi", "--epochs", "1"]
RESIDENT = ["--learning", "resident", "--batch-size", "1", "--optimizer", "sgd", "--lr", "0.01"]


def ran(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": "", "COLUMNS": "80", "HOME": str(folder)}
    return subprocess.run(
        [SCRIPT, *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=200, check=False
    )


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """A folder with a run that learnt in place, and what the command said."""
    folder = tmp_path_factory.mktemp("runs")
    return folder, ran(folder, *RUN, *RESIDENT, "--set", "timesteps=[8, 4]", "--out", "digits")


def test_a_run_whose_profile_prices_none_of_its_work(runs: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    folder, said = runs
    assert said.returncode == 0, said.stderr
    assert "learning on the substrate" in said.stdout
    line = " ".join(said.stdout.split())
    assert "No account: profile 'cmos_45nm' prices macs, accumulates, flops, and none of synaptic_events" in line
    found = ran(folder, "account", "digits/counts.json", "--profiles", "loihi2", "--json")
    assert json.loads(found.stdout)["accounts"][0]["joules_per_sample"]["p50"] > 0


def test_the_same_as_json(runs: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    said = ran(runs[0], *RUN, *RESIDENT, "--set", "timesteps=[8, 4]", "--json")
    document = json.loads(said.stdout)
    assert document["account"] is None
    assert "none of synaptic_events" in document["not_accounted"]


def test_deploy_prints_what_it_takes(runs: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    said = ran(runs[0], "deploy", "digits", "--to", "loihi2", "--out", "bundle", "--samples", "3")
    assert said.returncode == 0, said.stderr
    assert "population 1" in said.stdout
    assert "of 3 test samples are right in simulation" in said.stdout
    assert max(map(len, said.stdout.splitlines())) <= 80
    assert (runs[0] / "bundle" / "run.py").is_file()
    again = ran(runs[0], "deploy", "digits", "--to", "loihi2", "--out", "bundle")
    assert again.returncode == 2
    assert "bundle is there already: give a new folder" in again.stderr


def test_deploy_as_json(runs: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    said = ran(runs[0], "deploy", "digits", "--to", "loihi2", "--out", "other", "--samples", "2", "--json")
    document = json.loads(said.stdout)
    assert document["bundle"] == "other"
    assert document["samples"] == 2
    assert [row["cores"] for row in document["resources"]] == ["1", "1", "1", "3"]
