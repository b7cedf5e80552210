"""The processes: one population of EP neurons, the clamped input, and the probe that reaches weights in a simulation.

All neurons and the clamp run the same cycle by counters of their own; `phases` says how many timesteps are (free,
nudged, learning):

    clock 0                    x is sent, all neurons are at 0 and silent
    clock 1 .. free            the neurons update; population 1 latches at 1 what x brings, with its bias
    ..  free + nudged          they update under the nudge
    ..  free + nudged + 2      learning: means and differences are sent

and then from 0 again. A clock below 0 stands still, and the process is silent. A payload is sent in the timestep before
the one in which it is worked with, so that the last update of a cycle sends nothing.
"""

from __future__ import annotations

from typing import Any

from lava.magma.core.process.ports.ports import InPort, OutPort, RefPort
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.process.variable import Var

IDLE = -1
"""A clock that stands still."""
FREE, NUDGED, UPDATE, CHANGE, DRIVE, BIAS = range(6)
"""Places in a process's notes: payloads other than 0 sent in each phase; the largest change in the last update; the
largest drive, and the largest bias, that a register did not hold."""
NOTES = 6
PORTS = 8
"""Connections that one probe reaches."""


def phase_at(clock: int, phases: Any) -> int:
    """The phase whose work a payload that is taken in at a clock belongs to."""
    if clock > phases[FREE] + phases[NUDGED]:
        return UPDATE
    return FREE if max(clock, 1) <= phases[FREE] else NUDGED


def following(clock: int, phases: Any) -> int:
    """The clock's next place: after a cycle's end 0 again."""
    return 0 if clock >= phases.sum() else clock + 1


class EPNeuron(AbstractProcess):  # type: ignore[misc]  # Lava has no types
    """A population of EP neurons.

    neuron:      its constants (`kernels.Neuron`).
    level:       which population it is, from 1. Population 1 latches.
    last:        whether it is the output, which takes the nudge.
    bias:        (units,), in units of the state.
    bits:        width of a bias.
    values, differences: how its states enter a trace (`kernels.Encoding`), where it learns.

    Vars: v, the state; held, the drive that population 1 latched; free, the state at the end of the free phase; target,
    pull and push, the nudge; rates, (y3, r) of learning; notes, for the host; resume, 1: in the next timestep send the
    payload of v and do nothing else, to go on from a state that was written.
    """

    def __init__(
        self,
        *,
        neuron: Any,
        level: int,
        last: bool,
        bias: Any,
        bits: int,
        values: Any = None,
        differences: Any = None,
        name: str,
    ) -> None:
        shape = bias.shape
        super().__init__(
            neuron=neuron,
            level=level,
            last=last,
            bits=bits,
            values=values,
            differences=differences,
            shape=shape,
            name=name,
        )
        self.a_in = InPort(shape=shape)
        self.s_out = OutPort(shape=shape)
        self.s_out_bap = OutPort(shape=shape)
        self.s_out_y1 = OutPort(shape=shape)
        self.s_out_y2 = OutPort(shape=shape)
        self.s_out_y3 = OutPort(shape=shape)
        self.v = Var(shape=shape, init=0)
        self.held = Var(shape=shape, init=0)
        self.free = Var(shape=shape, init=0)
        self.bias = Var(shape=shape, init=bias)
        self.target = Var(shape=shape, init=0)
        self.push = Var(shape=shape, init=0)
        self.pull = Var(shape=(1,), init=0)
        self.rates = Var(shape=(2,), init=0)
        self.clock = Var(shape=(1,), init=0)
        self.resume = Var(shape=(1,), init=0)
        self.phases = Var(shape=(3,), init=0)
        self.notes = Var(shape=(NOTES,), init=0)


class Clamp(AbstractProcess):  # type: ignore[misc]  # Lava has no types
    """The inputs: x is sent once a cycle, as payloads, and in learning as means. values: how x enters a trace."""

    def __init__(self, *, units: int, values: Any = None, name: str) -> None:
        super().__init__(values=values, name=name)
        self.s_out = OutPort(shape=(units,))
        self.x = Var(shape=(units,), init=0)
        self.clock = Var(shape=(1,), init=0)
        self.phases = Var(shape=(3,), init=0)
        self.notes = Var(shape=(NOTES,), init=0)


class Probe(AbstractProcess):  # type: ignore[misc]  # Lava has no types
    """Weights in and out of a simulation, whole arrays at a time; no part of what goes onto a chip.

    board: memory that the host shares (`machine.Board`): its order, and the weights of each port that is connected.
    """

    def __init__(self, *, board: Any, name: str) -> None:
        super().__init__(board=board, name=name)
        self.ref_0 = RefPort(shape=board.shape(0))
        self.ref_1 = RefPort(shape=board.shape(1))
        self.ref_2 = RefPort(shape=board.shape(2))
        self.ref_3 = RefPort(shape=board.shape(3))
        self.ref_4 = RefPort(shape=board.shape(4))
        self.ref_5 = RefPort(shape=board.shape(5))
        self.ref_6 = RefPort(shape=board.shape(6))
        self.ref_7 = RefPort(shape=board.shape(7))
