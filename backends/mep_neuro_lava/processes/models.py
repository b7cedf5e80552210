"""Python models of the neuron: `fixed_pt`, which calls the integer kernels, and `floating_pt`, without rounding.

Both hold states, drives and payloads in the same units, so that one host reads both.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.model.py.model import PyLoihiProcessModel
from lava.magma.core.model.py.ports import PyInPort, PyOutPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol

from mep_neuro_lava.kernels import KernelOverflow, check_width, rounded, shifted
from mep_neuro_lava.kernels.fixed import CONSTANT_FRACTION, Ints
from mep_neuro_lava.kernels.synapses import DRIVE_BITS
from mep_neuro_lava.processes.process import (
    BIAS,
    CHANGE,
    DRIVE,
    FREE,
    IDLE,
    NUDGED,
    UPDATE,
    EPNeuron,
    following,
    phase_at,
)

BIAS_BITS = 20
"""Biases learn in steps of 2^-20 of the rate's unit."""
Told = tuple[Ints, Ints, Ints]
"""Payloads, y1 and y2."""


class Cycle(PyLoihiProcessModel):  # type: ignore[misc]  # Lava has no types
    """A neuron's cycle, in whatever arithmetic `payload`, `stepped` and `told` have."""

    s_out_bap: Any = LavaPyType(PyOutPort.VEC_DENSE, bool, precision=1)
    rates: Any = LavaPyType(np.ndarray, np.int32, precision=24)
    clock: Any = LavaPyType(np.ndarray, np.int32, precision=24)
    resume: Any = LavaPyType(np.ndarray, np.int32, precision=1)
    phases: Any = LavaPyType(np.ndarray, np.int32, precision=24)
    notes: Any = LavaPyType(np.ndarray, float)
    kind: Any = float

    def __init__(self, proc_params: Any) -> None:
        super().__init__(proc_params)
        self.neuron, self.level, self.last = (proc_params[name] for name in ("neuron", "level", "last"))
        self.values, self.differences, self.bits = (proc_params[name] for name in ("values", "differences", "bits"))
        self.silence = np.zeros(proc_params["shape"])
        self.fresh = False

    def run_spk(self) -> None:
        """One timestep."""
        arrived = self.a_in.recv().astype(np.float64)
        clock, told = int(self.clock[0]), (self.silence, self.silence, self.silence)
        if self.resume[0]:
            self.resume[0] = 0
            self.latch(arrived)
            told = self.spoken(clock), self.silence, self.silence
        elif clock != IDLE:
            told = self.timestep(clock, arrived)
            self.clock[0] = following(clock, self.phases)
        for port, value in zip((self.s_out, self.s_out_y1, self.s_out_y2), told, strict=True):
            port.send(value.astype(self.kind))
        self.s_out_y3.send(np.full(self.silence.shape, self.rates[0], self.kind))
        self.s_out_bap.send(self.silence.astype(bool))

    def timestep(self, clock: int, arrived: Ints) -> Told:
        """What is sent in a timestep of the cycle, after the update."""
        free, settled = int(self.phases[FREE]), int(self.phases[FREE] + self.phases[NUDGED])
        if clock == 0:
            self.v[:], self.fresh = 0, True
            return self.silence, self.silence, self.silence
        if clock > settled:
            return self.noted(self.told(clock - settled - 1), UPDATE)
        drive = self.latch(arrived)
        self.keep(DRIVE, arrived, DRIVE_BITS)
        self.keep(DRIVE, drive, DRIVE_BITS)
        new = self.stepped(self.v.astype(np.float64), drive, clock > free)
        self.notes[CHANGE] = np.abs(new - self.v).max()
        self.v[:] = new
        if clock == free:
            self.free[:] = new
        return self.spoken(clock + 1) if clock < settled else self.silence, self.silence, self.silence

    def latch(self, arrived: Ints) -> Ints:
        """The drive. In the first timestep after x was sent population 1 takes what arrives for good."""
        own = self.held if self.level == 1 else self.bias
        if self.fresh and self.level == 1:
            self.held[:] = self.bias + arrived
            arrived = self.silence
        self.fresh = False
        drive: Ints = own + arrived
        return drive

    def spoken(self, clock: int) -> Ints:
        """The state as payloads, which is worked with at a clock."""
        payload = self.payload(self.v.astype(np.float64))
        self.notes[phase_at(clock, self.phases)] += np.count_nonzero(payload)
        return payload

    def noted(self, told: Told, phase: int) -> Told:
        """What is sent in learning, counted."""
        self.notes[phase] += np.count_nonzero(told[0])
        return told

    def keep(self, place: int, value: Ints, bits: int) -> None:
        """Note a number that its register does not hold."""
        try:
            check_width(value, bits, "")
        except KernelOverflow as error:
            self.notes[place] = max(self.notes[place], error.value)

    def payload(self, v: Ints) -> Ints:
        """States as payloads."""
        raise NotImplementedError

    def stepped(self, v: Ints, drive: Ints, nudged: bool) -> Ints:
        """The states after one timestep."""
        raise NotImplementedError

    def told(self, turn: int) -> Told:
        """What is sent in a timestep of learning; the biases change in the second."""
        raise NotImplementedError


@implements(proc=EPNeuron, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PyEPNeuronFixed(Cycle):
    """The kernels' neuron: equal to the `loihi` backend bit for bit."""

    a_in: Any = LavaPyType(PyInPort.VEC_DENSE, np.int32, precision=24)
    s_out: Any = LavaPyType(PyOutPort.VEC_DENSE, np.int32, precision=24)
    s_out_y1: Any = LavaPyType(PyOutPort.VEC_DENSE, np.int32, precision=7)
    s_out_y2: Any = LavaPyType(PyOutPort.VEC_DENSE, np.int32, precision=7)
    s_out_y3: Any = LavaPyType(PyOutPort.VEC_DENSE, np.int32, precision=7)
    v: Any = LavaPyType(np.ndarray, np.int32, precision=24)
    held: Any = LavaPyType(np.ndarray, np.int32, precision=24)
    free: Any = LavaPyType(np.ndarray, np.int32, precision=24)
    bias: Any = LavaPyType(np.ndarray, np.int32, precision=24)
    target: Any = LavaPyType(np.ndarray, np.int32, precision=24)
    push: Any = LavaPyType(np.ndarray, np.int32, precision=24)
    pull: Any = LavaPyType(np.ndarray, np.int32, precision=24)
    kind = np.int32

    def payload(self, v: Ints) -> Ints:
        sent: Ints = self.neuron.send(v)
        return sent

    def stepped(self, v: Ints, drive: Ints, nudged: bool) -> Ints:
        new: Ints
        if nudged and self.last:
            new = self.neuron.step(v, drive, pull=int(self.pull[0]), target=self.target, push=self.push)
        else:
            new = self.neuron.step(v, drive)
        return new

    def told(self, turn: int) -> Told:
        free, v = self.free.astype(np.float64), self.v.astype(np.float64)
        if turn == 1:
            bias = self.bias + rounded(int(self.rates[1]) * (v - free), -BIAS_BITS)
            self.keep(BIAS, bias, self.bits)
            self.bias[:] = bias
        if (self.level + turn) % 2 == 0:
            mean = self.values.code(shifted(free + v, -1))
            return self.values.payload(mean), self.silence, mean
        difference = self.differences.code(v - free)
        return self.differences.payload(difference), difference, self.silence


@implements(proc=EPNeuron, protocol=LoihiProtocol)
@requires(CPU)
@tag("floating_pt")
class PyEPNeuronFloat(Cycle):
    """The same neuron without rounding; it does not learn."""

    a_in: Any = LavaPyType(PyInPort.VEC_DENSE, float)
    s_out: Any = LavaPyType(PyOutPort.VEC_DENSE, float)
    s_out_y1: Any = LavaPyType(PyOutPort.VEC_DENSE, float)
    s_out_y2: Any = LavaPyType(PyOutPort.VEC_DENSE, float)
    s_out_y3: Any = LavaPyType(PyOutPort.VEC_DENSE, float)
    v: Any = LavaPyType(np.ndarray, float)
    held: Any = LavaPyType(np.ndarray, float)
    free: Any = LavaPyType(np.ndarray, float)
    bias: Any = LavaPyType(np.ndarray, float)
    target: Any = LavaPyType(np.ndarray, float)
    push: Any = LavaPyType(np.ndarray, float)
    pull: Any = LavaPyType(np.ndarray, float)

    def payload(self, v: Ints) -> Ints:
        sent: Ints = v * 2.0 ** (self.neuron.payload.fraction - self.neuron.fraction)
        return sent

    def stepped(self, v: Ints, drive: Ints, nudged: bool) -> Ints:
        neuron = self.neuron
        change = neuron.gain * 2.0**-CONSTANT_FRACTION * drive + neuron.offset - v
        if nudged and self.last:
            change += self.pull * 2.0**-CONSTANT_FRACTION * (self.target - v) + self.push
        new: Ints = np.clip(v + change * 2.0**-neuron.leak, neuron.low, neuron.high)
        return new
