"""A training run as the command line describes it: its settings, and how they become a model on a substrate."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import nn

from mep_neuro.activations import activation_module
from mep_neuro.checkpoints import read_checkpoint
from mep_neuro.data import DataSet, load
from mep_neuro.errors import InputError, OptionError, did_you_mean
from mep_neuro.files import writable_folder, write_json_atomically
from mep_neuro.history import History
from mep_neuro.modules import SignedInput, resistive_init_
from mep_neuro.network import EnergyNetwork
from mep_neuro.propagation import EquilibriumPropagation
from mep_neuro.registry import backend
from mep_neuro.training import fit, learning_place

OPTIMIZERS = ("adam", "adamw", "sgd")


class RunSettings(BaseModel):
    """Everything that decides a run's numbers. The defaults were chosen on held-out training images of MNIST."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    data: str = "digits"
    layers: tuple[int, ...] = (64, 128, 10)
    activation: str | None = None
    output_activation: str | None = None
    energy: str = "hopfield"
    backend: str = "torch"
    epochs: int = Field(default=10, ge=1)
    batch_size: int = Field(default=32, ge=1)
    beta: float = 0.5
    nudging: str = "centered"
    cost: str = "squared_error"
    optimizer: Literal["sgd", "adam", "adamw"] = "adam"
    lr: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    seed: int = Field(default=0, ge=0, lt=2**32)
    hold_out: int = Field(default=0, ge=0)
    learning: Literal["auto", "host", "resident"] = "auto"
    options: dict[str, Any] = Field(default_factory=dict)
    input_gain: float = Field(default=50.0, gt=0, allow_inf_nan=False)

    @property
    def rate(self) -> float:
        """The learning rate: the one given, or the optimizer's default here."""
        return self.lr if self.lr is not None else 0.1 if self.optimizer == "sgd" else 5e-4

    def model(self) -> nn.Sequential:
        """Linear layers of these sizes with the activation between them (left out: ReLU), and that of the outputs
        behind them (left out: none), drawn from the seed.

        With the resistive energy: SignedInput(input_gain) first, the first Linear taking twice the inputs; Diodes where
        no activation is given; and weights from `resistive_init_`.
        """
        if len(self.layers) < 2 or min(self.layers) < 1:
            raise InputError(
                f"layers is {','.join(map(str, self.layers))}; give at least inputs and outputs: 64,128,10"
            )
        torch.manual_seed(self.seed)
        resistors, sizes = self.energy == "resistive", list(self.layers)
        activation = self.activation or ("diodes" if resistors else "relu")
        parts = list[nn.Module]()
        if resistors:
            parts.append(SignedInput(self.input_gain))
            sizes[0] *= 2
        for i, (inputs, outputs) in enumerate(itertools.pairwise(sizes)):
            parts += [activation_module(activation)] if i else []
            parts.append(nn.Linear(inputs, outputs))
        if self.output_activation is not None:
            parts.append(activation_module(self.output_activation))
        model = nn.Sequential(*parts)
        if resistors:
            resistive_init_(model)
        return model

    def feed_forward(self) -> RunSettings:
        """The settings with which backpropagation trains the same layers: these, but for the resistive energy, whose
        module is no feed-forward network. For it, the inputs as they are, ReLU, and PyTorch's initial weights."""
        if self.energy != "resistive":
            return self
        return self.model_copy(update={"energy": "prediction_error", "activation": None})

    def torch_optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        """The optimizer over the model's parameters."""
        if self.optimizer == "sgd":
            return torch.optim.SGD(model.parameters(), lr=self.rate, momentum=0.9)
        kind = torch.optim.Adam if self.optimizer == "adam" else torch.optim.AdamW
        return kind(model.parameters(), lr=self.rate, fused=True)

    def data_set(self, data_dir: Path | None) -> DataSet:
        """The data, checked against the layers; `hold_out` training samples in place of the test set, if any."""
        data = load(self.data, data_dir)
        pixels = data.x_train.shape[1]
        if self.layers[0] != pixels or self.layers[-1] != data.classes:
            raise InputError(
                f"{self.data} has {pixels} inputs and {data.classes} classes, but the layers are "
                f"{','.join(map(str, self.layers))}: begin with {pixels} and end with {data.classes}"
            )
        return data.hold_out(self.hold_out) if self.hold_out else data


def default_layers(data: str) -> tuple[int, ...]:
    """Inputs, one hidden population, classes: what a data set by that name is trained with where nothing is said."""
    return RunSettings().layers if data == RunSettings().data else (784, 256, 10)


def settings_from(values: dict[str, Any]) -> RunSettings:
    """Checked settings. Raises `InputError` naming the setting and what is wrong with it."""
    try:
        return RunSettings.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0]) if first["loc"] else "settings"
        given = str(first.get("input"))
        hint = did_you_mean(given, OPTIMIZERS) if name == "optimizer" else ""
        raise InputError(f"{name.replace('_', '-')} is {given!r}: {first['msg']}.{hint}") from error


def settings_of(folder: Path) -> RunSettings:
    """The settings of the run in a folder. Raises `InputError` where there is none."""
    try:
        kept = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{folder} holds no run ({error}): give a folder that mep-neuro train --out wrote") from error
    return settings_from(kept)


@contextmanager
def opened(settings: RunSettings) -> Iterator[EquilibriumPropagation]:
    """A learner on a freshly opened substrate; `learner.network.module` is the model."""
    for name in {"name", "network", "seed"} & settings.options.keys():
        raise OptionError(f"{name!r} is no option of a backend, but given to every one: set it as the run's own")
    network = EnergyNetwork.from_module(settings.model(), energy=settings.energy)
    with backend(settings.backend, network, seed=settings.seed, **settings.options) as substrate:
        yield EquilibriumPropagation(
            substrate, beta=settings.beta, nudging=settings.nudging, cost=settings.cost, seed=settings.seed
        )


@dataclass(frozen=True)
class PreparedRun:
    """A run of which all is checked that can be before it starts: its data, and a learner on an open substrate."""

    settings: RunSettings
    data: DataSet
    learner: EquilibriumPropagation

    def train(
        self,
        *,
        out: Path | None = None,
        resume: bool = False,
        measure: str | None = None,
        progress: bool | None = None,
    ) -> History:
        """Run it. With `out`, the settings are kept there as `config.json` beside the checkpoints."""
        if out is not None:
            if resume:  # nothing is written where there is nothing to go on with
                read_checkpoint(out / "last.pt", self.learner.network)
            config = writable_folder(out) / "config.json"
            write_json_atomically(config, self.settings.model_dump(mode="json"))
        return fit(
            self.learner,
            (self.data.x_train, self.data.y_train),
            (self.data.x_test, self.data.y_test),
            optimizer=self.settings.torch_optimizer(self.learner.network.module),
            epochs=self.settings.epochs,
            batch_size=self.settings.batch_size,
            learning=self.settings.learning,
            seed=self.settings.seed,
            out=out,
            resume=resume,
            measure=measure,
            progress=progress,
        )


@contextmanager
def prepared(
    settings: RunSettings, *, data_dir: Path | None = None, data: DataSet | None = None
) -> Iterator[PreparedRun]:
    """A run that is ready to start; what is wrong with its settings or data is said here, and nothing is written.

    data: the settings' data set where it is at hand; else it is loaded.
    """
    data = settings.data_set(data_dir) if data is None else data
    with opened(settings) as learner:
        learning_place(learner, settings.learning)
        yield PreparedRun(settings, data, learner)


def train(
    settings: RunSettings,
    *,
    data_dir: Path | None = None,
    out: Path | None = None,
    resume: bool = False,
    progress: bool | None = None,
) -> History:
    """Prepare a run and train it; see `PreparedRun.train`."""
    with prepared(settings, data_dir=data_dir) as run:
        return run.train(out=out, resume=resume, progress=progress)
