"""L0, the protocol: the values that pass to and fro, and the numbers that come out for a seed."""

from __future__ import annotations

import itertools
import math

import numpy as np
import torch
from torch import Tensor, nn

from mep_neuro.counts import OperationCounts
from mep_neuro.errors import InputError, SettlingError
from mep_neuro.testing.bench import Bench, distance, joined, stacked
from mep_neuro.testing.law import cases, deterministic, law
from mep_neuro.testing.networks import Case
from mep_neuro.testing.rig import Rig
from mep_neuro.types import Equilibrium, Nudge

SAME = 1e-10
"""Relative difference up to which two runs gave the same numbers: sums may be ordered differently, no more."""


@law("L0", cases)
def arrays_stay_the_callers(bench: Bench) -> None:
    """No array that is given is changed in place, and what `read` gives may be changed without any effect."""
    for case in bench.plain():
        with bench.open(case, settled=False) as rig:
            values = {name: rig.give(p) for name, p in rig.parameters().items()}
            kept = {name: rig.give(p) for name, p in rig.parameters().items()}
            rig.substrate.program(values)
            x, target = rig.feed(rig.x), rig.feed(rig.target)
            free = rig.substrate.settle(x)
            before = rig.states(free)
            nudged = rig.substrate.settle(x, nudge=Nudge(rig.beta, target, case.cost), start=free)
            rig.substrate.contrast([(1.0, nudged), (-1.0, free)])
            rig.substrate.settle(x, start=free)
            pairs = [("x", x, rig.feed(rig.x)), ("the target", target, rig.feed(rig.target))]
            if not bench.capabilities.shares_parameters:
                pairs += [(f"the programmed {name!r}", values[name], kept[name]) for name in kept]
            for what, value, copy in pairs:
                rig.require(bool((value == copy).all()), f"{what} was changed in place")
            moved = distance(stacked(rig.states(free)), stacked(before))
            rig.require(moved == 0, "the states of an equilibrium that phases started from were changed in place")
            held = rig.substrate.read()
            written = joined(rig.parameters())
            for value in held.values():
                if isinstance(value, Tensor) or value.flags.writeable:
                    value *= 0
            rig.require(
                distance(joined(rig.parameters()), written) <= SAME, "what read gives is the substrate's own memory"
            )


@law("L0", cases)
def equilibria_are_well_formed(bench: Bench) -> None:
    """An equilibrium holds the declared arrays: states (batch, *population), outputs, a finite residual (batch,)."""
    kind = Tensor if bench.capabilities.arrays == "torch" else np.ndarray
    for case in bench.cases:
        with bench.open(case, settled=False) as rig:
            free = rig.free()
            nudged = rig.nudged(rig.beta, free)
            batch = len(rig.x) * rig.repeats
            shapes = [(batch, *p.shape) for p in rig.network.populations]
            for name, e in {"free": free, "nudged": nudged}.items():
                got = [tuple(s.shape) for s in e.states]
                rig.require(got == shapes, f"the {name} states have shapes {got}, not {shapes}")
                rig.require(
                    tuple(e.outputs.shape) == shapes[-1], f"the {name} outputs have shape {tuple(e.outputs.shape)}"
                )
                arrays = [*e.states, e.outputs, e.residual]
                rig.require(all(isinstance(a, kind) for a in arrays), f"{name}: not all arrays are {kind.__name__}")
                rig.require(
                    tuple(e.residual.shape) == (batch,), f"the {name} residual has shape {tuple(e.residual.shape)}"
                )
                rig.require(
                    bool((e.residual >= 0).all()) and e.tolerance > 0, f"the {name} residual or tolerance is negative"
                )
                rig.require(len(e.converged) == batch and e.steps >= 0, f"{name}: converged or steps make no sense")
            rig.require(free.nudge is None, "the free phase tells of a nudge")
            rig.require(
                nudged.nudge is not None and nudged.nudge.beta == rig.beta, "the nudged phase does not tell its nudge"
            )


@law("L0", cases)
def bad_numbers_are_refused(bench: Bench) -> None:
    """x of another shape or with NaN or infinity, and parameters with NaN, are errors and no equilibrium."""
    for case in bench.plain():
        with bench.open(case, settled=False) as rig:
            learner, x = rig.learner(), rig.x.to(rig.network.device)
            with rig.refuses("x with one input too few"):
                learner.predict(x[:, :-1])
            for bad in (math.nan, math.inf):
                spoilt = x.clone()
                spoilt.view(-1)[-1] = bad
                with rig.refuses(f"x with {bad} in it"):
                    learner.predict(spoilt)
            broken = rig.parameters()
            next(iter(broken.values())).view(-1)[0] = math.nan
            with rig.refuses("a parameter that is NaN", InputError, SettlingError):
                rig.program(broken)
                rig.free()


@law("L0", cases)
def phases_may_settle_together(bench: Bench) -> None:
    """`settle_each` gives what settling one nudge after the other gives."""
    for case in bench.plain():
        with bench.open(case) as rig:
            free = rig.free()
            betas = (rig.beta, -rig.beta) if bench.capabilities.negative_nudging else (rig.beta, rig.beta / 2)
            each: list[Equilibrium] = [rig.nudged(b, free) for b in betas]
            nudges = [e.nudge for e in each if e.nudge is not None]
            for one, other in zip(each, rig.substrate.settle_each(free.x, nudges, free), strict=True):
                apart = distance(stacked(rig.states(other)), stacked(rig.states(one)))
                rig.require_small("the difference of settle_each and settle", apart, bench.allowed())


@law("L0", cases)
def same_seed_same_numbers(bench: Bench) -> None:
    """Two substrates opened with one seed give the same numbers, and so does one that is reseeded."""
    for case in (*bench.plain(), *_dropping(bench)):
        runs = []
        for _ in range(2):
            with bench.open(case, seed=11, settled=False, change=_train) as rig:
                runs.append(run(rig))
                for _ in range(2):
                    rig.substrate.reseed(5)
                    runs.append(run(rig))
        rig.require_small("the difference of two substrates with one seed", distance(runs[0], runs[3]), SAME)
        rig.require_small("the difference of two runs after one reseed", distance(runs[1], runs[2]), SAME)


@law("L0", cases, deterministic)
def any_seed_same_numbers(bench: Bench) -> None:
    """A substrate that is declared deterministic gives the same numbers whatever the seed."""
    for case in bench.plain():
        runs = []
        for seed in (0, 1):
            with bench.open(case, seed=seed, settled=False) as rig:
                runs.append(run(rig))
        rig.require_small("the difference of two seeds", distance(runs[0], runs[1]), SAME)


@law("L0", cases)
def counts_never_fall(bench: Bench) -> None:
    """Counts are whole numbers since the opening; every call adds to them or leaves them, and reading costs nothing."""
    for case in bench.plain():
        with bench.open(case, settled=False) as rig:
            readings = [rig.substrate.counts()]
            free = rig.free()
            readings += [rig.substrate.counts()]
            nudged = rig.nudged(rig.beta, free)
            readings += [rig.substrate.counts()]
            update = rig.substrate.contrast([(1.0, nudged), (-1.0, free)])
            readings += [rig.substrate.counts()]
            rig.substrate.apply(update)
            readings += [rig.substrate.counts(), rig.substrate.counts()]
            for before, after in itertools.pairwise(readings):
                rig.require(isinstance(after, OperationCounts), f"counts gives {type(after).__name__}")
                rig.require(after.samples >= before.samples, "the counted samples fell")
                for key in {*before.entries, *after.entries}:
                    rig.require(
                        after[key] >= before[key] >= 0, f"the count of {key} fell from {before[key]} to {after[key]}"
                    )
            rig.require(readings[-1] == readings[-2], "reading the counts changed them")
            rig.require(readings[3].entries != readings[0].entries, "settling and contrast counted nothing")


def run(rig: Rig) -> Tensor:
    """All numbers of a free phase, a nudged phase and their contrast."""
    free = rig.free()
    nudged = rig.nudged(rig.beta, free)
    update: dict[str, Tensor] = rig.contrast([(1.0, nudged), (-1.0, free)])
    return torch.cat([stacked(rig.states(free)).flatten(), stacked(rig.states(nudged)).flatten(), joined(update)])


def _dropping(bench: Bench) -> tuple[Case, ...]:
    return tuple(bench.chosen(layout="dropout")) if "Dropout" in bench.capabilities.couplings else ()


def _train(module: nn.Sequential) -> None:
    module.train()
