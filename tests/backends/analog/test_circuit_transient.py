"""Transients: they end where block descent does, and settle within the time that counts take."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from circuits import data, network, opened
from torch import nn

import mep_neuro as mep
from mep_neuro.errors import InputError, OptionError, SettlingError
from mep_neuro_analog import DeviceSpec
from mep_neuro_analog.circuit.timing import SETTLED, elmore_delay

X, Y = data(3, 2, samples=1)


@pytest.mark.parametrize("hidden", [mep.Diodes, nn.Hardtanh])
@pytest.mark.parametrize("diode", ["ideal", "shockley", "piecewise"])
def test_it_ends_where_block_descent_does(diode: str, hidden: Any) -> None:
    substrate = opened(network(3, 5, 4, 2, hidden=hidden), diode=diode)
    free = substrate.settle(X)
    for nudge in (None, mep.Nudge(-0.3, Y), mep.Nudge(0.5, force=Y)):
        e = free if nudge is None else substrate.settle(X, nudge=nudge, start=free)
        way = substrate.transient(X, nudge=nudge)
        for end, s in zip(way.end, e.states, strict=True):
            torch.testing.assert_close(end, s, atol=1e-7, rtol=0)
        assert all(len(s) == len(way.times) for s in way.states)
        assert 0 < way.seconds < way.times[-1]


def test_one_node_is_charged_by_its_resistors() -> None:
    """v(t) = v* (1 - e^(-t sum G / C)), and to a share e of the way it takes ln(1 / e) time constants."""
    net = network(2, 1)
    farads = 3e-12
    substrate = opened(net, node_capacitance=farads, device=DeviceSpec(0.0, 1e-4))
    x, _ = data(2, 1, samples=1)
    g = net.parameters["1.weight"].detach()
    constant = farads / float(g.sum() / g.max() * 1e-4)
    way = substrate.transient(x, tolerance=0.01)
    wanted = way.end[0].numpy() * (1 - np.exp(-way.times / constant))[:, None]
    np.testing.assert_allclose(way.states[0].numpy(), wanted, atol=1e-6 * float(way.end[0].abs().max()))
    assert way.seconds == pytest.approx(math.log(100) * constant, rel=1e-5)
    assert substrate.settling_seconds == pytest.approx(math.log(1 / SETTLED) * constant, rel=1e-9)


@pytest.mark.parametrize("sizes", [(3, 2), (3, 6, 2), (3, 5, 4, 2), (3, 4, 4, 4, 4, 2)])
def test_the_delay_bounds_the_slowest_time_constant(sizes: tuple[int, ...]) -> None:
    net = network(*sizes)
    substrate = opened(net)
    circuit = substrate._tier._circuit()
    widths = [len(t) for t in circuit.totals]
    starts = np.cumsum([0, *widths])
    matrix = np.diag(np.concatenate([t.numpy() for t in circuit.totals]))
    for level, g in enumerate(circuit.weights[1:]):
        below, above = (slice(starts[k], starts[k + 1]) for k in (level, level + 1))
        matrix[above, below], matrix[below, above] = -g.numpy(), -g.numpy().T
    inverse = np.linalg.inv(matrix)
    delay, slowest = elmore_delay(circuit, 1e-12), 1e-12 / np.linalg.eigvalsh(matrix)[0]
    assert delay == pytest.approx(1e-12 * inverse.sum(1).max(), rel=1e-3)
    assert slowest <= delay * (1 + 1e-3)
    assert delay < 3 * slowest


def test_a_delay_that_is_not_found_is_told() -> None:
    module = nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1)).double()
    with torch.no_grad():
        for p, value in zip(module.parameters(), (1e-9, 0.0, 1.0, 0.0), strict=True):
            p.fill_(value)
    substrate = opened(mep.EnergyNetwork.from_module(module, energy="resistive"), max_steps=1, tolerance=None)
    with pytest.raises(SettlingError, match="Give settling_seconds"):
        substrate.settle(torch.ones(1, 1, dtype=torch.float64))


@pytest.mark.parametrize("diode", ["ideal", "shockley", "piecewise"])
def test_a_phase_has_settled_when_counts_say_so(diode: str) -> None:
    substrate = opened(network(3, 5, 4, 2), diode=diode)
    free = substrate.settle(X)
    way = substrate.transient(X)
    assert way.seconds <= substrate.settling_seconds
    assert substrate.counts()["free", "seconds"] == substrate.settling_seconds
    before = torch.cat([s[0] for s in way.states]).norm()
    assert before == 0  # all nodes at 0 V
    at = int(np.searchsorted(way.times, substrate.settling_seconds))
    left = torch.cat([s[at] - e[0] for s, e in zip(way.states, free.states, strict=True)]).norm()
    assert left <= SETTLED * torch.cat([e[0] for e in free.states]).norm() * (1 + 1e-6)


def test_what_it_cannot_take() -> None:
    substrate = opened(network(3, 5, 2))
    with pytest.raises(InputError, match="2 samples; a circuit shows one at a time"):
        substrate.transient(X.repeat(2, 1))
    with pytest.raises(InputError, match="NaN"):
        substrate.transient(X * math.nan)
    for tolerance in (0.0, 1.0, -1.0, "small"):
        with pytest.raises(OptionError, match="tolerance is"):
            substrate.transient(X, tolerance=tolerance)
    large = opened(network(3, 1200, 2), max_steps=1, tolerance=None)
    with pytest.raises(InputError, match="1202 nodes; transients are for up to 1000"):
        large.transient(X)


def test_a_push_that_the_circuit_cannot_hold_against_is_told() -> None:
    module = nn.Sequential(nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)).double()
    with torch.no_grad():
        module[0].weight.fill_(0.1)
        module[1].weight.fill_(1.0)
    substrate = opened(mep.EnergyNetwork.from_module(module, energy="resistive"))
    x = torch.ones(1, 1, dtype=torch.float64)
    with pytest.raises(SettlingError, match="harder than the circuit holds"):
        substrate.transient(x, nudge=mep.Nudge(-0.5, 0 * x))
