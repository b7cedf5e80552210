"""The analog substrate: couplings on crossbars of conductances, or resistive circuits, with their faults."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, final

import torch
from torch import Tensor

from mep_neuro.backend import Backend
from mep_neuro.capabilities import Availability, Capabilities
from mep_neuro.counts import OperationCounts
from mep_neuro.errors import CapabilityError, OptionError, check_choice
from mep_neuro.network import EnergyNetwork
from mep_neuro.settling import DEFAULT_STEPS, check_tolerance, step_limits
from mep_neuro.types import Equilibrium, Nudge, Parameters
from mep_neuro_analog.checks import as_number
from mep_neuro_analog.circuit.circuit import Circuit
from mep_neuro_analog.circuit.diodes import Diode
from mep_neuro_analog.circuit.specs import CircuitSpec
from mep_neuro_analog.circuit.transient import Transient
from mep_neuro_analog.crossbar import Crossbar
from mep_neuro_analog.learning import Phases
from mep_neuro_analog.spec_options import spec_of
from mep_neuro_analog.specs import AnalogSpec, DeviceSpec
from mep_neuro_analog.tier import Opening


@final
class AnalogBackend(Backend):
    """A hopfield network on crossbars, whose every product goes through faulty devices, or a network of the resistive
    energy as a circuit of resistors and diodes. An option that is left out is as its spec says.

    For both:

    device:     a preset's name (`mep_neuro_analog.DEVICES`; "ideal"), or a `DeviceSpec`.
    spec:       an `AnalogSpec`, or for circuits a `CircuitSpec`, in place of all options that are its fields.
    dac_bits, adc_bits, comparator_offset, settling_seconds: fields of the specs.
    update:     how new parameters reach the devices after the first time: "program" writes all anew, "pulses" gives
                each device the pulses that its change asks for.
    weight_max: the largest weight the devices hold; None: that of each coupling when it is programmed, and at least 1
                where devices answer to pulses; of a circuit, the largest of all, or twice that with pulses.
    max_steps, tolerance: of settling, as on the digital backends.

    For crossbars (`AnalogSpec`):

    pairs, tile, wire_resistance, converters, output_noise, bandwidth, neuron_gain, neuron_offset, settling_error.
    learning:   how resident learning applies EP's two phases: "phases", each product by itself, or "difference".
    exact:      draw every device and pulse instead of their law: slow, for checking.

    For circuits (`CircuitSpec`):

    diode:      "ideal", "shockley" or "piecewise", or a `Diode`; its parameters are the options saturation_current,
                ideality and temperature, or threshold and on_resistance.
    node_capacitance, v_unit.

    Biases are added by the periphery, without fault. Clipped weights are reported in the log and in `clipped`.
    """

    capabilities: Capabilities = Capabilities(
        energies=frozenset({"hopfield", "resistive"}),
        couplings=frozenset({"Dense", "Flatten", "Signed"}),
        activations=frozenset({"ClippedLinear", "Logistic", "Rectifiers"}),
        forces=True,
        counts_macs=False,
        arrays="torch",
        tolerance=1e-6,
    )

    @classmethod
    def availability(cls) -> Availability:
        return Availability(True)

    def __init__(
        self,
        network: EnergyNetwork,
        *,
        seed: int = 0,
        device: str | DeviceSpec | None = None,
        spec: AnalogSpec | CircuitSpec | None = None,
        dac_bits: int | None = None,
        adc_bits: int | None = None,
        comparator_offset: float | None = None,
        settling_seconds: float | None = None,
        pairs: Literal["differential", "offset"] | None = None,
        tile: int | None = None,
        wire_resistance: float | None = None,
        converters: Literal["ends", "tiles"] | None = None,
        output_noise: float | None = None,
        bandwidth: float | None = None,
        neuron_gain: float | None = None,
        neuron_offset: float | None = None,
        settling_error: float | None = None,
        learning: Literal["phases", "difference"] | None = None,
        exact: bool | None = None,
        diode: str | Diode | None = None,
        saturation_current: float | None = None,
        ideality: float | None = None,
        temperature: float | None = None,
        threshold: float | None = None,
        on_resistance: float | None = None,
        node_capacitance: float | None = None,
        v_unit: float | None = None,
        update: Literal["program", "pulses"] = "program",
        weight_max: float | None = None,
        max_steps: int | Sequence[int] = DEFAULT_STEPS,
        tolerance: float | None = None,
    ) -> None:
        given = {
            "dac_bits": dac_bits,
            "adc_bits": adc_bits,
            "comparator_offset": comparator_offset,
            "settling_seconds": settling_seconds,
            "pairs": pairs,
            "tile": tile,
            "wire_resistance": wire_resistance,
            "converters": converters,
            "output_noise": output_noise,
            "bandwidth": bandwidth,
            "neuron_gain": neuron_gain,
            "neuron_offset": neuron_offset,
            "settling_error": settling_error,
            "learning": learning,
            "exact": exact,
            "diode": diode,
            "saturation_current": saturation_current,
            "ideality": ideality,
            "temperature": temperature,
            "threshold": threshold,
            "on_resistance": on_resistance,
            "node_capacitance": node_capacitance,
            "v_unit": v_unit,
        }
        self.network = network
        self.spec = spec_of(network, device, spec, {name: value for name, value in given.items() if value is not None})
        steps, tolerance = step_limits(max_steps), check_tolerance(tolerance)
        if weight_max is not None and not 0 < as_number("weight_max", weight_max) < math.inf:
            raise OptionError(f"weight_max is {weight_max}; give a number above 0, or leave it out")
        check_choice("update", update, ("program", "pulses"))
        how: Phases = check_choice("learning", learning or "difference", ("phases", "difference"))
        pulsed = self.spec.device.pulses is not None
        if update == "pulses" and not pulsed:
            raise OptionError(f"device {self.spec.device.name!r} does not answer to pulses: update='program'")
        kind = type(self).capabilities
        self.capabilities = replace(
            kind,
            deterministic=kind.deterministic and not self.spec.noisy,
            resident_learning=pulsed and isinstance(self.spec, AnalogSpec),
            prefers="resident" if update == "pulses" and isinstance(self.spec, AnalogSpec) else "host",
            writes="apply" if update == "pulses" else "program",
        )
        self._random = torch.Generator(network.device).manual_seed(seed)
        fixed = torch.Generator("cpu").manual_seed(seed)
        opening = Opening(network, self._random, fixed, weight_max, steps, tolerance)
        self._tier: Crossbar | Circuit
        if isinstance(self.spec, CircuitSpec):
            self._tier = Circuit(opening, self.spec)
        else:
            self._tier = Crossbar(opening, self.spec, learning=how, exact=bool(exact))

    @property
    def clipped(self) -> dict[str, float]:
        """Share of each weight's entries that were beyond what its devices hold when it was last written."""
        return self._tier.clipped

    @torch.no_grad()
    def program(self, parameters: Parameters) -> None:
        self._tier.program(parameters)

    @torch.no_grad()
    def read(self) -> Parameters:
        return self._tier.read()

    @torch.no_grad()
    def apply(self, update: Parameters) -> None:
        self._tier.apply(update)

    @torch.no_grad()
    def settle(self, x: Tensor, *, nudge: Nudge | None = None, start: Equilibrium | None = None) -> Equilibrium:
        return self._tier.settle(x, nudge, start)

    @torch.no_grad()
    def contrast(self, terms: Sequence[tuple[complex, Equilibrium]]) -> Parameters:
        return self._tier.contrast(terms)

    @torch.no_grad()
    def learn(self, x: Tensor, target: Tensor, *, rate: float, beta: float) -> None:
        """Free phase, then +beta and -beta, and pulses for rate / (2 beta batch) times their contrast."""
        self._tier.learn(x, target, rate, beta)

    @torch.no_grad()
    def advance(self, seconds: float) -> None:
        """Move the devices' clock: they drift, and 1/f noise is drawn anew."""
        self._tier.advance(seconds)

    def reseed(self, seed: int) -> None:
        self._random.manual_seed(seed)

    def counts(self) -> OperationCounts:
        return self._tier.tally.freeze()

    @torch.no_grad()
    def kcl_residual(self, equilibrium: Equilibrium) -> Tensor:
        """The largest current (A) into any node of a circuit that nothing carries away, (batch,); 0 at rest."""
        return self._circuit("kcl_residual").kcl_residual(equilibrium)

    @torch.no_grad()
    def power(self, equilibrium: Equilibrium) -> Tensor:
        """What the circuit's resistors and diodes turn into heat, W, (batch,)."""
        return self._circuit("power").power(equilibrium)

    @property
    def settling_seconds(self) -> float:
        """The physical time of one phase of a circuit that counts take, s."""
        return self._circuit("settling_seconds").settling_seconds

    @torch.no_grad()
    def transient(self, x: Tensor, *, nudge: Nudge | None = None, tolerance: float = 1e-3) -> Transient:
        """How the voltages of a small circuit come to rest in time, from 0 V (see `mep_neuro_analog.Transient`).

        x:         one sample, (1, *inputs).
        tolerance: share of the way that is left when it counts as settled.
        """
        return self._circuit("transient").transient(x, nudge, tolerance)

    @torch.no_grad()
    def netlist(self, path: str | os.PathLike[str], x: Tensor, *, nudge: Nudge | None = None) -> None:
        """Write a SPICE netlist of the circuit as it is programmed, with one sample (1, *inputs) at its sources.

        Inputs are nodes in0, in1 ..., and node i of population l is n<l>_<i>. `ngspice -b` solves its `.op`.
        """
        self._circuit("netlist").netlist(path, x, nudge)

    def _circuit(self, asked: str) -> Circuit:
        if isinstance(self._tier, Circuit):
            return self._tier
        raise CapabilityError(
            f"{asked} is for circuits, and a network of energy={self.network.energy_name!r} is on crossbars: "
            "build it with energy='resistive'"
        )
