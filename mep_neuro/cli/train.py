"""mep-neuro train."""

from __future__ import annotations

import contextlib
import datetime
import itertools
from pathlib import Path
from typing import Annotated, Any

import typer

from mep_neuro.accounting import EnergyReport, account
from mep_neuro.activations import MODULES
from mep_neuro.cli.options import (
    DEFAULTS,
    DataDir,
    Json,
    Layers,
    Measure,
    OutputActivation,
    Set,
    backend_options,
    sensor,
    split_layers,
)
from mep_neuro.errors import InputError, ProfileError
from mep_neuro.files import writable_folder
from mep_neuro.profiles import hardware_profile
from mep_neuro.reports import ERROR, OUT, document, print_account, print_history, print_json
from mep_neuro.runs import RunSettings, prepared, settings_from, settings_of


def train(
    context: typer.Context,
    data: Annotated[str, typer.Option(help="digits, mnist or fashion-mnist.")] = DEFAULTS.data,
    layers: Layers = ",".join(map(str, DEFAULTS.layers)),
    activation: Annotated[
        str | None,
        typer.Option(help=f"Of the hidden populations: {', '.join(MODULES)}; left out: relu, or diodes of resistors."),
    ] = DEFAULTS.activation,
    output_activation: OutputActivation = DEFAULTS.output_activation,
    energy: Annotated[str, typer.Option(help="hopfield, prediction_error or resistive.")] = DEFAULTS.energy,
    backend: Annotated[str, typer.Option(help="The substrate, by name.")] = DEFAULTS.backend,
    epochs: Annotated[int, typer.Option(help="Passes over the training data.")] = DEFAULTS.epochs,
    batch_size: Annotated[int, typer.Option(help="Samples a step.")] = DEFAULTS.batch_size,
    beta: Annotated[float, typer.Option(help="Strength of the nudge.")] = DEFAULTS.beta,
    nudging: Annotated[str, typer.Option(help="centered, one_sided, random_sign or holomorphic.")] = DEFAULTS.nudging,
    cost: Annotated[str, typer.Option(help="squared_error or cross_entropy.")] = DEFAULTS.cost,
    optimizer: Annotated[str, typer.Option(help="sgd, adam or adamw.")] = DEFAULTS.optimizer,
    lr: Annotated[float | None, typer.Option(help="Learning rate; left out: 0.1 for sgd, 0.0005 else.")] = DEFAULTS.lr,
    seed: Annotated[int, typer.Option(help="Of all randomness.")] = DEFAULTS.seed,
    hold_out: Annotated[
        int, typer.Option(help="Test on so many training samples instead of the test set: for tuning.")
    ] = DEFAULTS.hold_out,
    learning: Annotated[str, typer.Option(help="auto, host or resident.")] = DEFAULTS.learning,
    profile: Annotated[str, typer.Option(help="Hardware profile to account on, by name or path.")] = "cmos_45nm",
    measure: Measure = "off",
    input_gain: Annotated[
        float, typer.Option(help="Resistive energy only: volts for an input of 1.")
    ] = DEFAULTS.input_gain,
    set_: Set = [],  # noqa: B006
    out: Annotated[Path | None, typer.Option(help="Folder of the run; left out: a dated one under runs/.")] = None,
    data_dir: DataDir = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")] = False,
    as_json: Json = False,
) -> None:
    """Train a dense classifier, and account for what a sample costs."""
    given: dict[str, Any] = {
        "data": data,
        "layers": split_layers(layers),
        "activation": activation,
        "output_activation": output_activation,
        "energy": energy,
        "backend": backend,
        "epochs": epochs,
        "batch_size": batch_size,
        "beta": beta,
        "nudging": nudging,
        "cost": cost,
        "optimizer": optimizer,
        "lr": lr,
        "seed": seed,
        "hold_out": hold_out,
        "learning": learning,
        "options": backend_options(set_),
        "input_gain": input_gain,
    }
    if resume:
        settings = _resumed(out, {k: v for k, v in given.items() if _was_given(context, k)})
    else:
        settings = settings_from(given)
        if out is not None and (out / "last.pt").exists():
            raise InputError(f"{out} already holds a run: add --resume to go on with it, or choose another --out")
    prices, wanted = hardware_profile(profile), sensor(measure)
    with prepared(settings, data_dir=data_dir) as run:
        folder = writable_folder(out or _dated_folder(settings))
        try:
            history = run.train(out=folder, resume=resume, measure=wanted)
        except KeyboardInterrupt:
            again = f" --data-dir {data_dir}" if data_dir else ""
            ERROR.print(f"stopped; go on with: mep-neuro train --resume --out {folder}{again}")
            raise typer.Exit(130) from None
    report: EnergyReport | ProfileError
    try:
        report = account(history.counts, prices)
    except ProfileError as error:  # the run is done and kept: prices of another kind of machine do not undo it
        report = error
    if as_json:
        print_json(document(settings, history, report, folder))
    else:
        print_history(history, settings)
        if isinstance(report, EnergyReport):
            print_account(report, history)
        else:
            OUT.print(f"No account: {report}, with mep-neuro account {folder / 'counts.json'} --profiles NAME")
        OUT.print(f"Checkpoints and history are in {folder}", soft_wrap=True)


def _was_given(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source("set_" if name == "options" else name)
    return source is not None and source.name == "COMMANDLINE"  # by name: Typer may bring a Click of its own


def _resumed(out: Path | None, given: dict[str, Any]) -> RunSettings:
    """The settings of the run in a folder; of those given again only `epochs` may differ."""
    if out is None:
        raise InputError("--resume needs --out, the folder of the run to go on with")
    settings = settings_of(out)
    wanted = settings_from({**settings.model_dump(), **given})
    for name in given:
        if name != "epochs" and getattr(wanted, name) != getattr(settings, name):
            flag = "set" if name == "options" else name.replace("_", "-")
            raise InputError(
                f"the run in {out} has {name} {getattr(settings, name)}, not {getattr(wanted, name)}: "
                f"leave out --{flag}, or start a new run"
            )
    return wanted


def _dated_folder(settings: RunSettings) -> Path:
    """A new folder under runs/ that is this run's alone, even where another one starts in the same second."""
    now = datetime.datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    name = f"{now}_{settings.data}_{settings.backend}"
    above = writable_folder("runs")
    for number in itertools.count(1):
        folder = above / (name if number == 1 else f"{name}_{number}")
        with contextlib.suppress(FileExistsError):
            folder.mkdir()
            return folder
    raise AssertionError  # the count has no end
