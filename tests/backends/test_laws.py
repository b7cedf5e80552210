"""Laws of rate solvers, on every rate backend, and the suite's oracle against itself."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from mep_neuro.activations import ClippedLinear, potential, respond
from mep_neuro.errors import BackendUnavailable
from mep_neuro.nudging import Centered
from mep_neuro.testing import Bench, oracle
from mep_neuro.testing.bench import distance, stacked, worst
from mep_neuro.testing.networks import Case
from mep_neuro.testing.rig import Rig
from mep_neuro.types import Equilibrium

HORIZON = 8
SOLVERS = ("even_odd", "synchronous", "euler", "anderson")
CASES = [Case(energy, layout) for energy in ("hopfield", "prediction_error") for layout in ("dense", "conv")]


def solving() -> Iterator[Bench]:
    for name in ("reference", "torch"):
        try:
            yield Bench(name)
        except BackendUnavailable:
            continue


pytestmark = pytest.mark.parametrize("bench", list(solving()), ids=str)
each_case = pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c.energy}-{c.layout}")
hopfield = pytest.mark.parametrize("case", CASES[:2], ids=lambda c: f"{c.energy}-{c.layout}")


def bptt(rig: Rig, rest: list[Tensor]) -> list[dict[str, Tensor]]:
    """-dL/dtheta_{T-t} for t = 0 .. K-1: L = C(s_T), s_{t+1} = rho(drive(s_t; theta_t)) for K steps from rest."""
    held = rig.parameters()
    copies = [{n: p.clone().requires_grad_() for n, p in held.items()} for _ in range(HORIZON)]
    states = [s.clone().requires_grad_() for s in rest]
    activations = [p.activation for p in rig.network.populations]
    for own in copies:
        phi = -rig.network.energy(rig.x, states, parameters=own).sum()
        phi = phi + sum(potential(a, s).sum() for a, s in zip(activations, states, strict=True))
        drives = torch.autograd.grad(phi, states, create_graph=True)
        states = [respond(a, d) for a, d in zip(activations, drives, strict=True)]
    loss = rig.pull(1.0)(states[-1]).mean()
    found = []
    for own in copies[::-1]:
        grads = torch.autograd.grad(loss, list(own.values()), retain_graph=True, materialize_grads=True)
        found.append({n: -g for n, g in zip(own, grads, strict=True)})
    return found


def updates(bench: Bench, case: Case, rest: list[Tensor], beta: float) -> list[dict[str, Tensor]]:
    """(1/2b) [Phi_theta(s^b_{t+1}) - Phi_theta(s^b_t)] less the same at -b, for t = 0 .. K-1, from rest."""
    path: dict[float, list[Equilibrium]] = {}
    for b in (beta, -beta):
        path[b] = []
        for steps in range(1, HORIZON + 1):
            with bench.open(case, settled=False, solver="synchronous", max_steps=steps) as rig:
                path[b].append(rig.nudged(b, rig.begin(rest)))
    with bench.open(case) as rig:
        begin = rig.begin(rest)
        for b in path:
            path[b] = [rig.altered(begin, e) for e in (rest, *(rig.states(e) for e in path[b]))]
        share = 1 / (2 * beta)
        return [
            rig.contrast(
                [
                    (share, path[beta][t + 1]),
                    (-share, path[beta][t]),
                    (-share, path[-beta][t + 1]),
                    (share, path[-beta][t]),
                ]
            )
            for t in range(HORIZON)
        ]


@hopfield
def test_nudged_steps_follow_backprop_through_time(bench: Bench, case: Case) -> None:
    with bench.open(case) as rig:
        rest = rig.states(rig.free())
        wanted = bptt(rig, rest)
    sizes = {n: max(float(w[n].norm()) for w in wanted) for n in wanted[0]}
    assert min(sizes.values()) > 1e-4
    errors = {}
    for beta in (0.02, 0.01):
        found = updates(bench, case, rest, beta)
        errors[beta] = max(
            float((f[n] - w[n]).norm()) / sizes[n] for f, w in zip(found, wanted, strict=True) for n in f
        )
    assert errors[0.01] < 1e-3
    assert 3.5 < errors[0.02] / errors[0.01] < 4.5


@each_case
def test_all_solvers_reach_the_same_rest(bench: Bench, case: Case) -> None:
    rests = []
    for solver in SOLVERS:
        with bench.open(case, solver=solver) as rig:
            free = rig.free()
            ends = [free, rig.nudged(rig.beta, free), rig.nudged(-rig.beta, free)]
            assert all(bool(e.converged.all()) for e in ends), solver
            rests.append([stacked(rig.states(e)) for e in ends])
    for solver, rest in zip(SOLVERS, rests, strict=True):
        assert max(distance(a, b) for a, b in zip(rest, rests[0], strict=True)) < 1e-7, solver


@each_case
def test_even_odd_needs_fewer_sweeps_than_synchronous(bench: Bench, case: Case) -> None:
    steps = {}
    for solver in ("even_odd", "synchronous"):
        with bench.open(case, solver=solver, tolerance=1e-8) as rig:
            free = rig.free()
            steps[solver] = (free.steps, rig.nudged(rig.beta, free).steps)
    pairs = list(zip(steps["even_odd"], steps["synchronous"], strict=True))
    assert all(fewer < more or fewer == more == 0 for fewer, more in pairs), steps
    if case == CASES[0]:
        assert all(fewer <= 0.65 * more for fewer, more in pairs), steps


@each_case
def test_the_start_is_forgotten_to_rounding(bench: Bench, case: Case) -> None:
    with bench.open(case, tolerance=1e-14, max_steps=400) as rig:
        ends = [[torch.full_like(s, value) for s in rig.anywhere(0)] for value in (0.0, 1.0)]
        free = [stacked(rig.states(rig.free(start=rig.begin(s)))) for s in ends]
        nudged = [stacked(rig.states(rig.nudged(rig.beta, rig.begin(s)))) for s in ends]
    assert distance(free[0], free[1]) < 1e-12
    assert distance(nudged[0], nudged[1]) < 1e-12


def scatter(module: nn.Sequential, seed: int) -> None:
    """Random weights five times what contracts."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in module.parameters():
            p.copy_(5 * p.norm() / p.numel() ** 0.5 * torch.randn(p.shape, generator=generator, dtype=p.dtype))


def course(bench: Bench, case: Case, seed: int, solver: str, beta: float) -> list[float]:
    """The mean of E + beta C after each of some iterations from a random start."""
    energies = []
    for steps in range(26):
        with bench.open(
            case, settled=False, solver=solver, max_steps=max(steps, 1), change=partial(scatter, seed=seed)
        ) as rig:
            e = begin = rig.begin(rig.anywhere(seed))
            if steps:
                e = rig.nudged(beta, begin) if beta else rig.free(start=begin)
            energies.append(oracle.total(rig.network, rig.x, rig.states(e), rig.parameters(), rig.pull(beta)))
    return [float(e.mean()) for e in energies]


@each_case
@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("beta", [0.0, 0.4, -0.4])
def test_even_odd_never_raises_the_energy_of_large_weights(bench: Bench, case: Case, seed: int, beta: float) -> None:
    energies = course(bench, case, seed, "even_odd", beta)
    assert energies[-1] < energies[0]
    assert max(b - a for a, b in itertools.pairwise(energies)) <= 1e-12 * max(map(abs, energies))


def test_synchronous_steps_do_raise_it(bench: Bench) -> None:
    energies = [course(bench, CASES[0], seed, "synchronous", 0.0) for seed in (0, 1, 2)]
    assert max(b - a for path in energies for a, b in itertools.pairwise(path)) > 0.1


@each_case
def test_stopping_leaves_a_relative_error_at_any_beta(bench: Bench, case: Case) -> None:
    errors = []
    for beta in (1e-1, 1e-2, 1e-3, 1e-4):
        with bench.open(case) as rig:
            full = rig.estimate(Centered(), beta)
        with bench.open(case, tolerance=1e-3) as rig:
            errors.append(worst(rig.estimate(Centered(), beta), full))
    assert max(errors) < 0.02


@pytest.mark.parametrize("energy", ["hopfield", "prediction_error"])
def test_a_nudge_reaches_the_first_weights_before_any_stop(bench: Bench, energy: str) -> None:
    with bench.open(Case(energy, "deep"), tolerance=0.9) as rig:
        assert float(rig.estimate(Centered(), 1e-3)["0.weight"].norm()) > 0


@each_case
def test_the_oracles_gradient_is_that_of_finite_differences(bench: Bench, case: Case) -> None:
    """The suite's exact gradient against (C(s_0(theta + h)) - C(s_0(theta - h))) / 2h, settled anew for each."""
    step = 1e-4
    with bench.open(case, tolerance=1e-14, max_steps=200) as rig:
        exact, held = rig.exact(), rig.parameters()
        for name, p in held.items():
            for index in (0, p.numel() // 2, p.numel() - 1):
                costs = []
                for sign in (1, -1):
                    moved = p.clone()
                    moved.view(-1)[index] += sign * step
                    rig.program({**held, name: moved})
                    costs.append(rig.cost(rig.free()))
                difference = (costs[0] - costs[1]) / (2 * step)
                assert abs(difference - float(exact[name].flatten()[index])) < 1e-6 * float(exact[name].norm() + 1e-2)


@each_case
def test_the_suites_networks_rest_off_the_corners(bench: Bench, case: Case) -> None:
    with bench.open(case) as rig:
        for s, p in zip(rig.states(rig.free()), rig.network.populations, strict=True):
            act = p.activation
            assert isinstance(act, ClippedLinear)
            if not act.linear:
                moving = s[(s > act.low) & (s < act.high)]
                assert len(moving) > 0.3 * s.numel()
                assert float(torch.minimum(moving - act.low, act.high - moving).min()) > 5e-3
