"""Run this bundle's network:  python run.py --target sim --samples 20

sim: Lava's simulation of the processes, on this machine; no chip is involved. It prints how many samples are right, and
how many neurons end in another state than was recorded when the bundle was made (0, or something is wrong).
hw:  a Loihi 2 board, through Intel's extension of Lava.

Needs lava-nc and NumPy, on Python 3.10 or later (README.md).
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))  # this bundle's mep_neuro_lava, also where mep-neuro is installed
FORMAT = 1
NEURON_MODELS = HERE / "mep_neuro_lava" / "processes" / "ncmodels.py"


class BundleError(Exception):
    """The bundle cannot be run as asked; the message says why, and what to do."""


def checked(folder: Path) -> dict[str, Any]:
    """program.json of a bundle whose files are those that were written. Raises `BundleError` where they are not."""
    try:
        program: dict[str, Any] = json.loads((folder / "program.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BundleError(f"program.json cannot be read ({error}): copy the bundle again") from error
    found = program.get("format")
    if found != FORMAT:
        raise BundleError(
            f"this bundle has format {found}, and its run.py reads {FORMAT}: use the run.py that came with it"
        )
    for name, wanted in program["sha256"].items():
        path = folder / name
        if not path.is_file():
            raise BundleError(f"{name} is missing: copy the whole bundle again")
        if hashlib.sha256(path.read_bytes()).hexdigest() != wanted:
            raise BundleError(f"{name} is not as it was written (its checksum differs): copy the bundle again")
    return program


def check_hardware() -> None:
    """Raise `BundleError` unless a board can be asked, saying what is missing and where it goes."""
    if not _there("lava.magma.core.model.nc.model"):
        raise BundleError(
            "no Loihi here: Lava's extension for Loihi (lava-loihi, with lava.magma.core.model.nc) is not installed. "
            "Intel gives it to members of its Neuromorphic Research Community, for hosts with a Loihi 2 board. "
            f"You also need {NEURON_MODELS.relative_to(HERE)}: microcode for the processes of this bundle (README.md)"
        )
    if not NEURON_MODELS.is_file():
        raise BundleError(
            f"Lava's extension is here, but {NEURON_MODELS.relative_to(HERE)} is not: write NcProcessModels in it for "
            "the processes of processes/process.py, which Lava finds by itself; README.md says what they must compute"
        )


def run(program: dict[str, Any], target: str, samples: int, timeout: float) -> int:
    """Let samples settle, and print what came of it; the exit code, 1 where states differ."""
    try:
        import numpy as np

        from mep_neuro_lava.machine import Machine
        from mep_neuro_lava.plan import Plan, Pull
        from mep_neuro_lava.waiting import LavaError
    except ImportError as error:
        raise BundleError(f"{error}: install Lava and NumPy, as README.md says") from error
    with np.load(HERE / "arrays.npz", allow_pickle=False) as stored:
        arrays = {name: stored[name].astype(float) for name in stored.files}
    config = None
    if target == "hw":
        from mep_neuro_lava.processes import Loihi2HwCfg

        config = Loihi2HwCfg()
    plan, right, differing = Plan.of(program["plan"], arrays), 0, 0
    try:
        with Machine(plan, timeout=timeout, config=config) as machine:
            for row in range(samples):
                print(f"\rsample {row + 1} of {samples}", end="", file=sys.stderr, flush=True)
                one = slice(row, row + 1)
                free = machine.settle(arrays["x"][one])
                pull = Pull(program["pull"], arrays["target"][one])
                nudged = machine.settle(arrays["x"][one], pull=pull, states=free.states, drives=free.drives)
                right += int(free.states[-1].argmax() == arrays["labels"][row])
                for phase, states in (("free", free.states), ("nudged", nudged.states)):
                    recorded = (arrays[f"{phase}_{level}"][one] for level in range(len(states)))
                    differing += sum(int((a != b).sum()) for a, b in zip(states, recorded, strict=True))
    except LavaError as error:
        raise BundleError(str(error)) from error
    print(file=sys.stderr)
    compared = 2 * samples * sum(plan.sizes[1:])
    what = "Lava's simulation, no chip" if target == "sim" else "the board"
    print(f"{what}: {right} of {samples} samples right ({100 * right / samples:.2f} %)")
    print(f"states that differ from those recorded at export: {differing} of {compared:,}, free and nudged")
    return 0 if differing == 0 else 1


def _there(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ImportError:
        return False


def main(arguments: list[str] | None = None) -> int:
    """The command; its exit code."""
    parser = argparse.ArgumentParser(description="Run this bundle's network.")
    parser.add_argument("--target", choices=("sim", "hw"), default="sim", help="simulation, or a Loihi 2 board")
    parser.add_argument("--samples", type=int, default=20, help="of those in the bundle, the first ones")
    parser.add_argument("--timeout", type=float, default=120.0, help="seconds to wait for any one answer of Lava's")
    given = parser.parse_args(arguments)
    try:
        program = checked(HERE)
        there = program["samples"]
        if not 1 <= given.samples <= there:
            raise BundleError(f"--samples {given.samples}: the bundle holds {there}; give 1 to {there}")
        if given.target == "hw":
            check_hardware()
        return run(program, given.target, given.samples, given.timeout)
    except BundleError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
