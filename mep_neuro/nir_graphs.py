"""NIR export: a network as a graph of the Neuromorphic Intermediate Representation, its feedback edges as cycles.

    kind="spiking"    tau dp/dt = (slope b + offset) / s_max - p + sum of W' over incoming spikes        nir.LI
                      dv/dt = r_max p,   a spike and v <- v - 1 above v = 1                               nir.IF
                      W'_l = slope_l W_l s_max_{l-1} / (s_max_l r_max), and W_{l+1}^T down in the same way nir.Linear

A neuron's rate over r_max is its state over s_max; an input fires at |x| r_max, with the sign of x. NIR's nodes say
neither that the threshold is taken away at a spike, nor that a neuron is refractory for 1 / r_max, which is what bounds
its rate, nor that the weights down are the transposed ones up: all three stand in the graph's metadata, as JSON under
"mep_neuro". NIR 1.0: Pedersen et al. 2024, doi:10.1038/s41467-024-52259-9.
"""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import Any, Literal

import numpy as np

from mep_neuro.activations import ClippedLinear
from mep_neuro.couplings import Dense, Flatten
from mep_neuro.errors import BackendUnavailable, CapabilityError, InputError, OptionError, check_choice
from mep_neuro.files import write_bytes_atomically
from mep_neuro.network import EnergyNetwork

KEY = "mep_neuro"
"""Of the metadata."""


def export_nir(
    network: EnergyNetwork,
    path: str | os.PathLike[str] | None = None,
    *,
    kind: Literal["spiking", "rate"] = "spiking",
    max_rate: float = 500.0,
    synapse_seconds: float = 0.01,
    lossy: bool = False,
) -> Any:
    """The network as a `nir.NIRGraph`, written to `path` (HDF5, with `nir.write`) where one is given.

    kind:            "spiking": integrate-and-fire neurons whose saturating rate is the activation; "rate": leaky
                     integrators of graded states.
    max_rate:        r_max, Hz; the defaults are those of the backend `brian2`.
    synapse_seconds: tau, s.
    lossy:           let through what NIR cannot hold. A graph of rates is linear: the activations stand in its
                     metadata alone, and other tools will leave them out.

    Nodes: input, up_l, down_l, drive_l, population_l, output; l from 1.

    Raises `CapabilityError` for what has no twin, `OptionError`, and `BackendUnavailable` without the package nir.
    """
    check_choice("kind", kind, ("spiking", "rate"))
    for name, value in (("max_rate", max_rate), ("synapse_seconds", synapse_seconds)):
        if not 0 < value < float("inf"):
            raise OptionError(f"{name} is {value!r}; give a number above 0")
    if network.energy_name != "hopfield":
        raise CapabilityError(f"no NIR graph of energy={network.energy_name!r}; there is one of 'hopfield'")
    couplings = [_dense(network, level) for level in range(len(network.couplings))]
    activations = [_line(level, p.activation, kind) for level, p in enumerate(network.populations, 1)]
    if kind == "rate" and not lossy:
        raise CapabilityError(
            "NIR has no graded neuron that saturates: a graph of rates would leave out the activations. Export "
            "kind='spiking', or give lossy=True to have them in the metadata alone"
        )
    nir = _library()
    parameters = {name: p.detach().double().cpu().numpy() for name, p in network.parameters.items()}
    spiking = kind == "spiking"
    high = [1.0, *(a.high if spiking else 1.0 for a in activations)]
    slope = [1.0, *(a.slope if spiking else 1.0 for a in activations)]
    rate, sizes = (max_rate if spiking else 1.0), [couplings[0].in_shape[0], *(o.out_shape[0] for o in couplings)]
    nodes: dict[str, Any] = {"input": nir.Input({"input": np.array([sizes[0]])})}
    edges: list[tuple[str, str]] = []
    for level, (o, a) in enumerate(zip(couplings, activations, strict=True), 1):
        weight, units = parameters[o.weight], sizes[level]
        bias = parameters[o.bias] if o.bias is not None else np.zeros(units)
        nodes[f"up_{level}"] = nir.Linear(slope[level] * high[level - 1] / (high[level] * rate) * weight)
        constant = (a.slope * bias + a.offset) / a.high if spiking else bias
        nodes[f"drive_{level}"] = nir.LI(
            tau=np.full(units, synapse_seconds), r=np.ones(units), v_leak=np.asarray(constant, np.float64)
        )
        below = _sender(level - 1, spiking)
        edges += [(below, f"up_{level}"), (f"up_{level}", f"drive_{level}")]
        if spiking:
            nodes[f"population_{level}"] = nir.IF(r=np.full(units, rate), v_threshold=np.ones(units))
            edges.append((f"drive_{level}", f"population_{level}"))
        if level > 1:
            nodes[f"down_{level}"] = nir.Linear(slope[level - 1] * high[level] / (high[level - 1] * rate) * weight.T)
            edges += [(_sender(level, spiking), f"down_{level}"), (f"down_{level}", f"drive_{level - 1}")]
    nodes["output"] = nir.Output({"output": np.array([sizes[-1]])})
    edges.append((_sender(len(couplings), spiking), "output"))
    graph = nir.NIRGraph(nodes, edges, metadata={KEY: json.dumps(_told(kind, couplings, activations, rate))})
    if path is not None:
        _write(nir, graph, path)
    return graph


def _told(kind: str, couplings: list[Dense], activations: list[ClippedLinear], rate: float) -> dict[str, Any]:
    """What the nodes cannot say."""
    lines = [{"slope": a.slope, "offset": a.offset, "low": a.low, "high": a.high} for a in activations]
    finite = [{k: v if np.isfinite(v) else None for k, v in line.items()} for line in lines]
    told: dict[str, Any] = {
        "format": 1,
        "kind": kind,
        "activations": finite,
        "tied": [
            {"up": f"up_{level}", "down": f"down_{level}", "by": "down is proportional to the transpose of up"}
            for level in range(2, len(couplings) + 1)
        ],
        "cycles": [[f"drive_{level - 1}", f"drive_{level}"] for level in range(2, len(couplings) + 1)],
    }
    if kind == "spiking":
        told |= {"reset": "subtract the threshold", "max_rate": rate, "refractory_seconds": 1 / rate}
    return told


def _sender(level: int, spiking: bool) -> str:
    return "input" if level == 0 else f"population_{level}" if spiking else f"drive_{level}"


def _dense(network: EnergyNetwork, level: int) -> Dense:
    coupling = network.couplings[level]
    other = next((o for o in coupling.operations if not isinstance(o, Dense | Flatten)), None)
    if other is not None or not isinstance(coupling.weighted, Dense):
        what = "coupling without weights" if other is None else f"{type(other).__name__} ({other.name!r})"
        raise CapabilityError(f"no NIR graph with a {what}: NIR has no transposed one; use nn.Linear")
    return coupling.weighted


def _line(level: int, activation: object, kind: str) -> ClippedLinear:
    if not isinstance(activation, ClippedLinear):
        raise CapabilityError(f"the activation of population {level} ({activation}) is no line: use nn.Hardsigmoid")
    if kind == "spiking" and (activation.low != 0 or not np.isfinite(activation.high)):
        raise CapabilityError(
            f"the activation of population {level} ({activation}) has no spiking twin: a firing rate runs from 0 to a "
            "largest one. Use nn.Hardtanh(0, 1), nn.Hardsigmoid or nn.ReLU6, at the outputs too"
        )
    return activation


def _library() -> Any:
    try:
        import nir
    except ImportError as error:
        raise BackendUnavailable(f'NIR graphs need the package nir ({error}): pip install "mep-neuro[nir]"') from error
    return nir


def _write(nir: Any, graph: Any, path: str | os.PathLike[str]) -> None:
    if Path(path).is_dir():
        raise InputError(f"{path} is a folder: give the name of a file, such as network.nir")
    content = io.BytesIO()
    nir.write(content, graph)
    write_bytes_atomically(path, content.getvalue())
