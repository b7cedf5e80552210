"""Nudging: which phases are run, and how their local statistics combine into a gradient.

With E_theta(s) the local statistic dE/dtheta and s_b the equilibrium of E + b C:

    OneSided     [E_theta(s_b) - E_theta(s_0)] / b                                    error O(b)
    RandomSign   the same with the sign of b drawn anew for each estimate             O(b), bias O(b^2) on average
    Centered     [E_theta(s_b) - E_theta(s_-b)] / 2b                                  error O(b^2)
    Holomorphic  (1 / N b) sum_k E_theta(s_{b w^k}) w^-k,  w = exp(2 pi i / N)        error O(b^N)

Sources: Scellier and Bengio 2017 (one-sided); Laborieux et al. 2021, eq. 9 (centered; random sign: section 3);
Laborieux and Zenke 2022, eq. 12 (holomorphic).
"""

from __future__ import annotations

import cmath
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from mep_neuro.errors import InputError, OptionError, did_you_mean

Terms: TypeAlias = tuple[tuple[complex, complex], ...]
"""(beta_k, weight_k): the gradient is sum_k weight_k dE/dtheta(s_{beta_k}); beta 0 is the free phase."""


@dataclass(frozen=True)
class OneSided:
    """Free phase against one nudged phase. The free equilibrium enters divided by beta, so it must have settled
    to well below beta: with early stopping choose a tolerance far smaller than beta."""

    negative = False
    complex = False

    def terms(self, beta: float, rng: np.random.Generator) -> Terms:
        """The phases of one estimate."""
        return ((beta, 1 / beta), (0.0, -1 / beta))


@dataclass(frozen=True)
class RandomSign:
    """One-sided, with the sign of beta drawn for each estimate."""

    negative = True
    complex = False

    def terms(self, beta: float, rng: np.random.Generator) -> Terms:
        """The phases of one estimate."""
        beta = beta if rng.random() < 0.5 else -beta
        return ((beta, 1 / beta), (0.0, -1 / beta))


@dataclass(frozen=True)
class Centered:
    """Nudged towards the target against nudged away from it."""

    negative = True
    complex = False

    def terms(self, beta: float, rng: np.random.Generator) -> Terms:
        """The phases of one estimate."""
        return ((beta, 1 / (2 * beta)), (-beta, -1 / (2 * beta)))


@dataclass(frozen=True)
class Holomorphic:
    """`points` nudges on a circle in the complex plane; needs a substrate with complex states."""

    points: int = 4

    negative = True
    complex = True

    def __post_init__(self) -> None:
        if self.points < 2:
            raise InputError(f"holomorphic nudging needs at least 2 points, not {self.points}")

    def terms(self, beta: float, rng: np.random.Generator) -> Terms:
        """The phases of one estimate."""
        turns = [cmath.exp(2j * cmath.pi * k / self.points) for k in range(self.points)]
        return tuple((beta * w, 1 / (self.points * beta * w)) for w in turns)


Nudging: TypeAlias = OneSided | RandomSign | Centered | Holomorphic

NUDGINGS: Mapping[str, Nudging] = {
    "centered": Centered(),
    "one_sided": OneSided(),
    "random_sign": RandomSign(),
    "holomorphic": Holomorphic(),
}


def nudging_of(nudging: Nudging | str) -> Nudging:
    """A nudging by value or by name. Raises `OptionError` with the nearest name."""
    if not isinstance(nudging, str):
        return nudging
    if nudging not in NUDGINGS:
        raise OptionError(f"no nudging {nudging!r}; there are: {', '.join(NUDGINGS)}.{did_you_mean(nudging, NUDGINGS)}")
    return NUDGINGS[nudging]
