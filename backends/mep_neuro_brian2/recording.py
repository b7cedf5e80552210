"""A look inside: the spikes of one presentation, which training does not keep."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mep_neuro.network import EnergyNetwork
from mep_neuro_brian2 import checks
from mep_neuro_brian2.backend import Brian2Backend
from mep_neuro_brian2.layout import Array
from mep_neuro_brian2.schedule import learning


@dataclass(frozen=True, eq=False)
class Trial:
    """One sample through its three phases: free, +beta, -beta.

    seconds, neurons: when each spike was, and whose: the input's neurons first, the outputs last.
    states:           (3, units), the rates of all populations in each window.
    kernel:           (seconds from the lower neuron's spike to the upper one's, change of C by such a pair in a window
                      of +beta); the opposite for -beta.
    """

    seconds: Array
    neurons: NDArray[np.int64]
    states: Array
    kernel: tuple[Array, Array]


def present(network: EnergyNetwork, x: Any, target: Any, *, beta: float, **options: Any) -> Trial:
    """Run one sample, x (1, *inputs) and target (1, *outputs), with the module's parameters and without learning.

    options: those of `Brian2Backend`; the target is "numpy" or "cython".
    """
    from mep_neuro_brian2.equations import Circuit, generating

    with Brian2Backend(network, **options) as substrate:
        layout, timing = substrate.layout, substrate.timing
    own = {name: p.detach().double().numpy() for name, p in network.parameters.items()}
    value = checks.outputs("the target", target, network, 1)
    half = np.full((1, layout.neurons), 0.5)
    rows = learning(layout, checks.batch(x, network, timing), value, rate=1.0, beta=beta, membrane=half)
    weights, biases = layout.weights(own), layout.biases(own)
    with generating(substrate.target):
        circuit = Circuit(layout, timing, rows=len(rows) + 1, spikes=True)
        found = circuit.present(weights, biases, rows, (np.zeros_like(weights), np.zeros_like(biases)))
    seconds, neurons = circuit.spikes
    apart: Array = np.arange(-round(5 * timing.tau / timing.step), round(5 * timing.tau / timing.step) + 1.0).astype(
        np.float64
    )
    jump = 1 / (2 * timing.max_rate * timing.window) / (timing.max_rate * (timing.tau - timing.step))
    change = jump * np.where(apart == 0, 0.0, (1 - timing.step / timing.tau) ** np.abs(apart))
    states = found.record.rates(layout, timing)[:, layout.inputs :]
    return Trial(seconds, neurons, states, (apart * timing.step, change))
