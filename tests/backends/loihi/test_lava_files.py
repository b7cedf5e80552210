"""What stands without mep-neuro: the plan as a file, the import of Lava, and the files of a deployment bundle."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import io
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from test_loihi_backend import network, opened

import mep_neuro_lava
from mep_neuro.types import Nudge
from mep_neuro_lava import LavaBackend
from mep_neuro_lava.plan import Plan

LAVA = LavaBackend.availability()
needs_lava = pytest.mark.skipif(not LAVA, reason=f"{LAVA.reason}: {LAVA.cure}")
pytestmark = pytest.mark.timeout(60)
FILES = ("compat.py", "graph.py", "machine.py", "plan.py", "runtime.py", "waiting.py", "kernels", "processes")
RNG = np.random.default_rng(11)


def test_a_plan_comes_back_from_json_and_arrays() -> None:
    plan = opened(network(3, 5, 4, 2)).plan
    file = io.BytesIO()
    np.savez(file, **plan.arrays())
    file.seek(0)
    with np.load(file, allow_pickle=False) as arrays:
        back = Plan.of(json.loads(json.dumps(plan.document())), arrays)
    assert back.document() == plan.document()
    assert all(np.array_equal(value, back.arrays()[name]) for name, value in plan.arrays().items())
    for field in dataclasses.fields(Plan):
        if field.name not in ("synapses", "biases"):
            assert getattr(back, field.name) == getattr(plan, field.name)
    assert back.sizes == (3, 5, 4, 2)


def test_events_are_those_that_are_counted() -> None:
    substrate = opened(network(3, 5, 4, 2), timesteps=(6, 3))
    free = substrate.settle(RNG.uniform(-1, 1, (2, 3)))
    counts = substrate.counts()
    settled = substrate._machine.settle(substrate.held, free.context.x, 6, pull=None, states=None, drives=None)
    assert substrate.plan.events(settled.inputs, settled.sent) == counts["free", "synaptic_events"]


BUNDLE = """
import json, os, sys
import numpy as np

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "mep_neuro"):
            raise ImportError(name)

sys.meta_path.insert(0, Refuse())
from mep_neuro_lava.machine import Machine
from mep_neuro_lava.plan import Plan, Pull
from mep_neuro_lava.processes import Loihi2SimCfg

chosen = {}

class Prefer(Loihi2SimCfg):
    def select(self, process, models):
        mine = [m for m in models if m.__module__.endswith("ncmodels")]
        chosen[process.name] = mine[0].__name__ if mine else ""
        return mine[0] if mine else super().select(process, models)

with np.load("arrays.npz", allow_pickle=False) as stored:
    arrays = dict(stored)
with open("plan.json") as file:
    plan = Plan.of(json.load(file), arrays)
x = arrays["x"]
with Machine(plan, timeout=20.0, config=Prefer(select_tag="fixed_pt")) as machine:
    free = machine.settle(x)
    nudged = machine.settle(x, pull=Pull(2048, arrays["target"]), states=free.states, drives=free.drives)
print(json.dumps({
    "states": [[s.tolist() for s in phase.states] for phase in (free, nudged)],
    "events": [plan.events(phase.inputs, phase.sent) for phase in (free, nudged)],
    "chosen": chosen,
}))
"""

NCMODELS = """
from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol
from mep_neuro_lava.processes.edge_models import PyClampFixed
from mep_neuro_lava.processes.process import Clamp

@implements(proc=Clamp, protocol=LoihiProtocol)
@requires(CPU)
@tag("dropped_in")
class DroppedIn(PyClampFixed):
    pass
"""


@needs_lava
def test_the_files_of_a_bundle_run_alone_and_find_models_put_beside_them(tmp_path: Path) -> None:
    """With no torch, no mep_neuro and an empty package above; Lava runs no file but those of processes/."""
    substrate = opened(network(3, 5, 4, 2), timesteps=(9, 5))
    x, target = RNG.uniform(-1, 1, (2, 3)), RNG.uniform(0, 1, (2, 2))
    free = substrate.settle(x)
    nudged = substrate.settle(x, nudge=Nudge(0.5, target), start=free)
    counts = substrate.counts()
    here, package = Path(mep_neuro_lava.__file__).parent, tmp_path / "mep_neuro_lava"
    package.mkdir()
    for name in FILES:
        (shutil.copytree if (here / name).is_dir() else shutil.copyfile)(here / name, package / name)
    (package / "__init__.py").touch()
    (package / "trap.py").write_text("raise SystemExit('Lava ran a file that is none of the processes')")
    (package / "processes" / "ncmodels.py").write_text(NCMODELS)
    goal = np.floor(target * 2**16 + 0.5)
    np.savez(tmp_path / "arrays.npz", x=substrate.payloads(x), target=goal, **substrate.plan.arrays())
    (tmp_path / "plan.json").write_text(json.dumps(substrate.plan.document()))
    (tmp_path / "run.py").write_text(BUNDLE)
    run = subprocess.run([sys.executable, "run.py"], cwd=tmp_path, capture_output=True, text=True, timeout=50)
    assert run.returncode == 0, run.stderr
    assert "Cannot import" not in run.stderr
    found = json.loads(run.stdout)
    for phase, equilibrium in zip(found["states"], (free, nudged), strict=True):
        assert all(np.array_equal(np.array(a) * 2.0**-16, b) for a, b in zip(phase, equilibrium.states, strict=True))
    assert found["events"] == [counts[phase, "synaptic_events"] for phase in ("free", "nudged")]
    assert found["chosen"]["the inputs"] == "DroppedIn"
    assert found["chosen"]["population 1"] == ""


@needs_lava
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_lava_is_imported_without_a_trace(method: str) -> None:
    """Nothing stays changed, also where forking was chosen before; another way to start processes is refused."""
    script = (
        "import dataclasses, multiprocessing as m\n"
        f"m.set_start_method({method!r})\n"
        "before = dataclasses.dataclass, m.set_start_method\n"
        "try:\n    import mep_neuro_lava.machine\n"
        "except RuntimeError as error:\n    print(error)\n"
        "assert (dataclasses.dataclass, m.set_start_method) == before\n"
    )
    run = subprocess.run([sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, timeout=50)
    assert run.returncode == 0, run.stderr
    assert ("Lava forks its processes, and this program starts them by 'spawn'" in run.stdout) == (method == "spawn")


@needs_lava
def test_it_is_the_version_that_was_tried() -> None:
    assert importlib.metadata.version("lava-nc") == "0.10.0"
