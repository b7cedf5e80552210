"""The clock of an array of devices, pulses, seeds and checkpoints."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from mep_neuro.errors import CheckpointError, InputError
from mep_neuro_analog.devices import Devices
from mep_neuro_analog.presets import device
from mep_neuro_analog.specs import DeviceSpec, PulseSpec

PLAIN: dict[str, Any] = {"g_min": 0.0, "g_max": 25e-6}
DRIFT = {"drift_mean": (0.0, 0.05, 0.0, 1.0)}


def seeded(seed: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def array(spec: DeviceSpec, n: int, seed: int = 1, fixed: int = 7) -> Devices:
    return Devices((n,), spec, seeded(fixed), torch.float64, "cpu", seeded(seed))


def full(share: float, n: int) -> Tensor:
    return torch.full((n,), share * 25e-6, dtype=torch.float64)


def test_before_programming_all_are_at_the_least() -> None:
    devices = array(DeviceSpec(1e-6, 25e-6), 4)
    assert devices.now.tolist() == [1e-6] * 4


def test_the_clock() -> None:
    devices = array(DeviceSpec(**PLAIN, **DRIFT), 3)
    devices.program(full(0.4, 3))
    at_once = devices.now
    devices.advance(20.0)
    assert torch.allclose(devices.now, at_once, rtol=1e-12), "before t_0 nothing drifts"
    devices.advance(100.0)
    devices.advance(80.0)
    assert torch.allclose(devices.now, at_once * (200 / 20) ** -0.05, rtol=1e-12)
    assert torch.equal(devices.written, at_once)
    devices.program(full(0.4, 3))
    assert torch.equal(devices.now, at_once), "programming starts the clock again"


def test_a_short_move_after_a_long_time_is_not_lost() -> None:
    devices = Devices((2,), DeviceSpec(**PLAIN, **DRIFT), seeded(), torch.float32, "cpu")
    devices.advance(1e6)
    for _ in range(1000):
        devices.advance(1e-3)
    assert devices.state()["age"].item() == pytest.approx(1e6 + 1, abs=1e-6)


@pytest.mark.parametrize("seconds", [-1.0, math.nan, math.inf])
def test_the_clock_does_not_run_back(seconds: float) -> None:
    with pytest.raises(InputError, match="cannot move by"):
        array(device("pcm"), 3).advance(seconds)


def test_another_shape() -> None:
    devices = array(device("pcm"), 3)
    for act in (devices.program, devices.set, devices.add):
        with pytest.raises(InputError, match=r"these devices are \(3,\); got \(4,\)"):
            act(torch.zeros(4, dtype=torch.float64))


def test_a_pulse_starts_the_clock_of_what_it_moved_from_where_that_was() -> None:
    devices = array(DeviceSpec(**PLAIN, **DRIFT), 2)
    devices.program(full(0.4, 2))
    devices.advance(2000.0)
    lost = (2000 / 20) ** -0.05
    devices.add(torch.tensor([1e-6, 0.0], dtype=torch.float64))
    assert devices.now.tolist() == pytest.approx([10e-6 * lost + 1e-6, 10e-6 * lost], rel=1e-12)
    assert devices.written.tolist() == pytest.approx([10e-6 * lost + 1e-6, 10e-6], rel=1e-12)
    devices.advance(198_000.0)
    later = [(10e-6 * lost + 1e-6) * (198_000 / 20) ** -0.05, 10e-6 * (200_000 / 20) ** -0.05]
    assert devices.now.tolist() == pytest.approx(later, rel=1e-12)


def test_a_device_that_is_not_pulsed_keeps_its_own_drift() -> None:
    spec = replace(device("pcm"), programming=(), flicker=None)
    devices, left_alone = array(spec, 1000), array(spec, 1000)
    odd = torch.arange(1000) % 2
    for one in (devices, left_alone):
        one.program(full(0.4, 1000))
        one.advance(1e3)
    devices.add(1e-6 * odd)
    devices.advance(1e3)
    left_alone.advance(1e3)
    same = devices.now == left_alone.now
    assert torch.equal(same, odd == 0)


def test_drift_is_that_of_what_was_aimed_at() -> None:
    """A device aimed at 0.2 g_max has the nu of 0.2 g_max, wherever programming has left it."""
    spec = replace(device("pcm"), programming=(8e-6,), drift_spread=None, flicker=None)
    devices = array(spec, 1000)
    devices.program(full(0.2, 1000))
    devices.advance(2000.0)
    left = devices.now[devices.now > 0] / devices.written[devices.now > 0]
    nu = 0.0244 - 0.0155 * math.log(0.2)
    assert torch.allclose(left, torch.full_like(left, 100**-nu), rtol=1e-9)


def test_a_pulse_stops_the_flicker_of_what_it_moved_only() -> None:
    devices = array(DeviceSpec(**PLAIN, flicker=(0.01, 0.5, 0.2, 1e-6)), 2)
    devices.program(full(0.4, 2))
    devices.advance(2000.0)
    before = devices.now
    assert before[0].item() != 10e-6
    devices.set(torch.tensor([12e-6, 10e-6], dtype=torch.float64))
    assert devices.now.tolist() == [12e-6, before[1].item()]


def test_pulses_keep_devices_in_range() -> None:
    beyond = torch.tensor([-1e-6, 30e-6], dtype=torch.float64)
    devices = array(DeviceSpec(1e-6, 25e-6), 2)
    devices.set(beyond)
    assert devices.now.tolist() == [1e-6, 25e-6]
    devices.add(torch.tensor([-1e-6, -5e-6], dtype=torch.float64))
    assert devices.now.tolist() == pytest.approx([1e-6, 20e-6])
    free = array(DeviceSpec(1e-6, 25e-6, pulses=PulseSpec(0.01, bounds=(-1.0, 1.5))), 2)
    free.set(beyond)
    assert free.now.tolist() == [0.0, 30e-6], "pulses have bounds of their own"


def test_what_was_given_out_is_not_written_into() -> None:
    devices = array(device("pcm"), 3)
    devices.program(full(0.5, 3))
    given = [devices.now, devices.written]
    copies = [g.clone() for g in given]
    devices.add(full(0.1, 3))
    devices.advance(1e3)
    assert all(torch.equal(g, c) for g, c in zip(given, copies, strict=True))


def history(devices: Devices, n: int) -> list[Tensor]:
    seen = []
    devices.program(full(0.5, n))
    seen.append(devices.now)
    devices.advance(1e3)
    seen.append(devices.now)
    devices.add(full(0.01, n) * (torch.arange(n) % 2))
    devices.advance(1e4)
    seen.append(devices.now)
    return seen


def test_the_same_seed_is_the_same_device() -> None:
    spec = replace(device("pcm"), stuck_low=0.1)
    first, second = (history(array(spec, 50), 50) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert not torch.equal(history(array(spec, 50, seed=2), 50)[0], first[0])


@pytest.mark.parametrize("name", ["pcm", "hermes", "rram", "ecram", "ideal"])
def test_state_goes_round(name: str) -> None:
    spec = replace(device(name), stuck_high=0.1)
    devices, other = array(spec, 50), array(spec, 50, seed=5, fixed=6)
    history(devices, 50)
    other.load({k: v.clone() for k, v in devices.state().items()})
    assert torch.equal(other.now, devices.now)
    devices._generator, other._generator = seeded(3), seeded(3)
    for one in (devices, other):
        one.advance(1e6)
        one.add(full(0.01, 50))
        one.advance(1e3)
    assert torch.equal(other.now, devices.now)
    assert torch.equal(other.written, devices.written)


def test_state_of_another_array() -> None:
    devices = array(device("pcm"), 3)
    with pytest.raises(CheckpointError, match=r"'written' of these devices is \(3,\), and there \(4,\)"):
        devices.load(array(device("pcm"), 4).state())
    with pytest.raises(CheckpointError, match="devices need written"):
        devices.load({"written": torch.zeros(3)})


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_dtype_is_kept(dtype: torch.dtype) -> None:
    devices = Devices((3, 4), replace(device("pcm"), stuck_low=0.5), seeded(), dtype, "cpu")
    devices.program(torch.full((3, 4), 1e-5, dtype=dtype))
    devices.advance(1e3)
    devices.add(torch.full((3, 4), 1e-7, dtype=dtype))
    assert devices.now.dtype == devices.written.dtype == dtype
    assert devices.now.shape == (3, 4)
    assert all(v.dtype in (dtype, torch.int8, torch.float64) for v in devices.state().values())
