"""The `errors` solver of prediction_error: the same rest as block sweeps, and a nudge that reaches any depth."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import mep_neuro as mep
from mep_neuro.errors import OptionError

BACKENDS = ("reference", "torch")


def small(kind: type[nn.Module], conv: bool) -> tuple[nn.Sequential, Tensor]:
    torch.manual_seed(0)
    if conv:
        layers: list[nn.Module] = [nn.Conv2d(1, 3, 3, padding=1), kind(), nn.AvgPool2d(2), nn.Flatten()]
        return nn.Sequential(*layers, nn.Linear(12, 4)).double(), torch.rand(5, 1, 4, 4, dtype=torch.float64)
    layers = [nn.Linear(6, 5), kind(), nn.Linear(5, 4), kind(), nn.Linear(4, 4)]
    return nn.Sequential(*layers).double(), torch.rand(5, 6, dtype=torch.float64)


@pytest.mark.parametrize("conv", [False, True])
@pytest.mark.parametrize("kind", [nn.Tanh, nn.Sigmoid])
@pytest.mark.parametrize("name", BACKENDS)
def test_it_comes_to_the_rest_of_block_sweeps(name: str, kind: type[nn.Module], conv: bool) -> None:
    module, x = small(kind, conv)
    shape = (1, 4, 4) if conv else None
    network = mep.EnergyNetwork.from_module(module, energy="prediction_error", input_shape=shape)
    target, found = torch.tensor([0, 1, 2, 3, 0]), []
    for solver, steps in (("even_odd", 3000), ("errors", 60)):
        substrate = mep.backend(name, network, solver=solver, max_steps=steps, tolerance=1e-11)
        phases = mep.EquilibriumPropagation(substrate, beta=0.1).relax(x, target)
        assert all(bool(np.asarray(e.converged).all()) for e in phases.nudged)
        found.append(phases.nudged)
    for sweeps, passes in zip(*found, strict=True):
        for s, t in zip(sweeps.states, passes.states, strict=True):
            np.testing.assert_allclose(np.asarray(s), np.asarray(t), atol=1e-8)
        assert passes.steps < sweeps.steps


def test_both_backends_agree_and_count_alike() -> None:
    module, x = small(nn.ReLU, False)
    network, found, counted = mep.EnergyNetwork.from_module(module, energy="prediction_error"), [], []
    for name in BACKENDS:
        substrate = mep.backend(name, network, solver="errors", max_steps=4)
        learner = mep.EquilibriumPropagation(substrate, beta=0.01, nudging="one_sided")
        found.append(learner.estimate(x, torch.tensor([0, 1, 2, 3, 0])))
        counted.append(substrate.counts())
    for name, one in found[0].items():
        torch.testing.assert_close(one, found[1][name], rtol=1e-9, atol=1e-12)
    assert counted[0]["nudged", "macs"] == counted[1]["nudged", "macs"] == 5 * 4 * 2 * (5 * 4 + 4 * 4)


@pytest.mark.parametrize("name", BACKENDS)
def test_it_is_for_prediction_error(name: str) -> None:
    module, _ = small(nn.Tanh, False)
    with pytest.raises(OptionError, match=r"'errors' is for energy='prediction_error', not 'hopfield'"):
        mep.backend(name, mep.EnergyNetwork.from_module(module), solver="errors")


def deep(depth: int, seed: int) -> tuple[nn.Sequential, Tensor, Tensor]:
    """So many dense layers of width 64 with ReLU, from the usual start for it (He et al. 2015), in float32."""
    torch.manual_seed(seed)
    layers: list[nn.Module] = []
    for level in range(depth):
        layer = nn.Linear(64, 64 if level < depth - 1 else 10)
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        layers += [layer, nn.ReLU()] if level < depth - 1 else [layer]
    return nn.Sequential(*layers), torch.rand(32, 64), torch.randint(10, (32,))


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize(("depth", "beta", "bar"), [(20, 1e-4, 0.99), (100, 1e-6, 0.95)])
def test_depth_is_no_obstacle(depth: int, beta: float, bar: float, seed: int) -> None:
    """At rest, not after a first pass: 8 iterations. The ancestor left 14 of 20 and 94 of 100 layers at zero."""
    module, x, y = deep(depth, seed)
    network = mep.EnergyNetwork.from_module(module, energy="prediction_error")
    substrate = mep.backend("torch", network, solver="errors", max_steps=8)
    gradient = mep.EquilibriumPropagation(substrate, beta=beta).estimate(x, y)
    module.zero_grad()
    (0.5 * (module(x) - torch.eye(10)[y]).square().sum(1)).mean().backward()
    for name, p in module.named_parameters():
        if p.dim() == 2:
            assert p.grad is not None
            assert float(gradient[name].norm()) > 0.5 * float(p.grad.norm())
            assert float(torch.cosine_similarity(gradient[name].flatten(), p.grad.flatten(), 0)) >= bar, name


def test_a_small_beta_is_what_depth_asks_for() -> None:
    """The gradient's worst layer comes closer to backprop's as beta falls: it is beta's bias, not the settling."""
    module, x, y = deep(20, 0)
    module = module.double()
    network = mep.EnergyNetwork.from_module(module, energy="prediction_error")
    (0.5 * (module(x.double()) - torch.eye(10, dtype=torch.float64)[y]).square().sum(1)).mean().backward()
    true = {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None}
    worst = []
    for beta in (1e-3, 1e-4, 1e-5):
        substrate = mep.backend("torch", network, solver="errors", max_steps=8)
        found = mep.EquilibriumPropagation(substrate, beta=beta).estimate(x.double(), y)
        worst.append(max(float((found[n] - g).norm() / g.norm()) for n, g in true.items()))
    assert all(later < earlier for earlier, later in itertools.pairwise(worst))  # a ReLU may change sides
    assert worst[-1] < worst[0] / 4
