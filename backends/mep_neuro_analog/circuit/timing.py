"""Timing: how long a circuit takes to settle, from its conductances and the capacitance of its nodes.

    C dv/dt = -dF/dv,    F strictly convex:    |v(t) - v*| <= e^(-t lambda / C) |v(0) - v*|

with lambda the least eigenvalue of the conductance matrix H (what leads to each node less what leads on, with the
sources at 0 V). Diodes only add to F's curvature, and a node that is held does not move, so the bound holds with them.
H is an M-matrix, whose inverse has no negative entry, so 1 / lambda <= max_i (H^-1 1)_i: C times that is the largest
Elmore delay, the voltage at node i for a current of C into every node. It is found as any rest is.

Source: Elmore 1948, 10.1063/1.1697872; for meshes of resistors, Wyatt, in Circuit Analysis, Simulation and Design 1987.
"""

from __future__ import annotations

import math

import torch

from mep_neuro.errors import SettlingError
from mep_neuro_analog.circuit.diodes import Ends, IdealDiode
from mep_neuro_analog.circuit.relaxation import Chain, Resistors

SETTLED = 1e-3
"""The share of the way that is left when a phase counts as settled."""

SWEEPS, CLOSE = 100_000, 1e-4
"""Sweeps at most for a delay, and the relative change of one at which it is taken as found."""


def elmore_delay(circuit: Resistors, capacitance: float) -> float:
    """max_i C (H^-1 1)_i, s, an upper bound of the slowest time constant. capacitance: C of each node, F.

    Raises `SettlingError` for a circuit so loosely tied to its sources that the delay is not found.
    """
    like = circuit.totals[0]
    free = Ends(like.new_full((1,), -math.inf), like.new_full((1,), math.inf))
    ones = [torch.ones_like(t) for t in circuit.totals]
    linear = Resistors(circuit.weights, ones, circuit.totals, [free] * len(ones), IdealDiode())
    grounded = like.new_zeros(1, circuit.weights[0].shape[1])
    chain = Chain(linear, grounded)
    chain.forward_pass()
    before = 0.0
    for sweep in range(1, SWEEPS + 1):
        chain.sweep(measure=False)
        if sweep & (sweep - 1) == 0:  # after 1, 2, 4 ... sweeps: between two looks half of all sweeps so far
            largest = max(float(v.max()) for v in chain.volts)
            if largest - before <= CLOSE * largest:
                return capacitance * largest
            before = largest
    raise SettlingError(
        f"the settling time was not found in {SWEEPS} sweeps: conductances to the sources are too small beside the "
        "others. Give settling_seconds"
    )


def settling_time(circuit: Resistors, capacitance: float) -> float:
    """ln(1 / SETTLED) Elmore delays: by then less than that share of the way is left at any start, s."""
    return math.log(1 / SETTLED) * elmore_delay(circuit, capacitance)
