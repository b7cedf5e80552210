"""Deployment targets: a trained network as a folder that a Loihi host runs with lava-nc and NumPy, and nothing of ours.

    program.json      shapes, exponents, phases, thresholds, source run, SHA-256 of every other file
    arrays.npz        mantissas, biases, payloads of test samples, their labels, and the states they settle to
    mep_neuro_lava/   kernels, Lava processes and what runs them: copies of this package's files
    run.py, README.md

The states are those of the integer kernels; `run.py --target sim` runs the Lava processes and compares.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import secrets
import shutil
import string
from collections.abc import Mapping
from importlib import resources as files
from importlib.metadata import version
from pathlib import Path
from typing import Any, final

import numpy as np

from mep_neuro.errors import CapabilityError
from mep_neuro.files import writable_folder
from mep_neuro.target import Bundle, Target, Trained
from mep_neuro.types import Nudge
from mep_neuro_lava import checks
from mep_neuro_lava.backend import LoihiBackend
from mep_neuro_lava.kernels.fixed import Ints
from mep_neuro_lava.resources import LOIHI_1, LOIHI_2, Resources, resources

FORMAT = 1
"""Of program.json and arrays.npz; bundle/run.py reads the same."""
COPIED = ("compat.py", "graph.py", "machine.py", "plan.py", "runtime.py", "waiting.py", "kernels", "processes")
"""Of this package; all import NumPy, Lava and each other only."""


@final
class Loihi2(Target):
    """Loihi 2: graded spikes, programmable neurons."""

    substrate = "loihi"

    def export(self, trained: Trained, folder: Path) -> Bundle:
        with LoihiBackend(trained.network, seed=trained.seed, **trained.options) as substrate:
            parameters = {name: p.detach().double().numpy() for name, p in trained.network.parameters.items()}
            substrate.program(parameters)
            taken = resources(substrate.held, LOIHI_2)
            document, arrays, accuracy = _recorded(substrate, trained)
        document["resources"] = {"cores": taken.cores, "neurons": taken.neurons, "synapses": taken.synapses}
        _write(folder, document, arrays, _readme(trained, taken, accuracy))
        return Bundle(folder, accuracy, len(trained.x), _table(taken), _notes(taken))


@final
class Loihi1(Target):
    """Loihi 1, which is refused: its spikes carry no number."""

    substrate = "loihi"

    def export(self, trained: Trained, folder: Path) -> Bundle:
        raise CapabilityError(
            f"{LOIHI_1.title} has binary spikes and neurons of fixed equations; this network's neurons send graded "
            "payloads and are nudged, which takes Loihi 2: deploy with --to loihi2. A network of binary spikes is "
            "another one, whose rates stand for the payloads: train it on the backend 'brian2'"
        )


def _recorded(substrate: LoihiBackend, trained: Trained) -> tuple[dict[str, Any], dict[str, Ints], float]:
    """program.json but for its checksums, arrays.npz, and the share of samples that are right."""
    x, labels = trained.x.double().numpy(), trained.labels.numpy()
    target = np.eye(trained.network.outputs.size)[labels]
    nudge = Nudge(trained.beta, target)
    free = substrate.settle(x)
    nudged = substrate.settle(x, nudge=nudge, start=free)
    pull = checks.pull(nudge, trained.network, substrate.formats, len(x))
    unit = 2.0**substrate.formats.fraction
    arrays = {
        **substrate.plan.arrays(),
        "x": substrate.payloads(x),
        "target": unit * target,
        "labels": labels.astype(np.float64),
    }
    for level, (at_rest, pulled) in enumerate(zip(free.states, nudged.states, strict=True)):
        arrays[f"free_{level}"] = unit * at_rest.reshape(len(x), -1)
        arrays[f"nudged_{level}"] = unit * pulled.reshape(len(x), -1)
    right = free.outputs.argmax(1) == labels
    document = {
        "format": FORMAT,
        "written_by": f"mep-neuro {version('mep-neuro')}",
        "source": dict(trained.source),
        "sizes": list(substrate.plan.sizes),
        "plan": substrate.plan.document(),
        "beta": trained.beta,
        "pull": pull.pull,
        "samples": len(x),
        "accuracy_at_export": float(right.mean()),
    }
    return document, arrays, float(right.mean())


def _write(folder: Path, document: dict[str, Any], arrays: Mapping[str, Ints], readme: str) -> None:
    """The folder, whole or not at all."""
    above = writable_folder(folder.parent)
    part = above / f".mep-{secrets.token_hex(8)}.part"
    try:
        ours, package = files.files("mep_neuro_lava"), part / "mep_neuro_lava"
        with files.as_file(ours) as source:
            package.mkdir(parents=True)
            (package / "__init__.py").write_text('"""What run.py runs: copies of mep-neuro\'s files."""\n')
            for name in COPIED:
                if (source / name).is_dir():
                    shutil.copytree(source / name, package / name, ignore=shutil.ignore_patterns("__pycache__"))
                else:
                    shutil.copyfile(source / name, package / name)
            shutil.copyfile(source / "bundle" / "run.py", part / "run.py")
        (part / "README.md").write_text(readme, encoding="utf-8")
        (part / "arrays.npz").write_bytes(_npz(arrays))
        written = sorted(path for path in part.rglob("*") if path.is_file())
        document["sha256"] = {p.relative_to(part).as_posix(): _sha256(p) for p in written}
        (part / "program.json").write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
        part.replace(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _npz(arrays: Mapping[str, Ints]) -> bytes:
    """Whole numbers, in 32 bits."""
    file = io.BytesIO()
    whole: dict[str, Any] = {name: value.astype(np.int32) for name, value in arrays.items()}
    np.savez_compressed(file, **whole)
    return file.getvalue()


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _table(taken: Resources) -> tuple[tuple[str, ...], ...]:
    head = ("population", "neurons", "synapses", "cores", "neurons a core", "synapses a core", "bytes a core")
    rows = []
    for s in taken.shares:
        a_core = (math.ceil(whole / s.cores) for whole in (s.neurons, s.synapses, s.bytes))
        rows.append((s.population, *(f"{n:,}" for n in (s.neurons, s.synapses, s.cores, *a_core))))
    return (head, *rows, ("all", f"{taken.neurons:,}", f"{taken.synapses:,}", f"{taken.cores:,}", "", "", ""))


def _notes(taken: Resources) -> tuple[str, ...]:
    chip = taken.chip
    read = "" if chip.verified else " (quoted from memory, not read again)"
    return (
        f"{chip.title}: {chip.cores} cores of at most {chip.neurons:,} neurons and {chip.memory:,} bytes. An estimate: "
        "one byte a synapse, 24-bit registers, no population shares a core; the chip's own compiler decides.",
        f"Limits: {chip.source}{read}.",
    )


def _readme(trained: Trained, taken: Resources, accuracy: float) -> str:
    text = (files.files("mep_neuro_lava") / "bundle" / "README.md").read_text(encoding="utf-8")
    table = _table(taken)
    rows = ["| " + " | ".join(row) + " |" for row in table]
    return string.Template(text).substitute(
        run=trained.source["run"],
        data=trained.source["data"],
        sizes=" - ".join(str(share.neurons) for share in taken.shares),
        samples=len(trained.x),
        accuracy=f"{100 * accuracy:.2f}",
        resources="\n".join([rows[0], "| " + " | ".join("---" for _ in table[0]) + " |", *rows[1:]]),
        notes="\n".join(_notes(taken)),
    )
