"""Explain: the error budget of a product as a table in plain text, with effective bits and sources."""

from __future__ import annotations

import math
from collections.abc import Sequence

from mep_neuro_analog.budget import SWING, error_budget
from mep_neuro_analog.specs import AnalogSpec

LAWS = (
    "rounding: Bennett 1948, 10.1002/j.1538-7305.1948.tb01340.x; thermal noise: Nyquist 1928, 10.1103/PhysRev.32.110; "
    "drift and 1/f noise: Nandakumar et al. 2019, 10.1109/ICECS46596.2019.8964852"
)


def effective_bits(error: float) -> float:
    """log2(2 SWING rms / (sqrt(12) error rms)): of the ideal converter over +-SWING rms that errs as much; ENOB."""
    return math.inf if error == 0 else math.log2(2 * SWING / (math.sqrt(12) * error))


def explain(spec: AnalogSpec, rows: int = 256) -> str:
    """The error budget of a product of `rows` inputs as a table in plain text, with effective bits and sources."""
    terms, array = error_budget(spec, rows), spec.array
    totals = [math.sqrt(sum(t.errors[k] ** 2 for t in terms)) for k in range(3)]
    lines = [
        f"One product of {rows} inputs on {array.pairs} pairs of {spec.device.name!r}, "
        f"{spec.device.g_min * 1e6:.4g} .. {spec.device.g_max * 1e6:.4g} uS, tiles of {array.rows} x {array.columns}",
        "Weights uniform in -w_max .. w_max, states in 0 .. 1; errors in % of the output's rms, "
        f"{math.sqrt(rows) / 3:.4g} w_max.",
        "",
        _row("", ("at once", "1 hour", "1 day"), "law", "from"),
        *(_row(t.name, [_percent(e) for e in t.errors], t.formula, t.source) for t in terms),
        _row("all together", [_percent(e) for e in totals], "root of the sum of squares", ""),
        _row(
            "effective bits",
            [f"{effective_bits(e):.1f}" if e else "exact" for e in totals],
            f"log2({2 * SWING:.0f} rms / (sqrt(12) error))",
            "",
        ),
        "",
        f"{spec.device.name}: {spec.device.source or 'no source given'}",
        f"laws: {LAWS}",
    ]
    if (pulses := spec.device.pulses) is not None:
        steps = (pulses.bounds[1] - pulses.bounds[0]) / pulses.step
        lines.append(
            f"Pulses: {steps:.3g} steps of {pulses.step:g} from bound to bound, cycle noise {pulses.cycle_noise:g} of "
            "a step; what learning by pulses leaves is not in the budget."
        )
    if array.wire_resistance:
        lines.append(f"The drop along wires of {array.wire_resistance:g} ohm is not in the budget: it is no noise.")
    return "\n".join(line.rstrip() for line in lines)


def _percent(error: float) -> str:
    return f"{100 * error:.3g}" if error else "-"


def _row(name: str, errors: Sequence[str], law: str, source: str) -> str:
    return f"{name:<18}" + "".join(f"{e:>9}" for e in errors) + f"   {law:<43} {source}"
