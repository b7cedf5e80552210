"""L0, the protocol: what is held is what was written, what cannot be used is refused, and the seed is all of chance."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from mep_neuro import registry
from mep_neuro.capabilities import Capabilities
from mep_neuro.costs import COSTS
from mep_neuro.counts import OperationCounts
from mep_neuro.errors import InputError, OptionError, SettlingError
from mep_neuro.propagation import EquilibriumPropagation
from mep_neuro.testing.bench import Bench, distance, joined, stacked
from mep_neuro.testing.law import cases, deterministic, law, option, registered
from mep_neuro.testing.networks import ENERGIES, Case, build
from mep_neuro.testing.rig import Rig
from mep_neuro.types import Equilibrium

SAME = 1e-10
"""Relative difference up to which two runs gave the same numbers: sums may be ordered differently, no more."""


@law("L0")
def capabilities_are_sound(bench: Bench) -> None:
    """What a backend declares are values that the words stand for, and it opens a network of what it declares."""
    c = bench.capabilities
    unknown = set(c.costs) - set(COSTS)
    if unknown or not c.costs:
        raise AssertionError(f"costs are {sorted(c.costs)}; the core knows {', '.join(COSTS)}")
    if not (0 < c.tolerance < 1):
        raise AssertionError(f"tolerance is {c.tolerance}; it is a relative error, between 0 and 1")
    if c.weight_bits is not None and c.weight_bits < 1:
        raise AssertionError(f"weight_bits is {c.weight_bits}; give at least 1, or None for floating point")
    if c.weight_range is not None and not c.weight_range[0] < c.weight_range[1]:
        raise AssertionError(f"weight_range is {c.weight_range}; give (smallest, largest)")
    if set(c.energies) & set(ENERGIES) and not bench.cases:
        refused = "; ".join(f"{case}: {reason}" for case, reason in bench.refused.items())
        raise AssertionError(f"it opens none of the suite's networks, though it declares their parts. {refused}")


@law("L0", cases)
def opens_and_closes(bench: Bench) -> None:
    """A substrate opens as a context manager on every network that is declared, and closing it twice is safe."""
    for case in bench.cases:
        with bench.open(case, settled=False) as rig:
            rig.require(rig.substrate.network is rig.network, "substrate.network is not the network it was opened on")
        rig.substrate.close()
        rig.substrate.close()


@law("L0", cases)
def reads_what_was_programmed(bench: Bench) -> None:
    """`read` gives every parameter that `program` wrote, within what weight_range and weight_bits make of it."""
    for case in bench.cases:
        with bench.open(case, settled=False) as rig:
            wanted = altered(rig)
            rig.program(wanted)
            held = rig.parameters()
            rig.require(set(held) == set(wanted), f"read gives {sorted(held)}, not {sorted(wanted)}")
            for name, value in wanted.items():
                fits = value if bench.capabilities.weight_range is None else value.clamp(*bench.capabilities.weight_range)
                rig.require_small(
                    f"the difference of what was programmed and what is read of {name!r}",
                    distance(held[name], fits),
                    grain(bench.capabilities, fits),
                )


@law("L0", cases)
def programs_are_checked(bench: Bench) -> None:
    """`program` refuses a missing, unknown or misshapen parameter, and then nothing has changed."""
    for case in bench.plain():
        with bench.open(case, settled=False) as rig:
            before, good = rig.parameters(), altered(rig)
            name = next(iter(good))
            for what, bad in {
                f"program without {name!r}": {k: v for k, v in good.items() if k != name},
                "program with an unknown parameter": {**good, "nowhere.weight": good[name]},
                f"program with {name!r} of another shape": {**good, name: good[name][:-1]},
            }.items():
                with rig.refuses(what):
                    rig.program(bad)
                unchanged = distance(joined(rig.parameters()), joined(before))
                rig.require(unchanged <= SAME, f"{what} is refused, but some parameters were written all the same")


@law("L0", cases)
def apply_adds(bench: Bench) -> None:
    """`apply` adds an update to the parameters that it names, and leaves the others as they are."""
    for case in bench.plain():
        with bench.open(case, settled=False) as rig:
            before = rig.parameters()
            name = next(iter(before))
            update = 0.05 * before[name].abs().max() * torch.sign(-before[name])
            rig.substrate.apply({name: rig.give(update)})
            after = rig.parameters()
            allowed = max(bench.allowed(), 2 * grain(bench.capabilities, before[name]) / 0.05)
            rig.require_small(
                f"the error of what apply added to {name!r}", distance(after.pop(name) - before.pop(name), update), allowed
            )
            rig.require_small(
                "the change of parameters that apply was not given", distance(joined(after), joined(before)), bench.allowed()
            )


@law("L0", cases)
def shares_parameters_as_declared(bench: Bench) -> None:
    """The substrate follows a change of the module's parameters if, and only if, it declares to share them."""
    shares = bench.capabilities.shares_parameters
    for case in bench.plain():
        with bench.open(case, settled=False) as rig:
            before = joined(rig.parameters())
            with torch.no_grad():
                for p in rig.network.parameters.values():
                    p.mul_(0.5)
            moved = distance(joined(rig.parameters()), before)
            rig.require(
                (moved > 0.25) == shares,
                f"shares_parameters is {shares}, but halving the module's parameters changed read by {moved:.2g}",
            )


@law("L0", cases)
def arrays_stay_the_callers(bench: Bench) -> None:
    """No array that is given is changed in place, and what `read` gives may be changed without any effect."""
    for case in bench.plain():
        with bench.open(case, settled=False) as rig:
            values = {name: rig.give(p) for name, p in rig.parameters().items()}
            kept = {name: rig.give(p) for name, p in rig.parameters().items()}
            rig.substrate.program(values)
            x, target = rig.feed(rig.x), rig.feed(rig.target)
            start = rig.substrate.settle(x)
            states = [rig.feed(s) for s in rig.states(start)]
            begin = rig.begin(rig.states(start))
            rig.substrate.contrast([(1.0, rig.nudged(rig.beta, start)), (-1.0, start)])
            rig.substrate.settle(begin.x, start=begin)
            pairs = [("x", x, rig.feed(rig.x)), ("the target", target, rig.feed(rig.target))]
            pairs += [(f"the state {i} of a start", s, k) for i, (s, k) in enumerate(zip(begin.states, states, strict=True), 1)]
            if not bench.capabilities.shares_parameters:
                pairs += [(f"the programmed {name!r}", values[name], kept[name]) for name in kept]
            for what, value, copy in pairs:
                rig.require(bool((value == copy).all()), f"{what} was changed in place")
            held = rig.substrate.read()
            before = joined(rig.parameters())
            for value in held.values():
                value *= 0
            rig.require(distance(joined(rig.parameters()), before) <= SAME, "what read gives is the substrate's own memory")


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
                rig.require(tuple(e.outputs.shape) == shapes[-1], f"the {name} outputs have shape {tuple(e.outputs.shape)}")
                arrays = [*e.states, e.outputs, e.residual]
                rig.require(all(isinstance(a, kind) for a in arrays), f"{name}: not all arrays are {kind.__name__}")
                rig.require(tuple(e.residual.shape) == (batch,), f"the {name} residual has shape {tuple(e.residual.shape)}")
                rig.require(bool((e.residual >= 0).all()) and e.tolerance > 0, f"the {name} residual or tolerance is negative")
                rig.require(len(e.converged) == batch and e.steps >= 0, f"{name}: converged or steps make no sense")
            rig.require(free.nudge is None, "the free phase tells of a nudge")
            rig.require(nudged.nudge is not None and nudged.nudge.beta == rig.beta, "the nudged phase does not tell its nudge")


@law("L0", cases)
def bad_numbers_are_refused(bench: Bench) -> None:
    """x of another shape or with NaN or infinity, and parameters with NaN, are errors and no equilibrium."""
    for case in bench.plain():
        with bench.open(case, settled=False) as rig:
            learner, x = EquilibriumPropagation(rig.substrate), rig.x.to(rig.network.device)
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
def frozen_parameters_get_nothing(bench: Bench) -> None:
    """A frozen parameter takes part in settling, and `contrast` has no entry for it."""

    def freeze(module: nn.Sequential) -> None:
        next(module.parameters()).requires_grad_(False)

    for case in bench.plain():
        with bench.open(case) as rig:
            free = rig.free()
            whole = rig.contrast([(1.0, rig.nudged(rig.beta, free)), (-1.0, free)])
            rig.require(set(whole) == set(rig.network.trained), f"contrast gives {sorted(whole)}")
        with bench.open(case, change=freeze) as rig:
            free = rig.free()
            part = rig.contrast([(1.0, rig.nudged(rig.beta, free)), (-1.0, free)])
            rig.require(set(part) == set(rig.network.trained), f"one is frozen, and contrast gives {sorted(part)}")
            rest = joined({name: whole[name] for name in part})
            rig.require_small("what freezing a parameter changes for others", distance(joined(part), rest), bench.allowed())


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
            for before, after in zip(readings, readings[1:], strict=False):
                rig.require(isinstance(after, OperationCounts), f"counts gives {type(after).__name__}")
                rig.require(after.samples >= before.samples, "the counted samples fell")
                for key in {*before.entries, *after.entries}:
                    rig.require(after[key] >= before[key] >= 0, f"the count of {key} fell from {before[key]} to {after[key]}")
            rig.require(readings[-1] == readings[-2], "reading the counts changed them")
            rig.require(readings[3].entries != readings[0].entries, "settling and contrast counted nothing")


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


@law("L0", cases, registered)
def unknown_options_are_refused(bench: Bench) -> None:
    """An option that the backend does not have is an `OptionError`, through the registry."""
    case = bench.cases[0]
    network = build(case, bench.capabilities)
    try:
        registry.backend(bench.name, network, **{**bench.options, "no_such_option": 1}).close()
    except OptionError:
        return
    raise AssertionError("the option 'no_such_option' goes through in silence")


@law("L0", cases, option("max_steps"))
def senseless_options_are_refused(bench: Bench) -> None:
    """max_steps below 1, a tolerance of 0 and an unknown solver are errors when the substrate is opened."""
    for name, value in {"max_steps": 0, "tolerance": 0.0, "solver": "no_such_solver"}.items():
        if bench.has(name):
            try:
                bench.kind(build(bench.cases[0], bench.capabilities), seed=0, **{**bench.options, name: value}).close()
            except InputError:
                continue
            raise AssertionError(f"{name}={value!r} goes through in silence; it must raise mep_neuro.errors.OptionError")


def altered(rig: Rig) -> dict[str, Tensor]:
    """Parameters unlike those that the module holds, within what its weights span."""
    return {name: -0.5 * p.detach().cpu().double() for name, p in rig.network.parameters.items()}


def grain(held: Capabilities, value: Tensor) -> float:
    """The relative error that writing a parameter may have: the tolerance, and a step of the declared bits."""
    if held.weight_bits is None:
        return held.tolerance
    low, high = held.weight_range or (-float(value.abs().max()), float(value.abs().max()))
    step = (high - low) / 2**held.weight_bits
    return held.tolerance + step * math.sqrt(value.numel()) / max(float(value.norm()), 1e-300)


def run(rig: Rig) -> Tensor:
    """All numbers of a free phase, a nudged phase and their contrast."""
    free = rig.free()
    nudged = rig.nudged(rig.beta, free)
    update: Mapping[str, Tensor] = rig.contrast([(1.0, nudged), (-1.0, free)])
    return torch.cat([stacked(rig.states(free)).flatten(), stacked(rig.states(nudged)).flatten(), joined(update)])


def _dropping(bench: Bench) -> tuple[Case, ...]:
    return tuple(bench.chosen(layout="dropout")) if "Dropout" in bench.capabilities.couplings else ()


def _train(module: nn.Sequential) -> None:
    module.train()
