"""`mep-neuro deploy`: what is written, that it runs without us, and what is refused."""

from __future__ import annotations

import hashlib
import io
import json
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

import mep_neuro as mep
from mep_neuro.errors import BackendNotFound, CapabilityError, InputError, OptionError
from mep_neuro.runs import settings_from, train

PYTHON_3_10 = Path(__file__).resolve().parents[3] / ".venv310" / "bin" / "python"
"""What Loihi hosts have: Python 3.10, lava-nc and NumPy."""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A digits run on the integer kernels."""
    folder = tmp_path_factory.mktemp("runs") / "digits"
    settings = settings_from(
        {"layers": (64, 16, 10), "activation": "hardsigmoid", "backend": "loihi", "epochs": 1, "options": {"leak": 0}}
    )
    train(settings, out=folder, progress=False)
    return folder


@pytest.fixture(scope="module")
def bundle(run: Path, tmp_path_factory: pytest.TempPathFactory) -> mep.Bundle:
    return mep.deploy(run, "loihi2", tmp_path_factory.mktemp("bundles") / "digits", samples=6)


def test_the_program_is_that_of_the_run(bundle: mep.Bundle, run: Path) -> None:
    program = json.loads((bundle.folder / "program.json").read_text())
    assert program["sizes"] == [64, 16, 10]
    assert program["plan"]["timesteps"] == [60, 20]
    assert [neuron["leak"] for neuron in program["plan"]["neurons"]] == [0, 0]  # an option of the run
    assert program["source"]["run"] == "digits"
    assert program["samples"] == bundle.samples == 6
    with np.load(bundle.folder / "arrays.npz", allow_pickle=False) as arrays:
        assert arrays["mantissas_0"].shape == (16, 64)
        assert arrays["free_1"].shape == arrays["nudged_1"].shape == (6, 10)
        right = arrays["free_1"].argmax(1) == arrays["labels"]
    assert bundle.accuracy == program["accuracy_at_export"] == right.mean()


def test_every_file_has_its_checksum(bundle: mep.Bundle) -> None:
    program = json.loads((bundle.folder / "program.json").read_text())
    files = {p.relative_to(bundle.folder).as_posix() for p in bundle.folder.rglob("*") if p.is_file()}
    assert set(program["sha256"]) == files - {"program.json"}
    assert {"run.py", "README.md", "arrays.npz", "mep_neuro_lava/processes/process.py"} <= files
    assert not any("__pycache__" in name for name in files)


def test_the_table_is_the_resources(bundle: mep.Bundle) -> None:
    head, inputs, hidden, outputs, total = bundle.table
    assert head[:4] == ("population", "neurons", "synapses", "cores")
    assert inputs[:4] == ("inputs", "64", "0", "1")
    assert hidden[:4] == ("population 1", "16", f"{16 * 74:,}", "1")
    assert outputs[:4] == ("population 2", "10", "160", "1")
    assert total[:4] == ("all", "90", f"{16 * 64 + 2 * 160:,}", "3")
    assert "192" in bundle.notes[1]


def started(bundle: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", str(bundle / "run.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def plain(bundle: Path, python: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run it where only the bundle's own package can be imported."""
    command = [python, "-I", str(bundle / "run.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def verified(found: subprocess.CompletedProcess[str], bundle: mep.Bundle) -> None:
    assert found.returncode == 0, found.stderr
    assert "states that differ from those recorded at export: 0 of 312, free and nudged" in found.stdout  # 6 x 2 x 26
    assert f"{round(6 * bundle.accuracy)} of 6 samples right" in found.stdout
    assert "no chip" in found.stdout


@pytest.mark.skipif(find_spec("lava") is None, reason="Lava is not installed")
def test_lava_ends_in_the_recorded_states(bundle: mep.Bundle) -> None:
    verified(plain(bundle.folder, sys.executable, "--samples", "6"), bundle)


@pytest.mark.skipif(not PYTHON_3_10.exists(), reason="no Python 3.10 with lava-nc in .venv310")
def test_python_3_10_with_lava_and_numpy_alone(bundle: mep.Bundle) -> None:
    there = subprocess.run([PYTHON_3_10, "-c", "import torch"], capture_output=True, check=False)
    assert there.returncode != 0
    verified(plain(bundle.folder, str(PYTHON_3_10), "--samples", "6"), bundle)


@pytest.mark.skipif(find_spec("lava") is None, reason="Lava is not installed")
def test_a_recorded_state_that_is_another_is_counted(bundle: mep.Bundle, tmp_path: Path) -> None:
    with np.load(bundle.folder / "arrays.npz", allow_pickle=False) as stored:
        arrays = {name: stored[name] for name in stored.files}
    arrays["free_1"][0, 3] += 1
    arrays["nudged_0"][0, :2] -= 1
    file = io.BytesIO()
    np.savez(file, **arrays)
    copy = changed(bundle, tmp_path, "arrays.npz", file.getvalue())
    program = json.loads((copy / "program.json").read_text())
    program["sha256"]["arrays.npz"] = hashlib.sha256(file.getvalue()).hexdigest()
    (copy / "program.json").write_text(json.dumps(program))
    found = plain(copy, sys.executable, "--samples", "1")
    assert found.returncode == 1
    assert "recorded at export: 3 of 52" in found.stdout


def changed(bundle: mep.Bundle, to: Path, name: str, content: bytes) -> Path:
    """A copy of the bundle in which one file is another."""
    copy = shutil.copytree(bundle.folder, to / "copy")
    (copy / name).write_bytes(content)
    return copy


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("arrays.npz", b"other", r"arrays\.npz is not as it was written \(its checksum differs\)"),
        ("mep_neuro_lava/plan.py", b"", "plan.py is not as it was written"),
        ("program.json", b'{"format": 2}', "this bundle has format 2, and its run.py reads 1"),
        ("program.json", b"", "program.json cannot be read"),
    ],
)
def test_a_bundle_that_was_changed(bundle: mep.Bundle, tmp_path: Path, name: str, content: bytes, said: str) -> None:
    found = started(changed(bundle, tmp_path, name, content))
    assert found.returncode == 2
    assert re.search(said, found.stderr)
    assert "Traceback" not in found.stderr


def test_a_file_that_is_missing(bundle: mep.Bundle, tmp_path: Path) -> None:
    copy = changed(bundle, tmp_path, "README.md", b"")
    (copy / "README.md").unlink()
    found = started(copy)
    assert found.returncode == 2
    assert "README.md is missing: copy the whole bundle again" in found.stderr


def test_more_samples_than_there_are(bundle: mep.Bundle) -> None:
    found = started(bundle.folder, "--samples", "7")
    assert found.returncode == 2
    assert "--samples 7: the bundle holds 6; give 1 to 6" in found.stderr


def test_without_a_board(bundle: mep.Bundle) -> None:
    found = started(bundle.folder, "--target", "hw", "--samples", "1")
    assert found.returncode == 2
    assert "Lava's extension for Loihi (lava-loihi" in found.stderr
    assert "processes/ncmodels.py" in found.stderr


def test_loihi_1_is_refused(run: Path, tmp_path: Path) -> None:
    with pytest.raises(CapabilityError, match=r"Loihi 1 has binary spikes .* deploy with --to loihi2"):
        mep.deploy(run, "loihi1", tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()


def test_what_cannot_be_deployed(run: Path, bundle: mep.Bundle, tmp_path: Path) -> None:
    with pytest.raises(BackendNotFound, match=r"no target 'lohi2'; there are: loihi1, loihi2\. Did you mean 'loihi2'"):
        mep.deploy(run, "lohi2", tmp_path / "bundle")
    with pytest.raises(InputError, match="holds no run"):
        mep.deploy(tmp_path / "nothing", "loihi2", tmp_path / "bundle")
    with pytest.raises(InputError, match="is there already"):
        mep.deploy(run, "loihi2", bundle.folder)
    with pytest.raises(InputError, match="samples is 0"):
        mep.deploy(run, "loihi2", tmp_path / "bundle", samples=0)
    with pytest.raises(OptionError, match=r"no option 'payload_bit'; .*Did you mean 'payload_bits'"):
        mep.deploy(run, "loihi2", tmp_path / "bundle", options={"payload_bit": 8})
    assert list(tmp_path.iterdir()) == []


def test_a_run_of_another_backend_is_rounded(tmp_path: Path) -> None:
    """Options of another substrate do not hold here; the chip's own are given with the command."""
    settings = settings_from(
        {"layers": (64, 8, 10), "activation": "hardsigmoid", "epochs": 1, "options": {"max_steps": 8}}
    )
    train(settings, out=tmp_path / "run", progress=False)
    found = mep.deploy(tmp_path / "run", "loihi2", tmp_path / "bundle", samples=2, options={"timesteps": [30, 10]})
    assert json.loads((found.folder / "program.json").read_text())["plan"]["timesteps"] == [30, 10]


def test_a_network_that_no_chip_holds(tmp_path: Path) -> None:
    settings = settings_from({"layers": (64, 8, 10), "activation": "relu", "epochs": 1, "energy": "prediction_error"})
    train(settings, out=tmp_path / "run", progress=False)
    with pytest.raises(CapabilityError, match="prediction_error"):
        mep.deploy(tmp_path / "run", "loihi2", tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()
