"""The learner: what it checks before anything runs, and how it keeps a substrate up to date."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import mep_neuro as mep
from mep_neuro.errors import InputError, NetworkError, OptionError


def module(*last: nn.Module) -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(4, 6), nn.Hardsigmoid(), nn.Linear(6, 3), *last).double()


def learner(name: str = "torch", net: nn.Sequential | None = None, **settings: Any) -> mep.EquilibriumPropagation:
    network = mep.EnergyNetwork.from_module(net if net is not None else module())
    return mep.EquilibriumPropagation(mep.backend(name, network), **settings)


X = torch.linspace(0, 1, 20, dtype=torch.float64).reshape(5, 4)
Y = torch.tensor([0, 1, 2, 1, 0])


@pytest.mark.parametrize("beta", [0.0, -0.5, float("nan"), float("inf")])
def test_beta_must_be_positive(beta: float) -> None:
    with pytest.raises(InputError, match=r"beta is .*; give a positive number"):
        learner(beta=beta)


@pytest.mark.parametrize(
    ("last", "beta", "cost"),
    [((), 1.0, "squared_error"), ((), 2.0, "cross_entropy"), ((nn.Hardsigmoid(),), 6.0, "squared_error")],
)
def test_a_push_away_without_a_minimum_is_refused(last: tuple[nn.Module, ...], beta: float, cost: str) -> None:
    with pytest.raises(InputError, match=f"no minimum from beta = {beta:g} on"):
        learner(net=module(*last), beta=beta, cost=cost)
    learner(net=module(*last), beta=0.99 * beta, cost=cost).estimate(X, Y)
    learner(net=module(*last), beta=2 * beta, cost=cost, nudging="one_sided").estimate(X, Y)


def test_names_offer_the_nearest() -> None:
    with pytest.raises(OptionError, match="Did you mean 'centered'"):
        learner(nudging="centred")
    with pytest.raises(OptionError, match="Did you mean 'cross_entropy'"):
        learner(cost="crossentropy")


def test_cross_entropy_wants_logits() -> None:
    with pytest.raises(NetworkError, match="end with a Linear layer"):
        learner(net=module(nn.Sigmoid()), cost="cross_entropy")


@pytest.mark.parametrize("name", ["torch", "reference"])
@pytest.mark.parametrize(
    ("target", "message"),
    [
        (torch.tensor([0, 1, 2, 3, 0]), "0 to 3.*3 outputs"),
        (torch.tensor([0, 1, -1, 1, 0]), "-1 to 1"),
        (torch.tensor([True, False, True, True, False]), "booleans"),
        (torch.zeros(5, 4), "shape"),
        (torch.zeros(4, 3), "5 samples.*4"),
        (torch.full((5, 3), float("nan")), "not finite"),
    ],
)
def test_targets_are_checked(name: str, target: torch.Tensor, message: str) -> None:
    with pytest.raises(InputError, match=message):
        learner(name).estimate(X, target)


@pytest.mark.parametrize("name", ["torch", "reference"])
@pytest.mark.parametrize(
    "x", [torch.zeros(0, 4), torch.zeros(5, 3), torch.zeros(5, 4, dtype=torch.int64), torch.full((5, 4), float("nan"))]
)
def test_samples_are_checked(name: str, x: torch.Tensor) -> None:
    with pytest.raises(InputError):
        learner(name).estimate(x, Y[: len(x)])


def test_a_target_or_a_force_but_not_both() -> None:
    ep = learner()
    for arguments in ({}, {"target": Y, "force": torch.zeros(5, 3)}):
        with pytest.raises(InputError, match="one of the two"):
            ep.estimate(X, **arguments)
    with pytest.raises(InputError, match="force has shape"):
        ep.estimate(X, force=torch.zeros(5, 2))


@pytest.mark.parametrize("name", ["torch", "reference"])
def test_a_force_is_any_gradient_on_the_outputs(name: str) -> None:
    """The force y - s makes the squared error's gradient, as beta goes to 0."""
    small = {"beta": 1e-3}
    pulled = learner(name, **small).estimate(X, Y)
    one_hot = nn.functional.one_hot(Y, 3).double()
    forced = learner(name, **small).estimate(X, force=lambda outputs: one_hot - outputs)
    for parameter, gradient in pulled.items():
        assert torch.allclose(forced[parameter], gradient, rtol=1e-4, atol=1e-8)


def test_labels_and_one_hot_targets_are_the_same() -> None:
    one_hot = nn.functional.one_hot(Y, 3).double()
    for cost in ("squared_error", "cross_entropy"):
        ep = learner(cost=cost)
        labels, values = ep.estimate(X, Y), ep.estimate(X, one_hot)
        assert all(torch.equal(labels[n], values[n]) for n in labels)
    with pytest.raises(InputError, match="sum to 1"):
        learner(cost="cross_entropy").estimate(X, 2 * one_hot)


def test_random_sign_is_drawn_from_the_seed() -> None:
    def signs(seed: int) -> list[bool]:
        ep = learner(nudging="random_sign", seed=seed)
        return [ep.relax(X, Y).nudged[0].nudge.beta > 0 for _ in range(12)]

    assert signs(0) == signs(0) != signs(1)
    assert 0 < sum(signs(0)) < 12


@pytest.mark.parametrize("change", ["step", "data", "load", "replace"])
def test_no_change_of_a_parameter_goes_unseen(change: str) -> None:
    net = module()
    ep = learner("reference", net)
    before = ep.predict(X)
    if change == "step":
        ep.estimate(X, Y)
        torch.optim.SGD(net.parameters(), lr=1.0).step()
    elif change == "data":
        net[0].weight.data.mul_(2)  # which no version counter sees
    elif change == "load":
        net.load_state_dict({k: 2 * v for k, v in net.state_dict().items()})
    else:
        net[0].weight = nn.Parameter(2 * net[0].weight.detach())
    after = ep.predict(X)
    assert not torch.equal(before, after)
    assert torch.allclose(after, learner("reference", net).predict(X))


def test_a_substrate_that_takes_differences_is_given_them() -> None:
    network = mep.EnergyNetwork.from_module(module())
    substrate = mep.backend("reference", network)
    substrate.capabilities = mep.Capabilities(writes="apply", costs=frozenset({"squared_error"}))
    ep = mep.EquilibriumPropagation(substrate)
    ep.predict(X)
    # what the chip holds has drifted: a difference leaves the drift, writing it all anew would not
    held = {k: np.asarray(v) + 0.25 for k, v in substrate.read().items()}
    substrate.program(held)
    with torch.no_grad():
        network.module[0].bias.add_(1.0)
    ep.predict(X)
    assert np.allclose(substrate.read()["0.bias"], held["0.bias"] + 1.0)
    assert np.allclose(substrate.read()["2.bias"], held["2.bias"])
