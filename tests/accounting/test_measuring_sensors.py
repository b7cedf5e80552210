"""RAPL on a made-up powercap tree, NVML on a made-up driver, and the choice between them."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from mep_neuro.accounting import nvml
from mep_neuro.accounting.nvml import NvmlSensor
from mep_neuro.accounting.rapl import RaplSensor, find_rapl
from mep_neuro.accounting.sensors import Sensor, SensorUnavailable, find_sensor
from mep_neuro.errors import MepNeuroError, OptionError

RANGE = 262_143_328_850
"""Microjoules: `max_energy_range_uj` of an Intel package."""


def has_driver() -> bool:
    """Whether NVML's library is on this machine."""
    try:
        ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return False
    return True


class Tree:
    """A powercap folder whose counters a test sets."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir()

    def add(self, folder: str, name: str, microjoules: object, range: object = RANGE) -> None:
        (self.root / folder).mkdir()
        for file, content in (("name", name), ("energy_uj", microjoules), ("max_energy_range_uj", range)):
            (self.root / folder / file).write_text(f"{content}\n")

    def set(self, folder: str, microjoules: object) -> None:
        (self.root / folder / "energy_uj").write_text(f"{microjoules}\n")

    def found(self) -> RaplSensor:
        sensor = find_rapl(self.root)
        assert isinstance(sensor, RaplSensor), sensor
        return sensor

    def reason(self) -> str:
        reason = find_rapl(self.root)
        assert isinstance(reason, str)
        return reason


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """One package, at 1 joule."""
    made = Tree(tmp_path / "powercap")
    made.add("intel-rapl:0", "package-0", 1_000_000)
    return made


# RAPL


def test_packages_and_dram_are_counted_and_nothing_twice(tree: Tree) -> None:
    tree.add("intel-rapl:0:0", "core", 0)
    tree.add("intel-rapl:0:1", "uncore", 0)
    tree.add("intel-rapl:0:2", "dram", 0, range=65_712_999_613)
    tree.add("intel-rapl:1", "package-1", 0)
    tree.add("intel-rapl:1:0", "dram", 0)
    tree.add("intel-rapl:2", "psys", 0)
    tree.add("intel-rapl:3", "package-1", 0)  # once more
    tree.add("intel-rapl-mmio:0", "package-0", 0)
    (tree.root / "intel-rapl").mkdir()  # the control type
    (tree.root / "dtpm").mkdir()
    sensor = tree.found()
    assert sensor.read() == 0.0
    for power, folder in enumerate(sorted(path.name for path in tree.root.iterdir() if ":" in path.name)):
        tree.set(folder, 10**6 * 10**power + (1_000_000 if folder == "intel-rapl:0" else 0))
    order = ["intel-rapl-mmio:0", "intel-rapl:0", "intel-rapl:0:0", "intel-rapl:0:1", "intel-rapl:0:2", "intel-rapl:1"]
    joules = {folder: 10.0**power for power, folder in enumerate([*order, "intel-rapl:1:0"])}
    counted = ("intel-rapl:0", "intel-rapl:0:2", "intel-rapl:1", "intel-rapl:1:0")
    assert sensor.read() == pytest.approx(sum(joules[folder] for folder in counted), rel=1e-12)
    assert sensor.covers == "2 CPU packages and 2 DRAM domains, all programs on them, no GPU"
    assert sensor.name == "rapl"


@pytest.mark.parametrize("names", [("package-0",), ("package-0-die-0", "package-0-die-1"), ("package-0", "package-12")])
def test_names_of_packages(tmp_path: Path, names: tuple[str, ...]) -> None:
    tree = Tree(tmp_path / "powercap")
    for number, name in enumerate(names):
        tree.add(f"intel-rapl:{number}", name, 0)
    packages = "1 CPU package" if len(names) == 1 else f"{len(names)} CPU packages"
    assert tree.found().covers == f"{packages} without DRAM, all programs on them, no GPU"


def test_joules_are_cumulative(tree: Tree) -> None:
    sensor = tree.found()
    readings = [sensor.read()]
    for microjoules in (1_500_000, 1_500_000, 4_000_000):
        tree.set("intel-rapl:0", microjoules)
        readings.append(sensor.read())
    assert readings == [0.0, 0.5, 0.5, 3.0]
    sensor.close()
    sensor.close()


def test_a_counter_that_comes_round(tree: Tree) -> None:
    tree.add("intel-rapl:0:0", "dram", 900, range=1000)
    tree.set("intel-rapl:0", RANGE - 100)
    sensor = tree.found()
    tree.set("intel-rapl:0", 50)
    assert sensor.read() == pytest.approx(150e-6)
    tree.set("intel-rapl:0:0", 20)  # the other one, by its own range
    assert sensor.read() == pytest.approx(270e-6)
    for microjoules in (RANGE * 2 // 3, RANGE - 1, 0):  # a second time
        tree.set("intel-rapl:0", microjoules)
        last = sensor.read()
    assert last == pytest.approx(270e-6 + (RANGE - 50) * 1e-6)


def test_a_counter_that_was_set_back_has_not_come_round(tree: Tree) -> None:
    sensor = tree.found()
    tree.set("intel-rapl:0", 0)
    with pytest.raises(SensorUnavailable, match=r"fell from 1000000 to 0, .* set back"):
        sensor.read()


def test_no_driver(tmp_path: Path) -> None:
    reason = find_rapl(tmp_path / "powercap")
    assert reason == (
        f"{tmp_path / 'powercap'} is not there (no Linux RAPL driver; virtual machines and containers usually hide it)"
    )


@pytest.mark.parametrize(
    ("folder", "name"),
    [("dtpm", ""), ("intel-rapl:0", "psys"), ("intel-rapl:0", "core"), ("intel-rapl-mmio:0", "package-0")],
)
def test_no_package(tmp_path: Path, folder: str, name: str) -> None:
    tree = Tree(tmp_path / "powercap")
    tree.add(folder, name, 0)
    assert "shows no CPU package" in tree.reason()


def test_a_file_in_place_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "powercap").write_text("")
    assert "cannot be listed" in str(find_rapl(tmp_path / "powercap"))


def deny(monkeypatch: pytest.MonkeyPatch, file: str) -> None:
    """Files of that name may not be read: chmod would not stop the tests where they run as root."""
    usual = Path.read_text

    def read_text(path: Path, *args: str, **options: str) -> str:
        if path.name == file:
            raise PermissionError(13, "Permission denied", str(path))
        return usual(path, *args, **options)

    monkeypatch.setattr(Path, "read_text", read_text)


def test_permission_denied_gives_the_cure(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    deny(monkeypatch, "energy_uj")
    reason = tree.reason()
    assert f"{tree.root}/intel-rapl:0/energy_uj may be read by root alone" in reason
    assert f"sudo chmod -R a+r {tree.root}/intel-rapl*" in reason


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_permission_denied_by_the_system(tree: Tree) -> None:
    (tree.root / "intel-rapl:0" / "energy_uj").chmod(0)
    assert "may be read by root alone" in tree.reason()


@pytest.mark.parametrize("file", ["name", "energy_uj", "max_energy_range_uj"])
def test_files_that_cannot_be_read(tree: Tree, file: str) -> None:
    path = tree.root / "intel-rapl:0" / file
    path.unlink()
    assert tree.reason() == f"{path} cannot be read: No such file or directory"
    path.mkdir()
    assert tree.reason() == f"{path} cannot be read: Is a directory"


@pytest.mark.parametrize("file", ["energy_uj", "max_energy_range_uj"])
@pytest.mark.parametrize("content", [b"", b"much", b"-5", b"1.5", b"\xff\xfe", "²".encode(), b"0x10", b"1" * 5000])
def test_files_without_a_number(tree: Tree, file: str, content: bytes) -> None:
    (tree.root / "intel-rapl:0" / file).write_bytes(content)
    assert "not a number of microjoules" in tree.reason()


def test_a_range_of_nothing(tree: Tree) -> None:
    (tree.root / "intel-rapl:0" / "max_energy_range_uj").write_text("0\n")
    assert "not a number of microjoules" in tree.reason()


def test_one_package_that_cannot_be_read_spoils_the_sum(tree: Tree) -> None:
    tree.add("intel-rapl:1", "package-1", "?")
    assert "intel-rapl:1/energy_uj holds '?'" in tree.reason()


def test_a_counter_that_vanishes(tree: Tree) -> None:
    sensor = tree.found()
    (tree.root / "intel-rapl:0" / "energy_uj").unlink()
    with pytest.raises(SensorUnavailable, match="cannot be read: No such file"):
        sensor.read()


# NVML


class NVMLError(Exception):
    pass


class NVMLError_NotSupported(NVMLError):
    pass


class NVMLError_LibraryNotFound(NVMLError):
    pass


class Driver:
    """A made-up pynvml. GPUs by UUID; a counter of None is that of a GPU before Volta."""

    NVMLError = NVMLError
    NVMLError_NotSupported = NVMLError_NotSupported
    NVMLError_LibraryNotFound = NVMLError_LibraryNotFound
    NVML_DEVICE_MIG_ENABLE = 1

    def __init__(self, **millijoules: int | None) -> None:
        self.millijoules = {f"GPU-{uuid}": count for uuid, count in millijoules.items()}
        self.mig: int | None = 0
        self.started = 0
        self.trouble: NVMLError | None = None
        self.shut: Callable[[], None] = lambda: None

    def nvmlInit(self) -> None:
        if self.trouble is not None:
            raise self.trouble
        self.started += 1

    def nvmlShutdown(self) -> None:
        self.started -= 1
        self.shut()

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:
        if uuid not in self.millijoules:
            raise NVMLError("Not Found")
        return uuid

    def nvmlDeviceGetName(self, handle: str) -> str:
        return "Quadro 9000"

    def nvmlDeviceGetMigMode(self, handle: str) -> list[int]:
        if self.mig is None:
            raise NVMLError_NotSupported("Not Supported")
        return [self.mig, 0]

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: str) -> int:
        if self.trouble is not None:
            raise self.trouble
        count = self.millijoules[handle]
        if count is None:
            raise NVMLError_NotSupported("Not Supported")
        return count


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Driver:
    """GPUs a, b, c on the bus in this order; torch sees c as cuda:0 and a as cuda:1 (CUDA_VISIBLE_DEVICES=2,0)."""
    made = Driver(a=1_000, b=2_000, c=3_500)
    visible = ["c", "a"]

    def properties(index: int | None) -> SimpleNamespace:
        if index is not None and index >= len(visible):
            raise AssertionError("Invalid device id")
        return SimpleNamespace(uuid=visible[0 if index is None else index])

    monkeypatch.setitem(sys.modules, "pynvml", made)
    monkeypatch.setattr(torch.cuda, "get_device_properties", properties)
    return made


@pytest.mark.parametrize(("device", "uuid", "joules"), [("cuda:0", "c", 3.5), ("cuda:1", "a", 1.0), ("cuda", "c", 3.5)])
def test_torchs_number_is_not_the_drivers(driver: Driver, device: str, uuid: str, joules: float) -> None:
    for place in (device, torch.device(device)):
        sensor = find_sensor(device=place)
        assert isinstance(sensor, NvmlSensor)
        assert sensor.read() == joules
        assert sensor.name == "nvml"
        assert sensor.covers == f"GPU Quadro 9000 (GPU-{uuid}) with its memory, all programs on it, no CPU"


def test_the_counter_goes_on(driver: Driver) -> None:
    sensor = find_sensor("nvml", device="cuda:0")
    assert isinstance(sensor, NvmlSensor)
    driver.millijoules["GPU-c"] = 4_250
    assert sensor.read() == 4.25


def test_nvml_is_given_back_once(driver: Driver) -> None:
    sensor = find_sensor(device="cuda")
    assert isinstance(sensor, NvmlSensor)
    assert driver.started == 1
    sensor.close()
    sensor.close()
    assert driver.started == 0


def test_a_driver_that_fails_to_close_is_let_be(driver: Driver) -> None:
    def shut() -> None:
        raise NVMLError("Uninitialized")

    driver.shut = shut
    sensor = find_sensor(device="cuda")
    assert isinstance(sensor, NvmlSensor)
    sensor.close()


def test_a_counter_that_stops_answering(driver: Driver) -> None:
    sensor = find_sensor(device="cuda")
    assert isinstance(sensor, NvmlSensor)
    driver.trouble = NVMLError("GPU is lost")
    with pytest.raises(SensorUnavailable, match="does not answer: GPU is lost"):
        sensor.read()


def reason(device: str = "cuda:0") -> str:
    found = find_sensor(device=device)
    assert isinstance(found, str)
    assert found.startswith("no sensor: ")
    return found


def test_an_old_gpu_has_no_counter(driver: Driver) -> None:
    driver.millijoules["GPU-c"], driver.mig = None, None
    assert "Quadro 9000 (GPU-c) has no energy counter: Volta and newer GPUs have one" in reason()
    assert driver.started == 0


def test_gpus_before_ampere_know_no_mig(driver: Driver) -> None:
    driver.mig = None
    assert isinstance(find_sensor(device="cuda:0"), NvmlSensor)


def test_a_slice_of_a_gpu_has_no_counter_of_its_own(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    driver.mig = 1
    assert "is cut into MIG slices" in reason()
    driver.mig = 0
    driver.millijoules["MIG-c"] = 1
    monkeypatch.setattr(nvml, "torch_uuid", lambda index: "MIG-c")
    assert "is cut into MIG slices" in reason()
    assert driver.started == 0


def test_a_gpu_that_the_driver_does_not_know(driver: Driver) -> None:
    del driver.millijoules["GPU-c"]
    assert "NVML finds no GPU GPU-c (Not Found" in reason()
    assert driver.started == 0


def test_a_gpu_that_torch_does_not_know(driver: Driver) -> None:
    assert reason("cuda:7") == "no sensor: torch has no CUDA device 7 here (Invalid device id)"
    assert driver.started == 0


def test_a_driver_that_does_not_start(driver: Driver) -> None:
    driver.trouble = NVMLError("Driver/library version mismatch")
    assert reason() == "no sensor: NVML does not start: Driver/library version mismatch"
    driver.trouble = NVMLError_LibraryNotFound("NVML Shared Library Not Found")
    assert reason() == "no sensor: no NVIDIA driver (libnvidia-ml.so is missing)"


def test_a_driver_that_stops_answering_at_once(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    def lost(handle: str) -> str:
        raise NVMLError("GPU is lost")

    monkeypatch.setattr(driver, "nvmlDeviceGetName", lost)
    assert reason() == "no sensor: NVML does not answer: GPU is lost"
    assert driver.started == 0


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert reason() == "no sensor: the package nvidia-ml-py is not installed: pip install 'mep-neuro[measure]'"


@pytest.mark.skipif(importlib.util.find_spec("pynvml") is None, reason="nvidia-ml-py is not installed")
@pytest.mark.skipif(has_driver(), reason="there is an NVIDIA driver")
def test_the_real_package_without_a_driver() -> None:
    assert reason() == "no sensor: no NVIDIA driver (libnvidia-ml.so is missing)"


@pytest.mark.parametrize("uuid", ["8932f937-d72c", "GPU-8932f937-d72c"])
def test_a_uuid_as_the_driver_writes_it(uuid: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: SimpleNamespace(uuid=uuid))
    assert nvml.torch_uuid(0) == "GPU-8932f937-d72c"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_a_real_gpu() -> None:
    found = find_sensor(device="cuda")
    if isinstance(found, str):
        pytest.skip(found)
    before = found.read()
    assert found.read() >= before > 0
    found.close()


# The choice


def test_work_on_the_cpu_is_measured_there(driver: Driver, tree: Tree) -> None:
    for device in (None, "cpu", torch.device("cpu")):
        assert isinstance(find_sensor(device=device, powercap=tree.root), RaplSensor)


def test_no_gpu_is_measured_for_work_on_the_cpu(driver: Driver, tmp_path: Path) -> None:
    found = find_sensor(device="cpu", powercap=tmp_path / "none")
    assert isinstance(found, str)
    assert found.startswith(f"no sensor: {tmp_path / 'none'} is not there")
    for device in (None, "cpu"):
        with pytest.raises(SensorUnavailable, match="joules of a GPU, and the work is on device 'cpu'"):
            find_sensor("nvml", device=device)
    assert driver.started == 0


def test_no_cpu_stands_in_for_a_gpu(driver: Driver, tree: Tree) -> None:
    driver.trouble = NVMLError_LibraryNotFound()
    assert find_sensor(device="cuda:0", powercap=tree.root) == reason("cuda:0")


def test_the_hosts_share_of_work_on_a_gpu_by_name(driver: Driver, tree: Tree) -> None:
    sensor = find_sensor("rapl", device="cuda:0", powercap=tree.root)
    assert isinstance(sensor, RaplSensor)
    assert sensor.covers.endswith("no GPU")


def test_a_device_with_no_known_sensor(tree: Tree) -> None:
    assert find_sensor(device="meta", powercap=tree.root) == "no sensor: none is known for device 'meta'"


def test_a_sensor_asked_for_by_name_must_be_there(driver: Driver, tmp_path: Path) -> None:
    with pytest.raises(SensorUnavailable, match=r"'rapl' cannot be used: .* is not there .* 'auto' goes on") as caught:
        find_sensor("rapl", powercap=tmp_path / "none")
    assert isinstance(caught.value, MepNeuroError)
    assert isinstance(caught.value, OSError)
    driver.trouble = NVMLError_LibraryNotFound()
    with pytest.raises(SensorUnavailable, match=r"'nvml' cannot be used: no NVIDIA driver"):
        find_sensor("nvml", device="cuda:0")


def test_unknown_names() -> None:
    with pytest.raises(OptionError, match=r"no sensor 'nvlm'; there are: auto, rapl, nvml\. Did you mean 'nvml'\?"):
        find_sensor("nvlm")
    with pytest.raises(OptionError, match="no device 'gpu'"):
        find_sensor(device="gpu")


def test_both_are_sensors(driver: Driver, tree: Tree) -> None:
    found: list[Sensor | str] = [find_sensor(device="cuda"), find_sensor(powercap=tree.root)]
    for sensor in found:
        assert not isinstance(sensor, str)
        assert sensor.name in ("rapl", "nvml")
        assert isinstance(sensor.read(), float)
        sensor.close()
