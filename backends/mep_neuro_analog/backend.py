"""The analog substrate: couplings on crossbars of conductances, with their faults."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Literal, final

import torch
from torch import Tensor

from mep_neuro.backend import Backend
from mep_neuro.capabilities import Availability, Capabilities
from mep_neuro.counts import OperationCounts
from mep_neuro.errors import CapabilityError, InputError, OptionError, check_choice
from mep_neuro.network import EnergyNetwork
from mep_neuro.settling import CONVERGED, DEFAULT_STEPS, check_contrast, check_tolerance, runs_away, step_limits
from mep_neuro.types import Equilibrium, Nudge, Parameters
from mep_neuro_analog.checks import as_number, check_finite, pull, real, weighted
from mep_neuro_analog.counting import CircuitTally
from mep_neuro_analog.learning import pulse
from mep_neuro_analog.neurons import Neurons
from mep_neuro_analog.readout import Readout
from mep_neuro_analog.settling import Chain, Connection
from mep_neuro_analog.spec_options import spec_of
from mep_neuro_analog.specs import AnalogSpec, DeviceSpec
from mep_neuro_analog.synapses import Synapses

log = logging.getLogger(__name__)


@final
class AnalogBackend(Backend):
    """Crossbars of conductances in the module's dtype, settling with every product through the same devices.

    device:     a preset's name (`mep_neuro_analog.DEVICES`), or a `DeviceSpec`.
    spec:       an `AnalogSpec` in place of all options up to `settling_seconds`, which are its fields (see `specs`).
    update:     how new parameters reach the devices after the first time: "program" writes all anew, "pulses" gives
                each device the pulses that its change asks for.
    learning:   how resident learning applies EP's two phases: "phases", each product by itself, or "difference".
    weight_max: the largest weight the arrays hold; None: that of each coupling when it is programmed, and at least 1
                where devices answer to pulses.
    exact:      draw every device and pulse instead of their law: slow, for checking.
    max_steps, tolerance: of settling, as on the digital backends.

    Biases are added by the periphery, without fault. Clipped weights are reported in the log and in `clipped`.
    """

    capabilities: Capabilities = Capabilities(
        couplings=frozenset({"Dense", "Flatten"}),
        activations=frozenset({"ClippedLinear", "Logistic"}),
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
        device: str | DeviceSpec = "ideal",
        pairs: Literal["differential", "offset"] | None = None,
        tile: int = 512,
        wire_resistance: float = 0.0,
        converters: Literal["ends", "tiles"] = "ends",
        dac_bits: int | None = None,
        adc_bits: int | None = None,
        output_noise: float = 0.0,
        bandwidth: float = 0.0,
        comparator_offset: float = 0.0,
        neuron_gain: float = 0.0,
        neuron_offset: float = 0.0,
        settling_error: float = 0.0,
        settling_seconds: float = 1e-6,
        spec: AnalogSpec | None = None,
        update: Literal["program", "pulses"] = "program",
        learning: Literal["phases", "difference"] = "difference",
        weight_max: float | None = None,
        exact: bool = False,
        max_steps: int | Sequence[int] = DEFAULT_STEPS,
        tolerance: float | None = None,
    ) -> None:
        given = {
            "pairs": pairs,
            "rows": tile,
            "columns": tile,
            "wire_resistance": wire_resistance,
            "converters": converters,
            "dac_bits": dac_bits,
            "adc_bits": adc_bits,
            "output_noise": output_noise,
            "bandwidth": bandwidth,
            "comparator_offset": comparator_offset,
            "neuron_gain": neuron_gain,
            "neuron_offset": neuron_offset,
            "settling_error": settling_error,
            "settling_seconds": settling_seconds,
        }
        self.network, self.spec = network, spec_of(device, given) if spec is None else spec
        self._steps, self._tolerance = step_limits(max_steps), check_tolerance(tolerance)
        if weight_max is not None and not 0 < as_number("weight_max", weight_max) < math.inf:
            raise OptionError(f"weight_max is {weight_max}; give a number above 0, or leave it out")
        check_choice("update", update, ("program", "pulses"))
        check_choice("learning", learning, ("phases", "difference"))
        pulsed = self.spec.device.pulses is not None
        if update == "pulses" and not pulsed:
            raise OptionError(f"device {self.spec.device.name!r} does not answer to pulses: update='program'")
        self._learning = learning
        kind = type(self).capabilities
        self.capabilities = replace(
            kind,
            deterministic=kind.deterministic and not self.spec.noisy,
            resident_learning=pulsed,
            prefers="resident" if update == "pulses" else "host",
            writes="apply" if update == "pulses" else "program",
        )
        like = torch.empty(0, dtype=network.dtype, device=network.device)
        self._random = torch.Generator(network.device).manual_seed(seed)
        fixed = torch.Generator("cpu").manual_seed(seed)
        self._weighted = [weighted(coupling) for coupling in network.couplings]
        synapses = partial(
            Synapses, self.spec, fixed=fixed, generator=self._random, like=like, weight_max=weight_max, exact=exact
        )
        self._synapses = [synapses(outputs, inputs) for inputs, outputs in (c.sizes for c in network.couplings)]
        periphery = self.spec.periphery
        self._neurons = [Neurons(p, periphery, fixed, like) for p in network.populations]
        shapes = [network.input_shape, *(p.shape for p in network.populations)]
        self._readout = Readout(periphery, shapes, fixed, like)
        self._biases: dict[str, Tensor] = {}
        self._connections: list[Connection] = []
        self._tally = CircuitTally(self.spec)
        self.clipped: dict[str, float] = {}
        """Share of each weight's entries that were beyond what its array holds when it was last written."""

    @torch.no_grad()
    def program(self, parameters: Parameters) -> None:
        self.network.check_parameters(parameters)
        check_finite(parameters)
        for o, synapses in zip(self._weighted, self._synapses, strict=True):
            written = synapses.program(parameters[o.weight].detach())
            self._wrote(o.weight, written.pulses, written.clipped)
            if o.bias:
                self._biases[o.bias] = parameters[o.bias].detach().clone()
        self._connect()

    @torch.no_grad()
    def read(self) -> Parameters:
        self._check_programmed()
        found: dict[str, Tensor] = {}
        for o, synapses in zip(self._weighted, self._synapses, strict=True):
            found[o.weight] = synapses.weight.clone()
            if o.bias:
                found[o.bias] = self._biases[o.bias].clone()
        return found

    @torch.no_grad()
    def apply(self, update: Parameters) -> None:
        self._check_programmed()
        self.network.check_parameters(update, whole=False)
        check_finite(update)
        for o, synapses in zip(self._weighted, self._synapses, strict=True):
            if o.weight in update:
                written = synapses.change(update[o.weight].detach())
                self._wrote(o.weight, written.pulses, written.clipped)
            if o.bias and o.bias in update:
                self._biases[o.bias] = self._biases[o.bias] + update[o.bias].detach()
        self._connect()

    @torch.no_grad()
    def settle(self, x: Tensor, *, nudge: Nudge | None = None, start: Equilibrium | None = None) -> Equilibrium:
        self._check_programmed()
        x = self.network.batch(x)
        chain = Chain(self._connections, self._neurons, self._readout.given(x), noisy=self.spec.noisy_reads)
        if start is None:
            chain.forward_pass()
        else:
            chain.states = [s.clone() for s in start.states]
        before = list(chain.states)
        phase: Literal["free", "nudged"] = "free"
        if nudge is None:
            self._tally.presented(len(x), self.network.host_values, x.element_size())
            self._tally.add("input_output", "dac_conversions", x.numel())
            self._tally.add("input_output", "adc_conversions", len(x) * self.network.outputs.size)
            scale = chain.states[-1].abs().flatten(1).amax(1).clamp_min(1)
        else:
            phase, chain.pull = "nudged", pull(nudge)
            off = chain.pull.push(chain.states[-1])
            scale = off.abs().flatten(1).amax(1).clamp_min(CONVERGED * 1e-3)
            self._tally.add("nudged", "dac_conversions", len(x) * self.network.outputs.size)
        steps, change = self._relax(chain, scale, nudged=nudge is not None)
        if error := self.spec.periphery.settling_error:
            chain.states = [torch.lerp(s, b, error) for s, b in zip(chain.states, before, strict=True)]
        residual = change / scale
        if not math.isfinite((residual.sum() + 0 * x.sum()).item()):  # the phase's one wait for the device
            raise self._lost(x, chain, phase)
        self._tally.settled(phase, chain, steps)
        return Equilibrium(
            x=x,
            states=tuple(chain.states),
            outputs=self._readout.read(chain.states[-1]),
            steps=steps,
            residual=residual,
            tolerance=self._tolerance or CONVERGED,
            nudge=nudge,
        )

    @torch.no_grad()
    def contrast(self, terms: Sequence[tuple[complex, Equilibrium]]) -> Parameters:
        self._check_programmed()
        weights = [real(w) for w, _ in terms]
        check_contrast(weights)
        x, trained, found = self._readout.given(terms[0][1].x), self.network.trained, dict[str, Tensor]()
        phases = [[x, *e.states] for _, e in terms]
        for level, o in enumerate(self._weighted, 1):
            weight, bias = self._readout.contrast(level, weights, phases)
            both = ((o.weight, weight), (o.bias, bias))
            found |= {name: value / len(x) for name, value in both if name in trained}
        units = sum(p.size for p in self.network.populations)
        self._tally.add("update", "adc_conversions", len(x) * units * (2 * len(terms) - 1))
        for level, coupling in enumerate(self.network.couplings):  # the host works the products out
            if self._weighted[level].weight in trained:
                self._tally.add("update", "macs", coupling.macs * len(x) * (len(terms) - 1) * (1 + (level > 0)))
        return found

    @torch.no_grad()
    def learn(self, x: Tensor, target: Tensor, *, rate: float, beta: float) -> None:
        """Free phase, then +beta and -beta, and pulses for rate / (2 beta batch) times their contrast."""
        if not self.capabilities.resident_learning:
            raise CapabilityError(f"device {self.spec.device.name!r} does not answer to pulses: learn on the host")
        free = self.settle(x)
        step, given = rate / (2 * beta * len(x)), self._readout.given(free.x)
        plus, minus = ([given, *self.settle(x, nudge=Nudge(b, target), start=free).states] for b in (beta, -beta))
        for level, (o, synapses) in enumerate(zip(self._weighted, self._synapses, strict=True), 1):
            if o.weight in self.network.trained:
                pulses = pulse(synapses, level, plus, minus, step, self._learning, self._readout)
                self._tally.add("update", "write_pulses", pulses)
            if o.bias and o.bias in self.network.trained:
                apart = self._readout.compared(level, plus[level], minus[level])
                self._biases[o.bias] = self._biases[o.bias] + step * apart.sum(0)
        self._connect()

    @torch.no_grad()
    def advance(self, seconds: float) -> None:
        """Move the devices' clock: they drift, and 1/f noise is drawn anew."""
        for synapses in self._synapses:
            synapses.advance(seconds)

    def reseed(self, seed: int) -> None:
        self._random.manual_seed(seed)

    def counts(self) -> OperationCounts:
        return self._tally.freeze()

    def _relax(self, chain: Chain, scale: Tensor, *, nudged: bool) -> tuple[int, Tensor]:
        """Sweep until all samples rest or the steps are used up; returns the sweeps and each sample's last change."""
        limit, travel = self._steps[nudged], 1 + (len(self._neurons) + 1) // 2 * nudged
        change = torch.zeros_like(scale)
        for step in range(1, limit + 1):
            early = self._tolerance is not None and step >= travel
            measured = chain.sweep(measure=early or step == limit)
            if measured is not None:
                change = measured
                if early and bool((change <= (self._tolerance or 0.0) * scale).all()):
                    return step, change
        return limit, change

    def _lost(self, x: Tensor, chain: Chain, phase: str) -> Exception:
        if not bool(torch.isfinite(x).all()):
            return InputError("x holds NaN or infinity: clean the data")
        level = next((n for n, s in enumerate(chain.states, 1) if not bool(torch.isfinite(s).all())), 1)
        return runs_away(f"population {level} is not finite in the {phase} phase", self.network.energy_name)

    def _connect(self) -> None:
        """Bring the couplings up to date with the biases."""
        biases = [None if o.bias is None else self._biases[o.bias] for o in self._weighted]
        parts = zip(self.network.couplings, self._synapses, biases, strict=True)
        self._connections = [Connection(*part) for part in parts]

    def _wrote(self, name: str, pulses: int, clipped: float) -> None:
        self._tally.add("update", "write_pulses", pulses)
        if clipped and not self.clipped.get(name):
            log.warning(
                "%.2g %% of %r are beyond the largest weight the arrays hold and are clipped", 100 * clipped, name
            )
        self.clipped[name] = clipped

    def _check_programmed(self) -> None:
        if not self._connections:
            raise InputError("the substrate holds no parameters yet: program the parameters first")
