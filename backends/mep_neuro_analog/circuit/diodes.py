"""Diodes: what keeps a node's voltage in its range, low .. high, and the voltage at which a node then rests.

A diode leads from a source at `low` to the node, and another one from the node to a source at `high`; an end that is
infinite has none. With the forward voltage u of a diode (low - v, or v - high) and the current i(u) through it, a node
with conductances of t in all rests where, with I what its neighbours would drive into it at 0 V,

    t v - I - i(low - v) + i(v - high) = 0,    the minimum of 1/2 t v^2 - I v + J(low - v) + J(v - high)

J(u) = int_0^u i is the diode's co-content (Millar 1951): convex, so that there is one minimum. A population's nodes are
not joined with each other, so they all find theirs at once. All is in V, A, S, float64.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar, final

import torch
from torch import Tensor

from mep_neuro_analog.circuit.numerics import omega
from mep_neuro_analog.specs import check_positive
from mep_neuro_analog.tiles import BOLTZMANN

CHARGE = 1.602176634e-19
"""C, exact in SI."""

MOST = 600.0
"""The largest exponent that is taken: e^600 is still finite, and no circuit at rest comes near it."""

POLISH = 100
"""Newton or bisection steps at most where a node has a diode at both ends; 2 or 3 are usual."""


@final
class Ends:
    """The range of a population's nodes, V, (1, units): where it ends, and on which side there is a diode."""

    def __init__(self, low: Tensor, high: Tensor) -> None:
        self.low, self.high = low, high
        self.below, self.above = torch.isfinite(low), torch.isfinite(high)
        self.middle = torch.where(self.below & self.above, (low + high) / 2, torch.where(self.below, high, low))
        """A node at rest above it is held by its upper diode, if by any: -inf where only that is there."""
        self.none = not bool((self.below | self.above).any())
        self.both = bool((self.below & self.above).any())


class Diode(abc.ABC):
    """A diode's law. Subclasses are final, frozen, and in SI units."""

    name: ClassVar[str]
    source: ClassVar[str]
    """Where its default figures are from."""

    @abc.abstractmethod
    def rest(self, current: Tensor, total: Tensor, ends: Ends) -> Tensor:
        """The voltages at which nodes rest, exactly, (batch, units). current: I, A; total: t > 0, S."""

    @abc.abstractmethod
    def through(self, u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """i(u), its slope di/du and the co-content J(u) of forward voltages u: A, S, W."""

    def injected(self, v: Tensor, ends: Ends) -> tuple[Tensor, Tensor]:
        """The current that both diodes of a node drive into it, and how fast it falls with v: A, S."""
        (up, rise, _), (down, fall, _) = self._both(v, ends)
        return up - down, rise + fall

    def left_over(self, into: Tensor, v: Tensor, ends: Ends) -> Tensor:
        """What is left of the currents that resistors drive into nodes once the diodes took their part, A."""
        return into if ends.none else into + self.injected(v, ends)[0]

    def co_content(self, v: Tensor, ends: Ends) -> Tensor:
        """J of both diodes of each node, W."""
        (_, _, low), (_, _, high) = self._both(v, ends)
        return low + high

    def heat(self, v: Tensor, ends: Ends) -> Tensor:
        """i(u) u of both diodes of each node, W."""
        if ends.none:
            return torch.zeros_like(v)
        (up, _, _), (down, _, _) = self._both(v, ends)
        from_low = torch.where(ends.below, up * (ends.low - v), 0.0)
        return from_low + torch.where(ends.above, down * (v - ends.high), 0.0)

    def _both(self, v: Tensor, ends: Ends) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """`through` of the lower and of the upper diode; zeros where there is none."""
        low, high = self.through(ends.low - v), self.through(v - ends.high)
        return (
            tuple(torch.where(ends.below, part, 0.0) for part in low),
            tuple(torch.where(ends.above, part, 0.0) for part in high),
        )


@final
@dataclass(frozen=True)
class IdealDiode(Diode):
    """No current backwards and no voltage forwards: v = clip(I / t, low, high)."""

    name: ClassVar[str] = "ideal"
    source: ClassVar[str] = "Scellier 2024, arXiv:2402.11674, section 2: inequality constraints"

    def rest(self, current: Tensor, total: Tensor, ends: Ends) -> Tensor:
        v = current / total
        return v if ends.none else torch.minimum(torch.maximum(v, ends.low), ends.high)

    def through(self, u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Zeros: forwards the current is whatever holds u at 0 (`left_over`), and takes no power."""
        nothing = torch.zeros_like(u)
        return nothing, nothing, nothing

    def left_over(self, into: Tensor, v: Tensor, ends: Ends) -> Tensor:
        held = torch.where(v <= ends.low, into.clamp_min(0.0), into)
        return torch.where(v >= ends.high, held.clamp_max(0.0), held)


@final
@dataclass(frozen=True)
class ShockleyDiode(Diode):
    """i = I_s (e^(u / n V_T) - 1),  V_T = k T / q,  J = I_s (n V_T (e^(u / n V_T) - 1) - u).

    With one diode the block's minimum is closed, by Wright's omega, w + ln w = z: for the lower one

        K = low + (I_s - I) / t,    w = omega( K / (n V_T) + ln(I_s / (n V_T t)) ),    low - v = K - n V_T w

    and mirrored for the upper one. With both, the closed form of the one that is nearer is where Newton's method
    starts, inside the bracket that the other's leakage leaves: at most I_s / t from there.

    saturation_current: I_s, A.
    ideality:           n.
    temperature:        T, K.

    Source: Shockley 1949, 10.1002/j.1538-7305.1949.tb03645.x; by Lambert's W: Banwell and Jayakumar 2000,
    10.1049/el:20000301.
    """

    saturation_current: float = 4.352e-9
    ideality: float = 1.906
    temperature: float = 300.15

    name: ClassVar[str] = "shockley"
    source: ClassVar[str] = (
        "IS and N of NXP's SPICE model of the 1N4148, read in a public copy of it; its series resistance of 0.65 ohm "
        "is left out. 27 C is SPICE's own temperature"
    )

    def __post_init__(self) -> None:
        for name in ("saturation_current", "ideality", "temperature"):
            check_positive(self, name)

    @property
    def slope_volts(self) -> float:
        """n V_T, V."""
        return self.ideality * BOLTZMANN * self.temperature / CHARGE

    def through(self, u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        n, s = self.slope_volts, self.saturation_current
        grown = torch.expm1((u / n).clamp_max(MOST))
        return s * grown, s / n * (grown + 1), s * (n * grown - u)

    def rest(self, current: Tensor, total: Tensor, ends: Ends) -> Tensor:
        v = current / total
        if ends.none:
            return v
        upper = v > ends.middle
        sign = torch.where(upper, -1.0, 1.0).to(v.dtype)  # of the mirror in which the nearer diode is the lower one
        end = sign * torch.where(upper, ends.high, ends.low)
        n, log = self.slope_volts, (self.saturation_current / (self.slope_volts * total)).log()
        k = end + self.saturation_current / total - sign * v
        w = omega(k / n + log)
        u = torch.where(w > 1, n * (w.log() - log), k - n * w)  # the same number; each where it keeps its digits
        held = end - u
        if ends.both:
            other = sign * torch.where(upper, ends.low, ends.high)
            held = self._polished(held, sign * current, total, end, other)
        return torch.where(torch.isfinite(end), sign * held, v)

    def _polished(self, v: Tensor, current: Tensor, total: Tensor, low: Tensor, high: Tensor) -> Tensor:
        """The root of t v - I - i(low - v) + i(v - high), which is increasing and <= 0 at v."""
        least, most = v, v + self.saturation_current / total
        fine = 4 * torch.finfo(v.dtype).eps
        for _ in range(POLISH):
            up, rise, _ = self.through(low - v)
            down, fall, _ = self.through(v - high)
            up, rise = torch.where(torch.isfinite(low), up, 0.0), torch.where(torch.isfinite(low), rise, 0.0)
            down, fall = torch.where(torch.isfinite(high), down, 0.0), torch.where(torch.isfinite(high), fall, 0.0)
            error = total * v - current - up + down
            least, most = torch.where(error < 0, v, least), torch.where(error < 0, most, v)
            step = v - error / (total + rise + fall)
            after = torch.where((step >= least) & (step <= most), step, (least + most) / 2)
            moved = (after - v).abs() > fine * (v.abs() + self.slope_volts)
            v = after
            if not bool((moved & torch.isfinite(low)).any()):
                break
        return v


@final
@dataclass(frozen=True)
class PiecewiseDiode(Diode):
    """i = max(u - V_0, 0) / R,  J = max(u - V_0, 0)^2 / 2R.

        v = I / t,  but  (I + (low - V_0) / R) / (t + 1 / R)  where I / t < low - V_0, and mirrored at the upper end

    threshold:     V_0, V.
    on_resistance: R, ohm.
    """

    threshold: float = 0.65
    on_resistance: float = 20.0

    name: ClassVar[str] = "piecewise"
    source: ClassVar[str] = (
        "the battery-plus-resistance model of a silicon diode in Sedra and Smith, Microelectronic Circuits, as quoted "
        "in lecture notes; the book not opened"
    )

    def __post_init__(self) -> None:
        check_positive(self, "threshold")
        check_positive(self, "on_resistance")

    def through(self, u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        over, on = (u - self.threshold).clamp_min(0.0), 1 / self.on_resistance
        return on * over, on * (over > 0).to(u.dtype), on / 2 * over.square()

    def rest(self, current: Tensor, total: Tensor, ends: Ends) -> Tensor:
        v = current / total
        if ends.none:
            return v
        on = 1 / self.on_resistance
        first, last = ends.low - self.threshold, ends.high + self.threshold
        held = torch.where(v < first, (current + on * first) / (total + on), v)
        return torch.where(v > last, (current + on * last) / (total + on), held)


DIODES: Mapping[str, type[Diode]] = MappingProxyType({d.name: d for d in (IdealDiode, ShockleyDiode, PiecewiseDiode)})
