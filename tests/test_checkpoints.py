"""Checkpoints: read without executing anything, refused where they do not fit, written whole or not at all."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import mep_neuro as mep
from mep_neuro.checkpoints import FORMAT, load_checkpoint, read_checkpoint, save_checkpoint
from mep_neuro.errors import CheckpointError


def network(*, hidden: int = 3, last: nn.Module | None = None, energy: str = "hopfield", seed: int = 0) -> Any:
    torch.manual_seed(seed)
    layers = [nn.Linear(4, hidden), nn.ReLU(), nn.Linear(hidden, 2)]
    return mep.EnergyNetwork.from_module(nn.Sequential(*layers, *([last] if last else [])), energy=energy)


def values(network: mep.EnergyNetwork) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in network.module.state_dict().items()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "last.pt"
    save_checkpoint(path, network(), {"batch": 7, "moments": {"a": torch.arange(3.0)}, "best": float("inf")})
    return path


def refused(path: Path, said: str, into: mep.EnergyNetwork | None = None) -> str:
    """The error's text, after making sure that nothing was changed by the attempt."""
    into = into or network(seed=1)
    before, bytes_before = values(into), path.read_bytes() if path.is_file() else b""
    with pytest.raises(CheckpointError, match=said) as caught:
        load_checkpoint(path, into)
    assert same(values(into), before)
    assert (path.read_bytes() if path.is_file() else b"") == bytes_before
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "weights_only" not in str(caught.value)  # PyTorch's own message advises to trust the file
    return str(caught.value)


def test_what_is_written_comes_back(path: Path) -> None:
    other = network(seed=1)
    assert not same(values(other), values(network()))
    document = load_checkpoint(path, other)
    assert same(values(other), values(network()))
    assert document["batch"] == 7
    assert document["best"] == float("inf")
    assert torch.equal(document["moments"]["a"], torch.arange(3.0))


def test_reading_changes_no_module(path: Path) -> None:
    other = network(seed=1)
    before = values(other)
    assert same(read_checkpoint(path, other)["module"], values(network()))
    assert same(values(other), before)


def test_it_needs_no_trust(path: Path) -> None:
    assert torch.load(path, weights_only=True)["format"] == FORMAT


def test_one_that_is_missing(tmp_path: Path) -> None:
    refused(tmp_path / "last.pt", "no checkpoint .*: nothing to resume; start without resuming")


def test_a_folder_is_none(tmp_path: Path) -> None:
    refused(tmp_path, "cannot be read: Is a directory")


def test_one_that_may_not_be_read(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:  # root may read anything, so that the refusal is played
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(torch, "load", refuse)
    refused(path, "cannot be read: Permission denied")


@pytest.mark.parametrize("share", [0.0, 0.001, 0.1, 0.5, 0.9, 0.999])
def test_a_truncated_one(path: Path, share: float) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    refused(path, "truncated or no checkpoint")


def test_damaged_bytes_never_get_past_the_error_tree(path: Path) -> None:
    whole, refusals = path.read_bytes(), 0
    for at in range(0, len(whole), 61):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :])
        try:
            load_checkpoint(path, network(seed=1))
        except CheckpointError:
            refusals += 1
    assert refusals > 5


@pytest.mark.parametrize(
    "content",
    [
        b"not a checkpoint",
        b"\x80",
        b"PK\x03\x04",
        pickle.dumps({"format": FORMAT}),
        pickle.dumps([1, 2]),
        b"\x80\x02}q\x00.",
    ],
)
def test_what_is_no_checkpoint(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    refused(path, "no checkpoint|no mep-neuro checkpoint")


@pytest.mark.parametrize(
    "document",
    [
        {},
        [1, 2],
        torch.zeros(2),
        {"format": FORMAT},
        {"format": FORMAT, "network": "{}"},
        {"format": FORMAT, "network": "{", "module": {}},
        {"format": FORMAT, "network": 3, "module": {}},
        {"format": FORMAT, "network": "{}", "module": {"a": 1}},
    ],
)
def test_another_programs_file(path: Path, document: object) -> None:
    torch.save(document, path)
    refused(path, "no mep-neuro checkpoint")


class Exploit:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
        return os.mkdir, (str(self.marker),)


@pytest.mark.parametrize("packed", [True, False])
def test_code_in_it_is_not_run(path: Path, tmp_path: Path, packed: bool) -> None:
    document = {"format": FORMAT, "network": Exploit(tmp_path / "marker"), "module": {}}
    if packed:
        torch.save(document, path)
    else:
        path.write_bytes(pickle.dumps(document))
    refused(path, "no checkpoint")
    assert not (tmp_path / "marker").exists()


def test_a_newer_format(path: Path) -> None:
    document = torch.load(path, weights_only=True)
    torch.save({**document, "format": FORMAT + 1}, path)
    refused(path, f"has format {FORMAT + 1}, and this version of mep-neuro reads {FORMAT}")


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (lambda: network(hidden=5), "of another network: its populations is .*3.*, not .*5"),
        (lambda: network(last=nn.Hardsigmoid()), "of another network: its populations is"),
        (lambda: network(energy="prediction_error"), "its energy is hopfield, not prediction_error"),
        (lambda: mep.EnergyNetwork.from_module(nn.Sequential(nn.Linear(3, 2))), "its input_shape is"),
    ],
)
def test_one_of_another_network(path: Path, other: Callable[[], mep.EnergyNetwork], said: str) -> None:
    refused(path, said, other())


def test_one_in_another_precision(path: Path) -> None:
    double = network(seed=1)
    double.module.double()
    refused(path, "its 0.weight is .*float32.*, not .*float64", double)


@pytest.mark.parametrize("where", ["while it is written", "while it reaches the disk"])
def test_a_failing_write_leaves_the_old_one(path: Path, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    before = path.read_bytes()
    save = torch.save

    def save_and_fail(document: object, file: Any) -> None:
        save(document, file)
        raise OSError(28, "No space left on device")

    def fail(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    if where == "while it is written":
        monkeypatch.setattr(torch, "save", save_and_fail)
    else:
        monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space left"):
        save_checkpoint(path, network(seed=1), {})
    assert [p.name for p in path.parent.iterdir()] == ["last.pt"]
    assert path.read_bytes() == before
