"""Plan: all that a Lava run of one network needs, in whole numbers; it goes to JSON and NumPy arrays and back.

Imports the kernels and NumPy only: with `compat`, `machine`, `waiting`, `kernels/` and `processes/` it goes into
deployment bundles as it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, final

from .kernels import Encoding, Format, Neuron, Product, Synapses
from .kernels.fixed import Ints


@final
@dataclass(frozen=True, eq=False)
class Plan:
    """A network as chip and Lava hold it. Coupling l joins population l (x where l = 0) to population l + 1.

    synapses:     mantissas (outputs, inputs) of each coupling, with the fraction of their unit and their sign mode.
    biases:       (units,) of each population, in units of its states.
    neurons:      constants of each population's neurons.
    input:        format of the payloads that bring x.
    forward:      weight exponent of each coupling's connection upwards.
    back:         that of the connection downwards; entry 0 is not used, as nothing goes down to x.
    payload_bits: width of a graded spike.
    bits:         width of a state and of a bias.
    timesteps:    of a free and of a nudged phase.
    """

    synapses: tuple[Synapses, ...]
    biases: tuple[Ints, ...]
    neurons: tuple[Neuron, ...]
    input: Format
    forward: tuple[int, ...]
    back: tuple[int, ...]
    payload_bits: int
    bits: int
    timesteps: tuple[int, int]

    @property
    def sizes(self) -> tuple[int, ...]:
        """Units of x and of each population."""
        return (self.synapses[0].mantissas.shape[1], *(len(bias) for bias in self.biases))

    def events(self, inputs: int, sent: Sequence[int]) -> int:
        """Synaptic events of so many payloads of x and of each population: one at each synapse that they come to."""
        sizes = (*self.sizes, 0)
        own = (n * (sizes[p + 1] + (sizes[p - 1] if p > 1 else 0)) for p, n in enumerate(sent, 1))
        return inputs * sizes[1] + sum(own)

    def document(self) -> dict[str, Any]:
        """All but the arrays, for JSON."""
        return {
            "synapses": [{"fraction": s.fraction, "sign_mode": s.sign_mode} for s in self.synapses],
            "neurons": [asdict(neuron) for neuron in self.neurons],
            "input": asdict(self.input),
            "forward": list(self.forward),
            "back": list(self.back),
            "payload_bits": self.payload_bits,
            "bits": self.bits,
            "timesteps": list(self.timesteps),
        }

    def arrays(self) -> dict[str, Ints]:
        """The arrays by name: `mantissas_0`, `bias_0`, and so on."""
        weights = {f"mantissas_{level}": s.mantissas for level, s in enumerate(self.synapses)}
        return {**weights, **{f"bias_{level}": bias for level, bias in enumerate(self.biases)}}

    @classmethod
    def of(cls, document: Mapping[str, Any], arrays: Mapping[str, Ints]) -> Plan:
        """The plan that `document` and `arrays` gave. Raises KeyError or TypeError for what is none."""
        return cls(
            synapses=tuple(
                Synapses(arrays[f"mantissas_{level}"].astype("float64"), s["fraction"], s["sign_mode"])
                for level, s in enumerate(document["synapses"])
            ),
            biases=tuple(arrays[f"bias_{level}"].astype("float64") for level in range(len(document["neurons"]))),
            neurons=tuple(Neuron(**{**n, "payload": Format(**n["payload"])}) for n in document["neurons"]),
            input=Format(**document["input"]),
            forward=tuple(document["forward"]),
            back=tuple(document["back"]),
            payload_bits=document["payload_bits"],
            bits=document["bits"],
            timesteps=(document["timesteps"][0], document["timesteps"][1]),
        )


@final
@dataclass(frozen=True)
class Pull:
    """A nudge as the output neurons hold it. pull: slope beta 2^12 with a target; push: a constant, without one."""

    pull: int = 0
    target: Ints | None = None
    push: Ints | None = None


@final
@dataclass(frozen=True, eq=False)
class Settled:
    """Where a phase ended, and what was sent in it. The batch comes first.

    states: of each population, whole numbers worth 2^-neuron.fraction.
    drives: that each population holds: its bias, and population 1 what x gave it beside.
    change: (batch,), the largest change of any unit in the last timestep, in units of a state.
    inputs: payloads of x other than 0 that were sent.
    sent:   payloads other than 0 that each population sent.
    """

    states: tuple[Ints, ...]
    drives: tuple[Ints, ...]
    change: Ints
    inputs: int
    sent: tuple[int, ...]


@final
@dataclass(frozen=True)
class Traces:
    """How x and each population's states (`values`), and each population's differences, enter a trace."""

    values: tuple[Encoding, ...]
    differences: tuple[Encoding, ...]


@final
@dataclass(frozen=True)
class Lesson:
    """How samples are learnt from.

    rate:          y3, that every neuron sends.
    by_mean:       scale of each coupling's product with the lower population's mean; None: its weights are frozen.
    by_difference: that with the lower population's difference; None as well for the first coupling.
    bias:          r of each population's biases, b += r (s' - s) 2^-20; 0: they are frozen.
    pull:          slope beta 2^12 of the nudged phase.
    """

    rate: int
    by_mean: tuple[Product | None, ...]
    by_difference: tuple[Product | None, ...]
    bias: tuple[int, ...]
    pull: int


@final
@dataclass(frozen=True, eq=False)
class Learnt:
    """What learning left, and what was sent.

    mantissas, biases: as they are now.
    outputs: (batch, outputs), at the end of each free and of each nudged phase.
    sent:    payloads other than 0, of x and of each population, in the free phases, the nudged ones, and learning.
    """

    mantissas: tuple[Ints, ...]
    biases: tuple[Ints, ...]
    outputs: tuple[Ints, Ints]
    sent: tuple[tuple[int, ...], ...]
