"""The transient of a small circuit: how its voltages come to rest in time.

    C dv/dt = -dF/dv = I + G v's neighbours - t v + diodes' currents,    v(0) = 0 or the nearest end of the range

integrated to 40 of its slowest time constants (e^-40 = 4e-18). Ideal diodes, which have no slope, are stood in for by
piecewise ones whose drop is about 1e-9 of the voltages. Source: as `timing`.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from mep_neuro.errors import InputError, OptionError, SettlingError
from mep_neuro_analog.circuit.diodes import Diode, Ends, IdealDiode, PiecewiseDiode
from mep_neuro_analog.circuit.numerics import Vector, integrate
from mep_neuro_analog.circuit.relaxation import Chain

MOST_NODES = 1000
"""Beyond it the dense matrices of the implicit steps take minutes."""

CONSTANTS = 40.0
"""Slowest time constants that are integrated."""

STAND_IN = 1e-9
"""Drop of an ideal diode's stand-in, in voltages at its node."""


@final
@dataclass(frozen=True)
class Transient:
    """One sample's way to rest.

    times:   of the solver's steps, s.
    states:  v_1 .. v_L at them, each (times, units), in states (volts over v_unit).
    seconds: from which time on all voltages stay within the tolerance of where they end, over the farthest way that
             any of them has gone.
    """

    times: Vector
    states: tuple[Tensor, ...]
    seconds: float

    @property
    def end(self) -> tuple[Tensor, ...]:
        """v_1 .. v_L at rest, each (1, units)."""
        return tuple(s[-1:] for s in self.states)


def transient(chain: Chain, capacitance: float, tolerance: float, v_unit: float) -> Transient:
    """Integrate the one sample of a chain from the voltages that it holds.

    Raises `InputError` for too many nodes, `OptionError` for a tolerance outside (0, 1), `SettlingError` for a nudge
    that pushes harder than the circuit holds.
    """
    share: Any = tolerance
    if type(share) is not float or not 1e-8 <= share < 1:
        raise OptionError(f"tolerance is {tolerance!r}; give the share of the way that may be left, 1e-8 to 1")
    sizes = [len(t) for t in chain.circuit.totals]
    if sum(sizes) > MOST_NODES:
        raise InputError(f"the circuit has {sum(sizes)} nodes; transients are for up to {MOST_NODES}")
    matrix, drive = _equations(chain)
    least = float(np.linalg.eigvalsh(matrix)[0])
    if least <= 0:
        raise SettlingError("the nudge pushes harder than the circuit holds, so it may never rest: use a smaller beta")
    diode, ends = _smooth(chain), _all_ends(chain)

    def injected(v: Vector) -> tuple[Vector, Vector]:
        current, falls = diode.injected(torch.from_numpy(v)[None], ends)
        return current[0].numpy(), falls[0].numpy()

    scale = least / capacitance  # time runs in the slowest time constant, so that the solver sees numbers about 1

    def slope(_: float, v: Vector) -> Vector:
        rate: Vector = (drive - matrix @ v + injected(v)[0]) / least
        return rate

    def jacobian(_: float, v: Vector) -> Vector:
        found: Vector = -(matrix + np.diag(injected(v)[1])) / least
        return found

    start = torch.cat([v[0] for v in chain.volts]).cpu().numpy()
    size = max(float(chain.sources.abs().max()), float(np.abs(drive).max() / matrix.diagonal().min()), 1e-12)
    try:
        times, volts, between = integrate(slope, jacobian, start, CONSTANTS, relative=1e-7, absolute=1e-10 * size)
    except ArithmeticError as error:
        raise SettlingError(f"the transient could not be integrated: {error}") from error
    seconds = _settled(times, volts, between, tolerance)
    states = torch.from_numpy(volts / v_unit).to(chain.sources.device)
    return Transient(times / scale, torch.split_with_sizes(states, sizes, 1), seconds / scale)


def _equations(chain: Chain) -> tuple[Vector, Vector]:
    """The conductance matrix H of all nodes, S, and what drives into them at 0 V, A; the nudge is in both."""
    circuit = chain.circuit
    starts = np.cumsum([0, *(len(t) for t in circuit.totals)])
    blocks = [slice(a, b) for a, b in itertools.pairwise(starts)]
    matrix = np.diag(torch.cat(list(circuit.totals)).cpu().numpy())
    for below, above, g in zip(blocks, blocks[1:], circuit.weights[1:], strict=False):
        matrix[above, below] = -g.cpu().numpy()
        matrix[below, above] = matrix[above, below].T
    drive = [chain.clamped[0], *(torch.zeros_like(t) if i is None else i for t, i in _later(chain))]
    if chain.pull is not None:
        drive[-1] = drive[-1] + chain.pull.current[0]
        matrix[blocks[-1], blocks[-1]] += chain.pull.conductance * np.eye(len(circuit.totals[-1]))
    return matrix, torch.cat(drive).cpu().numpy()


def _later(chain: Chain) -> list[tuple[Tensor, Tensor | None]]:
    return list(zip(chain.circuit.totals[1:], chain.circuit.currents[1:], strict=True))


def _all_ends(chain: Chain) -> Ends:
    """The ranges of all nodes, one after the other."""
    ends = chain.circuit.ends
    return Ends(torch.cat([e.low for e in ends], 1).cpu(), torch.cat([e.high for e in ends], 1).cpu())


def _smooth(chain: Chain) -> Diode:
    """The circuit's diode, or what stands in for an ideal one."""
    if not isinstance(chain.circuit.diode, IdealDiode):
        return chain.circuit.diode
    size = max(float(chain.sources.abs().max()), 1e-12)
    most = max(float(t.max()) for t in chain.circuit.totals)
    return PiecewiseDiode(threshold=STAND_IN * size, on_resistance=STAND_IN / most)


def _settled(times: Vector, volts: Vector, between: Any, tolerance: float) -> float:
    """The last time at which some voltage is farther from its end than the tolerance allows; 0 if none ever is."""
    end = volts[-1]
    allowed = tolerance * float(np.abs(volts - end).max())
    far = np.flatnonzero(np.abs(volts - end).max(1) > allowed)
    if not len(far):
        return 0.0
    low, high = times[far[-1]], times[far[-1] + 1]
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if np.abs(between(middle) - end).max() > allowed else (low, middle)
    return float(high)
