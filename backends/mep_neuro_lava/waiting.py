"""Waiting for a Lava runtime without hanging with it: every wait has an end, and an error names who did not come.

Lava's own waits have no end. Here the runtime's ports are wrapped, so that each answer is waited for so many seconds at
most; before the processes are ended, each is asked by a signal where it stands, and those that wait for another in
Lava's channels are told from the one that hangs.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from queue import Empty
from typing import IO, Any, final

LOOK = 0.05
"""Seconds between two looks at whether the processes live."""
ANSWER = 1.0
"""Seconds that a process has to say where it stands."""
CHANNELS = ("pypychannel.py", "threading.py", "queue.py")
"""Files in whose code a process stands that waits for another."""

_starting: int | None = None
"""The process that forks Lava's at the moment."""


class LavaError(RuntimeError):
    """A process of Lava's that failed or hangs; the message names it."""


class LavaTimeout(LavaError, TimeoutError):
    """A process that did not answer in time."""


@final
class Watch:
    """Patience with the processes of one runtime.

    timeout: seconds that an answer may take.
    actors:  the OS processes by name, once they run.
    """

    def __init__(self, timeout: float) -> None:
        self.timeout = timeout
        self.actors: Mapping[str, Any] = {}
        self._places: IO[bytes] | None = None
        self._owner = os.getpid()

    @contextmanager
    def asking(self) -> Iterator[None]:
        """Processes forked within it can be asked where they stand, and end when this one has died."""
        global _starting
        self._places = tempfile.TemporaryFile()
        faulthandler.register(signal.SIGUSR1, self._places, all_threads=False)
        _starting = self._owner
        try:
            yield
        finally:
            _starting = None
            faulthandler.unregister(signal.SIGUSR1)

    def wait(self, ready: Callable[[float], bool], doing: str) -> None:
        """Until ready(seconds), which may block so long. Raises `LavaTimeout`, or `LavaError` where a process has died
        or failed, naming it; all processes are then ended."""
        end = time.monotonic() + self.timeout
        while not ready(LOOK):
            error = self.failure(doing)
            if error is None and time.monotonic() > end:
                error = LavaTimeout(f"{self.blame()} {doing} within {self.timeout:g} s: look there, or set timeout")
            if error is not None:
                self.end()
                raise error

    def failure(self, doing: str) -> LavaError | None:
        """The error of a process that has died or failed, if there is one."""
        for name, actor in self.actors.items():
            if actor.exitcode:
                return LavaError(
                    f"Lava's process {name!r} (exit code {actor.exitcode}) died, with {doing} not finished"
                )
            if actor.exception:
                return LavaError(f"Lava's process {name!r} failed:\n{actor.exception[1]}")
        return None

    def blame(self) -> str:
        """Which process hangs, as well as it can be told."""
        stands = {name: self._place(actor) for name, actor in self.actors.items() if actor.exitcode is None}
        silent = [f"{name!r}" for name, place in stands.items() if place is None]
        busy = [f"{name!r} ({place})" for name, place in stands.items() if place]
        who = busy or silent
        if not who:
            return "Lava's processes wait for each other: none has finished"
        return f"Lava's process {' and '.join(who)} hangs: it has not finished"

    def end(self, grace: float = 0.0) -> None:
        """Kill all processes that have not ended by themselves after so many seconds."""
        if os.getpid() != self._owner:  # in a process of Lava's, which is a copy of this one
            return
        latest = time.monotonic() + grace
        for actor in self.actors.values():
            if not actor._is_done:
                BaseProcess.join(actor, max(0.0, latest - time.monotonic()))
                if actor.exitcode is None:
                    actor.kill()
                actor.join()
        self.actors = {}
        if self._places is not None:
            self._places.close()
            self._places = None

    def _place(self, actor: Any) -> str | None:
        """The line at which a process stands; "" where it waits in a channel; None where it does not answer."""
        if self._places is None:
            return ""
        file, end, told, before = self._places.fileno(), time.monotonic() + ANSWER, b"", -1
        start = os.fstat(file).st_size
        os.kill(actor.pid, signal.SIGUSR1)
        while time.monotonic() < end and (not told or len(told) != before):
            before = len(told)
            time.sleep(LOOK)
            told = os.pread(file, os.fstat(file).st_size - start, start)
        lines = [line.strip() for line in told.decode(errors="replace").splitlines() if line.startswith("  File")]
        if not lines:
            return None
        return "" if any(f'{name}"' in lines[0] for name in CHANNELS) else lines[0]


@final
class Patient:
    """A runtime's port whose waits end. Raises as `Watch.wait` does."""

    def __init__(self, port: Any, watch: Watch, doing: str) -> None:
        self._port, self._watch, self._doing = port, watch, doing

    def __getattr__(self, name: str) -> Any:
        return getattr(self._port, name)

    def send(self, data: Any) -> None:
        """When there is room."""
        self._watch.wait(self._room, self._doing)
        self._port.send(data)

    def recv(self) -> Any:
        """When it is there."""
        self.arrived()
        return self._port.recv()

    def arrived(self) -> Any:
        """What comes next, left where it is."""
        self._watch.wait(self._there, self._doing)
        return self._port.peek()

    def _there(self, seconds: float) -> bool:
        try:
            self._port._queue.get(timeout=seconds, peek=True)
        except Empty:
            return False
        return True

    def _room(self, seconds: float) -> bool:
        there = bool(self._port._semaphore.acquire(timeout=seconds))
        if there:
            self._port._semaphore.release()
        return there


def _follow() -> None:
    """Begin to look, in a process that was just forked, whether the one that forked it still lives."""
    if _starting is not None:
        threading.Thread(target=_look_after, args=(_starting,), daemon=True).start()


def _look_after(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(ANSWER)
    os._exit(1)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_follow)
