"""NIR graphs: read back, run by a small interpreter, they fire at the rates that the network's equilibrium says."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

import mep_neuro as mep
from mep_neuro.errors import CapabilityError, InputError, OptionError
from mep_neuro.nir_graphs import KEY

nir = pytest.importorskip("nir", reason="the package nir is not installed")

STEP, PHASE = 0.001, 1.0
Array = NDArray[np.float64]


def network(*sizes: int, seed: int = 0) -> mep.EnergyNetwork:
    torch.manual_seed(seed)
    parts: list[nn.Module] = []
    for k, (inputs, outputs) in enumerate(itertools.pairwise(sizes)):
        parts += [nn.Linear(inputs, outputs), nn.Hardsigmoid() if k % 2 else nn.Hardtanh(0.0, 1.0)]
    return mep.EnergyNetwork.from_module(nn.Sequential(*parts))


def sample(net: mep.EnergyNetwork, seed: int = 1) -> Array:
    return np.random.default_rng(seed).uniform(-1, 1, net.input_shape)


def rates(graph: Any, x: Array, seconds: float = PHASE, step: float = STEP) -> dict[str, Array]:
    """Each node's spikes in the second half of a run, over those at the largest rate: an interpreter of Input, Linear,
    LI, IF and Output with edges in cycles, of a delay of one step, that minds the metadata."""
    told = json.loads(graph.metadata[KEY])
    into: dict[str, list[str]] = {}
    for source, end in graph.edges:
        into.setdefault(end, []).append(source)
    rate, rest = told["max_rate"], round(told["refractory_seconds"] / step)
    neurons = {name: node for name, node in graph.nodes.items() if isinstance(node, nir.IF)}
    linear = {name: node.weight for name, node in graph.nodes.items() if isinstance(node, nir.Linear)}
    drives = {name: (node, node.v_leak * 0.0) for name, node in graph.nodes.items() if isinstance(node, nir.LI)}
    v = {name: np.full(node.r.shape, 0.5) for name, node in neurons.items()} | {"input": np.full(x.shape, 0.5)}
    since = {name: np.full(node.r.shape, rest) for name, node in neurons.items()}
    found = {name: np.zeros_like(value) for name, value in v.items()}
    sent = {name: np.zeros_like(value) for name, value in v.items()}
    steps = round(seconds / step)
    for now in range(steps):
        arriving = {name: weight @ sent[into[name][0]] for name, weight in linear.items()}
        for name, (node, p) in drives.items():
            jump = sum(arriving[source] for source in into[name])
            drives[name] = node, p + step / node.tau * (node.v_leak - p) + node.r * jump / node.tau
        v["input"] += step * rate * np.abs(x)
        sent["input"] = np.sign(x) * (v["input"] > 1)
        v["input"] -= v["input"] > 1
        for name, node in neurons.items():
            p = np.clip(drives[into[name][0]][1], -1, 2)
            held = ((p < 0) & (v[name] <= -1)) | ((p > 0) & (v[name] >= 2))
            v[name] += step * node.r * p * ~held
            fires = (v[name] > node.v_threshold) & (since[name] >= rest)
            since[name] = np.where(fires, 1, since[name] + 1)
            v[name] -= node.v_threshold * fires
            sent[name] = fires.astype(float)
        if now >= steps // 2:
            for name, spikes in sent.items():
                found[name] += spikes
    return {name: count / (rate * seconds / 2) for name, count in found.items()}


def equilibrium(net: mep.EnergyNetwork, x: Array) -> list[Array]:
    with mep.backend("reference", net, max_steps=500) as substrate:
        substrate.program({name: p.detach().double().numpy() for name, p in net.parameters.items()})
        return [s[0] for s in substrate.settle(x[None]).states]


@pytest.mark.parametrize("sizes", [(4, 3), (5, 6, 3), (6, 8, 7, 4)])
@pytest.mark.parametrize("seed", range(3))
def test_rates_of_the_graph_are_the_equilibrium(sizes: tuple[int, ...], seed: int, tmp_path: Path) -> None:
    net = network(*sizes, seed=seed)
    mep.export_nir(net, tmp_path / "net.nir")
    x = sample(net)
    found = rates(nir.read(tmp_path / "net.nir"), x)
    for level, wanted in enumerate(equilibrium(net, x), 1):
        allowed = 3 / np.sqrt(PHASE / 2 * 500 * np.maximum(wanted, 0.05))
        assert (np.abs(found[f"population_{level}"] - wanted) <= allowed).all()
    np.testing.assert_allclose(np.abs(found["input"]), np.abs(x), atol=1.01 / (500 * PHASE / 2))


def test_rates_of_the_graph_are_those_of_brian2(tmp_path: Path) -> None:
    pytest.importorskip("brian2", reason="Brian2 is not installed")
    net = network(6, 8, 4)
    mep.export_nir(net, tmp_path / "net.nir")
    x = sample(net)
    found = rates(nir.read(tmp_path / "net.nir"), x)
    with mep.backend("brian2", net, phase_seconds=PHASE) as substrate:
        substrate.program({name: p.detach().double().numpy() for name, p in net.parameters.items()})
        states = substrate.settle(x[None]).states
    for level, wanted in enumerate(states, 1):
        assert np.abs(found[f"population_{level}"] - wanted[0]).max() <= 0.02  # 5 spikes of 250


def test_the_rate_saturates_by_refractoriness(tmp_path: Path) -> None:
    """A drive of 3 times the largest state: without the refractory period the rate would be too high."""
    net = network(2, 2)
    with torch.no_grad():
        for p in net.parameters.values():
            p.fill_(3.0)
    mep.export_nir(net, tmp_path / "net.nir")
    assert rates(nir.read(tmp_path / "net.nir"), np.ones(2))["population_1"] == pytest.approx([1, 1], abs=0.01)


def test_the_cycle_and_the_tying_come_back(tmp_path: Path) -> None:
    graph = mep.export_nir(network(3, 4, 2), tmp_path / "net.nir")
    read = nir.read(tmp_path / "net.nir")
    assert {("population_2", "down_2"), ("down_2", "drive_1"), ("population_1", "up_2")} <= set(read.edges)
    told = json.loads(read.metadata[KEY])
    assert told == json.loads(graph.metadata[KEY])
    assert told["tied"][0]["up"] == "up_2"
    assert told["reset"] == "subtract the threshold"
    assert told["refractory_seconds"] == pytest.approx(0.002)
    up, down = read.nodes["up_2"].weight, read.nodes["down_2"].weight
    np.testing.assert_allclose(up / down.T, up[0, 0] / down[0, 0])  # the slopes differ, the weights do not
    np.testing.assert_array_equal(read.nodes["up_1"].weight, graph.nodes["up_1"].weight)


def test_a_graph_of_rates_is_refused_or_linear() -> None:
    net = network(3, 4, 2)
    with pytest.raises(CapabilityError, match=r"no graded neuron that saturates: .* lossy=True"):
        mep.export_nir(net, kind="rate")
    graph = mep.export_nir(net, kind="rate", lossy=True)
    assert not [node for node in graph.nodes.values() if isinstance(node, nir.IF)]
    told = json.loads(graph.metadata[KEY])
    assert told["activations"][0] == {"slope": 1.0, "offset": 0.0, "low": 0.0, "high": 1.0}
    weights = [p.detach().double().numpy() for name, p in net.parameters.items() if name.endswith("weight")]
    np.testing.assert_array_equal(graph.nodes["up_2"].weight, weights[1])
    np.testing.assert_array_equal(graph.nodes["down_2"].weight, weights[1].T)


def test_what_has_no_graph(tmp_path: Path) -> None:
    net = network(3, 2)
    with pytest.raises(OptionError, match=r"no kind 'spikin'; there are: spiking, rate\. Did you mean 'spiking'"):
        mep.export_nir(net, kind="spikin")  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="max_rate is 0"):
        mep.export_nir(net, max_rate=0)
    with pytest.raises(OptionError, match="synapse_seconds is inf"):
        mep.export_nir(net, synapse_seconds=math.inf)
    with pytest.raises(InputError, match="is a folder"):
        mep.export_nir(net, tmp_path)
    with pytest.raises(CapabilityError, match=r"population 1 .* has no spiking twin"):
        mep.export_nir(mep.EnergyNetwork.from_module(nn.Sequential(nn.Linear(3, 2), nn.ReLU())))
    convolution = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Hardsigmoid(), nn.Flatten(), nn.Linear(8, 2), nn.Hardsigmoid())
    with pytest.raises(CapabilityError, match=r"no NIR graph with a Conv2d"):
        mep.export_nir(mep.EnergyNetwork.from_module(convolution, input_shape=(1, 4, 4)))
    with pytest.raises(CapabilityError, match="no NIR graph of energy='prediction_error'"):
        mep.export_nir(mep.EnergyNetwork.from_module(nn.Sequential(nn.Linear(3, 2)), energy="prediction_error"))
    assert list(tmp_path.iterdir()) == []
