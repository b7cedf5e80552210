"""Deployment: a trained run written out for a chip, by name, through the entry-point group `mep_neuro.targets`."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from mep_neuro.checkpoints import read_checkpoint
from mep_neuro.errors import BackendNotFound, InputError, did_you_mean
from mep_neuro.network import EnergyNetwork
from mep_neuro.registry import backend_class, check_options
from mep_neuro.runs import settings_of
from mep_neuro.target import Bundle, Target, Trained

GROUP = "mep_neuro.targets"


def target_names() -> tuple[str, ...]:
    """Names of all chips that an installed backend deploys to."""
    return tuple(sorted({point.name for point in entry_points(group=GROUP)}))


def deployment_target(name: str) -> Target:
    """A target by name. Raises `BackendNotFound` with the nearest name."""
    for point in entry_points(group=GROUP):
        if point.name == name:
            found: Target = point.load()()
            return found
    names = target_names()
    raise BackendNotFound(f"no target {name!r}; there are: {', '.join(names) or 'none'}.{did_you_mean(name, names)}")


def deploy(
    run: Path,
    to: str,
    out: Path,
    *,
    samples: int = 100,
    options: Mapping[str, Any] | None = None,
    data_dir: Path | None = None,
) -> Bundle:
    """Write a trained run out as a bundle for a chip.

    run:     folder of `mep-neuro train`; its last checkpoint is taken.
    to:      one of `target_names()`.
    out:     the bundle's folder, which must not be there or be empty.
    samples: test samples that go into the bundle, the first ones.
    options: of the target's substrate, beside those of the run where it was trained on that substrate.

    Raises `InputError` for a folder that holds no run, or where something stands in `out` already.
    """
    chip, settings = deployment_target(to), settings_of(run)
    if samples < 1:
        raise InputError(f"samples is {samples}; a bundle holds at least 1")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out} is there already: give a new folder")
    own = settings.options if settings.backend == chip.substrate else {}
    wanted = {**own, **(options or {})}
    check_options(chip.substrate, backend_class(chip.substrate), wanted)
    network = EnergyNetwork.from_module(settings.model(), energy=settings.energy)
    checkpoint = run / "last.pt"
    network.module.load_state_dict(read_checkpoint(checkpoint, network)["module"])
    data = settings.data_set(data_dir)
    trained = Trained(
        network=network,
        options=wanted,
        seed=settings.seed,
        beta=settings.beta,
        x=data.x_test[:samples],
        labels=data.y_test[:samples],
        source={
            "run": run.resolve().name,
            "backend": settings.backend,
            "data": settings.data,
            "checkpoint": checkpoint.name,
            "sha256": hashlib.sha256(checkpoint.read_bytes()).hexdigest(),
        },
    )
    return chip.export(trained, out)
