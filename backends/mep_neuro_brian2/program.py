"""Brian2's C++ standalone mode: one program for each network, built once by a process of its own and kept in a cache.

The program takes a schedule, weights and biases as files, and leaves files: no global device of Brian2's is touched in
this process, and a program that is there needs no Brian2 to run.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import platform
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from mep_neuro.datafiles import cache_folder
from mep_neuro.errors import BackendUnavailable
from mep_neuro.files import writable_folder
from mep_neuro_brian2.engine import Learnt
from mep_neuro_brian2.layout import Array, Layout
from mep_neuro_brian2.options import Timing
from mep_neuro_brian2.schedule import Record, Rows, padded, record

log = logging.getLogger(__name__)

VALUES = 1 << 20
"""Values of a schedule's wide arrays, by which a program's number of rows is chosen: 8 MiB each."""

TAIL = 15
"""Lines of a failed build that are shown."""

WIRING = ("lower", "upper", "high", "slope", "offset", "fan")


class Program:
    """The compiled program of one network.

    cache: the folder that holds programs; None for mep-neuro's own in the user's cache.

    Raises `BackendUnavailable` with the compiler's last lines where the build fails.
    """

    def __init__(self, layout: Layout, timing: Timing, cache: Path | str | None) -> None:
        self._layout, self._timing = layout, timing
        self._capacity = max(64, VALUES // layout.neurons)
        self.settle_rows: int = 3 * ((self._capacity - 1) // 3)
        self.learn_rows: int = self.settle_rows
        programs = writable_folder(cache_folder() / "brian2" if cache is None else cache)
        self.folder = programs / self._key()
        self.built = not self.folder.exists()
        if self.built:
            self._build(programs)
        self._names: dict[str, str] = json.loads((self.folder / "names.json").read_text())

    def settle(self, weights: Array, biases: Array, rows: Rows) -> Record:
        """The rows in turn, each afresh."""
        nothing = np.zeros_like(weights), np.zeros_like(biases)
        return self.learn(weights, biases, rows, nothing).record

    def learn(self, weights: Array, biases: Array, rows: Rows, plastic: tuple[Array, Array]) -> Learnt:
        """The rows in turn, with learning on."""
        given = {self._names[name]: value for name, value in padded(rows, self._capacity).items()}
        given |= {"synapses.w": weights, "neurons.b": biases}
        given |= {"synapses.plastic_synapse": plastic[0], "neurons.plastic": plastic[1]}
        given["neurons.span"] = np.array([len(rows) * self._timing.phase + self._timing.step])
        with tempfile.TemporaryDirectory(prefix="mep-brian2-") as place:
            folder, arguments = Path(place), []
            for number, (name, value) in enumerate(given.items()):
                np.ascontiguousarray(value, np.float64).tofile(folder / f"given_{number}")
                arguments.append(f"{name}={folder / f'given_{number}'}")
            self._run(["--results_dir", f"{folder}{os.sep}", *arguments])
            left = {
                name: np.fromfile(folder / self._names[name]) for name in ("weights", "biases", "spikes", "membranes")
            }
        read = record(left["spikes"], left["membranes"], len(rows), self._layout.neurons)
        return Learnt(read, left["weights"], left["biases"])

    def _run(self, arguments: list[str]) -> None:
        command = [str(self.folder / "main"), *arguments]
        done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, check=False)
        if done.returncode or done.stderr:
            raise BackendUnavailable(
                f"the program in {self.folder} ended with {done.returncode}: {done.stderr.strip() or 'no word'}; "
                "delete that folder, and it is built anew"
            )

    def _spec(self) -> dict[str, object]:
        return {**asdict(self._timing), "capacity": self._capacity, "bounds": list(self._layout.bounds)}

    def _key(self) -> str:
        """A hash of all that the program depends on: the network, times, the code behind it, Brian2 and the machine."""
        code = [(Path(__file__).parent / name).read_bytes() for name in ("equations.py", "schedule.py", "build.py")]
        wiring = [getattr(self._layout, name).tobytes() for name in WIRING]
        versions = [metadata.version("brian2"), platform.machine(), platform.node()]
        parts = [json.dumps([self._spec(), versions]).encode(), *wiring, *code]
        return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()[:24]

    def _build(self, programs: Path) -> None:
        log.info("building a C++ program for %d neurons; it takes about half a minute", self._layout.neurons)
        began = time.perf_counter()
        with tempfile.TemporaryDirectory(prefix=".building-", dir=programs) as place:
            folder = Path(place)
            np.savez(folder / "wiring.npz", **{name: getattr(self._layout, name) for name in WIRING})
            (folder / "spec.json").write_text(json.dumps(self._spec()))
            environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p or os.getcwd() for p in sys.path)}
            _call([sys.executable, "-m", "mep_neuro_brian2.build", str(folder)], env=environment)
            _call(["make", f"-j{os.cpu_count() or 1}"], cwd=folder / "program")
            for leftover in (folder / "program").glob("**/*.o"):
                leftover.unlink()
            try:
                (folder / "program").rename(self.folder)
            except OSError:
                if not (self.folder / "names.json").exists():  # else another process was first
                    raise
        log.info("built in %.0f s: %s", time.perf_counter() - began, self.folder)


def _call(command: list[str], **where: Any) -> None:
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, **where)
    if done.returncode:
        last = "\n".join(done.stdout.strip().splitlines()[-TAIL:])
        raise BackendUnavailable(f"the C++ program could not be built; the last lines were:\n{last}")
