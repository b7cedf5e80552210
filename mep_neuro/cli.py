"""The command line: `mep-neuro backends | train | compare | data`. Reports go to standard output, all else to error."""

from __future__ import annotations

import contextlib
import datetime
import itertools
import json
import logging
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from mep_neuro import data as data_sets
from mep_neuro.accounting import account
from mep_neuro.activations import MODULES
from mep_neuro.compare import compare as compare_backends
from mep_neuro.errors import BackendUnavailable, InputError, MepNeuroError
from mep_neuro.files import writable_folder
from mep_neuro.registry import backend_class, backend_names
from mep_neuro.reports import OUT, PLAIN, document, print_account, print_comparison, print_history, print_json
from mep_neuro.runs import RunSettings, prepared, settings_from

app = typer.Typer(
    help="Train PyTorch models by equilibrium propagation on a substrate chosen by name.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
data_app = typer.Typer(help="List the data sets, or fetch one.", no_args_is_help=True)
app.add_typer(data_app, name="data")

error_console = Console(**PLAIN, stderr=True, soft_wrap=True)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]
DataDir = Annotated[Path | None, typer.Option(help="Folder with the data set's files.")]
Layers = Annotated[str, typer.Option(help="Units of each population, inputs first, by commas.")]
Set = Annotated[list[str], typer.Option("--set", metavar="KEY=VALUE", help="An option of the backend; repeatable.")]

DEFAULTS = RunSettings()


def main() -> None:
    """Entry point: a user's error is one line on standard error and exit code 2."""
    logging.basicConfig(handlers=[_Log()])
    logging.getLogger("mep_neuro").setLevel(logging.INFO)
    try:
        app(prog_name="mep-neuro")
    except MepNeuroError as error:
        error_console.print(Text.assemble(("error: ", "bold red"), " ".join(str(error).split("\n"))))
        sys.exit(2)


class _Log(logging.Handler):
    """What the library logs, one line each on standard error, above the progress bar where there is one."""

    def emit(self, record: logging.LogRecord) -> None:
        level = (f"{record.levelname.lower()}: ", "yellow") if record.levelno > logging.INFO else ""
        error_console.print(Text.assemble(level, record.getMessage()))


@app.command("backends")
def backends_command(as_json: Json = False) -> None:
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


@app.command()
def train(
    context: typer.Context,
    data: Annotated[str, typer.Option(help="digits, mnist or fashion-mnist.")] = DEFAULTS.data,
    layers: Layers = ",".join(map(str, DEFAULTS.layers)),
    activation: Annotated[
        str, typer.Option(help=f"Of the hidden populations: {', '.join(MODULES)}.")
    ] = DEFAULTS.activation,
    energy: Annotated[str, typer.Option(help="hopfield or prediction_error.")] = DEFAULTS.energy,
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
    set_: Set = [],  # noqa: B006
    out: Annotated[Path | None, typer.Option(help="Folder of the run; left out: a dated one under runs/.")] = None,
    data_dir: DataDir = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")] = False,
    as_json: Json = False,
) -> None:
    """Train a dense classifier, and account for what a sample costs."""
    given: dict[str, Any] = {
        "data": data,
        "layers": _layers(layers),
        "activation": activation,
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
        "options": _options(set_),
    }
    if resume:
        settings = _resumed(out, {k: v for k, v in given.items() if _was_given(context, k)})
    else:
        settings = settings_from(given)
        if out is not None and (out / "last.pt").exists():
            raise InputError(f"{out} already holds a run: add --resume to go on with it, or choose another --out")
    with prepared(settings, data_dir=data_dir) as run:
        folder = writable_folder(out or _dated_folder(settings))
        try:
            history = run.train(out=folder, resume=resume)
        except KeyboardInterrupt:
            again = f" --data-dir {data_dir}" if data_dir else ""
            error_console.print(f"stopped; go on with: mep-neuro train --resume --out {folder}{again}")
            raise typer.Exit(130) from None
    report = account(history.counts)
    if as_json:
        print_json(document(settings, history, report, folder))
    else:
        print_history(history, settings)
        print_account(report)
        OUT.print(f"Checkpoints and history are in {folder}", soft_wrap=True)


@app.command()
def compare(
    data: Annotated[str, typer.Option(help="digits, mnist or fashion-mnist.")] = DEFAULTS.data,
    layers: Layers = ",".join(map(str, DEFAULTS.layers)),
    backends: Annotated[str | None, typer.Option(help="Names, by commas; left out: all that run here.")] = None,
    epochs: Annotated[int, typer.Option(help="Passes over the training data.")] = 5,
    seed: Annotated[int, typer.Option(help="Of all randomness.")] = DEFAULTS.seed,
    profile: Annotated[str, typer.Option(help="Hardware profile, by name or path.")] = "cmos_45nm",
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Train the same network on several backends and set accuracy, time, operations and Joules side by side."""
    if backends is None:
        names = [name for name in backend_names() if _runs_here(name)]
    else:
        names = [name.strip() for name in backends.split(",")]
    settings = settings_from({"data": data, "layers": _layers(layers), "epochs": epochs, "seed": seed})
    rows = compare_backends(settings, names, profile=profile, data_dir=data_dir)
    if as_json:
        print_json({"settings": settings.model_dump(mode="json"), "rows": [row.to_json() for row in rows]})
    else:
        print_comparison(rows, settings)


@data_app.command("list")
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


@data_app.command("get")
def data_get(name: Annotated[str, typer.Argument(help="digits, mnist or fashion-mnist.")]) -> None:
    """Download a data set into mep-neuro's cache, checked byte for byte."""
    folder = data_sets.fetch(name)
    OUT.print(f"{name} is in {folder}", soft_wrap=True)


def _runs_here(name: str) -> bool:
    try:
        return bool(backend_class(name).availability())
    except BackendUnavailable:
        return False


def _layers(text: str) -> list[str]:
    return [part.strip() for part in text.split(",")]


def _options(pairs: list[str]) -> dict[str, Any]:
    """KEY=VALUE pairs; a value is read as JSON where it is JSON (numbers, true, [20, 10]), else as text."""
    options: dict[str, Any] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise InputError(f"--set {pair}: write KEY=VALUE, e.g. --set max_steps=30")
        try:
            options[key] = json.loads(value)
        except json.JSONDecodeError:
            options[key] = value
    return options


def _was_given(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source("set_" if name == "options" else name)
    return source is not None and source.name == "COMMANDLINE"  # by name: Typer may bring a Click of its own


def _resumed(out: Path | None, given: dict[str, Any]) -> RunSettings:
    """The settings of the run in a folder; of those given again only `epochs` may differ."""
    if out is None:
        raise InputError("--resume needs --out, the folder of the run to go on with")
    try:
        kept = json.loads((out / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{out} holds no run to resume ({error}): leave out --resume to start one") from error
    settings = settings_from(kept)
    wanted = settings_from({**kept, **given})
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
