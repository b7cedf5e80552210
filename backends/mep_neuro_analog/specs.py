"""What an analog substrate is made of, in SI units: devices, arrays of them, and the circuits around the arrays.

A weight w of a coupling is held as omega = w / w_max in [-1, 1], where w_max is the largest weight of its array when
it is programmed. Two devices make one omega:

    differential   g_plus = g_min + max(omega, 0) (g_max - g_min),    g_minus = g_min + max(-omega, 0) (g_max - g_min)
    offset         g_plus = g_min + (omega + 1)/2 (g_max - g_min),    g_minus = (g_min + g_max) / 2, a reference
    omega = k (g_plus - g_minus) / (g_max - g_min),                   k = 1 differential, 2 offset

A state s is a voltage v_unit s across a row of devices; a column's current is sum_i (g_plus - g_minus)_i v_i.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from mep_neuro.errors import OptionError, check_choice, did_you_mean

PulseModel: TypeAlias = Literal["constant", "linear", "soft_bounds", "exponential", "power"]
PULSE_MODELS: tuple[PulseModel, ...] = ("constant", "linear", "soft_bounds", "exponential", "power")


@dataclass(frozen=True)
class PulseSpec:
    """What one programming pulse does to omega. All steps are in units of omega.

    step:             mean change by one pulse at omega = 0 (dw_min).
    model:            how the step depends on where the device is, with the bounds b_up > 0 > b_down:
                        constant     step
                        linear       step (1 - slope omega / b)                        b of the pulse's own direction
                        soft_bounds  linear with slope 1
                        exponential  step max(1 - A exp(gamma z), 0),  z = 2 a omega / (b_up - b_down) + b;
                                     down: -gamma in place of gamma
                        power        step ((b_up - omega) / (b_up - b_down))^exponent, down: (omega - b_down)
    bounds:           (b_down, b_up).
    slope:            of the linear model, (up, down).
    exponential:      (a, b, A_up, A_down, gamma_up, gamma_down).
    exponent:         of the power model, (up, down).
    up_down:          asymmetry: steps are multiplied by 1 + up_down going up, and by 1 - up_down going down.
    step_spread:      device to device, relative, normal: of the step.
    bound_spread:     device to device, relative, normal: of (b_down, b_up).
    slope_spread:     device to device, relative: of the slope.
    up_down_spread:   device to device, absolute: of up_down.
    cycle_noise:      cycle to cycle, relative: each pulse is multiplied by 1 + cycle_noise xi.
    write_noise:      in steps: what is read is omega + write_noise step xi, xi drawn anew when a device is pulsed.
    volts, seconds:   of one pulse, for the joules it turns into heat, V^2 G t; None where no figure was found.
    """

    step: float
    model: PulseModel = "constant"
    bounds: tuple[float, float] = (-1.0, 1.0)
    slope: tuple[float, float] = (0.0, 0.0)
    exponential: tuple[float, float, float, float, float, float] | None = None
    exponent: tuple[float, float] = (1.0, 1.0)
    up_down: float = 0.0
    step_spread: float = 0.0
    bound_spread: tuple[float, float] = (0.0, 0.0)
    slope_spread: float = 0.0
    up_down_spread: float = 0.0
    cycle_noise: float = 0.0
    write_noise: float = 0.0
    volts: float | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        if self.model not in PULSE_MODELS:
            raise OptionError(
                f"no pulse model {self.model!r}; there are: {', '.join(PULSE_MODELS)}."
                f"{did_you_mean(self.model, PULSE_MODELS)}"
            )
        check_positive(self, "step")
        if not self.bounds[0] < 0 < self.bounds[1]:
            raise OptionError(f"the bounds of omega are {self.bounds}; give (below 0, above 0), e.g. (-1.0, 1.0)")
        if (self.model == "exponential") is (self.exponential is None):
            raise OptionError("the exponential model, and no other, takes exponential=(a, b, A_up, A_down, ...)")
        spreads = ("step_spread", "slope_spread", "up_down_spread", "cycle_noise", "write_noise")
        check_at_least_zero(self, spreads)


@dataclass(frozen=True)
class DeviceSpec:
    """One conductance that is programmed, drifts, and is read.

    g_min, g_max:     its range, S.
    levels:           conductances it can be programmed to, evenly spaced; None: any.
    programming:      (c_0, c_1, ...): standard deviation after programming to G, sum_k c_k (G / g_max)^k, S.
    drift:            G(t) = G (max(t, t_0) / t_0)^-nu, with a nu for each device, from the time it was programmed.
    drift_mean, drift_spread: (a, b, low, high): clip(a ln(G / g_max) + b, low, high) is the mean, and the standard
                      deviation, of nu. None: no drift. A negative nu drawn is taken as its absolute value.
    drift_start:      t_0, s.
    flicker:          (q, exponent, most, t_read): 1/f noise accumulated since programming, drawn once at each move of
                      the clock: sigma = G(t) min(q / (G / g_max)^exponent, most) sqrt(ln((t + t_read) / (2 t_read))),
                      S, with the G that was written, and the G(t) it has drifted to.
                      These three fits may go on with (split, c_0, c_1, ...): from G / g_max = split on, the clip or
                      the min is sum_k c_k (G / g_max)^k instead.
    read_noise:       relative: each read of a device sees G (1 + read_noise xi), xi anew each time.
    stuck_low, stuck_high: fractions of devices that stay at g_min, g_max.
    pulses:           how it answers to pulses; None: it is only programmed and verified.
    source:           where the figures are from.
    """

    g_min: float
    g_max: float
    name: str = "own"
    levels: int | None = None
    programming: tuple[float, ...] = ()
    drift_mean: tuple[float, ...] | None = None
    drift_spread: tuple[float, ...] | None = None
    drift_start: float = 20.0
    flicker: tuple[float, ...] | None = None
    read_noise: float = 0.0
    stuck_low: float = 0.0
    stuck_high: float = 0.0
    pulses: PulseSpec | None = None
    source: str = ""

    def __post_init__(self) -> None:
        if not (0 <= self.g_min < self.g_max < math.inf):
            raise OptionError(
                f"a device has g_min {self.g_min:g} S and g_max {self.g_max:g} S; give 0 <= g_min < g_max, in siemens"
            )
        if self.levels is not None and self.levels < 2:
            raise OptionError(f"levels is {self.levels}; a device that can be programmed has at least 2")
        check_at_least_zero(self, ("read_noise", "stuck_low", "stuck_high"))
        if self.stuck_low + self.stuck_high > 1:
            raise OptionError(
                f"{self.stuck_low:g} of the devices are stuck at g_min and {self.stuck_high:g} at g_max: more than all"
            )
        check_positive(self, "drift_start")
        if self.drift_mean is None and self.drift_spread is not None:
            raise OptionError("drift_spread is given and drift_mean is not")
        for name in ("drift_mean", "drift_spread", "flicker"):
            fit = getattr(self, name)
            if fit is not None and not (len(fit) == 4 or len(fit) > 5):
                raise OptionError(f"{name} has {len(fit)} numbers; give four, or four and (split, c_0, ...)")
        for name in ("drift_mean", "drift_spread"):
            if (fit := getattr(self, name)) is not None and fit[2] > fit[3]:
                raise OptionError(f"{name} is clipped from {fit[2]:g} to {fit[3]:g}; give the lower limit first")
        if self.flicker is not None and not (min(self.flicker[:3]) >= 0 and self.flicker[3] > 0):
            raise OptionError(f"flicker is {self.flicker}; give (q, exponent, most) of 0 or more and a t_read above 0")

    @property
    def noisy(self) -> bool:
        """Whether anything about it is drawn by chance."""
        drawn = (any(self.programming), self.drift_spread is not None, self.flicker is not None, self.read_noise)
        return any(drawn) or self.stuck_low > 0 or self.stuck_high > 0 or self.pulses is not None


@dataclass(frozen=True)
class ArraySpec:
    """How devices are wired.

    pairs:           "differential" or "offset" (above).
    rows, columns:   of one tile at most; a larger coupling takes several, whose currents or codes are added.
    wire_resistance: of the wire from one device to the next, ohm, the same along rows and columns; 0: none.
                     Rows are driven from one end, columns held at virtual ground at one end; inputs and outputs at
                     the same corner.
    ir_drop:         "nodal": exact, one factorisation a programming; "closed_form": a labelled approximation.
    """

    pairs: Literal["differential", "offset"] = "differential"
    rows: int = 512
    columns: int = 512
    wire_resistance: float = 0.0
    ir_drop: Literal["nodal", "closed_form"] = "nodal"

    def __post_init__(self) -> None:
        check_choice("pairs", self.pairs, ("differential", "offset"))
        check_choice("ir_drop", self.ir_drop, ("nodal", "closed_form"))
        if min(self.rows, self.columns) < 1:
            raise OptionError(f"a tile of {self.rows} x {self.columns}: give at least one row and one column")
        if self.wire_resistance < 0 or not math.isfinite(self.wire_resistance):
            raise OptionError(f"wire_resistance is {self.wire_resistance:g} ohm; give 0 or more")


@dataclass(frozen=True)
class PeripherySpec:
    """The circuits around the arrays: converters, amplifiers and neurons. States are in their own units (1 = v_unit).

    converters:       "ends": states settle as voltages; inputs pass a DAC once, states are read through an ADC.
                      "tiles": every product of a tile passes a DAC and an ADC, as in chips with digital neurons.
    dac_bits, adc_bits: codes 2^bits, two of them for zero (-max .. max in 2^bits - 2 steps); None: ideal.
    dac_range:        largest input of a DAC; None: the largest |input| of each sample.
    adc_range:        largest output of an ADC; None: the largest |output| of each sample. Beyond it clips.
    output_noise:     standard deviation added to each output of a tile, in units of (a weight w_max) x (an input of 1).
    temperature:      K; with a bandwidth, Johnson noise of the conductances on a column, sqrt(4 k T B sum g) A.
    bandwidth:        Hz; 0: no thermal noise.
    comparator_offset: standard deviation, over units, of the offset with which two phases' states are compared.
    neuron_gain, neuron_offset: standard deviations over units: s = rho((1 + gain) drive + offset).
    settling_error:   share of the way from where a phase began that is left when it is read, exp(-t / tau).
    settling_seconds: physical time of one phase, s; with converters at the tiles, which work in steps, of one sweep.
    v_unit:           volts of a state of 1.
    """

    converters: Literal["ends", "tiles"] = "ends"
    dac_bits: int | None = None
    adc_bits: int | None = None
    dac_range: float | None = None
    adc_range: float | None = None
    output_noise: float = 0.0
    temperature: float = 300.0
    bandwidth: float = 0.0
    comparator_offset: float = 0.0
    neuron_gain: float = 0.0
    neuron_offset: float = 0.0
    settling_error: float = 0.0
    settling_seconds: float = 1e-6
    v_unit: float = 0.2

    def __post_init__(self) -> None:
        check_choice("converters", self.converters, ("ends", "tiles"))
        for name in ("dac_bits", "adc_bits"):
            bits = getattr(self, name)
            if bits is not None and not 2 <= bits <= 24:
                raise OptionError(f"{name} is {bits}; give 2 to 24, or None for an ideal converter")
        for name in ("dac_range", "adc_range"):
            if getattr(self, name) is not None:
                check_positive(self, name)
        check_positive(self, "settling_seconds")
        check_positive(self, "v_unit")
        names = ("output_noise", "temperature", "bandwidth", "comparator_offset", "neuron_gain", "neuron_offset")
        check_at_least_zero(self, (*names, "settling_error"))
        if self.settling_error >= 1:
            raise OptionError(f"settling_error is {self.settling_error:g}: nothing would settle; give less than 1")


@dataclass(frozen=True)
class AnalogSpec:
    """A device, the arrays it stands in, and what surrounds them."""

    device: DeviceSpec
    array: ArraySpec = field(default_factory=ArraySpec)
    periphery: PeripherySpec = field(default_factory=PeripherySpec)

    @property
    def noisy_reads(self) -> bool:
        """Whether two products of the same states differ."""
        johnson = self.periphery.bandwidth > 0 and self.periphery.temperature > 0
        return self.device.read_noise > 0 or self.periphery.output_noise > 0 or johnson

    @property
    def noisy(self) -> bool:
        """Whether anything is drawn by chance."""
        p = self.periphery
        return self.noisy_reads or self.device.noisy or any((p.comparator_offset, p.neuron_gain, p.neuron_offset))


def check_positive(spec: object, name: str) -> None:
    """Raise `OptionError` unless the spec's field of that name is a finite number above 0."""
    value: Any = getattr(spec, name)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise OptionError(f"{name} is {value!r}; give a number above 0")
    if not (math.isfinite(value) and value > 0):
        raise OptionError(f"{name} is {value:g}; give a number above 0")


def check_at_least_zero(spec: object, names: Iterable[str]) -> None:
    """Raise `OptionError` unless the spec's fields of these names are finite numbers of 0 or more."""
    for name in names:
        value = getattr(spec, name)
        if not (math.isfinite(value) and value >= 0):
            raise OptionError(f"{name} is {value:g}; give 0 or more")
