"""The command line: `mep-neuro backends | profiles | train | account | compare | deploy | data`.

Reports go to standard output, all else to standard error.
"""

from __future__ import annotations

import logging
import sys

import typer
from rich.text import Text

from mep_neuro.cli.compare import account, compare
from mep_neuro.cli.deploy import deploy
from mep_neuro.cli.lists import backends, data_get, data_list, profiles
from mep_neuro.cli.train import train
from mep_neuro.errors import MepNeuroError
from mep_neuro.reports import ERROR

app = typer.Typer(
    help="Train PyTorch models by equilibrium propagation on a substrate chosen by name.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
data = typer.Typer(help="List the data sets, or fetch one.", no_args_is_help=True)
data.command("list")(data_list)
data.command("get")(data_get)
for command in (backends, profiles, train, account, compare, deploy):
    app.command()(command)
app.add_typer(data, name="data")


def main() -> None:
    """Entry point: a user's error is one line on standard error and exit code 2."""
    logging.basicConfig(handlers=[_Log()])
    logging.getLogger("mep_neuro").setLevel(logging.INFO)
    try:
        app(prog_name="mep-neuro")
    except MepNeuroError as error:
        ERROR.print(Text.assemble(("error: ", "bold red"), " ".join(str(error).split("\n"))))
        sys.exit(2)


class _Log(logging.Handler):
    """What the library logs, one line each on standard error, above the progress bar where there is one."""

    def emit(self, record: logging.LogRecord) -> None:
        level = (f"{record.levelname.lower()}: ", "yellow") if record.levelno > logging.INFO else ""
        ERROR.print(Text.assemble(level, record.getMessage()))
