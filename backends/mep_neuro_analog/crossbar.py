"""The crossbar tier: couplings on tiles of conductances, each product through the same devices and their faults."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Literal, final

import torch
from torch import Tensor

from mep_neuro.errors import CapabilityError, InputError
from mep_neuro.settling import CONVERGED, check_contrast, runs_away
from mep_neuro.types import Equilibrium, Nudge, Parameters
from mep_neuro_analog.checks import check_finite, check_unsigned, pull, real, weighted
from mep_neuro_analog.counting import count_crossbars
from mep_neuro_analog.learning import Phases, pulse
from mep_neuro_analog.neurons import Neurons
from mep_neuro_analog.readout import Readout
from mep_neuro_analog.settling import Chain, Connection
from mep_neuro_analog.specs import AnalogSpec
from mep_neuro_analog.synapses import Synapses
from mep_neuro_analog.tier import Opening, Tier, check_programmed


@final
class Crossbar(Tier):
    """Hopfield networks on tiles, in the module's dtype. Biases are added by the periphery, without fault.

    learning: how EP's two phases are applied in place (see `learning`).
    exact:    draw every device and pulse instead of their law.
    """

    def __init__(self, opening: Opening, spec: AnalogSpec, *, learning: Phases, exact: bool) -> None:
        super().__init__()
        network, fixed = opening.network, opening.fixed
        self.network, self.spec, self._learning = network, spec, learning
        self._steps, self._tolerance = opening.steps, opening.tolerance
        like = torch.empty(0, dtype=network.dtype, device=network.device)
        check_unsigned(network)
        self._weighted = [weighted(coupling) for coupling in network.couplings]
        synapses = partial(
            Synapses,
            spec,
            fixed=fixed,
            generator=opening.random,
            like=like,
            weight_max=opening.weight_max,
            exact=exact,
        )
        self._synapses = [synapses(outputs, inputs) for inputs, outputs in (c.sizes for c in network.couplings)]
        self._neurons = [Neurons(p, spec.periphery, fixed, like) for p in network.populations]
        shapes = [network.input_shape, *(p.shape for p in network.populations)]
        self._readout = Readout(spec.periphery, shapes, fixed, like)
        self._biases: dict[str, Tensor] = {}
        self._connections: list[Connection] = []

    def program(self, parameters: Parameters) -> None:
        self.network.check_parameters(parameters)
        check_finite(parameters)
        for o, synapses in zip(self._weighted, self._synapses, strict=True):
            written = synapses.program(parameters[o.weight].detach())
            self._wrote(o.weight, written.pulses, written.clipped)
            if o.bias:
                self._biases[o.bias] = parameters[o.bias].detach().clone()
        self._connect()

    def read(self) -> Parameters:
        check_programmed(self._connections)
        found: dict[str, Tensor] = {}
        for o, synapses in zip(self._weighted, self._synapses, strict=True):
            found[o.weight] = synapses.weight.clone()
            if o.bias:
                found[o.bias] = self._biases[o.bias].clone()
        return found

    def apply(self, update: Parameters) -> None:
        check_programmed(self._connections)
        self.network.check_parameters(update, whole=False)
        check_finite(update)
        for o, synapses in zip(self._weighted, self._synapses, strict=True):
            if o.weight in update:
                written = synapses.change(update[o.weight].detach())
                self._wrote(o.weight, written.pulses, written.clipped)
            if o.bias and o.bias in update:
                self._biases[o.bias] = self._biases[o.bias] + update[o.bias].detach()
        self._connect()

    def settle(self, x: Tensor, nudge: Nudge | None, start: Equilibrium | None) -> Equilibrium:
        check_programmed(self._connections)
        x = self.network.batch(x)
        chain = Chain(self._connections, self._neurons, self._readout.given(x), noisy=self.spec.noisy_reads)
        if start is None:
            chain.forward_pass()
        else:
            chain.states = [s.clone() for s in start.states]
        before = list(chain.states)
        phase: Literal["free", "nudged"] = "free"
        if nudge is None:
            self.tally.presented(len(x), self.network.host_values, x.element_size())
            self.tally.add("input_output", "dac_conversions", x.numel())
            self.tally.add("input_output", "adc_conversions", len(x) * self.network.outputs.size)
            scale = chain.states[-1].abs().flatten(1).amax(1).clamp_min(1)
        else:
            phase, chain.pull = "nudged", pull(nudge)
            off = chain.pull.push(chain.states[-1])
            scale = off.abs().flatten(1).amax(1).clamp_min(CONVERGED * 1e-3)
            self.tally.add("nudged", "dac_conversions", len(x) * self.network.outputs.size)
        steps, change = self._relax(chain, scale, nudged=nudge is not None)
        if error := self.spec.periphery.settling_error:
            chain.states = [torch.lerp(s, b, error) for s, b in zip(chain.states, before, strict=True)]
        residual = change / scale
        if not math.isfinite((residual.sum() + 0 * x.sum()).item()):  # the phase's one wait for the device
            raise self._lost(x, chain, phase)
        count_crossbars(self.tally, self.spec, phase, chain, steps)
        return Equilibrium(
            x=x,
            states=tuple(chain.states),
            outputs=self._readout.read(chain.states[-1]),
            steps=steps,
            residual=residual,
            tolerance=self._tolerance or CONVERGED,
            nudge=nudge,
        )

    def contrast(self, terms: Sequence[tuple[complex, Equilibrium]]) -> Parameters:
        check_programmed(self._connections)
        weights = [real(w) for w, _ in terms]
        check_contrast(weights)
        x, trained, found = self._readout.given(terms[0][1].x), self.network.trained, dict[str, Tensor]()
        phases = [[x, *e.states] for _, e in terms]
        for level, o in enumerate(self._weighted, 1):
            weight, bias = self._readout.contrast(level, weights, phases)
            both = ((o.weight, weight), (o.bias, bias))
            found |= {name: value / len(x) for name, value in both if name in trained}
        units = sum(p.size for p in self.network.populations)
        self.tally.add("update", "adc_conversions", len(x) * units * (2 * len(terms) - 1))
        for level, coupling in enumerate(self.network.couplings):  # the host works the products out
            if self._weighted[level].weight in trained:
                self.tally.add("update", "macs", coupling.macs * len(x) * (len(terms) - 1) * (1 + (level > 0)))
        return found

    def learn(self, x: Tensor, target: Tensor, rate: float, beta: float) -> None:
        """Free phase, then +beta and -beta, and pulses for rate / (2 beta batch) times their contrast."""
        if self.spec.device.pulses is None:
            raise CapabilityError(f"device {self.spec.device.name!r} does not answer to pulses: learn on the host")
        free = self.settle(x, None, None)
        step, given = rate / (2 * beta * len(x)), self._readout.given(free.x)
        plus, minus = ([given, *self.settle(x, Nudge(b, target), free).states] for b in (beta, -beta))
        for level, (o, synapses) in enumerate(zip(self._weighted, self._synapses, strict=True), 1):
            if o.weight in self.network.trained:
                pulses = pulse(synapses, level, plus, minus, step, self._learning, self._readout)
                self.tally.add("update", "write_pulses", pulses)
            if o.bias and o.bias in self.network.trained:
                apart = self._readout.compared(level, plus[level], minus[level])
                self._biases[o.bias] = self._biases[o.bias] + step * apart.sum(0)
        self._connect()

    def advance(self, seconds: float) -> None:
        for synapses in self._synapses:
            synapses.advance(seconds)

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

    @property
    def _bound(self) -> str:
        return "the largest weight the arrays hold"
