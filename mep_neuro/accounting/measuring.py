"""Measured joules: a sensor read before, during and after a block of work.

    with measure("auto", device="cuda:0", synchronize=torch.cuda.synchronize) as meter:
        history = fit(...)
    meter.result    # MeasuredEnergy, or None; then meter.why says why

Windows are seconds long, since the power behind an A100's or H100's counter is sampled during 25 % of the time only
(Yang, Adamek, Armour, SC24, arXiv:2312.02741), and a minute at most, so that no RAPL counter comes round unseen.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from types import TracebackType

import torch
from typing_extensions import Self

from mep_neuro.accounting.measured import SHORTEST, JoulesPerSample, MeasuredEnergy, Reading, split
from mep_neuro.accounting.sensors import Sensor, find_sensor
from mep_neuro.errors import InputError

__all__ = ["EnergyMeter", "JoulesPerSample", "MeasuredEnergy", "measure"]

log = logging.getLogger(__name__)

LONGEST = 60.0
"""Seconds that a window, and an idle baseline, may be long."""


class EnergyMeter:
    """Measures one `with` block, with the sensor that `find` gives; made by `measure`.

    result: the `MeasuredEnergy` after the block, or None.
    why:    why there is no result; empty where there is one.

    On entry it waits for the idle baseline; then a thread calls `tick` once a window; on exit it waits for the second
    baseline. Where there is no sensor the block runs at once. A sensor that fails on the way costs the result, never
    the run; an error in the block passes on at once.
    """

    def __init__(
        self,
        find: Callable[[], Sensor | str],
        *,
        closes: bool,
        baseline: float,
        window: float,
        synchronize: Callable[[], object],
        clock: Callable[[], float],
        wait: Callable[[float, threading.Event], bool],
    ) -> None:
        self.result: MeasuredEnergy | None = None
        self.why = "the run has not ended"
        self._find, self._closes, self._synchronize = find, closes, synchronize
        self._clock, self._wait = clock, wait
        self._baseline, self._window = baseline, window
        self._sensor: Sensor | None = None
        self._failure = ""
        self._readings: list[Reading] = []  # idle from, block from, one a window, block to, idle to
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="mep-neuro energy meter", daemon=True)

    def __enter__(self) -> Self:
        if self._stop.is_set() or self._readings:
            raise InputError("this meter has measured its block; make another one with measure()")
        found = self._find()
        if isinstance(found, str):
            self._stop.set()
            self.why = found
            log.info("joules are not measured: %s", found)
            return self
        self._sensor = found
        try:
            log.info("measuring joules with %s (%s); idle for %g s first", found.name, found.covers, self._baseline)
            self._synchronize()
            self._idle()
            self._thread.start()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._sensor is None:
            return
        try:
            if kind is None:
                self._synchronize()
                self._halt()
                self._finish(self._sensor)
        except BaseException as raised:
            kind = type(raised)
            raise
        finally:
            if kind is not None:
                self.why = f"the run ended with {kind.__name__}"
            self._end()

    def tick(self) -> None:
        """Read the sensor once. After a failure, nothing."""
        if self._sensor is None or self._failure:
            return
        try:
            self._readings.append((self._clock(), self._sensor.read()))
        except Exception as error:  # whatever is wrong with a sensor, the run is worth more
            self._failure = f"sensor {self._sensor.name!r} failed: {error}"
            log.warning("joules are not measured: %s", self._failure)

    def _idle(self) -> None:
        """A baseline: a reading, a wait, a reading. At the end of the block, its first reading is there already."""
        if not self._readings:
            self.tick()
        if not self._failure:
            self._wait(self._baseline, threading.Event())
            self.tick()

    def _watch(self) -> None:
        """What the thread does."""
        while not self._failure and not self._wait(self._window, self._stop):
            self.tick()

    def _halt(self) -> None:
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _end(self) -> None:
        self._halt()
        if self._sensor is not None and self._closes:
            self._sensor.close()
        self._sensor = None

    def _finish(self, sensor: Sensor) -> None:
        """The last reading of the block, the second baseline, and the result."""
        self.tick()
        self.why = self._failure or _too_short(self._readings[1:])
        if not self.why:
            self._idle()
            self.why = self._failure or _unlikely(self._readings)
        if not self.why:
            self.result = _measured(sensor, self._readings)


def measure(
    sensor: str | Sensor = "auto",
    *,
    device: str | torch.device | None = None,
    baseline: float = 2.0,
    window: float = 2.0,
    synchronize: Callable[[], object] = lambda: None,
    clock: Callable[[], float] = time.monotonic,
    wait: Callable[[float, threading.Event], bool] = lambda seconds, stop: stop.wait(seconds),
) -> EnergyMeter:
    """A meter for one `with` block: measured joules where there is a sensor, and the reason where there is none.

    sensor:      "auto", or a name (see `find_sensor`); or a sensor of one's own, which stays open.
    device:      where the network is, "cuda:0" or "cpu".
    baseline:    seconds of idling measured before the block, and again after it.
    window:      seconds between two readings.
    synchronize: waits until the device is done; called before the first baseline and at the end of the block.
    clock, wait: time in seconds, and a wait of so many seconds that a set event ends (then True); for tests.

    Raises:
        InputError: a baseline or a window that is no number from 2 to 60 seconds.
        OptionError: on entry, a sensor or a device of an unknown name.
        SensorUnavailable: on entry, a sensor that was asked for by name and is not there.
    """
    for name, seconds in (("baseline", baseline), ("window", window)):
        if not SHORTEST <= seconds <= LONGEST:
            raise InputError(
                f"a {name} of {seconds} s cannot be measured; give {SHORTEST:g} to {LONGEST:g} s: in less, sensors "
                "err (A100 and H100 see 25 % of the time, arXiv:2312.02741), in more, a RAPL counter may come round"
            )
    return EnergyMeter(
        lambda: find_sensor(sensor, device=device) if isinstance(sensor, str) else sensor,
        closes=isinstance(sensor, str),
        baseline=baseline,
        window=window,
        synchronize=synchronize,
        clock=clock,
        wait=wait,
    )


def _too_short(block: Sequence[Reading]) -> str:
    seconds = block[-1][0] - block[0][0]
    if seconds >= SHORTEST:
        return ""
    return f"the run took {seconds:.3g} s; a window of at least {SHORTEST:g} s is needed: train longer"


def _unlikely(readings: Sequence[Reading]) -> str:
    """What is wrong with the readings: a counter that fell, or that stood still under work."""
    if any(after < before for (_, before), (_, after) in pairwise(readings)):
        return "the sensor's counter fell: it was set back while the run went on; measure again"
    if readings[-2][1] == readings[1][1]:
        return "the sensor's counter stood still: there is nothing behind it (some virtual machines show such a one)"
    return ""


def _measured(sensor: Sensor, readings: Sequence[Reading]) -> MeasuredEnergy:
    """The first two readings and the last two span the baselines; those between are the block's."""
    block = readings[1:-1]
    (begin, empty), (end, full) = block[0], block[-1]
    return MeasuredEnergy(
        sensor=sensor.name,
        covers=sensor.covers,
        joules=full - empty,
        seconds=end - begin,
        idle_before=_watts(*readings[:2]),
        idle_after=_watts(*readings[-2:]),
        windows=split(block),
    )


def _watts(before: Reading, after: Reading) -> float:
    return (after[1] - before[1]) / (after[0] - before[0])
