"""The reference substrate: settling in float64 NumPy, as plainly as it can be said."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from typing import final

import numpy as np

from mep_neuro.backend import Backend
from mep_neuro.capabilities import Availability, Capabilities
from mep_neuro.counts import OperationCounts, Tally
from mep_neuro.couplings import Dropout
from mep_neuro.errors import CapabilityError, InputError
from mep_neuro.network import EnergyNetwork
from mep_neuro.settling import (
    CONVERGED,
    DEFAULT_STEPS,
    check_contrast,
    check_solver,
    check_step_size,
    check_tolerance,
    step_limits,
)
from mep_neuro.types import Equilibrium, Nudge, Parameters
from mep_neuro_reference import checks
from mep_neuro_reference.chains import ITEMSIZE, Chain
from mep_neuro_reference.connections import Connection
from mep_neuro_reference.contrast import bias_contrast, drop_contrast, products, weight_contrast
from mep_neuro_reference.hopfield import Hopfield
from mep_neuro_reference.minima import EPS, Pull
from mep_neuro_reference.operations import Array, Masks
from mep_neuro_reference.prediction_error import PredictionError
from mep_neuro_reference.resistive import Resistive
from mep_neuro_reference.settling import SOLVERS, Course, check_finite

CHAINS: Mapping[str, type[Chain]] = {
    "hopfield": Hopfield,
    "prediction_error": PredictionError,
    "resistive": Resistive,
}

ROUNDING = 8 * EPS
"""Changes of so many units in the last place are rounding, and count as rest."""


@final
class ReferenceBackend(Backend):
    """NumPy arrays in float64 with parameters of its own: `program` them first.

    solver:    "even_odd" (default), "synchronous", "euler", "anderson", or for prediction_error "errors" (`settling`).
    max_steps: iterations of a phase, or (free, nudged).
    tolerance: stop early once every sample's residual is no larger; None (default) runs all steps. The residual is the
               largest change of any unit in the last iteration, relative to beta |dC/ds| (free: to max(1, |outputs|)).
    step_size: of the Euler solver, in (0, 1]; 0.5 where it is not given.
    """

    capabilities: Capabilities = Capabilities(
        energies=frozenset(CHAINS),
        couplings=frozenset({"Dense", "Conv2d", "AvgPool2d", "Flatten", "Dropout", "Signed"}),
        activations=frozenset({"ClippedLinear", "Logistic", "Rectifiers"}),
        costs=frozenset({"squared_error", "cross_entropy"}),
        forces=True,
        complex_nudging=True,
        arrays="numpy",
        tolerance=1e-9,
    )

    @classmethod
    def availability(cls) -> Availability:
        return Availability(True)

    def __init__(
        self,
        network: EnergyNetwork,
        *,
        seed: int = 0,
        solver: str = "even_odd",
        max_steps: int | Sequence[int] = DEFAULT_STEPS,
        tolerance: float | None = None,
        step_size: float | None = None,
    ) -> None:
        if network.energy_name not in CHAINS:
            raise CapabilityError(f"no energy {network.energy_name!r} here; there are: {', '.join(CHAINS)}")
        self.network = network
        self._solver = SOLVERS[check_solver(solver, SOLVERS, network.energy_name)]
        self._free_steps, self._nudged_steps = step_limits(max_steps)
        self._tolerance = check_tolerance(tolerance)
        self._step_size = check_step_size(step_size, solver)
        levels = len(network.populations)
        travel = {"even_odd": (levels + 1) // 2, "errors": 0}.get(solver, levels)
        self._min_nudged_steps = 1 + travel
        self._parameters: Mapping[str, Array] = {}
        self._connections: tuple[Connection, ...] = ()
        self._tally = Tally()
        self._random = np.random.default_rng(seed)

    def program(self, parameters: Parameters) -> None:
        self._hold(checks.parameters(parameters, self.network, whole=True))

    def read(self) -> Parameters:
        self._check_programmed()
        return {name: value.copy() for name, value in self._parameters.items()}

    def apply(self, update: Parameters) -> None:
        self._check_programmed()
        steps = checks.parameters(update, self.network, whole=False)
        moved = {name: value + steps.get(name, 0.0) for name, value in self._parameters.items()}
        ends = {name: np.maximum(moved[name], 0.0) for name in self.network.conductances}  # a device can go no lower
        self._hold({**moved, **ends})

    def reseed(self, seed: int) -> None:
        self._random = np.random.default_rng(seed)

    def counts(self) -> OperationCounts:
        return self._tally.freeze()

    def settle(self, x: Array, *, nudge: Nudge | None = None, start: Equilibrium | None = None) -> Equilibrium:
        self._check_programmed()
        x = checks.batch(x, self.network)
        with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is found and named by its population
            if nudge is None:
                return self._free(x, start)
            return self._nudged(x, checks.nudge(nudge, self.network, len(x), self._parameters), start)

    def contrast(self, terms: Sequence[tuple[complex, Equilibrium]]) -> Parameters:
        self._check_programmed()
        weights = [w for w, _ in terms]
        check_contrast(weights)
        x = checks.batch(terms[0][1].x, self.network)
        if any(not np.array_equal(e.x, x) for _, e in terms):
            raise InputError("the equilibria of a contrast must be of the same x")
        chains = [self._held(x, e) or self._chain(x, e) for _, e in terms]
        above, below = zip(*(chain.local() for chain in chains), strict=True)  # by phase, then by level
        masks = chains[0].masks
        if any(chain.masks is not masks for chain in chains) and (masks or self.network.dropping()):
            raise InputError("the phases of a contrast must share their dropout masks: settle them from one start")
        found: dict[str, Array] = {}
        for level, connection in enumerate(self._connections):
            o = connection.coupling.weighted
            if o is None:
                continue
            ends = [connection.ends(a[level], b[level], masks) for a, b in zip(above, below, strict=True)]
            ups, downs = [up for up, _ in ends], [down for _, down in ends]
            if o.weight in self.network.trained:
                statistic = drop_contrast if chains[0].of_drops else weight_contrast
                found[o.weight] = statistic(connection, level, weights, ups, downs)
                self._tally.outer(connection.coupling, len(x), ITEMSIZE, products(len(terms), level))
            if o.bias in self.network.trained:
                found[o.bias] = bias_contrast(weights, ups)
        return {name: np.array(found[name].real / len(x)) for name in self.network.trained if name in found}

    def _free(self, x: Array, start: Equilibrium | None) -> Equilibrium:
        """argmin_s E(s; x): from the forward pass, or from a start."""
        self._tally.presented(len(x), self.network.host_values * ITEMSIZE)
        chain = self._chain(x, start)
        course = Course(
            _largest(chain.outputs),
            max_steps=self._free_steps,
            min_steps=1,
            tolerance=self._tolerance,
            step_size=self._step_size,
            phase="free",
            rested=False,
            energy=self.network.energy_name,
        )
        if start is not None or not chain.free_is_forward:
            self._solver(chain, course)
            course.check_growth(self.network)
        return self._equilibrium(chain, course, None)

    def _nudged(self, x: Array, nudge: Nudge, start: Equilibrium | None) -> Equilibrium:
        """argmin_s E(s; x) + beta C(s_L): from a free equilibrium, or from wherever the start is."""
        pull = Pull.of(nudge)
        held = self._held(x, start)
        rested = held is not None and held.pull is None
        before = held if held is not None and rested else self._chain(x, start)
        chain, size = before.nudged(pull), _largest(before.outputs)
        slope = np.abs(pull.gradient(before.outputs)).reshape(len(x), -1).max(1)  # beta |dC/ds|
        course = Course(
            np.maximum(slope, ROUNDING / (self._tolerance or CONVERGED) * size),
            max_steps=self._nudged_steps,
            min_steps=self._min_nudged_steps,
            tolerance=self._tolerance,
            step_size=self._step_size,
            phase="nudged",
            rested=rested,
            energy=self.network.energy_name,
        )
        self._solver(chain, course)
        course.check_growth(self.network)
        return self._equilibrium(chain, course, nudge)

    def _chain(self, x: Array, start: Equilibrium | None) -> Chain:
        """The populations over a clamped x, set by the forward pass or by a start, without a nudge yet."""
        old = None if start is None else start.context
        masks, clamped = None, None
        if isinstance(old, Chain) and len(old.x) == len(x):
            masks = old.masks
            clamped = old.clamped if self._same(x, old) else None
        masks = self._drawn_masks(len(x)) if masks is None else masks
        kind = CHAINS[self.network.energy_name]
        chain = kind(self.network, self._connections, masks, x, self._tally, clamped)
        if start is None:
            chain.forward_pass()
        else:
            chain.resume(checks.states(start.states, self.network, x))
        for level, s in enumerate(chain.states):
            check_finite(level, s, 0, "free", self.network.energy_name)
        return chain

    def _held(self, x: Array, equilibrium: Equilibrium | None) -> Chain | None:
        """The populations as a phase left them, if it was of these samples and parameters and nobody changed them."""
        if equilibrium is None or not isinstance(equilibrium.context, Chain):
            return None
        chain, states = equilibrium.context, equilibrium.states
        untouched = len(states) == len(chain.states) and all(map(operator.is_, states, chain.states))
        return chain if untouched and self._same(x, chain) else None

    def _same(self, x: Array, chain: Chain) -> bool:
        return chain.connections is self._connections and np.array_equal(chain.x, x)

    def _drawn_masks(self, samples: int) -> Masks:
        """For each Dropout in training mode: 0 with probability `rate`, else 1 / (1 - rate)."""
        return {
            o.name: (self._random.random((samples, *o.in_shape)) >= o.rate) / (1 - o.rate)
            for coupling in self.network.couplings
            for o in coupling.operations
            if isinstance(o, Dropout) and self.network.dropout_rate(o) > 0
        }

    def _equilibrium(self, chain: Chain, course: Course, nudge: Nudge | None) -> Equilibrium:
        return Equilibrium(
            x=chain.x.copy(),
            states=tuple(chain.states),
            outputs=chain.outputs.copy(),
            steps=course.steps,
            residual=course.residual,
            tolerance=self._tolerance or CONVERGED,
            nudge=nudge,
            context=chain,
        )

    def _hold(self, parameters: Mapping[str, Array]) -> None:
        """Take parameters over. New connections are new objects: by them a phase knows whether it is out of date."""
        self._parameters = parameters
        self._connections = tuple(
            Connection(
                coupling,
                None if coupling.weighted is None else parameters[coupling.weighted.weight],
                None if coupling.weighted is None or not coupling.weighted.bias else parameters[coupling.weighted.bias],
            )
            for coupling in self.network.couplings
        )

    def _check_programmed(self) -> None:
        if not self._connections:
            raise InputError("the substrate holds no parameters yet: program the parameters first")


def _largest(outputs: Array) -> Array:
    """(batch,), max(1, |outputs|)."""
    largest: Array = np.maximum(1.0, np.abs(outputs).reshape(len(outputs), -1).max(1))
    return largest
