"""mep-neuro backends, profiles and data: what there is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Column, Table

from mep_neuro import data as data_sets
from mep_neuro.cli.options import DataDir, Json
from mep_neuro.errors import BackendUnavailable, InputError
from mep_neuro.profiles import hardware_profile, profile_names, profile_path
from mep_neuro.registry import backend_class, backend_names
from mep_neuro.reports import OUT, print_json, print_profile, print_profiles


def backends(as_json: Json = False) -> None:
    """List the backends, whether each runs here, and if not, why and what mends it."""
    rows = []
    for name in backend_names():
        try:
            kind = backend_class(name)
            here = kind.availability()
            rows.append((name, bool(here), here.reason, here.cure, (kind.__doc__ or "").partition("\n")[0]))
        except BackendUnavailable as error:
            rows.append((name, False, str(error), "", ""))
    if as_json:
        keys = ("name", "available", "reason", "cure", "describes")
        print_json([dict(zip(keys, row, strict=True)) for row in rows])
        return
    table = Table("backend", "runs here", "what it is, or why not")
    for name, available, reason, cure, describes in rows:
        why_not = "; ".join(part for part in (reason, cure) if part)
        table.add_row(name, "yes" if available else "no", describes if available else why_not)
    OUT.print(table)


def profiles(
    name: Annotated[
        str | None, typer.Argument(help="A profile, NAME or NAME:SCENARIO or a .toml file; or `check`.")
    ] = None,
    file: Annotated[Path | None, typer.Argument(help="The .toml file to check.")] = None,
    as_json: Json = False,
) -> None:
    """List the hardware profiles, show one with its sources, or check a file of your own: profiles check FILE."""
    if name == "check":
        if file is None:
            raise InputError("profiles check needs a file: mep-neuro profiles check my_chip.toml")
        shown = [hardware_profile(profile_path(file))]
    elif file is not None:
        raise InputError(
            f"profiles takes one name, and got {name!r} and {str(file)!r}: for a file, profiles check FILE"
        )
    else:
        shown = [hardware_profile(each) for each in ([name] if name else profile_names())]
    if as_json:
        print_json([profile.model_dump(mode="json", by_alias=True) for profile in shown])
    elif name is None:
        print_profiles(shown)
    else:
        print_profile(shown[0])
        if file is not None:
            OUT.print(f"{file} can be used: --profiles {file}", soft_wrap=True)


def data_list(data_dir: DataDir = None, as_json: Json = False) -> None:
    """List the data sets, and where each is found."""
    rows = [(name, data_sets.located(name, data_dir)) for name in data_sets.data_names()]
    if as_json:
        print_json([{"name": name, "folder": None if folder is None else str(folder)} for name, folder in rows])
        return
    table = Table("data set", Column("where", overflow="fold"), Column("MB", justify="right"))
    for name, folder in rows:
        size = f"{data_sets.size_in_bytes(name, data_dir) / 1e6:.1f}" if folder else ""
        table.add_row(name, str(folder) if folder else f"not here: mep-neuro data get {name}", size)
    OUT.print(table)


def data_get(name: Annotated[str, typer.Argument(help="digits, mnist or fashion-mnist.")]) -> None:
    """Download a data set into mep-neuro's cache, checked byte for byte."""
    folder = data_sets.fetch(name)
    OUT.print(f"{name} is in {folder}", soft_wrap=True)
