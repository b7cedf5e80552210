"""fit: it learns, repeats itself, resumes exactly, counts what it does, and loses nothing when it is stopped."""

from __future__ import annotations

import copy
import dataclasses
import itertools
import json
import logging
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, final

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

import mep_neuro as mep
from mep_neuro.data import load
from mep_neuro.errors import CapabilityError, CheckpointError, InputError
from mep_neuro.training import learning_place

Pair = tuple[Tensor, Tensor]


@pytest.fixture(scope="module")
def digits() -> tuple[Pair, Pair]:
    data = load("digits")
    return (data.x_train, data.y_train), (data.x_test, data.y_test)


@pytest.fixture(scope="module")
def few(digits: tuple[Pair, Pair]) -> Pair:
    """100 digits: 7 batches of 16, the last one short."""
    (x, y), _ = digits
    return x[:100], y[:100]


def model(*, hidden: int = 16, dropout: float = 0.0, seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    dropping = [nn.Dropout(dropout)] if dropout else []
    return nn.Sequential(nn.Linear(64, hidden), nn.Hardsigmoid(), *dropping, nn.Linear(hidden, 10))


@contextmanager
def opened(module: nn.Sequential, **options: Any) -> Iterator[mep.EquilibriumPropagation]:
    network = mep.EnergyNetwork.from_module(module)
    with mep.backend("torch", network, seed=0, max_steps=options.pop("max_steps", 8)) as substrate:
        yield mep.EquilibriumPropagation(substrate, **options)


def adam(module: nn.Module, lr: float = 3e-3) -> torch.optim.Optimizer:
    return torch.optim.Adam(module.parameters(), lr=lr)


def values(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def measured(history: mep.History) -> dict[str, Any]:
    """A history without its wall times."""
    document = history.to_json()
    return {**document, "epochs": [{k: v for k, v in e.items() if k != "seconds"} for e in document["epochs"]]}


def lines(folder: Path) -> list[mep.EpochRecord]:
    return [mep.EpochRecord(**json.loads(line)) for line in (folder / "history.jsonl").read_text("utf-8").splitlines()]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


FILES = ["best.pt", "counts.json", "history.jsonl", "last.pt"]


# --- learning ---------------------------------------------------------------------------------------------------------


def test_it_learns_digits(digits: tuple[Pair, Pair]) -> None:
    module = model(hidden=32)
    with opened(module) as learner:
        before = mep.evaluate(learner, digits[1])
        history = mep.fit(learner, *digits, optimizer=adam(module, 1e-2), epochs=4, batch_size=32)
        after = mep.evaluate(learner, digits[1])
    assert before[1] is not None
    assert before[1] < 0.3
    assert history.last.test_accuracy is not None
    assert history.last.test_accuracy > 0.93
    assert (history.last.test_cost, history.last.test_accuracy) == after
    costs = [record.train_cost for record in history.epochs]
    assert costs == sorted(costs, reverse=True)
    assert [record.epoch for record in history.epochs] == [1, 2, 3, 4]
    assert {record.samples for record in history.epochs} == {1438}
    assert all(record.seconds > 0 for record in history.epochs)
    assert all(record.validation_cost is None and record.validation_accuracy is None for record in history.epochs)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (torch.optim.SGD, {"lr": 0.05, "momentum": 0.9, "nesterov": True}),
        (torch.optim.Adam, {"lr": 3e-3, "fused": True}),
        (torch.optim.AdamW, {"lr": 3e-3}),
        (torch.optim.NAdam, {"lr": 3e-3}),
        (torch.optim.RAdam, {"lr": 3e-3}),
        (torch.optim.Adamax, {"lr": 1e-2}),
        (torch.optim.RMSprop, {"lr": 3e-3}),
        (torch.optim.Adagrad, {"lr": 3e-2}),
        (torch.optim.Adadelta, {"lr": 3.0}),
        (torch.optim.Rprop, {"lr": 1e-3}),
        (torch.optim.ASGD, {"lr": 0.1}),
    ],
)
def test_any_torch_optimizer(few: Pair, kind: type[torch.optim.Optimizer], options: dict[str, Any]) -> None:
    module = model()
    with opened(module) as learner:
        before = mep.evaluate(learner, few)[0]
        optimizer = kind(module.parameters(), **options)
        history = mep.fit(learner, few, optimizer=optimizer, epochs=6, batch_size=20)
        assert mep.evaluate(learner, few)[0] < 0.8 * before
    assert history.last.test_accuracy is None


def test_a_scheduler_changes_the_learning_rate_in_the_record(few: Pair) -> None:
    module = model()
    optimizer = torch.optim.SGD(module.parameters(), lr=0.4)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=2, gamma=0.5)
    with opened(module) as learner:
        history = mep.fit(learner, few, optimizer=optimizer, scheduler=scheduler, epochs=5)
    assert [record.lr for record in history.epochs] == [0.4, 0.4, 0.2, 0.2, 0.1]


def test_a_scheduler_that_watches_the_cost(few: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    costs = iter([3.0, 1.0, 2.0, 0.5, 0.4])  # rises once, after the third epoch
    monkeypatch.setattr("mep_neuro.training_run.evaluate", lambda learner, data: (next(costs), 0.5))
    module = model()
    optimizer = torch.optim.SGD(module.parameters(), lr=0.01)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0, factor=0.5)
    with opened(module) as learner:
        history = mep.fit(learner, few, validation=few, optimizer=optimizer, scheduler=scheduler, epochs=5)
    assert [record.lr for record in history.epochs] == [0.01, 0.01, 0.01, 0.005, 0.005]


def test_a_frozen_parameter_stays(few: Pair) -> None:
    module = model()
    module[0].weight.requires_grad_(False)
    before = values(module)
    with opened(module) as learner:
        mep.fit(learner, few, optimizer=torch.optim.AdamW(module.parameters(), lr=1e-2), epochs=1)
    after = values(module)
    assert [name for name in before if torch.equal(before[name], after[name])] == ["0.weight"]


def test_the_same_seed_gives_the_same_run_bit_for_bit(few: Pair) -> None:
    outside = itertools.count()

    def run(seed: int) -> tuple[dict[str, Any], dict[str, Tensor]]:
        module = model(dropout=0.2)
        torch.manual_seed(next(outside))  # whatever the global generator holds
        with opened(module, nudging="random_sign") as learner:
            history = mep.fit(learner, few, few, optimizer=adam(module), epochs=2, batch_size=16, seed=seed)
        return measured(history), values(module)

    first, second, other = run(0), run(0), run(1)
    assert first[0] == second[0]
    assert same(first[1], second[1])
    assert not same(first[1], other[1])


def test_the_seed_decides_the_order_and_every_sample_comes_once_an_epoch(few: Pair) -> None:
    orders = []
    for seed in (0, 0, 1):
        module, seen = model(), list[int]()
        x = few[0].clone()
        x[:, 0] = torch.arange(100.0)  # an unused pixel tells which sample it is
        with opened(module) as learner:
            relax = learner.relax
            learner.relax = lambda x, target, relax=relax, seen=seen: (  # type: ignore[method-assign]
                seen.extend(x[:, 0].int().tolist()),
                relax(x, target),
            )[1]
            mep.fit(learner, (x, few[1]), optimizer=torch.optim.SGD(module.parameters(), lr=0.0), epochs=2, seed=seed)
        orders.append(seen)
        assert sorted(seen[:100]) == sorted(seen[100:]) == list(range(100))
        assert seen[:100] != seen[100:]
        assert seen[:100] != list(range(100))
    assert orders[0] == orders[1] != orders[2]


def test_a_data_loader_shuffles_by_the_seed_and_leaves_the_global_generator_alone(few: Pair) -> None:
    def run(seed: int, outside: int) -> dict[str, Tensor]:
        module = model()
        torch.manual_seed(outside)
        state = torch.get_rng_state()
        loader = DataLoader(TensorDataset(*few), batch_size=16, shuffle=True)
        with opened(module) as learner:
            history = mep.fit(learner, loader, loader, optimizer=adam(module), epochs=2, seed=seed)
        assert torch.equal(torch.get_rng_state(), state)
        assert history.last.samples == 100
        return values(module)

    assert same(run(0, outside=1), run(0, outside=2))
    assert not same(run(0, outside=1), run(1, outside=1))


def test_batches_without_a_length(few: Pair) -> None:
    class Stream(IterableDataset[Pair]):
        def __iter__(self) -> Iterator[Pair]:
            return iter(zip(*few, strict=True))

    module, other = model(), model()
    with opened(module) as learner:
        history = mep.fit(learner, DataLoader(Stream(), batch_size=16), optimizer=adam(module), epochs=2, progress=True)
    with opened(other) as learner:
        batches = list(zip(few[0].split(16), few[1].split(16), strict=True))
        mep.fit(learner, batches, optimizer=adam(other), epochs=2)
    assert history.last.samples == 100
    assert same(values(module), values(other))


def test_a_tuple_of_batches_is_not_taken_for_a_pair(few: Pair) -> None:
    module = model()
    batches = ((few[0][:50], few[1][:50]), (few[0][50:], few[1][50:]))
    with opened(module) as learner:
        assert mep.fit(learner, batches, optimizer=adam(module), epochs=1).last.samples == 100


def test_targets_that_are_no_labels_have_no_accuracy(few: Pair) -> None:
    module = model()
    with opened(module) as learner:
        one_hot = (few[0], nn.functional.one_hot(few[1], 10).float())
        history = mep.fit(learner, one_hot, one_hot, optimizer=adam(module), epochs=1)
        assert mep.evaluate(learner, one_hot) == (mep.evaluate(learner, few)[0], None)
    assert history.last.train_accuracy is None
    assert history.last.test_accuracy is None
    assert history.last.test_cost is not None


def test_evaluate_is_the_mean_over_samples_of_the_free_outputs(few: Pair) -> None:
    module = model(dropout=0.5)
    with opened(module) as learner:
        module.eval()
        outputs = learner.predict(few[0])
        module.train()
        found = mep.evaluate(learner, few)
        in_batches = mep.evaluate(learner, [(few[0][:70], few[1][:70]), (few[0][70:], few[1][70:])])
    error = outputs - nn.functional.one_hot(few[1], 10)
    assert found[0] == pytest.approx(0.5 * float(error.square().sum()) / 100, rel=1e-6)
    assert found[1] == int((outputs.argmax(1) == few[1]).sum()) / 100
    assert in_batches == pytest.approx(found, rel=1e-6)


def test_evaluate_leaves_each_module_in_its_own_mode(few: Pair) -> None:
    module = nn.Sequential(nn.Dropout(0.5), nn.Linear(64, 10), nn.Dropout(0.5))
    module[0].eval()
    with opened(module) as learner:
        mep.evaluate(learner, few)
        assert [m.training for m in module.modules()] == [True, False, True, True]
        with pytest.raises(InputError):
            mep.evaluate(learner, (few[0][:, :3], few[1]))
        assert [m.training for m in module.modules()] == [True, False, True, True]


def test_what_does_not_settle_is_counted_and_told(few: Pair, caplog: pytest.LogCaptureFixture) -> None:
    def run(max_steps: int) -> mep.EpochRecord:
        module = model()
        with opened(module, max_steps=max_steps) as learner, caplog.at_level(logging.WARNING, "mep_neuro"):
            return mep.fit(learner, few, optimizer=adam(module), epochs=1).last

    hasty = run(1)
    assert hasty.unconverged == 100
    assert hasty.residual > 1e-3
    assert "100 of 100 samples had not settled within max_steps (largest residual" in caplog.text
    caplog.clear()
    patient = run(40)
    assert patient.unconverged == 0
    assert patient.residual <= 1e-3
    assert caplog.text == ""


# --- what is counted --------------------------------------------------------------------------------------------------


def test_counts_equal_a_hand_count(few: Pair) -> None:
    inputs, hidden, outputs, free_steps, nudged_steps = 64, 16, 10, 5, 3
    first, second = inputs * hidden, hidden * outputs  # MACs of a product of each coupling
    units = hidden + outputs
    module, epochs = model(), 2
    with opened(module, max_steps=(free_steps, nudged_steps)) as learner:
        warm_up = learner.predict(few[0])  # before the run, so no part of its counts
        assert len(warm_up) == 100
        history = mep.fit(learner, few, few, optimizer=adam(module), epochs=epochs, batch_size=16)
    counts, samples = history.counts, 100 * epochs
    assert counts.samples == samples
    # The clamped drive once, the forward pass, then per sweep: hidden from the outputs, outputs from the hidden.
    assert counts["free", "macs"] == samples * (first + second + free_steps * 2 * second)
    assert counts["free", "neuron_updates"] == samples * units * (1 + free_steps)
    # Two phases, from the clamped drive that is there; what the outputs first see of the hidden units is one product.
    assert counts["nudged", "macs"] == samples * (2 * nudged_steps * 2 * second - second)
    assert counts["nudged", "neuron_updates"] == samples * 2 * nudged_steps * units
    # x is the same in both phases: one product for the first coupling, two for the second.
    assert counts["update", "macs"] == samples * (first + 2 * second)
    assert counts["update", "neuron_updates"] == 0
    assert counts.total("accumulates") == 0
    evaluation = history.evaluation
    assert evaluation.samples == samples
    assert evaluation.total("macs") == evaluation["free", "macs"] == counts["free", "macs"]


def test_counts_add_up_over_epochs(few: Pair) -> None:
    def run(epochs: int) -> mep.OperationCounts:
        module = model()
        with opened(module) as learner:
            return mep.fit(learner, few, optimizer=adam(module), epochs=epochs, batch_size=16).counts

    assert run(1) + run(1) == run(2)


# --- files ------------------------------------------------------------------------------------------------------------


def test_without_a_folder_nothing_is_written(few: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    module = model()
    with opened(module) as learner:
        mep.fit(learner, few, optimizer=adam(module), epochs=1)
    assert names(tmp_path) == []


def test_the_files_of_a_run(few: Pair, tmp_path: Path) -> None:
    module = model()
    with opened(module) as learner:
        history = mep.fit(learner, few, few, optimizer=adam(module), epochs=3, out=tmp_path / "runs" / "a")
    assert names(tmp_path / "runs" / "a") == FILES
    assert lines(tmp_path / "runs" / "a") == history.epochs
    last = torch.load(tmp_path / "runs" / "a" / "last.pt", weights_only=True)
    assert same(last["module"], values(module))
    assert mep.History.from_json(last["history"]) == history


def test_history_is_written_after_every_epoch(few: Pair, tmp_path: Path) -> None:
    module, seen = model(), list[int]()
    optimizer = adam(module)

    def look(*_: object) -> None:
        seen.append(len(lines(tmp_path)) if (tmp_path / "history.jsonl").exists() else 0)

    optimizer.register_step_post_hook(look)
    with opened(module) as learner:
        mep.fit(learner, few, optimizer=optimizer, epochs=3, batch_size=50, out=tmp_path)
    assert seen == [0, 0, 1, 1, 2, 2]


def best_epoch(folder: Path) -> int:
    return len(torch.load(folder / "best.pt", weights_only=True)["history"]["epochs"])


def test_validation_decides_which_epoch_is_best(few: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    validation = (few[0][:30], few[1][:30])
    costs = iter([3.0, 1.0, 2.0, 1.0])  # validation falls to its lowest with the second epoch; the test set's no part
    monkeypatch.setattr(
        "mep_neuro.training_run.evaluate",
        lambda learner, data: (next(costs), 0.5) if len(data[0]) == 30 else (0.0, 0.5),
    )
    module = model()
    with opened(module) as learner:
        history = mep.fit(
            learner, few, few, validation=validation, optimizer=adam(module, 1e-2), epochs=4, out=tmp_path
        )
    assert [record.validation_cost for record in history.epochs] == [3.0, 1.0, 2.0, 1.0]
    assert [record.test_cost for record in history.epochs] == [0.0] * 4
    trained = [record.train_cost for record in history.epochs]
    assert trained == sorted(trained, reverse=True)
    assert best_epoch(tmp_path) == 2


def test_validation_is_measured_after_the_epoch(few: Pair) -> None:
    module = model(dropout=0.5)
    with opened(module) as learner:
        history = mep.fit(learner, few, validation=(few[0][:30], few[1][:30]), optimizer=adam(module), epochs=1)
        found = mep.evaluate(learner, (few[0][:30], few[1][:30]))
    assert (history.last.validation_cost, history.last.validation_accuracy) == found


def test_without_validation_the_training_cost_decides(few: Pair, tmp_path: Path) -> None:
    module = model()
    optimizer = adam(module, 5e-3)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: 100.0 if epoch > 1 else 1.0)
    with opened(module) as learner:  # the rate of the third epoch wrecks what was learned
        history = mep.fit(learner, few, few, optimizer=optimizer, scheduler=scheduler, epochs=4, out=tmp_path)
    costs = [record.train_cost for record in history.epochs]
    assert costs.index(min(costs)) == 1
    assert best_epoch(tmp_path) == 2


# --- stopping and going on --------------------------------------------------------------------------------------------


@dataclasses.dataclass
class Scene:
    """A run that can be set up again and again: dropout, a random sign, Adam and a scheduler."""

    data: Pair
    out: Path
    loader: bool = False

    def run(self, epochs: int, *, resume: bool = False, stop_after: int | None = None) -> tuple[mep.History, Any]:
        """`stop_after`: Ctrl-C comes with so many optimizer steps."""
        module = model(dropout=0.3, seed=9 if resume else 0)  # the checkpoint brings the weights, not the build
        optimizer = adam(module, 5e-3)
        scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.7)
        steps = iter(range(1, 1000))

        def interrupt(*_: object) -> None:
            if next(steps) == stop_after:
                signal.raise_signal(signal.SIGINT)

        optimizer.register_step_post_hook(interrupt)
        train: Any = self.data
        if self.loader:
            train = DataLoader(TensorDataset(*self.data), batch_size=16, shuffle=True)
        with opened(module, nudging="random_sign") as learner:
            history = mep.fit(
                learner,
                train,
                self.data,
                validation=(self.data[0][:20], self.data[1][:20]),
                optimizer=optimizer,
                scheduler=scheduler,
                epochs=epochs,
                batch_size=16,
                seed=3,
                out=self.out,
                resume=resume,
            )
        return history, (values(module), optimizer.state_dict(), scheduler.state_dict())


def equal(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor):
        return isinstance(other, Tensor) and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(equal, one, other))
    return bool(one == other)


@pytest.mark.parametrize("loader", [False, True], ids=["tensors", "loader"])
@pytest.mark.parametrize("epochs", [1, 2, 3])
def test_a_run_that_goes_on_equals_one_that_never_stopped(few: Pair, tmp_path: Path, epochs: int, loader: bool) -> None:
    whole = Scene(few, tmp_path / "whole", loader).run(4)
    Scene(few, tmp_path / "parts", loader).run(epochs)
    parts = Scene(few, tmp_path / "parts", loader).run(4, resume=True)
    assert measured(parts[0]) == measured(whole[0])
    assert equal(parts[1], whole[1])
    assert [dataclasses.replace(r, seconds=0) for r in lines(tmp_path / "parts")] == [
        dataclasses.replace(r, seconds=0) for r in lines(tmp_path / "whole")
    ]
    assert best_epoch(tmp_path / "parts") == best_epoch(tmp_path / "whole")


@pytest.mark.parametrize("loader", [False, True], ids=["tensors", "loader"])
@pytest.mark.parametrize("step", [1, 3, 7, 10, 14], ids="step{}".format)
def test_ctrl_c_within_an_epoch_loses_nothing(few: Pair, tmp_path: Path, step: int, loader: bool) -> None:
    whole = Scene(few, tmp_path / "whole", loader).run(2)
    with pytest.raises(KeyboardInterrupt):
        Scene(few, tmp_path / "parts", loader).run(2, stop_after=step)
    assert [n for n in names(tmp_path / "parts") if n not in FILES] == []
    stopped = torch.load(tmp_path / "parts" / "last.pt", weights_only=True)
    assert (len(stopped["history"]["epochs"]), stopped["batch"]) == divmod(step, 7) if step % 7 else (step // 7 - 1, 7)
    parts = Scene(few, tmp_path / "parts", loader).run(2, resume=True)
    assert measured(parts[0]) == measured(whole[0])
    assert equal(parts[1], whole[1])
    assert names(tmp_path / "parts") == FILES
    assert parts[0].last.seconds > 0


def test_two_stops_within_one_epoch(few: Pair, tmp_path: Path) -> None:
    whole = Scene(few, tmp_path / "whole").run(1)
    with pytest.raises(KeyboardInterrupt):
        Scene(few, tmp_path / "parts").run(1, stop_after=2)
    with pytest.raises(KeyboardInterrupt):
        Scene(few, tmp_path / "parts").run(1, resume=True, stop_after=3)
    parts = Scene(few, tmp_path / "parts").run(1, resume=True)
    assert measured(parts[0]) == measured(whole[0])
    assert equal(parts[1], whole[1])


def test_ctrl_c_while_evaluating_ends_the_run_after_the_epoch(few: Pair, tmp_path: Path) -> None:
    class Interrupting:
        def __iter__(self) -> Iterator[Pair]:
            signal.raise_signal(signal.SIGINT)
            yield few

    module = model()
    with opened(module) as learner, pytest.raises(KeyboardInterrupt):
        mep.fit(learner, few, Interrupting(), optimizer=adam(module), epochs=1, out=tmp_path)
    assert names(tmp_path) == FILES
    assert [record.test_accuracy is not None for record in lines(tmp_path)] == [True]


def test_signals_are_handled_as_before_afterwards(few: Pair, tmp_path: Path) -> None:
    before = [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)]
    Scene(few, tmp_path / "a").run(1)
    assert [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)] == before
    with pytest.raises(KeyboardInterrupt):
        Scene(few, tmp_path / "b").run(1, stop_after=1)
    assert [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)] == before


def test_sigterm_is_taken_like_ctrl_c(few: Pair, tmp_path: Path) -> None:
    module = model()
    optimizer = adam(module)
    optimizer.register_step_post_hook(lambda *_: signal.raise_signal(signal.SIGTERM))
    with opened(module) as learner, pytest.raises(KeyboardInterrupt):
        mep.fit(learner, few, optimizer=optimizer, epochs=1, batch_size=16, out=tmp_path)
    assert torch.load(tmp_path / "last.pt", weights_only=True)["batch"] == 1


def test_a_lost_history_is_written_again(few: Pair, tmp_path: Path) -> None:
    history, _ = Scene(few, tmp_path).run(2)
    (tmp_path / "history.jsonl").unlink()  # as if killed between the checkpoint and the history
    Scene(few, tmp_path).run(2, resume=True)
    assert lines(tmp_path) == history.epochs


# --- resident learning ------------------------------------------------------------------------------------------------


@final
class Resident(mep.Backend):
    """A chip of its own: parameters in float64 that it changes itself, or that are changed in steps of 2^-12.

    It settles as the torch backend does, on a copy of the network that nothing outside reaches.
    """

    capabilities: mep.Capabilities = mep.Capabilities(
        couplings=frozenset({"Dense", "Dropout"}),
        costs=frozenset({"squared_error"}),
        resident_learning=True,
        prefers="resident",
        writes="apply",
        arrays="torch",
    )
    step = 2.0**-12

    @classmethod
    def availability(cls) -> mep.Availability:
        return mep.Availability(True)

    def __init__(self, network: mep.EnergyNetwork, *, seed: int = 0) -> None:
        self.network = network
        own = copy.deepcopy(network.module).double()
        for p in own.parameters():
            p.data.zero_()  # what is not programmed is not there
        self.inner = mep.backend("torch", mep.EnergyNetwork.from_module(own), seed=seed, max_steps=8)
        self.learned, self.programmed = 0, 0

    def program(self, parameters: Any) -> None:
        self.programmed += 1
        self.inner.program(parameters)

    def read(self) -> Any:
        return self.inner.read()

    def settle(self, x: Any, *, nudge: mep.Nudge | None = None, start: mep.Equilibrium | None = None) -> Any:
        if nudge is not None:
            nudge = dataclasses.replace(nudge, target=nudge.target.double())
        return self.inner.settle(x.double(), nudge=nudge, start=start)

    def contrast(self, terms: Any) -> Any:
        return self.inner.contrast(terms)

    def apply(self, update: Any) -> None:
        self.inner.apply({name: (u.double() / self.step).round() * self.step for name, u in update.items()})

    def learn(self, x: Any, target: Any, *, rate: float, beta: float) -> None:
        self.learned += 1
        free = self.settle(x)
        up = self.settle(x, nudge=mep.Nudge(beta, target), start=free)
        down = self.settle(x, nudge=mep.Nudge(-beta, target), start=free)
        contrast = self.contrast([(1 / (2 * beta), up), (-1 / (2 * beta), down)])
        self.inner.apply({name: rate * c for name, c in contrast.items()})

    def reseed(self, seed: int) -> None:
        self.inner.reseed(seed)

    def counts(self) -> mep.OperationCounts:
        return self.inner.counts()

    def close(self) -> None:
        self.inner.close()


def chip(module: nn.Sequential) -> mep.EquilibriumPropagation:
    return mep.EquilibriumPropagation(Resident(mep.EnergyNetwork.from_module(module)))


def test_resident_learning_is_the_substrates_own(digits: tuple[Pair, Pair], caplog: pytest.LogCaptureFixture) -> None:
    module = model(hidden=32)
    learner = chip(module)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.05)
    with caplog.at_level(logging.INFO, "mep_neuro"):
        history = mep.fit(learner, *digits, optimizer=optimizer, epochs=3, batch_size=16)
    assert history.learning == "resident"
    assert "learning on the substrate (resident)" in caplog.text
    assert isinstance(learner.substrate, Resident)
    assert learner.substrate.learned == 3 * 90
    assert learner.substrate.programmed == 1
    assert history.last.test_accuracy is not None
    assert history.last.test_accuracy > 0.85
    assert history.counts.samples == 3 * 1438  # samples trained on, though it settles to answer, and again to learn
    assert all(p.grad is None for p in module.parameters())
    assert same(values(module), {name: value.float() for name, value in learner.substrate.read().items()})


def test_resident_learning_is_the_hosts_gradient_descent_done_elsewhere(few: Pair) -> None:
    def run(learning: Any, build: Callable[[nn.Sequential], Any]) -> tuple[mep.History, dict[str, Tensor]]:
        module = model()
        optimizer = torch.optim.SGD(module.parameters(), lr=0.02)
        scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.5)
        with build(module) as learner:
            return mep.fit(
                learner, few, optimizer=optimizer, scheduler=scheduler, learning=learning, epochs=3, batch_size=16
            ), values(module)

    @contextmanager
    def on_a_chip(module: nn.Sequential) -> Iterator[mep.EquilibriumPropagation]:
        yield chip(module)

    resident, host = run("auto", on_a_chip), run("auto", opened)
    assert (resident[0].learning, host[0].learning) == ("resident", "host")
    assert [r.lr for r in resident[0].epochs] == [0.02, 0.01, 0.005]
    for name, value in host[1].items():
        torch.testing.assert_close(resident[1][name], value, rtol=1e-4, atol=1e-5)
    start = model().state_dict()
    assert all((host[1][name] - start[name]).abs().max() > 1e-2 for name in start)  # something was learned


def test_auto_takes_what_the_substrate_prefers_and_says_so(few: Pair, caplog: pytest.LogCaptureFixture) -> None:
    module = model()
    with opened(module) as learner, caplog.at_level(logging.INFO, "mep_neuro"):
        assert mep.fit(learner, few, optimizer=adam(module), epochs=1).learning == "host"
        assert learning_place(learner, "auto") == "host"
    assert "learning on the host" in caplog.text
    learner = chip(module)
    assert learning_place(learner, "auto") == "resident"
    assert mep.fit(learner, few, optimizer=adam(module), epochs=1, learning="host").learning == "host"
    assert isinstance(learner.substrate, Resident)
    assert learner.substrate.learned == 0


def test_a_substrate_that_cannot_learn_is_not_asked_to(few: Pair, tmp_path: Path) -> None:
    module = model()
    before = values(module)
    with opened(module) as learner, pytest.raises(CapabilityError, match="TorchBackend cannot change its own weights"):
        mep.fit(learner, few, optimizer=adam(module), epochs=1, learning="resident", out=tmp_path / "out")
    assert same(values(module), before)
    assert names(tmp_path) == []


@pytest.mark.parametrize("learning", ["resident", "host"])
@pytest.mark.parametrize("step", [None, 3])
def test_what_a_substrate_holds_goes_on_exactly(few: Pair, tmp_path: Path, learning: Any, step: int | None) -> None:
    """Its parameters are not the module's: finer in one case, coarser in the other."""

    def run(out: str, epochs: int, *, resume: bool = False, stop_after: int | None = None) -> Any:
        module = model(dropout=0.2, seed=9 if resume else 0)
        learner, calls = chip(module), iter(range(1, 1000))
        counted = learner.relax if learning == "host" else learner.learn

        def interrupt(*args: Any, **options: Any) -> Any:
            if next(calls) == stop_after:
                signal.raise_signal(signal.SIGINT)
            return counted(*args, **options)

        setattr(learner, counted.__name__, interrupt)
        optimizer = torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.5)
        history = mep.fit(
            learner,
            few,
            few,
            optimizer=optimizer,
            epochs=epochs,
            batch_size=16,
            learning=learning,
            out=tmp_path / out,
            resume=resume,
        )
        assert isinstance(learner.substrate, Resident)
        return measured(history), values(module), learner.substrate.read()

    whole = run("whole", 2)
    assert not same({name: value.double() for name, value in whole[1].items()}, whole[2])
    if step is None:
        run("parts", 1)
    else:
        with pytest.raises(KeyboardInterrupt):
            run("parts", 2, stop_after=step)
    parts = run("parts", 2, resume=True)
    assert equal(parts, whole)


# --- bad input --------------------------------------------------------------------------------------------------------


def bad_fit(few: Pair, tmp_path: Path, said: str, **changes: Any) -> None:
    """fit with these arguments is an InputError, with nothing written and no weight changed."""
    module = model()
    before = values(module)
    arguments = {"train": few, "optimizer": adam(module), "epochs": 1, "out": tmp_path / "out", **changes}
    with opened(module) as learner, pytest.raises(InputError, match=said):
        mep.fit(learner, **arguments)
    assert same(values(module), before)
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"epochs": 0}, "epochs is 0 .* at least 1"),
        ({"epochs": -3}, "epochs is -3"),
        ({"batch_size": 0}, "batch_size 0; both must be at least 1"),
        ({"learning": "remote"}, "learning is 'remote'; give 'auto', 'host' or 'resident'"),
        ({"resume": True, "out": None}, "resume needs out="),
    ],
)
def test_senseless_settings(few: Pair, tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    bad_fit(few, tmp_path, said, **changes)


@pytest.mark.parametrize("which", ["train", "test", "validation"])
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda x, y: (x[:0], y[:0]), "{} data hold no samples"),
        (lambda x, y: (x, y[:-1]), r"x has 100 samples, but the target has 99 \(the {} data\)"),
        (lambda x, y: (x[:, :63], y), r"x has shape \(1, 63\); the network takes \(batch, 64\)"),
        (lambda x, y: (x.long(), y), "x holds int64; give floating point numbers"),
        (lambda x, y: (x, y + 1), r"labels run from 1 to 10, .* must lie in 0\.\.9"),
        (lambda x, y: (x, y - 1), "labels run from -1 to 8"),
        (lambda x, y: (x, y.float()), "target has shape"),
        (lambda x, y: (x, torch.zeros(100, 9)), "target has shape"),
        (lambda x, y: (x.index_fill(0, torch.tensor(41), torch.nan), y), "x is not finite in sample 41 of the {} data"),
        (lambda x, y: (x.index_fill(0, torch.tensor(7), torch.inf), y), "x is not finite in sample 7 of the {} data"),
        (lambda x, y: (x, torch.full((100, 10), torch.nan)), "the target is not finite in sample 0 of the {} data"),
    ],
)
def test_bad_tensors_are_told_of_before_anything_runs(
    few: Pair, tmp_path: Path, which: str, change: Callable[[Tensor, Tensor], Pair], said: str
) -> None:
    bad_fit(few, tmp_path, said.format("training" if which == "train" else which), **{which: change(*few)})


def test_an_optimizer_of_other_parameters(few: Pair, tmp_path: Path) -> None:
    bad_fit(few, tmp_path, "holds none of the network's parameters", optimizer=adam(model(seed=1)))


def test_a_folder_that_cannot_be(few: Pair, tmp_path: Path) -> None:
    module = model()
    (tmp_path / "file").write_bytes(b"content")
    with opened(module) as learner, pytest.raises(InputError, match="cannot be a folder"):
        mep.fit(learner, few, optimizer=adam(module), epochs=1, out=tmp_path / "file" / "out")
    assert (tmp_path / "file").read_bytes() == b"content"


def test_batches_that_are_none(few: Pair, tmp_path: Path) -> None:
    module = model()
    with opened(module) as learner:
        with pytest.raises(InputError, match=r"the training data hold no samples$"):
            mep.fit(learner, [], optimizer=adam(module), epochs=1)
        with pytest.raises(InputError, match="no samples in epoch 2: give tensors, a DataLoader or a list, not an it"):
            mep.fit(learner, iter([few]), optimizer=adam(module), epochs=2, out=tmp_path)
        with pytest.raises(InputError, match="the data hold no samples"):
            mep.evaluate(learner, [])
    assert len(lines(tmp_path)) == 1  # the first epoch is kept


def test_nan_in_a_batch_is_told_of_and_nothing_is_lost(few: Pair, tmp_path: Path) -> None:
    module = model()
    bad = few[0].clone()
    bad[70, 5] = torch.nan
    with opened(module) as learner:
        mep.fit(learner, [few, few], optimizer=adam(module), epochs=1, out=tmp_path)
        before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
        trained = values(module)
        with pytest.raises(InputError, match=r"x is not finite in sample 70"):
            mep.fit(learner, [(bad, few[1]), few], optimizer=adam(module), epochs=2, out=tmp_path, resume=True)
    assert same(values(module), trained)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_training_that_diverges_is_told_of_and_nothing_is_lost(few: Pair, tmp_path: Path) -> None:
    module = model()
    learner = chip(module)  # a substrate that does not look at its own numbers
    optimizer = torch.optim.SGD(module.parameters(), lr=1e-3)
    mep.fit(learner, few, optimizer=optimizer, epochs=1, out=tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    for group in optimizer.param_groups:
        group["lr"] = 1.0
    with pytest.raises(InputError, match=r"the training cost of epoch 1 is not finite: .* lower the learning rate"):
        mep.fit(learner, few, optimizer=optimizer, epochs=1, batch_size=2, out=tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_nothing_to_resume(few: Pair, tmp_path: Path) -> None:
    module = model()
    with opened(module) as learner, pytest.raises(CheckpointError, match=r"no checkpoint .*nothing to resume"):
        mep.fit(learner, few, optimizer=adam(module), epochs=1, out=tmp_path, resume=True)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"seed": 1}, "has seed 0, not 1"),
        ({"batch_size": 10}, "has batch size 16, not 10"),
        ({"beta": 0.25}, "has beta 0.5, not 0.25"),
        ({"nudging": "one_sided"}, r"has nudging Centered\(\), not OneSided\(\)"),
        ({"optimizer": torch.optim.SGD}, "has optimizer Adam, not SGD"),
        ({"scheduler": True}, "has scheduler None, not StepLR"),
        ({"groups": True}, "has other parameter groups in its optimizer"),
        ({"samples": 50}, "has number of training samples 100, not 50"),
        ({"cost": "cross_entropy"}, "has cost squared_error, not cross_entropy"),
    ],
)
def test_a_run_goes_on_as_it_was_or_not_at_all(few: Pair, tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    def run(resume: bool, **changes: Any) -> None:
        module = model(seed=1 if resume else 0)
        before = values(module)
        parameters: Any = module.parameters()
        if changes.get("groups"):
            parameters = [{"params": [p]} for p in module.parameters()]
        optimizer = changes.get("optimizer", torch.optim.Adam)(parameters, lr=1e-3)
        scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1) if changes.get("scheduler") else None
        data = tuple(part[: changes.get("samples", 100)] for part in few)
        with opened(module, **{k: v for k, v in changes.items() if k in ("beta", "nudging", "cost")}) as learner:
            try:
                mep.fit(
                    learner,
                    data,  # type: ignore[arg-type]
                    optimizer=optimizer,
                    scheduler=scheduler,
                    epochs=2,
                    batch_size=changes.get("batch_size", 16),
                    seed=changes.get("seed", 0),
                    out=tmp_path,
                    resume=resume,
                )
            except InputError:
                assert same(values(module), before)
                raise

    run(False)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(InputError, match=said):
        run(True, **changes)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


# --- the progress bar -------------------------------------------------------------------------------------------------


def test_a_progress_bar_on_standard_error_when_asked_for(
    few: Pair, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TTY_COMPATIBLE", "1")  # Rich draws as on a terminal
    module = model()
    with opened(module) as learner:
        mep.fit(learner, few, optimizer=adam(module), epochs=2, batch_size=16, progress=True)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "epoch 2/2" in shown.err
    assert "14/14" in shown.err


def test_no_progress_bar_where_standard_error_is_no_terminal(few: Pair, capsys: pytest.CaptureFixture[str]) -> None:
    module = model()
    with opened(module) as learner:
        mep.fit(learner, few, optimizer=adam(module), epochs=1)
    assert capsys.readouterr() == ("", "")


# --- measuring --------------------------------------------------------------------------------------------------------

MEASURED = mep.MeasuredEnergy("rapl", "package-0", 120.0, 4.0, 9.0, 11.0, ((2.0, 58.0), (2.0, 62.0)))


class Meter:
    """Stands in for an `EnergyMeter`: what it measured, or why it did not."""

    def __init__(self, result: mep.MeasuredEnergy | None, why: str = "") -> None:
        self.result, self.why, self.calls = result, why, list[Any]()

    def __call__(self, name: str, *, device: torch.device, synchronize: Callable[[], object]) -> Meter:
        synchronize()
        self.calls.append((name, device))
        return self

    def __enter__(self) -> Meter:
        self.calls.append("begun")
        return self

    def __exit__(self, *error: object) -> None:
        self.calls.append("ended")


def test_joules_are_measured_over_the_whole_run(few: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    meter, module = Meter(MEASURED), model()
    monkeypatch.setattr("mep_neuro.training.meter_of", meter)
    with opened(module) as learner:
        history = mep.fit(
            learner, few, few, optimizer=adam(module), epochs=2, batch_size=16, measure="rapl", out=tmp_path
        )
    assert meter.calls == [("rapl", torch.device("cpu")), "begun", "ended"]
    assert history.measured == MEASURED
    assert history.not_measured == ""
    assert history.measured_per_sample is not None
    assert history.measured_per_sample.joules == 120.0 / 200
    report = mep.account(history.counts)
    whole = report.joules_per_sample * 200 + mep.account(history.evaluation).joules_per_sample * 200
    assert history.estimated_over_measured(report) == pytest.approx(whole / 120.0)
    kept = torch.load(tmp_path / "last.pt", weights_only=True)["history"]
    assert mep.History.from_json(kept) == history


def test_why_joules_are_not_measured_is_told(few: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(measure: str | None, **more: Any) -> mep.History:
        module = model()
        with opened(module) as learner:
            return mep.fit(learner, few, optimizer=adam(module), epochs=1, batch_size=50, measure=measure, **more)

    assert (run(None).measured, run(None).not_measured) == (None, "")
    monkeypatch.setattr("mep_neuro.accounting.measuring.find_sensor", lambda *a, **k: "no sensor: none here")
    history = run("auto", out=tmp_path)
    assert (history.measured, history.not_measured) == (None, "no sensor: none here")
    assert history.measured_per_sample is None
    assert history.estimated_over_measured(mep.account(history.counts)) is None
    assert "only a part of it could be measured" in run("auto", out=tmp_path, resume=True).not_measured
    monkeypatch.undo()
    with pytest.raises(InputError, match="no sensor 'rapll'"):
        run("rapll")
