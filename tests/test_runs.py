"""Runs: settings that are checked by name, each of which changes the numbers, and a folder that tells what was run."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import mep_neuro as mep
from mep_neuro.errors import (
    BackendNotFound,
    CapabilityError,
    CheckpointError,
    InputError,
    MepNeuroError,
    NetworkError,
    OptionError,
)
from mep_neuro.runs import OPTIMIZERS, RunSettings, opened, prepared, settings_from, train

SMALL = RunSettings(layers=(64, 12, 10), epochs=1, batch_size=64, options={"max_steps": 6}, lr=1e-2)


def measured(history: mep.History) -> dict[str, Any]:
    document = history.to_json()
    return {**document, "epochs": [{k: v for k, v in e.items() if k != "seconds"} for e in document["epochs"]]}


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# --- settings ---------------------------------------------------------------------------------------------------------


def test_settings_go_to_json_and_back() -> None:
    given = SMALL.model_copy(update={"options": {"max_steps": [6, 3], "tolerance": 1e-4}, "hold_out": 5})
    assert settings_from(json.loads(json.dumps(given.model_dump(mode="json")))) == given


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("epochs", 0, "epochs is '0': Input should be greater than or equal to 1"),
        ("epochs", "many", "epochs is 'many': Input should be a valid integer"),
        ("batch_size", 0, "batch-size is '0': Input should be greater than or equal to 1"),
        ("lr", 0.0, "lr is '0.0': Input should be greater than 0"),
        ("lr", float("nan"), "lr is 'nan': Input should be"),
        ("lr", float("inf"), "lr is 'inf': Input should be"),
        ("seed", -1, "seed is '-1': Input should be greater than or equal to 0"),
        ("seed", 2**32, "seed is '4294967296': Input should be less than 4294967296"),
        ("hold_out", -1, "hold-out is '-1'"),
        ("layers", ["64", "x", "10"], "layers is 'x': Input should be a valid integer"),
        ("optimizer", "adm", r"optimizer is 'adm': .*'sgd', 'adam' or 'adamw'.*Did you mean 'adam'\?"),
        ("learning", "remote", "learning is 'remote': .*'auto', 'host' or 'resident'"),
        ("momentum", 0.9, "momentum is '0.9': Extra inputs are not permitted"),
    ],
)
def test_a_senseless_setting_is_named(name: str, value: object, said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        settings_from({name: value})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("optimizer", "rate"), [("sgd", 0.1), ("adam", 5e-4), ("adamw", 5e-4)])
def test_each_optimizer_has_its_own_rate_unless_one_is_given(optimizer: Any, rate: float) -> None:
    settings = RunSettings(optimizer=optimizer)
    made = settings.torch_optimizer(settings.model())
    assert type(made).__name__.lower() == optimizer
    assert made.param_groups[0]["lr"] == settings.rate == rate
    given = RunSettings(optimizer=optimizer, lr=0.25)
    assert given.torch_optimizer(given.model()).param_groups[0]["lr"] == 0.25


def test_optimizers_are_the_ones_that_the_settings_take() -> None:
    for name in OPTIMIZERS:
        assert settings_from({"optimizer": name}).optimizer == name


def test_the_model_is_drawn_from_the_seed() -> None:
    def drawn(seed: int) -> dict[str, torch.Tensor]:
        return RunSettings(layers=(4, 3, 3, 2), activation="tanh", seed=seed).model().state_dict()

    kinds = [type(layer) for layer in RunSettings(layers=(4, 3, 3, 2), activation="tanh").model()]
    assert kinds == [nn.Linear, nn.Tanh, nn.Linear, nn.Tanh, nn.Linear]
    assert isinstance(RunSettings(layers=(4, 2), output_activation="tanh").model()[-1], nn.Tanh)
    assert [tuple(v.shape) for v in drawn(0).values()] == [(3, 4), (3,), (3, 3), (3,), (2, 3), (2,)]
    assert all(torch.equal(drawn(0)[name], drawn(0)[name]) for name in drawn(0))
    assert not any(torch.equal(drawn(0)[name], drawn(1)[name]) for name in drawn(0))


@pytest.mark.parametrize("layers", [(64,), (64, 0, 10), (64, -3, 10)])
def test_layers_that_are_no_network(layers: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"layers is 64.*give at least inputs and outputs"):
        RunSettings(layers=layers).model()


@pytest.mark.parametrize("layers", [(64, 10, 11), (63, 10), (784, 10), (64,)])
def test_layers_that_do_not_fit_the_data(layers: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"digits has 64 inputs and 10 classes.*begin with 64 and end with 10"):
        RunSettings(layers=layers).data_set(None)


def test_holding_out_leaves_the_test_set_unseen() -> None:
    whole, held = SMALL.data_set(None), SMALL.model_copy(update={"hold_out": 100}).data_set(None)
    assert len(held.x_test) == 100
    assert len(held.x_train) == len(whole.x_train) - 100
    test = {row.numpy().tobytes() for row in whole.x_test}
    assert not test & {row.numpy().tobytes() for row in held.x_test}


# --- running ----------------------------------------------------------------------------------------------------------


def test_the_same_settings_give_the_same_run() -> None:
    assert measured(train(SMALL)) == measured(train(SMALL))


@pytest.mark.parametrize(
    "change",
    [
        {"layers": (64, 11, 10)},
        {"activation": "hardsigmoid"},
        {"output_activation": "hardsigmoid"},
        {"energy": "prediction_error"},
        {"backend": "reference"},
        {"epochs": 2},
        {"batch_size": 32},
        {"beta": 0.25},
        {"nudging": "one_sided"},
        {"cost": "cross_entropy"},
        {"optimizer": "adamw"},
        {"lr": 2e-2},
        {"seed": 1},
        {"hold_out": 50},
        {"options": {"max_steps": 2}},
    ],
    ids=lambda change: next(iter(change)),
)
def test_each_setting_changes_the_run(change: dict[str, Any]) -> None:
    costs = [r.train_cost for r in train(SMALL).epochs]
    assert [r.train_cost for r in train(SMALL.model_copy(update=change)).epochs] != costs


def test_the_substrate_is_closed_even_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = list[mep.Backend]()
    with opened(SMALL) as learner:
        kind = type(learner.substrate)
    monkeypatch.setattr(kind, "close", lambda self: closed.append(self))
    with pytest.raises(RuntimeError, match="on purpose"), opened(SMALL):
        raise RuntimeError("on purpose")
    assert len(closed) == 1


def test_a_run_without_a_folder_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    train(SMALL)
    assert content(tmp_path) == {}


def test_the_folder_tells_what_was_run(tmp_path: Path) -> None:
    history = train(SMALL, out=tmp_path / "a" / "run")
    assert sorted(content(tmp_path / "a" / "run")) == [
        "best.pt",
        "config.json",
        "counts.json",
        "history.jsonl",
        "last.pt",
    ]
    assert settings_from(json.loads((tmp_path / "a" / "run" / "config.json").read_text("utf-8"))) == SMALL
    assert history.last.test_accuracy is not None


def test_going_on_equals_not_stopping_and_keeps_the_new_settings(tmp_path: Path) -> None:
    longer = SMALL.model_copy(update={"epochs": 2})
    whole = train(longer, out=tmp_path / "whole")
    train(SMALL, out=tmp_path / "parts")
    parts = train(longer, out=tmp_path / "parts", resume=True)
    assert measured(parts) == measured(whole)
    assert settings_from(json.loads((tmp_path / "parts" / "config.json").read_text("utf-8"))) == longer


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"backend": "toch"}, BackendNotFound),
        ({"activation": "rellu"}, OptionError),
        ({"energy": "hopfeild"}, OptionError),
        ({"nudging": "centred"}, OptionError),
        ({"cost": "squared_eror"}, OptionError),
        ({"data": "digit"}, OptionError),
        ({"options": {"max_step": 3}}, OptionError),
        ({"options": {"max_steps": 0}}, OptionError),
        ({"options": {"seed": 3}}, OptionError),
        ({"options": {"network": 3}}, OptionError),
        ({"beta": 0.0}, InputError),
        ({"beta": 1.5}, InputError),
        ({"layers": (64, 10, 11)}, InputError),
        ({"layers": (64, 0, 10)}, InputError),
        ({"learning": "resident"}, CapabilityError),
        ({"hold_out": 100_000}, InputError),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else value.__name__,
)
def test_what_is_wrong_is_said_before_anything_is_written(
    tmp_path: Path, change: dict[str, Any], kind: type[MepNeuroError]
) -> None:
    settings = SMALL.model_copy(update=change)
    with pytest.raises(kind):
        train(settings, out=tmp_path / "out")
    with pytest.raises(kind), prepared(settings):
        pass
    assert list(tmp_path.iterdir()) == []


def test_cross_entropy_needs_linear_outputs(tmp_path: Path) -> None:
    network = mep.EnergyNetwork.from_module(nn.Sequential(nn.Linear(4, 2), nn.Hardsigmoid()))
    with mep.backend("torch", network) as substrate, pytest.raises(NetworkError, match="end with a Linear layer"):
        mep.EquilibriumPropagation(substrate, cost="cross_entropy")


@pytest.mark.parametrize("damage", ["missing", "truncated", "another network"])
def test_a_run_that_cannot_go_on_is_left_as_it_is(tmp_path: Path, damage: str) -> None:
    train(SMALL, out=tmp_path)
    longer = SMALL.model_copy(update={"epochs": 2})
    if damage == "missing":
        (tmp_path / "last.pt").unlink()
    elif damage == "truncated":
        (tmp_path / "last.pt").write_bytes((tmp_path / "last.pt").read_bytes()[:1000])
    else:
        longer = longer.model_copy(update={"layers": (64, 13, 10)})
    before = content(tmp_path)
    with pytest.raises(CheckpointError):
        train(longer, out=tmp_path, resume=True)
    assert content(tmp_path) == before


def test_the_log_says_how_each_epoch_went(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "mep_neuro"):
        history = train(SMALL.model_copy(update={"epochs": 2}))
    said = [record.getMessage() for record in caplog.records if record.levelno == logging.INFO][1:]
    assert said == [f"epoch {r.epoch}/2: {r.summary()}" for r in history.epochs]
