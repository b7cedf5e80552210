"""Data sets are the real ones to the last byte, or an error that says what is wrong and what to do."""

from __future__ import annotations

import ast
import functools
import gzip
import hashlib
import http.server
import math
import os
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pooch
import pytest
import torch

import mep_neuro.data
from mep_neuro import datafiles
from mep_neuro.data import DataSet, data_names, fetch, load, located, needs_download, size_in_bytes
from mep_neuro.errors import DataError, InputError, OptionError
from mep_neuro.idx import IdxFile

NAMES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
SHAPES = ((6, 2, 3), (6,), (4, 2, 3), (4,))


def idx(shape: tuple[int, ...], start: int, magic: int = 0x0800) -> bytes:
    elements = bytes((start + i) % 10 for i in range(math.prod(shape)))
    return struct.pack(f">{len(shape) + 1}I", magic + len(shape), *shape) + elements


@dataclass
class Small:
    """Two tiny collections that stand in for MNIST and Fashion-MNIST, and nowhere a file on disk yet."""

    content: dict[str, dict[str, bytes]]
    cache: Path
    system: Path

    def put(self, folder: Path, name: str = "mnist", *, compressed: bool = True) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        for file, content in self.content[name].items():
            if compressed:
                (folder / f"{file}.gz").write_bytes(gzip.compress(content))
            else:
                (folder / file).write_bytes(content)
        return folder


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Small:
    contents = {}
    for start, name in ((3, "mnist"), (8, "fashion-mnist")):
        contents[name] = {file: idx(shape, start) for file, shape in zip(NAMES, SHAPES, strict=True)}
        files = tuple(
            IdxFile(file, shape, hashlib.md5(contents[name][file]).hexdigest())
            for file, shape in zip(NAMES, SHAPES, strict=True)
        )
        monkeypatch.setitem(datafiles.COLLECTIONS, name, replace(datafiles.COLLECTIONS[name], files=files))
    cache, system = tmp_path / "cache" / "mep-neuro", tmp_path / "usr" / "share" / "datasets"
    monkeypatch.setattr(pooch, "os_cache", lambda project: tmp_path / "cache" / project)
    monkeypatch.setattr(datafiles, "_SYSTEM_FOLDER", system)
    monkeypatch.delenv("MEP_NEURO_DATA", raising=False)
    return Small(contents, cache, system)


# ---------------------------------------------------------------------------------------------- the real sets


def real(name: str) -> DataSet:
    shared = Path(__file__).resolve().parents[2] / "shared" / "data"
    if os.environ.get("MEP_NEURO_DATA") or located(name):
        return load(name)  # asked for, it is to be there: else the test fails
    if located(name, shared):
        return load(name, shared)
    pytest.skip(f"{name} is not on this machine: run `mep-neuro data get {name}`, or set MEP_NEURO_DATA")


@pytest.mark.parametrize(
    ("name", "first", "mean", "std"),
    [("mnist", [5, 0, 4, 1, 9], 0.1307, 0.3081), ("fashion-mnist", [9, 0, 0, 3, 0], 0.2860, 0.3530)],
)
def test_the_real_files(name: str, first: list[int], mean: float, std: float) -> None:
    data = real(name)
    assert data.y_train[:5].tolist() == first
    assert data.x_train.shape == (60_000, 784)
    assert data.x_test.shape == (10_000, 784)
    assert data.y_train.dtype == torch.int64
    assert data.x_train.dtype == torch.float32
    assert data.classes == 10
    assert torch.bincount(data.y_test).min() > 800
    assert data.x_train.mean().item() == pytest.approx(0, abs=2e-3)
    assert data.x_train.std().item() == pytest.approx(1, abs=2e-3)
    assert data.x_train.min().item() == pytest.approx(-mean / std)
    assert data.x_train.max().item() == pytest.approx((1 - mean) / std)


def test_digits() -> None:
    data = load("digits", "/nowhere", standardise=False)  # comes with scikit-learn, wherever the other files are
    assert data.x_train.shape == (1438, 64)
    assert data.x_test.shape == (359, 64)
    assert (data.x_train.min().item(), data.x_train.max().item()) == (0, 1)
    assert torch.equal(data.x_train * 16, (data.x_train * 16).round())
    share = torch.bincount(data.y_test) / torch.bincount(torch.cat([data.y_train, data.y_test]))
    assert (share - 359 / 1797).abs().max() < 0.006  # stratified, to a sample in about 180
    images = load("digits", flatten=False, standardise=False)
    assert images.x_test.shape == (359, 1, 8, 8)
    assert torch.equal(images.x_test.flatten(1), data.x_test)


def test_digits_are_standardised_over_the_training_set() -> None:
    x = load("digits").x_train
    assert abs(x.mean().item()) < 1e-3
    assert abs(x.std().item() - 1) < 1e-3


def test_the_test_digits_are_always_the_same() -> None:
    torch.manual_seed(17)  # a user's own seed
    digest = hashlib.sha256(
        (load("digits", standardise=False).x_test * 16).to(torch.uint8).numpy().tobytes()
    ).hexdigest()
    assert digest == "753639fc7311522c74c61e7b56286038b8fe9b46a0526e521931163ddda59e37"


def test_digits_need_no_download() -> None:
    assert not needs_download("digits")
    assert needs_download("mnist")
    folder = fetch("digits")
    assert folder == located("digits")
    assert size_in_bytes("digits") == sum(p.stat().st_size for p in folder.glob("digits.csv*"))


@pytest.mark.parametrize("call", [load, fetch, located, size_in_bytes, needs_download])
def test_an_unknown_name_gets_the_nearest(call: Callable[[str], object]) -> None:
    with pytest.raises(OptionError, match=r"'mnits'. Did you mean 'mnist'\? There are: digits, mnist, fashion-"):
        call("mnits")
    assert data_names() == ["digits", "mnist", "fashion-mnist"]


# -------------------------------------------------------------------------------------- where files are found


@pytest.mark.parametrize("place", ["", "mnist", "MNIST/raw"])
@pytest.mark.parametrize("compressed", [True, False])
def test_layouts(small: Small, tmp_path: Path, place: str, compressed: bool) -> None:
    folder = small.put(tmp_path / "data" / place, compressed=compressed)
    assert located("mnist", tmp_path / "data") == folder
    assert size_in_bytes("mnist", tmp_path / "data") == sum(p.stat().st_size for p in folder.iterdir())
    data = load("mnist", str(tmp_path / "data"), standardise=False)
    assert data.y_train.tolist() == [3, 4, 5, 6, 7, 8]
    assert data.x_test.shape == (4, 6)
    assert torch.equal(data.x_test[0], torch.tensor([3.0, 4, 5, 6, 7, 8]) / 255)
    assert str(folder) in data.source


def test_images_keep_rows_and_columns(small: Small, tmp_path: Path) -> None:
    small.put(tmp_path)
    data = load("mnist", tmp_path, flatten=False)
    assert data.x_train.shape == (6, 1, 2, 3)
    pixels = (torch.tensor([[3.0, 4, 5], [6, 7, 8]]) / 255 - 0.1307) / 0.3081
    assert torch.allclose(data.x_train[0, 0], pixels)


def test_the_order_of_places(small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert located("mnist") is None
    assert size_in_bytes("mnist") == 0
    system = small.put(small.system / "mnist")
    assert located("mnist") == system
    cache = small.put(small.cache / "mnist")
    assert located("mnist") == cache
    named = small.put(tmp_path / "named" / "mnist")
    monkeypatch.setenv("MEP_NEURO_DATA", str(tmp_path / "named"))
    assert located("mnist") == named
    given = small.put(tmp_path / "given" / "mnist")
    assert located("mnist", tmp_path / "given") == given
    monkeypatch.setenv("MEP_NEURO_DATA", str(tmp_path / "elsewhere"))
    assert load("mnist").source.startswith(str(cache))


def test_a_given_folder_is_the_only_one_searched(small: Small, tmp_path: Path) -> None:
    small.put(small.cache / "mnist")
    assert located("mnist", tmp_path / "given") is None
    with pytest.raises(DataError) as error:
        load("mnist", tmp_path / "given")
    for part in ("given/mnist", "given/MNIST/raw", "train-images-idx3-ubyte", "mep-neuro data get mnist"):
        assert part in str(error.value)
    assert str(small.system) not in str(error.value)


def test_nothing_found_names_the_places_and_the_command(small: Small, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="Run `mep-neuro data get fashion-mnist`") as error:
        load("fashion-mnist")
    assert str(small.cache / "fashion-mnist") in str(error.value)
    assert str(small.system / "FashionMNIST" / "raw") in str(error.value)


def test_one_set_is_never_taken_for_another(small: Small, tmp_path: Path) -> None:
    small.put(tmp_path / "flat", "mnist")
    assert located("mnist", tmp_path / "flat") == tmp_path / "flat"
    assert located("fashion-mnist", tmp_path / "flat") is None
    small.put(tmp_path / "mixed" / "fashion-mnist", "mnist")
    with pytest.raises(DataError, match="other content than train-images-idx3-ubyte"):
        load("fashion-mnist", tmp_path / "mixed")


# ---------------------------------------------------------------------------------------------- damaged files


def _broken_crc(good: bytes) -> bytes:
    packed = bytearray(gzip.compress(good))
    packed[-8] ^= 0xFF
    return bytes(packed)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda good: b"", "is empty"),
        (lambda good: gzip.compress(b""), "is empty"),
        (lambda good: gzip.compress(good)[:-12], "is truncated: its gzip stream ends early"),
        (lambda good: gzip.compress(good)[:5], "is truncated: its gzip stream ends early"),
        (lambda good: gzip.compress(good[:-3]), "is truncated: 3 of 36 elements are missing"),
        (lambda good: good[:9], "is truncated: it ends within the header"),
        (lambda good: good[:2], "is truncated: it ends within the header"),
        (_broken_crc, "is damaged: CRC check failed"),
        (lambda good: b"\x1f\x8bthis is no gzip", "is damaged"),
        (lambda good: idx((6, 2, 3), 3, magic=0x0D00), "begins with 00 00 0d 03, not with the magic number"),
        (lambda good: b"<!DOCTYPE html>", "is not the IDX file train-images-idx3-ubyte"),
        (lambda good: idx((6, 3, 2), 3), "has dimensions 6 x 3 x 2; train-images-idx3-ubyte has 6 x 2 x 3"),
        (lambda good: good[:4] + b"\xff" * 12, "has dimensions 4294967295 x 4294967295 x 4294967295;"),
        (lambda good: good + b"\0", "is too long"),
        (lambda good: idx((6, 2, 3), 4), "has other content than train-images-idx3-ubyte: decompressed md5"),
        (lambda good: gzip.compress(idx((6, 2, 3), 4)), "has other content than train-images-idx3-ubyte"),
    ],
)
def test_a_damaged_file(small: Small, tmp_path: Path, damage: Callable[[bytes], bytes], says: str) -> None:
    bad = small.put(tmp_path / "mnist") / "train-images-idx3-ubyte.gz"
    bad.write_bytes(damage(small.content["mnist"]["train-images-idx3-ubyte"]))
    with pytest.raises(DataError) as error:
        load("mnist", tmp_path)
    message = str(error.value)
    assert message.startswith(f"mnist: {bad} ")
    assert says in message
    assert "Replace the file by the original, or remove it. Run `mep-neuro data get mnist`" in message


@pytest.mark.parametrize("name", NAMES)
def test_one_file_is_missing(small: Small, tmp_path: Path, name: str) -> None:
    (small.put(tmp_path / "mnist") / f"{name}.gz").unlink()
    assert located("mnist", tmp_path) is None
    with pytest.raises(DataError, match=rf"mnist \(lacks {name}\).*mep-neuro data get mnist"):
        load("mnist", tmp_path)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot be read: (Is a directory|Permission denied)"):
        IdxFile("x", (1,), "").read(tmp_path)


def test_a_gzip_bomb_is_not_unfolded(small: Small, tmp_path: Path) -> None:
    file = datafiles.COLLECTIONS["mnist"].files[1]
    good = small.content["mnist"][file.name]
    packed = gzip.compress(good) + gzip.compress(bytes(1 << 20)) + b"never reached: no gzip"
    with pytest.raises(DataError, match="too long: bytes follow the 6 elements"):
        file.parse(packed, "bomb")


# --------------------------------------------------------------------------------------------------- download


@pytest.fixture
def mirror(small: Small, monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes | Exception]:
    """What each address answers, once, in place of pooch's downloader."""
    answers: dict[str, bytes | Exception] = {
        f"{address}{file.name}.gz": gzip.compress(small.content[name][file.name])
        for name, collection in datafiles.COLLECTIONS.items()
        for address in collection.mirrors
        for file in collection.files
    }

    class Downloader:
        def __init__(self, **options: object) -> None:
            assert set(options) <= {"progressbar", "chunk_size", "timeout"}

        def __call__(self, url: str, output_file: object, pooch: object) -> None:
            answer = answers.pop(url)  # an address that is asked twice, or is not known, is a KeyError
            if isinstance(answer, Exception):
                raise answer
            output_file.write(answer)  # type: ignore[attr-defined]

    monkeypatch.setattr(pooch, "HTTPDownloader", Downloader)
    return answers


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
@pytest.mark.parametrize("progress", [True, False])
def test_fetch(small: Small, mirror: dict[str, bytes | Exception], name: str, progress: bool) -> None:
    folder = fetch(name, progress=progress)
    assert folder == small.cache / name == located(name)
    assert sorted(p.name for p in folder.iterdir()) == sorted(f"{file}.gz" for file in NAMES)
    assert load(name).classes == 10
    answered = len(mirror)
    assert fetch(name) == folder  # what is there and right is not asked for again
    assert len(mirror) == answered


def test_fetch_mends_what_is_damaged_and_nothing_else(small: Small, mirror: dict[str, bytes | Exception]) -> None:
    folder = small.put(small.cache / "mnist")
    (folder / f"{NAMES[0]}.gz").write_bytes(b"")
    (folder / f"{NAMES[3]}.gz").unlink()
    before = set(mirror)
    fetch("mnist", progress=False)
    first = datafiles.COLLECTIONS["mnist"].mirrors[0]
    assert before - set(mirror) == {f"{first}{NAMES[0]}.gz", f"{first}{NAMES[3]}.gz"}
    assert len(load("mnist").y_test) == 4


def test_fetch_goes_on_to_the_next_mirror(small: Small, mirror: dict[str, bytes | Exception]) -> None:
    first, second = datafiles.COLLECTIONS["mnist"].mirrors
    mirror[f"{first}{NAMES[0]}.gz"] = b"<html>Log in to this network</html>"
    mirror[f"{first}{NAMES[1]}.gz"] = gzip.compress(idx((6,), 9))
    mirror[f"{first}{NAMES[2]}.gz"] = ConnectionError("reset by peer")
    fetch("mnist", progress=False)
    assert len(load("mnist").y_train) == 6
    assert [f"{second}{name}.gz" in mirror for name in NAMES] == [False, False, False, True]


def test_no_network(small: Small, mirror: dict[str, bytes | Exception]) -> None:
    for url in mirror:
        mirror[url] = OSError("Name or service not known")
    with pytest.raises(DataError) as error:
        fetch("mnist")
    for mirror_address in datafiles.COLLECTIONS["mnist"].mirrors:
        assert f"{mirror_address}train-images-idx3-ubyte.gz: Name or service not known" in str(error.value)
    assert f"put them into {small.cache / 'mnist'}" in str(error.value)
    assert list((small.cache / "mnist").iterdir()) == []


def test_a_cache_that_cannot_be_written(small: Small, mirror: dict[str, bytes | Exception]) -> None:
    small.cache.parent.mkdir(parents=True)
    small.cache.write_bytes(b"a file where the folder should be")
    with pytest.raises(InputError, match="is a file"):
        fetch("mnist")


@pytest.fixture
def server(small: Small, tmp_path: Path) -> Iterator[str]:
    """The address of a web server on this machine that holds the small MNIST."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *message: object) -> None:
            pass

    handler = functools.partial(Quiet, directory=str(small.put(tmp_path / "served")))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as serving:
        thread = threading.Thread(target=serving.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{serving.server_port}/"
        serving.shutdown()
        thread.join()


@pytest.mark.parametrize("progress", [True, False])
def test_fetch_through_pooch_itself(small: Small, server: str, monkeypatch: pytest.MonkeyPatch, progress: bool) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    mirrors = (f"{server}gone/", server)  # the first answers 404
    mnist = replace(datafiles.COLLECTIONS["mnist"], mirrors=mirrors)
    monkeypatch.setitem(datafiles.COLLECTIONS, "mnist", mnist)
    fetch("mnist", progress=progress)
    assert load("mnist").y_train.tolist() == [3, 4, 5, 6, 7, 8]


# ---------------------------------------------------------------------------------------------------- DataSet


def test_hold_out_is_a_stratified_part_of_the_training_set() -> None:
    data = load("digits")
    held = data.hold_out(200)
    assert (len(held.y_train), len(held.y_test)) == (1238, 200)
    assert held.x_test.shape == (200, 64)
    rows = [tuple(row.tolist()) for row in torch.cat([data.x_train, data.y_train[:, None]], 1)]
    parts = [
        tuple(row.tolist())
        for x, y in ((held.x_train, held.y_train), (held.x_test, held.y_test))
        for row in torch.cat([x, y[:, None]], 1)
    ]
    assert sorted(parts) == sorted(rows)  # disjoint, together the whole, each with its label
    expected = torch.bincount(data.y_train) * 200 / 1438
    assert (torch.bincount(held.y_test) - expected).abs().max() <= 1
    assert "200 samples held out" in held.source


def test_hold_out_is_deterministic_and_follows_its_seed() -> None:
    data = load("digits")
    first = data.hold_out(100, seed=3)
    torch.manual_seed(1)
    assert torch.equal(first.x_test, data.hold_out(100, seed=3).x_test)
    assert not torch.equal(first.x_test, data.hold_out(100, seed=4).x_test)


@pytest.mark.parametrize("count", [1, 7, 1437])
def test_hold_out_takes_any_count_in_range(count: int) -> None:
    held = load("digits").hold_out(count)
    assert (len(held.y_test), len(held.y_train)) == (count, 1438 - count)


@pytest.mark.parametrize("count", [-1, 0, 1438, 10_000])
def test_hold_out_refuses_what_leaves_nothing(count: int) -> None:
    with pytest.raises(InputError, match=f"cannot hold out {count} of 1438 .* from 1 to 1437"):
        load("digits").hold_out(count)


def test_hold_out_refuses_a_seed_below_zero() -> None:
    with pytest.raises(InputError, match="The seed -1 cannot be used"):
        load("digits").hold_out(10, seed=-1)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"x_train": torch.zeros(4, 3, dtype=torch.float64)}, "x_train is to be float32"),
        ({"y_test": torch.zeros(2, dtype=torch.int32)}, "y_test int64"),
        ({"y_train": torch.zeros(3, dtype=torch.int64)}, r"got \(4, 3\) and \(3,\)"),
        ({"x_train": torch.zeros(0, 3), "y_train": torch.zeros(0, dtype=torch.int64)}, "n > 0"),
        ({"y_test": torch.tensor([0, 2])}, r"a label in y_test is outside 0 \.\. 1"),
        ({"y_train": torch.tensor([0, 1, -1, 0])}, r"a label in y_train is outside 0 \.\. 1"),
        ({"x_test": torch.zeros(2, 4)}, r"training samples are \(3,\), test samples \(4,\)"),
    ],
)
def test_a_data_set_that_does_not_fit_together(change: dict[str, torch.Tensor], says: str) -> None:
    labels = torch.tensor([0, 1, 0, 1])
    good = DataSet("own", torch.zeros(4, 3), labels, torch.zeros(2, 3), labels[:2], classes=2, source="a test")
    assert repr(good) == "DataSet(name='own', classes=2, source='a test')"
    with pytest.raises(InputError, match=says):
        replace(good, **change)  # type: ignore[arg-type]


@pytest.mark.parametrize("module", [mep_neuro.data, datafiles])
def test_slow_libraries_are_imported_only_where_they_are_used(module: object) -> None:
    source = Path(module.__file__).read_text("utf-8")  # type: ignore[attr-defined]
    imported = {
        name.split(".")[0]
        for statement in ast.parse(source).body
        if isinstance(statement, ast.Import | ast.ImportFrom)
        for name in [getattr(statement, "module", None) or "", *(alias.name for alias in statement.names)]
    }
    assert not imported & {"sklearn", "pooch", "rich", "requests"}
