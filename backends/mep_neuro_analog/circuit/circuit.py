"""The circuit tier: conductances on devices, diodes for activations, and phases that settle by Kirchhoff's laws."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, final

import torch
from torch import Tensor

from mep_neuro.activations import limits
from mep_neuro.couplings import Signed
from mep_neuro.errors import CapabilityError, InputError
from mep_neuro.files import write_text_atomically
from mep_neuro.modules import signed
from mep_neuro.settling import CONVERGED, check_contrast
from mep_neuro.types import Equilibrium, Nudge, Parameters
from mep_neuro_analog.checks import check_finite, real, weighted
from mep_neuro_analog.circuit.conductances import Conductances
from mep_neuro_analog.circuit.contrast import Swing, between
from mep_neuro_analog.circuit.diodes import Ends
from mep_neuro_analog.circuit.netlist import netlist
from mep_neuro_analog.circuit.relaxation import Chain, Pull, Resistors, relax
from mep_neuro_analog.circuit.specs import CircuitSpec
from mep_neuro_analog.circuit.timing import settling_time
from mep_neuro_analog.circuit.transient import Transient, transient
from mep_neuro_analog.readout import Readout
from mep_neuro_analog.tier import Opening, Tier, check_programmed


@final
@dataclass(frozen=True)
class Rest:
    """Where a phase came to rest, with all digits: voltages (V), and what x drives into population 1 (A)."""

    x: Tensor
    volts: tuple[Tensor, ...]
    sources: Tensor
    clamped: Tensor
    circuit: Resistors


@final
class Circuit(Tier):
    """A network of the resistive energy in siemens, volts and amperes, float64 whatever the module's dtype.

        G = unit g,    V = v_unit v,    I = unit v_unit b,    unit = g_max / weight_max

    weight_max is the largest weight of the whole network when it is programmed where it is not given, or twice that
    where devices answer to pulses, so that there is room to grow. Biases are injected currents, without fault.
    """

    def __init__(self, opening: Opening, spec: CircuitSpec) -> None:
        super().__init__()
        network, fixed = opening.network, opening.fixed
        self.network, self.spec, self._largest = network, spec, opening.weight_max
        self._steps, self._tolerance = opening.steps, opening.tolerance
        self._weighted = [weighted(coupling) for coupling in network.couplings]
        self._devices = [
            Conductances(
                spec.device,
                (o.out_shape[0], o.in_shape[0]),
                fixed=fixed,
                generator=opening.random,
                where=network.device,
            )
            for o in self._weighted
        ]
        like = torch.empty(0, dtype=torch.float64, device=network.device)
        self._ends = [
            Ends(*(spec.v_unit * end for end in limits(p.activation, like.new_empty(1, *p.shape))))
            for p in network.populations
        ]
        self._readout = Readout(
            spec.readout, [network.input_shape, *(p.shape for p in network.populations)], fixed, like
        )
        self._currents: list[Tensor | None] = [None] * len(self._weighted)
        self._unit = 0.0
        self._held: Resistors | None = None
        self._seconds: float | None = None

    def program(self, parameters: Parameters) -> None:
        self.network.check_parameters(parameters)
        check_finite(parameters)
        self.network.check_conductances(parameters)
        weights = [parameters[o.weight].detach().double() for o in self._weighted]
        room = 1 if self.spec.device.pulses is None else 2
        most = self._largest or room * max(float(g.max()) for g in weights) or 1.0
        self._unit = self.spec.device.g_max / most
        for level, (o, g, devices) in enumerate(zip(self._weighted, weights, self._devices, strict=True)):
            written = devices.program(self._unit * g)
            self._wrote(o.weight, written.pulses, written.clipped)
            if o.bias:
                self._currents[level] = self._amperes * parameters[o.bias].detach().double()
        self._hold()

    def read(self) -> Parameters:
        check_programmed(self._unit)
        found: dict[str, Tensor] = {}
        for o, devices, current in zip(self._weighted, self._devices, self._currents, strict=True):
            found[o.weight] = (devices.now / self._unit).to(self.network.dtype)
            if o.bias and current is not None:
                found[o.bias] = (current / self._amperes).to(self.network.dtype)
        return found

    def apply(self, update: Parameters) -> None:
        check_programmed(self._unit)
        self.network.check_parameters(update, whole=False)
        check_finite(update)
        for level, (o, devices) in enumerate(zip(self._weighted, self._devices, strict=True)):
            if o.weight in update:
                written = devices.change(self._unit * update[o.weight].detach().double())
                self._wrote(o.weight, written.pulses, written.clipped)
            current = self._currents[level]
            if o.bias and o.bias in update and current is not None:
                self._currents[level] = current + self._amperes * update[o.bias].detach().double()
        self._hold()

    def settle(self, x: Tensor, nudge: Nudge | None, start: Equilibrium | None) -> Equilibrium:
        circuit = self._circuit()
        x = self.network.batch(x)
        chain = self._begin(circuit, x, start)
        if nudge is None:
            self.tally.presented(len(x), self.network.host_values, x.element_size())
            self.tally.add("input_output", "dac_conversions", x.numel())
            self.tally.add("input_output", "adc_conversions", len(x) * self.network.outputs.size)
            scale = chain.volts[-1].abs().amax(1).clamp_min(self.spec.v_unit)
        else:
            chain.pull = self._pull(nudge, circuit)
            self.tally.add("nudged", "dac_conversions", len(x) * self.network.outputs.size)
            shift = chain.pull.into(chain.volts[-1]) / circuit.totals[-1]  # of an output, its neighbours held
            scale = shift.abs().amax(1).clamp_min(1e-9 * self.spec.v_unit)
        nudged = nudge is not None
        least = 1 + (len(self._weighted) + 1) // 2 * nudged
        steps, residual = relax(chain, scale, (least, self._steps[nudged]), self._tolerance)
        phase: Literal["free", "nudged"] = "nudged" if nudged else "free"
        self.tally.add(phase, "cell_reads", len(x) * sum(g.numel() for g in circuit.weights))
        self.tally.heated(phase, chain.power().sum() * self.settling_seconds)
        self.tally.spent(phase, "seconds", len(x) * self.settling_seconds)
        states = tuple(self._states(v) for v in chain.volts)
        return Equilibrium(
            x=x,
            states=states,
            outputs=self._readout.read(states[-1]),
            steps=steps,
            residual=residual.to(x.dtype),
            tolerance=self._tolerance or CONVERGED,
            nudge=nudge,
            context=Rest(x, tuple(chain.volts), chain.sources, chain.clamped, circuit),
        )

    def contrast(self, terms: Sequence[tuple[complex, Equilibrium]]) -> Parameters:
        self._circuit()
        weights = [real(w) for w, _ in terms]
        check_contrast(weights)
        x, trained, found = terms[0][1].x, self.network.trained, dict[str, Tensor]()
        phases = [[v / self.spec.v_unit for v in self._volts(e)] for _, e in terms]
        below = Swing.still(self._sources(x) / self.spec.v_unit)
        for level, o in enumerate(self._weighted, 1):
            above = Swing.read(self._readout, level, [phase[level - 1] for phase in phases], weights)
            if o.weight in trained:
                found[o.weight] = (between(below, above, weights) / len(x)).to(self.network.dtype)
            if o.bias in trained and o.bias is not None:
                found[o.bias] = (above.rise.sum(0) / len(x)).to(self.network.dtype)
            below = above
        units = sum(p.size for p in self.network.populations)
        self.tally.add("update", "adc_conversions", len(x) * units * len(terms))  # one phase, and the others' shifts
        for level, coupling in enumerate(self.network.couplings):  # the host works the products out
            if self._weighted[level].weight in trained:
                self.tally.add("update", "macs", coupling.macs * len(x) * (len(terms) - 1) * (1 + (level > 0)))
        return found

    def learn(self, x: Tensor, target: Tensor, rate: float, beta: float) -> None:
        raise CapabilityError(
            "trains of pulses make products of two voltages, and a conductance learns by squared drops: learn on the "
            "host, update='pulses' for devices that answer to pulses"
        )

    def advance(self, seconds: float) -> None:
        for devices in self._devices:
            devices.advance(seconds)
        if self._unit:
            self._hold()

    @property
    def settling_seconds(self) -> float:
        """Of one phase: what the spec says, or `timing.settling_time` of the conductances, s."""
        if self.spec.settling_seconds is not None:
            return self.spec.settling_seconds
        if self._seconds is None:
            self._seconds = settling_time(self._circuit(), self.spec.node_capacitance)
        return self._seconds

    def kcl_residual(self, equilibrium: Equilibrium) -> Tensor:
        """The largest current that is left over at any node, A, (batch,)."""
        worst = [left.abs().amax(1) for left in self._chain(equilibrium).left_over()]
        return torch.stack(worst).amax(0)

    def power(self, equilibrium: Equilibrium) -> Tensor:
        """Heat of resistors and diodes, W, (batch,)."""
        return self._chain(equilibrium).power()

    def transient(self, x: Tensor, nudge: Nudge | None, tolerance: float) -> Transient:
        """One sample's way to rest."""
        chain = self._posed(self._one(x), nudge)
        return transient(chain, self.spec.node_capacitance, tolerance, self.spec.v_unit)

    def netlist(self, path: str | os.PathLike[str], x: Tensor, nudge: Nudge | None) -> None:
        """Write one sample's netlist, whole or not at all."""
        write_text_atomically(path, netlist(self._posed(self._one(x), nudge), self.spec))

    @property
    def _amperes(self) -> float:
        """A of a bias of 1."""
        return self._unit * self.spec.v_unit

    def _hold(self) -> None:
        self._held, self._seconds = None, None

    def _circuit(self) -> Resistors:
        """The conductances as they are now, looked over once after each change."""
        check_programmed(self._unit)
        if self._held is None:
            self._held = Resistors.of([d.now for d in self._devices], list(self._currents), self._ends, self.spec.diode)
        return self._held

    def _sources(self, x: Tensor) -> Tensor:
        """The voltages that x is turned into, (batch, sources), V."""
        u = self._readout.given(x.double()).flatten(1)
        for o in self.network.couplings[0].operations:
            if isinstance(o, Signed):
                u = signed(u, o.gain)
        return self.spec.v_unit * u

    def _states(self, volts: Tensor) -> Tensor:
        return (volts / self.spec.v_unit).to(self.network.dtype)

    def _volts(self, e: Equilibrium) -> tuple[Tensor, ...]:
        """An equilibrium's voltages, with all digits where it was settled here."""
        if isinstance(e.context, Rest):
            return e.context.volts
        return tuple(self.spec.v_unit * s.double() for s in e.states)

    def _begin(self, circuit: Resistors, x: Tensor, start: Equilibrium | None) -> Chain:
        """A chain from where a start rested, or from the forward pass. What x drives in is worked out once a batch."""
        known = start.context if start is not None and isinstance(start.context, Rest) else None
        if known is not None and known.x is x and known.circuit is circuit:
            chain = Chain(circuit, known.sources, known.clamped)
        else:
            chain = Chain(circuit, self._sources(x))
        if start is None:
            chain.forward_pass()
        else:
            chain.volts = list(self._volts(start))
        return chain

    def _chain(self, e: Equilibrium) -> Chain:
        """An equilibrium as it was, on the conductances of now."""
        chain = self._begin(self._circuit(), e.x, e)
        if e.nudge is not None:
            chain.pull = self._pull(e.nudge, chain.circuit)
        return chain

    def _posed(self, x: Tensor, nudge: Nudge | None) -> Chain:
        """What is to be solved, with all nodes at 0 V or at the end of their range."""
        circuit = self._circuit()
        chain = Chain(circuit, self._sources(x))
        zeros = (torch.zeros_like(t)[None] for t in circuit.totals)
        chain.volts = [torch.minimum(torch.maximum(v, e.low), e.high) for v, e in zip(zeros, circuit.ends, strict=True)]
        if nudge is not None:
            chain.pull = self._pull(nudge, circuit)
        return chain

    def _one(self, x: Tensor) -> Tensor:
        x = self.network.batch(x)
        if len(x) != 1:
            raise InputError(f"x holds {len(x)} samples; a circuit shows one at a time: give x[:1]")
        if not bool(torch.isfinite(x).all()):
            raise InputError("x holds NaN or infinity: clean the data")
        return x

    def _pull(self, nudge: Nudge, circuit: Resistors) -> Pull:
        """The nudge in A and S. Raises `InputError` for one under which the outputs have no minimum."""
        beta = real(nudge.beta)
        if nudge.force is not None:
            return Pull(0.0, self._amperes * beta * nudge.force.double().flatten(1))
        assert nudge.target is not None
        least = float(circuit.totals[-1].min())
        if self._unit * beta <= -least:
            raise InputError(
                f"beta is {beta}, but from {-least / self._unit:g} down, the least sum of conductances at an output, "
                "the outputs have no minimum: use a smaller one"
            )
        return Pull(self._unit * beta, self._amperes * beta * nudge.target.double().flatten(1))

    @property
    def _bound(self) -> str:
        return "what the devices can conduct (g_min .. g_max)"
