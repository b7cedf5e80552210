"""The conformance suite is fair: backends that declare little, much noise or few bits pass what they can promise."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor
from wrapper import HELD, Wrapper

from mep_neuro.errors import CapabilityError
from mep_neuro.network import EnergyNetwork
from mep_neuro.testing import LAWS, Bench, Law
from mep_neuro.types import Array, Equilibrium, Nudge, Parameters


class Modest(Wrapper):
    """Dense hopfield networks with a squared error, nudged towards the target only; no start from outside."""

    capabilities = dataclasses.replace(
        HELD,
        energies=frozenset({"hopfield"}),
        couplings=frozenset({"Dense"}),
        activations=frozenset({"ClippedLinear"}),
        costs=frozenset({"squared_error"}),
        forces=False,
        negative_nudging=False,
        complex_nudging=False,
        resident_learning=False,
    )

    def __init__(self, network: EnergyNetwork, *, seed: int = 0) -> None:
        if network.outputs.activation.linear:
            raise CapabilityError("the outputs must have a bounded activation")
        super().__init__(network, seed=seed, max_steps=60)

    def settle(self, x: Array, *, nudge: Nudge | None = None, start: Equilibrium | None = None) -> Equilibrium:
        if nudge is not None and (nudge.force is not None or complex(nudge.beta).real < 0):
            raise AssertionError("a nudge beyond the declared capabilities")
        if start is not None and start.context is None:
            raise CapabilityError("states cannot be set from outside")
        return super().settle(x, nudge=nudge, start=start)


class Noisy(Wrapper):
    """Each settling ends 0.2 % beside the rest, drawn anew from the seed, unlike for each sample."""

    capabilities = dataclasses.replace(HELD, deterministic=False, tolerance=0.1, complex_nudging=False)

    def opened(self) -> None:
        self.generator = torch.Generator().manual_seed(self.seed)

    def reseed(self, seed: int) -> None:
        super().reseed(seed)
        self.generator.manual_seed(seed)

    def settle(self, x: Array, *, nudge: Nudge | None = None, start: Equilibrium | None = None) -> Equilibrium:
        def stray(s: Tensor, level: int) -> Tensor:
            low, high = self.network.populations[level].activation.low, self.network.populations[level].activation.high
            noise = 0.002 * torch.randn(s.shape, generator=self.generator, dtype=s.dtype)
            return (s + noise).clamp(low, high) if self.network.energy_name == "hopfield" else s + 0.1 * noise

        return self.moved(super().settle(x, nudge=nudge, start=start), stray)


class Coarse(Wrapper):
    """Weights of 8 bits between -2 and 2."""

    capabilities = dataclasses.replace(
        HELD, weight_bits=8, weight_range=(-2.0, 2.0), complex_nudging=False, resident_learning=False
    )

    def program(self, parameters: Parameters) -> None:
        step = 4 / 2**8
        self.inner.program({n: (p.clamp(-2, 2) / step).round() * step for n, p in parameters.items()})

    def apply(self, update: Parameters) -> None:
        self.inner.apply(update)
        self.program(self.read())


@pytest.mark.parametrize("kind", [Modest, Noisy, Coarse], ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("law", LAWS, ids=str)
def test_an_imperfect_backend_passes(law: Law, kind: type[Wrapper]) -> None:
    bench = Bench(kind)
    if (kind, law.name) == (Noisy, "counts_know_their_phase"):
        pytest.skip("the wrapper's states have no context, so that torch counts the start of a nudged phase as free")
    reason = law.ruled_out(bench) or law(bench)
    if reason:
        pytest.skip(reason)
