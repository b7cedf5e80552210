"""Formats: how the numbers of a network are laid out in a chip's registers, fixed when a substrate is opened."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

from mep_neuro.activations import Activation, ClippedLinear
from mep_neuro.couplings import Dense, Flatten
from mep_neuro.errors import CapabilityError, OptionError
from mep_neuro.network import EnergyNetwork
from mep_neuro_lava.kernels import Encoding, Format, Neuron, constant

INTEGER_BITS = 8
"""Bits of a state before the point, sign included: drives and states reach from -128 to 128."""
DIFFERENCE_BITS = 7
"""A difference of states enters a trace in units of 2^-7."""


@final
@dataclass(frozen=True)
class Formats:
    """The registers of a network.

    fraction:    a state, drive or bias is worth 2^-fraction.
    bits:        their width.
    input:       format of the payloads that bring x.
    neurons:     constants of each population's neurons.
    values:      how x and each population's states enter a trace when the chip learns.
    differences: how each population's differences do.
    open_ended:  the side, or sides, on which the outputs have no limit of their own, as (low, high).
    """

    fraction: int
    bits: int
    input: Format
    neurons: tuple[Neuron, ...]
    values: tuple[Encoding, ...]
    differences: tuple[Encoding, ...]
    open_ended: tuple[bool, bool]

    @property
    def payloads(self) -> tuple[Format, ...]:
        """Formats of x and of each population's payloads."""
        return (self.input, *(neuron.payload for neuron in self.neurons))


def formats_of(
    network: EnergyNetwork,
    *,
    payload_bits: int,
    state_bits: int,
    leak: int,
    input_range: tuple[float, float],
    output_limit: float,
) -> Formats:
    """The formats of a network. Raises `CapabilityError` for what a chip cannot hold, `OptionError` for widths that do
    not go together."""
    _check_widths(payload_bits, state_bits, leak, input_range, output_limit)
    fraction = state_bits - INTEGER_BITS
    received = Format.over(*input_range, payload_bits)
    neurons, values = [], [_encoding(input_range[0] < 0, max(map(abs, input_range)), received.fraction)]
    for level, (population, coupling) in enumerate(zip(network.populations, network.couplings, strict=True), 1):
        for o in coupling.operations:
            if not isinstance(o, Dense | Flatten):
                raise CapabilityError(f"module {o.name!r} is a {type(o).__name__}; this substrate holds Linear layers")
        last = level == len(network.populations)
        activation = _line(population.activation, level)
        low, high = _limits(activation, level, output_limit, last)
        neuron = Neuron(
            low=math.ceil(low * 2**fraction),
            high=math.floor(high * 2**fraction),
            gain=constant(activation.slope),
            offset=round(activation.offset * 2**fraction),
            leak=leak,
            fraction=fraction,
            payload=Format.over(low, high, payload_bits),
        )
        neurons.append(neuron)
        extent = min(max(-low, high), 2.0) if _open(activation) != (False, False) else max(-low, high)
        values.append(_encoding(low < 0, extent, fraction))
    return Formats(
        fraction=fraction,
        bits=state_bits,
        input=received,
        neurons=tuple(neurons),
        values=tuple(values),
        differences=tuple(Encoding(fraction, DIFFERENCE_BITS, True) for _ in neurons),
        open_ended=_open(network.outputs.activation),
    )


def _encoding(signed: bool, extent: float, fraction: int) -> Encoding:
    """7 bits for values up to an extent, or 6 and a sign."""
    return Encoding(fraction, 7 - signed - math.ceil(math.log2(extent)), signed)


def _open(activation: Activation) -> tuple[bool, bool]:
    return math.isinf(activation.low), math.isinf(activation.high)


def _line(activation: Activation, level: int) -> ClippedLinear:
    if not isinstance(activation, ClippedLinear):
        raise CapabilityError(
            f"population {level} has the activation {activation}; Loihi's neuron here saturates linearly: "
            "use nn.Hardtanh(0, 1), nn.Hardsigmoid or nn.ReLU6"
        )
    if not 0 < constant(activation.slope) < 1 << 16:
        raise CapabilityError(f"population {level} has slope {activation.slope:g}; a neuron holds 2^-12 to 16")
    return activation


def _limits(activation: ClippedLinear, level: int, output_limit: float, last: bool) -> tuple[float, float]:
    low, high = activation.low, activation.high
    if not last and (math.isinf(low) or math.isinf(high)):
        raise CapabilityError(
            f"population {level} has an activation without a limit, and a payload has one: "
            "use nn.Hardtanh(0, 1), nn.Hardsigmoid or nn.ReLU6; only outputs may be linear"
        )
    low, high = max(low, -output_limit), min(high, output_limit)
    if not low <= 0 <= high or low == high or max(-low, high) >= 1 << (INTEGER_BITS - 1):
        raise CapabilityError(
            f"population {level} has states from {low:g} to {high:g}; a neuron here starts at 0, which must lie "
            "between, and holds less than 128"
        )
    return low, high


def _check_widths(
    payload_bits: int, state_bits: int, leak: int, input_range: tuple[float, float], output_limit: float
) -> None:
    if not (type(state_bits) is int and 12 <= state_bits <= 24):
        raise OptionError(f"state_bits is {state_bits!r}; Loihi's states have up to 24 bits, and here at least 12")
    if not (type(payload_bits) is int and 2 <= payload_bits <= state_bits - INTEGER_BITS):
        raise OptionError(
            f"payload_bits is {payload_bits!r}; give 2 to {state_bits - INTEGER_BITS}, as a state of {state_bits} bits "
            f"has {INTEGER_BITS} before the point"
        )
    if not (type(leak) is int and 0 <= leak <= 7):
        raise OptionError(f"leak is {leak!r}; give 0 to 7: a timestep goes 2^-leak of the way")
    low, high = input_range
    if not (math.isfinite(low) and math.isfinite(high) and low <= 0 < high):
        raise OptionError(f"input_range is {input_range!r}; give (low, high) with low <= 0 < high")
    if not 0 < output_limit < 1 << (INTEGER_BITS - 1):
        raise OptionError(f"output_limit is {output_limit!r}; give a number above 0 and below 128")
