"""mep-neuro deploy."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mep_neuro.cli.options import DataDir, Json, Set, backend_options
from mep_neuro.deployment import deploy as write_bundle
from mep_neuro.reports import print_bundle, print_json


def deploy(
    run: Annotated[Path, typer.Argument(help="Folder of a run, as mep-neuro train --out wrote it.")],
    to: Annotated[str, typer.Option(help="The chip: loihi2.")],
    out: Annotated[Path, typer.Option(help="Folder of the bundle, a new one.")],
    samples: Annotated[int, typer.Option(help="Test samples that go into the bundle.")] = 100,
    set_: Set = [],  # noqa: B006
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Write a trained run out as a bundle that a chip's host runs, and say what it takes of the chip."""
    bundle = write_bundle(run, to, out, samples=samples, options=backend_options(set_), data_dir=data_dir)
    if as_json:
        print_json(
            {
                "bundle": str(bundle.folder),
                "accuracy": bundle.accuracy,
                "samples": bundle.samples,
                "resources": [dict(zip(bundle.table[0], row, strict=True)) for row in bundle.table[1:]],
                "notes": list(bundle.notes),
            }
        )
    else:
        print_bundle(bundle)
