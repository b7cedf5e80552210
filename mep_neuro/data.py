"""Labelled images to train and test on, as tensors: real data, found on disk and checked byte for byte.

`datafiles` tells where files are looked for. Nothing is downloaded unless `fetch` is called.
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from mep_neuro.datafiles import COLLECTIONS, cache_folder, cure, fetch_files, find_files
from mep_neuro.errors import DataError, InputError, OptionError, did_you_mean

__all__ = [
    "DataSet",
    "cache_folder",
    "data_names",
    "fetch",
    "load",
    "located",
    "needs_download",
    "size_in_bytes",
]

_LOG = logging.getLogger(__name__)
_DIGITS = "digits"
_DIGITS_SHIFT = (0.3055, 0.3762)  # mean and standard deviation of its training pixels


@dataclass(frozen=True, eq=False)
class DataSet:
    """A classification task: labelled samples to train on, and others to test on.

    Attributes:
        x_train, x_test: float32, (n, *shape).
        y_train, y_test: int64, (n,), in 0 .. classes-1.
        source: where the samples come from, and what was done to them.

    Raises:
        InputError: samples and labels that do not match in number, type, shape or range.
    """

    name: str
    x_train: torch.Tensor = field(repr=False)
    y_train: torch.Tensor = field(repr=False)
    x_test: torch.Tensor = field(repr=False)
    y_test: torch.Tensor = field(repr=False)
    classes: int
    source: str

    def __post_init__(self) -> None:
        for part, x, y in (("train", self.x_train, self.y_train), ("test", self.x_test, self.y_test)):
            if x.dtype != torch.float32 or y.dtype != torch.int64:
                found = f"{x.dtype} and {y.dtype}"
                raise InputError(f"{self.name}: x_{part} is to be float32 and y_{part} int64; got {found}.")
            if y.ndim != 1 or x.ndim < 2 or len(x) != len(y) or not len(x):
                found = f"{tuple(x.shape)} and {tuple(y.shape)}"
                raise InputError(f"{self.name}: x_{part} is to be (n, *shape), y_{part} (n,), n > 0; got {found}.")
            if y.min() < 0 or y.max() >= self.classes:
                raise InputError(f"{self.name}: a label in y_{part} is outside 0 .. {self.classes - 1}.")
        if self.x_train.shape[1:] != self.x_test.shape[1:]:
            raise InputError(
                f"{self.name}: training samples are {tuple(self.x_train.shape[1:])}, "
                f"test samples {tuple(self.x_test.shape[1:])}; they are to be alike."
            )

    def hold_out(self, count: int, seed: int = 0) -> DataSet:
        """The task with `count` training samples, stratified by class, in place of the test set.

        For tuning without a look at the test set. The same `count` and `seed` hold out the same samples.

        Raises:
            InputError: nothing would be left to train or to test on, or a seed outside 0 .. 2**32 - 1.
        """
        if not 1 <= count < len(self.y_train):
            raise InputError(
                f"{self.name}: cannot hold out {count} of {len(self.y_train)} training samples. "
                f"Give a count from 1 to {len(self.y_train) - 1}."
            )
        held = torch.from_numpy(_stratified(self.y_train.cpu().numpy(), count, seed)).to(self.y_train.device)
        return replace(
            self,
            x_train=self.x_train[~held],
            y_train=self.y_train[~held],
            x_test=self.x_train[held],
            y_test=self.y_train[held],
            source=f"{self.source}; tested on {count} samples held out of the training set (seed {seed})",
        )


def data_names() -> list[str]:
    """The names that `load` takes."""
    return [_DIGITS, *COLLECTIONS]


def load(
    name: str,
    data_dir: str | os.PathLike[str] | None = None,
    *,
    flatten: bool = True,
    standardise: bool = True,
) -> DataSet:
    """The data set of that name, from files on disk: all bytes are checked, nothing is downloaded.

    Samples are (n, pixels), or (n, 1, rows, columns) with `flatten=False`. Pixels are in 0 .. 1, and are then
    brought to mean 0 and standard deviation 1 over the training set, unless `standardise=False`. `digits` comes
    with scikit-learn, whatever `data_dir` is; a fixed fifth of it is the test set.

    Raises:
        OptionError: an unknown name.
        DataError: the files are missing, truncated or altered; the message names the cure.
    """
    _check_name(name)
    if name not in COLLECTIONS:
        return _load_digits(flatten, _DIGITS_SHIFT if standardise else (0.0, 1.0))
    collection, paths = COLLECTIONS[name], find_files(name, data_dir)
    try:
        x_train, y_train, x_test, y_test = (f.read(p) for f, p in zip(collection.files, paths, strict=True))
    except DataError as error:
        raise DataError(f"{name}: {error} Replace the file by the original, or remove it. {cure(name)}") from error
    _LOG.info("%s: read from %s", name, paths[0].parent)
    shift = (collection.mean, collection.std) if standardise else (0.0, 1.0)
    return DataSet(
        name=name,
        x_train=_samples(x_train, 255.0, flatten, *shift),
        y_train=_labels(y_train),
        x_test=_samples(x_test, 255.0, flatten, *shift),
        y_test=_labels(y_test),
        classes=10,
        source=f"{paths[0].parent}, md5 verified",
    )


def needs_download(name: str) -> bool:
    """Whether the data set's files come apart from mep-neuro's own dependencies. Raises OptionError."""
    _check_name(name)
    return name in COLLECTIONS


def located(name: str, data_dir: str | os.PathLike[str] | None = None) -> Path | None:
    """The folder from which `load` would read, by the files' names, not yet their content; None without it.

    Raises:
        OptionError: an unknown name.
    """
    paths = _paths(name, data_dir)
    return paths[0].parent if paths else None


def size_in_bytes(name: str, data_dir: str | os.PathLike[str] | None = None) -> int:
    """What the files in the `located` folder take on disk, in bytes; 0 without it. Raises OptionError."""
    return sum(path.stat().st_size for path in _paths(name, data_dir))


def fetch(name: str, progress: bool = True) -> Path:
    """Download, as the user asked, what is missing or damaged in mep-neuro's cache; returns the folder.

    Mirrors are tried in turn, and only verified bytes are kept. `progress` shows bars on standard error.
    `digits` needs no download (`needs_download`): its folder is returned.

    Raises:
        OptionError: an unknown name.
        DataError: no mirror gave a file; the message lists them, and where to put the files by hand.
        InputError: the cache cannot be written.
    """
    _check_name(name)
    if name in COLLECTIONS:
        return fetch_files(name, progress)
    _LOG.info("%s comes with scikit-learn: it needs no download", name)
    return _digits_file().parent


def _check_name(name: str) -> None:
    if name not in data_names():
        known = ", ".join(data_names())
        raise OptionError(f"There is no data set {name!r}.{did_you_mean(name, data_names())} There are: {known}.")


def _paths(name: str, data_dir: str | os.PathLike[str] | None) -> tuple[Path, ...]:
    _check_name(name)
    try:
        return find_files(name, data_dir) if name in COLLECTIONS else (_digits_file(),)
    except DataError:
        return ()


def _digits_file() -> Path:
    spec = find_spec("sklearn")
    if spec is None or spec.origin is None:
        raise DataError("digits: it comes with scikit-learn, which is missing. Run `pip install scikit-learn`.")
    return Path(spec.origin).parent / "datasets" / "data" / "digits.csv.gz"


def _load_digits(flatten: bool, shift: tuple[float, float]) -> DataSet:
    _digits_file()
    from sklearn.datasets import load_digits  # here, because it takes a second

    digits = load_digits()
    x, y = _samples(digits.images, 16.0, flatten, *shift), _labels(digits.target)
    test = torch.from_numpy(_stratified(y.numpy(), len(y) // 5, seed=0))
    source = "scikit-learn's load_digits; a fixed fifth, stratified, is the test set"
    return DataSet(_DIGITS, x[~test], y[~test], x[test], y[test], classes=10, source=source)


def _samples(
    images: npt.NDArray[np.generic], full_scale: float, flatten: bool, mean: float = 0.0, std: float = 1.0
) -> torch.Tensor:
    """Images (n, rows, columns) as float32, (pixel / full_scale - mean) / std: one copy, then in place."""
    x = torch.from_numpy(images.astype(np.float32)).div_(full_scale).sub_(mean).div_(std)
    return x.flatten(1) if flatten else x.unsqueeze(1)


def _labels(labels: npt.NDArray[np.generic]) -> torch.Tensor:
    return torch.from_numpy(labels.astype(np.int64))


def _stratified(labels: npt.NDArray[np.int64], count: int, seed: int) -> npt.NDArray[np.bool_]:
    """A mask of `count` samples drawn at random with each class's share kept, to less than one sample."""
    try:
        order = np.random.RandomState(seed).permutation(len(labels))  # its stream is frozen for good
    except ValueError as error:
        raise InputError(f"The seed {seed} cannot be used: give a whole number from 0 to {2**32 - 1}.") from error
    share = np.empty(len(labels))  # how far through its own class, in the shuffled order, each sample comes
    for label in np.unique(labels):
        members = order[labels[order] == label]
        share[members] = (np.arange(len(members)) + 0.5) / len(members)
    mask = np.zeros(len(labels), dtype=np.bool_)
    mask[order[np.argsort(share[order], kind="stable")[:count]]] = True
    return mask
