"""Backends broken on purpose: one for each law of dynamics and learning. See `broken` for the others."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from wrapper import Wrapper

from mep_neuro.errors import SettlingError
from mep_neuro.types import Array, Equilibrium, Nudge, Parameters


class ShrinksTheInput(Wrapper):
    breaks = "free_phase_is_stationary"

    def settle(self, x: Array, *, nudge: Nudge | None = None, start: Equilibrium | None = None) -> Equilibrium:
        return dataclasses.replace(super().settle(0.99 * x, nudge=nudge, start=start), x=x, context=None)


class NudgesTwice(Wrapper):
    breaks = "nudged_phase_is_stationary"

    def settle(self, x: Array, *, nudge: Nudge | None = None, start: Equilibrium | None = None) -> Equilibrium:
        return self.settle_with(x, nudge, start, beta=0 if nudge is None else 2 * nudge.beta)


class ForcesTwice(Wrapper):
    breaks = "forced_phase_is_stationary"
    factor = 2.0

    def settle(self, x: Array, *, nudge: Nudge | None = None, start: Equilibrium | None = None) -> Equilibrium:
        force = None if nudge is None or nudge.force is None else self.factor * nudge.force
        return self.settle_with(x, nudge, start, force=force)


class ForcesBackwards(ForcesTwice):
    breaks = "forces_have_their_gradient"
    factor = -1.0


class ScalesTheOutputs(Wrapper):
    breaks = "outputs_follow_the_states"

    def settle(self, x: Array, *, nudge: Nudge | None = None, start: Equilibrium | None = None) -> Equilibrium:
        e = super().settle(x, nudge=nudge, start=start)
        return dataclasses.replace(e, outputs=1.01 * e.outputs)


class LeavesTheRange(Wrapper):
    breaks = "outputs_follow_the_states"

    def settle(self, x: Array, *, nudge: Nudge | None = None, start: Equilibrium | None = None) -> Equilibrium:
        return self.moved(super().settle(x, nudge=nudge, start=start), lambda s, level: 1.2 * s - 0.1)


class EnergyRises(Wrapper):
    breaks = "energy_never_rises"

    usual_solver = "synchronous"


class StepsByBatch(Wrapper):
    """The ancestor's fault: each state gets 1 / batch of its way."""

    breaks = "batches_may_be_cut"

    def settle(self, x: Array, *, nudge: Nudge | None = None, start: Equilibrium | None = None) -> Equilibrium:
        e = super().settle(x, nudge=nudge, start=start)
        return self.moved(
            e, lambda s, level: s / len(x) + (1 - 1 / len(x)) * (0 if start is None else start.states[level])
        )


class MixesSamples(Wrapper):
    breaks = "batches_may_be_cut"

    def settle(self, x: Array, *, nudge: Nudge | None = None, start: Equilibrium | None = None) -> Equilibrium:
        e = super().settle(x, nudge=nudge, start=start)
        return self.moved(e, lambda s, level: 0.99 * s + 0.01 * s.mean(0, keepdim=True))


class ClingsToTheStart(Wrapper):
    breaks = "start_is_forgotten"

    def settle(self, x: Array, *, nudge: Nudge | None = None, start: Equilibrium | None = None) -> Equilibrium:
        e = super().settle(x, nudge=nudge, start=start)
        return e if start is None else self.moved(e, lambda s, level: 0.99 * s + 0.01 * start.states[level])


class DriftsWhenNudged(Wrapper):
    breaks = "no_nudge_moves_nothing"

    def settle(self, x: Array, *, nudge: Nudge | None = None, start: Equilibrium | None = None) -> Equilibrium:
        e = super().settle(x, nudge=nudge, start=start)
        return e if nudge is None else self.moved(e, lambda s, level: s + 0.01)


class WrongSign(Wrapper):
    breaks = "cost_falls_along_the_nudge"

    def settle(self, x: Array, *, nudge: Nudge | None = None, start: Equilibrium | None = None) -> Equilibrium:
        return self.settle_with(x, nudge, start, beta=0 if nudge is None else -nudge.beta)


class RedrawsMasks(Wrapper):
    breaks = "masks_are_held"

    def settle(self, x: Array, *, nudge: Nudge | None = None, start: Equilibrium | None = None) -> Equilibrium:
        start = None if start is None else dataclasses.replace(start, context=None)
        return super().settle(x, nudge=nudge, start=start)


class HidesNaN(Wrapper):
    breaks = "running_away_is_an_error"

    def settle(self, x: Array, *, nudge: Nudge | None = None, start: Equilibrium | None = None) -> Equilibrium:
        try:
            return super().settle(x, nudge=nudge, start=start)
        except SettlingError:
            states = tuple(torch.full((len(x), *p.shape), torch.nan).double() for p in self.network.populations)
            return Equilibrium(x, states, states[-1], 1, torch.ones(len(x)).double(), 1e-3, nudge)


class ClaimsToRest(Wrapper):
    breaks = "unrest_is_reported"

    def settle(self, x: Array, *, nudge: Nudge | None = None, start: Equilibrium | None = None) -> Equilibrium:
        e = super().settle(x, nudge=nudge, start=start)
        return dataclasses.replace(e, residual=0 * e.residual)


class DoublesBiases(Wrapper):
    breaks = "contrast_is_the_energys_own"

    def contrast(self, terms: Sequence[tuple[complex, Equilibrium]]) -> Parameters:
        return {name: g * (2 if name.endswith("bias") else 1) for name, g in super().contrast(terms).items()}


class StopsHalfWay(Wrapper):
    breaks = "contrast_is_exact_at_any_beta"

    def settle(self, x: Array, *, nudge: Nudge | None = None, start: Equilibrium | None = None) -> Equilibrium:
        e = super().settle(x, nudge=nudge, start=start)
        if nudge is None or start is None:
            return e
        return self.moved(e, lambda s, level: start.states[level] + 0.99 * (s - start.states[level]))


class HasALeastNudge(Wrapper):
    breaks = "one_sided_error_is_of_order_one"

    def settle(self, x: Array, *, nudge: Nudge | None = None, start: Equilibrium | None = None) -> Equilibrium:
        beta = 0 if nudge is None else nudge.beta if isinstance(nudge.beta, complex) else max(nudge.beta, 0.03)
        return self.settle_with(x, nudge, start, beta=beta)


class PushesLessThanItPulls(Wrapper):
    breaks = "centered_error_is_of_order_two"

    def settle(self, x: Array, *, nudge: Nudge | None = None, start: Equilibrium | None = None) -> Equilibrium:
        beta = 0 if nudge is None else nudge.beta
        if not isinstance(beta, complex):
            beta *= 0.5 if beta < 0 else 1.5
        return self.settle_with(x, nudge, start, beta=beta)


class DropsTheImaginary(Wrapper):
    breaks = "holomorphic_error_is_of_order_four"

    def settle(self, x: Array, *, nudge: Nudge | None = None, start: Equilibrium | None = None) -> Equilibrium:
        beta = 0 if nudge is None else nudge.beta
        return self.settle_with(x, nudge, start, beta=complex(beta.real) if isinstance(beta, complex) else beta)


class KnowsOneCost(Wrapper):
    breaks = "gradient_is_close_to_the_exact_one"

    def settle(self, x: Array, *, nudge: Nudge | None = None, start: Equilibrium | None = None) -> Equilibrium:
        return self.settle_with(x, nudge, start, cost="squared_error")


class NonLocal(Wrapper):
    breaks = "synapses_are_local"

    def contrast(self, terms: Sequence[tuple[complex, Equilibrium]]) -> Parameters:
        told = sum(w * e.states[-1].mean() for w, e in terms)
        return {name: g + 0.01 * told for name, g in super().contrast(terms).items()}


class Decays(Wrapper):
    breaks = "no_error_no_update"

    def contrast(self, terms: Sequence[tuple[complex, Equilibrium]]) -> Parameters:
        return {name: g - 0.01 * self.read()[name] for name, g in super().contrast(terms).items()}


class FirstIsPositive(Wrapper):
    breaks = "phases_may_come_in_any_order"

    def contrast(self, terms: Sequence[tuple[complex, Equilibrium]]) -> Parameters:
        if len(terms) == 2:
            terms = [(w, e) for w, (_, e) in zip((abs(terms[0][0]), -abs(terms[0][0])), terms, strict=True)]
        return super().contrast(terms)


class BalancesWeights(Wrapper):
    breaks = "weights_must_cancel"

    def contrast(self, terms: Sequence[tuple[complex, Equilibrium]]) -> Parameters:
        *first, (_, last) = terms
        return super().contrast([*first, (-sum(w for w, _ in first), last)])


class DividesByTheBatchTwice(Wrapper):
    breaks = "gradients_are_batch_means"

    def contrast(self, terms: Sequence[tuple[complex, Equilibrium]]) -> Parameters:
        return {name: g / len(terms[0][1].x) for name, g in super().contrast(terms).items()}


class AbsoluteTolerance(Wrapper):
    """Stops a nudged phase once no state changes by more than the tolerance, however small the nudge."""

    breaks = "stopping_is_relative_to_the_nudge"

    def opened(self) -> None:
        self.step = Wrapper(self.network, max_steps=1)

    def settle(self, x: Array, *, nudge: Nudge | None = None, start: Equilibrium | None = None) -> Equilibrium:
        if nudge is None or start is None:
            return super().settle(x, nudge=nudge, start=start)
        self.step.program(self.read())
        e = start
        for _ in range(500):
            after = self.step.settle(x, nudge=nudge, start=dataclasses.replace(e, context=None))
            change = max(float((a - b).abs().max()) for a, b in zip(after.states, e.states, strict=True))
            e = after
            if change <= (self.tolerance or 1e-10):
                break
        return dataclasses.replace(e, context=None)


class LearnsNothing(Wrapper):
    breaks = "resident_learning_lowers_the_cost"

    def learn(self, x: Array, target: Array, *, rate: float, beta: float) -> None:
        pass


class LearnsBackwards(Wrapper):
    breaks = "digits_are_learnt"

    def contrast(self, terms: Sequence[tuple[complex, Equilibrium]]) -> Parameters:
        return {name: -g for name, g in super().contrast(terms).items()}
