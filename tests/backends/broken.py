"""Backends broken on purpose: one for each law of the protocol and of counts. See `broken_dynamics` for the others."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from wrapper import HELD, Wrapper

from mep_neuro.counts import OperationCounts
from mep_neuro.network import EnergyNetwork
from mep_neuro.types import Array, Equilibrium, Nudge, Parameters


class UnsoundCapabilities(Wrapper):
    breaks = "capabilities_are_sound"
    capabilities = dataclasses.replace(HELD, tolerance=0.0)


class ClosesOnce(Wrapper):
    breaks = "opens_and_closes"
    closed = False

    def close(self) -> None:
        if self.closed:
            raise AssertionError("closed twice")
        self.closed = True


class SwallowsOptions(Wrapper):
    breaks = "unknown_options_are_refused"

    def __init__(self, network: EnergyNetwork, *, seed: int = 0, **options: Any) -> None:
        super().__init__(network, seed=seed)


class MendsOptions(Wrapper):
    breaks = "senseless_options_are_refused"

    def __init__(self, network: EnergyNetwork, *, seed: int = 0, max_steps: int = 20) -> None:
        super().__init__(network, seed=seed, max_steps=max(1, max_steps))


class WeightsNotWritten(Wrapper):
    breaks = "reads_what_was_programmed"

    def program(self, parameters: Parameters) -> None:
        kept = [*self.read()][-1]
        self.inner.program({**parameters, kept: self.read()[kept]})


class FillsInWhatIsMissing(Wrapper):
    breaks = "programs_are_checked"

    def program(self, parameters: Parameters) -> None:
        self.inner.program({**self.read(), **parameters})


class WritesBeforeItChecks(Wrapper):
    breaks = "programs_are_checked"

    def program(self, parameters: Parameters) -> None:
        for name, value in parameters.items():
            if name in self.read() and value.shape == self.read()[name].shape:
                self.inner.program({**self.read(), name: value})
        self.inner.program(parameters)


class TakesSizesForConductances(Wrapper):
    breaks = "conductances_are_not_negative"

    def program(self, parameters: Parameters) -> None:
        positive = self.network.conductances
        self.inner.program({name: abs(value) if name in positive else value for name, value in parameters.items()})


class AppliesByOverwriting(Wrapper):
    breaks = "apply_adds"

    def apply(self, update: Parameters) -> None:
        self.inner.program({**self.read(), **update})


class SkipsUnknownUpdates(Wrapper):
    breaks = "updates_are_checked"

    def apply(self, update: Parameters) -> None:
        self.inner.apply({name: value for name, value in update.items() if name in self.read()})


class OnlyClaimsToShare(Wrapper):
    breaks = "shares_parameters_as_declared"
    capabilities = dataclasses.replace(HELD, shares_parameters=True)


class ProgramsOnce(Wrapper):
    breaks = "learners_bring_it_up_to_date"
    programmed = False

    def program(self, parameters: Parameters) -> None:
        if not self.programmed:
            self.inner.program(parameters)
        self.programmed = True


class LearnsFrozen(Wrapper):
    breaks = "frozen_parameters_get_nothing"

    def opened(self) -> None:
        self.inner.network.module.requires_grad_(True)


class ChangesInPlace(Wrapper):
    breaks = "arrays_stay_the_callers"

    def settle(self, x: Array, *, nudge: Nudge | None = None, start: Equilibrium | None = None) -> Equilibrium:
        return super().settle(x.clamp_(max=0.5), nudge=nudge, start=start)


class ReadsItsOwnMemory(Wrapper):
    breaks = "arrays_stay_the_callers"

    def read(self) -> Parameters:
        return {name: p.detach() for name, p in self.inner.network.parameters.items()}


class OneResidual(Wrapper):
    breaks = "equilibria_are_well_formed"

    def settle(self, x: Array, *, nudge: Nudge | None = None, start: Equilibrium | None = None) -> Equilibrium:
        e = super().settle(x, nudge=nudge, start=start)
        return dataclasses.replace(e, residual=e.residual.max())


class MendsNaN(Wrapper):
    breaks = "bad_numbers_are_refused"

    def settle(self, x: Array, *, nudge: Nudge | None = None, start: Equilibrium | None = None) -> Equilibrium:
        return super().settle(torch.nan_to_num(x, posinf=1.0), nudge=nudge, start=start)


class MixesUpPhases(Wrapper):
    breaks = "phases_may_settle_together"

    def settle_each(self, x: Array, nudges: Sequence[Nudge], start: Equilibrium) -> tuple[Equilibrium, ...]:
        return super().settle_each(x, nudges, start)[::-1]


class HiddenRandomness(Wrapper):
    breaks = "same_seed_same_numbers"

    def settle(self, x: Array, *, nudge: Nudge | None = None, start: Equilibrium | None = None) -> Equilibrium:
        noise = 1e-6 * np.random.default_rng().standard_normal()
        return self.moved(super().settle(x, nudge=nudge, start=start), lambda s, level: s + noise)


class SeedMatters(Wrapper):
    breaks = "any_seed_same_numbers"

    def settle(self, x: Array, *, nudge: Nudge | None = None, start: Equilibrium | None = None) -> Equilibrium:
        return self.moved(super().settle(x, nudge=nudge, start=start), lambda s, level: s * (1 + 1e-6 * self.seed))


class ForgetsCounts(Wrapper):
    breaks = "counts_never_fall"
    before = OperationCounts()

    def settle(self, x: Array, *, nudge: Nudge | None = None, start: Equilibrium | None = None) -> Equilibrium:
        self.before = self.inner.counts()
        return super().settle(x, nudge=nudge, start=start)

    def counts(self) -> OperationCounts:
        return self.inner.counts() - self.before


class SquaresCounts(Wrapper):
    breaks = "counts_add_up"

    def counts(self) -> OperationCounts:
        found = self.inner.counts()
        return OperationCounts(found.samples, {key: n * n for key, n in found.entries.items()})


class CountsBatches(Wrapper):
    breaks = "counts_grow_with_samples"
    batch = 1

    def settle(self, x: Array, *, nudge: Nudge | None = None, start: Equilibrium | None = None) -> Equilibrium:
        self.batch = len(x)
        return super().settle(x, nudge=nudge, start=start)

    def counts(self) -> OperationCounts:
        found = self.inner.counts()
        return OperationCounts(found.samples, {key: n // self.batch for key, n in found.entries.items()})


class CountsAllAsFree(Wrapper):
    breaks = "counts_know_their_phase"

    def counts(self) -> OperationCounts:
        found = self.inner.counts()
        return OperationCounts(found.samples, {("free", o): found.total(o) for _, o in found.entries})


class Recounts(Wrapper):
    """Counts the clamped coupling's product once more: in each free phase, each free iteration, each update."""

    each: str

    def opened(self) -> None:
        self.more = OperationCounts()

    def add(self, x: Tensor, phase: Any, times: int) -> None:
        self.more = self.more + OperationCounts(0, {(phase, "macs"): self.network.couplings[0].macs * len(x) * times})

    def settle(self, x: Array, *, nudge: Nudge | None = None, start: Equilibrium | None = None) -> Equilibrium:
        e = super().settle(x, nudge=nudge, start=start)
        if nudge is None and self.each != "update":
            self.add(x, "free", 1 if self.each == "phase" else e.steps)
        return e

    def contrast(self, terms: Sequence[tuple[complex, Equilibrium]]) -> Parameters:
        if self.each == "update":
            self.add(terms[0][1].x, "update", 1)
        return super().contrast(terms)

    def counts(self) -> OperationCounts:
        return self.inner.counts() + self.more


class RecountsTheForwardPass(Recounts):
    breaks = "forward_pass_is_a_hand_count"
    each = "phase"


class RecountsTheInput(Recounts):
    breaks = "iterations_are_a_hand_count"
    each = "iteration"


class RecountsTheUpdate(Recounts):
    breaks = "updates_are_a_hand_count"
    each = "update"
