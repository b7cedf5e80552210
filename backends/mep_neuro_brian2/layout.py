"""The chain of populations as one group of neurons, and its couplings as one list of synapses.

Neurons stand in the order input, population 1, .., population L. A synapse joins neuron `lower` of population l - 1
with neuron `upper` of population l, and has one weight for both directions: W_l[upper, lower].
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from mep_neuro.activations import ClippedLinear
from mep_neuro.couplings import Dense, Flatten
from mep_neuro.errors import CapabilityError
from mep_neuro.network import EnergyNetwork

Array: TypeAlias = NDArray[np.float64]
Indices: TypeAlias = NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class Layout:
    """Where everything of one network lies. All arrays are by neuron or by synapse.

    bounds:       first neuron of the input, of each population, and the end.
    dense:        the weighted operation of each coupling.
    lower, upper: neurons that each synapse joins.
    high:         a neuron's state at its largest rate.
    slope, offset: rho(d) = clip(slope d + offset, 0, high).
    fan:          synapses that a neuron's spike reaches: those above it, and those below except the input's.
    """

    bounds: tuple[int, ...]
    dense: tuple[Dense, ...]
    lower: Indices
    upper: Indices
    high: Array
    slope: Array
    offset: Array
    fan: NDArray[np.int64]

    @classmethod
    def of(cls, network: EnergyNetwork) -> Layout:
        """Raises `CapabilityError` for what has no spiking twin."""
        activations = [_twin(index, p.activation) for index, p in enumerate(network.populations, 1)]
        dense = tuple(_dense(network, level) for level in range(len(network.couplings)))
        sizes = [dense[0].in_shape[0], *(p.size for p in network.populations)]
        bounds = tuple(int(b) for b in np.cumsum([0, *sizes]))
        lower = [np.tile(np.arange(bounds[k], bounds[k + 1]), n) for k, n in enumerate(sizes[1:])]
        upper = [np.repeat(np.arange(bounds[k + 1], bounds[k + 2]), sizes[k]) for k in range(len(dense))]
        above = [*sizes[1:], 0]
        below = [0, 0, *sizes[1:-1]]
        return cls(
            bounds=bounds,
            dense=dense,
            lower=np.concatenate(lower).astype(np.int32),
            upper=np.concatenate(upper).astype(np.int32),
            high=np.repeat([1.0, *(a.high for a in activations)], sizes),
            slope=np.repeat([1.0, *(a.slope for a in activations)], sizes),
            offset=np.repeat([0.0, *(a.offset for a in activations)], sizes),
            fan=np.repeat(np.add(above, below), sizes),
        )

    @property
    def neurons(self) -> int:
        """Neurons of one replica, those of the input among them."""
        return self.bounds[-1]

    @property
    def inputs(self) -> int:
        """Neurons of the input."""
        return self.bounds[1]

    @property
    def top(self) -> slice:
        """The outputs."""
        return slice(self.bounds[-2], self.bounds[-1])

    def weights(self, parameters: Mapping[str, Array]) -> Array:
        """By synapse."""
        return np.concatenate([parameters[o.weight].ravel() for o in self.dense])

    def biases(self, parameters: Mapping[str, Array]) -> Array:
        """By neuron; 0 for the input and where there is none."""
        found = np.zeros(self.neurons)
        for o, part in zip(self.dense, self._populations, strict=True):
            if o.bias is not None:
                found[part] = parameters[o.bias]
        return found

    def parameters(self, weights: Array, biases: Array) -> dict[str, Array]:
        """The inverse of `weights` and `biases`."""
        found: dict[str, Array] = {}
        start = 0
        for o, part in zip(self.dense, self._populations, strict=True):
            shape = (o.out_shape[0], o.in_shape[0])
            found[o.weight] = weights[start : start + o.macs].reshape(shape).copy()
            start += o.macs
            if o.bias is not None:
                found[o.bias] = biases[part].copy()
        return found

    def split(self, values: Array) -> tuple[Array, ...]:
        """(rows, neurons) to the states s_1 .. s_L, each (rows, population)."""
        return tuple(np.ascontiguousarray(values[:, part]) for part in self._populations)

    def currents(self, parameters: Mapping[str, Array], states: list[Array]) -> Array:
        """f_l(s_l-1) + f_l+1^T(s_l+1) by neuron, (rows, neurons): the synaptic drive of states x, s_1 .. s_L."""
        found = np.zeros((len(states[0]), self.neurons))
        for level, (o, part) in enumerate(zip(self.dense, self._populations, strict=True)):
            found[:, part] += states[level] @ parameters[o.weight].T
            if level > 0:
                found[:, self._populations[level - 1]] += states[level + 1] @ parameters[o.weight]
        return found

    @property
    def _populations(self) -> tuple[slice, ...]:
        return tuple(slice(a, b) for a, b in zip(self.bounds[1:-1], self.bounds[2:], strict=True))


def _twin(index: int, activation: object) -> ClippedLinear:
    """An activation that a saturating rate can be: a rate is never negative, and has a largest value."""
    if not isinstance(activation, ClippedLinear) or activation.low != 0 or not np.isfinite(activation.high):
        raise CapabilityError(
            f"the activation of population {index} ({activation}) has no spiking twin: a firing rate runs from 0 to a "
            "largest one. Use nn.Hardtanh(0, 1), nn.Hardsigmoid or nn.ReLU6, at the outputs too"
        )
    return activation


def _dense(network: EnergyNetwork, level: int) -> Dense:
    coupling = network.couplings[level]
    other = next((o for o in coupling.operations if not isinstance(o, Dense | Flatten)), None)
    if other is not None:
        raise CapabilityError(f"module {other.name!r} ({type(other).__name__}) has no synapses here; use nn.Linear")
    found = coupling.weighted
    if not isinstance(found, Dense):
        raise CapabilityError(f"coupling {level + 1} holds no nn.Linear, so that nothing would join its populations")
    return found
