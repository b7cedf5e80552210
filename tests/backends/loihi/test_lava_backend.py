"""The lava substrate: equal to loihi bit for bit, states, weights and counts; without rounding near the reference."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from test_loihi_backend import network
from torch import nn

import mep_neuro as mep
from mep_neuro.errors import CapabilityError, InputError, OptionError, SettlingError
from mep_neuro.types import Equilibrium, Nudge
from mep_neuro_lava import LavaBackend, LoihiBackend
from mep_neuro_reference import ReferenceBackend

LAVA = LavaBackend.availability()
pytestmark = [pytest.mark.skipif(not LAVA, reason=f"{LAVA.reason}: {LAVA.cure}"), pytest.mark.timeout(60)]
RNG = np.random.default_rng(7)
STEPS = (9, 6)


def scaled(net: mep.EnergyNetwork, **factors: float) -> mep.EnergyNetwork:
    """With some weights made larger or smaller."""
    with torch.no_grad():
        for name, factor in factors.items():
            net.parameters[name.replace("_", ".")].mul_(factor)
    return net


@contextlib.contextmanager
def pair(net: mep.EnergyNetwork, **options: Any) -> Iterator[tuple[LoihiBackend, LavaBackend]]:
    """Both substrates, programmed with a network's parameters."""
    options = {"timesteps": STEPS, **options}
    with LoihiBackend(net, **options) as loihi, LavaBackend(net, timeout=20.0, **options) as lava:
        for substrate in (loihi, lava):
            substrate.program({name: p.detach().numpy() for name, p in net.parameters.items()})
        yield loihi, lava


def equal(a: Equilibrium, b: Equilibrium) -> bool:
    return all(np.array_equal(*two) for two in zip((*a.states, a.residual), (*b.states, b.residual), strict=True))


def same_weights(loihi: LoihiBackend, lava: LavaBackend) -> bool:
    held = lava.read()
    return all(np.array_equal(value, held[name]) for name, value in loihi.read().items())


NETS: dict[str, tuple[Callable[[], mep.EnergyNetwork], dict[str, Any]]] = {
    "2-8-1": (lambda: network(2, 8, 1), {}),
    "64-32-10": (lambda: network(64, 32, 10), {}),
    "two hidden": (lambda: network(4, 6, 5, 3, act=nn.Hardsigmoid), {}),
    "exponents": (lambda: scaled(network(4, 6, 3), **{"0_weight": 0.1, "2_weight": 4.0}), {"output_limit": 50.0}),
    "no hidden": (lambda: network(3, 2, end=True, act=nn.Hardtanh), {}),
    "narrow": (lambda: network(5, 4, 3, act=nn.ReLU6), {"payload_bits": 6, "state_bits": 16, "leak": 2}),
    "one sign": (lambda: scaled(network(3, 4, 2), **{"0_weight": 0.0, "2_weight": 1.0}), {"headroom": 0}),
}


@pytest.mark.parametrize("name", NETS)
def test_states_and_counts_are_those_of_loihi(name: str) -> None:
    make, options = NETS[name]
    net = make()
    x, target = RNG.uniform(-1, 1, (2, *net.input_shape)), RNG.uniform(0, 1, (2, net.outputs.size))
    x[0, 0] = 0.0
    with pair(net, **options) as (loihi, lava):
        free: dict[Any, Equilibrium] = {}
        for nudge, start in (
            (None, False),
            (Nudge(0.5, target), True),
            (Nudge(-0.5, target), True),
            (Nudge(0.25, force=target), True),
            (None, True),
            (Nudge(0.5, target), False),
        ):
            found = []
            for substrate in (loihi, lava):
                found.append(substrate.settle(x, nudge=nudge, start=free[substrate] if start else None))
                if nudge is None and not start:
                    free[substrate] = found[-1]
            assert equal(*found), (nudge, start)
            assert loihi.counts() == lava.counts(), (nudge, start)
        assert (free[loihi].outputs.argmax(1) == free[lava].outputs.argmax(1)).all()
        again = [s.settle(x, nudge=Nudge(0.5, target), start=dataclasses.replace(free[s], context=None)) for s in free]
        assert equal(*again)
        assert loihi.counts() == lava.counts()


def test_weights_change_while_it_runs() -> None:
    """New weights reach the running graph, also where a coupling's exponent changes and it must be opened anew."""
    net = network(4, 6, 3)
    x = RNG.uniform(-1, 1, (2, 4))
    with pair(net) as (loihi, lava):
        held = loihi.read()
        lava.settle(x)
        running = lava._machine._settling
        for factor, reopened in ((-0.97, False), (0.2, True), (0.0, True)):
            for substrate in (loihi, lava):
                substrate.program({name: factor * value for name, value in held.items()})
            assert equal(loihi.settle(x), lava.settle(x))
            if not reopened:
                assert running is not None
                assert lava._machine._settling[1] is running[1]
        step = {name: 0.125 * np.ones_like(value) for name, value in held.items()}
        for substrate in (loihi, lava):
            substrate.apply(step)
        assert equal(loihi.settle(x), lava.settle(x))
        assert same_weights(loihi, lava)


@pytest.mark.parametrize(
    ("sizes", "samples", "act"), [((3, 8, 1), 6, None), ((3, 5, 4, 2), 5, nn.Hardsigmoid), ((64, 32, 10), 2, None)]
)
def test_learning_leaves_the_weights_of_loihi(
    sizes: tuple[int, ...], samples: int, act: type[nn.Module] | None
) -> None:
    net = network(*sizes, act=act)
    x, target = RNG.uniform(-1, 1, (samples, sizes[0])), RNG.uniform(0, 1, (samples, sizes[-1]))
    with pair(net) as (loihi, lava):
        before = loihi.read()
        for rate, rows in ((0.1 * samples, samples), (0.02 * samples, 1)):  # the second has another rule
            for substrate in (loihi, lava):
                substrate.learn(x[:rows], target[:rows], rate=rate, beta=0.5)
            assert same_weights(loihi, lava)
            assert loihi.counts() == lava.counts()
        assert any(not np.array_equal(before[name], value) for name, value in lava.read().items() if "weight" in name)
        assert equal(loihi.settle(x[:1]), lava.settle(x[:1]))


def test_learning_goes_on_from_what_was_written_and_keeps_what_is_frozen() -> None:
    net = network(3, 4, 2)
    x, target = RNG.uniform(-1, 1, (4, 3)), np.eye(2)[[0, 1, 1, 0]]
    with pair(net) as (loihi, lava):
        for frozen in ((), ("0.weight", "2.bias")):
            for name in frozen:
                net.parameters[name].requires_grad_(False)
            held = lava.read()
            for substrate in (loihi, lava):
                substrate.learn(x, target, rate=0.4, beta=0.5)
            assert same_weights(loihi, lava)
            for name in frozen:
                assert np.array_equal(held[name], lava.read()[name])
        assert (loihi.held.synapses[1].mantissas % 2).any()  # a last bit that Dense by itself would drop
        for substrate in (loihi, lava):
            substrate.program(substrate.read())
            substrate.learn(x, target, rate=0.2, beta=0.5)
        assert same_weights(loihi, lava)
        assert equal(loihi.settle(x), lava.settle(x))


def test_a_seed_starts_lavas_rounding_anew() -> None:
    x, target = RNG.uniform(-1, 1, (2, 3)), np.eye(2)
    with pair(network(3, 4, 2)) as (loihi, lava):
        for substrate in (loihi, lava):
            substrate.learn(x, target, rate=0.4, beta=0.5)
            substrate.reseed(2)  # the one seed that Lava has
            substrate.learn(x, target, rate=0.4, beta=0.5)
        assert same_weights(loihi, lava)


def test_floating_point_is_the_reference_with_the_same_weights() -> None:
    """What is left is that of 60 timesteps, and of x as payloads: x is chosen as those have it."""
    net = network(6, 5, 4, 3)
    x, target = np.round(RNG.uniform(-1, 1, (2, 6)) * 256) / 256, RNG.uniform(0, 1, (2, 3))
    with (
        LavaBackend(net, tag="floating_pt", timesteps=60, timeout=20.0) as lava,
        ReferenceBackend(net, max_steps=500, tolerance=1e-10) as reference,
    ):
        lava.program({name: p.detach().numpy() for name, p in net.parameters.items()})
        for factor in (1.0, 0.9):  # the second is written while it runs
            lava.program({name: factor * value for name, value in lava.read().items()})
            reference.program(lava.read())
            free = lava.settle(x)
            for nudge, found in (
                (None, free),
                *((n, lava.settle(x, nudge=n, start=free)) for n in [Nudge(0.5, target)]),
            ):
                wanted = reference.settle(x, nudge=nudge)
                worst = max(np.abs(a - b).max() for a, b in zip(found.states, wanted.states, strict=True))
                assert worst < 2e-5
        with pytest.raises(CapabilityError, match="fixed_pt"):
            lava.learn(x, target, rate=0.1, beta=0.5)
        assert not lava.capabilities.resident_learning


def test_gradients_are_those_of_loihi() -> None:
    net = network(4, 6, 3)
    x, y = torch.from_numpy(RNG.uniform(-1, 1, (3, 4))), torch.arange(3)
    found = []
    for kind in (LoihiBackend, LavaBackend):
        with kind(net, timesteps=STEPS) as substrate:
            found.append(mep.EquilibriumPropagation(substrate, beta=0.5, nudging="centered").estimate(x, y))
    assert all(torch.equal(found[0][name], value) for name, value in found[1].items())


def test_registers_that_are_too_narrow_are_named_as_on_loihi() -> None:
    net = network(3, 4, 2, end=True)
    x, target = np.ones((1, 3)), np.zeros((1, 2))
    with pair(net) as (loihi, lava):
        held = loihi.read()
        bad = {**held, "2.weight": np.full((2, 4), 40.0), "2.bias": np.full(2, 127.0), "0.bias": np.full(4, 9.0)}
        for substrate in (loihi, lava):
            substrate.program(bad)
            for run in (
                lambda s=substrate: s.settle(x),
                lambda s=substrate: s.learn(x, target, rate=0.2, beta=0.5),
            ):
                with pytest.raises(SettlingError, match="the drive of population 2 reaches"):
                    run()
            substrate.program(held)
        assert equal(loihi.settle(x), lava.settle(x))


def test_outputs_at_their_limit_are_an_error_as_on_loihi() -> None:
    net = network(3, 4, 2)
    with pair(net, output_limit=1.0) as (loihi, lava):
        far = {**loihi.read(), "2.bias": np.full(2, 5.0)}
        before = lava.read()
        for substrate in (loihi, lava):
            substrate.program(far)
            with pytest.raises(SettlingError, match="comes to 1 in the free phase"):
                substrate.settle(np.ones((1, 3)))
            with pytest.raises(SettlingError, match="comes to 1 in the free phase"):
                substrate.learn(np.ones((1, 3)), np.ones((1, 2)), rate=0.1, beta=0.5)
            assert np.array_equal(substrate.read()["0.weight"], before["0.weight"])


def test_sums_that_lavas_accumulator_might_not_hold_are_refused() -> None:
    net = network(4200, 2)
    with LavaBackend(net, weight_fractions=[6]) as lava:
        lava.program({"0.weight": np.full((2, 4200), 3.9), "0.bias": np.zeros(2)})
        with pytest.raises(InputError, match="fewer payload_bits"):
            lava.settle(np.zeros((1, 4200)))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"tag": "fixed"}, "fixed_pt"),
        ({"timeout": 0.0}, "more than 0"),
        ({"timeout": float("nan")}, "more than 0"),
        ({"timesteps": 0}, "whole number from 1"),
        ({"headroom": 9}, "0 to 7 bits"),
    ],
)
def test_senseless_options_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(OptionError, match=words):
        LavaBackend(network(3, 4, 2), **options)
