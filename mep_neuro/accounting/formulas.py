"""Closed formulas for what training one batch takes: oracles for the counters, and counts for what was not run.

Symbols: couplings l = 1 .. L with M_l multiply-accumulates a product and K_l weights and biases; M = sum M_l,
M_in = M_1 (the coupling that the clamped input drives), M_f = M - M_in; N units without the inputs; T_f free and T_n
nudged steps, P nudged phases (2 for +beta and -beta); R = T_f + P T_n; B samples a batch.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from mep_neuro.counts import Operation, OperationCounts, Phase
from mep_neuro.couplings import Coupling
from mep_neuro.errors import InputError
from mep_neuro.network import EnergyNetwork


@dataclass(frozen=True)
class _Batch:
    """Counts of one batch, added up from products, neuron updates and outer products."""

    size: int
    itemsize: int
    found: Counter[tuple[Phase, Operation]]

    def products(self, phase: Phase, coupling: Coupling, times: int, *, back: bool = False) -> None:
        """f_l of the batch, or its adjoint: M_l macs a sample, K_l words of weights, the states that are read."""
        self.found[phase, "launches"] += times
        self.found[phase, "macs"] += times * coupling.macs * self.size
        self.found[phase, "accumulates"] += times * coupling.accumulates * self.size
        self.found[phase, "weight_bytes"] += times * coupling.weights * self.itemsize
        self.found[phase, "state_bytes"] += times * coupling.sizes[back] * self.size * self.itemsize

    def updates(self, phase: Phase, units: int, times: int) -> None:
        """Neuron updates; each writes one state."""
        self.found[phase, "neuron_updates"] += times * units * self.size
        self.found[phase, "state_bytes"] += times * units * self.size * self.itemsize

    def outer(self, coupling: Coupling, times: int) -> None:
        """Outer products of a coupling's two ends, summed over the batch; the gradient is written once."""
        self.found["update", "launches"] += times
        self.found["update", "macs"] += times * coupling.macs * self.size
        self.found["update", "state_bytes"] += times * sum(coupling.sizes) * self.size * self.itemsize
        self.found["update", "weight_bytes"] += coupling.weights * self.itemsize

    def counts(self, network: EnergyNetwork) -> OperationCounts:
        """All of it, with what passes between host and substrate."""
        self.found["input_output", "host_bytes"] += network.host_values * self.size * self.itemsize
        return OperationCounts(self.size, dict(self.found))


def equilibrium_propagation(
    network: EnergyNetwork,
    *,
    batch: int,
    free_steps: int,
    nudged_steps: int,
    phases: int = 2,
    cached: bool = True,
    itemsize: int = 4,
) -> OperationCounts:
    """One batch of equilibrium propagation by block sweeps on the Hopfield energy, from the forward pass on:

        macs of settling = B [ M + 2 R M_f ]                the clamped input's drive worked out once (`cached`)
                         = B [ M + R (M_in + 2 M_f) ]       worked out again at every step
        macs of update   = B [ 2 M_f + M_in ] (max(P, 2) - 1)

    A nudge travels from the outputs down: a population d couplings below them has its neighbours at rest in the first
    floor(d / 2) nudged sweeps and is left alone, so with more than one hidden population R M_f is a little less.

    free_steps, nudged_steps: steps of the free phase and of each nudged phase.
    phases: nudged phases; the contrast is between them, or with the free phase where there is one only.

    Source: by hand from the block sweeps of docs/equations.md. Raises `InputError` for another energy than Hopfield's,
    or for numbers below 1.
    """
    _check(network, batch, free_steps=free_steps, nudged_steps=nudged_steps, phases=phases)
    made = _Batch(batch, itemsize, Counter())
    for coupling, population in zip(network.couplings, network.populations, strict=True):
        made.products("free", coupling, 1)
        made.updates("free", population.size, 1)
    levels = len(network.populations)
    steps: list[tuple[Phase, int, int]] = [("free", free_steps, 0), ("nudged", nudged_steps, 1)]
    for phase, sweeps, nudged in steps:
        each = phases if nudged else 1
        if not cached:
            made.products(phase, network.couplings[0], each * sweeps)
        for level, population in enumerate(network.populations):
            times = each * max(0, sweeps - nudged * ((levels - 1 - level) // 2))
            if level:
                made.products(phase, network.couplings[level], times)
            if level + 1 < levels:
                made.products(phase, network.couplings[level + 1], times, back=True)
            made.updates(phase, population.size, times)
    terms = max(phases, 2)
    for level, coupling in enumerate(network.couplings):
        if coupling.weighted is not None:
            made.outer(coupling, terms - 1 if level == 0 else 2 * (terms - 1))
    return made.counts(network)


def backpropagation(network: EnergyNetwork, *, batch: int, itemsize: int = 4) -> OperationCounts:
    """One batch of backpropagation through the network's forward pass:

        macs = B [ M (forward, under "free") + (M - M_in) (back, under "nudged") + M (weights, under "update") ]

    Each unit is updated once on the way up (its activation) and, but for the outputs' own, once on the way back (its
    derivative). Source: Rumelhart, Hinton & Williams 1986, doi:10.1038/323533a0; the count is by hand and is held
    against torch's FlopCounterMode.
    """
    _check(network, batch)
    made = _Batch(batch, itemsize, Counter())
    for coupling, population in zip(network.couplings, network.populations, strict=True):
        made.products("free", coupling, 1)
        made.updates("free", population.size, 1)
    for coupling, below in zip(network.couplings[1:], network.populations, strict=False):
        made.products("nudged", coupling, 1, back=True)
        made.updates("nudged", below.size, 1)
    for coupling in network.couplings:
        if coupling.weighted is not None:
            made.outer(coupling, 1)
    return made.counts(network)


def optimizer_step(parameters: int, buffers: int, itemsize: int = 4) -> OperationCounts:
    """What one step of an optimizer does to so many parameters, under "update":

        words = 3 + 2 m a parameter (weight read and written, gradient read, m buffers read and written)
        FLOPs = 2 (plain SGD, m = 0), 4 (momentum, m = 1), 12 (Adam, m = 2) a parameter

    With more than two buffers the FLOPs are taken for those of Adam.
    """
    words, flops = 3 + 2 * buffers, (2, 4, 12)[min(buffers, 2)]
    return OperationCounts(
        0, {("update", "weight_bytes"): words * parameters * itemsize, ("update", "flops"): flops * parameters}
    )


def events(
    network: EnergyNetwork,
    *,
    activity: float,
    free_steps: int,
    nudged_steps: int,
    phases: int = 2,
    hops: tuple[float, float] = (0.0, 0.0),
    learning: bool = True,
    resets: int = 1,
) -> OperationCounts:
    """One sample on a chip of neurons that send events (Loihi, spiking neurons), in expectation:

        synaptic events a step = activity x (M_in + 2 M_f)      each event goes up and, between populations, down
        neuron updates a step  = N, of which activity x N active: paid at every step, with or without events
        spikes a step          = activity x (N + inputs), hops each
        learning updates       = M, the connections, once for each nudged phase

    activity: events a unit and step. hops: steps east-west and north-south that an event takes, on average.
    Source: the conventions of Davies et al. 2018, doi:10.1109/MM.2018.112130359, table 2.
    """
    if not 0 <= activity <= 1:
        raise InputError(f"activity is {activity}; it is the share of units that send an event at a step: 0 to 1")
    _check(network, 1, free_steps=free_steps, nudged_steps=nudged_steps, phases=phases)
    first, *others = network.couplings
    reached = first.macs + 2 * sum(c.macs for c in others)
    units = sum(p.size for p in network.populations)
    found: Counter[tuple[Phase, Operation]] = Counter()
    steps: list[tuple[Phase, int]] = [("free", free_steps), ("nudged", phases * nudged_steps)]
    for phase, times in steps:
        spikes = activity * (units + first.sizes[0]) * times
        found[phase, "synaptic_events"] = round(activity * reached * times)
        found[phase, "neuron_updates"] = round(activity * units * times)
        found[phase, "inactive_updates"] = units * times - found[phase, "neuron_updates"]
        found[phase, "spikes"] = round(spikes)
        found[phase, "hops_ew"], found[phase, "hops_ns"] = (round(h * spikes) for h in hops)
        found[phase, "timesteps"] = times
    if learning:
        found["update", "learning_updates"] = phases * sum(c.macs for c in network.couplings)
    found["free", "resets"] = resets
    return OperationCounts(1, dict(found))


def circuit(
    network: EnergyNetwork,
    *,
    settling_seconds: float,
    phases: int = 2,
    dissipated_watts: float = 0.0,
    digital_update: bool = True,
    pulses: float = 1.0,
) -> OperationCounts:
    """One sample on a circuit that settles by itself, whatever its simulator's iterations:

        dissipated joules = (1 + P) t P_g      P_g = sum g v^2, from the simulated voltages
        neuron seconds    = (1 + P) t N        each neuron's amplifier is on while it settles
        DAC conversions   = inputs + P outputs (the nudge), ADC conversions = (1 + P) N where the update is digital
        pulses            = weights x `pulses`

    settling_seconds: t, a multiple of the circuit's time constant R C.
    Source: the physics of resistive networks that settle by themselves, Kendall et al. 2020, arXiv:2006.01981.
    """
    if not settling_seconds > 0:
        raise InputError(f"settling_seconds is {settling_seconds}; a circuit takes time to settle: above 0")
    if not (dissipated_watts >= 0 and pulses >= 0):
        raise InputError(f"dissipated_watts is {dissipated_watts} and pulses {pulses}; neither can be negative")
    _check(network, 1, phases=phases)
    units, cells = sum(p.size for p in network.populations), sum(c.macs for c in network.couplings)
    found: dict[tuple[Phase, Operation], float] = {}
    times: list[tuple[Phase, int]] = [("free", 1), ("nudged", phases)]
    for phase, n in times:
        found[phase, "seconds"] = n * settling_seconds
        found[phase, "neuron_seconds"] = n * settling_seconds * units
        found[phase, "dissipated_joules"] = n * settling_seconds * dissipated_watts
        found[phase, "cell_reads"] = n * cells
        if digital_update:
            found[phase, "adc_conversions"] = n * units
    found["free", "dac_conversions"] = network.couplings[0].sizes[0]
    found["nudged", "dac_conversions"] = phases * network.outputs.size
    found["update", "write_pulses"] = round(pulses * sum(c.weights for c in network.couplings))
    return OperationCounts(1, found)


def _check(network: EnergyNetwork, batch: int, **numbers: int) -> None:
    if network.energy_name != "hopfield" and numbers:
        raise InputError(f"the formula is for the hopfield energy, not for {network.energy_name}")
    for name, number in {"batch": batch, **numbers}.items():
        if number < 1:
            raise InputError(f"{name} is {number}; it must be at least 1")
