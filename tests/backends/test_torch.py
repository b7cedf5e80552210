"""What is peculiar to the torch substrate: shared parameters, stacked phases, precision, compiling, early stopping."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

import mep_neuro as mep
from mep_neuro.errors import BackendUnavailable, CapabilityError, InputError, OptionError, SettlingError


def dense(activation: type[nn.Module] = nn.Hardsigmoid, dtype: torch.dtype = torch.float64) -> nn.Sequential:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(6, 9), activation(), nn.Linear(9, 7), activation(), nn.Linear(7, 3)).to(dtype)


def conv(activation: type[nn.Module] = nn.Hardsigmoid) -> nn.Sequential:
    torch.manual_seed(3)
    layers = (nn.Conv2d(1, 2, 3, padding=1), activation(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(18, 3))
    return nn.Sequential(*layers).double()


def batch(samples: int = 5, dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(7)
    x = torch.rand(samples, 6, generator=generator, dtype=torch.float64).to(dtype)
    return x, torch.arange(samples) % 3


def learner(module: nn.Sequential, *, energy: str = "hopfield", **options: Any) -> mep.EquilibriumPropagation:
    settings = {k: options.pop(k) for k in ("beta", "nudging", "cost") if k in options}
    shape = (1, 6, 6) if isinstance(module[0], nn.Conv2d) else None
    network = mep.EnergyNetwork.from_module(module, energy=energy, input_shape=shape)
    return mep.EquilibriumPropagation(mep.backend("torch", network, **options), **settings)


def test_it_works_on_the_modules_own_tensors() -> None:
    module = dense()
    ep = learner(module)
    x, y = batch()
    before = ep.estimate(x, y)
    with torch.no_grad():
        module[0].weight.mul_(0.5)
    after = ep.estimate(x, y)
    assert not torch.equal(before["0.weight"], after["0.weight"])
    for name, p in module.named_parameters():
        assert p.grad is after[name]


def test_any_optimizer_steps_from_the_gradient_and_accumulation_adds() -> None:
    module = dense()
    ep = learner(module)
    x, y = batch()
    whole = ep.estimate(x, y)
    ep.estimate(x[:2], y[:2])
    ep.estimate(x[2:4], y[2:4], accumulate=True)
    first, second = learner(module).estimate(x[:2], y[:2]), learner(module).estimate(x[2:4], y[2:4])
    ep.put(first)
    ep.put(second, accumulate=True)
    assert torch.allclose(module[0].weight.grad, first["0.weight"] + second["0.weight"], rtol=1e-12)
    for optimizer in (torch.optim.SGD, torch.optim.RMSprop, torch.optim.AdamW):
        trained = dense()
        stepped = learner(trained)
        stepped.estimate(x, y)
        optimizer(trained.parameters(), lr=1e-2).step()
        assert not torch.equal(trained[0].weight, module[0].weight)
    assert set(whole) == set(dict(module.named_parameters()))


@pytest.mark.parametrize("energy", ["hopfield", "prediction_error"])
@pytest.mark.parametrize("solver", ["even_odd", "synchronous", "euler", "anderson"])
@pytest.mark.parametrize("steps", [1, 2, 7])
def test_phases_that_settle_together_settle_as_alone(energy: str, solver: str, steps: int) -> None:
    ep = learner(dense(), energy=energy, solver=solver, max_steps=steps)
    x, y = batch()
    target = F.one_hot(y, 3).double()
    free = ep.free(x)
    nudges = [mep.Nudge(0.4, target), mep.Nudge(-0.4, target), mep.Nudge(0.1, target)]
    together = ep.substrate.settle_each(x, nudges, free)
    for nudge, found in zip(nudges, together, strict=True):
        alone = ep.substrate.settle(x, nudge=nudge, start=free)
        for a, b in zip(found.states, alone.states, strict=True):
            assert torch.allclose(a, b, atol=1e-13)
        assert torch.allclose(found.residual, alone.residual, atol=1e-10)


def test_what_the_nudge_has_not_reached_is_worked_on_once() -> None:
    ep = learner(dense(), max_steps=(3, 1))
    x, y = batch()
    free = ep.free(x)
    before = ep.substrate.counts()
    target = F.one_hot(y, 3).double()
    nudged = ep.substrate.settle_each(x, [mep.Nudge(0.4, target), mep.Nudge(-0.4, target)], free)
    window = ep.substrate.counts() - before
    # one sweep: the outputs from what both phases share; then s_2, from s_1, still shared, and both phases' outputs
    assert window["nudged", "macs"] == 5 * 7 * 3 + 5 * 9 * 7 + 2 * 5 * 7 * 3
    assert window["nudged", "neuron_updates"] == 2 * 5 * 3 + 2 * 5 * 7
    assert torch.equal(nudged[0].states[0], free.states[0])


def test_dropout_draws_one_mask_a_sample_and_holds_it_through_the_phases() -> None:
    torch.manual_seed(0)
    layers = (nn.Linear(6, 40), nn.Hardsigmoid(), nn.Dropout(0.5), nn.Linear(40, 3))
    module = nn.Sequential(*layers).double()
    ep = learner(module)
    x, y = batch(4)
    phases = ep.relax(x[:1].expand(4, 6).clone(), y)
    masks = phases.free.context.masks["2"]
    assert len({tuple(m.tolist()) for m in masks}) == 4
    assert set(masks.unique().tolist()) == {0.0, 2.0}
    for _, equilibrium in phases.terms:
        assert equilibrium.context.masks["2"] is masks
        drive = module[0](phases.free.x) + (equilibrium.states[1] @ module[3].weight) * masks
        assert torch.allclose(equilibrium.states[0], F.hardsigmoid(drive), atol=1e-4)
    gradient = ep.gradient(phases.terms)["3.weight"]
    assert bool((gradient[:, (masks == 0).all(0)] == 0).all())
    again = learner(module)
    again.reseed(5)
    ep.reseed(5)
    assert torch.equal(again.estimate(x, y)["0.weight"], ep.estimate(x, y)["0.weight"])
    module.eval()
    assert not ep.free(x).context.masks


@pytest.mark.parametrize("module", [dense(dtype=torch.float32), conv().float()], ids=["dense", "conv"])
@pytest.mark.parametrize("energy", ["hopfield", "prediction_error"])
def test_bf16_autocast_keeps_the_gradients_direction(module: nn.Sequential, energy: str) -> None:
    x = torch.rand(16, 6, 6)[:, None] if isinstance(module[0], nn.Conv2d) else torch.rand(16, 6)
    y = torch.arange(16) % 3
    ep = learner(module, energy=energy)
    exact = ep.estimate(x, y)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = ep.estimate(x, y)
    for name, g in exact.items():
        assert rounded[name].dtype is torch.float32
        assert not torch.equal(rounded[name], g)  # it was really rounded
        assert F.cosine_similarity(rounded[name].flatten(), g.flatten(), dim=0) > 0.98


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_compiled_settling_is_used_and_equal() -> None:
    torch._dynamo.reset()  # what another test compiled would be taken again
    torch._dynamo.utils.counters.clear()
    module = dense(dtype=torch.float32)
    x, y = batch(dtype=torch.float32)
    compiled = learner(module, compile=True).estimate(x, y)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] >= 3  # a block each
    for name, g in learner(module).estimate(x, y).items():
        assert torch.allclose(compiled[name], g, atol=1e-5)


class Syncs(TorchDispatchMode):
    """Counts reads of a tensor's value by the host."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.calls[func.overloadpacket.__name__] += 1
        return func(*args, **(kwargs or {}))


def reads(**options: Any) -> int:
    ep = learner(dense(), **options)
    x, _ = batch()
    with Syncs() as seen:
        ep.free(x)
    return seen.calls["_local_scalar_dense"]


def test_the_host_waits_in_the_loop_only_for_early_stopping() -> None:
    assert reads(max_steps=3) == reads(max_steps=30) == 1
    assert reads(max_steps=30, tolerance=1e-14) > 5


def test_early_stopping_saves_steps_and_keeps_the_gradient() -> None:
    x, y = batch()
    module = dense(nn.Tanh)
    fixed = learner(module, max_steps=300).estimate(x, y)
    stopped = learner(module, max_steps=300, tolerance=1e-5)
    phases = stopped.relax(x, y)
    assert phases.free.steps < 100
    assert all(3 <= e.steps < 100 for e in phases.nudged)
    assert all(bool(e.converged.all()) for e in (phases.free, *phases.nudged))
    for name, g in stopped.gradient(phases.terms).items():
        assert torch.allclose(g, fixed[name], rtol=1e-3, atol=1e-6)


def test_not_converging_is_a_value() -> None:
    found = learner(dense(nn.Tanh), max_steps=1).free(batch()[0])
    assert found.steps == 1
    assert not bool(found.converged.any())
    assert bool((found.residual > found.tolerance).all())


def test_a_loop_that_runs_away_names_the_population_and_the_iteration() -> None:
    module = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2))
    with torch.no_grad():
        for p in module.parameters():
            p.fill_(50.0)
    with pytest.raises(SettlingError, match=r"population \d is not finite in iteration \d+ of the free phase.*bounded"):
        learner(module, max_steps=100).free(torch.ones(1, 2))


@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
def test_what_is_not_finite_is_named(poison: float) -> None:
    x, y = batch()
    x[3, 2] = poison
    with pytest.raises(InputError, match="x is not finite in sample 3"):
        learner(dense()).estimate(x, y)
    module = dense()
    ep = learner(module)
    with torch.no_grad():
        module[2].weight[1, 1] = poison
    with pytest.raises(InputError, match=r"'2\.weight' is not finite"):
        learner(module)
    with torch.no_grad():
        module[2].weight[1, 1] = float("nan")  # while it is open: as soon as it reaches a state
    with pytest.raises(InputError, match=r"'2\.weight' is not finite"):
        ep.estimate(batch()[0], y)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"solver": "evenodd"}, "Did you mean 'even_odd'"),
        ({"max_steps": 0}, "at least 1 step"),
        ({"max_steps": (5, 0)}, "at least 1 step"),
        ({"tolerance": 0.0}, "positive"),
        ({"tolerance": float("nan")}, "positive"),
        ({"toleranc": 1e-3}, "Did you mean 'tolerance'"),
    ],
)
def test_senseless_options_are_errors(options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        learner(dense(), **options)


@pytest.mark.skipif(torch.cuda.is_available(), reason="CUDA is there")
def test_cuda_says_why_it_is_not_there() -> None:
    network = mep.EnergyNetwork.from_module(dense())
    with pytest.raises(BackendUnavailable, match=r"cuda.*cannot run here.*CUDA.*backend 'torch'"):
        mep.backend("cuda", network)
    with pytest.raises(BackendUnavailable, match="'cuda:0' is not there"):
        mep.backend("torch", network, device="cuda:0")


def test_holomorphic_nudging_beats_centered_and_needs_smooth_activations() -> None:
    x, y = batch()
    module = dense(nn.Sigmoid)
    exact = learner(module, beta=1e-4, max_steps=200).estimate(x, y)
    errors = {}
    for nudging in ("one_sided", "centered", "holomorphic"):
        g = learner(module, beta=0.3, nudging=nudging, max_steps=200).estimate(x, y)
        errors[nudging] = max(float((g[n] - exact[n]).norm() / exact[n].norm()) for n in exact)
    assert errors["holomorphic"] < errors["centered"] / 5
    assert errors["centered"] < errors["one_sided"]
    with pytest.raises(CapabilityError, match="Sigmoid, Tanh, Identity"):
        learner(dense(), nudging="holomorphic")
    with pytest.raises(CapabilityError, match="prediction_error"):
        learner(module, nudging="holomorphic", energy="prediction_error")


def test_complex_phases_see_the_same_masks_as_the_free_one() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Linear(6, 9), nn.Dropout(0.5), nn.Sigmoid(), nn.Linear(9, 8), nn.Dropout(0.5), nn.Sigmoid()
    )
    module.append(nn.Linear(8, 3)).double()
    ep = learner(module, nudging="holomorphic", beta=0.1, max_steps=100)
    x, y = batch()
    phases = ep.relax(x, y)
    masks = phases.free.context.masks
    for equilibrium in phases.nudged:
        below, s, above = equilibrium.states
        drive = (below @ module[3].weight.T.to(below.dtype) + module[3].bias) * masks["4"]
        drive = drive + above @ module[6].weight.to(above.dtype)
        assert torch.allclose(s, torch.sigmoid(drive), atol=1e-10)


def test_frozen_parameters_take_part_and_get_no_gradient() -> None:
    module = dense()
    x, y = batch()
    whole = learner(module).estimate(x, y)
    module[2].weight.requires_grad_(False)
    module[2].weight.grad = None
    ep = learner(module)
    before = ep.substrate.counts()
    part = ep.estimate(x, y)
    assert module[2].weight.grad is None
    assert set(whole) - set(part) == {"2.weight"}
    for name, g in part.items():
        assert torch.equal(g, whole[name])
    assert (ep.substrate.counts() - before)["update", "macs"] == 5 * (6 * 9 + 2 * 7 * 3)
