"""A Lava run that fails, hangs or is forgotten: the error names the process, and nothing is left of it."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from typing import Any

import numpy as np
import pytest
from test_loihi_backend import network

from mep_neuro_lava import LavaBackend, LavaRunError
from mep_neuro_lava.waiting import LavaTimeout, Watch

LAVA = LavaBackend.availability()
needs_lava = pytest.mark.skipif(not LAVA, reason=f"{LAVA.reason}: {LAVA.cure}")
pytestmark = pytest.mark.timeout(60)
X = np.array([[0.5, -0.5, 1.0]])


def opened(**options: Any) -> LavaBackend:
    net = network(3, 4, 2)
    substrate = LavaBackend(net, timesteps=(3, 2), **options)
    substrate.program({name: p.detach().numpy() for name, p in net.parameters.items()})
    return substrate


def actors(substrate: LavaBackend) -> dict[str, Any]:
    """The OS processes of the graph that settles, by name."""
    assert substrate._machine._settling is not None
    return dict(substrate._machine._settling[1]._run._watch.actors)


def hasten(substrate: LavaBackend) -> None:
    """Half a second of patience with a graph that is open."""
    substrate._machine._settling[1]._run._watch.timeout = 0.5


def left() -> list[Any]:
    return multiprocessing.active_children()


@needs_lava
def test_nothing_is_left_after_close() -> None:
    handlers, threads = list(logging.getLogger().handlers), threading.active_count()
    handler = signal.getsignal(signal.SIGUSR1)
    with opened() as substrate:
        substrate.settle(X)
        substrate.learn(X, np.ones((1, 2)), rate=0.1, beta=0.5)
        assert logging.getLogger().handlers == handlers
        assert len(left()) >= 2 * 7  # two graphs of at least six processes and a service
        assert set(actors(substrate)) >= {"population 1", "population 2", "the inputs", "runtime service", "probe 1"}
    assert left() == []
    assert logging.getLogger().handlers == handlers
    assert signal.getsignal(signal.SIGUSR1) == handler
    end = time.monotonic() + 5
    while threading.active_count() > threads and time.monotonic() < end:
        threading.Event().wait(0.01)
    assert threading.active_count() == threads
    substrate.close()
    substrate.close()
    assert substrate.settle(X).steps == 3  # it opens again
    substrate.close()
    assert left() == []


@needs_lava
def test_lava_keeps_nothing_of_a_closed_graph() -> None:
    from mep_neuro_lava.processes import ProcessServer

    known = len(ProcessServer().processes)
    with opened() as substrate:
        substrate.settle(X)
        assert len(ProcessServer().processes) > known
    assert len(ProcessServer().processes) == known


@needs_lava
def test_nothing_is_left_when_an_error_passes() -> None:
    def interrupted() -> None:
        with opened() as substrate:
            substrate.settle(X)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert left() == []


@needs_lava
def test_a_process_that_was_stopped_is_named() -> None:
    with opened() as substrate:
        before = substrate.settle(X)
        hasten(substrate)
        os.kill(actors(substrate)["population 2"].pid, signal.SIGSTOP)
        with pytest.raises(LavaRunError, match=r"process 'population 2' hangs: .* within 0\.5 s") as caught:
            substrate.settle(X)
        assert isinstance(caught.value.__cause__, LavaTimeout)
        assert left() == []
        assert np.array_equal(substrate.settle(X).outputs, before.outputs)
        hasten(substrate)
        os.kill(actors(substrate)["the inputs"].pid, signal.SIGSTOP)
    assert left() == []


@needs_lava
def test_a_process_that_died_is_named() -> None:
    with opened() as substrate:
        substrate.settle(X)
        os.kill(actors(substrate)["the connection from population 1 to population 2"].pid, signal.SIGKILL)
        with pytest.raises(LavaRunError, match=r"'the connection from population 1 to population 2' \(exit code -9\)"):
            substrate.settle(X)
        assert left() == []


def forever(*_: Any) -> None:
    """Where a model hangs."""
    while True:
        pass


@needs_lava
def test_a_model_that_hangs_is_named_with_the_place(monkeypatch: pytest.MonkeyPatch) -> None:
    from mep_neuro_lava.processes import models

    monkeypatch.setattr(models.PyEPNeuronFixed, "told", forever)
    with opened(timeout=3.0) as substrate:
        with pytest.raises(LavaRunError, match=r"process .*'population 1' \(File .*test_lava_runtime.py.* in forever"):
            substrate.learn(X, np.ones((1, 2)), rate=0.1, beta=0.5)
        assert left() == []


@needs_lava
def test_a_model_that_never_starts_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from mep_neuro_lava.processes import edge_models

    monkeypatch.setattr(edge_models.PyClampFixed, "__init__", forever)
    with opened(timeout=2.0) as substrate, pytest.raises(LavaRunError, match=r"'the inputs' .*forever.* its start"):
        substrate.settle(X)
    assert left() == []


@needs_lava
def test_a_model_that_fails_is_named_with_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    from mep_neuro_lava.processes import edge_models

    def fails(*_: Any) -> None:
        raise ZeroDivisionError("on purpose")

    monkeypatch.setattr(edge_models.PyClampFixed, "run_spk", fails)
    with (
        opened() as substrate,
        pytest.raises(LavaRunError, match=r"(?s)'the inputs' failed:.*ZeroDivisionError: on pur"),
    ):
        substrate.settle(X)
    assert left() == []


SCRIPT = """
import os, sys
import numpy as np
sys.path.insert(0, sys.argv[1])
from test_lava_runtime import X, actors, opened
substrate = opened()
substrate.settle(X)
print(*(actor.pid for actor in actors(substrate).values()), flush=True)
if sys.argv[2] == "killed":
    os.kill(os.getpid(), 9)
"""


@needs_lava
@pytest.mark.parametrize("end", ["forgotten", "killed"])
def test_no_process_outlives_the_program(end: str) -> None:
    """Also of a substrate that nobody closed, and of a program that was killed."""
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT, os.path.dirname(__file__), end], capture_output=True, text=True, timeout=40
    )
    assert run.returncode == (0 if end == "forgotten" else -9), run.stderr
    pids = [int(pid) for pid in run.stdout.split()]
    assert len(pids) >= 7
    late = time.monotonic() + 10
    while any(alive(pid) for pid in pids) and time.monotonic() < late:
        threading.Event().wait(0.05)
    assert not any(alive(pid) for pid in pids)


def alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_wait_has_an_end_and_blames_somebody() -> None:
    watch = Watch(0.01)
    with pytest.raises(LavaTimeout, match=r"wait for each other: none has finished its work within 0\.01 s"):
        watch.wait(lambda seconds: False, "its work")


def test_without_lava_it_says_so_and_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "lava"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "lava", None)
    found = LavaBackend.availability()
    assert not found
    assert found.reason == "lava-nc is not installed"
    for python, words in (((3, 10), 'pip install "mep-neuro[lava]"'), ((3, 11), "--ignore-requires-python --no-deps")):
        monkeypatch.setattr(sys, "version_info", (*python, 0))
        assert words in LavaBackend.availability().cure
