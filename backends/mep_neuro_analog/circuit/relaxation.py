"""Relaxation: the nodes of a circuit come to rest by exact block coordinate descent on the co-content.

    F(v) = sum_l [ 1/2 sum_ij G_ij (v_i - u_j)^2 - <I_l, v_l> + J(v_l) ] + nudge,    v = v_l, u = v_{l-1}, u = sources

With all other populations held, each node of one is alone in 1/2 t v^2 - I v + J, whose minimum `Diode.rest` gives,
with t the sum of conductances at the node and I = G_l u + I_l + G_{l+1}^T v_{l+1}. A nudge by a squared error is a
conductance to a source at the target, a force is a current. Populations are set in even/odd sweeps, so F never rises.
A sweep is the solver's work, not the circuit's. All is in V, A, S, float64. Source: Scellier 2024, arXiv:2402.11674.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from mep_neuro.energies import dissipation
from mep_neuro.errors import InputError
from mep_neuro.settling import GROWTH, RUNAWAY, runs_away
from mep_neuro_analog.circuit.diodes import Diode, Ends


@final
@dataclass(frozen=True)
class Resistors:
    """What all conductances of a circuit are at one moment.

    weights:  G_l, (units, units below), S.
    currents: injected, I_l, A; None: none.
    totals:   the sum of conductances at each node, (units,) for each population, S.
    ends:     the populations' ranges.
    diode:    what holds them there.
    """

    weights: Sequence[Tensor]
    currents: Sequence[Tensor | None]
    totals: Sequence[Tensor]
    ends: Sequence[Ends]
    diode: Diode

    @classmethod
    def of(
        cls, weights: Sequence[Tensor], currents: Sequence[Tensor | None], ends: Sequence[Ends], diode: Diode
    ) -> Resistors:
        """Raises `InputError` for a node that no conductance leads to."""
        totals = [g.sum(1) for g in weights]
        for total, above in zip(totals, weights[1:], strict=False):
            total += above.sum(0)
        for level, total in enumerate(totals, 1):
            if float(total.min()) <= 0:
                raise InputError(
                    f"node {int(total.argmin())} of population {level} has no conductance above 0 to any other: "
                    "nothing says where it rests"
                )
        return cls(weights, currents, totals, ends, diode)

    def into_first(self, sources: Tensor) -> Tensor:
        """What sources (batch, inputs) would drive into population 1 at 0 V, with its own current, A."""
        return _with(sources @ self.weights[0].T, self.currents[0])


@final
@dataclass(frozen=True)
class Pull:
    """The nudge at the outputs: a conductance (S, below 0 to push away), and a current into them at 0 V (A)."""

    conductance: float
    current: Tensor

    def into(self, outputs: Tensor) -> Tensor:
        """The current that it drives into outputs at some voltage, A."""
        return self.current - self.conductance * outputs


@final
class Chain:
    """The voltages v_1 .. v_L of one batch in one phase.

    sources: of the input, (batch, inputs), V.
    clamped: `into_first` of them, if it is known.
    """

    def __init__(self, circuit: Resistors, sources: Tensor, clamped: Tensor | None = None) -> None:
        self.circuit, self.sources = circuit, sources
        self.clamped = circuit.into_first(sources) if clamped is None else clamped
        self.volts: list[Tensor] = []
        self.pull: Pull | None = None

    def forward_pass(self) -> None:
        """Set the voltages by one pass from the sources up, each population as if those above it were at 0 V."""
        self.volts = []
        for level, (total, ends) in enumerate(zip(self.circuit.totals, self.circuit.ends, strict=True)):
            self.volts.append(self.circuit.diode.rest(self._below(level), total, ends))

    def sweep(self, *, measure: bool) -> Tensor | None:
        """Set every population once, from the outputs' parity on; the largest change of each sample (V), if asked."""
        top, largest = len(self.volts) - 1, None
        for first in (top % 2, 1 - top % 2):
            for level in range(first, top + 1, 2):
                v = self._rest(level)
                if measure:
                    change = (v - self.volts[level]).abs().amax(1)
                    largest = change if largest is None else torch.maximum(largest, change)
                self.volts[level] = v
        return largest

    def left_over(self) -> list[Tensor]:
        """The current into each node that nothing carries away, A: 0 at rest, by Kirchhoff's current law."""
        found = []
        for level, (v, total, ends) in enumerate(zip(self.volts, self.circuit.totals, self.circuit.ends, strict=True)):
            into = self._into(level) - total * v
            if self.pull is not None and level == len(self.volts) - 1:
                into = into + self.pull.into(v)
            found.append(self.circuit.diode.left_over(into, v, ends))
        return found

    def power(self) -> Tensor:
        """What resistors and diodes turn into heat, sum_ij G_ij (v_i - u_j)^2 + sum i u, (batch,), W.

        What the nudge's own conductance takes is the periphery's, and not in it.
        """
        circuit, u = self.circuit, self.sources
        total = torch.zeros(len(u), dtype=u.dtype, device=u.device)
        for level, (v, g, ends) in enumerate(zip(self.volts, circuit.weights, circuit.ends, strict=True)):
            if level == 0:  # what the sources drive in is known: one large product less
                through = self.clamped if circuit.currents[0] is None else self.clamped - circuit.currents[0]
                total = u.square() @ g.sum(0) + v.square() @ g.sum(1) - 2 * (v * through).sum(1)
            else:
                total = total + dissipation(self.volts[level - 1], v, g)
            if not ends.none:
                total = total + circuit.diode.heat(v, ends).sum(1)
        return total

    def _rest(self, level: int) -> Tensor:
        circuit, current, total = self.circuit, self._into(level), self.circuit.totals[level]
        if self.pull is not None and level == len(self.volts) - 1:
            current, total = current + self.pull.current, total + self.pull.conductance
        return circuit.diode.rest(current, total, circuit.ends[level])

    def _into(self, level: int) -> Tensor:
        """I: what all neighbours would drive into a population at 0 V."""
        current = self._below(level)
        if level + 1 < len(self.volts):
            current = torch.addmm(current, self.volts[level + 1], self.circuit.weights[level + 1])
        return current

    def _below(self, level: int) -> Tensor:
        if level == 0:
            return self.clamped
        return _with(self.volts[level - 1] @ self.circuit.weights[level].T, self.circuit.currents[level])


def relax(chain: Chain, scale: Tensor, steps: tuple[int, int], tolerance: float | None) -> tuple[int, Tensor]:
    """Sweep until all samples rest or the steps are used up: the sweeps, and each sample's last change over its scale.

    scale:     of the voltages that matter, (batch,), V.
    steps:     the fewest before it may stop early, and the most.
    tolerance: of the change, over the scale; None: run all steps.

    Raises `InputError` for inputs that are not finite, `SettlingError` for a nudge under which voltages grow without
    end.
    """
    least, most = steps
    first, before, change, done = scale, scale, torch.zeros_like(scale), most
    for step in range(1, most + 1):
        early = tolerance is not None and step >= least
        measured = chain.sweep(measure=early or step == 1 or step >= most - 1)
        if measured is not None:
            first, before, change = measured if step == 1 else first, change, measured
            if early and bool((change <= (tolerance or 0.0) * scale).all()):
                done = step
                break
    residual = change / scale
    grows = (residual > RUNAWAY) & (change > GROWTH * first) & (change > before)
    if not math.isfinite(float((residual + 0 * chain.sources.sum()).sum())) or bool(grows.any()):
        raise _lost(chain)
    return done, residual


def _lost(chain: Chain) -> Exception:
    if not bool(torch.isfinite(chain.sources).all()):
        return InputError("x holds NaN or infinity: clean the data")
    lost = next((n for n, v in enumerate(chain.volts, 1) if not bool(torch.isfinite(v).all())), None)
    what = "the voltages grow without end" if lost is None else f"population {lost} is not finite"
    return runs_away(f"{what} in the {'free' if chain.pull is None else 'nudged'} phase", "resistive")


def _with(current: Tensor, more: Tensor | None) -> Tensor:
    return current if more is None else current + more
