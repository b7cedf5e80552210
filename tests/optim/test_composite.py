"""CompositeOptimizer as a torch optimizer: groups, schedulers, saved state, frozen parameters, clipping, decay."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import mep_neuro as mep
from mep_neuro.errors import InputError, OptionError

X = torch.rand(10, 6, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
Y = X[:, :3].argmax(1)

Factory = Callable[..., mep.CompositeOptimizer]

FACTORIES: dict[str, Factory] = {
    "smep": mep.smep,
    "smep with feedback": partial(mep.smep, use_error_feedback=True),
    "smep backprop": partial(mep.smep, mode="backprop"),
    "smep_fast": mep.smep_fast,
    "sdmep": mep.sdmep,
    "sdmep at low rank": partial(mep.sdmep, dion_thresh=0, rank_frac=0.4),
    "local_ep": mep.local_ep,
    "natural_ep": mep.natural_ep,
    "natural_ep diagonal": partial(mep.natural_ep, use_diagonal_fisher=True),
    "muon_backprop": partial(mep.muon_backprop, gamma=0.5),
}
every_factory = pytest.mark.parametrize("factory", FACTORIES.values(), ids=FACTORIES)


def module() -> nn.Sequential:
    torch.manual_seed(1)
    layers = nn.Linear(6, 8), nn.Hardsigmoid(), nn.Linear(8, 7), nn.Hardsigmoid(), nn.Linear(7, 3)
    return nn.Sequential(*layers).double()


def one_hot() -> Tensor:
    return nn.functional.one_hot(Y, 3).double()


def train(optimizer: mep.CompositeOptimizer, model: nn.Sequential, steps: int = 1) -> None:
    for _ in range(steps):
        if isinstance(optimizer.gradient, mep.EPGradient):
            optimizer.step(x=X, target=Y)
        else:
            optimizer.zero_grad()
            (0.5 * (model(X) - one_hot()).square().sum(1)).mean().backward()
            optimizer.step()


def values(model: nn.Module) -> list[Tensor]:
    return [p.detach().clone() for p in model.parameters()]


def same(a: list[Tensor], b: list[Tensor]) -> list[bool]:
    return [torch.equal(p, q) for p, q in zip(a, b, strict=True)]


@every_factory
def test_it_is_a_torch_optimizer_and_moves_every_parameter(factory: Factory) -> None:
    model = module()
    optimizer = factory(model.parameters(), model)
    assert isinstance(optimizer, torch.optim.Optimizer)
    before = values(model)
    train(optimizer, model)
    assert not any(same(before, values(model)))
    assert len(optimizer.param_groups) == 1


@every_factory
def test_the_cost_falls(factory: Factory) -> None:
    model = module()
    optimizer = factory(model.parameters(), model, lr=0.01)

    def wrong() -> float:
        if isinstance(optimizer.gradient, mep.EPGradient):
            return float(optimizer.gradient.accumulate(X, Y, add=False))
        return float((model(X) - one_hot()).square().sum().detach())

    before = wrong()
    train(optimizer, model, 100)
    assert wrong() < (0.99 if "sdmep" in str(factory) else 0.95) * before  # sdmep's is cross-entropy under the bound


@every_factory
def test_a_saved_state_goes_on_bit_for_bit(factory: Factory) -> None:
    whole = module()
    train(factory(whole.parameters(), whole), whole, 10)
    first = module()
    optimizer = factory(first.parameters(), first)
    train(optimizer, first, 5)
    file = io.BytesIO()
    torch.save({"model": first.state_dict(), "optimizer": optimizer.state_dict()}, file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    second = module()
    fresh = factory(second.parameters(), second)
    second.load_state_dict(saved["model"])
    assert not all(same(values(second), values(whole)))
    fresh.load_state_dict(saved["optimizer"])
    train(fresh, second, 5)
    assert all(same(values(second), values(whole)))
    forgetful = module()
    forgetful.load_state_dict(saved["model"])
    train(factory(forgetful.parameters(), forgetful), forgetful, 5)
    assert not any(same(values(forgetful), values(whole)))  # the state matters


@every_factory
def test_groups_have_learning_rates_of_their_own(factory: Factory) -> None:
    """Each group given by an iterator that can be read once only."""
    model = module()
    groups = [{"params": model[0].parameters(), "lr": 0.0}, {"params": iter([model[2].weight, model[2].bias])}]
    optimizer = factory([*groups, {"params": model[4].bias, "lr": 1e-4}], model, lr=0.01)
    assert [len(g["params"]) for g in optimizer.param_groups] == [2, 2, 1]
    before = values(model)
    train(optimizer, model)
    assert same(before, values(model)) == [True, True, False, False, True, False]
    moved = (model[4].bias.detach() - before[5]).abs().max()
    assert float(moved) == pytest.approx(1e-4, rel=1e-3)  # Adam's first step is lr


def test_groups_without_options_stay_apart_and_names_are_taken() -> None:
    model = module()
    optimizer = mep.smep([{"params": layer.parameters()} for layer in (model[0], model[2])], model)
    assert len(optimizer.param_groups) == 2
    torch.optim.lr_scheduler.LambdaLR(optimizer, [lambda epoch: 1.0, lambda epoch: 0.5])
    assert [g["lr"] for g in optimizer.param_groups] == [0.01, 0.005]
    named = mep.smep(model.named_parameters(), model)
    assert named.param_groups[0]["param_names"][0] == "0.weight"
    train(named, model)


def test_a_group_may_have_options_of_the_update() -> None:
    def run(**own: Any) -> list[Tensor]:
        model = module()
        train(mep.smep([{"params": list(model.parameters()), **own}], model), model, 2)
        return values(model)

    def asked(**options: Any) -> list[Tensor]:
        model = module()
        train(mep.smep(model.parameters(), model, **options), model, 2)
        return values(model)

    for options in ({"ns_steps": 2}, {"momentum": 0.2}, {"weight_decay": 0.3}):
        assert all(same(run(**options), asked(**options)))
        assert not all(same(run(), asked(**options)))


def test_an_added_group_is_trained_and_checked() -> None:
    model = module()
    optimizer = mep.local_ep(model[0].parameters(), model)
    before = values(model)
    train(optimizer, model)
    assert same(before, values(model)) == [False, False, True, True, True, True]
    optimizer.add_param_group({"params": model[4].parameters(), "lr": 0.5})
    train(optimizer, model)
    assert same(before, values(model)) == [False, False, True, True, False, False]
    for wrong, message in (
        ({"momentun": 0.5}, "no option 'momentun'.*Did you mean 'momentum'"),
        ({"lr": -1.0}, "lr is -1.0"),
        ({"momentum": 1.0}, r"momentum is 1.0; it must lie in \[0, 1\)"),
        ({"betas": (0.9, 1.0)}, "betas is"),
    ):
        with pytest.raises(OptionError, match=message):
            optimizer.add_param_group({"params": model[2].parameters(), **wrong})
        assert len(optimizer.param_groups) == 2


def test_parameters_of_another_model_are_refused() -> None:
    model, other = module(), module()
    with pytest.raises(InputError, match="none of the model's parameters"):
        mep.smep(other.parameters(), model, mode="backprop")
    with pytest.raises(InputError, match="not the model's, and EP has no gradient"):
        mep.smep(other.parameters(), model)
    with pytest.raises(InputError, match="not the model's, and EP has no gradient"):
        mep.smep([*model.parameters(), *other.parameters()], model)
    whole = nn.ModuleList([model, other])  # backprop reaches beyond the model
    optimizer = mep.smep(whole.parameters(), model, mode="backprop")
    before = values(whole)
    other(model(X)[:, [0, 1, 2, 0, 1, 2]]).square().sum().backward()
    optimizer.step()
    assert not any(same(before, values(whole)))


@every_factory
def test_frozen_parameters_stay(factory: Factory) -> None:
    model = module()
    model[0].requires_grad_(False)
    optimizer = factory(model.parameters(), model, weight_decay=0.5)
    before = values(model)
    train(optimizer, model, 2)
    assert same(before, values(model)) == [True, True, False, False, False, False]
    model[2].requires_grad_(False)  # frozen on the way: its last gradient is still in p.grad
    before = values(model)
    train(optimizer, model, 2)
    assert same(before, values(model)) == [True, True, True, True, False, False]


@every_factory
@pytest.mark.parametrize(
    "scheduler",
    [
        lambda o: torch.optim.lr_scheduler.StepLR(o, step_size=1, gamma=0.125),
        lambda o: torch.optim.lr_scheduler.LambdaLR(o, lambda epoch: 0.125**epoch),
    ],
)
def test_a_scheduler_scales_the_step(factory: Factory, scheduler: Callable[[Any], Any]) -> None:
    moved = []
    for scheduled in (False, True):
        model = module()
        with torch.no_grad():
            model[2].weight.mul_(0.2)  # far below the spectral bound, which would not scale along
            model[4].weight.mul_(0.2)
        optimizer = factory(model.parameters(), model, lr=1e-3)
        plan = scheduler(optimizer) if scheduled else None
        train(optimizer, model)
        if plan is not None:
            plan.step()
        before = values(model)
        train(optimizer, model)
        moved.append([p - q for p, q in zip(values(model), before, strict=True)])
    for constant, scaled in zip(*moved, strict=True):
        torch.testing.assert_close(scaled, 0.125 * constant, rtol=1e-9, atol=1e-14)


@every_factory
def test_one_cycle_moves_the_rate_and_the_momentum(factory: Factory) -> None:
    model = module()
    optimizer = factory(model.parameters(), model)
    plan = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.05, total_steps=6)
    seen = []
    for _ in range(5):
        seen.append((optimizer.param_groups[0]["lr"], optimizer.param_groups[0]["betas"][0]))
        train(optimizer, model)
        plan.step()
    assert len(set(seen)) == 5


def test_to_moves_every_tensor_of_the_state() -> None:
    model = module()
    optimizer = mep.smep(model.parameters(), model, use_error_feedback=True)
    train(optimizer, model)
    kept = copy.deepcopy(optimizer.state_dict()["state"])
    assert optimizer.to("cpu") is optimizer
    for index, state in optimizer.state_dict()["state"].items():
        assert all(torch.equal(v, kept[index][k]) if isinstance(v, Tensor) else True for k, v in state.items())
    optimizer.to("meta")
    tensors = [v for state in optimizer.state.values() for v in state.values() if isinstance(v, Tensor)]
    assert len(tensors) > 6
    assert all(v.device.type == "meta" for v in tensors)


def test_zero_grad_clears() -> None:
    model = module()
    optimizer = mep.smep(model.parameters(), model)
    train(optimizer, model)
    assert all(p.grad is not None for p in model.parameters())
    optimizer.zero_grad()
    assert all(p.grad is None for p in model.parameters())


def test_weight_decay_pulls_by_lr_times_decay() -> None:
    after = []
    for decay in (0.0, 0.25):
        model = module()
        before = values(model)
        train(mep.local_ep(model.parameters(), model, weight_decay=decay, lr=0.02), model)
        after.append(values(model))
    for plain, decayed, p in zip(*after, before, strict=True):
        torch.testing.assert_close(decayed, plain - 0.02 * 0.25 * p)


def test_clipping_scales_all_gradients_together() -> None:
    grads = []
    for limit in (None, 1e6, 1e-3):
        model = module()
        train(mep.smep(model.parameters(), model, max_grad_norm=limit), model)
        grads.append([p.grad for p in model.parameters()])
    free, loose, tight = grads
    norm = torch.cat([g.flatten() for g in free]).norm()
    assert norm > 1e-3
    for a, b, c in zip(free, loose, tight, strict=True):
        assert torch.equal(a, b)
        torch.testing.assert_close(c, a * 1e-3 / norm, rtol=1e-2, atol=0)


def test_what_has_no_matrix_and_the_read_out_follow_adam() -> None:
    """The parts that are not the update's against torch.optim.Adam on the same gradients."""
    model, twin = module(), module()
    optimizer = mep.smep(model.parameters(), model, lr=0.01, gamma=None)
    adam = torch.optim.Adam(twin.parameters(), lr=0.01)
    for _ in range(3):
        train(optimizer, model)
        for p, q in zip(model.parameters(), twin.parameters(), strict=True):
            q.grad = p.grad
        adam.step()
    agree = [torch.allclose(p, q, atol=1e-12) for p, q in zip(model.parameters(), twin.parameters(), strict=True)]
    assert agree == [False, True, False, True, True, True]


def test_the_plain_update_is_sgd_with_momentum() -> None:
    model = module()
    ours = mep.CompositeOptimizer([model[0].weight], lr=0.1, momentum=0.7)
    twin = module()
    theirs = torch.optim.SGD([twin[0].weight], lr=0.1, momentum=0.7)
    for optimizer, net in ((ours, model), (theirs, twin)):
        for _ in range(4):
            optimizer.zero_grad()
            net(X).square().sum().backward()
            optimizer.step()
    assert torch.equal(model[0].weight, twin[0].weight)


def test_parts_that_do_not_fit_are_refused() -> None:
    model = module()
    network = mep.EnergyNetwork.from_module(model)
    with pytest.raises(OptionError, match="PlainUpdate leaves nothing out"):
        mep.CompositeOptimizer(model.parameters(), lr=0.1, feedback=mep.ErrorFeedback())
    with pytest.raises(OptionError, match="NaturalUpdate leaves nothing out"):
        mep.CompositeOptimizer(
            model.parameters(),
            lr=0.1,
            gradient=mep.EPGradient(network, keep=True),
            update=mep.NaturalUpdate(),
            feedback=mep.ErrorFeedback(),
        )
    with pytest.raises(OptionError, match="give the model as well"):
        mep.CompositeOptimizer(model.parameters(), lr=0.1, constraint=mep.SpectralConstraint())
    with pytest.raises(OptionError, match=r"no option 'momentun'.*Did you mean 'momentum'"):
        mep.CompositeOptimizer(model.parameters(), lr=0.1, momentun=0.5)
    with pytest.raises(OptionError, match="no option 'ns_steps'"):  # Muon's, and the update is the plain one
        mep.CompositeOptimizer(model.parameters(), lr=0.1, ns_steps=5)
    for decay in (0.0, -0.1, 1.1, float("nan")):
        with pytest.raises(OptionError, match="decay of the error feedback"):
            mep.ErrorFeedback(decay)
    with pytest.raises(ValueError, match="empty parameter list"):
        mep.smep([], model)


def test_natural_needs_statistics() -> None:
    model = module()
    optimizer = mep.CompositeOptimizer(model.parameters(), lr=0.1, update=mep.NaturalUpdate())
    model(X).square().sum().backward()
    with pytest.raises(InputError, match="needs the local statistics of EP"):
        optimizer.step()
