"""What both Loihi backends do, whatever runs the timesteps: checks, contrasts, counts, and the programs in between."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar, final

import numpy as np

from mep_neuro.counts import OperationCounts
from mep_neuro.errors import CapabilityError, InputError, OptionError, SettlingError, check_choice
from mep_neuro.network import EnergyNetwork
from mep_neuro.settling import CONVERGED, check_contrast
from mep_neuro.types import Array, Equilibrium, Nudge, Parameters
from mep_neuro_lava import checks
from mep_neuro_lava.contrast import bias_contrast, products, weight_contrast
from mep_neuro_lava.counting import HOST_BYTES, ChipTally
from mep_neuro_lava.formats import Formats, formats_of
from mep_neuro_lava.kernels import KernelOverflow
from mep_neuro_lava.kernels.fixed import Ints
from mep_neuro_lava.plan import Learnt, Lesson, Pull, Settled
from mep_neuro_lava.program import Program, dense, program_of
from mep_neuro_lava.resident import ROUNDS, lesson_of

Phase = Literal["free", "nudged"]


class Machine(Protocol):
    """What runs the timesteps of a program. Raises `KernelOverflow` where a register is too narrow."""

    def settle(
        self,
        program: Program,
        x: Ints,
        timesteps: int,
        *,
        pull: Pull | None,
        states: Sequence[Ints] | None,
        drives: Sequence[Ints] | None,
    ) -> Settled:
        """One phase from states, or from rest. drives: those that neurons hold; None: x is sent first."""
        ...

    def learn(self, program: Program, x: Ints, target: Ints, lesson: Lesson) -> tuple[Program, Learnt]:
        """Sample after sample, and the program that is held then. Another program than the last learning left starts
        the rounding's random numbers from their seed."""
        ...

    def reseed(self, seed: int) -> None:
        """Start the rounding's random numbers anew."""
        ...

    def close(self) -> None:
        """Give back what is held; twice is safe."""
        ...


M = TypeVar("M", bound=Machine)


@final
@dataclass(frozen=True)
class Options:
    """Those of both backends; `LoihiBackend` says what each is. Raises `OptionError` for a senseless one."""

    timesteps: tuple[int, int]
    payload_bits: int
    state_bits: int
    leak: int
    input_range: tuple[float, float]
    output_limit: float
    stochastic: bool
    fractions: Sequence[int] | None
    headroom: int

    @classmethod
    def of(
        cls,
        network: EnergyNetwork,
        *,
        timesteps: int | Sequence[int],
        payload_bits: int,
        state_bits: int,
        leak: int,
        input_range: tuple[float, float],
        output_limit: float,
        weight_rounding: str,
        weight_fractions: Sequence[int] | None,
        headroom: int,
    ) -> Options:
        """Looked over, for a network."""
        if network.energy_name != "hopfield":
            raise CapabilityError(f"this substrate holds energy='hopfield', not {network.energy_name!r}")
        check_choice("weight_rounding", weight_rounding, ("nearest", "stochastic"))
        if type(headroom) is not int or not 0 <= headroom <= 7:
            raise OptionError(f"headroom is {headroom!r}; give 0 to 7 bits")
        if weight_fractions is not None and [type(n) for n in weight_fractions] != [int] * len(network.couplings):
            raise OptionError(f"weight_fractions is {weight_fractions!r}; give {len(network.couplings)} whole numbers")
        return cls(
            timesteps=checks.timesteps(timesteps),
            payload_bits=payload_bits,
            state_bits=state_bits,
            leak=leak,
            input_range=input_range,
            output_limit=output_limit,
            stochastic=weight_rounding == "stochastic",
            fractions=weight_fractions,
            headroom=headroom,
        )


@final
@dataclass(frozen=True)
class Latched:
    """What an equilibrium remembers: x as it was sent, and the drives that the neurons hold, under one program."""

    program: Program
    x: Ints
    drives: tuple[Ints, ...]


@final
class ChipSubstrate:
    """A network on a chip that a machine plays. The methods are those of `Backend`."""

    def __init__(self, network: EnergyNetwork, options: Options, seed: int) -> None:
        self.network, self._options = network, options
        self.formats: Formats = formats_of(
            network,
            payload_bits=options.payload_bits,
            state_bits=options.state_bits,
            leak=options.leak,
            input_range=options.input_range,
            output_limit=options.output_limit,
        )
        self._random = np.random.default_rng(seed)
        self._tally = ChipTally(network, options.payload_bits)
        self._program: Program | None = None

    @property
    def held(self) -> Program:
        """The program on the substrate. Raises `InputError` before the first one is written."""
        if self._program is None:
            raise InputError("the substrate holds no parameters yet: program the parameters first")
        return self._program

    def program(self, parameters: Parameters) -> None:
        """Quantise and write all parameters."""
        self._program = program_of(
            self.network,
            checks.parameters(parameters, self.network, whole=True),
            self.formats,
            fractions=self._options.fractions,
            headroom=self._options.headroom,
            random=self._random if self._options.stochastic else None,
        )

    def read(self) -> Parameters:
        """What is held, in float64."""
        program, found = self.held, dict[str, Array]()
        for o, synapses, bias in zip(dense(self.network), program.synapses, program.biases, strict=True):
            found[o.weight] = synapses.weights
            if o.bias is not None:
                found[o.bias] = self._value(bias)
        return found

    def apply(self, update: Parameters) -> None:
        """Add an update and write the sum."""
        steps = checks.parameters(update, self.network, whole=False)
        self.program({name: value + steps.get(name, 0.0) for name, value in self.read().items()})

    def reseed(self, seed: int) -> None:
        """Restart the rounding of what is programmed."""
        self._random = np.random.default_rng(seed)

    def counts(self) -> OperationCounts:
        """Operations so far."""
        return self._tally.freeze()

    def payloads(self, x: Array) -> Ints:
        """x (batch, *inputs) as payloads (batch, inputs)."""
        return checks.payloads(x, self.network, self.formats, self._options.input_range)

    def settle(self, machine: Machine, x: Array, nudge: Nudge | None, start: Equilibrium | None) -> Equilibrium:
        """A phase on a machine."""
        program, sent, steps = self.held, self.payloads(x), self._options.timesteps[nudge is not None]
        phase: Phase = "free" if nudge is None else "nudged"
        pull = None if nudge is None else checks.pull(nudge, self.network, self.formats, len(sent))
        begin = None if start is None else checks.states(start.states, self.network, self.formats, len(sent))
        drives = _drives(start, program, sent)
        if nudge is None:
            self._tally.presented(len(sent))
        try:
            settled = machine.settle(program, sent, steps, pull=pull, states=begin, drives=drives)
        except KernelOverflow as error:
            raise _overflown(error, phase) from error
        if drives is None:
            self._tally.latched(phase, settled.inputs, len(sent))
        self._tally.relaxed(phase, settled.sent, len(sent), steps)
        self._check_limit(settled.states[-1], phase)
        scale = self._scale(0.0 if begin is None else begin[-1], settled.states[-1], nudge)
        states = tuple(
            self._value(v).reshape(-1, *p.shape) for v, p in zip(settled.states, self.network.populations, strict=True)
        )
        return Equilibrium(
            x=np.array(x),
            states=states,
            outputs=states[-1].copy(),
            steps=steps,
            residual=settled.change / scale,
            tolerance=CONVERGED,
            nudge=nudge,
            context=Latched(program, sent, settled.drives),
        )

    def contrast(self, terms: Sequence[tuple[complex, Equilibrium]]) -> Parameters:
        """On the host, from states that it has read."""
        weights = [checks.real(w) for w, _ in terms]
        check_contrast(weights)
        x = self.formats.input.decode(self.payloads(terms[0][1].x))
        if any(not np.array_equal(e.x, terms[0][1].x) for _, e in terms):
            raise InputError("the equilibria of a contrast must be of the same x")
        phases = [[x, *(np.asarray(s, np.float64) for s in e.states)] for _, e in terms]
        self._tally.states_read(len(x), len(terms))
        found, tally = dict[str, Array](), self._tally.contrasts
        for level, (o, coupling) in enumerate(zip(dense(self.network), self.network.couplings, strict=True)):
            below, above = ([phase[end] for phase in phases] for end in (level, level + 1))
            if o.weight in self.network.trained:
                found[o.weight] = weight_contrast(weights, above, below)
                tally.outer(coupling, len(x), HOST_BYTES, products(len(terms), level))
            if o.bias in self.network.trained:
                found[o.bias] = bias_contrast(weights, above)
        return found

    def learn(self, machine: Machine, x: Array, target: Array, rate: float, beta: float) -> None:
        """Resident learning on a machine (`resident`)."""
        program, sent, timesteps = self.held, self.payloads(x), self._options.timesteps
        samples, pull = len(sent), checks.pull(Nudge(beta, target), self.network, self.formats, len(sent))
        if pull.target is None or beta <= 0:
            raise InputError(f"beta is {beta}; resident learning takes a positive number")
        trained = [(o.weight in self.network.trained, o.bias in self.network.trained) for o in dense(self.network)]
        lesson = lesson_of(program, rate / (beta * samples), trained, pull.pull)
        try:
            changed, learnt = machine.learn(program, sent, pull.target, lesson)
        except KernelOverflow as error:
            raise _overflown(error, "free") from error
        free, nudged, update = learnt.sent
        self._tally.presented(samples)
        self._tally.latched("free", free[0], samples)
        self._tally.relaxed("free", free[1:], samples, timesteps[0])
        self._tally.relaxed("nudged", nudged[1:], samples, timesteps[1])
        self._tally.learnt(update[0], update[1:], ROUNDS * samples)
        for outputs, phase in zip(learnt.outputs, ("free", "nudged"), strict=True):
            self._check_limit(outputs, phase)
        self._program = changed

    def _check_limit(self, outputs: Ints, phase: str) -> None:
        """Raise `SettlingError` where outputs without a limit have come to that of their register."""
        neuron, unit = self.formats.neurons[-1], 2.0**-self.formats.fraction
        for limit, is_open in zip((neuron.low, neuron.high), self.formats.open_ended, strict=True):
            if is_open and bool((outputs == limit).any()):
                raise SettlingError(
                    f"population {len(self.formats.neurons)} comes to {limit * unit:g} in the {phase} phase, the limit "
                    "of outputs without an activation here: give a larger output_limit, or smaller weights"
                )

    def _scale(self, begin: Ints | float, outputs: Ints, nudge: Nudge | None) -> Ints:
        """(batch,), what a change is measured against, in units of a state: max(1, |outputs|), or in a nudged phase
        beta |dC/ds|. A unit of a payload more or less is rest."""
        unit, neuron = 2.0**self.formats.fraction, self.formats.neurons[-1]
        if nudge is None:
            free: Ints = np.maximum(unit, np.abs(outputs).max(1))
            return free
        pull = np.asarray(nudge.force) if nudge.target is None else begin / unit - np.asarray(nudge.target)
        slope = unit * abs(nudge.beta) * np.abs(pull).max(1)
        nudged: Ints = np.maximum(slope, unit * neuron.payload.unit / CONVERGED)
        return nudged

    def _value(self, states: Ints) -> Ints:
        return states * 2.0**-self.formats.fraction


def _drives(start: Equilibrium | None, program: Program, x: Ints) -> tuple[Ints, ...] | None:
    """The drives that the neurons hold since the start, if it is of the same x and program."""
    old = None if start is None else start.context
    same = isinstance(old, Latched) and old.program is program and np.array_equal(old.x, x)
    return old.drives if isinstance(old, Latched) and same else None


def _overflown(error: KernelOverflow, phase: str) -> SettlingError:
    return SettlingError(
        f"{error}, in the {phase} phase: a drive lies between -128 and 128; use smaller weights "
        "(mep.SpectralConstraint) or fewer payload_bits"
    )
