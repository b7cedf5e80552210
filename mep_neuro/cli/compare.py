"""mep-neuro compare, and mep-neuro account: what a sample costs, run by run or for a file of counts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mep_neuro.accounting import account as account_for
from mep_neuro.cli.options import (
    DEFAULTS,
    DataDir,
    Json,
    Measure,
    OutputActivation,
    Profiles,
    sensor,
    split_layers,
    split_names,
)
from mep_neuro.compare import compare as compare_runs
from mep_neuro.compare.comparison import PROFILES
from mep_neuro.compare.page import check_page
from mep_neuro.counts_file import read_counts
from mep_neuro.errors import BackendUnavailable, CapabilityError
from mep_neuro.files import writable_folder
from mep_neuro.network import EnergyNetwork
from mep_neuro.registry import backend as open_backend
from mep_neuro.registry import backend_class, backend_names
from mep_neuro.reports import ERROR, OUT, print_accounts, print_comparison, print_json
from mep_neuro.runs import RunSettings, default_layers, settings_from, settings_of


def account(
    counts: Annotated[Path, typer.Argument(help="A counts.json, such as `train` writes into a run's folder.")],
    profiles: Profiles = ",".join(PROFILES),
    strict: Annotated[bool, typer.Option("--strict", help="Refuse what a profile has no price for.")] = False,
    chips: Annotated[float, typer.Option(help="Chips whose static power is charged; may be a share of one.")] = 1.0,
    as_json: Json = False,
) -> None:
    """Account for a file of operation counts on hardware profiles."""
    read = read_counts(counts)
    reports = [account_for(read, name, strict=strict, chips=chips) for name in split_names(profiles)]
    if as_json:
        print_json({"counts": read.to_json(), "accounts": [report.to_json() for report in reports]})
    else:
        print_accounts(reports)


def compare(
    data: Annotated[str, typer.Option(help="digits, mnist or fashion-mnist.")] = DEFAULTS.data,
    layers: Annotated[
        str | None, typer.Option(help="Units of each population, by commas; left out: one hidden population.")
    ] = None,
    activation: Annotated[
        str | None, typer.Option(help="Of the hidden populations, as in train.")
    ] = DEFAULTS.activation,
    output_activation: OutputActivation = DEFAULTS.output_activation,
    energy: Annotated[str, typer.Option(help="As in train.")] = DEFAULTS.energy,
    backends: Annotated[
        str | None, typer.Option(help="Names, by commas; left out: all that run here, but for very slow ones.")
    ] = None,
    runs: Annotated[str | None, typer.Option(help="Folders of finished runs, by commas, to take as they are.")] = None,
    baseline: Annotated[str, typer.Option(help="backprop, or none.")] = "backprop",
    epochs: Annotated[int, typer.Option(help="Passes over the training data.")] = 5,
    seed: Annotated[int, typer.Option(help="Of all randomness.")] = DEFAULTS.seed,
    profiles: Profiles = ",".join(PROFILES),
    measure: Measure = "auto",
    out: Annotated[Path | None, typer.Option(help="Folder for compare.json and report.html.")] = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Train the same network on several backends and by backpropagation, and set accuracy and joules side by side."""
    folders = [Path(name) for name in split_names(runs)]
    if folders:
        settings = settings_of(folders[0])
    else:
        widths = default_layers(data) if layers is None else split_layers(layers)
        kinds = {"activation": activation, "output_activation": output_activation, "energy": energy}
        settings = settings_from({"data": data, "layers": widths, **kinds, "epochs": epochs, "seed": seed})
    if backends is None:
        names = [] if folders else [name for name in backend_names() if _takes_part(name, settings)]
    else:
        names = split_names(backends)
    if out is not None:
        check_page()
        writable_folder(out)
    found = compare_runs(
        settings,
        names,
        profiles=split_names(profiles),
        baseline=baseline,
        runs=folders,
        data_dir=data_dir,
        measure=sensor(measure),
    )
    written = () if out is None else found.write(out)
    if as_json:
        print_json(found.document)
        return
    print_comparison(found.document)
    for path in written:
        OUT.print(f"Written: {path}", soft_wrap=True)


def _takes_part(name: str, settings: RunSettings) -> bool:
    """Whether a backend runs here and can hold the network; that it cannot is said."""
    try:
        kind = backend_class(name)
        if not kind.availability():
            return False
        if kind.capabilities.on_request:
            ERROR.print(f"{name} is left out: it is slow; name it in --backends to have it")
            return False
        open_backend(name, EnergyNetwork.from_module(settings.model(), energy=settings.energy)).close()
    except BackendUnavailable:
        return False
    except CapabilityError as reason:
        ERROR.print(f"{name} is left out: {reason}")
        return False
    return True
