"""A loop that grows without end is an error that names the population and the cures, long before numbers overflow; what
merely takes long, or is bounded, is not."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import mep_neuro as mep
from mep_neuro.activations import IDENTITY, ClippedLinear, Logistic
from mep_neuro.errors import InputError, SettlingError
from mep_neuro.settling import can_run_away
from mep_neuro.types import Equilibrium

pytestmark = pytest.mark.parametrize("backend", ["reference", "torch"])
CURES = r"bound the weights of every coupling after the first \(mep\.SpectralConstraint.*energy='prediction_error'"


def model(*widths: int, gain: float | None = None, rho: Callable[[], nn.Module] = nn.ReLU) -> nn.Sequential:
    """A chain in float64 with PyTorch's initial weights; those after the first with the squared norm `gain`."""
    torch.manual_seed(0)
    layers = list[nn.Module]()
    for below, width in itertools.pairwise(widths):
        layers += [nn.Linear(below, width), rho()]
    for layer in layers[2:]:
        if isinstance(layer, nn.Linear) and gain is not None:
            with torch.no_grad():
                layer.weight.mul_(gain**0.5 / torch.linalg.matrix_norm(layer.weight, 2))
    return nn.Sequential(*layers[:-1]).double()


@contextmanager
def learner(
    backend: str, module: nn.Sequential, *, energy: str = "hopfield", ep: dict[str, Any] | None = None, **options: Any
) -> Iterator[mep.EquilibriumPropagation]:
    network = mep.EnergyNetwork.from_module(module, energy=energy)
    with mep.backend(backend, network, **options) as substrate:
        yield mep.EquilibriumPropagation(substrate, **{"beta": 0.5, **(ep or {})})


def data(inputs: int, samples: int = 8, outputs: int = 3) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(samples, inputs, generator=generator, dtype=torch.float64)
    return x, torch.randint(outputs, (samples,), generator=generator)


def largest(e: Equilibrium) -> float:
    return float(np.asarray(e.residual).max())


@pytest.mark.parametrize("solver", ["even_odd", "synchronous", "euler"])
def test_a_free_phase_that_grows_names_population_sample_and_both_cures(backend: str, solver: str) -> None:
    x, _ = data(6)
    steps = 20 if solver == "even_odd" else 60
    with (
        learner(backend, model(6, 20, 12, 3, gain=6.0), solver=solver, max_steps=steps) as ep,
        pytest.raises(
            SettlingError, match=rf"population [1-3] .*iteration {steps} of the free phase.*sample \d.*{CURES}"
        ),
    ):
        ep.free(x)


def test_the_population_is_the_one_that_moves_most(backend: str) -> None:
    for gain in (6.0, 1e-3):
        module = model(6, 20, 12, 3, gain=6.0)
        with torch.no_grad():
            module[4].weight.mul_(gain**0.5)  # both loops, or the lower one alone
        with learner(backend, module) as ep, pytest.raises(SettlingError, match=rf"population {3 if gain > 1 else 1} "):
            ep.free(data(6)[0])


def in_line(gain: float) -> nn.Sequential:
    """6-20-3 with positive weights that stretch one direction only: |W2|^2 is the loop's gain where the ReLUs are on.
    They are off at x = 0."""
    module = model(6, 20, 3)
    with torch.no_grad():
        for name, p in module.named_parameters():
            p.fill_({"0.weight": 1.0, "0.bias": -1.0, "2.weight": (gain / 60) ** 0.5, "2.bias": 0.0}[name])
    return module


def test_the_sample_is_the_one_that_grows(backend: str) -> None:
    x = torch.zeros(5, 6, dtype=torch.float64)
    x[3] = 1.0
    with learner(backend, in_line(2.0)) as ep, pytest.raises(SettlingError, match=r"the free phase \(sample 3\)"):
        ep.free(x)
    with learner(backend, in_line(2.0)) as ep:
        assert bool(np.asarray(ep.free(x[:3]).converged).all())
    with learner(backend, in_line(0.9)) as ep, pytest.raises(SettlingError, match=r"the nudged phase \(sample 3\)"):
        ep.relax(x, torch.zeros(5, dtype=torch.int64))


def test_a_push_away_from_the_target_that_grows(backend: str) -> None:
    """|W2|^2 = 0.9 settles freely and under +beta; under -beta the loop is twice as strong."""
    x, y = data(6)
    module = model(6, 40, 3, gain=0.9)
    with torch.no_grad():
        module[0].bias.fill_(3.0)  # the ReLUs are on: the loop has its whole gain
    with learner(backend, module) as ep, pytest.raises(SettlingError, match=rf"the nudged phase.*{CURES}.*one_sided"):
        ep.relax(x, y)
    for cure in ({"nudging": "one_sided"}, {"beta": 0.05}):
        with learner(backend, module, ep=cure) as ep:
            for e in ep.relax(x, y).nudged:
                assert largest(e) < 10
    with torch.no_grad():
        mep.SpectralConstraint(0.7).enforce(module[2].weight, ep.network.couplings[1].weighted, {})
    with learner(backend, module) as ep:
        assert all(largest(e) < 10 for e in ep.relax(x, y).nudged)


def test_prediction_error_is_a_cure_in_the_free_phase_and_not_named_as_one_where_it_is_there(backend: str) -> None:
    x, y = data(6)
    module = model(6, 40, 3, gain=4.0)
    with torch.no_grad():
        module[0].bias.fill_(3.0)
    with learner(backend, module) as ep, pytest.raises(SettlingError, match="prediction_error"):
        ep.free(x)
    with learner(backend, module, energy="prediction_error", ep={"nudging": "one_sided"}) as ep:
        assert all(bool(np.isfinite(np.asarray(e.outputs)).all()) for e in ep.relax(x, y).nudged)
    with learner(backend, module, energy="prediction_error", max_steps=200) as ep:  # 1 / (1 + |W2|^2) < beta
        with pytest.raises(
            SettlingError, match=r"the nudged phase.*bound the weights.*one_sided.*smaller beta"
        ) as error:
            ep.relax(x, y)
        assert "energy=" not in str(error.value)


@pytest.mark.parametrize("rho", [nn.Hardtanh, nn.Hardsigmoid, nn.Tanh, nn.ReLU6])
def test_what_is_bounded_may_swing_but_does_not_run_away(backend: str, rho: Callable[[], nn.Module]) -> None:
    x, y = data(6)
    with learner(backend, model(6, 20, 20, 3, gain=30.0, rho=rho), ep={"beta": 1e-4}) as ep:
        phases = ep.relax(x, y)
    assert all(bool(np.isfinite(np.asarray(e.outputs)).all()) for e in (phases.free, *phases.nudged))


def test_a_loop_just_above_one_is_unsettled_and_no_error(backend: str) -> None:
    """1.05^20 is less than 3: nobody can tell it from a slow one."""
    module = model(6, 40, 3, gain=1.05)
    with torch.no_grad():
        module[0].bias.fill_(3.0)
    with learner(backend, module) as ep:
        assert not bool(np.asarray(ep.free(data(6)[0]).converged).any())


def test_what_is_large_but_falls_is_no_error(backend: str) -> None:
    """A nudged phase after a free one that is not at rest yet: its changes are large beside a tiny nudge, and fall."""
    module = model(6, 40, 3, gain=0.97)
    with torch.no_grad():
        module[0].bias.fill_(3.0)
    x, _ = data(6)
    with learner(backend, module, ep={"nudging": "one_sided"}) as ep:
        free = ep.free(x)
        assert not bool(np.asarray(free.converged).any())
        outputs = torch.as_tensor(free.outputs)
    with learner(backend, module, ep={"nudging": "one_sided"}) as ep:
        (nudged,) = ep.relax(x, outputs + 1e-9).nudged
    assert largest(nudged) > 100


@pytest.mark.parametrize(
    "widths", [(784, 256, 10), (64, 128, 10), (64, 256, 256, 10), (64, 256, 256, 256, 10)], ids=str
)
def test_pytorchs_initial_weights_are_no_error(backend: str, widths: tuple[int, ...]) -> None:
    x, y = data(widths[0], samples=16, outputs=10)
    with learner(backend, model(*widths)) as ep:
        phases = ep.relax(x, y)
        assert max(map(largest, (phases.free, *phases.nudged))) < 10


def test_what_is_not_finite_names_the_cures_too(backend: str) -> None:
    module = model(6, 20, 3, gain=1e8)
    with learner(backend, module, max_steps=100) as ep, pytest.raises(SettlingError, match=rf"not finite.*{CURES}"):
        ep.free(data(6)[0])
    with learner(backend, module, max_steps=100) as ep, pytest.raises(InputError, match="clean"):
        ep.free(data(6)[0].index_fill(0, torch.tensor([2]), float("nan")))


def test_a_bounded_loop_that_leaves_an_unstable_rest_is_no_error(backend: str) -> None:
    """0 is a rest of these weights; the least nudge grows four times a sweep, until the units reach their limits."""
    module = model(6, 20, 3, gain=4.0, rho=nn.Hardtanh)
    with torch.no_grad():
        module[0].bias.zero_()
        module[2].bias.zero_()
    x, y = torch.zeros(1, 6, dtype=torch.float64), torch.full((1, 3), 1e-9, dtype=torch.float64)
    with learner(backend, module, max_steps=10, ep={"nudging": "one_sided"}) as ep:
        (nudged,) = ep.relax(x, y).nudged
    assert largest(nudged) > 100
    with learner(backend, module, max_steps=100, ep={"nudging": "one_sided"}) as ep:
        assert largest(ep.relax(x, y).nudged[0]) < 1


def test_what_grows_slowly_is_no_error_however_small_the_nudge_beside_it(backend: str) -> None:
    """A nudge of next to nothing after a free phase that grows: large, and rising, but less than ten times in all."""
    x = torch.ones(1, 6, dtype=torch.float64)
    with learner(backend, in_line(1.05), ep={"beta": 1e-6, "nudging": "one_sided"}) as ep:
        phases = ep.relax(x, torch.tensor([0]))
    assert largest(phases.free) > 0.1
    assert largest(phases.nudged[0]) > 1000


def test_a_growth_that_has_not_gone_far_is_no_error(backend: str) -> None:
    """|W2|^2 = 0.6 under -beta: 1.2 times a sweep, more than ten times in all, and less than a hundred nudges."""
    with learner(backend, in_line(0.6)) as ep:
        phases = ep.relax(torch.ones(1, 6, dtype=torch.float64), torch.tensor([0]))
    assert 10 < largest(phases.nudged[-1]) < 100


def test_a_hump_is_no_error(backend: str) -> None:
    """The nudge of next to nothing finds populations further down that are not at rest: large, more than at first, and
    falling."""
    module = model(6, 20, 20, 20, 20, 3, gain=1e-6)
    with torch.no_grad():
        module[0].bias.fill_(3.0)
        module[2].weight.mul_(1e3 * 0.97**0.5)
    x, _ = data(6)
    with learner(backend, module, ep={"nudging": "one_sided"}) as ep:
        outputs = torch.as_tensor(ep.free(x).outputs)
        (nudged,) = ep.relax(x, outputs + 1e-6).nudged
    assert largest(nudged) > 100


def test_the_errors_solver_is_watched_as_well(backend: str) -> None:
    module = model(6, 40, 3, gain=4.0)
    with torch.no_grad():
        module[0].bias.fill_(3.0)
    x, y = data(6)
    options = {"energy": "prediction_error", "solver": "errors", "max_steps": 40}
    with learner(backend, module, **options) as ep, pytest.raises(SettlingError, match=r"population \d .*nudged phase"):
        ep.relax(x, y)


def test_what_can_run_away(backend: str) -> None:
    relu, tanh, hard = ClippedLinear(low=0.0), Logistic(low=-1.0), ClippedLinear(low=0.0, high=1.0)
    assert can_run_away([relu, IDENTITY])
    assert can_run_away([hard, relu, ClippedLinear(high=0.0)])
    assert not can_run_away([relu])
    assert not can_run_away([relu, hard, relu])
    assert not can_run_away([tanh, IDENTITY])
