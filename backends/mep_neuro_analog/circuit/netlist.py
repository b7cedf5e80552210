"""A SPICE netlist of a circuit with one sample at its sources, whose operating point (`.op`) is its rest.

    in<j>, n<l>_<i>              the sources of the input, and node i of population l
    R<l>_<i>_<j>, I<l>_<i>       the conductance from node j below, and the injected current (a bias)
    D<l>_<i>_lo, D<l>_<i>_hi     the diodes of a node; lo<l>_<i>, hi<l>_<i> their other ends, where these are not at 0 V

Shockley diodes are SPICE's own model D; the others are behavioural sources, and an ideal one a resistance so small that
its drop is 1e-8 of the voltages. A nudge is a conductance G to a source at the target, which may be negative.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

from mep_neuro.errors import CapabilityError
from mep_neuro_analog.circuit.diodes import DIODES, Diode, IdealDiode, PiecewiseDiode, ShockleyDiode
from mep_neuro_analog.circuit.relaxation import Chain
from mep_neuro_analog.circuit.specs import CircuitSpec

STAND_IN = 1e-8
"""Resistance of an ideal diode, over the least resistance of all nodes."""

MODEL = "mep_diode"


def netlist(chain: Chain, spec: CircuitSpec) -> str:
    """The whole file. The chain holds one sample."""
    return "\n".join([*_head(chain, spec), *_sources(chain), *_nodes(chain), *_nudge(chain), ".op", ".end", ""])


def named(text: str) -> str:
    """Text of a user's as it may stand in a comment: what SPICE could take for a line or a command is cut out."""
    return re.sub(r"[^A-Za-z0-9 _.+-]+", "_", text)[:80]


def _head(chain: Chain, spec: CircuitSpec) -> Iterator[str]:
    yield "* resistive network, written by mep-neuro"
    sizes = [chain.sources.shape[1], *(len(t) for t in chain.circuit.totals)]
    yield f"* nodes {'-'.join(map(str, sizes))}, device {named(spec.device.name)}, diode {spec.diode.name}"
    yield ".options reltol=1e-9 abstol=1e-18 vntol=1e-12 gmin=1e-18"
    if isinstance(spec.diode, ShockleyDiode):
        celsius = _number(spec.diode.temperature - 273.15)
        yield f".options temp={celsius} tnom={celsius}"
        yield f".model {MODEL} D(IS={_number(spec.diode.saturation_current)} N={_number(spec.diode.ideality)})"


def _sources(chain: Chain) -> Iterator[str]:
    for j, volts in enumerate(chain.sources[0].tolist()):
        yield f"Vin{j} in{j} 0 DC {_number(volts)}"


def _nodes(chain: Chain) -> Iterator[str]:
    circuit = chain.circuit
    parts = zip(circuit.weights, circuit.currents, circuit.ends, strict=True)
    on = STAND_IN / max(float(t.max()) for t in circuit.totals)
    for level, (g, current, ends) in enumerate(parts, 1):
        below = "in" if level == 1 else f"n{level - 1}_"
        for i, row in enumerate(g.tolist()):
            for j, siemens in enumerate(row):
                if siemens > 0:
                    yield f"R{level}_{i}_{j} n{level}_{i} {below}{j} {_number(1 / siemens)}"
        for i, amperes in enumerate([] if current is None else current.tolist()):
            yield f"I{level}_{i} 0 n{level}_{i} DC {_number(amperes)}"
        for side, bounds in (("lo", ends.low), ("hi", ends.high)):
            for i, volts in enumerate(bounds.expand(1, len(g))[0].tolist()):
                if math.isfinite(volts):
                    yield from _diode(f"{level}_{i}", side, volts, circuit.diode, on)


def _diode(node: str, side: str, volts: float, diode: Diode, on: float) -> Iterator[str]:
    """The diode at one end of a node's range, with the source that stands there."""
    end = "0"
    if volts:
        end = f"{side}{node}"
        yield f"V{end} {end} 0 DC {_number(volts)}"
    anode, cathode = (end, f"n{node}") if side == "lo" else (f"n{node}", end)
    if isinstance(diode, ShockleyDiode):
        yield f"D{node}_{side} {anode} {cathode} {MODEL}"
        return
    if isinstance(diode, PiecewiseDiode):
        threshold, ohm = diode.threshold, diode.on_resistance
    elif isinstance(diode, IdealDiode):
        threshold, ohm = 0.0, on
    else:
        raise CapabilityError(f"no SPICE model is known of the diode {diode.name!r}: use one of {', '.join(DIODES)}")
    drop = f"V({anode},{cathode})" if anode != "0" else f"-V({cathode})"
    drop = f"V({anode})" if cathode == "0" else drop
    yield f"BD{node}_{side} {anode} {cathode} I = max({drop} - {_number(threshold)}, 0) / {_number(ohm)}"


def _nudge(chain: Chain) -> Iterator[str]:
    if chain.pull is None:
        return
    level = len(chain.circuit.totals)
    for i, amperes in enumerate(chain.pull.current[0].tolist()):
        node = f"n{level}_{i}"
        if chain.pull.conductance:
            yield f"Vy{i} y{i} 0 DC {_number(amperes / chain.pull.conductance)}"
            yield f"Gy{i} {node} y{i} {node} y{i} {_number(chain.pull.conductance)}"
        else:
            yield f"Iy{i} 0 {node} DC {_number(amperes)}"


def _number(value: float) -> str:
    return f"{value:.17g}"
