"""Files appear whole or not at all; folders that cannot be written are told of in a sentence."""

from __future__ import annotations

import json
import os
import stat
import tempfile
from pathlib import Path
from typing import BinaryIO

import pytest

from mep_neuro.errors import InputError
from mep_neuro.files import (
    writable_folder,
    write_atomically,
    write_bytes_atomically,
    write_json_atomically,
    write_text_atomically,
)


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_what_is_written_is_read_back_and_nothing_else_stays(tmp_path: Path) -> None:
    write_atomically(tmp_path / "a", lambda file: file.write(b"one"))
    write_bytes_atomically(tmp_path / "b", b"two")
    write_text_atomically(str(tmp_path / "c"), "β\r\n")
    write_json_atomically(tmp_path / "d.json", {"beta": 0.5, "unit": "µJ"})
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "b", "c", "d.json"]
    assert (tmp_path / "a").read_bytes() == b"one"
    assert (tmp_path / "b").read_bytes() == b"two"
    assert (tmp_path / "c").read_bytes() == "β\r\n".encode()
    assert json.loads((tmp_path / "d.json").read_text("utf-8")) == {"beta": 0.5, "unit": "µJ"}


@pytest.mark.parametrize("error", [ValueError("half way"), KeyboardInterrupt()])
@pytest.mark.parametrize("there", [True, False])
def test_a_failure_half_way_leaves_what_was_there(tmp_path: Path, error: BaseException, there: bool) -> None:
    target = tmp_path / "checkpoint.pt"
    if there:
        target.write_bytes(b"the old one")

    def write(file: BinaryIO) -> None:
        file.write(b"half of the new")
        raise error

    with pytest.raises(type(error)):
        write_atomically(target, write)
    assert [p.read_bytes() for p in tmp_path.iterdir()] == ([b"the old one"] if there else [])


def test_a_failing_disk_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").write_bytes(b"old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)  # reached before the file takes its name
    with pytest.raises(OSError, match="No space left"):
        write_bytes_atomically(tmp_path / "a", b"new")
    assert [p.read_bytes() for p in tmp_path.iterdir()] == [b"old"]


@pytest.mark.skipif(os.name != "posix", reason="permissions as POSIX has them")
def test_permissions_are_the_usual_ones_and_stay(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_bytes_atomically(tmp_path / "a", b"new")
    finally:
        os.umask(before)
    assert _mode(tmp_path / "a") == 0o640
    (tmp_path / "a").chmod(0o600)
    write_bytes_atomically(tmp_path / "a", b"newer")
    assert _mode(tmp_path / "a") == 0o600


@pytest.mark.skipif(os.name != "posix", reason="symbolic links need rights on Windows")
def test_a_link_keeps_pointing_where_it_did(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "there" / "file")
    write_bytes_atomically(tmp_path / "link", b"through")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "there" / "file").read_bytes() == b"through"


@pytest.mark.skipif(os.name != "posix", reason="named pipes as POSIX has them")
def test_what_is_not_a_file_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for name in ("folder", "pipe"):
        with pytest.raises(InputError, match="is there and is not a file"):
            write_bytes_atomically(tmp_path / name, b"x")
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)


def test_a_missing_folder_is_told_of(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Make that folder"):
        write_bytes_atomically(tmp_path / "none" / "a", b"x")
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_place_of_the_folder_is_told_of(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(InputError, match="cannot be written"):
        write_bytes_atomically(tmp_path / "file" / "a", b"x")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_json_has_no_nan(tmp_path: Path, value: float) -> None:
    with pytest.raises(InputError, match="JSON"):
        write_json_atomically(tmp_path / "a.json", {"accuracy": value})
    assert list(tmp_path.iterdir()) == []


def test_a_writable_folder_is_made_with_its_parents_and_left_empty(tmp_path: Path) -> None:
    folder = writable_folder(str(tmp_path / "runs" / "demo"))
    assert folder == tmp_path / "runs" / "demo"
    assert folder.is_dir()
    assert list(folder.iterdir()) == []
    assert writable_folder(folder) == folder


@pytest.mark.parametrize("below", ["", "runs", "runs/demo"])
def test_no_folder_below_a_file(tmp_path: Path, below: str) -> None:
    (tmp_path / "file").write_bytes(b"content")
    with pytest.raises(InputError, match=r"file is a file\. Give another folder"):
        writable_folder(tmp_path / "file" / below)
    assert (tmp_path / "file").read_bytes() == b"content"


def test_a_folder_without_permission_is_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**options: object) -> None:  # root may write anywhere, so that the refusal is played
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    with pytest.raises(InputError, match=r"cannot be written: Permission denied\. Give another folder"):
        writable_folder(tmp_path)
