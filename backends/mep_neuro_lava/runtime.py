"""One Lava runtime: started, run for timesteps at a time, and ended, whatever happens in between."""

from __future__ import annotations

import logging
import threading
import time
import warnings
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, final

from .processes import MGMT_COMMAND, MGMT_RESPONSE, ActorType, ProcessServer, RunSteps, Runtime
from .waiting import LOOK, LavaError, LavaTimeout, Patient, Watch


@contextmanager
def root_logger_kept() -> Iterator[None]:
    """Within it processes are made: each of them adds a handler to the root logger, and those are taken away again."""
    root = logging.getLogger()
    before = list(root.handlers)
    try:
        yield
    finally:
        for handler in [h for h in root.handlers if h not in before]:
            root.removeHandler(handler)


@final
class LavaRun:
    """A runtime of connected processes. Use it as long as you like, then `stop` it; an error stops it too.

    processes: all of them.
    config:    Lava's RunConfig, which chooses their models.
    timeout:   seconds that any one answer may take.

    Raises `LavaTimeout` or `LavaError`, naming a process, here and in `run`; reading and writing variables does too.
    """

    def __init__(self, processes: Sequence[Any], config: Any, timeout: float) -> None:
        self._processes, self._watch = list(processes), Watch(timeout)
        weakref.finalize(self, self._watch.end)  # forgotten, or at the interpreter's end, which waits for them
        self.steps = 0
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "pandas not found", ImportWarning)  # networkx's, which needs none
            executable = self._processes[0].compile(config)
        self._runtime: Any = Runtime(executable, ActorType.MultiProcessing)
        executable.assign_runtime_to_all_processes(self._runtime)
        names = [process.name for process in executable.proc_builders] + ["runtime service"]
        try:
            with self._watch.asking(), self._given_up(names), warnings.catch_warnings():
                warnings.filterwarnings("ignore", ".*fork", DeprecationWarning)  # Lava knows no other way
                self._runtime.initialize()
            self._watch.actors = self._actors(names)
        except BaseException:
            self._watch.actors = self._actors(names)
            self._end()
            raise
        for name in ("runtime_to_service", "service_to_runtime"):
            ports = [Patient(port, self._watch, "its work") for port in getattr(self._runtime, name)]
            setattr(self._runtime, name, ports)
        self._runtime._is_started = True  # else variables could not be set before the first timestep

    def run(self, timesteps: int) -> None:
        """So many timesteps more."""
        runtime, self.steps = self._runtime, self.steps + timesteps
        try:
            runtime.start(RunSteps(num_steps=timesteps, blocking=False))
            for port in runtime.service_to_runtime:
                if port.arrived()[0] == MGMT_RESPONSE.ERROR[0]:
                    raise self._failed()
            runtime.wait()
        except BaseException:
            self._end()
            raise

    def stop(self) -> None:
        """End all processes; twice is safe."""
        if self._runtime is None:
            return
        if not self._watch.actors:  # they were ended by an error
            self._end()
            return
        try:
            for port in self._runtime.runtime_to_service:
                port.send(MGMT_COMMAND.STOP)
            for port in self._runtime.service_to_runtime:
                port.recv()
        except LavaError:
            self._end()
        else:
            self._end(grace=self._watch.timeout)

    @property
    def running(self) -> bool:
        """Whether it was not stopped."""
        return self._runtime is not None

    def _end(self, grace: float = 0.0) -> None:
        """Without asking those that have not ended by themselves after the grace."""
        runtime, self._runtime = self._runtime, None
        if runtime is None:
            return
        self._watch.end(grace)
        runtime._is_started = runtime._is_running = False
        runtime.join()
        runtime._messaging_infrastructure.stop()
        known = ProcessServer().processes
        for process in self._processes:
            process._runtime = None
            if process in known:
                known.remove(process)

    def _actors(self, names: Sequence[str]) -> dict[str, Any]:
        return dict(zip(names, self._runtime._messaging_infrastructure.actors, strict=False))

    def _failed(self) -> LavaError:
        """The error of a model, which arrives a little after the news of it."""
        end = time.monotonic() + self._watch.timeout
        while time.monotonic() < end:
            error = self._watch.failure("its work")
            if error is not None:
                return error
            time.sleep(LOOK)
        return LavaError("a process of Lava's failed, and did not say why")

    @contextmanager
    def _given_up(self, names: Sequence[str]) -> Iterator[None]:
        """Lava waits for each process to say that it is built; here it is told so after the timeout."""

        def give_up() -> None:
            self._watch.actors = self._actors(names)
            error: Any = LavaTimeout(f"{self._watch.blame()} its start within {self._watch.timeout:g} s: set timeout")
            error.trace = ""
            for queue in list(self._runtime.exception_q):
                queue.put(error)

        timer = threading.Timer(self._watch.timeout, give_up)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
