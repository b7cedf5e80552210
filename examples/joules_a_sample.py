"""What one training sample costs: EP beside backprop on several chips, and on a chip of one's own."""

from __future__ import annotations

import tempfile
from pathlib import Path

import mep_neuro as mep
from mep_neuro.accounting.formulas import backpropagation, equilibrium_propagation, optimizer_step

CHIP = """
name = "my_chip"
title = "an imagined chip"
class = "digital"
describes = "Arithmetic alone."

[prices.macs]
value = 0.5
unit = "pJ"
low = 0.3
high = 1.0
kind = "assumed"
scope = "marginal"
conditions = "8-bit integers"
source = "https://example.org/my_chip"
place = "nowhere: it is imagined"
verified = false

[included]
weight_bytes = "weights lie in the arithmetic units"
state_bytes = "states lie in the arithmetic units"
neuron_updates = "the activation is part of a MAC's pipeline"
"""


def main() -> None:
    """Account for 784-256-10 at batch 32 by the closed formulas; nothing is trained."""
    network = mep.EnergyNetwork.from_module(mep.RunSettings(layers=(784, 256, 10)).model())
    adam = optimizer_step(sum(coupling.weights for coupling in network.couplings), buffers=2)
    ep = equilibrium_propagation(network, batch=32, free_steps=20, nudged_steps=20) + adam
    backprop = backpropagation(network, batch=32) + adam

    with tempfile.TemporaryDirectory() as folder:
        own = Path(folder) / "my_chip.toml"
        own.write_text(CHIP, encoding="utf-8")
        for name in ("cmos_45nm", "cpu_laptop", "gpu_h100", "gpu_h100:on_chip", own):
            one, other = mep.account(ep, name), mep.account(backprop, name)
            low, high = one.interval
            times = mep.ratio(one, other)  # the same draws of the same prices: far tighter than the two themselves
            bound = ">= " if one.lower_bound else ""
            print(f"{one.profile.name:<17} {bound}{one.joules_per_sample:.2e} J [{low:.2e}, {high:.2e}],", end=" ")
            print(f"{times.p50:.2f} [{times.p5:.2f}, {times.p95:.2f}] x backprop, prices {one.grade}")


if __name__ == "__main__":
    main()
