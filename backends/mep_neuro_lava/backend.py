"""The Loihi substrate: the integer kernels, batched, without Lava. A simulation; no chip is involved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, final

from mep_neuro.backend import Backend
from mep_neuro.capabilities import Availability, Capabilities
from mep_neuro.counts import OperationCounts
from mep_neuro.errors import check_choice
from mep_neuro.network import EnergyNetwork
from mep_neuro.types import Array, Equilibrium, Nudge, Parameters
from mep_neuro_lava.formats import Formats
from mep_neuro_lava.kernel_machine import KernelMachine
from mep_neuro_lava.kernels.fixed import Ints
from mep_neuro_lava.plan import Plan
from mep_neuro_lava.program import Program, plan_of
from mep_neuro_lava.substrate import ChipSubstrate, Options

LAVA_SEED = 2
"""Seed of the learning engine's rounding in every connection of Lava's."""


@final
class LoihiBackend(Backend):
    """Integers as Loihi 2 and Lava's fixed-point models hold them; program the parameters first.

    timesteps:         of the free and of each nudged phase, one number or (free, nudged).
    payload_bits:      of a graded spike.
    state_bits:        of a neuron's state, 12 to 24; 8 of them stand before the point.
    leak:              a timestep goes 2^-leak of the way to the state that the drive asks for.
    input_range:       what x lies in.
    output_limit:      limit of outputs that have none of their own; a state that comes to it is a `SettlingError`.
    weight_rounding:   "nearest", or "stochastic": unbiased, drawn anew whenever parameters are programmed.
    weight_fractions:  a weight's unit is 2^-fraction, one number a coupling; None: the finest at which all fit.
    headroom:          bits that stay free above the largest weight, for resident learning to grow into (host learning
                       may do with 0).
    learning_rounding: "shared": one random number for all synapses, as Lava draws it; "independent": one a synapse.

    Weights have mantissas of 8 bits. `read` gives what is held; states are multiples of 2^(8 - state_bits).
    """

    capabilities: Capabilities = Capabilities(
        counts_macs=False,
        couplings=frozenset({"Dense", "Flatten"}),
        forces=True,
        resident_learning=True,
        weight_bits=8,
        weight_range=(-127.0, 127.0),
        tolerance=5e-3,
    )

    @classmethod
    def availability(cls) -> Availability:
        return Availability(True)

    def __init__(
        self,
        network: EnergyNetwork,
        *,
        seed: int = 0,
        timesteps: int | Sequence[int] = (60, 20),
        payload_bits: int = 12,
        state_bits: int = 24,
        leak: int = 1,
        input_range: tuple[float, float] = (-4.0, 4.0),
        output_limit: float = 4.0,
        weight_rounding: Literal["nearest", "stochastic"] = "nearest",
        weight_fractions: Sequence[int] | None = None,
        headroom: int = 1,
        learning_rounding: Literal["shared", "independent"] = "shared",
    ) -> None:
        self._options = Options.of(
            network,
            timesteps=timesteps,
            payload_bits=payload_bits,
            state_bits=state_bits,
            leak=leak,
            input_range=input_range,
            output_limit=output_limit,
            weight_rounding=weight_rounding,
            weight_fractions=weight_fractions,
            headroom=headroom,
        )
        check_choice("learning_rounding", learning_rounding, ("shared", "independent"))
        independent = learning_rounding == "independent"
        self.network = network
        self.capabilities = replace(
            type(self).capabilities, deterministic=not self._options.stochastic and not independent
        )
        self._chip = ChipSubstrate(network, self._options, seed)
        self._machine = KernelMachine(self._options.timesteps, learning_rounding, seed if independent else LAVA_SEED)

    @property
    def formats(self) -> Formats:
        """How numbers are laid out in registers."""
        return self._chip.formats

    @property
    def held(self) -> Program:
        """The program on the substrate. Raises `InputError` before the first one is written."""
        return self._chip.held

    @property
    def plan(self) -> Plan:
        """What is held, for a Lava run of it. Raises `InputError` before the first program is written, and for weights
        whose sums Lava's accumulator may not hold."""
        return plan_of(self.held, self._options.payload_bits, self._options.timesteps)

    def payloads(self, x: Array) -> Ints:
        """x (batch, *inputs) as payloads (batch, inputs)."""
        return self._chip.payloads(x)

    def program(self, parameters: Parameters) -> None:
        self._chip.program(parameters)

    def read(self) -> Parameters:
        return self._chip.read()

    def apply(self, update: Parameters) -> None:
        self._chip.apply(update)

    def reseed(self, seed: int) -> None:
        self._chip.reseed(seed)
        self._machine.reseed(seed)

    def settle(self, x: Array, *, nudge: Nudge | None = None, start: Equilibrium | None = None) -> Equilibrium:
        return self._chip.settle(self._machine, x, nudge, start)

    def contrast(self, terms: Sequence[tuple[complex, Equilibrium]]) -> Parameters:
        return self._chip.contrast(terms)

    def learn(self, x: Array, target: Array, *, rate: float, beta: float) -> None:
        """Sample after sample: free phase, phase nudged by beta, and two timesteps of the learning engine, which change
        the weights by rate / (beta samples) times the contrast (`resident`). A nudge of the protocol's, one-sided."""
        self._chip.learn(self._machine, x, target, rate, beta)

    def counts(self) -> OperationCounts:
        return self._chip.counts()
