"""Program: a network's parameters as a chip holds them, mantissas with an exponent a coupling and 24-bit biases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import final

import numpy as np

from mep_neuro.couplings import Dense
from mep_neuro.errors import InputError
from mep_neuro.network import EnergyNetwork
from mep_neuro_lava.formats import Formats
from mep_neuro_lava.kernels import KernelOverflow, Synapses, check_width, finest_exponent, mantissas, sign_mode
from mep_neuro_lava.kernels.fixed import Ints
from mep_neuro_lava.kernels.synapses import ACCUMULATOR_BITS, DRIVE_BITS
from mep_neuro_lava.plan import Plan

LOWEST_EXPONENT, HIGHEST_EXPONENT = -8, 7
"""A connection's exponent has 4 bits, as on Loihi 1."""


@final
@dataclass(frozen=True, eq=False)
class Program:
    """What is on the chip. Level l joins population l (x where l = 0) to population l + 1.

    synapses: of each level.
    biases:   (units,) of each population, in units of its states.
    formats:  of all registers.
    """

    synapses: tuple[Synapses, ...]
    biases: tuple[Ints, ...]
    formats: Formats

    @cached_property
    def forward(self) -> tuple[int, ...]:
        """Exponents of the connections upwards."""
        payloads = self.formats.payloads
        return tuple(
            self.formats.fraction - s.fraction - payloads[level].fraction for level, s in enumerate(self.synapses)
        )

    @cached_property
    def back(self) -> tuple[int, ...]:
        """Exponents of the connections downwards; that of level 0 is not used."""
        payloads = self.formats.payloads[1:]
        return tuple(
            self.formats.fraction - s.fraction - payloads[level].fraction for level, s in enumerate(self.synapses)
        )

    @cached_property
    def reach(self) -> tuple[float, ...]:
        """The largest drive that others can ever give each population; infinite where it cannot be bounded."""
        payloads, found = self.formats.payloads, []
        for level in range(len(self.synapses)):
            total = 0.0
            if level > 0:
                total += _bound(self.synapses[level].mantissas, payloads[level].largest, self.forward[level])
            if level + 1 < len(self.synapses):
                above = level + 1
                total += _bound(self.synapses[above].mantissas.T, payloads[above + 1].largest, self.back[above])
            found.append(total)
        return tuple(found)


def dense(network: EnergyNetwork) -> list[Dense]:
    """The operation with weights of each coupling."""
    return [o for c in network.couplings for o in c.operations if isinstance(o, Dense)]


def program_of(
    network: EnergyNetwork,
    parameters: Mapping[str, Ints],
    formats: Formats,
    *,
    fractions: Sequence[int] | None,
    headroom: int,
    random: np.random.Generator | None,
) -> Program:
    """Quantise parameters.

    fractions: a weight's unit is 2^-fraction, for each coupling; None: the finest at which each fits.
    headroom:  bits that are kept free above the largest weight where fractions are not given.
    random:    rounds stochastically; None: to the nearest.

    Raises `InputError` for weights and biases that do not fit.
    """
    synapses, biases = [], []
    for level, o in enumerate(dense(network)):
        weight, mode = parameters[o.weight], sign_mode(parameters[o.weight])
        lowest, highest = fraction_limits(formats, level)
        finest = finest_exponent(weight, mode)
        if finest is not None and finest < lowest:
            raise InputError(
                f"parameter {o.weight!r} reaches {np.abs(weight).max():.4g}; with these widths a weight of this "
                f"coupling holds {254 * 2.0**-lowest:g}: clip the weights, or give more payload_bits"
            )
        wanted = (highest if finest is None else finest - headroom) if fractions is None else fractions[level]
        if fractions is not None and not lowest <= wanted <= highest:
            raise InputError(
                f"weight_fractions[{level}] is {wanted}; with these widths it lies in {lowest} .. {highest}"
            )
        fraction = min(max(wanted, lowest), highest)
        if finest is not None and fraction > finest and fractions is not None:
            raise InputError(
                f"parameter {o.weight!r} reaches {np.abs(weight).max():.4g}; with weight_fractions[{level}] = "
                f"{fraction} it holds {254 * 2.0**-fraction:g}: give {finest} or less"
            )
        noise = 0.5 if random is None else random.random(weight.shape)
        synapses.append(Synapses(mantissas(weight, fraction, mode, noise), fraction, mode))
        biases.append(_bias(o, parameters, formats))
    return Program(tuple(synapses), tuple(biases), formats)


def plan_of(program: Program, payload_bits: int, timesteps: tuple[int, int]) -> Plan:
    """A program as a Lava run takes it.

    Raises `InputError` where a sum might not fit Lava's 32-bit accumulator, which wraps without a word.
    """
    formats, levels = program.formats, len(program.synapses)
    for population in range(levels):
        down = population + 1
        ends = [(population, program.synapses[population].mantissas, program.forward[population], population)]
        if down < levels:
            ends.append((down, program.synapses[down].mantissas.T, program.back[down], down + 1))
        total = 0.0
        for _, matrix, exponent, sender in ends:
            total += _sum(matrix, formats.payloads[sender].largest) * 2.0 ** max(0, exponent)
        if total >= 1 << (ACCUMULATOR_BITS - 1):
            raise InputError(
                f"the drive of population {population + 1} may reach {total:.3g} in Lava's accumulator, which holds "
                f"{1 << (ACCUMULATOR_BITS - 1):.3g}: give fewer payload_bits, or smaller weights"
            )
    return Plan(
        synapses=program.synapses,
        biases=program.biases,
        neurons=formats.neurons,
        input=formats.input,
        forward=program.forward,
        back=program.back,
        payload_bits=payload_bits,
        bits=formats.bits,
        timesteps=timesteps,
    )


def fraction_limits(formats: Formats, level: int) -> tuple[int, int]:
    """The least and the largest fraction of a coupling's weights, so that both directions' exponents have 4 bits."""
    ends = [formats.payloads[level], *([formats.payloads[level + 1]] if level else [])]
    lowest = max(formats.fraction - end.fraction - HIGHEST_EXPONENT for end in ends)
    return lowest, min(formats.fraction - end.fraction - LOWEST_EXPONENT for end in ends)


def _bias(o: Dense, parameters: Mapping[str, Ints], formats: Formats) -> Ints:
    if o.bias is None:
        return np.zeros(o.out_shape)
    bias: Ints = np.floor(parameters[o.bias] * 2.0**formats.fraction + 0.5)
    try:
        return check_width(bias, formats.bits, f"bias {o.bias!r}")
    except KernelOverflow as error:
        limit = 2.0 ** (formats.bits - 1 - formats.fraction)
        raise InputError(f"{error}: biases lie between -{limit:g} and {limit:g}") from error


def _bound(matrix: Ints, payload: int, exponent: int) -> float:
    """The largest |matrix @ payloads| after the shift; infinite where the sum before it may be too wide."""
    total = _sum(matrix, payload)
    return total * 2.0**exponent if total < 1 << (ACCUMULATOR_BITS - 1) else np.inf


def _sum(matrix: Ints, payload: int) -> float:
    """The largest |matrix @ payloads| before the shift."""
    return float(np.abs(matrix).sum(1).max(initial=0.0)) * payload


def safe(program: Program, level: int, latched: Ints) -> bool:
    """Whether no drive of a population can leave its register, with this clamped drive and bias."""
    own = float(np.abs(latched).max(initial=0.0))
    return program.reach[level] + own + 2 < 1 << (DRIVE_BITS - 1)  # each of two shifts may floor by one
