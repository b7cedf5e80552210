"""The neurons and synapses as Brian2 sees them: the one file that imports it.

    dv/dt = r_max p + (1/2 - v) / leak      p = rho(I + b + nudge) / s_max, an input neuron's p = |x|
    dI/dt = -I / tau                        I <- I + w s_max' / (r_max tau)  at a neighbour's spike, through one weight
    da/dt = -a / tau                        a <- a + s_max / (r_max (tau - dt))  at an own spike: the trace

A neuron fires above v = 1, not sooner than 1 / r_max after its last spike, and then v <- v - 1: its rate over r_max is
the mean of p, cut off at 0 and 1. v is held between a floor and a ceiling, so that what the currents' ripple takes away
it gives back. A leaky membrane rests at half of the threshold, so that over a cycle its leak cancels. An input neuron
has no refractory period, and its spikes carry the sign of x, as those of a pair of on and off cells do.

The contrast gathers at a synapse from spikes and traces, in the windows of the nudged phases, c = +1 and -1:

    C <- C + c a_upper s_lower / (2 r_max window)     at the lower neuron's spike, and the reverse at the upper one's
    w <- w + rate / (2 beta) C                        at the end of the presentation

A spike meets a trace before the spikes of its own step do; the jump by tau - dt makes the trace that it meets unbiased.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mep_neuro.errors import OptionError
from mep_neuro_brian2.engine import Learnt
from mep_neuro_brian2.layout import Array, Layout
from mep_neuro_brian2.options import QUARTERS, Timing
from mep_neuro_brian2.schedule import ARRAYS, FREE, KEEP, RETURN, Record, Rows, padded, record

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # Brian2's, about its own dependencies
    from brian2 import (
        Clock,
        Hz,
        Network,
        NeuronGroup,
        SpikeMonitor,
        StateMonitor,
        Synapses,
        TimedArray,
        device,
        get_device,
        prefs,
        second,
        set_device,
    )
    from brian2.devices.device import runtime_device

FLOOR, CEILING = -1.0, 2.0

logging.getLogger("brian2").setLevel(logging.WARNING)  # else each run writes out all code that it makes

NEURONS = """
dv/dt = r_max * p * int((p < 0 and v > lowest) or (p > 0 and v < highest)) {leak} : 1
dI/dt = -I / tau : 1
{trace}
p = clip(lead * abs(given) + (1 - lead) * (slope * (I + b + given) + offset) / (1 + stiff * hold{now}), -1, 2) : 1
carry = high * (1 - 2 * lead * int(given < 0)) : 1
period = (1 - lead) / r_max : second
b : 1
given : 1
n : 1
lead : 1 (constant)
slope : 1 (constant)
offset : 1 (constant)
high : 1 (constant)
stiff : 1 (constant)
"""

TRACE = """da/dt = -a / tau : 1
B : 1
v_kept : 1
I_kept : 1
a_kept : 1
plastic : 1 (constant)
span : second (shared)"""

ON_LOWER = "I_post += w * carry_pre / (r_max * tau)"
ON_UPPER = "I_pre += w * carry_post / (r_max * tau)"
GATHER_LOWER = "C += weigh(t) * a_post * carry_pre / (2 * r_max * window)"
GATHER_UPPER = "C += weigh(t) * a_pre * carry_post / (2 * r_max * window)"

TURN = f"""
v_kept = int(turn(t) == {KEEP}) * v + int(turn(t) != {KEEP}) * v_kept
I_kept = int(turn(t) == {KEEP}) * I + int(turn(t) != {KEEP}) * I_kept
a_kept = int(turn(t) == {KEEP}) * a + int(turn(t) != {KEEP}) * a_kept
v = int(turn(t) == {FREE}) * membrane(t, i) + int(turn(t) == {RETURN}) * v_kept + int(turn(t) % 2 == 0) * v
I = int(turn(t) == {FREE}) * current(t, i) + int(turn(t) == {RETURN}) * I_kept + int(turn(t) % 2 == 0) * I
a = int(turn(t) == {RETURN}) * a_kept + int(turn(t) % 2 == 0) * a
B = int(turn(t) != {FREE}) * B
given = drive(t, i)
"""


class Circuit:
    """The Brian2 objects of one network.

    replicas: copies of it side by side, which share no synapse.
    rows:     phases that the schedule holds; None: one phase, set up from outside, without learning.
    spikes:   whether each spike is kept.
    """

    def __init__(
        self, layout: Layout, timing: Timing, *, replicas: int = 1, rows: int | None = None, spikes: bool = False
    ) -> None:
        self.layout, self.timing, self.replicas = layout, timing, replicas
        step, phase = Clock(timing.step * second), timing.phase * second
        space = {
            "r_max": timing.max_rate * Hz,
            "tau": timing.tau * second,
            "leak_time": (timing.leak or 1.0) * second,
            "window": timing.window * second,
            "lowest": FLOOR,
            "highest": CEILING,
        }
        self.arrays: dict[str, Any] = {}
        if rows is not None:
            shapes = {name: (rows, layout.neurons) if wide else (rows,) for name, wide in ARRAYS.items()}
            shapes["weigh"] = (2 * rows,)
            for name, shape in shapes.items():
                dt = phase / 2 if name == "weigh" else phase
                self.arrays[name] = TimedArray(np.zeros(shape), dt=dt, name=name)
        model = NEURONS.format(
            leak="+ (0.5 - v) / leak_time" if timing.leak else "",
            trace=TRACE if rows else "hold : 1",
            now="(t)" if rows else "",
        )
        space |= self.arrays
        reset = "v -= 1; n += 1"
        if rows:
            reset += "; a += carry / (r_max * (tau - dt)); B += weigh(t) * carry / (r_max * window)"
        self.neurons = NeuronGroup(
            layout.neurons * replicas,
            model,
            threshold="v > 1",
            reset=reset.replace("; ", "\n"),
            refractory="period",
            method="euler",
            clock=step,
            namespace=space,
            name="neurons",
        )
        self.synapses = Synapses(
            self.neurons,
            self.neurons,
            "w : 1\nC : 1\nplastic_synapse : 1 (constant)" if rows else "w : 1",
            on_pre=f"{ON_LOWER}\n{GATHER_LOWER}" if rows else ON_LOWER,
            on_post=f"{ON_UPPER}\n{GATHER_UPPER}" if rows else ON_UPPER,
            clock=step,
            namespace=space,
            name="synapses",
        )
        shift = (np.arange(replicas) * layout.neurons)[:, None]
        self.synapses.connect(i=(layout.lower + shift).ravel(), j=(layout.upper + shift).ravel())
        lead, stiff = np.zeros(layout.neurons), np.zeros(layout.neurons)
        lead[: layout.inputs], stiff[layout.top] = 1, layout.slope[layout.top]
        constants = {"lead": lead, "stiff": stiff, "high": layout.high}
        constants |= {"slope": layout.slope / layout.high, "offset": layout.offset / layout.high}
        for name, value in constants.items():
            setattr(self.neurons, name, np.tile(value, replicas))
        if rows:
            clock = Clock(phase, name="phases")
            self.synapses.run_regularly(
                f"w += commit(t) * plastic_synapse * C\nC = int(turn(t) != {FREE}) * C", clock=clock, order=1
            )
            self.neurons.run_regularly("b += commit(t) * plastic * B", clock=clock, order=1)
            self.neurons.run_regularly(TURN, clock=clock, order=2)
        self.monitor = StateMonitor(
            self.neurons, ["n", "v"], record=True, clock=Clock(phase / QUARTERS, name="quarters"), name="monitor"
        )
        self._stored = False  # what is compiled cannot be
        self.network = Network(self.neurons, self.synapses, self.monitor, name="network")
        if spikes:
            self._spikes = SpikeMonitor(self.neurons, name="spikes")
            self.network.add(self._spikes)

    @property
    def spikes(self) -> tuple[Array, NDArray[np.int64]]:
        """(seconds, neurons) of the spikes of the last run, where they are kept."""
        return np.array(self._spikes.t), np.array(self._spikes.i, dtype=np.int64)

    def settle(self, weights: Array, biases: Array, rows: Rows) -> Record:
        """Run one phase, a row in each replica."""
        self._begin()
        neurons, replicas = self.neurons, self.replicas
        self.synapses.w = np.tile(weights, replicas)
        values = {"given": rows.drive, "I": rows.current, "v": rows.membrane}
        values |= {"b": np.tile(biases, (replicas, 1)), "hold": np.repeat(rows.hold, self.layout.neurons)}
        for name, value in values.items():
            setattr(neurons, name, value.ravel())
        self.network.run((self.timing.phase + self.timing.step) * second, namespace={})
        parts = [
            np.array(value).T.reshape(-1, replicas, self.layout.neurons) for value in (self.monitor.n, self.monitor.v)
        ]
        return Record(*(part.transpose(1, 0, 2) for part in parts))

    def present(self, weights: Array, biases: Array, rows: Rows, plastic: tuple[Array, Array]) -> Learnt:
        """Run the rows one after the other. Returns what was read, and the weights and biases after it."""
        self._begin()
        for name, value in padded(rows, len(self.arrays["turn"].values)).items():
            self.arrays[name].values[...] = value
        self.synapses.w, self.neurons.b = weights, biases
        self.synapses.plastic_synapse, self.neurons.plastic = plastic
        self.network.run((len(rows) * self.timing.phase + self.timing.step) * second, namespace={})
        read = record(np.array(self.monitor.n).T, np.array(self.monitor.v).T, len(rows), self.layout.neurons)
        return Learnt(read, np.array(self.synapses.w), np.array(self.neurons.b))

    def _begin(self) -> None:
        """Time 0, nothing spiked and nothing learnt."""
        if self._stored:
            self.network.restore()
        else:
            self.network.store()
            self._stored = True


@contextmanager
def generating(target: str) -> Iterator[None]:
    """Brian2 generates code for this target meanwhile."""
    if get_device() is not runtime_device:
        raise OptionError("Brian2 is set to another device in this process: call brian2.set_device('runtime') first")
    before, prefs.codegen.target = prefs.codegen.target, target
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # Brian2's, about its own dependencies
            yield
    finally:
        prefs.codegen.target = before


def write_program(layout: Layout, timing: Timing, capacity: int, folder: Path) -> dict[str, str]:
    """Write the C++ program of a network and its makefile; this process is good for nothing else after that.

    Returns the program's own names: of what it takes (`NAME=FILE` on its command line) and of the files it leaves.
    """
    set_device("cpp_standalone", build_on_run=False)
    circuit = Circuit(layout, timing, rows=capacity)
    circuit.network.run(0 * second, namespace={})
    span = device.get_array_name(circuit.neurons.variables["span"])
    device.insert_code("main", f"network.run({span}[0], NULL, 10.0);")
    device.build(directory=str(folder), compile=False, run=False)
    left = {
        "weights": circuit.synapses.variables["w"],
        "biases": circuit.neurons.variables["b"],
        "spikes": circuit.monitor.variables["n"],
        "membranes": circuit.monitor.variables["v"],
    }
    names = {name: device.get_array_filename(variable) for name, variable in left.items()}
    return names | {name: f"{device.timed_arrays[array]}.values" for name, array in circuit.arrays.items()}
