"""The command line: `mep-neuro backends | train | compare | data`. Reports go to standard output, all else to error."""

from __future__ import annotations

import datetime
import json
import logging
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import click
import numpy
import torch
import typer
from rich.console import Console
from rich.logging import RichHandler
from rich.table import Table

from mep_neuro import data as data_sets
from mep_neuro.accounting import EnergyReport, account
from mep_neuro.compare import Comparison
from mep_neuro.compare import compare as compare_backends
from mep_neuro.errors import BackendUnavailable, InputError, MepNeuroError
from mep_neuro.files import writable_folder
from mep_neuro.history import History
from mep_neuro.registry import backend_class, backend_names
from mep_neuro.runs import RunSettings, settings_from
from mep_neuro.runs import train as train_run

app = typer.Typer(
    help="Train PyTorch models by equilibrium propagation on a substrate chosen by name.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
data_app = typer.Typer(help="List the data sets, or fetch one.", no_args_is_help=True)
app.add_typer(data_app, name="data")

out_console = Console(soft_wrap=True)
error_console = Console(stderr=True)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]
DataDir = Annotated[Path | None, typer.Option(help="Folder with the data set's files.")]
Layers = Annotated[str, typer.Option(help="Units of each population, inputs first, by commas.")]
Set = Annotated[list[str], typer.Option("--set", metavar="KEY=VALUE", help="An option of the backend; repeatable.")]

DEFAULTS = RunSettings()


def main() -> None:
    """Entry point: a user's error is one line on standard error and exit code 2."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", handlers=[RichHandler(console=error_console)])
    try:
        app()
    except MepNeuroError as error:
        error_console.print(f"[bold red]error:[/] {_plain(error)}", highlight=False, soft_wrap=True)
        sys.exit(2)
    except KeyboardInterrupt:
        error_console.print("stopped", highlight=False)
        sys.exit(130)


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
        _print_json([dict(zip(keys, row, strict=True)) for row in rows])
        return
    table = Table("backend", "runs here", "what it is, or why not")
    for name, available, reason, cure, describes in rows:
        table.add_row(name, "yes" if available else "no", describes if available else f"{reason}; {cure}")
    out_console.print(table)


@app.command()
def train(
    context: typer.Context,
    data: Annotated[str, typer.Option(help="digits, mnist or fashion-mnist.")] = DEFAULTS.data,
    layers: Layers = ",".join(map(str, DEFAULTS.layers)),
    activation: Annotated[str, typer.Option(help="Of the hidden populations.")] = DEFAULTS.activation,
    energy: Annotated[str, typer.Option(help="hopfield or prediction_error.")] = DEFAULTS.energy,
    backend: Annotated[str, typer.Option(help="The substrate, by name.")] = DEFAULTS.backend,
    epochs: Annotated[int, typer.Option(help="Passes over the training data.")] = DEFAULTS.epochs,
    batch_size: Annotated[int, typer.Option(help="Samples a step.")] = DEFAULTS.batch_size,
    beta: Annotated[float, typer.Option(help="Strength of the nudge.")] = DEFAULTS.beta,
    nudging: Annotated[
        str, typer.Option(help="centered, one_sided, random_sign or holomorphic.")
    ] = DEFAULTS.nudging,
    cost: Annotated[str, typer.Option(help="squared_error or cross_entropy.")] = DEFAULTS.cost,
    optimizer: Annotated[str, typer.Option(help="sgd, adam or adamw.")] = DEFAULTS.optimizer,
    lr: Annotated[
        float | None, typer.Option(help="Learning rate [default: 0.1 for sgd, 0.0005 else].")
    ] = DEFAULTS.lr,
    seed: Annotated[int, typer.Option(help="Of all randomness.")] = DEFAULTS.seed,
    hold_out: Annotated[
        int, typer.Option(help="Test on so many training samples instead of the test set: for tuning.")
    ] = DEFAULTS.hold_out,
    learning: Annotated[str, typer.Option(help="auto, host or resident.")] = DEFAULTS.learning,
    set_: Set = [],  # noqa: B006
    out: Annotated[
        Path | None, typer.Option(help="Folder of the run [default: a dated one under runs/].")
    ] = None,
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
        folder = out or Path()
    else:
        settings = settings_from(given)
        folder = out or _dated_folder(settings)
        if (folder / "last.pt").exists():
            raise InputError(f"{folder} already holds a run: add --resume to go on with it, or choose another --out")
    settings.data_set(data_dir)  # what is wrong with the data or the layers is said before a folder is made
    writable_folder(folder)
    history = train_run(settings, data_dir=data_dir, out=folder, resume=resume)
    report = account(history.counts)
    if as_json:
        _print_json(_document(settings, history, report, folder))
    else:
        _print_history(history, settings)
        _print_account(report)
        out_console.print(f"Checkpoints and history are in {folder}", highlight=False)


@app.command()
def compare(
    data: Annotated[str, typer.Option(help="digits, mnist or fashion-mnist.")] = DEFAULTS.data,
    layers: Layers = ",".join(map(str, DEFAULTS.layers)),
    backends: Annotated[str | None, typer.Option(help="Names by commas [default: all that run here].")] = None,
    epochs: Annotated[int, typer.Option(help="Passes over the training data.")] = 5,
    seed: Annotated[int, typer.Option(help="Of all randomness.")] = DEFAULTS.seed,
    profile: Annotated[str, typer.Option(help="Hardware profile, by name or path.")] = "cmos_45nm",
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Train the same network on several backends and set accuracy, time, operations and Joules side by side."""
    if backends is None:
        names = [name for name in backend_names() if backend_class(name).availability()]
    else:
        names = [name.strip() for name in backends.split(",")]
    settings = settings_from({"data": data, "layers": _layers(layers), "epochs": epochs, "seed": seed})
    rows = compare_backends(settings, names, profile=profile, data_dir=data_dir)
    if as_json:
        _print_json({"settings": settings.model_dump(mode="json"), "rows": [row.to_json() for row in rows]})
    else:
        _print_comparison(rows, settings)


@data_app.command("list")
def data_list(data_dir: DataDir = None, as_json: Json = False) -> None:
    """List the data sets, and where each is found."""
    rows = [(name, data_sets.located(name, data_dir)) for name in data_sets.data_names()]
    if as_json:
        _print_json([{"name": name, "folder": None if folder is None else str(folder)} for name, folder in rows])
        return
    table = Table("data set", "where", "MB")
    for name, folder in rows:
        size = f"{data_sets.size_in_bytes(name, data_dir) / 1e6:.1f}" if folder else ""
        table.add_row(name, str(folder) if folder else f"not here: mep-neuro data get {name}", size)
    out_console.print(table)


@data_app.command("get")
def data_get(name: Annotated[str, typer.Argument(help="digits, mnist or fashion-mnist.")]) -> None:
    """Download a data set into mep-neuro's cache, checked byte for byte."""
    folder = data_sets.fetch(name)
    out_console.print(f"{name} is in {folder}", highlight=False)


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
    parameter = "set_" if name == "options" else name
    return context.get_parameter_source(parameter) == click.core.ParameterSource.COMMANDLINE


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
    now = datetime.datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    return Path("runs") / f"{now}_{settings.data}_{settings.backend}"


def _document(settings: RunSettings, history: History, report: EnergyReport, folder: Path) -> dict[str, Any]:
    document = history.to_json()
    return {
        "test_accuracy": history.last.test_accuracy,
        "train_accuracy": history.last.train_accuracy,
        "account": report.to_json(),
        "settings": settings.model_dump(mode="json"),
        "out": str(folder),
        "versions": {"mep-neuro": version("mep-neuro"), "torch": torch.__version__, "numpy": numpy.__version__},
        **document,
    }


def _print_json(document: object) -> None:
    print(json.dumps(document, indent=2))


def _print_history(history: History, settings: RunSettings) -> None:
    title = f"{settings.data}, {'-'.join(map(str, settings.layers))} on {settings.backend}, learning: {history.learning}"
    table = Table("epoch", "train cost", "train accuracy", "test accuracy", "unsettled", "seconds", title=title)
    for r in history.epochs:
        unsettled = f"{r.unconverged} of {r.samples} (residual {r.residual:.1g})" if r.unconverged else "none"
        row = (f"{r.epoch}", f"{r.train_cost:.4f}", _share(r.train_accuracy), _share(r.test_accuracy))
        table.add_row(*row, unsettled, f"{r.seconds:.1f}")
    out_console.print(table)


def _print_account(report: EnergyReport) -> None:
    out_console.print(
        f"Training took {_joules(report)} per sample on the profile {report.profile.name} (estimated, {report.grade}; "
        f"{report.profile.title}).",
        highlight=False,
    )
    if report.unpriced:
        out_console.print(f"Not priced, hence '>=': {', '.join(report.unpriced)}.", highlight=False)
    for source in report.sources:
        out_console.print(f"  {source}", highlight=False)


def _print_comparison(rows: list[Comparison], settings: RunSettings) -> None:
    title = f"{settings.data}, {'-'.join(map(str, settings.layers))}, {settings.epochs} epochs, batch {settings.batch_size}"
    table = Table("backend", "test accuracy", "seconds here", "MACs/sample", "estimated J/sample", title=title)
    for row in rows:
        macs = row.counts.total("macs") / row.counts.samples
        accuracy = _share(row.history.last.test_accuracy)
        table.add_row(row.backend, accuracy, f"{row.seconds:.1f}", f"{macs:,.0f}", _joules(row.account))
    out_console.print(table)
    _print_account(rows[0].account)


def _joules(report: EnergyReport) -> str:
    low, high = report.interval
    return f"{'>= ' if report.lower_bound else ''}{report.joules_per_sample:.3g} J [{low:.3g}, {high:.3g}]"


def _share(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.2f} %"


def _plain(error: BaseException) -> str:
    return str(error).replace("[", "\\[")
