"""Files that are written whole or not at all, and folders that can be written."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from mep_neuro.errors import InputError

__all__ = [
    "writable_folder",
    "write_atomically",
    "write_bytes_atomically",
    "write_json_atomically",
    "write_text_atomically",
]


def writable_folder(path: str | os.PathLike[str]) -> Path:
    """The folder at `path`, made with its parents where it is missing, and shown to take a file.

    Raises:
        InputError: a file stands there or above it, or this user may not write there.
    """
    folder = Path(path)
    for above in (folder, *folder.parents):
        if _is(Path.is_file, above):
            raise InputError(f"{folder} cannot be a folder: {above} is a file. Give another folder.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        reason = error.strerror or error
        raise InputError(f"The folder {folder} cannot be written: {reason}. Give another folder.") from error
    return folder


def write_atomically(path: str | os.PathLike[str], write: Callable[[BinaryIO], object]) -> None:
    """Have `write` fill a file at `path`, which appears whole, or stays as it was.

    The bytes go to a temporary file in the same folder, reach the disk, and then take the name in one
    step. Where `write` raises, the temporary file is removed and the error goes on. A file that was there
    hands on its permissions, and a symbolic link at `path` keeps pointing where it did.

    Raises:
        InputError: the folder is missing or cannot be written, or something else than a file has that name.
    """
    target = Path(os.path.realpath(path))
    if _is(Path.exists, target) and not _is(Path.is_file, target):
        raise InputError(f"{path} cannot be written: it is there and is not a file. Give another name.")
    temporary = target.with_name(f".mep-{secrets.token_hex(8)}.part")
    try:
        temporary.touch(exist_ok=False)  # not mkstemp: the file is to get the user's usual permissions
    except OSError as error:
        reason = error.strerror or error
        raise InputError(
            f"{path} cannot be written: {reason} (folder {target.parent}). Make that folder, or give another."
        ) from error
    try:
        with temporary.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        if target.exists():
            shutil.copymode(target, temporary)
        temporary.replace(target)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def write_bytes_atomically(path: str | os.PathLike[str], content: bytes) -> None:
    """`write_atomically` for bytes that are there already."""
    write_atomically(path, lambda file: file.write(content))


def write_text_atomically(path: str | os.PathLike[str], text: str) -> None:
    """`write_atomically` for text, as UTF-8 with the line ends that it has."""
    write_bytes_atomically(path, text.encode("utf-8"))


def write_json_atomically(path: str | os.PathLike[str], document: object) -> None:
    """`write_atomically` for one JSON document, indented.

    Raises:
        InputError: NaN or an infinity is in the document: JSON has neither.
    """
    try:
        text = json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False)
    except ValueError as error:
        raise InputError(f"{path} cannot be written as JSON: {error}. Write null for what has no value.") from error
    write_text_atomically(path, text + "\n")


def _is(question: Callable[[Path], bool], path: Path) -> bool:
    """The answer about `path`; no, where the question itself fails (no permission on the way)."""
    try:
        return question(path)
    except OSError:
        return False
