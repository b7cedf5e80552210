"""The error budget of one product: what each fault of an `AnalogSpec` does to it by itself.

    y = sum_i omega_i s_i over `rows` inputs,  omega uniform in -1 .. 1,  s uniform in 0 .. 1,  rms(y) = sqrt(rows) / 3

omega as most layers are initialised, s as states of hard sigmoids are. Each term is the root mean square of the error
that it alone makes, over rms(y). Errors of states (ADC at the ends, comparators, neurons) are over the rms of a state,
1 / sqrt(3): the output is taken to be as large as the states are. Terms add as squares.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias, final

import torch
from torch import Tensor

from mep_neuro.errors import OptionError
from mep_neuro_analog.devices import drift_moments, flicker_growth, flicker_share, programming_sigma
from mep_neuro_analog.specs import AnalogSpec, PeripherySpec
from mep_neuro_analog.tiles import BOLTZMANN

TIMES: tuple[float, ...] = (0.0, 3600.0, 86400.0)
"""Since programming, s: at once, after an hour, after a day."""

POINTS = 4000
"""Of the grid over omega that means are taken on."""

SWING = 3.0
"""The largest |output| of a sample, over their rms, about that of 200: an ADC without a range of its own fits to it."""

STATE = 1 / math.sqrt(3)
"""rms of a state that is uniform in 0 .. 1."""

Moments: TypeAlias = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Mean and variance of the error of devices aimed at g, S and S^2."""


@final
@dataclass(frozen=True)
class Term:
    """One line of the budget.

    name:    of the fault.
    errors:  its rms error at each of `TIMES`, relative to the rms of the output.
    formula: the law, by its name.
    source:  the part of the spec that the figures are from.
    """

    name: str
    errors: tuple[float, ...]
    formula: str
    source: str


def error_budget(spec: AnalogSpec, rows: int = 256) -> tuple[Term, ...]:
    """The budget's terms; those that the spec does not have are 0. Raises OptionError for less than one row."""
    if rows < 1:
        raise OptionError(f"a product of {rows} inputs: give at least one")
    device, p, budget = spec.device, spec.periphery, _Budget(spec, rows)
    own, at = f"device {device.name!r}", p.converters
    rounding, still = "uniform rounding, and clipping", _still
    return (
        Term("levels", still(budget.levels()), "uniform rounding, step / sqrt(12)", f"{own}, levels={device.levels}"),
        Term("programming", still(budget.programming()), "clamped normal of sigma(G)", own),
        Term("pulse write noise", still(budget.write_noise()), "normal, write_noise step of omega", own),
        Term("stuck devices", still(budget.stuck()), "mixture of g_min, g_max", own),
        Term("drift", tuple(map(budget.drift, TIMES)), "power law (t / t_0)^-nu, folded normal nu", own),
        Term("1/f noise", tuple(map(budget.flicker, TIMES)), "G(t) Q sqrt(ln((t + t_r) / (2 t_r)))", own),
        Term("read noise", still(budget.read_noise()), "normal, relative to G, both of a pair", own),
        Term("DAC", still(budget.dac()), rounding, f"{at}, dac_bits={p.dac_bits}"),
        Term("ADC", still(budget.adc()), rounding, f"{at}, adc_bits={p.adc_bits}"),
        Term("output noise", still(budget.output_noise()), "normal, each tile", _given(p, "output_noise")),
        Term("thermal noise", still(budget.thermal()), "Johnson, sqrt(4 k T B sum G)", _given(p, "bandwidth")),
        Term("comparator offset", still(p.comparator_offset / STATE), "normal", _given(p, "comparator_offset")),
        Term("neuron gain", still(p.neuron_gain), "normal, relative to the drive", _given(p, "neuron_gain")),
        Term("neuron offset", still(p.neuron_offset / STATE), "normal", _given(p, "neuron_offset")),
        Term("settling error", still(p.settling_error), "exp(-t / tau) of a state", _given(p, "settling_error")),
    )


@final
class _Budget:
    """Errors of one product. A reference of offset pairs is exact, but is read with noise."""

    def __init__(self, spec: AnalogSpec, rows: int) -> None:
        self._spec, self._rows, self._rms = spec, rows, math.sqrt(rows) / 3
        device, cells = spec.device, spec.array.rows
        self._tiles = [min(cells, rows - start) for start in range(0, rows, cells)]
        self._two = spec.array.pairs == "differential"
        self._low, self._range = device.g_min, device.g_max - device.g_min
        omega = (torch.arange(POINTS, dtype=torch.float64) + 0.5) * 2 / POINTS - 1
        self._plus = self._low + (omega.clamp_min(0) if self._two else (omega + 1) / 2) * self._range
        middle = torch.full_like(omega, self._low + self._range / 2)
        self._minus = self._low + (-omega).clamp_min(0) * self._range if self._two else middle

    def levels(self) -> float:
        if self._spec.device.levels is None:
            return 0.0
        return self._weights(torch.zeros(1), torch.full((1,), self._k**2 / (12 * (self._spec.device.levels - 1) ** 2)))

    def programming(self) -> float:
        def moments(g: Tensor) -> tuple[Tensor, Tensor]:
            sigma = programming_sigma(g, self._spec.device).clamp_min(1e-30)
            z = g / sigma
            density = sigma * torch.exp(-z.square() / 2) / math.sqrt(2 * math.pi)
            mean = g * torch.special.ndtr(z) + density
            square = (g.square() + sigma.square()) * torch.special.ndtr(z) + g * density
            return mean - g, square - mean.square()

        return self._devices(moments) if any(self._spec.device.programming) else 0.0

    def write_noise(self) -> float:
        pulses = self._spec.device.pulses
        return 0.0 if pulses is None else self._noise(torch.tensor((pulses.write_noise * pulses.step) ** 2))

    def stuck(self) -> float:
        device = self._spec.device
        low, high = device.stuck_low, device.stuck_high

        def moments(g: Tensor) -> tuple[Tensor, Tensor]:
            to_low, to_high = device.g_min - g, device.g_max - g
            mean = low * to_low + high * to_high
            return mean, low * to_low.square() + high * to_high.square() - mean.square()

        return self._devices(moments)

    def drift(self, seconds: float) -> float:
        def moments(g: Tensor) -> tuple[Tensor, Tensor]:
            mean, square = self._kept(g, seconds)
            return g * (mean - 1), g.square() * (square - mean.square()).clamp_min(0)

        return self._devices(moments) if self._spec.device.drift_mean is not None else 0.0

    def flicker(self, seconds: float) -> float:
        growth = flicker_growth(torch.tensor(seconds, dtype=torch.float64), self._spec.device)

        def moments(g: Tensor) -> tuple[Tensor, Tensor]:
            square = self._kept(g, seconds)[1]
            return torch.zeros_like(g), g.square() * square * (flicker_share(g, self._spec.device) * growth).square()

        return self._devices(moments)

    def read_noise(self) -> float:
        squares = self._plus.square() + self._minus.square()
        return self._noise((self._k * self._spec.device.read_noise / self._range) ** 2 * squares)

    def thermal(self) -> float:
        p = self._spec.periphery
        loads = float((self._plus + self._minus).mean()) * self._rows
        amperes = math.sqrt(4 * BOLTZMANN * p.temperature * p.bandwidth * loads)
        return amperes * self._k / (p.v_unit * self._range) / self._rms

    def output_noise(self) -> float:
        return self._spec.periphery.output_noise * math.sqrt(len(self._tiles)) / self._rms

    def dac(self) -> float:
        p = self._spec.periphery
        return math.sqrt(_read_uniform(p.dac_bits, p.dac_range) * self._rows / 3) / self._rms

    def adc(self) -> float:
        p = self._spec.periphery
        if p.converters == "ends":
            return math.sqrt(_read_uniform(p.adc_bits, p.adc_range)) / STATE
        return math.sqrt(sum(_read_normal(p.adc_bits, p.adc_range, math.sqrt(n) / 3) for n in self._tiles)) / self._rms

    @property
    def _k(self) -> int:
        return 1 if self._two else 2

    def _kept(self, g: Tensor, seconds: float) -> tuple[Tensor, Tensor]:
        """Mean and mean square of (t / t_0)^-|nu|, nu normal: the folded normal's moment-generating function."""
        mean, spread = drift_moments(g, self._spec.device)
        start, spread = self._spec.device.drift_start, spread.clamp_min(1e-12)
        log = math.log(max(seconds, start) / start)

        def generated(a: float) -> Tensor:
            z, both = mean / spread, a * a * spread.square() / 2
            above = torch.exp(both - a * mean).mul(torch.special.ndtr(z - a * spread))
            return above.addcmul(torch.exp(both + a * mean), torch.special.ndtr(-z - a * spread))

        return generated(log), generated(2 * log)

    def _devices(self, moments: Moments) -> float:
        """The product's error from the mean and variance of one device's, S."""
        mean, variance = moments(self._plus)
        if self._two:
            other, more = moments(self._minus)
            mean, variance = mean - other, variance + more
        return self._weights(mean * self._k / self._range, variance * (self._k / self._range) ** 2)

    def _noise(self, variance: Tensor) -> float:
        return self._weights(torch.zeros_like(variance), variance)

    def _weights(self, mean: Tensor, variance: Tensor) -> float:
        """The product's error from the mean and variance of each weight's, over its rms.

        sum_i e_i s_i with independent e_i and s_i, E[s] = 1/2 and E[s^2] = 1/3: its mean square is
        rows (E[e^2] / 3 - E[e]^2 / 4) + (rows E[e] / 2)^2.
        """
        bias, square = float(mean.double().mean()), float((mean.square() + variance).double().mean())
        return math.sqrt(self._rows * (square / 3 - bias**2 / 4) + (self._rows * bias / 2) ** 2) / self._rms


def _read_uniform(bits: int | None, limit: float | None) -> float:
    """Mean square of what a converter changes in values uniform in 0 .. 1, of which the largest is its limit if None.

    Inside the limit step^2 / 12, with step = limit / (2^(bits - 1) - 1); beyond it (value - limit)^2.
    """
    if bits is None:
        return 0.0
    limit = 1.0 if limit is None else limit
    step, inside = limit / ((1 << (bits - 1)) - 1), min(limit, 1.0)
    return inside * step**2 / 12 + (1 - inside) ** 3 / 3


def _read_normal(bits: int | None, limit: float | None, rms: float) -> float:
    """Mean square of what a converter changes in values N(0, rms^2); without a limit it is SWING rms, and none clips.

    Beyond the limit a rms: rms^2 2 ((1 + a^2) P(xi > a) - a phi(a)), phi the normal density.
    """
    if bits is None:
        return 0.0
    step = (SWING * rms if limit is None else limit) / ((1 << (bits - 1)) - 1)
    if limit is None:
        return step**2 / 12
    a = limit / rms
    tail = math.erfc(a / math.sqrt(2))
    clipped = (1 + a * a) * tail - 2 * a * math.exp(-a * a / 2) / math.sqrt(2 * math.pi)
    return (1 - tail) * step**2 / 12 + rms**2 * max(clipped, 0.0)


def _still(error: float) -> tuple[float, ...]:
    """An error that does not change with time."""
    return (error,) * len(TIMES)


def _given(periphery: PeripherySpec, name: str) -> str:
    return f"{name}={getattr(periphery, name):g}"
