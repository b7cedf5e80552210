"""The circuit tier: ideal parts give the reference's numbers, Kirchhoff's laws hold, faults are the devices' own."""

from __future__ import annotations

import dataclasses
import logging
import math
from typing import Any

import numpy as np
import pytest
import torch
from circuits import data, network, opened
from torch import Tensor, nn

import mep_neuro as mep
from mep_neuro.errors import CapabilityError, InputError, OptionError, SettlingError
from mep_neuro_analog import (
    AnalogSpec,
    CircuitSpec,
    DeviceSpec,
    IdealDiode,
    PiecewiseDiode,
    PulseSpec,
    ShockleyDiode,
    device,
)

IDEAL = DeviceSpec(0.0, 25e-6, name="test")
PATIENT = {"max_steps": 3000, "tolerance": 1e-13}
X, Y = data(4, 3)


def learner(net: mep.EnergyNetwork, backend: str = "analog", beta: float = 0.2, **options: Any) -> Any:
    return mep.EquilibriumPropagation(mep.backend(backend, net, **{**PATIENT, **options}), beta=beta)


def tensors(states: Any) -> list[Tensor]:
    return [torch.as_tensor(np.asarray(s)) for s in states]


# --- the oracle: the reference backend -------------------------------------------------------------------------------


@pytest.mark.parametrize("hidden", [mep.Diodes, nn.ReLU, nn.Hardtanh, nn.Identity])
@pytest.mark.parametrize("sizes", [(4, 3), (4, 6, 3), (4, 7, 5, 3)])
@pytest.mark.parametrize("v_unit", [1.0, 0.3])
def test_ideal_parts_give_the_references_states_and_gradient(
    hidden: Any, sizes: tuple[int, ...], v_unit: float
) -> None:
    found = []
    for backend, options in (("reference", {}), ("analog", {"v_unit": v_unit})):
        ep = learner(network(*sizes, hidden=hidden), backend, **options)
        phases = ep.relax(X, Y)
        states = [s for e in (phases.free, *phases.nudged) for s in tensors(e.states)]
        found.append((states, ep.gradient(phases.terms)))
    for one, other in zip(found[0][0], found[1][0], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-11)
    for name, g in found[0][1].items():
        torch.testing.assert_close(g, found[1][1][name], rtol=1e-9, atol=1e-10)


def test_any_force_on_the_outputs() -> None:
    force = torch.rand(4, 3, dtype=torch.float64)
    one, other = (learner(network(4, 6, 3), b).estimate(X, force=force) for b in ("reference", "analog"))
    for name, g in one.items():
        torch.testing.assert_close(g, other[name], rtol=1e-9, atol=1e-10)


def test_a_float32_module_keeps_the_digits_of_small_nudges() -> None:
    """Phases are settled and compared in float64; only the module's own parameters are in float32."""
    found = []
    for dtype in (torch.float32, torch.float64):
        net = network(4, 6, 3, dtype=torch.float32)
        if dtype == torch.float64:
            net = mep.EnergyNetwork.from_module(net.module.double(), energy="resistive")
        ep = learner(net, beta=1e-4)
        found.append(ep.estimate(X.to(dtype), Y.to(dtype)))
        assert ep.free(X.to(dtype)).states[0].dtype == dtype
    for name, g in found[0].items():
        assert g.dtype == torch.float32
        assert (g.double() - found[1][name]).norm() < 1e-5 * found[1][name].norm(), name


def test_flattened_images_may_come_first() -> None:
    module = mep.resistive_init_(nn.Sequential(nn.Flatten(), mep.SignedInput(4.0), nn.Linear(8, 3))).double()
    net = mep.EnergyNetwork.from_module(module, energy="resistive", input_shape=(1, 2, 2))  # type: ignore[arg-type]
    x = torch.rand(5, 1, 2, 2, dtype=torch.float64)
    one, other = (learner(net, b).estimate(x, torch.arange(5) % 3) for b in ("reference", "analog"))
    for name, g in one.items():
        torch.testing.assert_close(g, other[name], rtol=1e-9, atol=1e-10)


def test_what_x_drives_in_is_worked_out_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from mep_neuro_analog.circuit.relaxation import Resistors

    calls, before = [], Resistors.into_first
    monkeypatch.setattr(Resistors, "into_first", lambda *a: (calls.append(1), before(*a))[1])
    ep = learner(network(4, 6, 3), settling_seconds=1e-6)
    ep.estimate(X, Y)
    assert len(calls) == 1
    ep.substrate.advance(1.0)  # the conductances may be others now
    ep.predict(X)
    assert len(calls) == 2


# --- Kirchhoff's laws ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("diode", ["ideal", "shockley", "piecewise"])
@pytest.mark.parametrize("hidden", [mep.Diodes, nn.ReLU, nn.Hardtanh])
def test_no_current_is_left_over_at_rest(diode: str, hidden: Any) -> None:
    net = network(4, 7, 5, 3, hidden=hidden)
    substrate = opened(net, diode=diode)
    free = substrate.settle(X)
    assert float(substrate.kcl_residual(free).max()) < 1e-9 * 25e-6  # A: 1e-9 of what g_max takes at 1 V
    if diode == "ideal":
        assert float(mep.kcl_residual(net, X, free.states).max()) < 1e-9
    for beta in (0.4, -0.4):
        nudged = substrate.settle(X, nudge=mep.Nudge(beta, Y), start=free)
        assert float(substrate.kcl_residual(nudged).max()) < 1e-9 * 25e-6
        without = dataclasses.replace(nudged, nudge=None)
        assert float(substrate.kcl_residual(without).max()) > 1e-9


def test_power_is_in_watts_and_the_references_up_to_the_units() -> None:
    net = network(4, 6, 3)
    substrate = opened(net, v_unit=0.1)
    free = substrate.settle(X)
    unit = 25e-6 / max(float(net.parameters[name].detach().max()) for name in net.conductances)
    wanted = mep.dissipated_power(net, X, free.states) * unit * 0.1**2
    torch.testing.assert_close(substrate.power(free), wanted, rtol=1e-12, atol=0)


@pytest.mark.parametrize("beta", [0.0, 0.4, -0.4])
@pytest.mark.parametrize("hidden", [mep.Diodes, nn.Hardtanh])
@pytest.mark.parametrize("diode", ["ideal", "shockley", "piecewise"])
def test_no_sweep_raises_the_co_content(diode: str, hidden: Any, beta: float) -> None:
    """F = E + beta C + J of the diodes, from far off, sweep by sweep."""
    net = network(4, 7, 5, 3, hidden=hidden)
    substrate = opened(net, diode=diode, max_steps=1, tolerance=None)
    circuit = substrate._tier._circuit()
    unit = float(circuit.weights[0][0, 0]) / float(net.parameters["1.weight"].detach()[0, 0])

    def content(states: tuple[Tensor, ...]) -> Tensor:
        total = unit * net.energy(X, states).detach()
        total = total + unit * beta / 2 * (states[-1] - Y).square().sum(1)
        return total + sum(circuit.diode.co_content(s, e).sum(1) for s, e in zip(states, circuit.ends, strict=True))

    rng = torch.Generator().manual_seed(3)
    states = [torch.rand(4, n, generator=rng, dtype=torch.float64) - 0.5 for n in (7, 5, 3)]
    if diode == "ideal":
        states = [torch.minimum(torch.maximum(s, e.low), e.high) for s, e in zip(states, circuit.ends, strict=True)]
    e = dataclasses.replace(substrate.settle(X), states=tuple(states), context=None)
    before = first = content(e.states)
    for _ in range(12):
        e = substrate.settle(X, nudge=mep.Nudge(beta, Y) if beta else None, start=e)
        after = content(e.states)
        assert bool((after <= before + 1e-12 * before.abs()).all())
        before = after
    assert bool((before < first - 1e-7).all())


@pytest.mark.parametrize("diode", ["ideal", "shockley", "piecewise"])
def test_what_the_sources_give_is_what_is_turned_into_heat(diode: str) -> None:
    """Tellegen: over all sources and injected currents, sum v i = the power of resistors and diodes."""
    net = network(4, 6, 5, 3)
    substrate = opened(net, diode=diode)
    free = substrate.settle(X)
    g = [p.detach() for name, p in net.parameters.items() if name in net.conductances]
    biases = [p.detach() for name, p in net.parameters.items() if name not in net.conductances]
    unit = 25e-6 / max(float(p.max()) for p in g)
    u, (first, *_) = torch.cat([8 * X, -8 * X], 1), free.states
    given = (u * (u * g[0].sum(0) - first @ g[0])).sum(1)
    given = given + sum((v * b).sum(1) for v, b in zip(free.states, biases, strict=True))
    torch.testing.assert_close(substrate.power(free), unit * given, rtol=1e-9, atol=0)


@pytest.mark.parametrize("diode", [IdealDiode(), ShockleyDiode(), PiecewiseDiode(0.3, 1e4)], ids=lambda d: d.name)
def test_the_gradient_is_that_of_the_cost_by_finite_differences(diode: Any) -> None:
    net = network(3, 4, 3)
    x, y = data(3, 3)
    ep = learner(net, beta=1e-3, diode=diode, weight_max=1.5)

    def loss() -> float:
        return float(0.5 * (ep.predict(x) - y).square().sum(1).mean())

    gradient = ep.estimate(x, y)
    for name, p in net.parameters.items():
        entries, values = p.detach().view(-1), []
        for i in range(p.numel()):
            kept, ends = entries[i].item(), []
            for sign in (1, -1):
                entries[i] = kept + sign * 1e-5
                ends.append(loss())
            entries[i] = kept
            values.append((ends[0] - ends[1]) / 2e-5)
        wanted = torch.tensor(values, dtype=torch.float64).view_as(p)
        assert (gradient[name] - wanted).norm() < 2e-5 * wanted.norm(), name


@pytest.mark.parametrize("phases", [2, 3])
def test_the_factorised_contrast_is_the_naive_one(phases: int) -> None:
    net = network(4, 6, 5, 3)
    substrate = opened(net)
    free = substrate.settle(X)
    ends = [substrate.settle(X, nudge=mep.Nudge(b, Y), start=free) for b in (0.3, -0.2)]
    weights = (2.0, -2.0) if phases == 2 else (1.5, -1.0, -0.5)
    terms = list(zip(weights, [*ends, free], strict=False))
    found = substrate.contrast(terms)
    for level, name in enumerate(net.conductances):
        wanted = torch.zeros_like(found[name])
        for w, e in terms:
            nodes = [torch.cat([8 * X, -8 * X], 1), *e.states]
            wanted -= w / 2 * (nodes[level + 1][:, :, None] - nodes[level][:, None, :]).square().mean(0)
        torch.testing.assert_close(found[name], wanted, rtol=1e-9, atol=1e-11)


def test_real_diodes_leave_more_than_the_range() -> None:
    """A threshold of silicon lets hidden nodes go beyond 0 V by what their diodes need to conduct."""
    net = network(4, 6, 3)
    beyond = {}
    for diode in ("ideal", "shockley", "piecewise"):
        hidden = opened(net, diode=diode).settle(X).states[0]
        beyond[diode] = max(float((-hidden[:, :3]).max()), float(hidden[:, 3:].max()))
    assert beyond["ideal"] == 0
    assert 0.2 < beyond["shockley"] < 0.6
    assert 0.65 < beyond["piecewise"] < 0.66


# --- devices ---------------------------------------------------------------------------------------------------------


def test_it_rests_where_the_conductances_that_read_gives_say() -> None:
    spec = CircuitSpec(dataclasses.replace(device("pcm"), stuck_low=0.1, stuck_high=0.05))
    net = network(4, 6, 3)
    substrate = opened(net, spec=spec)
    held = substrate.read()
    assert float((held["1.weight"] - net.parameters["1.weight"].detach()).abs().max()) > 0.01
    reference = mep.backend("reference", net, **PATIENT)
    reference.program({name: np.asarray(value) for name, value in held.items()})
    for s, t in zip(substrate.settle(X).states, tensors(reference.settle(X.numpy()).states), strict=True):
        torch.testing.assert_close(s, t, rtol=1e-9, atol=1e-10)


def test_all_couplings_have_one_unit() -> None:
    """Only the ratios of conductances say where a circuit rests, so the largest weight of all is at g_max."""
    net = network(4, 6, 3)
    substrate = opened(net, device=dataclasses.replace(IDEAL, levels=3))
    held = substrate.read()
    most = max(float(net.parameters[name].detach().max()) for name in net.conductances)
    for name in net.conductances:
        levels = held[name] / most * 2
        torch.testing.assert_close(levels, levels.round())
        assert float((held[name] - net.parameters[name].detach()).abs().max()) <= most / 4 * (1 + 1e-9)


def test_the_same_seed_gives_the_same_run_and_another_seed_another() -> None:
    def run(seed: int) -> dict[str, Tensor]:
        ep = learner(network(4, 6, 3), device="pcm", comparator_offset=0.01, seed=seed)
        return ep.estimate(X, Y)

    first, again, other = run(0), run(0), run(1)
    assert all(torch.equal(first[n], again[n]) for n in first)
    assert not any(torch.equal(first[n], other[n]) for n in first)


def test_drift_lowers_conductances_with_the_clock() -> None:
    substrate = opened(network(4, 6, 3), device="pcm")
    fresh, before = substrate.read()["1.weight"], substrate.settle(X)
    slow = substrate.settling_seconds
    substrate.advance(3600.0)
    later = substrate.read()["1.weight"]
    assert 0.5 < float(later.sum() / fresh.sum()) < 0.95
    after = substrate.settle(X)
    assert not torch.equal(after.outputs, before.outputs)
    assert float(substrate.power(after).sum()) < float(substrate.power(before).sum())
    assert substrate.settling_seconds > slow
    with pytest.raises(InputError, match="clock"):
        substrate.advance(-1.0)


def test_what_devices_cannot_conduct_is_clipped_and_told(caplog: pytest.LogCaptureFixture) -> None:
    net = network(4, 6, 3)
    with caplog.at_level(logging.WARNING):
        substrate = opened(net, device=DeviceSpec(5e-6, 25e-6), weight_max=0.4)
    assert "beyond what the devices can conduct" in caplog.text
    held = substrate.read()["1.weight"]
    own = net.parameters["1.weight"].detach()
    assert substrate.clipped["1.weight"] == pytest.approx(float(((own < 0.08) | (own > 0.4)).double().mean()))
    torch.testing.assert_close(held, own.clamp(0.08, 0.4))
    substrate.apply({"1.weight": -held})  # no further down than g_min
    torch.testing.assert_close(substrate.read()["1.weight"], torch.full_like(held, 0.08))
    assert substrate.clipped["1.weight"] == 1.0


def test_conductances_follow_updates_by_pulses() -> None:
    net = network(4, 6, 3)
    ep = learner(net, device=DeviceSpec(0.0, 25e-6, pulses=PulseSpec(1e-3)), update="pulses")
    assert not ep.substrate.capabilities.resident_learning
    optimizer = torch.optim.SGD(net.module.parameters(), lr=0.1)
    costs = []
    for _ in range(150):
        costs.append(float((ep.predict(X) - Y).square().sum()))
        ep.estimate(X, Y)
        optimizer.step()
    assert costs[-1] < 0.5 * costs[0]
    held = ep.substrate.read()
    for name, p in net.parameters.items():
        torch.testing.assert_close(held[name], p.detach(), atol=0.02, rtol=0)
    written = (8 * 6 + 6 * 3) * (1 + 149 * 1000)  # all once; then no train is longer than the range
    assert 8 * 6 + 6 * 3 < ep.substrate.counts()["update", "write_pulses"] < written


@pytest.mark.parametrize("faulty", [{"comparator_offset": 0.05}, {"adc_bits": 4}, {"dac_bits": 3}])
def test_faults_of_what_reads_a_circuit_move_the_gradient(faulty: dict[str, Any]) -> None:
    one, other = learner(network(4, 6, 3)).estimate(X, Y), learner(network(4, 6, 3), **faulty).estimate(X, Y)
    assert all(float((other[n] - g).norm()) > 1e-3 * float(g.norm()) for n, g in one.items())


# --- counts ----------------------------------------------------------------------------------------------------------


def test_counts_are_what_the_circuit_does() -> None:
    ep = learner(network(4, 6, 3), settling_seconds=2e-6)
    ep.estimate(X, Y)
    free = ep.free(X)
    counts, cells = ep.substrate.counts(), 8 * 6 + 6 * 3
    assert counts.samples == 8
    assert counts["free", "cell_reads"] == 8 * cells
    assert counts["nudged", "cell_reads"] == 2 * 4 * cells
    assert counts["input_output", "dac_conversions"] == 8 * 4
    assert counts["input_output", "adc_conversions"] == 8 * 3
    assert counts["nudged", "dac_conversions"] == 2 * 4 * 3
    assert counts["update", "adc_conversions"] == 4 * (6 + 3) * 2
    assert counts["update", "write_pulses"] == cells
    assert counts["free", "seconds"] == pytest.approx(8 * 2e-6)
    watts = float(ep.substrate.power(free).sum())
    assert counts["free", "dissipated_joules"] == pytest.approx(2 * watts * 2e-6, rel=1e-9)
    assert not {o for _, o in counts.entries} & {"timesteps", "neuron_updates", "neuron_seconds"}


def test_sweeps_are_no_cost() -> None:
    counts = []
    for steps in (30, 60):
        ep = learner(network(4, 6, 3), max_steps=steps, tolerance=None)
        ep.free(X)
        counts.append(ep.substrate.counts())
    assert counts[0]["free", "seconds"] == counts[1]["free", "seconds"]
    assert counts[0]["free", "dissipated_joules"] == pytest.approx(counts[1]["free", "dissipated_joules"], rel=1e-6)


def test_the_heat_of_settling_does_not_depend_on_how_large_conductances_are() -> None:
    """P grows with G and the settling time falls with it: what is left is a multiple of C V^2."""
    heat = []
    for largest in (25e-6, 100e-6):
        ep = learner(network(4, 6, 3), device=DeviceSpec(0.0, largest))
        ep.free(X)
        heat.append(ep.substrate.counts()["free", "dissipated_joules"])
    assert heat[0] == pytest.approx(heat[1], rel=1e-9)


# --- tasks -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("diode", ["shockley", "piecewise"])
def test_a_circuit_of_real_diodes_learns(diode: str) -> None:
    net = network(4, 8, 3)
    ep = learner(net, diode=diode, device="pcm", max_steps=60, tolerance=None)
    optimizer, costs = torch.optim.Adam(net.module.parameters(), lr=0.01), []
    for _ in range(80):
        costs.append(float((ep.predict(X) - Y).square().sum()))
        ep.estimate(X, Y)
        optimizer.step()
    assert min(costs[-5:]) < 0.3 * costs[0]


# --- errors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"diode": "shocley"}, "no diode 'shocley'.*Did you mean 'shockley'"),
        ({"diode": "shockley", "temperature": 0.0}, "temperature is 0.*above 0"),
        ({"diode": "shockley", "temperature": -5.0}, "temperature is -5.*above 0"),
        ({"diode": "shockley", "saturation_current": 0.0}, "saturation_current is 0"),
        ({"diode": "piecewise", "threshold": 0.0}, "threshold is 0"),
        ({"diode": "piecewise", "threshold": -0.1}, "threshold is -0.1"),
        ({"diode": "piecewise", "on_resistance": -1.0}, "on_resistance is -1"),
        ({"node_capacitance": 0.0}, "node_capacitance is 0"),
        ({"node_capacitance": "big"}, "node_capacitance is 'big'"),
        ({"v_unit": -1.0}, "v_unit is -1"),
        ({"settling_seconds": 0.0}, "settling_seconds is 0"),
        ({"adc_bits": 1}, "adc_bits is 1"),
        ({"comparator_offset": -1.0}, "comparator_offset is -1"),
        ({"threshold": 0.5}, "threshold belongs to diode='piecewise', and the diode is 'ideal'"),
        ({"diode": "piecewise", "ideality": 1.0}, "ideality belongs to diode='shockley'"),
        ({"diode": ShockleyDiode(), "ideality": 1.0}, "ideality is given, and a diode that says it already"),
        ({"spec": CircuitSpec(IDEAL), "adc_bits": 8}, "adc_bits is given, and a spec"),
        ({"spec": CircuitSpec(IDEAL), "device": "pcm"}, "device is given, and a spec"),
        ({"device": dataclasses.replace(IDEAL, read_noise=0.1)}, "read_noise"),
        ({"device": "pmc"}, "Did you mean 'pcm'"),
        ({"update": "pulses"}, "does not answer to pulses"),
        ({"weight_max": 0.0}, "weight_max"),
        ({"max_steps": 0}, "max_steps"),
    ],
)
def test_options_that_make_no_sense(options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        mep.backend("analog", network(4, 3), **options)


@pytest.mark.parametrize(
    "options",
    [
        {"pairs": "offset"},
        {"tile": 512},
        {"wire_resistance": 1.0},
        {"converters": "ends"},
        {"output_noise": 0.1},
        {"bandwidth": 1e6},
        {"neuron_gain": 0.1},
        {"neuron_offset": 0.1},
        {"settling_error": 0.1},
        {"learning": "phases"},
        {"exact": False},
        {"spec": AnalogSpec(IDEAL)},
    ],
    ids=str,
)
def test_what_belongs_to_crossbars_is_refused_by_a_circuit(options: dict[str, Any]) -> None:
    message = f"{next(iter(options))}.* belongs to crossbars, .*'resistive' is held by a circuit: leave it out"
    with pytest.raises(CapabilityError, match=message):
        mep.backend("analog", network(4, 3), **options)


@pytest.mark.parametrize(
    "options",
    [
        {"diode": "ideal"},
        {"temperature": 300.0},
        {"threshold": 0.5},
        {"on_resistance": 1.0},
        {"node_capacitance": 1e-12},
        {"v_unit": 1.0},
        {"spec": CircuitSpec(IDEAL)},
    ],
    ids=str,
)
def test_what_belongs_to_circuits_is_refused_by_crossbars(options: dict[str, Any]) -> None:
    net = mep.EnergyNetwork.from_module(nn.Sequential(nn.Linear(2, 2)))
    message = f"{next(iter(options))}.* belongs to circuits, .*'hopfield' is held by crossbars.*energy='resistive'"
    with pytest.raises(CapabilityError, match=message):
        mep.backend("analog", net, **options)


def test_what_only_circuits_have_is_refused_by_crossbars() -> None:
    net = mep.EnergyNetwork.from_module(nn.Sequential(nn.Linear(2, 2)))
    with mep.backend("analog", net) as substrate:
        substrate.program({n: p.detach() for n, p in net.parameters.items()})
        e = substrate.settle(torch.zeros(1, 2))
        calls = {
            "kcl_residual": lambda: substrate.kcl_residual(e),  # type: ignore[attr-defined]
            "power": lambda: substrate.power(e),  # type: ignore[attr-defined]
            "transient": lambda: substrate.transient(e.x),  # type: ignore[attr-defined]
            "netlist": lambda: substrate.netlist("none.cir", e.x),  # type: ignore[attr-defined]
            "settling_seconds": lambda: substrate.settling_seconds,  # type: ignore[attr-defined]
        }
        for name, call in calls.items():
            with pytest.raises(CapabilityError, match=f"{name} is for circuits, .*'hopfield'.*energy='resistive'"):
                call()


def test_sources_of_both_signs_are_for_circuits() -> None:
    net = mep.EnergyNetwork.from_module(nn.Sequential(mep.SignedInput(), nn.Linear(4, 2)))
    with pytest.raises(CapabilityError, match=r"'0' \(SignedInput\) is for circuits.*leave it out"):
        mep.backend("analog", net)


def test_what_a_circuit_cannot_do() -> None:
    net = network(4, 6, 3)
    ep = learner(net, device="ecram")
    with pytest.raises(CapabilityError, match="own weights"):
        ep.learn(X, Y, rate=0.1)
    with pytest.raises(CapabilityError, match="squared drops"):
        ep.substrate.learn(X, Y, rate=0.1, beta=0.1)
    with pytest.raises(InputError, match="program"):
        mep.backend("analog", net).settle(X)
    with pytest.raises(InputError, match="program"):
        mep.backend("analog", net).read()
    ep.update_substrate()
    with pytest.raises(CapabilityError, match="complex"):
        ep.substrate.settle(X, nudge=mep.Nudge(1j, Y))


def test_bad_values_are_named() -> None:
    net = network(4, 6, 3)
    substrate = opened(net)
    held = substrate.read()
    with pytest.raises(InputError, match=r"'1.weight' is negative"):
        substrate.program({**held, "1.weight": -held["1.weight"]})
    with pytest.raises(InputError, match=r"'1.weight' is not finite"):
        substrate.program({**held, "1.weight": held["1.weight"] * math.nan})
    with pytest.raises(InputError, match="NaN or infinity"):
        substrate.settle(X * math.nan)
    least = float(held["3.weight"].sum(1).min())
    with pytest.raises(InputError, match=rf"beta is -9.0, but from -{least:g} down.* no minimum"):
        substrate.settle(X, nudge=mep.Nudge(-9.0, Y))
    alone = {**held, "1.weight": held["1.weight"].clone(), "3.weight": held["3.weight"].clone()}
    alone["1.weight"][2], alone["3.weight"][:, 2] = 0.0, 0.0
    substrate.program(alone)
    with pytest.raises(InputError, match="node 2 of population 1 has no conductance"):
        substrate.settle(X)


def test_a_push_that_the_whole_network_cannot_hold_against_runs_away_by_name() -> None:
    module = nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1)).double()
    with torch.no_grad():
        for p, value in zip(module.parameters(), (0.1, 0.0, 1.0, 0.0), strict=True):
            p.fill_(value)
    net = mep.EnergyNetwork.from_module(module, energy="resistive")
    x, y = torch.ones(2, 1).double(), torch.zeros(2, 1).double()
    assert learner(net, beta=0.05, max_steps=200).estimate(x, y)
    for steps in (200, 3000):
        with pytest.raises(SettlingError, match=r"smaller beta, or nudging='one_sided'"):
            learner(net, beta=0.5, max_steps=steps, tolerance=None).estimate(x, y)
