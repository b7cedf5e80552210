"""The Lava substrate: the program of `loihi` run as Lava processes. A simulation; no chip is involved."""

from __future__ import annotations

import importlib.util
import multiprocessing
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, final

from mep_neuro.backend import Backend
from mep_neuro.capabilities import Availability, Capabilities
from mep_neuro.counts import OperationCounts
from mep_neuro.errors import CapabilityError, OptionError, check_choice
from mep_neuro.network import EnergyNetwork
from mep_neuro.types import Array, Equilibrium, Nudge, Parameters
from mep_neuro_lava.backend import LoihiBackend
from mep_neuro_lava.formats import Formats
from mep_neuro_lava.lava_machine import LavaMachine
from mep_neuro_lava.program import Program
from mep_neuro_lava.substrate import ChipSubstrate, Options

OLD_PYTHON = 'pip install "mep-neuro[lava]"'
NEW_PYTHON = (
    'pip install "mep-neuro[lava]" && pip install --ignore-requires-python --no-deps lava-nc==0.10.0 '
    "(its metadata allow Python 3.10 only, and it runs here)"
)


@final
class LavaBackend(Backend):
    """The program of `LoihiBackend` as Lava processes: Lava's own connections, and one EP neuron process a population.

    Equal to `loihi` bit for bit, counts too, and hundreds of times slower: it is for proof and for deployment. Samples
    of a batch run one after the other. Options as on `LoihiBackend`, and

    tag:     "fixed_pt"; or "floating_pt", the same program without rounding of states and payloads, which does not
             learn by itself.
    timeout: seconds that any one answer of Lava's may take; an error then names the process that hangs.

    Lava rounds with one random number for all synapses, and always from the same seed. Close it: till then its OS
    processes stay.
    """

    capabilities: Capabilities = replace(LoihiBackend.capabilities, on_request=True)

    @classmethod
    def availability(cls) -> Availability:
        cure = OLD_PYTHON if sys.version_info < (3, 11) else NEW_PYTHON
        for name, module in (("lava-nc", "lava.magma.core.process.process"), ("networkx",) * 2, ("asteval",) * 2):
            try:
                found = importlib.util.find_spec(module)
            except ImportError:
                found = None
            if found is None:
                return Availability(False, f"{name} is not installed", cure)
        if "fork" not in multiprocessing.get_all_start_methods():
            return Availability(False, "Lava forks its processes, which this system cannot", "use backend 'loihi'")
        return Availability(True)

    def __init__(
        self,
        network: EnergyNetwork,
        *,
        seed: int = 0,
        timesteps: int | Sequence[int] = (60, 20),
        payload_bits: int = 12,
        state_bits: int = 24,
        leak: int = 1,
        input_range: tuple[float, float] = (-4.0, 4.0),
        output_limit: float = 4.0,
        weight_rounding: Literal["nearest", "stochastic"] = "nearest",
        weight_fractions: Sequence[int] | None = None,
        headroom: int = 1,
        tag: Literal["fixed_pt", "floating_pt"] = "fixed_pt",
        timeout: float = 60.0,
    ) -> None:
        options = Options.of(
            network,
            timesteps=timesteps,
            payload_bits=payload_bits,
            state_bits=state_bits,
            leak=leak,
            input_range=input_range,
            output_limit=output_limit,
            weight_rounding=weight_rounding,
            weight_fractions=weight_fractions,
            headroom=headroom,
        )
        check_choice("tag", tag, ("fixed_pt", "floating_pt"))
        if not 0 < timeout < float("inf"):
            raise OptionError(f"timeout is {timeout!r}; give seconds, more than 0")
        self._learns = tag == "fixed_pt"
        self.network = network
        self.capabilities = replace(
            type(self).capabilities, deterministic=not options.stochastic, resident_learning=self._learns
        )
        self._chip = ChipSubstrate(network, options, seed)
        self._machine = LavaMachine(payload_bits, options.timesteps, tag, timeout)

    @property
    def formats(self) -> Formats:
        """How numbers are laid out in registers."""
        return self._chip.formats

    @property
    def held(self) -> Program:
        """The program on the substrate. Raises `InputError` before the first one is written."""
        return self._chip.held

    def program(self, parameters: Parameters) -> None:
        self._chip.program(parameters)

    def read(self) -> Parameters:
        return self._chip.read()

    def apply(self, update: Parameters) -> None:
        self._chip.apply(update)

    def reseed(self, seed: int) -> None:
        self._chip.reseed(seed)
        self._machine.reseed(seed)

    def settle(self, x: Array, *, nudge: Nudge | None = None, start: Equilibrium | None = None) -> Equilibrium:
        return self._chip.settle(self._machine, x, nudge, start)

    def contrast(self, terms: Sequence[tuple[complex, Equilibrium]]) -> Parameters:
        return self._chip.contrast(terms)

    def learn(self, x: Array, target: Array, *, rate: float, beta: float) -> None:
        """As on `LoihiBackend`, by Lava's learning engine. Raises `CapabilityError` where the tag is floating_pt."""
        if not self._learns:
            raise CapabilityError("resident learning needs tag='fixed_pt': the rule is one of integers")
        self._chip.learn(self._machine, x, target, rate, beta)

    def counts(self) -> OperationCounts:
        return self._chip.counts()

    def close(self) -> None:
        self._machine.close()
