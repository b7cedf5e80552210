"""The prediction-error energy on tensors: a block's minimum by majorising the error above it.

With c >= |f_{l+1}|^2, e = s_{l+1} - f_{l+1}(r_0) and v = r_0 + f_{l+1}^T(e) / c,

    1/2 |s_{l+1} - f_{l+1}(r)|^2 <= const + c/2 |r - v|^2        with equality at r = r_0,

so that the minimum of 1/2 |s - mu_l|^2 + c/2 |rho(s) - v|^2, which separates into units and has a closed form, never
raises E. c comes from power iteration; a sample whose energy would rise all the same keeps its state.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor

from mep_neuro.activations import respond, slope
from mep_neuro.couplings import Coupling, Dropout
from mep_neuro.network import EnergyNetwork
from mep_neuro_torch.minimisers import prox
from mep_neuro_torch.operations import Weights, adjoint, forward, repeated
from mep_neuro_torch.relaxation import Blocks, Phase, Relaxation

POWER_STEPS = 12
MARGIN = 1.1
ROUNDING = 8


def squared_norm(coupling: Coupling, weights: Weights, like: Tensor) -> Tensor:
    """|f|^2, its largest squared singular value, from below by power iteration and widened by a margin."""
    generator = torch.Generator(device="cpu").manual_seed(0)
    v = torch.randn(1, *coupling.in_shape, generator=generator, dtype=like.dtype).to(like.device)
    for _ in range(POWER_STEPS):
        v = v / torch.linalg.vector_norm(v).clamp_min(torch.finfo(v.dtype).tiny)
        product = forward(coupling, v, weights, {}, bias=False)
        v = adjoint(coupling, product, weights, {})
    widened = 1.0
    for o in coupling.operations:  # a mask multiplies by at most 1 / (1 - rate)
        widened *= 1 / (1 - o.rate) ** 2 if isinstance(o, Dropout) else 1.0
    floor = torch.finfo(v.dtype).eps
    bound: Tensor = torch.linalg.vector_norm(v) * (MARGIN * widened)
    return bound.clamp_min(floor)


@final
class PredictionError(Blocks):
    """E = sum_l 1/2 |s_l - f_l(r_{l-1}) - b_l|^2, r_l = rho_l(s_l)."""

    needs_bounds = True
    free_is_forward = True

    def __init__(self, network: EnergyNetwork) -> None:
        self.network = network

    def rest(self, phase: Phase) -> Relaxation:
        states = [phase.clamped]
        for level in range(len(self.network.populations) - 1):
            states.append(self.predict(level, states[level], phase))
        return PredictionErrorRelaxation(self, states, states, phase)

    def resume(self, states: Sequence[Tensor], phase: Phase) -> Relaxation:
        predicted = [self.predict(level, s, phase) for level, s in enumerate(states[:-1])]
        return PredictionErrorRelaxation(self, states, [phase.clamped, *predicted], phase)

    def outputs(self, states: Sequence[Tensor]) -> Tensor:
        return respond(self.network.outputs.activation, states[-1])

    def predict(self, level: int, s: Tensor, phase: Phase) -> Tensor:
        """mu_{l+1} = f_{l+1}(rho_l(s_l)) + b_{l+1}."""
        r = respond(self.network.populations[level].activation, s)
        return forward(self.network.couplings[level + 1], r, phase.weights[level + 1], phase.masks)


@final
class PredictionErrorRelaxation(Relaxation):
    """Drives s_l, with the predictions mu_l that come from below kept up to date."""

    def __init__(
        self, energy: PredictionError, states: Sequence[Tensor], predicted: Sequence[Tensor], phase: Phase
    ) -> None:
        self._energy, self._phase = energy, phase
        self.states, self._predicted = list(states), list(predicted)
        self._pending: tuple[Tensor, Tensor] | None = None
        self._errors: list[Tensor] | None = None  # as they were passed; s - mu has lost digits where they are small
        self.products = Counter()

    def minimum(self, level: int) -> Tensor:
        network, phase, s, mu = self._energy.network, self._phase, self.states[level], self._predicted[level]
        if level == len(self.states) - 1:
            return mu if phase.pull is None else phase.pull.prox(mu, s)
        activation = network.populations[level].activation
        coupling, weights, c = network.couplings[level + 1], phase.weights[level + 1], phase.bounds[level + 1]
        above, error = self.states[level + 1], self.states[level + 1] - self._predicted[level + 1]
        q = c * respond(activation, s) + adjoint(coupling, error, weights, phase.masks)
        best = prox(activation, mu, c, q, s)
        predicted = self._energy.predict(level, best, phase)
        self.products[level + 1, True, s.size(0)] += 1
        self.products[level + 1, False, s.size(0)] += 1
        before, after = _squares(s - mu, error), _squares(best - mu, above - predicted)
        # near rest the two agree to rounding, which grows with the states, and rounding must not stop the descent
        slack = ROUNDING * torch.finfo(before.dtype).eps * (before + (before * _squares(s, above)).sqrt())
        better = after <= before + slack
        best = torch.where(_like(better, best), best, s)
        predicted = torch.where(_like(better, predicted), predicted, self._predicted[level + 1])
        self._pending = (best, predicted)
        return best

    def put(self, level: int, s: Tensor) -> None:
        self.states[level], self._errors = s, None
        if level == len(self.states) - 1:
            return
        if self._pending is not None and self._pending[0] is s:
            self._predicted[level + 1] = self._pending[1]
        else:
            self._predicted[level + 1] = self._energy.predict(level, s, self._phase)
            self.products[level + 1, False, s.size(0)] += 1

    def pass_errors(self) -> None:
        levels, phase = self._energy.network.populations, self._phase
        errors = [self.minimum(len(levels) - 1) - self._predicted[-1]]
        for level in range(len(levels) - 2, -1, -1):
            above = adjoint(self._energy.network.couplings[level + 1], errors[0], phase.weights[level + 1], phase.masks)
            errors.insert(0, slope(levels[level].activation, self.states[level]) * above)
            self.products[level + 1, True, above.size(0)] += 1
        for level, error in enumerate(errors):
            self.put(level, self._predicted[level] + error)
        self._errors = errors

    def again(self, phase: Phase, rows: int) -> Relaxation:
        states, predicted = ([repeated(t, rows) for t in ts] for ts in (self.states, self._predicted))
        return PredictionErrorRelaxation(self._energy, states, predicted, phase)

    def local(self) -> tuple[list[Tensor], list[Tensor]]:
        errors = self._errors or [s - mu for s, mu in zip(self.states, self._predicted, strict=True)]
        populations = self._energy.network.populations
        return errors, [respond(p.activation, s) for p, s in zip(populations[:-1], self.states[:-1], strict=True)]


def _squares(own: Tensor, above: Tensor) -> Tensor:
    """|own|^2 + |above|^2, (batch,): of errors, twice the part of E that a block takes part in."""
    return own.square().flatten(1).sum(1) + above.square().flatten(1).sum(1)


def _like(flags: Tensor, s: Tensor) -> Tensor:
    return flags.view(-1, *[1] * (s.dim() - 1))
