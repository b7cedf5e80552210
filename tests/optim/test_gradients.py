"""Where gradients come from: EP's are exactly the learner's, local to two populations; backprop's are autograd's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import mep_neuro as mep
from mep_neuro.costs import cost, encode_target
from mep_neuro.errors import BackendNotFound, InputError, OptionError

X = torch.rand(10, 6, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
Y = torch.arange(10) % 3


def module(depth: int = 2, activation: type[nn.Module] = nn.Hardsigmoid) -> nn.Sequential:
    torch.manual_seed(1)
    layers: list[nn.Module] = [nn.Linear(6, 7), activation()]
    for _ in range(depth - 1):
        layers += [nn.Linear(7, 7), activation()]
    return nn.Sequential(*layers, nn.Linear(7, 3)).double()


def network(model: nn.Sequential, energy: str = "hopfield") -> mep.EnergyNetwork:
    return mep.EnergyNetwork.from_module(model, energy=energy)


def values(model: nn.Module) -> list[Tensor]:
    return [p.detach().clone() for p in model.parameters()]


def grads(model: nn.Module) -> list[Tensor]:
    return [p.grad.clone() for p in model.parameters() if p.grad is not None]


def close(a: list[Tensor], b: list[Tensor], **tolerance: Any) -> None:
    for p, q in zip(a, b, strict=True):
        torch.testing.assert_close(p, q, **tolerance)


EP = [mep.smep, mep.smep_fast, mep.sdmep, mep.local_ep, mep.natural_ep]


@pytest.mark.parametrize("name", ["torch", "reference"])
@pytest.mark.parametrize("kind", ["squared_error", "cross_entropy"])
@pytest.mark.parametrize("nudging", ["centered", "one_sided"])
def test_a_step_fills_the_learners_gradient_and_returns_the_free_cost(name: str, kind: str, nudging: str) -> None:
    model = module()
    learner = mep.EquilibriumPropagation(
        mep.backend(name, network(model), max_steps=12), beta=0.3, nudging=nudging, cost=kind
    )
    wanted = learner.estimate(X, Y)
    outputs = learner.predict(X)
    by_hand = cost(kind, outputs, encode_target(Y, (3,), torch.float64)).mean()
    for p in model.parameters():
        p.grad = torch.full_like(p, 7.0)  # what is there is replaced
    optimizer = mep.smep(
        model.parameters(),
        model,
        backend=name,
        beta=0.3,
        settle_steps=12,
        nudging=nudging,
        loss_type={"squared_error": "mse"}.get(kind, kind),
    )
    loss = optimizer.step(x=X, target=Y)
    for n, p in model.named_parameters():
        assert p.grad is not None
        assert torch.equal(p.grad, wanted[n])
    assert loss.shape == ()
    assert not loss.requires_grad
    torch.testing.assert_close(loss, by_hand)


@pytest.mark.parametrize("make", EP)
def test_the_reference_gives_the_same_steps(make: Callable[..., mep.CompositeOptimizer]) -> None:
    after = []
    for name in ("torch", "reference"):
        model = module()
        optimizer = make(model.parameters(), model, backend=name)
        losses = [float(optimizer.step(x=X, target=Y)) for _ in range(3)]
        assert type(optimizer.gradient.learner.substrate).__name__.lower().startswith(name)
        after.append([*values(model), torch.tensor(losses, dtype=torch.float64)])
    close(*after, rtol=1e-7, atol=1e-9)


def test_targets_may_be_values() -> None:
    after = []
    for target in (Y, nn.functional.one_hot(Y, 3).double()):
        model = module()
        mep.smep(model.parameters(), model).step(x=X, target=target)
        after.append(values(model))
    close(*after)


@pytest.mark.parametrize("make", [mep.smep, mep.local_ep, mep.sdmep])
def test_accumulated_gradients_add_up_and_a_step_takes_them(make: Callable[..., mep.CompositeOptimizer]) -> None:
    """Each batch's gradient is the mean of its samples: two halves add up to twice the whole's."""
    whole, parts = module(), module()
    one, two = make(whole.parameters(), whole), make(parts.parameters(), parts)
    for _ in range(2):
        loss = one.step(x=X, target=Y)
        two.zero_grad()
        first, second = two.accumulate(x=X[:5], target=Y[:5]), two.accumulate(x=X[5:], target=Y[5:])
        assert not first.requires_grad
        torch.testing.assert_close((first + second) / 2, loss)
        close(grads(parts), [2 * g for g in grads(whole)], rtol=1e-9, atol=1e-13)
        for p in parts.parameters():
            assert p.grad is not None
            p.grad /= 2
        before = values(parts)
        assert two.step() is None
        assert not any(torch.equal(p, q) for p, q in zip(before, values(parts), strict=True))
        close(values(parts), values(whole), rtol=1e-9, atol=1e-11)


def test_a_gradient_from_a_learner_elsewhere_is_stepped_with() -> None:
    ours, theirs = module(), module()
    optimizer = mep.local_ep(ours.parameters(), ours, beta=0.3, settle_steps=12)
    optimizer.step(x=X, target=Y)
    other = mep.local_ep(theirs.parameters(), theirs)
    mep.EquilibriumPropagation(mep.backend("torch", network(theirs), max_steps=12), beta=0.3).estimate(X, Y)
    other.step()
    close(values(ours), values(theirs))


@pytest.mark.parametrize("make", EP)
@pytest.mark.parametrize("times", [8, 64])
def test_repeating_a_sample_changes_no_gradient(make: Callable[..., mep.CompositeOptimizer], times: int) -> None:
    found = []
    for n in (1, times):
        model = module()
        make(model.parameters(), model).step(x=X[:1].repeat(n, 1), target=Y[:1].repeat(n))
        found.append([*grads(model), *values(model)])
    assert all(g.norm() > 1e-6 for g in found[0])
    close(*found, rtol=1e-8, atol=1e-11)


@pytest.mark.parametrize(("steps", "reached"), [(30, 0.05), (80, 0.95)])
@pytest.mark.parametrize("activation", [nn.Tanh, nn.ReLU])
def test_deep_hidden_layers_get_backprops_gradient(activation: type[nn.Module], steps: int, reached: float) -> None:
    """20 hidden layers: all point where backprop points from the start, and reach its length as they settle. The
    ancestor: zero for 14 of 20 layers."""
    model = module(20, activation)
    optimizer = mep.local_ep(model.parameters(), model, energy="prediction_error", beta=0.01, settle_steps=steps)
    (0.5 * (model(X) - nn.functional.one_hot(Y, 3)).square().sum(1)).mean().backward()
    backprop = grads(model)
    optimizer.step(x=X, target=Y)
    for ours, theirs in zip(grads(model), backprop, strict=True):
        assert 1.05 * theirs.norm() > ours.norm() > reached * theirs.norm() > 0
        assert float((ours * theirs).sum() / ours.norm() / theirs.norm()) > 0.98


def test_backprop_takes_autograds_gradient_and_closures() -> None:
    runs = []
    for closed in (False, True):
        model = module()
        optimizer = mep.muon_backprop(model.parameters(), model)

        def evaluate(model: nn.Module = model, optimizer: Any = optimizer) -> Tensor:
            optimizer.zero_grad()
            loss = model(X).square().mean()
            loss.backward()
            return loss

        for _ in range(3):
            if closed:
                loss = optimizer.step(evaluate)
                assert loss.requires_grad
            else:
                evaluate()
                assert optimizer.step() is None
        runs.append(values(model))
    close(*runs, rtol=0, atol=0)


def test_a_mode_is_what_it_says() -> None:
    """mode="backprop" steps with autograd's gradient, which the ancestor's smep never read."""
    model = module()
    optimizer = mep.smep(model.parameters(), model, mode="backprop")
    before = values(model)
    optimizer.step()  # no gradient yet: nothing moves
    close(values(model), before, rtol=0, atol=0)
    model[0](X).sum().backward()  # of the first layer alone
    optimizer.step()
    moved = [not torch.equal(p, q) for p, q in zip(values(model), before, strict=True)]
    assert moved == [True, True, False, False, False, False]


def test_what_belongs_to_the_other_mode_is_refused() -> None:
    model = module()
    ep, backprop = mep.smep(model.parameters(), model), mep.smep(model.parameters(), model, mode="backprop")
    before = values(model)
    for given in ({"x": X}, {"target": Y}, {"x": X, "target": Y}):
        with pytest.raises(InputError, match="belongs to mode='ep'"):
            backprop.step(**given)
    with pytest.raises(InputError, match="accumulate belongs to mode='ep'"):
        backprop.accumulate(x=X, target=Y)
    for given in ({}, {"x": X}, {"target": Y}):
        with pytest.raises(InputError, match="a step needs both"):
            ep.step(**given)
    with pytest.raises(InputError, match="in mode='ep' there is no closure"):
        ep.step(lambda: None, x=X, target=Y)
    with pytest.raises(InputError, match="10 samples, but the target has 9"):
        ep.step(x=X, target=Y[:9])
    close(values(model), before, rtol=0, atol=0)


class Watch:
    """Counts how often a substrate is closed."""

    def __init__(self, substrate: mep.Backend, monkeypatch: pytest.MonkeyPatch) -> None:
        self.closed, own = 0, substrate.close

        def close() -> None:
            self.closed += 1
            own()

        monkeypatch.setattr(substrate, "close", close)


def test_an_open_substrate_is_used_and_left_open(monkeypatch: pytest.MonkeyPatch) -> None:
    model = module()
    substrate = mep.backend("torch", network(model), max_steps=2)
    watch = Watch(substrate, monkeypatch)
    optimizer = mep.smep(model.parameters(), model, backend=substrate)
    optimizer.step(x=X, target=Y)
    named = module()
    mep.smep(named.parameters(), named, settle_steps=2).step(x=X, target=Y)
    close(values(model), values(named), rtol=0, atol=0)
    assert optimizer.gradient.learner.substrate is substrate
    assert substrate.counts() != mep.backend("torch", network(named)).counts()
    optimizer.close()
    assert watch.closed == 0
    optimizer.step(x=X, target=Y)


def test_a_substrate_opened_by_name_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    model = module()
    optimizer = mep.smep(model.parameters(), model, backend="reference")
    watch = Watch(optimizer.gradient.learner.substrate, monkeypatch)
    optimizer.close()
    assert watch.closed == 1
    optimizer.close()  # twice is safe


def test_substrates_and_settings_that_do_not_fit_are_refused() -> None:
    model = module()
    substrate = mep.backend("torch", network(model))
    for settings in ({"settle_steps": 3}, {"settle_lr": 0.5}, {"seed": 0}):
        with pytest.raises(OptionError, match=f"{next(iter(settings))} cannot be given with an open substrate"):
            mep.smep(model.parameters(), model, backend=substrate, **settings)
    with pytest.raises(OptionError, match="max_steps cannot be given with an open substrate"):
        mep.EPGradient(model, backend=substrate, max_steps=3)
    other = module()
    with pytest.raises(InputError, match="holds another model"):
        mep.smep(other.parameters(), other, backend=substrate)
    with pytest.raises(OptionError, match="energy is 'prediction_error', but the network has 'hopfield'"):
        mep.smep(model.parameters(), model, backend=substrate, energy="prediction_error")
    with pytest.raises(OptionError, match="energy is 'hopfield', but the network has 'prediction_error'"):
        mep.smep(model.parameters(), network(model, "prediction_error"), energy="hopfield")
    with pytest.raises(BackendNotFound, match="torch"):
        mep.smep(model.parameters(), model, backend="troch")


def test_a_network_may_stand_for_the_model() -> None:
    after = []
    for as_network in (False, True):
        model = module()
        given = network(model, "prediction_error") if as_network else model
        mep.smep(model.parameters(), given, energy="prediction_error").step(x=X, target=Y)
        after.append(values(model))
    close(*after, rtol=0, atol=0)


@pytest.mark.parametrize("name", ["torch", "reference"])
def test_a_gradient_knows_nothing_but_the_two_ends_of_its_synapses(name: str) -> None:
    """Disturb population k in the nudged phase: only what ends on it, couplings k and k + 1 and its bias, notices."""
    model = module(3)
    learner = mep.EquilibriumPropagation(mep.backend(name, network(model)))
    terms = learner.relax(X, Y).terms
    original = learner.gradient(terms)
    (weight, first), *rest = terms
    for k in range(4):
        states = list(first.states)
        states[k] = states[k] + (np.float64(0.3) if name == "reference" else 0.3)
        disturbed = learner.gradient([(weight, replace(first, states=tuple(states))), *rest])
        noticed = {n for n, g in disturbed.items() if not torch.allclose(g, original[n], rtol=0, atol=1e-12)}
        near = {f"{2 * k}.weight", f"{2 * k}.bias", f"{2 * k + 2}.weight"}
        assert noticed == near & set(original)


def stepped(make: Callable[..., mep.CompositeOptimizer], altered: int | None, **options: Any) -> list[Tensor]:
    """Three steps; the gradient of one layer is changed between `accumulate` and `step`."""
    model = module(3)
    optimizer = make(model.parameters(), model, **options)
    for _ in range(3):
        fixed = module(3)
        source = mep.local_ep(fixed.parameters(), fixed)  # the same gradients at every step, whatever moved
        source.accumulate(x=X, target=Y)
        for index, (p, q) in enumerate(zip(model.parameters(), fixed.parameters(), strict=True)):
            assert q.grad is not None
            p.grad = q.grad * (1 + 50 * torch.arange(q.numel()).reshape(q.shape)) if index == altered else q.grad
        optimizer.step()
    return values(model)


@pytest.mark.parametrize("altered", range(8))
def test_local_ep_steps_each_parameter_by_its_own_gradient(altered: int) -> None:
    pairs = zip(stepped(mep.local_ep, None), stepped(mep.local_ep, altered), strict=True)
    assert [index for index, (p, q) in enumerate(pairs) if not torch.equal(p, q)] == [altered]


def test_local_ep_steps_each_synapse_by_its_own_gradient() -> None:
    """Even within a weight: one entry's gradient changed, one entry moves otherwise. Muon gathers over the matrix."""

    def moved(make: Callable[..., mep.CompositeOptimizer]) -> int:
        after = []
        for extra in (0.0, 1.0):
            model = module()
            optimizer = make(model.parameters(), model)
            optimizer.accumulate(x=X, target=Y)
            assert model[0].weight.grad is not None
            model[0].weight.grad[2, 3] += extra
            optimizer.step()
            after.append(model[0].weight.detach().clone())
        return int((after[0] != after[1]).sum())

    assert moved(mep.local_ep) == 1
    assert moved(mep.smep) == 42


def test_clipping_does_couple_layers() -> None:
    """The counterpart: smep's norm over all gradients, which local_ep therefore does not have."""
    options = {"max_grad_norm": 1e-3, "gamma": None}
    pairs = list(zip(stepped(mep.smep, None, **options), stepped(mep.smep, 6, **options), strict=True))
    assert sum(not torch.equal(p, q) for p, q in pairs) > 4
    apart = list(zip(stepped(mep.smep, None, gamma=None), stepped(mep.smep, 6, gamma=None), strict=True))
    assert [index for index, (p, q) in enumerate(apart) if not torch.equal(p, q)] == [6]
    with pytest.raises(TypeError, match="max_grad_norm"):
        mep.local_ep(module().parameters(), module(), max_grad_norm=1.0)  # type: ignore[call-arg]


def test_statistics_are_of_the_two_ends() -> None:
    model = module()
    source = mep.EPGradient(model, keep=True, beta=0.01, max_steps=60)
    assert not source.statistics()
    source.accumulate(X, Y)
    found = source.statistics()
    weights = [model[i].weight for i in (0, 2, 4)]
    assert set(found) == {id(w) for w in weights}
    for w in weights:
        pre, post = found[id(w)]
        assert pre.shape == (10, w.shape[1])
        assert post.shape == (10, w.shape[0])
    pre, post = found[id(weights[0])]
    assert torch.equal(pre, X)
    torch.testing.assert_close(-post.T @ X / 10, weights[0].grad)  # x is clamped: the contrast is all above
    for i, w in zip((0, 2, 4), weights, strict=True):  # what a bias adds to the drive, the cost's slope by the drive
        torch.testing.assert_close(-found[id(w)].post.mean(0), model[i].bias.grad)
    assert not mep.EPGradient(model).statistics()


def test_natural_gradients_are_for_dense_layers_on_whole_populations() -> None:
    model = module()
    with pytest.raises(OptionError, match="statistics of the hopfield energy"):
        mep.natural_ep(model.parameters(), network(model, "prediction_error"))
    convolved = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Hardsigmoid(), nn.Flatten(), nn.Linear(32, 3)).double()
    seen = mep.EnergyNetwork.from_module(convolved, input_shape=(1, 6, 6))
    with pytest.raises(OptionError, match=r"'0.weight' is not one's weight: freeze it, or use smep"):
        mep.natural_ep(convolved.parameters(), seen)
    convolved[0].requires_grad_(False)
    optimizer = mep.natural_ep(convolved.parameters(), seen)
    before = values(convolved)
    optimizer.step(x=torch.rand(4, 1, 6, 6, dtype=torch.float64), target=Y[:4])
    assert [torch.equal(p, q) for p, q in zip(before, values(convolved), strict=True)] == [True, True, False, False]
