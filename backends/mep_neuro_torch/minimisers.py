"""Block minimisers of one population, in closed form or by a fixed number of Newton steps, elementwise.

    respond      argmin_s G(s) - <s, drive>                                   = rho(drive), from mep_neuro.activations
    Pull         argmin_s G(s) - <s, drive> + beta C(s)                       Hopfield, nudged outputs
    prox         argmin_z 1/2 (z - mu)^2 + c/2 rho(z)^2 - q rho(z)            prediction error

A squared error is c = beta, q = beta y; a force f on the outputs is c = 0, q = beta f. None of them synchronises with
the host.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mep_neuro.activations import IDENTITY, Activation, ClippedLinear, Logistic, respond
from mep_neuro_torch.operations import repeated

NEWTON_STEPS = 6


def steepness(activation: Activation, drive: Tensor) -> tuple[Tensor, Tensor]:
    """rho'(drive) and rho''(drive) of a logistic activation."""
    assert isinstance(activation, Logistic)
    p = torch.sigmoid(activation.rate * drive)
    first = activation.rate * (activation.high - activation.low) * p * (1 - p)
    return first, activation.rate * first * (1 - 2 * p)


@dataclass(frozen=True)
class Pull:
    """The nudge on the output population, made ready once a phase.

    c, q:       of the quadratic form above; each (batch, *outputs) or broadcast to it.
    gain, push: of the closed form s = clip(gain drive + push) of a clipped linear activation.
    target:     of a cross-entropy, whose beta is c; None for the quadratic form.
    """

    activation: Activation
    c: Tensor
    q: Tensor
    gain: Tensor
    push: Tensor
    target: Tensor | None = None

    def minimum(self, drive: Tensor, s: Tensor) -> Tensor:
        """argmin_s G(s) - <s, drive> + beta C(s); `s` is where Newton starts."""
        if self.target is not None:
            return self._softmax(drive, s)
        if isinstance(self.activation, ClippedLinear):
            s = torch.addcmul(self.push, self.gain, drive)
            return s if self.activation.linear else s.clamp(self.activation.low, self.activation.high)
        goal, u = drive + self.q, drive
        for _ in range(NEWTON_STEPS):  # u + c rho(u) = drive + q, s = rho(u)
            first, _ = steepness(self.activation, u)
            u = u - (u + self.c * respond(self.activation, u) - goal) / (1 + self.c * first)
        return respond(self.activation, u)

    def shift(self, current: Tensor, anchor: Tensor, total: Tensor, old: Tensor) -> Tensor:
        """argmin_d 1/2 <total, d^2> - <current, d> + beta C(anchor + d), the resistive energy's; clip it to the range.

        current: left over at the anchor, with what the neighbours' shifts add. old: where Newton starts.
        """
        rows = self.c.size(0)
        anchor = repeated(anchor, rows)
        if self.target is not None:
            return self._softmax(repeated(current, rows), old, total, anchor)
        return (repeated(current, rows) + (self.q - self.c * anchor)) / (total + self.c)

    def prox(self, mu: Tensor, z: Tensor) -> Tensor:
        """argmin_z 1/2 |z - mu|^2 + beta C(rho(z)); `z` is where Newton starts."""
        return self._softmax(mu, z) if self.target is not None else prox(self.activation, mu, self.c, self.q, z)

    def _softmax(self, drive: Tensor, s: Tensor, total: Tensor | float = 1.0, anchor: Tensor | float = 0.0) -> Tensor:
        """Newton on t s - drive + beta (softmax(a + s) - y) = 0, with t `total` and a `anchor`; its Hessian, diagonal
        plus rank one, is inverted exactly."""
        assert self.target is not None
        s = repeated(s, drive.size(0))
        for _ in range(NEWTON_STEPS):
            p = torch.softmax(anchor + s, 1)
            diagonal = total + self.c * p
            g = (total * s - drive + self.c * (p - self.target)) / diagonal
            w = p / diagonal
            s = s - g - w * (self.c * (p * g).sum(1, keepdim=True)) / (1 - self.c * (p * w).sum(1, keepdim=True))
        return s


def prox(activation: Activation, mu: Tensor, c: Tensor | float, q: Tensor, z: Tensor) -> Tensor:
    """argmin_z 1/2 (z - mu)^2 + c/2 rho(z)^2 - q rho(z): the least of its regions' minima, or Newton from z."""
    if activation == IDENTITY:
        return (mu + q) / (1 + c)
    if not isinstance(activation, ClippedLinear):
        # from the old state, so that rest is a true minimum; damped, rho'' counting by its size, so that it descends
        for _ in range(NEWTON_STEPS):
            r = respond(activation, z)
            first, second = steepness(activation, z)
            pull = c * r - q
            z = z - (z - mu + pull * first) / (1 + c * first.square() + (pull * second).abs())
        return z
    a, b = activation.slope, activation.offset
    low, high = (activation.low - b) / a, (activation.high - b) / a
    best = ((mu + a * (q - c * b)) / (1 + c * a * a)).clamp(low, high)
    value = _objective(activation, best, mu, c, q)
    for edge, candidate in ((activation.low, mu.clamp(max=low)), (activation.high, mu.clamp(min=high))):
        if abs(edge) != float("inf"):
            other = 0.5 * (candidate - mu).square() + (0.5 * c * edge - q) * edge
            best, value = torch.where(other < value, candidate, best), torch.minimum(other, value)
    return best


def _objective(activation: Activation, z: Tensor, mu: Tensor, c: Tensor | float, q: Tensor) -> Tensor:
    r = respond(activation, z)
    return 0.5 * (z - mu).square() + (0.5 * c * r - q) * r
