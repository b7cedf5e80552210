"""Options that several commands take, and how their values are read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from mep_neuro.accounting.sensors import SENSORS
from mep_neuro.errors import InputError, OptionError, did_you_mean
from mep_neuro.runs import RunSettings

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]
DataDir = Annotated[Path | None, typer.Option(help="Folder with the data set's files.")]
Layers = Annotated[str, typer.Option(help="Units of each population, inputs first, by commas.")]
OutputActivation = Annotated[
    str | None, typer.Option(help="Of the outputs, such as hardsigmoid, which spikes need; left out: none.")
]
Profiles = Annotated[str, typer.Option(help="Hardware profiles, by name or path, by commas.")]
Measure = Annotated[str, typer.Option(help="Read joules off a sensor meanwhile: auto, rapl, nvml or off.")]
Set = Annotated[list[str], typer.Option("--set", metavar="KEY=VALUE", help="An option of the backend; repeatable.")]

DEFAULTS = RunSettings()


def split_names(text: str | None) -> list[str]:
    """Names by commas; none where nothing is given."""
    return [name.strip() for name in (text or "").split(",") if name.strip()]


def split_layers(text: str) -> list[str]:
    """Units of each population, still as text."""
    return [part.strip() for part in text.split(",")]


def backend_options(pairs: list[str]) -> dict[str, Any]:
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


def sensor(measure: str) -> str | None:
    """What `fit` takes for --measure."""
    if measure not in ("off", "auto", *SENSORS):
        there = ", ".join(("auto", *SENSORS))
        raise OptionError(f"no sensor {measure!r}; there are: {there}, or off.{did_you_mean(measure, SENSORS)}")
    return None if measure == "off" else measure
