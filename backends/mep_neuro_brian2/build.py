"""python -m mep_neuro_brian2.build FOLDER: writes the C++ program that FOLDER/spec.json and FOLDER/wiring.npz
describe into FOLDER/program. A process of its own, as Brian2's standalone mode is a setting of the whole process."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

from mep_neuro_brian2.equations import write_program
from mep_neuro_brian2.layout import Layout
from mep_neuro_brian2.options import Timing


def main(folder: Path) -> None:
    """Write the program, and write down the program's own names."""
    spec = json.loads((folder / "spec.json").read_text())
    capacity, bounds = spec.pop("capacity"), tuple(spec.pop("bounds"))
    with np.load(folder / "wiring.npz", allow_pickle=False) as wiring:
        layout = Layout(bounds=bounds, dense=(), **wiring)
    names = write_program(layout, Timing(**spec), capacity, folder / "program")
    (folder / "program" / "names.json").write_text(json.dumps(names))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
