"""What a circuit is made of, in SI units: its conductances, its diodes, and what reads it."""

from __future__ import annotations

from dataclasses import dataclass, field

from mep_neuro.errors import OptionError
from mep_neuro_analog.circuit.diodes import Diode, IdealDiode
from mep_neuro_analog.specs import DeviceSpec, PeripherySpec, check_positive


@dataclass(frozen=True)
class CircuitSpec:
    """Conductances G = unit g for weights g, with one unit (S) for the whole network, since only their ratios to each
    other say where it rests: unit = g_max / weight_max. A state of 1 is v_unit volts.

    device:            each conductance is one; it cannot have read noise, as nothing is read one by one.
    diode:             of the activations.
    dac_bits, adc_bits, dac_range, adc_range: converters of the inputs and of all that is read, as in `PeripherySpec`.
    comparator_offset: standard deviation, over nodes, of the offset with which two phases are compared; in states.
    node_capacitance:  C of each node to ground, F. The default is assumed: a wire past some hundred devices at a few
                       fF each.
    settling_seconds:  physical time of one phase, s; None: worked out from C and the conductances (see `timing`).
    v_unit:            volts of a state of 1.
    """

    device: DeviceSpec
    diode: Diode = field(default_factory=IdealDiode)
    dac_bits: int | None = None
    adc_bits: int | None = None
    dac_range: float | None = None
    adc_range: float | None = None
    comparator_offset: float = 0.0
    node_capacitance: float = 1e-12
    settling_seconds: float | None = None
    v_unit: float = 1.0

    def __post_init__(self) -> None:
        for name in ("node_capacitance", "settling_seconds", "v_unit"):
            if getattr(self, name) is not None:
                check_positive(self, name)
        if self.device.read_noise:
            raise OptionError(
                f"device {self.device.name!r} has read_noise, noise of a crossbar's products: a circuit has none"
            )
        _ = self.readout  # which looks the converters' numbers over

    @property
    def readout(self) -> PeripherySpec:
        """The converters and comparators, as `Readout` takes them."""
        return PeripherySpec(
            dac_bits=self.dac_bits,
            adc_bits=self.adc_bits,
            dac_range=self.dac_range,
            adc_range=self.adc_range,
            comparator_offset=self.comparator_offset,
        )

    @property
    def noisy(self) -> bool:
        """Whether anything is drawn by chance."""
        return self.device.noisy or self.comparator_offset > 0
