"""The crossbar substrate: ideal parts give the reference's numbers, faults are those of the devices, counts are
physics."""

from __future__ import annotations

import dataclasses
import itertools
import logging
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import mep_neuro as mep
from mep_neuro.errors import CapabilityError, InputError, OptionError, SettlingError
from mep_neuro_analog import AnalogSpec, ArraySpec, DeviceSpec, PeripherySpec, PulseSpec

IDEAL = DeviceSpec(0.0, 25e-6, name="test")
X = torch.rand(7, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
Y = torch.arange(7) % 3


def module(*widths: int, rho: Any = nn.Hardsigmoid, dtype: torch.dtype = torch.float64) -> nn.Sequential:
    torch.manual_seed(0)
    layers = list[nn.Module]()
    for below, width in itertools.pairwise(widths or (6, 5, 4, 3)):
        layers += [nn.Linear(below, width), rho()]
    return nn.Sequential(*layers[:-1]).to(dtype)


def learner(model: nn.Sequential, backend: str = "analog", ep: dict[str, Any] | None = None, **options: Any) -> Any:
    network = mep.EnergyNetwork.from_module(model)
    return mep.EquilibriumPropagation(mep.backend(backend, network, **options), **(ep or {}))


@pytest.mark.parametrize("rho", [nn.Hardsigmoid, nn.Sigmoid, nn.ReLU, nn.Tanh])
@pytest.mark.parametrize("nudging", ["centered", "one_sided"])
@pytest.mark.parametrize("pairs", ["differential", "offset"])
def test_ideal_parts_give_the_references_states_and_gradient(rho: Any, nudging: str, pairs: str) -> None:
    found = []
    for backend, options in (("reference", {}), ("analog", {"pairs": pairs, "tile": 4})):
        ep = learner(module(rho=rho), backend, {"nudging": nudging}, max_steps=60, **options)
        phases = ep.relax(X, Y)
        states = [torch.as_tensor(np.asarray(s)) for e in (phases.free, *phases.nudged) for s in e.states]
        found.append((states, ep.gradient(phases.terms)))
    for one, other in zip(found[0][0], found[1][0], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-8)
    for name, g in found[0][1].items():
        torch.testing.assert_close(g, found[1][1][name], rtol=1e-6, atol=1e-8)


def test_any_force_on_the_outputs() -> None:
    force = torch.rand(7, 3, dtype=torch.float64)
    one, other = (learner(module(), b, max_steps=60).estimate(X, force=force) for b in ("reference", "analog"))
    for name, g in one.items():
        torch.testing.assert_close(g, other[name], rtol=1e-6, atol=1e-9)


def test_both_directions_use_the_same_faulty_devices() -> None:
    """The states rest where the weights that `read` gives say, forward and back: the reference finds them too."""
    device = dataclasses.replace(IDEAL, programming=(1e-6,), stuck_low=0.1, stuck_high=0.05)
    spec = AnalogSpec(device, ArraySpec(rows=4, columns=3, wire_resistance=200.0))
    model = module()
    ep = learner(model, spec=spec, max_steps=60)
    free = ep.free(X)
    held = ep.substrate.read()
    assert float((held["2.weight"] - model[2].weight.detach()).abs().max()) > 0.01
    reference = mep.backend("reference", ep.network, max_steps=60)
    reference.program({name: np.asarray(value) for name, value in held.items()})
    for s, t in zip(free.states, reference.settle(X.numpy()).states, strict=True):
        torch.testing.assert_close(s, torch.as_tensor(t), rtol=1e-9, atol=1e-10)


def test_the_same_seed_gives_the_same_run_and_another_seed_another() -> None:
    device = dataclasses.replace(IDEAL, programming=(5e-7,), read_noise=0.05, stuck_low=0.05)
    spec = AnalogSpec(device, periphery=PeripherySpec(neuron_gain=0.1, comparator_offset=0.01, output_noise=0.01))
    first, again, other = (learner(module(), spec=spec, seed=s).estimate(X, Y) for s in (0, 0, 1))
    assert all(torch.equal(first[n], again[n]) for n in first)
    assert not any(torch.equal(first[n], other[n]) for n in first)


def test_reseeding_restarts_the_noise_and_leaves_the_devices() -> None:
    device = dataclasses.replace(IDEAL, read_noise=0.05, stuck_low=0.2)
    ep = learner(module(), spec=AnalogSpec(device, periphery=PeripherySpec(neuron_offset=0.1)))
    ep.update_substrate()
    held, outputs = ep.substrate.read(), []
    for seed in (5, 5, 6):
        ep.reseed(seed)
        outputs.append(ep.predict(X))
    assert torch.equal(outputs[0], outputs[1])
    assert not torch.equal(outputs[0], outputs[2])
    assert all(torch.equal(held[n], v) for n, v in ep.substrate.read().items())


def test_read_noise_moves_what_settles_and_not_the_weights() -> None:
    device = dataclasses.replace(IDEAL, read_noise=0.1)
    ep = learner(module(), spec=AnalogSpec(device), max_steps=60)
    free = ep.free(X)
    assert not torch.equal(free.outputs, ep.free(X).outputs)
    assert float(free.residual.max()) < 1e-6  # the noise of a phase is held while it settles
    for name, p in ep.network.parameters.items():
        torch.testing.assert_close(ep.substrate.read()[name], p.detach())


@pytest.mark.parametrize(
    "periphery",
    [
        PeripherySpec(neuron_gain=0.2),
        PeripherySpec(neuron_offset=0.2),
        PeripherySpec(settling_error=0.1),
        PeripherySpec(dac_bits=3),
        PeripherySpec(dac_bits=4, adc_bits=4, converters="tiles"),
        PeripherySpec(output_noise=0.1),
        PeripherySpec(bandwidth=1e12),
    ],
)
def test_every_fault_of_the_periphery_moves_the_answer(periphery: PeripherySpec) -> None:
    ideal = learner(module()).predict(X)
    assert float((learner(module(), spec=AnalogSpec(IDEAL, periphery=periphery)).predict(X) - ideal).abs().max()) > 1e-4


@pytest.mark.parametrize("periphery", [PeripherySpec(comparator_offset=0.05), PeripherySpec(adc_bits=4)])
def test_faults_of_the_readout_move_the_gradient(periphery: PeripherySpec) -> None:
    one = learner(module()).estimate(X, Y)
    other = learner(module(), spec=AnalogSpec(IDEAL, periphery=periphery)).estimate(X, Y)
    assert all(float((other[n] - g).norm()) > 1e-3 * float(g.norm()) for n, g in one.items())


def test_a_comparators_offset_is_a_bias_of_the_gradient_at_no_nudge() -> None:
    """Equal phases give offset / (2 beta) times what stands below: the learning bias of Dillavou et al."""
    ep = learner(module(6, 3), spec=AnalogSpec(IDEAL, periphery=PeripherySpec(comparator_offset=0.05)))
    free = ep.free(X)
    found = ep.substrate.contrast([(-1.0, free), (1.0, free)])
    offset = found["0.bias"]
    assert 0.01 < float(offset.abs().mean()) < 0.1
    torch.testing.assert_close(found["0.weight"], torch.outer(offset, X.mean(0)))


def test_counts_are_what_the_circuit_does() -> None:
    model = module(6, 4, 3)
    device = dataclasses.replace(IDEAL, g_min=1e-6)
    spec = AnalogSpec(device, periphery=PeripherySpec(settling_seconds=2e-6, v_unit=0.1))
    ep = learner(model, spec=spec, max_steps=60)
    ep.estimate(X, Y)
    counts, weights = ep.substrate.counts(), 6 * 4 + 2 * 4 * 3
    assert counts.samples == 7
    assert counts["free", "cell_reads"] == 7 * weights
    assert counts["nudged", "cell_reads"] == 2 * 7 * weights
    assert counts["input_output", "dac_conversions"] == 7 * 6
    assert counts["input_output", "adc_conversions"] == 7 * 3
    assert counts["nudged", "dac_conversions"] == 2 * 7 * 3
    assert counts["update", "adc_conversions"] == 7 * (4 + 3) * 3
    assert counts["update", "write_pulses"] == 2 * (6 * 4 + 4 * 3)
    assert counts["free", "seconds"] == pytest.approx(7 * 2e-6)
    assert counts["nudged", "neuron_seconds"] == pytest.approx(2 * 7 * 7 * 2e-6)


def test_heat_is_the_sum_of_g_v_squared_t() -> None:
    model = module(6, 4, 3)
    device = dataclasses.replace(IDEAL, g_min=1e-6)
    spec = AnalogSpec(device, periphery=PeripherySpec(settling_seconds=2e-6, v_unit=0.1))
    ep = learner(model, spec=spec, max_steps=60)
    free = ep.free(X)
    watts, width = 0.0, device.g_max - device.g_min
    for level, layer in enumerate((model[0], model[2])):
        omega = layer.weight.detach() / layer.weight.detach().abs().max()
        both = 2 * device.g_min + omega.abs() * width  # of the pair
        below = X if level == 0 else free.states[0]
        watts += float((0.1**2 * below.square() @ both.sum(0)).sum())
        if level:
            watts += float((0.1**2 * free.states[1].square() @ both.sum(1)).sum())
    assert ep.substrate.counts()["free", "dissipated_joules"] == pytest.approx(watts * 2e-6, rel=1e-6)


def test_sweeps_are_no_cost_of_a_circuit_and_one_of_converters_between_tiles() -> None:
    for converters, costs in (("ends", False), ("tiles", True)):
        counts = []
        for steps in (20, 40):
            ep = learner(module(), converters=converters, max_steps=steps)
            ep.free(X)
            counts.append(ep.substrate.counts())
        assert (counts[1]["free", "seconds"] > counts[0]["free", "seconds"]) is costs
        assert (counts[1]["free", "cell_reads"] > counts[0]["free", "cell_reads"]) is costs
        heat = [c["free", "dissipated_joules"] for c in counts]
        assert heat[1] == pytest.approx((1 + costs) * heat[0], rel=1e-6)
    assert counts[1]["free", "adc_conversions"] == 2 * counts[0]["free", "adc_conversions"] > 0


def test_pulses_learn_in_place() -> None:
    model = module(6, 5, 3)
    ep = learner(model, device="ecram", ep={"beta": 0.2})
    before = float((ep.predict(X) - nn.functional.one_hot(Y, 3)).square().sum())
    for _ in range(300):
        ep.learn(X, Y, rate=0.1)
    assert float((ep.predict(X) - nn.functional.one_hot(Y, 3)).square().sum()) < 0.9 * before
    assert ep.substrate.counts()["update", "write_pulses"] > 100
    for name, value in ep.substrate.read().items():
        torch.testing.assert_close(value, ep.network.parameters[name].detach())


@pytest.mark.parametrize("learning", ["phases", "difference"])
def test_both_ways_to_apply_the_phases_follow_the_gradient(learning: str) -> None:
    """The mean change of weights with ideal small pulses is rate times minus the gradient."""
    pulses = PulseSpec(1e-3)
    spec = AnalogSpec(dataclasses.replace(IDEAL, pulses=pulses), ArraySpec(pairs="offset"))
    model = module(6, 5, 3)
    start = {n: p.detach().clone() for n, p in model.named_parameters()}
    gradient = learner(model, max_steps=60).estimate(X, Y)
    total = {n: torch.zeros_like(p) for n, p in start.items()}
    for seed in range(40):
        with torch.no_grad():
            for n, p in model.named_parameters():
                p.copy_(start[n])
        ep = learner(model, spec=spec, seed=seed, learning=learning, max_steps=60)
        ep.update_substrate()
        held = ep.substrate.read()
        ep.learn(X, Y, rate=0.1)
        for n, value in ep.substrate.read().items():
            total[n] += (value - held[n]) / 40
    for n, g in gradient.items():
        assert float(torch.cosine_similarity(total[n].flatten(), -g.flatten(), 0)) > 0.8, n
        assert 0.7 < float(total[n].norm() / (0.1 * g.norm())) < 1.4, n


def test_updates_by_pulses_reach_the_devices() -> None:
    spec = AnalogSpec(dataclasses.replace(IDEAL, pulses=PulseSpec(1e-3)), ArraySpec(pairs="offset"))
    model = module(6, 5, 3)
    ep = learner(model, spec=spec, update="pulses")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    costs = []
    for _ in range(200):
        costs.append(float((ep.predict(X) - nn.functional.one_hot(Y, 3)).square().sum()))
        ep.estimate(X, Y)
        optimizer.step()
    assert costs[-1] < 0.9 * costs[0]
    torch.testing.assert_close(ep.substrate.read()["0.weight"], model[0].weight.detach(), atol=0.02, rtol=0)


def test_drift_lowers_conductances_with_the_clock() -> None:
    ep = learner(module(), device="pcm")
    ep.update_substrate()
    fresh = ep.substrate.read()["0.weight"]
    ep.substrate.advance(3600.0)
    later = ep.substrate.read()["0.weight"]
    assert 0.5 < float(later.abs().sum() / fresh.abs().sum()) < 0.95
    with pytest.raises(InputError, match="clock"):
        ep.substrate.advance(-1.0)


def test_what_does_not_fit_is_clipped_and_told(caplog: pytest.LogCaptureFixture) -> None:
    ep = learner(module(), weight_max=0.2)
    with caplog.at_level(logging.WARNING):
        ep.update_substrate()
    assert "beyond the largest weight" in caplog.text
    assert 0.1 < ep.substrate.clipped["0.weight"] < 0.9
    assert float(ep.substrate.read()["0.weight"].abs().max()) == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"device": "pmc"}, OptionError, "Did you mean 'pcm'"),
        ({"weight_max": 0.0}, OptionError, "weight_max"),
        ({"update": "pulse"}, OptionError, "update"),
        ({"update": "pulses"}, OptionError, "does not answer to pulses"),
        ({"learning": "both"}, OptionError, "learning"),
        ({"adc_bits": 1}, OptionError, "adc_bits"),
        ({"tile": 0}, OptionError, "tile"),
        ({"settling_error": 1.0}, OptionError, "settling_error"),
        ({"max_steps": 0}, OptionError, "max_steps"),
    ],
)
def test_options_that_make_no_sense(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        learner(module(), **options)


def test_what_a_crossbar_cannot_do() -> None:
    ep = learner(module())
    with pytest.raises(CapabilityError, match="own weights"):
        ep.learn(X, Y, rate=0.1)
    with pytest.raises(InputError, match="program"):
        mep.backend("analog", ep.network).settle(X)
    with pytest.raises(CapabilityError, match="Conv2d"):
        mep.backend("analog", mep.EnergyNetwork.from_module(nn.Sequential(nn.Conv2d(1, 2, 3)), input_shape=(1, 5, 5)))
    model = module(rho=nn.ReLU)
    with torch.no_grad():
        model[2].weight.mul_(1e4)
        model[4].weight.mul_(1e4)
    with pytest.raises(SettlingError, match=r"population \d .*runs away"):
        learner(model, max_steps=200).estimate(X, Y)
