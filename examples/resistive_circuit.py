"""A circuit of resistors and real diodes learns digits by equilibrium propagation, and is looked at with a circuit's
own meters: Kirchhoff's law, heat, and how long it takes to settle.

Its conductances are phase-change devices, programmed anew with noise after each step, and its neurons silicon diodes.
"""

from __future__ import annotations

import torch
from torch import nn

import mep_neuro as mep
from mep_neuro.data import load


def main() -> None:
    """Train, then print accuracy, meters, settling times and joules."""
    data = load("digits")
    torch.manual_seed(0)
    model = nn.Sequential(mep.SignedInput(20.0), nn.Linear(128, 32), mep.Diodes(), nn.Linear(32, 10))
    network = mep.EnergyNetwork.from_module(mep.resistive_init_(model), energy="resistive")
    with mep.backend("analog", network, device="pcm", diode="shockley", v_unit=0.1) as substrate:
        learner = mep.EquilibriumPropagation(substrate, beta=0.2)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.005)
        history = mep.fit(learner, (data.x_train, data.y_train), optimizer=optimizer, epochs=5)
        print(f"test accuracy {mep.evaluate(learner, (data.x_test, data.y_test))[1]:.3f}")

        free = learner.free(data.x_test[:100])
        print(f"current left over at any node: at most {float(substrate.kcl_residual(free).max()):.0e} A")
        print(f"heat while it settles: {1e3 * float(substrate.power(free).mean()):.0f} mW")
        way = substrate.transient(data.x_test[:1])
        print(
            f"one sample settles in {1e9 * way.seconds:.1f} ns; counts take {1e9 * substrate.settling_seconds:.1f} ns"
        )

    account = mep.account(history.counts, profile="resistive_network:phase_change")
    low, high = account.interval
    print(f"training: at least {account.joules_per_sample:.1e} J a sample, {low:.1e} to {high:.1e}; {account.grade}")


if __name__ == "__main__":
    main()
