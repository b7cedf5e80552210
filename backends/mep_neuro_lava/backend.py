"""The Loihi substrate: the integer kernels, batched, without Lava. A simulation; no chip is involved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, final

import numpy as np

from mep_neuro.backend import Backend
from mep_neuro.capabilities import Availability, Capabilities
from mep_neuro.counts import OperationCounts
from mep_neuro.errors import CapabilityError, InputError, OptionError, SettlingError, check_choice
from mep_neuro.network import EnergyNetwork
from mep_neuro.settling import CONVERGED, check_contrast
from mep_neuro.types import Array, Equilibrium, Nudge, Parameters
from mep_neuro_lava import checks
from mep_neuro_lava.contrast import bias_contrast, products, weight_contrast
from mep_neuro_lava.counting import HOST_BYTES, ChipTally
from mep_neuro_lava.formats import formats_of
from mep_neuro_lava.kernels import KernelOverflow
from mep_neuro_lava.kernels.fixed import Ints
from mep_neuro_lava.program import Program, dense, program_of
from mep_neuro_lava.relaxation import Pull, Relaxed, latch, relax, rest
from mep_neuro_lava.resident import Learner, Rounding, rule_of

LAVA_SEED = 2
"""Seed of the learning engine's rounding in every connection of Lava's."""


@final
@dataclass(frozen=True)
class Latched:
    """What an equilibrium remembers: x as it was sent, and the drives that the neurons hold, under one program."""

    program: Program
    x: Ints
    drives: tuple[Ints, ...]


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
        if network.energy_name != "hopfield":
            raise CapabilityError(f"this substrate holds energy='hopfield', not {network.energy_name!r}")
        for name, value, known in (
            ("weight_rounding", weight_rounding, ("nearest", "stochastic")),
            ("learning_rounding", learning_rounding, ("shared", "independent")),
        ):
            check_choice(name, value, known)
        if type(headroom) is not int or not 0 <= headroom <= 7:
            raise OptionError(f"headroom is {headroom!r}; give 0 to 7 bits")
        if weight_fractions is not None and [type(n) for n in weight_fractions] != [int] * len(network.couplings):
            raise OptionError(f"weight_fractions is {weight_fractions!r}; give {len(network.couplings)} whole numbers")
        self.network = network
        self.formats = formats_of(
            network,
            payload_bits=payload_bits,
            state_bits=state_bits,
            leak=leak,
            input_range=input_range,
            output_limit=output_limit,
        )
        self._timesteps, self._input_range = checks.timesteps(timesteps), input_range
        self._fractions, self._headroom = weight_fractions, headroom
        self._stochastic, self._learning_rounding = weight_rounding == "stochastic", learning_rounding
        independent = learning_rounding == "independent"
        self.capabilities = replace(type(self).capabilities, deterministic=not self._stochastic and not independent)
        self._random = np.random.default_rng(seed)
        self._rounding = Rounding(learning_rounding, seed if independent else LAVA_SEED)
        self._tally = ChipTally(network, payload_bits)
        self._program: Program | None = None

    @property
    def held(self) -> Program:
        """The program on the substrate. Raises `InputError` before the first one is written."""
        if self._program is None:
            raise InputError("the substrate holds no parameters yet: program the parameters first")
        return self._program

    def program(self, parameters: Parameters) -> None:
        self._program = program_of(
            self.network,
            checks.parameters(parameters, self.network, whole=True),
            self.formats,
            fractions=self._fractions,
            headroom=self._headroom,
            random=self._random if self._stochastic else None,
        )

    def read(self) -> Parameters:
        program, found = self.held, dict[str, Array]()
        for o, synapses, bias in zip(dense(self.network), program.synapses, program.biases, strict=True):
            found[o.weight] = synapses.weights
            if o.bias is not None:
                found[o.bias] = self._value(bias)
        return found

    def apply(self, update: Parameters) -> None:
        steps = checks.parameters(update, self.network, whole=False)
        self.program({name: value + steps.get(name, 0.0) for name, value in self.read().items()})

    def reseed(self, seed: int) -> None:
        self._random = np.random.default_rng(seed)
        self._rounding = Rounding(self._learning_rounding, seed)

    def counts(self) -> OperationCounts:
        return self._tally.freeze()

    def settle(self, x: Array, *, nudge: Nudge | None = None, start: Equilibrium | None = None) -> Equilibrium:
        program = self.held
        sent = checks.payloads(x, self.network, self.formats, self._input_range)
        phase: Literal["free", "nudged"] = "free" if nudge is None else "nudged"
        pull = None if nudge is None else checks.pull(nudge, self.network, self.formats, len(sent))
        if nudge is None:
            self._tally.presented(len(sent))
        try:
            latched = self._latched(program, sent, start, phase)
            begin = (
                rest(program, len(sent))
                if start is None
                else checks.states(start.states, self.network, self.formats, len(sent))
            )
            relaxed = self._relax(latched, begin, phase, pull)
        except KernelOverflow as error:
            raise self._overflown(error, phase) from error
        scale = self._scale(begin[-1], relaxed, nudge)
        states = tuple(
            self._value(v).reshape(-1, *p.shape) for v, p in zip(relaxed.states, self.network.populations, strict=True)
        )
        return Equilibrium(
            x=np.array(x),
            states=states,
            outputs=states[-1].copy(),
            steps=self._timesteps[nudge is not None],
            residual=relaxed.change / scale,
            tolerance=CONVERGED,
            nudge=nudge,
            context=latched,
        )

    def contrast(self, terms: Sequence[tuple[complex, Equilibrium]]) -> Parameters:
        weights = [checks.real(w) for w, _ in terms]
        check_contrast(weights)
        x = self.formats.input.decode(checks.payloads(terms[0][1].x, self.network, self.formats, self._input_range))
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

    def learn(self, x: Array, target: Array, *, rate: float, beta: float) -> None:
        """Sample after sample: free phase, phase nudged by beta, and two timesteps of the learning engine, which change
        the weights by rate / (beta samples) times the contrast (`resident`). A nudge of the protocol's, one-sided."""
        sent = checks.payloads(x, self.network, self.formats, self._input_range)
        pull = checks.pull(Nudge(beta, target), self.network, self.formats, len(sent))
        if pull.target is None or beta <= 0:
            raise InputError(f"beta is {beta}; resident learning takes a positive number")
        trained = [(o.weight in self.network.trained, o.bias in self.network.trained) for o in dense(self.network)]
        learner = Learner(self.held, rule_of(self.held, rate / (beta * len(sent))), self._rounding, trained)
        for row, goal in zip(sent, pull.target, strict=True):
            self._tally.presented(1)
            try:
                program = learner.program
                latched = self._latched(program, row[None], None, "free")
                free = self._relax(latched, rest(program, 1), "free", None).states
                nudged = self._relax(latched, free, "nudged", replace(pull, target=goal[None])).states
                self._rounding.advance(1 + sum(self._timesteps))
                for inputs, *populations in learner.change(row[None], free, nudged):
                    self._tally.learnt(inputs, populations)
            except KernelOverflow as error:
                raise self._overflown(error, "free") from error
        self._program = learner.program

    def _latched(
        self, program: Program, x: Ints, start: Equilibrium | None, phase: Literal["free", "nudged"]
    ) -> Latched:
        """The drives that neurons hold: those of the start where it is of the same x and program, else x is sent."""
        old = None if start is None else start.context
        if isinstance(old, Latched) and old.program is program and np.array_equal(old.x, x):
            return old
        self._tally.latched(phase, int(np.count_nonzero(x)), len(x))
        return Latched(program, x, latch(program, x))

    def _relax(
        self, latched: Latched, begin: Sequence[Ints], phase: Literal["free", "nudged"], pull: Pull | None
    ) -> Relaxed:
        """A phase, counted. Raises `SettlingError` where outputs without a limit come to that of their register."""
        steps = self._timesteps[phase == "nudged"]
        relaxed = relax(latched.program, latched.drives, begin, steps, pull)
        self._tally.relaxed(phase, relaxed.sent, len(latched.x), steps)
        neuron, outputs, unit = self.formats.neurons[-1], relaxed.states[-1], 2.0**-self.formats.fraction
        for limit, is_open in zip((neuron.low, neuron.high), self.formats.open_ended, strict=True):
            if is_open and bool((outputs == limit).any()):
                raise SettlingError(
                    f"population {len(relaxed.states)} comes to {limit * unit:g} in the {phase} phase, the limit of "
                    "outputs without an activation here: give a larger output_limit, or smaller weights"
                )
        return relaxed

    def _overflown(self, error: KernelOverflow, phase: str) -> SettlingError:
        return SettlingError(
            f"{error}, in the {phase} phase: a drive lies between -128 and 128; use smaller weights "
            "(mep.SpectralConstraint) or fewer payload_bits"
        )

    def _scale(self, begin: Ints, relaxed: Relaxed, nudge: Nudge | None) -> Ints:
        """(batch,), what a change is measured against, in units of a state: max(1, |outputs|), or in a nudged phase
        beta |dC/ds|. A unit of a payload more or less is rest."""
        unit, neuron = 2.0**self.formats.fraction, self.formats.neurons[-1]
        if nudge is None:
            free: Ints = np.maximum(unit, np.abs(relaxed.states[-1]).max(1))
            return free
        outputs = self._value(begin)
        pull = np.asarray(nudge.force) if nudge.target is None else outputs - np.asarray(nudge.target)
        slope = unit * abs(nudge.beta) * np.abs(pull).max(1)
        nudged: Ints = np.maximum(slope, unit * neuron.payload.unit / CONVERGED)
        return nudged

    def _value(self, states: Ints) -> Ints:
        return states * 2.0**-self.formats.fraction
