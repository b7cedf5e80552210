"""Settling: the populations of one batch relax over the arrays until they rest.

    s_l = rho_l((1 + gain) (f_l(s_{l-1}) + b_l + f_{l+1}^T(s_{l+1})) + offset),    f and f^T through the same devices

The arrays' noise is drawn once for a phase and held: what settles is the equilibrium of that moment. Populations are
set in even/odd block sweeps, as on the digital backends; a sweep is the solver's work and not the circuit's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from mep_neuro.couplings import Coupling, Shape
from mep_neuro_analog.neurons import Neurons
from mep_neuro_analog.synapses import Synapses


@dataclass(frozen=True)
class Pull:
    """beta C at the outputs: beta towards a target, or a force (then beta is 0)."""

    beta: float
    target: Tensor | None
    force: Tensor | None

    def push(self, outputs: Tensor) -> Tensor:
        """-beta dC/ds at some outputs."""
        if self.force is not None:
            return self.force
        assert self.target is not None
        return self.beta * (self.target - outputs)


@final
class Connection:
    """One coupling: its synapses, and the bias, which the periphery adds without fault."""

    def __init__(self, coupling: Coupling, synapses: Synapses, bias: Tensor | None) -> None:
        self.in_shape: Shape = coupling.in_shape
        self.out_shape: Shape = coupling.out_shape
        self.synapses, self.bias = synapses, bias

    def forward(self, s: Tensor, noise: Tensor | None) -> Tensor:
        """f(s) + b, (batch, *out_shape)."""
        drive = self.synapses.tiles.forward(s.flatten(1), noise)
        return (drive if self.bias is None else drive + self.bias).view(len(s), *self.out_shape)

    def adjoint(self, s: Tensor, noise: Tensor | None) -> Tensor:
        """f^T(s), (batch, *in_shape)."""
        return self.synapses.tiles.adjoint(s.flatten(1), noise).view(len(s), *self.in_shape)


@final
class Chain:
    """The populations over a clamped input, in one phase.

    x:      (batch, *inputs), as the converters give it to the first array.
    noisy:  whether products have noise, which is then drawn here.
    """

    def __init__(
        self,
        connections: Sequence[Connection],
        neurons: Sequence[Neurons],
        x: Tensor,
        *,
        noisy: bool,
    ) -> None:
        self.connections, self.neurons, self.x = connections, neurons, x
        self._up = [c.synapses.tiles.draw(x) if noisy else None for c in connections]
        self._down = [c.synapses.tiles.draw(x, back=True) if noisy else None for c in connections]
        self.clamped = connections[0].forward(x, self._up[0])
        self.states: list[Tensor] = []
        self.pull: Pull | None = None

    def forward_pass(self) -> None:
        """Set the states by one pass from x up."""
        self.states = []
        for level, neurons in enumerate(self.neurons):
            drive = self.clamped if level == 0 else self._below(level)
            self.states.append(neurons.respond(drive))

    def sweep(self, *, measure: bool) -> Tensor | None:
        """Set every population once, from the outputs' parity on; the largest change of each sample, if asked for."""
        top, largest = len(self.neurons) - 1, None
        for first in (top % 2, 1 - top % 2):
            for level in range(first, top + 1, 2):
                s = self._rest(level)
                if measure:
                    change = (s - self.states[level]).abs().flatten(1).amax(1)
                    largest = change if largest is None else torch.maximum(largest, change)
                self.states[level] = s
        return largest

    def _rest(self, level: int) -> Tensor:
        drive = self.clamped if level == 0 else self._below(level)
        neurons, pull = self.neurons[level], self.pull
        if level < len(self.neurons) - 1:
            above = self.connections[level + 1].adjoint(self.states[level + 1], self._down[level + 1])
            return neurons.respond(drive + above)
        if pull is None:
            return neurons.respond(drive)
        if pull.force is not None:
            return neurons.respond(drive + pull.force)
        assert pull.target is not None
        return neurons.nudged(drive, pull.beta, pull.target)

    def _below(self, level: int) -> Tensor:
        return self.connections[level].forward(self.states[level - 1], self._up[level])
