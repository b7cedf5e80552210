"""The spiking substrate: integrate-and-fire neurons in Brian2 whose saturating rate is the activation."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import final

import numpy as np

from mep_neuro.backend import Backend
from mep_neuro.capabilities import Availability, Capabilities
from mep_neuro.counts import OperationCounts
from mep_neuro.errors import BackendUnavailable, CapabilityError, InputError
from mep_neuro.network import EnergyNetwork
from mep_neuro.types import Equilibrium, Nudge, Parameters
from mep_neuro_brian2 import checks
from mep_neuro_brian2.contrast import contrast, products
from mep_neuro_brian2.counting import ITEMSIZE, SpikeTally
from mep_neuro_brian2.engine import Engine
from mep_neuro_brian2.layout import Array, Layout
from mep_neuro_brian2.options import Target, Timing, check_membrane, check_target
from mep_neuro_brian2.program import Program
from mep_neuro_brian2.schedule import Record, Rows, learning, settling

log = logging.getLogger(__name__)

REST = 0.1
"""The residual up to which a sample counts as at rest: what regular spiking lets two halves of a window differ by."""


@final
class Brian2Backend(Backend):
    """Neurons and synapses of one network, simulated by Brian2. States are rates, taken in a phase's second half.

    target:          what Brian2 generates: "numpy" (default), "cython", or "cpp_standalone", which is built once for
                     each network (half a minute) and trains fastest. The last two need a compiler.
    phase_seconds:   length of a phase; its second half is the window, of at least ten time constants.
    step_seconds:    of the simulation; a phase is a multiple of four of them.
    synapse_seconds: time constant tau of the synaptic currents, and of the traces that learning uses.
    leak_seconds:    time constant of the membranes' leak; None (default) for none.
    max_rate:        Hz, the rate of the largest state; its inverse, the refractory period, is a multiple of the step.
    membrane:        how membranes start: "half" of the threshold (default), or "random", drawn from the seed.
    cache:           folder of compiled programs; None for mep-neuro's own in the user's cache.

    |x| is at most 1 / (max_rate step_seconds), 2 by default.
    Activations are nn.Hardtanh(0, 1), nn.Hardsigmoid and nn.ReLU6, of the outputs as well.
    """

    capabilities: Capabilities = Capabilities(
        dynamics="spiking",
        couplings=frozenset({"Dense", "Flatten"}),
        activations=frozenset({"ClippedLinear"}),
        forces=True,
        resident_learning=True,
        counts_macs=False,
        prefers="resident",
        arrays="numpy",
        tolerance=0.02,
    )

    @classmethod
    def availability(cls) -> Availability:
        return checks.availability()

    def __init__(
        self,
        network: EnergyNetwork,
        *,
        seed: int = 0,
        target: str = "numpy",
        phase_seconds: float = 0.2,
        step_seconds: float = 0.001,
        synapse_seconds: float = 0.01,
        leak_seconds: float | None = None,
        max_rate: float = 500.0,
        membrane: str = "half",
        cache: Path | str | None = None,
    ) -> None:
        if network.energy_name != "hopfield":
            raise CapabilityError(f"no energy {network.energy_name!r} here; there is: hopfield")
        self.network = network
        self.target, self.membrane = check_target(target), check_membrane(membrane)
        self.timing = Timing(phase_seconds, step_seconds, synapse_seconds, leak_seconds, max_rate)
        self.layout = Layout.of(network)
        checks.compiler(self.target)
        if self.membrane == "random":
            self.capabilities = replace(type(self).capabilities, deterministic=False)
        self._cache = cache
        self._engine: Engine | None = None
        self._parameters: dict[str, Array] = {}
        self._tally = SpikeTally(self.layout, self.timing)
        self._random = np.random.default_rng(seed)

    def program(self, parameters: Parameters) -> None:
        self._parameters = checks.parameters(parameters, self.network, whole=True)

    def read(self) -> Parameters:
        self._check_programmed()
        return {name: value.copy() for name, value in self._parameters.items()}

    def apply(self, update: Parameters) -> None:
        self._check_programmed()
        steps = checks.parameters(update, self.network, whole=False)
        self._parameters |= {name: self._parameters[name] + step for name, step in steps.items()}

    def settle(self, x: Array, *, nudge: Nudge | None = None, start: Equilibrium | None = None) -> Equilibrium:
        """Without a start currents and outputs begin at 0; with one, as if its states had been there all along."""
        return self._settle(x, [nudge], start)[0]

    def settle_each(self, x: Array, nudges: Sequence[Nudge], start: Equilibrium) -> tuple[Equilibrium, ...]:
        """All in one run."""
        return self._settle(x, nudges, start) if nudges else ()

    def contrast(self, terms: Sequence[tuple[complex, Equilibrium]]) -> Parameters:
        self._check_programmed()
        weights = checks.terms(terms)
        x = checks.batch(terms[0][1].x, self.network, self.timing)
        phases = [[x, *checks.start(e, self.network, len(x))] for _, e in terms]
        found: dict[str, Array] = {}
        for level, o in enumerate(self.layout.dense):
            ends = [[states[k] for states in phases] for k in (level + 1, level)]
            found[o.weight], bias = contrast(weights, *ends)
            found |= {} if o.bias is None else {o.bias: bias}
            self._tally.host.outer(self.network.couplings[level], len(x), ITEMSIZE, products(len(terms), level))
        return {name: found[name] for name in self.network.trained if name in found}

    def learn(self, x: Array, target: Array, *, rate: float, beta: float) -> None:
        """Present the samples one after the other in one run, each in three phases, and after each

            w <- w + rate / (2 beta) C,     C the contrast of +beta and -beta, from spikes and traces

        as on-line learning does: of a batch of B samples every one changes the weights, by the whole rate. A batch
        may be the whole training set: larger ones take less time, and change nothing else.
        """
        self._check_programmed()
        x = checks.batch(x, self.network, self.timing)
        if not (math.isfinite(rate) and rate > 0 and math.isfinite(beta) and beta > 0):
            raise InputError(f"rate is {rate} and beta {beta}; both must be above 0")
        checks.steepest(-beta, self.network)
        target = checks.outputs("the target", target, self.network, len(x))
        self._tally.host.presented(len(x), self.network.host_values * ITEMSIZE)
        rows = learning(self.layout, x, target, rate=rate, beta=beta, membrane=self._membranes(len(x)))
        plastic = self._plastic()
        weights, biases = self.layout.weights(self._parameters), self.layout.biases(self._parameters)
        engine = self._running()
        for part in _parts(rows, engine.learn_rows):
            log.info("presenting %d samples of %d in one run", len(part) // 3, len(x))
            record, weights, biases = engine.learn(weights, biases, part, plastic)
            self._tally.learnt(record, plastic[0])
        if not np.isfinite(weights).all():
            raise InputError("a weight is no longer finite: the training diverged; lower the learning rate")
        self._parameters = self.layout.parameters(weights, biases)

    def reseed(self, seed: int) -> None:
        self._random = np.random.default_rng(seed)

    def counts(self) -> OperationCounts:
        return self._tally.freeze()

    def close(self) -> None:
        self._engine = None

    def _settle(self, x: Array, nudges: Sequence[Nudge | None], start: Equilibrium | None) -> tuple[Equilibrium, ...]:
        self._check_programmed()
        given, layout = x, self.layout
        x = checks.batch(x, self.network, self.timing)
        drive, hold = np.zeros((len(nudges), len(x), layout.neurons)), np.zeros((len(nudges), len(x)))
        drive[:, :, : layout.inputs] = x
        for k, nudge in enumerate(nudges):
            if nudge is not None:
                beta, push = checks.nudge(nudge, self.network, len(x))
                drive[k, :, layout.top] = beta * push
                hold[k] = beta if nudge.force is None else 0.0
        current = np.zeros((len(x), layout.neurons))
        if start is not None:
            current = layout.currents(self._parameters, [x, *checks.start(start, self.network, len(x))])
        repeated = (np.tile(value, (len(nudges), 1)) for value in (current, self._membranes(len(x))))
        record = self._record(settling(drive.reshape(-1, layout.neurons), hold.ravel(), *repeated))
        found = []
        for k, nudge in enumerate(nudges):
            own = Record(*(part[k * len(x) : (k + 1) * len(x)] for part in (record.spikes, record.membranes)))
            self._tally.ran("free" if nudge is None else "nudged", own.phase_spikes)
            if nudge is None:
                self._tally.host.presented(len(x), self.network.host_values * ITEMSIZE)
            found.append(self._equilibrium(given, own, nudge))
        return tuple(found)

    def _record(self, rows: Rows) -> Record:
        weights, biases = self.layout.weights(self._parameters), self.layout.biases(self._parameters)
        engine = self._running()
        parts = [engine.settle(weights, biases, part) for part in _parts(rows, engine.settle_rows)]
        return Record(*(np.concatenate([getattr(p, name) for p in parts]) for name in ("spikes", "membranes")))

    def _equilibrium(self, x: Array, record: Record, nudge: Nudge | None) -> Equilibrium:
        """Rates in the window; the residual is what its halves differ by."""
        layout = self.layout
        early, late = (record.rates(layout, self.timing, half) for half in (slice(2, 4), slice(3, 5)))
        change = np.abs(late - early)[:, layout.inputs :].max(1)
        states = layout.split(record.rates(layout, self.timing))
        scale = np.maximum(1.0, np.abs(states[-1]).max(1))
        if nudge is not None:
            away = np.abs(np.asarray(nudge.force) if nudge.target is None else nudge.target - states[-1])
            scale = np.maximum(abs(nudge.beta) * away.max(1), layout.high.max() / self.timing.full / REST)
        return Equilibrium(
            x=x.copy(),
            states=states,
            outputs=states[-1].copy(),
            steps=self.timing.steps,
            residual=change / scale,
            tolerance=REST,
            nudge=nudge,
        )

    def _membranes(self, rows: int) -> Array:
        shape = (rows, self.layout.neurons)
        return self._random.random(shape) if self.membrane == "random" else np.full(shape, 0.5)

    def _plastic(self) -> tuple[Array, Array]:
        """1 for each synapse, and each neuron's bias, that is not frozen."""
        trained = self.network.trained
        own = {name: np.full(value.shape, float(name in trained)) for name, value in self._parameters.items()}
        return self.layout.weights(own), self.layout.biases(own)

    def _running(self) -> Engine:
        """Brian2, imported or built when it is first needed."""
        if self._engine is None:
            log.info("Brian2 generates code for %s", self.target)
            compiled = self.target == "cpp_standalone"
            self._engine = (
                Program(self.layout, self.timing, self._cache)
                if compiled
                else _runtime(self.layout, self.timing, self.target)
            )
        return self._engine

    def _check_programmed(self) -> None:
        if not self._parameters:
            raise InputError("the substrate holds no parameters yet: program the parameters first")


def _parts(rows: Rows, most: int) -> list[Rows]:
    return [rows.part(first, first + most) for first in range(0, len(rows), most)]


def _runtime(layout: Layout, timing: Timing, target: Target) -> Engine:
    try:
        from mep_neuro_brian2.runtime import Runtime
    except (ImportError, AttributeError) as error:
        raise BackendUnavailable(f"Brian2 cannot be imported: {error}; {checks.TOGETHER}") from error
    return Runtime(layout, timing, target)
