"""Diodes against their own laws: the block minimum by a scalar root finder, currents by differences of co-content."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
import torch
from scipy.optimize import brentq
from torch import Tensor

from mep_neuro.errors import OptionError
from mep_neuro_analog import DIODES, Diode, IdealDiode, PiecewiseDiode, ShockleyDiode
from mep_neuro_analog.circuit.diodes import Ends

INF = math.inf
SMOOTH = [
    ShockleyDiode(),
    ShockleyDiode(saturation_current=1e-14, ideality=1.0, temperature=250.0),
    ShockleyDiode(saturation_current=1e-6, ideality=1.05),
    PiecewiseDiode(),
    PiecewiseDiode(threshold=0.2, on_resistance=5e4),
]
RANGES = {"lower": (0.0, INF), "upper": (-INF, 0.0), "none": (-INF, INF), "both": (-1.0, 2.0), "narrow": (-0.02, 0.03)}


def nodes(low: float, high: float) -> tuple[Tensor, Tensor, Ends]:
    """Currents of 1 pA to 1 mA either way on conductances of 0.1 uS to 10 mS."""
    size = torch.logspace(-12, -3, 10, dtype=torch.float64)
    current = torch.cat([-size, torch.zeros(1, dtype=torch.float64), size])
    total = torch.logspace(-7, -2, 6, dtype=torch.float64)
    ends = Ends(*(torch.full((1, len(total)), end, dtype=torch.float64) for end in (low, high)))
    return current[:, None].expand(-1, len(total)).contiguous(), total, ends


def law(diode: Diode, u: float) -> float:
    """i(u) as the definition says, in plain Python."""
    if isinstance(diode, ShockleyDiode):
        slope = diode.ideality * 1.380649e-23 * diode.temperature / 1.602176634e-19
        return diode.saturation_current * math.expm1(min(u / slope, 700.0))
    assert isinstance(diode, PiecewiseDiode)
    return max(u - diode.threshold, 0.0) / diode.on_resistance


@pytest.mark.parametrize("ends", RANGES.values(), ids=RANGES.keys())
@pytest.mark.parametrize("diode", SMOOTH, ids=str)
def test_a_node_rests_where_its_currents_cancel(diode: Diode, ends: tuple[float, float]) -> None:
    low, high = ends
    current, total, held = nodes(low, high)
    found = diode.rest(current, total, held)
    for b, row in enumerate(found.tolist()):
        for k, v in enumerate(row):
            i, t = current[b, k].item(), total[k].item()

            def left(v: float, i: float = i, t: float = t) -> float:
                up = law(diode, low - v) if math.isfinite(low) else 0.0
                down = law(diode, v - high) if math.isfinite(high) else 0.0
                return t * v - i - up + down

            far = abs(i / t) + 10 * abs(law(diode, 0.0) / t) + sum(abs(law(diode, -9.0)) / t for _ in range(2)) + 9
            wanted = brentq(left, -far, far, xtol=1e-15, rtol=1e-15, maxiter=500)
            assert v == pytest.approx(wanted, rel=1e-11, abs=1e-12), (i, t)


@pytest.mark.parametrize("ends", RANGES.values(), ids=RANGES.keys())
@pytest.mark.parametrize("diode", [IdealDiode(), *SMOOTH], ids=str)
def test_rest_is_the_least_co_content(diode: Diode, ends: tuple[float, float]) -> None:
    """To either side, 1/2 t v^2 - I v + J is not less."""
    current, total, held = nodes(*ends)
    v = diode.rest(current, total, held)

    def content(v: Tensor) -> Tensor:
        return total / 2 * v.square() - current * v + diode.co_content(v, held)

    least = content(v)
    for step in (1e-4, -1e-4):
        aside = v + step
        if isinstance(diode, IdealDiode):
            aside = torch.minimum(torch.maximum(aside, held.low), held.high)
        assert bool((content(aside) >= least - 1e-12 * least.abs()).all())


@pytest.mark.parametrize("diode", SMOOTH, ids=str)
def test_current_and_slope_are_derivatives_of_the_co_content(diode: Diode) -> None:
    u = torch.linspace(-1.0, 0.72, 87, dtype=torch.float64)
    u = u[(u - 0.65).abs().minimum((u - 0.2).abs()) > 1e-3]  # off the corners
    i, slope, _ = diode.through(u)
    h = 1e-6
    (up, _, content), (down, _, lower) = diode.through(u + h), diode.through(u - h)
    torch.testing.assert_close((content - lower) / (2 * h), i, rtol=1e-6, atol=1e-12 + 1e-9 * float(i.abs().max()))
    torch.testing.assert_close((up - down) / (2 * h), slope, rtol=1e-6, atol=1e-9 * float(slope.abs().max()) + 1e-12)


@pytest.mark.parametrize("current", [1e3, 1e30, 1e200])
def test_no_current_overflows(current: float) -> None:
    ends = Ends(*(torch.full((1, 1), end, dtype=torch.float64) for end in (0.0, INF)))
    total = torch.tensor([1e-6], dtype=torch.float64)
    diode = ShockleyDiode()
    v = diode.rest(torch.tensor([[-current]], dtype=torch.float64), total, ends)
    drop = diode.slope_volts * math.log(current / diode.saturation_current)  # what it takes to carry all of it
    assert -v.item() == pytest.approx(drop, rel=1e-6)


@pytest.mark.parametrize("diode", [ShockleyDiode(saturation_current=1e-30, ideality=1e-6), PiecewiseDiode(1e-9, 1e-9)])
def test_a_sharp_diode_is_an_ideal_one(diode: Diode) -> None:
    current, total, ends = nodes(-1.0, 2.0)
    torch.testing.assert_close(
        diode.rest(current, total, ends), IdealDiode().rest(current, total, ends), atol=2e-5, rtol=0
    )


def test_heat_is_current_times_voltage() -> None:
    ends = Ends(*(torch.tensor([[end]], dtype=torch.float64) for end in (-1.0, 1.0)))
    v = torch.tensor([[-1.7], [0.0], [1.7]], dtype=torch.float64)
    diode = PiecewiseDiode(threshold=0.5, on_resistance=10.0)
    assert diode.heat(v, ends).flatten().tolist() == pytest.approx([0.02 * 0.7, 0.0, 0.02 * 0.7])
    assert not bool(IdealDiode().heat(v, ends).any())


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, INF, "hot", True])
@pytest.mark.parametrize(
    ("kind", "name"),
    [(d, f.name) for d in DIODES.values() for f in dataclasses.fields(d)],  # type: ignore[arg-type]
)
def test_parameters_are_above_0(kind: Any, name: str, value: object) -> None:
    with pytest.raises(OptionError, match=f"{name} is .*above 0"):
        kind(**{name: value})


def test_every_diode_has_its_source() -> None:
    assert all(len(d.source) > 20 for d in DIODES.values())
    assert list(DIODES) == ["ideal", "shockley", "piecewise"]
