"""L0, the protocol: what is held is what was written and declared, and what cannot be used is refused."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from mep_neuro import registry
from mep_neuro.capabilities import Capabilities
from mep_neuro.costs import COSTS
from mep_neuro.errors import InputError, OptionError
from mep_neuro.testing.bench import Bench, distance, joined
from mep_neuro.testing.law import cases, law, option
from mep_neuro.testing.networks import ENERGIES, build
from mep_neuro.testing.rig import Rig

UNTOUCHED = 1e-10
"""Relative difference up to which parameters are as they were."""


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
def unknown_options_are_refused(bench: Bench) -> None:
    """An option that the backend does not have is an error, and an `OptionError` through the registry."""
    network, options = build(bench.cases[0], bench.capabilities), {**bench.options, "no_such_option": 1}
    try:
        bench.kind(network, seed=0, **options).close()
    except (TypeError, OptionError):
        pass
    else:
        raise AssertionError("the option 'no_such_option' goes through in silence: take no **options")
    if bench.registered:
        try:
            registry.backend(bench.name, network, **options).close()
        except OptionError:
            return
        raise AssertionError("through the registry, the option 'no_such_option' goes through in silence")


@law("L0", cases, option("max_steps"))
def senseless_options_are_refused(bench: Bench) -> None:
    """max_steps below 1, a tolerance of 0 and an unknown solver are errors when the substrate is opened."""
    for name, value in {"max_steps": 0, "tolerance": 0.0, "solver": "no_such_solver"}.items():
        if bench.has(name):
            try:
                bench.kind(build(bench.cases[0], bench.capabilities), seed=0, **{**bench.options, name: value}).close()
            except InputError:
                continue
            raise AssertionError(
                f"{name}={value!r} goes through in silence; it must raise mep_neuro.errors.OptionError"
            )


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
                fits = (
                    value if bench.capabilities.weight_range is None else value.clamp(*bench.capabilities.weight_range)
                )
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
                rig.require(unchanged <= UNTOUCHED, f"{what} is refused, but some parameters were written all the same")


@law("L0", cases)
def conductances_are_not_negative(bench: Bench) -> None:
    """`program` refuses a conductance below 0; `apply` takes one to 0 and no further."""
    for case in (c for c in bench.plain() if c.energy == "resistive"):
        with bench.open(case, settled=False) as rig:
            before = rig.parameters()
            for name in rig.network.conductances:
                with rig.refuses(f"program with {name!r} below 0"):
                    rig.program({**before, name: -before[name]})
            unchanged = distance(joined(rig.parameters()), joined(before))
            rig.require(unchanged <= UNTOUCHED, "program is refused, but some parameters were written all the same")
            for name in rig.network.conductances:
                rig.substrate.apply({name: rig.give(-2 * before[name])})
                low = max(0.0, (bench.capabilities.weight_range or (0.0,))[0])
                rig.require_small(
                    f"how far twice itself taken off leaves {name!r} from the least that is held",
                    float((rig.parameters()[name] - low).abs().max() / before[name].abs().max()),
                    bench.allowed(),
                )


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
                f"the error of what apply added to {name!r}",
                distance(after.pop(name) - before.pop(name), update),
                allowed,
            )
            rig.require_small(
                "the change of parameters that apply was not given",
                distance(joined(after), joined(before)),
                bench.allowed(),
            )


@law("L0", cases)
def updates_are_checked(bench: Bench) -> None:
    """`apply` refuses an unknown or misshapen update, and then nothing has changed."""
    for case in bench.plain():
        with bench.open(case, settled=False) as rig:
            before = rig.parameters()
            name = next(iter(before))
            for what, update in {
                "an update of an unknown parameter": {"nowhere.weight": before[name]},
                f"an update of {name!r} of another shape": {name: before[name][:1]},
            }.items():
                with rig.refuses(what):
                    rig.substrate.apply({n: rig.give(p) for n, p in update.items()})
                unchanged = distance(joined(rig.parameters()), joined(before))
                rig.require(unchanged <= UNTOUCHED, f"{what} is refused, but some parameters changed all the same")


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
def learners_bring_it_up_to_date(bench: Bench) -> None:
    """Before it predicts, a learner brings the substrate to the module's parameters, at first and after changes."""
    for case in bench.plain():
        with bench.open(case, settled=False) as rig:
            learner = rig.learner()
            for factor in (0.8, 0.9, 1.0):
                with torch.no_grad():
                    for p in rig.network.parameters.values():
                        p.mul_(factor)
                learner.predict(rig.x.to(rig.network.device))
                held = rig.parameters()
                for name, p in rig.network.parameters.items():
                    own = p.detach().cpu().double()
                    rig.require_small(
                        f"the difference of the module's {name!r} and the substrate's",
                        distance(held[name], own),
                        4 * grain(bench.capabilities, own),
                    )


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
            rig.require_small(
                "what freezing a parameter changes for others", distance(joined(part), rest), bench.allowed()
            )


def altered(rig: Rig) -> dict[str, Tensor]:
    """Parameters unlike those that the module holds, within what its weights span."""
    own, positive = rig.network.parameters, rig.network.conductances
    return {name: (0.5 if name in positive else -0.5) * p.detach().cpu().double() for name, p in own.items()}


def grain(held: Capabilities, value: Tensor) -> float:
    """The relative error that writing a parameter may have: the tolerance, and a step of the declared bits."""
    if held.weight_bits is None:
        return held.tolerance
    low, high = held.weight_range or (-float(value.abs().max()), float(value.abs().max()))
    step = (high - low) / 2.0**held.weight_bits
    return held.tolerance + step * math.sqrt(value.numel()) / max(float(value.norm()), 1e-300)
