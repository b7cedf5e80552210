"""The energy meter, on a clock and a sensor made for the test: no test sleeps or looks at the time."""

from __future__ import annotations

import dataclasses
import itertools
import json
import logging
import math
import threading
from collections.abc import Callable
from types import SimpleNamespace

import pytest
from scipy import stats  # type: ignore[import-untyped, unused-ignore]

from mep_neuro.accounting import measuring
from mep_neuro.accounting.measured import MOST, split
from mep_neuro.accounting.measuring import EnergyMeter, MeasuredEnergy, measure
from mep_neuro.accounting.sensors import Sensor, SensorUnavailable
from mep_neuro.errors import InputError, OptionError


class Bench:
    """A device under test: a clock, a counter of joules, and idle watts for each baseline in turn."""

    name = "bench"
    covers = "a device under test"

    def __init__(self, idle: tuple[float, ...] = (10.0, 12.0)) -> None:
        self.now, self.joules, self.idle = 100.0, 7000.0, list(idle)
        self.closed = 0
        self.broken: Exception | None = None
        self.log: list[str] = []

    def work(self, seconds: float, watts: float) -> None:
        self.now += seconds
        self.joules += watts * seconds

    def read(self) -> float:
        self.log.append("read")
        if self.broken is not None:
            raise self.broken
        return self.joules

    def close(self) -> None:
        self.closed += 1

    def wait(self, seconds: float, stop: threading.Event) -> bool:
        """A baseline passes at once; the meter's thread never gets to tick of its own."""
        if threading.current_thread() is not threading.main_thread():
            return stop.wait()
        self.log.append("idle")
        self.work(seconds, self.idle.pop(0))
        return False

    def meter(self, sensor: str | Sensor | None = None, **options: object) -> EnergyMeter:
        return measure(
            self if sensor is None else sensor,
            clock=lambda: self.now,
            wait=self.wait,
            **options,  # type: ignore[arg-type]
        )

    def run(self, *windows: tuple[float, float]) -> MeasuredEnergy:
        """Measure windows (seconds, watts), with a tick after each but the last."""
        with self.meter() as meter:
            for last, (seconds, watts) in enumerate(windows, start=1 - len(windows)):
                self.work(seconds, watts)
                if last < 0:
                    meter.tick()
        assert meter.why == ""
        assert meter.result is not None
        return meter.result


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if "energy meter" in thread.name]


# What is measured


def test_joules_by_hand() -> None:
    measured = Bench(idle=(10.0, 12.0)).run(*[(2.0, 50.0)] * 10)
    assert measured == MeasuredEnergy(
        sensor="bench",
        covers="a device under test",
        joules=1000.0,
        seconds=20.0,
        idle_before=10.0,
        idle_after=12.0,
        windows=((2.0, 100.0),) * 10,
    )
    assert measured.idle_watts == 11.0
    assert measured.running_watts == 50.0
    assert measured.dynamic_joules == 1000.0 - 11.0 * 20.0
    assert measured.interval == (1000.0, 1000.0)  # power never varied
    assert measured.dynamic_interval == (1000.0 - 12.0 * 20.0, 1000.0 - 10.0 * 20.0)
    assert measured.note == ""


def test_the_interval_is_students() -> None:
    watts = (40.0, 50.0, 60.0, 45.0, 55.0)
    measured = Bench(idle=(12.0, 10.0)).run(*[(2.0, power) for power in watts])
    half = 2.1318467863 * math.sqrt(62.5 / 5) * 10.0  # t(0.95; 4) from a table; the variance of the watts is 62.5
    assert measured.interval == pytest.approx((500.0 - half, 500.0 + half), rel=1e-9)
    low, high = stats.t.interval(0.9, 4, loc=50.0, scale=stats.sem(watts))
    assert measured.interval == pytest.approx((10.0 * low, 10.0 * high), rel=1e-12)
    assert measured.dynamic_interval == pytest.approx((500.0 - half - 120.0, 500.0 + half - 100.0), rel=1e-9)


def test_joules_never_fall_below_zero_but_dynamic_ones_may() -> None:
    measured = Bench(idle=(10.0, 12.0)).run(*[(2.0, 0.0)] * 4, (2.0, 5.0))
    assert measured.interval is not None
    assert measured.interval[0] == 0.0
    assert measured.dynamic_joules == 10.0 - 110.0
    assert measured.dynamic_interval is not None
    assert measured.dynamic_interval[0] == -120.0


def test_four_windows_give_no_interval_and_say_so() -> None:
    measured = Bench().run(*[(2.0, 50.0)] * 4)
    assert measured.interval is None
    assert measured.dynamic_interval is None
    assert measured.note == "no interval: 4 of the 5 windows that it needs; train longer"


def test_per_sample() -> None:
    measured = Bench().run(*[(2.0, power) for power in (40.0, 50.0, 60.0, 45.0, 55.0)])
    assert measured.interval is not None
    assert measured.dynamic_interval is not None
    assert measured.per_sample(4) == (
        125.0,
        tuple(end / 4 for end in measured.interval),
        measured.dynamic_joules / 4,
        tuple(end / 4 for end in measured.dynamic_interval),
    )
    assert Bench().run((3.0, 50.0)).per_sample(2) == (75.0, None, (150.0 - 33.0) / 2, None)
    with pytest.raises(InputError, match="0 samples"):
        measured.per_sample(0)


# Windows


@pytest.mark.parametrize(
    ("stretches", "windows"),
    [
        ([5.0], [5.0]),
        ([2.0, 2.0, 2.0], [2.0, 2.0, 2.0]),
        ([2.0, 2.0, 1.5], [2.0, 3.5]),
        ([2.0, 0.0], [2.0]),
        ([1.5, 1.0], [2.5]),
        ([1.0, 1.0, 0.5, 3.0], [2.0, 3.5]),
    ],
)
def test_no_window_is_shorter_than_two_seconds(stretches: list[float], windows: list[float]) -> None:
    measured = Bench().run(*[(seconds, 50.0) for seconds in stretches])
    assert measured.windows == tuple((seconds, 50.0 * seconds) for seconds in windows)


@pytest.mark.parametrize("number", [MOST, MOST + 1, 10 * MOST - 1])
def test_in_a_long_run_neighbours_are_joined(number: int) -> None:
    readings = [(2.0 * i, float(i * i)) for i in range(number + 1)]
    windows = split(readings)
    assert MOST // 2 < len(windows) <= MOST
    assert sum(seconds for seconds, _ in windows) == 2.0 * number
    assert sum(joules for _, joules in windows) == number**2
    assert len({seconds for seconds, _ in windows[:-1]}) == 1


@pytest.mark.parametrize("name", ["baseline", "window"])
@pytest.mark.parametrize("seconds", [1.99, 0.0, -2.0, 61.0, math.inf, math.nan])
def test_spans_that_sensors_cannot_do_are_refused(name: str, seconds: float) -> None:
    with pytest.raises(InputError, match=rf"a {name} of .* give 2 to 60 s"):
        measure(**{name: seconds})  # type: ignore[arg-type]


def test_baseline_and_window_are_what_was_asked_for() -> None:
    bench = Bench()
    asked: list[float] = []
    asked_by_thread = threading.Event()

    def wait(seconds: float, stop: threading.Event) -> bool:
        asked.append(seconds)
        if threading.current_thread() is not threading.main_thread():
            asked_by_thread.set()
        return bench.wait(seconds, stop)

    with measure(bench, baseline=3.0, window=7.0, clock=lambda: bench.now, wait=wait) as meter:
        assert asked_by_thread.wait(60)
        bench.work(5.0, 50.0)
    assert asked == [3.0, 7.0, 3.0]
    assert meter.result is not None
    assert (meter.result.idle_before, meter.result.idle_after) == (10.0, 12.0)


# The thread


def test_the_thread_ticks_once_a_window() -> None:
    bench = Bench()
    go, done = threading.Semaphore(0), threading.Semaphore(0)

    def wait(seconds: float, stop: threading.Event) -> bool:
        if threading.current_thread() is threading.main_thread():
            return bench.wait(seconds, stop)
        done.release()
        while not go.acquire(timeout=0.01):
            if stop.is_set():
                return True
        return False

    with measure(bench, clock=lambda: bench.now, wait=wait) as meter:
        for watts in (30.0, 40.0, 50.0):
            assert done.acquire(timeout=60)
            bench.work(2.0, watts)
            go.release()
        assert done.acquire(timeout=60)
        bench.work(2.0, 60.0)
    assert meter.result is not None
    assert [joules for _, joules in meter.result.windows] == [60.0, 80.0, 100.0, 120.0]
    assert threads() == []


def test_the_thread_is_a_daemon_and_ends_with_the_block() -> None:
    bench = Bench()
    with bench.meter():
        (thread,) = threads()
        assert thread.daemon
        bench.work(2.0, 50.0)
    assert not thread.is_alive()


def test_the_device_is_waited_for_before_the_first_baseline_and_before_the_last_reading() -> None:
    bench = Bench()

    def synchronize() -> None:
        bench.log.append("synchronize")
        bench.work(3.0, 50.0)  # what was still under way

    with bench.meter(synchronize=synchronize) as meter:
        pass
    assert bench.log == ["synchronize", "read", "idle", "read", "synchronize", "read", "idle", "read"]
    assert meter.result is not None
    assert meter.result.windows == ((3.0, 150.0),)


# What goes wrong


@pytest.mark.parametrize("error", [ValueError("in the block"), KeyboardInterrupt()])
def test_an_error_in_the_block_passes_on_at_once(error: BaseException) -> None:
    bench = Bench()
    meter = bench.meter()

    def work() -> None:
        bench.work(10.0, 50.0)
        raise error

    with pytest.raises(type(error)) as caught, meter:
        work()
    assert caught.value is error
    assert meter.result is None
    assert meter.why == f"the run ended with {type(error).__name__}"
    assert bench.idle == [12.0]  # no second baseline
    assert threads() == []


def test_an_error_of_the_device_at_the_end_passes_on() -> None:
    bench = Bench()
    calls = itertools.count()

    def synchronize() -> None:
        if next(calls):
            raise RuntimeError("CUDA error")

    meter = bench.meter(synchronize=synchronize)
    with pytest.raises(RuntimeError, match="CUDA error"), meter:
        bench.work(10.0, 50.0)
    assert meter.result is None
    assert meter.why == "the run ended with RuntimeError"
    assert threads() == []


def test_an_interrupt_in_the_first_baseline_starts_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench()

    def wait(seconds: float, stop: threading.Event) -> bool:
        raise KeyboardInterrupt

    monkeypatch.setattr(measuring, "find_sensor", lambda *_, **__: bench)
    with pytest.raises(KeyboardInterrupt), measure(wait=wait):
        pytest.fail("the block must not run")
    assert threads() == []
    assert bench.closed == 1


@pytest.mark.parametrize("seconds", [0.8, 1.99])
def test_a_run_that_is_too_short(seconds: float) -> None:
    bench = Bench()
    with bench.meter() as meter:
        bench.work(seconds, 50.0)
    assert meter.result is None
    assert meter.why == f"the run took {seconds} s; a window of at least 2 s is needed: train longer"
    assert bench.idle == [12.0]  # nobody waits for nothing


@pytest.mark.parametrize("error", [SensorUnavailable("gone"), ZeroDivisionError("gone")])
def test_a_sensor_that_fails_costs_the_result_and_not_the_run(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    bench, through = Bench(), False
    with caplog.at_level(logging.WARNING), bench.meter() as meter:
        bench.work(4.0, 50.0)
        bench.broken = error
        meter.tick()
        bench.broken = None
        bench.work(4.0, 50.0)
        meter.tick()
        through = True
    assert through
    assert meter.result is None
    assert meter.why == "sensor 'bench' failed: gone"
    assert [record.getMessage() for record in caplog.records] == [
        "joules are not measured: sensor 'bench' failed: gone"
    ]


@pytest.mark.parametrize("good_readings", [0, 1, 2, 3])
def test_a_sensor_that_fails_at_any_reading(good_readings: int) -> None:
    bench = Bench()
    left = iter(range(good_readings))

    def read() -> float:
        if next(left, None) is None:
            raise SensorUnavailable("gone")
        return bench.joules

    sensor = SimpleNamespace(name="weak", covers="", read=read, close=lambda: None)
    with bench.meter(sensor) as meter:
        bench.work(4.0, 50.0)
    assert meter.result is None
    assert meter.why == "sensor 'weak' failed: gone"
    assert threads() == []


@pytest.mark.parametrize(
    ("watts", "why"), [(-1.0, "the sensor's counter fell"), (0.0, "the sensor's counter stood still")]
)
def test_counters_that_cannot_be_true(watts: float, why: str) -> None:
    bench = Bench()
    with bench.meter() as meter:
        bench.work(4.0, watts)
    assert meter.result is None
    assert meter.why.startswith(why)


def test_a_counter_that_falls_in_between_is_found() -> None:
    bench = Bench()
    with bench.meter() as meter:
        bench.work(4.0, 50.0)
        meter.tick()
        bench.joules -= 100.0
        meter.tick()
        bench.work(4.0, 50.0)
    assert meter.result is None
    assert meter.why.startswith("the sensor's counter fell")


# No sensor


def test_without_a_sensor_the_block_runs_at_once(caplog: pytest.LogCaptureFixture) -> None:
    bench, through = Bench(), False
    with caplog.at_level(logging.INFO), bench.meter("auto", device="meta") as meter:
        meter.tick()
        assert threads() == []
        through = True
    assert through
    assert bench.now == 100.0
    assert bench.log == []
    assert meter.result is None
    assert meter.why == "no sensor: none is known for device 'meta'"
    assert meter.why in caplog.text


def test_without_a_sensor_an_error_in_the_block_passes_on() -> None:
    with pytest.raises(ValueError, match="in the block"), measure(device="meta"):
        raise ValueError("in the block")


def test_a_sensor_asked_for_by_name_must_be_there() -> None:
    meter = measure("nvml", device="cpu")
    with pytest.raises(SensorUnavailable, match="'nvml' cannot be used"), meter:
        pytest.fail("the block must not run")
    assert threads() == []


def test_an_unknown_name() -> None:
    with pytest.raises(OptionError, match="Did you mean 'rapl'"), measure("rapl2"):
        pytest.fail("the block must not run")


def test_who_opens_a_sensor_closes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    found, asked = Bench(), []

    def find(wanted: str, *, device: object) -> Sensor:
        asked.append((wanted, device))
        return found

    monkeypatch.setattr(measuring, "find_sensor", find)
    with found.meter("nvml", device="cuda:1") as meter:
        found.work(4.0, 50.0)
    assert asked == [("nvml", "cuda:1")]
    assert meter.result is not None
    assert found.closed == 1
    own = Bench()
    own.run((4.0, 50.0))
    assert own.closed == 0


@pytest.mark.parametrize("device", [None, "meta"])
def test_a_meter_measures_one_block(device: str | None) -> None:
    bench = Bench()
    meter = bench.meter("auto" if device else None, device=device)
    with meter:
        assert meter.why != ""
        bench.work(4.0, 50.0)
    with pytest.raises(InputError, match="make another"), meter:
        pytest.fail("the block must not run")


def test_why_is_never_empty_before_there_is_a_result() -> None:
    assert measure().why == "the run has not ended"


# JSON


def test_to_json_and_back() -> None:
    for windows in ([(2.1, power / 3) for power in (40, 50, 60, 45, 55)], [(4.0, 50.0)]):
        measured = Bench(idle=(10.1, 12 / 7)).run(*windows)
        document = json.loads(json.dumps(measured.to_json(), allow_nan=False))
        assert MeasuredEnergy.from_json(document) == measured
        assert MeasuredEnergy.from_json(measured.to_json()) == measured


def test_json_holds_what_follows_from_the_figures() -> None:
    document = Bench().run(*[(2.0, 50.0)] * 5).to_json()
    assert document["idle_watts"] == 11.0
    assert document["running_watts"] == 50.0
    assert document["interval"] == [500.0, 500.0]
    assert document["dynamic_joules"] == 390.0
    assert document["dynamic_interval"] == [380.0, 400.0]
    assert document["note"] == ""
    assert document["windows"] == [[2.0, 100.0]] * 5


def _without(key: str) -> Callable[[dict[str, object]], object]:
    return lambda document: {k: v for k, v in document.items() if k != key}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (_without("joules"), "joules"),
        (lambda d: {**d, "joules": "12"}, "joules"),
        (lambda d: {**d, "joules": -1.0}, "joules"),
        (lambda d: {**d, "seconds": 0.0}, "seconds"),
        (lambda d: {**d, "seconds": math.inf}, "seconds"),
        (lambda d: {**d, "idle_after": math.nan}, "idle_after"),
        (lambda d: {**d, "windows": []}, "windows"),
        (lambda d: {**d, "windows": [[2.0]]}, "windows.0"),
        (lambda d: {**d, "windows": 3}, "windows"),
        (lambda d: {**d, "sensor": None}, "sensor"),
        (lambda d: {**d, "covers": {1, 2}}, "the document"),
        (lambda d: [d], "the document"),
    ],
)
def test_json_that_is_none(change: Callable[[dict[str, object]], dict[str, object]], told: str) -> None:
    with pytest.raises(InputError, match=rf"no measured energy: {told}"):
        MeasuredEnergy.from_json(change(Bench().run((4.0, 50.0)).to_json()))


def test_a_result_cannot_be_changed() -> None:
    measured = Bench().run((4.0, 50.0))
    with pytest.raises(dataclasses.FrozenInstanceError):
        measured.joules = 0.0  # type: ignore[misc]
