"""The Euler solver's step: the leaky flow by hand, on every rate backend."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import mep_neuro as mep
from mep_neuro.errors import OptionError

BACKENDS = ("reference", "torch")


def network() -> mep.EnergyNetwork:
    torch.manual_seed(0)
    return mep.EnergyNetwork.from_module(nn.Sequential(nn.Linear(4, 3), nn.Hardsigmoid(), nn.Linear(3, 2)).double())


@pytest.mark.parametrize("name", BACKENDS)
@pytest.mark.parametrize("h", [0.15, 0.5, 1])
def test_a_step_goes_that_share_of_the_way(name: str, h: float) -> None:
    net = network()
    x = torch.rand(5, 4, dtype=torch.float64)
    substrate = mep.backend(name, net, solver="euler", step_size=h, max_steps=2)
    states = mep.EquilibriumPropagation(substrate).free(x).states
    w1, b1, w2, b2 = net.module.parameters()
    s = torch.nn.functional.hardsigmoid(x @ w1.T + b1)
    o = s @ w2.T + b2  # the forward pass, where a free phase begins
    for _ in range(2):
        s, o = (
            s + h * (torch.nn.functional.hardsigmoid(x @ w1.T + b1 + o @ w2) - s),
            o + h * (s @ w2.T + b2 - o),
        )
    for found, wanted in zip(states, (s, o), strict=True):
        np.testing.assert_allclose(np.asarray(found), wanted.detach().numpy(), rtol=1e-12)


@pytest.mark.parametrize("name", BACKENDS)
@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"solver": "euler", "step_size": 0.0}, r"step_size is 0\.0; give a number in \(0, 1\]"),
        ({"solver": "euler", "step_size": 1.5}, "step_size is 1.5"),
        ({"solver": "euler", "step_size": "0.1"}, "step_size is '0.1'"),
        ({"solver": "euler", "step_size": float("nan")}, "step_size is nan"),
        ({"step_size": 0.1}, "belongs to solver='euler', and the solver is 'even_odd'"),
    ],
)
def test_a_step_size_that_makes_no_sense(name: str, options: dict[str, object], said: str) -> None:
    with pytest.raises(OptionError, match=said):
        mep.backend(name, network(), **options)
