"""Exact minima of one population's share of F = E + beta C, with its neighbours held.

    hopfield           argmin_s  G(s) - <s, d> + P(s)             d: the drive
    prediction_error   argmin_z  1/2 |z - m|^2 + P(rho(z))        m: what the population below predicts
    resistive          argmin_v  1/2 <t, v^2> - <I, v> + P(v)      t: sums of conductances, I: the neighbours' current

    P(r) = c/2 |r|^2 - <g, r> + w log sum_i exp(r_i)

P is what pulls on the population's activity r. On the outputs it is beta C but for a constant: squared error
c = beta, g = beta y; cross entropy g = beta y, w = beta; a force g = beta f. Below, in `prediction_error`, it bounds
the error of the next prediction. Shapes: (batch, *population).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np

from mep_neuro.activations import Activation, ClippedLinear, Logistic, Rectifiers
from mep_neuro.types import Nudge
from mep_neuro_reference.operations import Array

NEWTON_STEPS = 100
HALVINGS = 30
EPS = float(np.finfo(np.float64).eps)


@final
@dataclass(frozen=True)
class Pull:
    """P(r) = c/2 |r|^2 - <g, r> + w log sum_i exp(r_i): c `stiffness`, g `force`, w `softmax`."""

    stiffness: complex
    force: Array
    softmax: complex = 0.0

    @classmethod
    def of(cls, nudge: Nudge) -> Pull:
        """beta C, but for a constant, as a function of the outputs."""
        beta = nudge.beta
        if nudge.force is not None:
            return cls(0.0, beta * nudge.force)
        if nudge.target is None:
            raise TypeError("a nudge without target and force")
        if nudge.cost == "squared_error":
            return cls(beta, beta * nudge.target)
        return cls(0.0, beta * nudge.target, beta)

    def gradient(self, r: Array) -> Array:
        """dP/dr = c r - g + w softmax(r)."""
        linear: Array = self.stiffness * r - self.force
        return linear + self.softmax * softmax(r) if self.softmax else linear


def rho(activation: Activation, drive: Array) -> Array:
    """s = rho(drive); complex drives where rho extends to them."""
    if isinstance(activation, Logistic):
        return activation.low + (activation.high - activation.low) * (1 + np.tanh(activation.rate * drive / 2)) / 2
    if isinstance(activation, Rectifiers):
        half = (drive.shape[1] + 1) // 2
        return np.concatenate([np.maximum(drive[:, :half], 0.0), np.minimum(drive[:, half:], 0.0)], 1)
    s = activation.slope * drive + activation.offset
    return s if activation.linear else np.clip(s, activation.low, activation.high)


def rho_slope(activation: Activation, drive: Array) -> Array:
    """rho'(drive); 0 at a clipped line's corners and beyond them."""
    if isinstance(activation, Logistic):
        return _slopes(activation, drive)[0]
    if isinstance(activation, Rectifiers):
        conducts: Array = (rho(activation, drive) != 0).astype(np.float64)
        return conducts
    s = activation.slope * drive + activation.offset
    return activation.slope * ((activation.low < s) & (s < activation.high))


def softmax(r: Array) -> Array:
    """exp(r_i) / sum_j exp(r_j) along the one axis of a population."""
    e: Array = np.exp(r - r.real.max(1, keepdims=True))
    p: Array = e / e.sum(1, keepdims=True)
    return p


def hopfield_minimum(activation: Activation, drive: Array, pull: Pull | None) -> Array:
    """argmin_s G(s) - <s, drive> + P(s). Unique while P bends down less than G bends up."""
    if pull is None:
        return rho(activation, drive)
    if isinstance(activation, ClippedLinear) and not pull.softmax:
        # (s - offset) / slope - drive + c s - g = 0; in one dimension the bounds clip a convex function's minimum
        s = (activation.slope * (drive + pull.force) + activation.offset) / (1 + activation.slope * pull.stiffness)
        return s if activation.linear else np.clip(s, activation.low, activation.high)
    return rho(activation, _pulled_drive(activation, drive, pull))


def resistive_minimum(activation: Activation, current: Array, total: Array, pull: Pull | None) -> Array:
    """argmin_v 1/2 <total, v^2> - <current, v> + P(v) within the diodes' range. total: (units,)."""
    if pull is None:
        return rho(activation, current / total)
    if pull.softmax:  # the outputs are logits, and no diode holds them
        return _pulled_drive(activation, current, pull, total)
    return rho(activation, (current + pull.force) / (total + pull.stiffness))


def prediction_minimum(activation: Activation, mean: Array, pull: Pull | None, old: Array) -> Array:
    """argmin_z 1/2 |z - mean|^2 + P(rho(z)); of a logistic rho, the local minimum downhill from `old`."""
    if pull is None:
        return mean
    if pull.softmax:  # the outputs are logits, rho the identity: the minimum of `hopfield`
        return _pulled_drive(activation, mean, pull)
    if isinstance(activation, Logistic):
        return _downhill(activation, mean, pull, old)
    if isinstance(activation, Rectifiers):
        raise TypeError("diodes are for the resistive energy")
    k, offset = activation.slope, activation.offset
    first, last = (activation.low - offset) / k, (activation.high - offset) / k  # between them rho is a line
    best = np.clip((mean + k * (pull.force - pull.stiffness * offset)) / (1 + k**2 * pull.stiffness), first, last)
    if np.isfinite(first):
        best = _lower(activation, mean, pull, best, np.minimum(mean, first))
    if np.isfinite(last):
        best = _lower(activation, mean, pull, best, np.maximum(mean, last))
    return best


def _value(activation: Activation, mean: Array, pull: Pull, z: Array) -> Array:
    """1/2 (z - mean)^2 + P(rho(z)) of each unit, where P has no softmax."""
    r = rho(activation, z)
    value: Array = (z - mean) ** 2 / 2 + pull.stiffness * r**2 / 2 - pull.force * r
    return value


def _lower(activation: Activation, mean: Array, pull: Pull, one: Array, other: Array) -> Array:
    better = _value(activation, mean, pull, other) < _value(activation, mean, pull, one)
    return np.where(better, other, one)


def _pulled_drive(activation: Activation, drive: Array, pull: Pull, total: Array | float = 1.0) -> Array:
    """a with t a + P'(rho(a)) = drive, by Newton's method from a = drive / t; a step is halved until |excess| falls.

    Units are on their own, but under a softmax, where all of a sample's move together. Complex drives too.
    """

    def excess(a: Array) -> Array:
        return total * a - drive + pull.gradient(rho(activation, a))

    def size(h: Array) -> Array:
        return np.abs(h) if not pull.softmax else np.linalg.norm(h, axis=1, keepdims=True)

    a = drive / total
    h = excess(a)
    for _ in range(NEWTON_STEPS):
        step, share = _newton_step(activation, a, h, pull, total), np.ones(size(h).shape)
        if _rounding(step, a):
            break
        for _ in range(HALVINGS):
            trial = a - share * step
            left = excess(trial)
            better = size(left) < size(h)
            if better.all():
                break
            share = np.where(better, share, share / 2)
        if not better.any():
            break
        a, h = np.where(better, trial, a), np.where(better, left, h)
    return a


def _newton_step(activation: Activation, a: Array, h: Array, pull: Pull, total: Array | float) -> Array:
    """J^-1 h with J = t + P''(rho(a)) rho'(a); P'' is c, or w (diag p - p p^T) under a softmax p, where rho' = 1."""
    if not pull.softmax:
        step: Array = h / (total + pull.stiffness * _slopes(activation, a)[0])
        return step
    p, one = softmax(a), np.eye(a.shape[1])
    bend = p[:, :, None] * one - p[:, :, None] * p[:, None, :]
    return np.linalg.solve(total * one + pull.softmax * bend, h[:, :, None])[:, :, 0]


def _slopes(activation: Activation, a: Array) -> tuple[Array, Array]:
    """rho'(a) and rho''(a)."""
    if not isinstance(activation, Logistic):
        raise TypeError("a clipped line has closed forms")
    p = (1 + np.tanh(activation.rate * a / 2)) / 2
    first = activation.rate * (activation.high - activation.low) * p * (1 - p)
    return first, activation.rate * first * (1 - 2 * p)


def _downhill(activation: Logistic, mean: Array, pull: Pull, z: Array) -> Array:
    """argmin_z 1/2 (z - mean)^2 + P(rho(z)) of each unit, by Newton steps that are halved until the value falls.

    Where the value bends down, P'' is left out of the step, which then still leads downhill.
    """
    c = float(np.real(pull.stiffness))
    for _ in range(NEWTON_STEPS):
        r, (first, second) = rho(activation, z), _slopes(activation, z)
        force = pull.gradient(r)
        bend = 1 + c * first**2 + force * second
        step = (z - mean + force * first) / np.where(bend > 0, bend, 1 + max(c, 0.0) * first**2)
        value, share = _value(activation, mean, pull, z), np.ones(z.shape)
        rounding = 8 * EPS * ((z - mean) ** 2 + np.abs(c) * r**2 + np.abs(pull.force * r))
        for _ in range(HALVINGS):
            trial = z - share * step
            worse = _value(activation, mean, pull, trial) > value + rounding
            if not worse.any():
                break
            share = np.where(worse, share / 2, share)
        z = np.where(worse, z, trial)
        if _rounding(step, z):
            break
    return z


def _rounding(step: Array, of: Array) -> bool:
    """Whether a step is no more than rounding everywhere."""
    return bool((np.abs(step) <= 4 * EPS * np.maximum(1, np.abs(of))).all())
