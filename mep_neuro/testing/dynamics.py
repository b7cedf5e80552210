"""L1, the dynamics: a phase comes to rest where E + beta C is stationary, whatever the batch and the start."""

from __future__ import annotations

import itertools
from functools import partial

import torch
from torch import nn

from mep_neuro.errors import SettlingError
from mep_neuro.testing import oracle
from mep_neuro.testing.bench import Bench, distance, stacked
from mep_neuro.testing.law import cases, coupling, deterministic, energy, forces, law, option, rate
from mep_neuro.testing.rig import Rig, take

CURVATURE = 3.0
"""How many times the error of states the projected gradient may be, on the suite's networks."""

STEPS = 8
STRONG = 5.0
"""How much stronger than contracting the weights are under which the energy must not rise either."""


@law("L1", cases)
def free_phase_is_stationary(bench: Bench) -> None:
    """At free rest no state can lower E: s = rho(drive), or the prediction itself."""
    for case in bench.cases:
        with bench.open(case) as rig:
            rig.require_small(
                "the projected gradient of E at free rest", rig.unrest(rig.free()), CURVATURE * bench.allowed()
            )


@law("L1", cases)
def nudged_phase_is_stationary(bench: Bench) -> None:
    """At nudged rest no state can lower E + beta C, for positive beta and, where it is declared, for negative."""
    for case in bench.cases:
        with bench.open(case) as rig:
            free = rig.free()
            for beta in _betas(bench, rig):
                rest = rig.unrest(rig.nudged(beta, free), rig.pull(beta))
                rig.require_small(
                    f"the projected gradient of E + beta C at rest, beta = {beta:g},", rest, CURVATURE * bench.allowed()
                )


@law("L1", cases, forces)
def forced_phase_is_stationary(bench: Bench) -> None:
    """At rest under a force no state can lower E - beta <force, outputs>."""
    for case in bench.cases:
        with bench.open(case) as rig:
            free, force = rig.free(), torch.tensor([1.0, -0.5, 0.25]).double().expand(len(rig.x), -1)
            for beta in _betas(bench, rig):
                rest = rig.unrest(rig.forced(beta, free, force), oracle.force_pull(beta, force))
                rig.require_small(
                    f"the projected gradient under a force, beta = {beta:g},", rest, CURVATURE * bench.allowed()
                )


@law("L1", cases)
def outputs_follow_the_states(bench: Bench) -> None:
    """The outputs are s_L, or rho(s_L) where s_L is a drive; activities lie in the range of their activation."""
    for case in bench.cases:
        with bench.open(case) as rig:
            free = rig.free()
            for e in (free, rig.nudged(rig.beta, free)):
                states = rig.states(e)
                wanted = oracle.outputs(rig.network, [take(s) for s in e.states])
                rig.require_small(
                    "the error of the outputs, given the last state,",
                    distance(take(e.outputs), wanted, scale=1.0),
                    bench.allowed(),
                )
                for level, (s, p) in enumerate(zip(states, rig.network.populations, strict=True), 1):
                    low, high = p.activation.low, p.activation.high
                    if oracle.bounded(rig.network) and high - low < 1e9:
                        over = max(float((s - high).max()), float((low - s).max()), 0.0) / (high - low)
                        rig.require_small(
                            f"how far population {level} leaves [{low:g}, {high:g}]", over, bench.allowed()
                        )


@law("L1", cases, rate, deterministic, option("max_steps"))
def energy_never_rises(bench: Bench) -> None:
    """From any start, one more iteration of the default solver never raises E + beta C, whatever the weights."""
    for case in (*bench.cases, *bench.chosen(layout="deep")):
        for gain in (1.0, STRONG):
            with bench.open(case, change=partial(_strengthen, gain=gain)) as rig:
                start = rig.anywhere(1)
                held, x = rig.parameters(), rig.x
                before = {beta: oracle.total(rig.network, x, start, held, rig.pull(beta)) for beta in (0.0, rig.beta)}
            for steps in range(1, STEPS + 1):
                with bench.open(case, settled=False, max_steps=steps, change=partial(_strengthen, gain=gain)) as rig:
                    begin = rig.begin(start)
                    for beta in before:
                        e = rig.nudged(beta, begin) if beta else rig.free(start=begin)
                        after = oracle.total(rig.network, x, rig.states(e), held, rig.pull(beta))
                        rise = float(((after - before[beta]) / before[beta].abs().clamp_min(1.0)).max())
                        rig.require_small(
                            f"the rise of E + {beta:g} C in iteration {steps}, weights {gain:g} times contracting,",
                            rise,
                            1e-9,
                        )
                        before[beta] = after


@law("L1", cases)
def batches_may_be_cut(bench: Bench) -> None:
    """A sample rests at the same states alone, among others, and repeated."""
    for case in bench.cases:
        with bench.open(case, settled=False) as rig:
            free = rig.free()
            together = [rig.states(free), rig.states(rig.nudged(rig.beta, free))]
            for rows in (torch.tensor([0]), torch.tensor([2, 1, 0, 0, 1])):
                part = rig.free(rig.x[rows])
                nudged = rig.nudged(rig.beta, part, target=rig.target[rows])
                for e, states, phase in zip((part, nudged), together, ("free", "nudged"), strict=True):
                    apart = distance(stacked(rig.states(e)), stacked([s[rows] for s in states]))
                    rig.require_small(
                        f"the difference of {phase} states in a batch of {len(rows)} and in one of {len(rig.x)}",
                        apart,
                        bench.allowed(),
                    )


@law("L1", cases)
def start_is_forgotten(bench: Bench) -> None:
    """Where the loops contract, a phase comes to one rest from any start."""
    for case in bench.cases:
        with bench.open(case) as rig:
            free = rig.free()
            nudged = rig.nudged(rig.beta, free)
            for seed in (1, 2):
                begin = rig.begin(rig.anywhere(seed))
                for e, known in ((rig.free(start=begin), free), (rig.nudged(rig.beta, begin), nudged)):
                    apart = distance(stacked(rig.states(e)), stacked(rig.states(known)))
                    rig.require_small("the difference of rests from two starts", apart, bench.allowed(1e-6))


@law("L1", cases)
def no_nudge_moves_nothing(bench: Bench) -> None:
    """A force of zero, or a target that the outputs have reached, leaves the free rest as it is."""
    for case in bench.cases:
        with bench.open(case) as rig:
            free = rig.free()
            rests = []
            if case.cost == "squared_error":
                rests.append(rig.nudged(rig.beta, free, target=rig.mean(free.outputs)))
            if bench.capabilities.forces:
                rests.append(rig.forced(rig.beta, free, torch.zeros_like(rig.target)))
            for e in rests:
                moved = distance(stacked(rig.states(e)), stacked(rig.states(free)))
                rig.require_small("what a nudge of nothing moves", moved, bench.allowed())


@law("L1", cases)
def cost_falls_along_the_nudge(bench: Bench) -> None:
    """The cost of the outputs falls as beta rises: a nudge pulls towards the target."""
    for case in bench.cases:
        with bench.open(case) as rig:
            free = rig.free()
            path = [b * rig.beta for b in ((-1.0, -0.5) if bench.capabilities.negative_nudging else ())]
            path += [0.0, 0.5 * rig.beta, rig.beta]
            costs = [rig.cost(rig.nudged(b, free) if b else free) for b in path]
            shown = ", ".join(f"C = {c:.4g} at beta = {b:g}" for b, c in zip(path, costs, strict=True))
            rig.require(costs[-1] < costs[0], f"the nudge does not lower the cost: {shown}")
            slack = 0.0 if bench.capabilities.deterministic else bench.capabilities.tolerance * costs[0]
            falls = all(after <= before + slack for before, after in itertools.pairwise(costs))
            rig.require(falls, f"the cost rises along the nudge: {shown}")


@law("L1", cases, coupling("Dropout"))
def masks_are_held(bench: Bench) -> None:
    """Dropout draws one mask a sample, holds it through all phases, and drops nothing in evaluation mode."""
    for case in bench.chosen(layout="dropout"):
        with bench.open(case) as rig:
            calm = rig.unrest(rig.free())
            rig.require_small(
                "the projected gradient with Dropout in evaluation mode", calm, CURVATURE * bench.allowed()
            )
            rig.network.module.train()
            x = rig.x[:1].repeat(16, *[1] * (rig.x.dim() - 1))
            free = rig.free(x)
            e = rig.nudged(rig.beta, free, target=rig.mean(free.outputs))
            moved = distance(stacked(rig.states(e)), stacked(rig.states(free)))
            rig.require_small("what a nudge of nothing moves under Dropout", moved, bench.allowed())
            spread = float(stacked(rig.states(free)).std(0).max())
            rig.require(spread > 1e-3, "16 copies of a sample rest at the same states: one mask for all, or none")


@law("L1", cases, energy("hopfield"))
def running_away_is_an_error(bench: Bench) -> None:
    """Weights under which states run away give finite states or a `SettlingError`, never NaN in silence."""

    def explode(module: nn.Sequential) -> None:
        _strengthen(module, 1e4)

    for case in bench.chosen(energy="hopfield", layout="unbounded"):
        with bench.open(case, change=explode) as rig:
            for x in (rig.x, 1e300 * rig.x):
                try:
                    e = rig.nudged(rig.beta, rig.free(x))
                except (SettlingError, ValueError):
                    continue
                finite = bool(torch.isfinite(stacked(rig.states(e))).all())
                rig.require(finite, "states are NaN or infinite, and no SettlingError says so")


@law("L1", cases, rate, deterministic, option("max_steps"), energy("hopfield", "resistive"))
def unrest_is_reported(bench: Bench) -> None:
    """Cut off after one iteration, a phase says that it has not come to rest; settled, that it has."""
    for case in (c for c in bench.chosen(layout="deep") if c.energy in ("hopfield", "resistive")):
        with bench.open(case) as rig:
            free = rig.free()
            done = [free, rig.nudged(rig.beta, free)]
            rig.require(all(bool(e.converged.all()) for e in done), "a settled phase says that it has not come to rest")
        with bench.open(case, settled=False, max_steps=1) as rig:
            begin = rig.begin(rig.anywhere(3))
            for e in (rig.free(start=begin), rig.nudged(rig.beta, begin)):
                rig.require(not bool(e.converged.any()), "a phase of one iteration from a far start says that it rests")


def _betas(bench: Bench, rig: Rig) -> tuple[float, ...]:
    return (rig.beta, -rig.beta) if bench.capabilities.negative_nudging else (rig.beta,)


def _strengthen(module: nn.Sequential, gain: float) -> None:
    with torch.no_grad():
        for layer in module:
            if isinstance(layer, nn.Linear | nn.Conv2d):
                layer.weight.mul_(gain)
