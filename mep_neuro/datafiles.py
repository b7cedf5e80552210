"""The files of MNIST and Fashion-MNIST: which they are, where they are found, and how the user gets them.

Files are looked for in `data_dir` alone where it is given; else in the folder that `MEP_NEURO_DATA` names,
then in mep-neuro's cache, then in /usr/share/datasets (where Debian's packages put them). In each, a data set
may stand in a folder of its own name, in torchvision's `MNIST/raw` layout, or directly. Nothing is downloaded
unless `fetch` is called.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mep_neuro.errors import DataError
from mep_neuro.files import writable_folder, write_bytes_atomically
from mep_neuro.idx import IdxFile

__all__ = ["COLLECTIONS", "Collection", "cache_folder", "cure", "fetch_files", "find_files"]

_LOG = logging.getLogger(__name__)
_SYSTEM_FOLDER = Path("/usr/share/datasets")


@dataclass(frozen=True)
class Collection:
    """A data set in four IDX files: training images and labels, test images and labels, in this order.

    Attributes:
        torchvision: the folder's name in torchvision's layout.
        mean, std: of the training pixels, as fractions of full scale.
        mirrors: addresses that a file's name, with `.gz`, is appended to.
    """

    torchvision: str
    mean: float
    std: float
    mirrors: tuple[str, ...]
    files: tuple[IdxFile, ...]


COLLECTIONS = {
    "mnist": Collection(
        torchvision="MNIST",
        mean=0.1307,
        std=0.3081,
        mirrors=(
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
            "https://storage.googleapis.com/cvdf-datasets/mnist/",
        ),
        files=(
            IdxFile("train-images-idx3-ubyte", (60_000, 28, 28), "6bbc9ace898e44ae57da46a324031adb"),
            IdxFile("train-labels-idx1-ubyte", (60_000,), "a25bea736e30d166cdddb491f175f624"),
            IdxFile("t10k-images-idx3-ubyte", (10_000, 28, 28), "2646ac647ad5339dbf082846283269ea"),
            IdxFile("t10k-labels-idx1-ubyte", (10_000,), "27ae3e4e09519cfbb04c329615203637"),
        ),
    ),
    "fashion-mnist": Collection(
        torchvision="FashionMNIST",
        mean=0.2860,
        std=0.3530,
        mirrors=(
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
            "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
        ),
        files=(
            IdxFile("train-images-idx3-ubyte", (60_000, 28, 28), "f4a8712d7a061bf5bd6d2ca38dc4d50a"),
            IdxFile("train-labels-idx1-ubyte", (60_000,), "9018921c3c673c538a1fc5bad174d6f9"),
            IdxFile("t10k-images-idx3-ubyte", (10_000, 28, 28), "8181f5470baa50b63fa0f6fddb340f0a"),
            IdxFile("t10k-labels-idx1-ubyte", (10_000,), "15d484375f8d13e6eb1aabb0c3f46965"),
        ),
    ),
}


def cache_folder() -> Path:
    """Where `fetch` puts files: the user's cache folder, by the operating system's custom."""
    import pooch

    return Path(pooch.os_cache("mep-neuro")).expanduser()


def cure(name: str) -> str:
    """What to do about a file that is missing or not as it must be."""
    return f"Run `mep-neuro data get {name}`: it puts verified files into {cache_folder() / name}."


def find_files(name: str, data_dir: str | os.PathLike[str] | None) -> tuple[Path, ...]:
    """Paths of the collection's four files, all in one folder; by name, not yet by content.

    Raises:
        DataError: nothing, or not all, is found; the message says what was looked for, and where.
    """
    files = COLLECTIONS[name].files
    looked = []
    for folder in _folders(name, data_dir):
        found = [file.find(folder) for file in files]
        paths = tuple(path for path in found if path is not None)
        if len(paths) == len(files):
            return paths
        lacking = ", ".join(file.name for file, path in zip(files, found, strict=True) if path is None)
        looked.append(f"{folder} (lacks {lacking})" if paths else str(folder))
    only = f" Only {data_dir} was searched, as asked: give the folder that holds them, or leave it out."
    raise DataError(
        f"{name}: no folder holds {files[0].name} and the three files that go with it, plain or .gz. "
        f"Looked in {', '.join(looked)}.{'' if data_dir is None else only} {cure(name)}"
    )


def _folders(name: str, data_dir: str | os.PathLike[str] | None) -> Iterator[Path]:
    for base in _bases(data_dir):
        yield base / name
        yield base / COLLECTIONS[name].torchvision / "raw"
        if not _is_another(name, base):
            yield base


def _bases(data_dir: str | os.PathLike[str] | None) -> Iterator[Path]:
    if data_dir is not None:
        yield Path(data_dir).expanduser()
        return
    named = os.environ.get("MEP_NEURO_DATA")
    if named:
        yield Path(named).expanduser()
    yield cache_folder()
    yield _SYSTEM_FOLDER


def _is_another(name: str, folder: Path) -> bool:
    """Whether the files directly in `folder` are those of another collection, whose names are the same."""
    for other, collection in COLLECTIONS.items():
        labels = collection.files[3]
        path = labels.find(folder)
        if other != name and path is not None:
            with contextlib.suppress(DataError):
                labels.read(path)
                return True
    return False


def fetch_files(name: str, progress: bool) -> Path:
    """Download into the cache what is missing or damaged there; returns the folder. Errors: `data.fetch`."""
    folder = writable_folder(cache_folder() / name)
    for file in COLLECTIONS[name].files:
        present = file.find(folder)
        if present is not None:
            try:
                file.read(present)
                continue
            except DataError as error:
                _LOG.warning("%s It is downloaded again.", error)
        write_bytes_atomically(folder / f"{file.name}.gz", _download(name, file, folder, progress))
    return folder


def _download(name: str, file: IdxFile, folder: Path, progress: bool) -> bytes:
    """The compressed bytes of one file from the first mirror that gives the right ones."""
    from pooch import HTTPDownloader

    failures = []
    for mirror in COLLECTIONS[name].mirrors:
        url = f"{mirror}{file.name}.gz"
        received = io.BytesIO()
        try:
            with _bar(file.name) if progress else contextlib.nullcontext(False) as bar:
                HTTPDownloader(progressbar=bar, chunk_size=1 << 16, timeout=30)(url, received, None)
            content = received.getvalue()
            file.parse(content, "What came")
        except OSError as error:  # requests' own errors and DataError are OSErrors
            _LOG.info("%s: %s", url, error)
            failures.append(f"\n  {url}: {error}")
            continue
        _LOG.info("%s: fetched and verified", url)
        return content
    raise DataError(
        f"{name}: {file.name}.gz could not be downloaded. Tried:{''.join(failures)}\n"
        f"Check the network and try again, or get the four files in another way and put them into {folder}."
    )


@contextlib.contextmanager
def _bar(label: str) -> Iterator[_Bar]:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as display:
        yield _Bar(display, display.add_task(label, total=None))


class _Bar:
    """One of rich's progress bars as pooch wants it: `total` in bytes, `update`, `reset`, `close`."""

    def __init__(self, display: Any, task: Any) -> None:
        self._display, self._task = display, task

    @property
    def total(self) -> int | None:
        total: int | None = self._display.tasks[0].total
        return total

    @total.setter
    def total(self, total: int) -> None:
        self._display.update(self._task, total=total or None)

    def update(self, count: int) -> None:
        self._display.advance(self._task, count)

    def reset(self) -> None:
        self._display.reset(self._task)

    def close(self) -> None:
        self._display.stop()
