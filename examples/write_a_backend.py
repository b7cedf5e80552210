"""A backend of one's own, in NumPy: block sweeps on the Hopfield energy, trained here on handwritten digits.

    E(s; x) = sum_l [ G_l(s_l) - <s_l, W_l s_{l-1} + b_l> ]

Where it rests, s_l = rho_l(W_l s_{l-1} + b_l + W_{l+1}^T s_{l+1}). docs/write_a_backend.md goes through it.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

import mep_neuro as mep
from mep_neuro.counts import Tally
from mep_neuro.data import load
from mep_neuro.errors import InputError, OptionError, SettlingError


# --8<-- [start:backend]
class SweepBackend(mep.Backend):
    """Dense couplings and clipped linear populations in float64, settled by sweeps over the populations."""

    # The rest is as by default: NumPy arrays, the hopfield energy, Dense, ClippedLinear, squared_error.
    capabilities = mep.Capabilities(tolerance=1e-6)

    @classmethod
    def availability(cls):
        return mep.Availability(True)

    def __init__(self, network, *, seed=0, max_steps=30):
        if max_steps < 1:
            raise OptionError(f"max_steps is {max_steps}; settling takes at least 1 step")
        self.network, self._max_steps, self._held, self._tally = network, max_steps, {}, Tally()
        self._shapes = {name: tuple(p.shape) for name, p in network.parameters.items()}

    def program(self, parameters):
        self._held = self._checked(parameters, whole=True)

    def read(self):
        return {name: value.copy() for name, value in self._held.items()}

    def apply(self, update):
        self._held |= {name: self._held[name] + step for name, step in self._checked(update).items()}

    def counts(self):
        return self._tally.freeze()

    @np.errstate(over="ignore", invalid="ignore")  # what is not finite is found below
    def settle(self, x, *, nudge=None, start=None):
        phase, levels = "nudged" if nudge else "free", range(len(self.network.populations))
        x = x.astype(np.float64)
        self._tally.presented(0 if nudge else len(x), 8 * self.network.host_values)
        clamped = self._forward(phase, 0, x)  # x does not move: once a phase, not once a sweep
        states = list(start.states) if start else []
        for level in levels[len(states) :]:  # without a start: the forward pass
            states.append(self._minimum(phase, level, clamped, states, None))
        scale = np.maximum(1.0, np.abs(states[-1]).max(1))  # what a change is measured against
        if nudge:
            scale = np.maximum(1e-12 * scale, abs(nudge.beta) * np.abs(nudge.target - states[-1]).max(1))
        for step in range(1, self._max_steps + 1):
            change = np.zeros(len(x))
            for level in (*levels[::-1][::2], *levels[::-1][1::2]):  # outputs and every second one; others
                new = self._minimum(phase, level, clamped, states, nudge if level == levels[-1] else None)
                change, states[level] = np.maximum(change, np.abs(new - states[level]).max(1)), new
                if not np.isfinite(new).all():
                    raise SettlingError(f"population {level + 1} is not finite in iteration {step}")
        return mep.Equilibrium(x, tuple(states), states[-1], step, change / scale, tolerance=1e-3, nudge=nudge)

    def contrast(self, terms):
        if abs(sum(weight for weight, _ in terms)) > 1e-9:
            raise InputError("the weights of a contrast must sum to 0")
        (_, first), *others = terms
        found = {}
        for level, coupling in enumerate(self.network.couplings):
            a0, b0 = first.states[level], first.states[level - 1] if level else first.x
            weight = bias = 0.0
            for w, e in others:  # sum w_k a_k b_k = sum w_k [(a_k - a_0) b_k + a_0 (b_k - b_0)], as sum w_k = 0
                a, b = e.states[level], e.states[level - 1] if level else e.x
                weight = weight + w * ((a - a0).T @ b + (a0.T @ (b - b0) if level else 0.0)) / len(a)
                bias = bias + w * (a - a0).mean(0)
            found |= zip(coupling.parameters, (weight, bias), strict=False)
            self._tally.outer(coupling, len(a0), 8, len(others) * (2 if level else 1))
        return {name: found[name] for name in self.network.trained}

    def _checked(self, given, whole=False):
        fits = all(value.shape == self._shapes.get(name) for name, value in given.items())
        if not fits or (whole and len(given) < len(self._shapes)):
            raise InputError(f"the network's parameters, by name and shape, are {self._shapes}")
        return {name: value.astype(np.float64) for name, value in given.items()}

    def _minimum(self, phase, level, clamped, states, nudge):
        """argmin (s - offset)^2 / (2 slope) - s drive + beta/2 (s - y)^2 on [low, high]: one block of E + beta C."""
        population, drive = self.network.populations[level], clamped
        if level:
            drive = self._forward(phase, level, states[level - 1])
        if level + 1 < len(states):
            above = self.network.couplings[level + 1]
            self._tally.product(phase, above, len(drive), 8, back=True)
            drive = drive + states[level + 1] @ self._held[above.weighted.weight]
        self._tally.neurons(phase, population.size, len(drive), 8)
        rho, beta, pull = population.activation, 0.0, 0.0
        if nudge:
            beta, pull = nudge.beta, nudge.beta * nudge.target
        return np.clip((rho.slope * (drive + pull) + rho.offset) / (1 + rho.slope * beta), rho.low, rho.high)

    def _forward(self, phase, level, s):
        coupling = self.network.couplings[level]
        self._tally.product(phase, coupling, len(s), 8)
        weight, *bias = (self._held[name] for name in coupling.parameters)
        return s @ weight.T + sum(bias)


# --8<-- [end:backend]


def main():
    """Open the class on a network, train, and say how well that went."""
    data = load("digits")
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 64), nn.Hardtanh(0.0, 1.0), nn.Linear(64, 10))
    network = mep.EnergyNetwork.from_module(model)
    with SweepBackend(network, seed=0) as substrate:  # once it is installed: mep.backend("acme", network)
        learner = mep.EquilibriumPropagation(substrate)
        optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
        train, test = (data.x_train, data.y_train), (data.x_test, data.y_test)
        history = mep.fit(learner, train, test, optimizer=optimizer, epochs=6, batch_size=32)
    accuracy = history.last.test_accuracy
    macs = history.counts.total("macs") / history.counts.samples
    print(f"test accuracy {accuracy:.4f}, {macs:,.0f} multiply-accumulates a training sample")
    assert accuracy >= 0.95, accuracy


if __name__ == "__main__":
    main()
