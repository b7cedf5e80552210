"""Relaxation: the timesteps of a phase, all samples of a batch side by side.

In a timestep every neuron sends its payload, the synapses deliver, and every neuron updates, all at once:

    v_l <- step(v_l, latched_l + M_l payload_{l-1} + M_{l+1}^T payload_{l+1})

x is sent once: in the timestep before the first one all neurons are at 0 and silent, so that what arrives at population
1 is M_1 x alone. It latches that, with its bias, for all phases of the sample; from then on x is silent.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mep_neuro_lava.kernels import accumulate, check_width
from mep_neuro_lava.kernels.fixed import Ints
from mep_neuro_lava.kernels.synapses import DRIVE_BITS
from mep_neuro_lava.plan import Pull, Settled
from mep_neuro_lava.program import Program, safe


def latch(program: Program, x: Ints) -> tuple[Ints, ...]:
    """The constant drives: M_1 x + b_1 from payloads x (batch, inputs), and the other populations' biases."""
    first = accumulate(program.synapses[0].mantissas, x, program.forward[0], "the drive that x gives population 1")
    drive = check_width(first + program.biases[0], DRIVE_BITS, "the drive that x and the bias give population 1")
    return (drive, *program.biases[1:])


def rest(program: Program, batch: int) -> tuple[Ints, ...]:
    """All states 0: where a free phase without a start begins."""
    return tuple(np.zeros((batch, len(bias))) for bias in program.biases)


def relax(
    program: Program, latched: Sequence[Ints], states: Sequence[Ints], timesteps: int, nudge: Pull | None = None
) -> Settled:
    """Run so many timesteps. Raises `KernelOverflow`, naming the population, for a drive that leaves its register."""
    neurons, levels = program.formats.neurons, range(len(states))
    checked = [not safe(program, level, latched[level]) for level in levels]
    sent = [0] * len(states)
    old = new = list(states)
    for _ in range(timesteps):
        old = new
        payloads = [neuron.send(v) for neuron, v in zip(neurons, old, strict=True)]
        new = []
        for level in levels:
            sent[level] += int(np.count_nonzero(payloads[level]))
            drive = _drive(program, level, latched[level], payloads, checked[level])
            if nudge is None or level < levels[-1]:
                new.append(neurons[level].step(old[level], drive))
            else:
                new.append(
                    neurons[level].step(old[level], drive, pull=nudge.pull, target=nudge.target, push=nudge.push)
                )
    change = np.zeros(len(new[0]))
    for before, after in zip(old, new, strict=True):
        change = np.maximum(change, np.abs(after - before).max(1))
    return Settled(tuple(new), tuple(latched), change, 0, tuple(sent))


def _drive(program: Program, level: int, latched: Ints, payloads: Sequence[Ints], checked: bool) -> Ints:
    what, drive = f"the drive of population {level + 1}", latched
    if level > 0:
        forward = program.synapses[level].mantissas
        drive = drive + accumulate(forward, payloads[level - 1], program.forward[level], what, checked=checked)
    if level + 1 < len(payloads):
        back = program.synapses[level + 1].mantissas.T
        drive = drive + accumulate(back, payloads[level + 1], program.back[level + 1], what, checked=checked)
    return check_width(drive, DRIVE_BITS, what) if checked else drive
