"""The IDX format of MNIST's files: unsigned bytes, with a header that gives the dimensions."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import math
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from mep_neuro.errors import DataError

__all__ = ["IdxFile"]

_UNSIGNED_BYTE = 8  # the third byte of the magic number: the type of an element
_GZIP = b"\x1f\x8b"


@dataclass(frozen=True)
class IdxFile:
    """One IDX file as it must be: the oracle that the bytes on disk or from a mirror are held against.

    Attributes:
        name: file name without `.gz`.
        shape: dimensions, the samples first.
        md5: of the decompressed bytes, as packagers compress differently.
    """

    name: str
    shape: tuple[int, ...]
    md5: str

    def find(self, folder: Path) -> Path | None:
        """The file in `folder`, compressed or not; None where there is neither."""
        with contextlib.suppress(OSError):  # a folder that this user may not search
            for path in (folder / f"{self.name}.gz", folder / self.name):
                if path.is_file():
                    return path
        return None

    def read(self, path: Path) -> npt.NDArray[np.uint8]:
        """The elements (`shape`), read-only, of the file at `path`, after every check.

        Raises:
            DataError: unreadable, empty, truncated, not IDX, of other dimensions, or altered.
        """
        try:
            with path.open("rb") as file:
                return self._parse(file, str(path))
        except OSError as error:
            if isinstance(error, DataError):
                raise
            raise DataError(f"{path} cannot be read: {error.strerror or error}.") from error

    def parse(self, content: bytes, origin: str) -> npt.NDArray[np.uint8]:
        """`read` for bytes in memory; `origin` names them in an error."""
        return self._parse(io.BytesIO(content), origin)

    def _parse(self, file: BinaryIO, origin: str) -> npt.NDArray[np.uint8]:
        header = struct.pack(f">HBB{len(self.shape)}I", 0, _UNSIGNED_BYTE, len(self.shape), *self.shape)
        content = _decompressed(file, origin, limit=len(header) + math.prod(self.shape))
        if not content:
            raise DataError(f"{origin} is empty.")
        if content[:4] != header[: min(4, len(content))]:
            raise DataError(
                f"{origin} is not the IDX file {self.name}: it begins with {content[:4].hex(' ')}, "
                f"not with the magic number {header[:4].hex(' ')}."
            )
        if len(content) < len(header):
            raise DataError(f"{origin} is truncated: it ends within the header.")
        if content[: len(header)] != header:
            shape = struct.unpack(f">{len(self.shape)}I", content[4 : len(header)])
            raise DataError(f"{origin} has dimensions {_times(shape)}; {self.name} has {_times(self.shape)}.")
        missing = len(header) + math.prod(self.shape) - len(content)
        if missing > 0:
            raise DataError(f"{origin} is truncated: {missing} of {math.prod(self.shape)} elements are missing.")
        if missing < 0:
            raise DataError(f"{origin} is too long: bytes follow the {math.prod(self.shape)} elements.")
        md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
        if md5 != self.md5:
            raise DataError(
                f"{origin} has other content than {self.name}: decompressed md5 {md5}, expected {self.md5}."
            )
        return np.frombuffer(content, np.uint8, offset=len(header)).reshape(self.shape)


def _decompressed(file: BinaryIO, origin: str, limit: int) -> bytes:
    """The content, gunzipped where it is gzip; one byte beyond `limit` at most, so that no bomb unfolds."""
    start = file.read(2)
    file.seek(0)
    if start != _GZIP:
        return file.read(limit + 1)
    try:
        with gzip.GzipFile(fileobj=file) as stream:
            return stream.read(limit + 1)
    except EOFError as error:
        raise DataError(f"{origin} is truncated: its gzip stream ends early.") from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{origin} is damaged: {error}.") from error


def _times(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
