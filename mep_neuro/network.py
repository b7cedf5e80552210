"""EnergyNetwork: a chain of populations and couplings, read off an `nn.Sequential` whose parameters it shares."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from mep_neuro.activations import IDENTITY, Activation, ClippedLinear
from mep_neuro.contraction import contraction
from mep_neuro.couplings import Coupling, Dropout, Shape
from mep_neuro.energies import ENERGIES, check_energy
from mep_neuro.errors import InputError, NetworkError, did_you_mean
from mep_neuro.tracing import trace
from mep_neuro.types import Array, Parameters


@dataclass(frozen=True)
class Population:
    """A layer's state s_l: its shape without the batch, and its activation rho_l."""

    shape: Shape
    activation: Activation

    @cached_property
    def size(self) -> int:
        """Number of units."""
        return math.prod(self.shape)


@dataclass(frozen=True, eq=False)
class EnergyNetwork:
    """Populations s_1 .. s_L with couplings f_1 .. f_L between them and s_0 = x, and an energy over them.

    couplings[l] leads from population l - 1 (the input where l = 0) to populations[l].
    """

    module: nn.Sequential
    energy_name: str
    input_shape: Shape
    populations: tuple[Population, ...]
    couplings: tuple[Coupling, ...]

    @classmethod
    def from_module(
        cls, module: nn.Sequential, *, energy: str = "hopfield", input_shape: Sequence[int] | None = None
    ) -> EnergyNetwork:
        """Read a network off a module; the parameters stay the module's own tensors.

        module:      `nn.Sequential`, nested or not, of Linear, Conv2d, AvgPool2d, Flatten, Dropout and ReLU, ReLU6,
                     Hardsigmoid, Hardtanh, Sigmoid, Tanh, Identity. An activation closes a population.
        energy:      `"hopfield"` or `"prediction_error"` (see `mep_neuro.energies`).
        input_shape: one sample's shape, e.g. (1, 28, 28); needed where the first layer is a convolution.

        Raises `NetworkError`, naming the module and what to use instead, for all that the energy cannot hold.
        """
        check_energy(energy)
        shape, stages = trace(module, None if input_shape is None else tuple(input_shape))
        return cls(
            module=module,
            energy_name=energy,
            input_shape=shape,
            populations=tuple(Population(s.coupling.out_shape, s.activation) for s in stages),
            couplings=tuple(s.coupling for s in stages),
        )

    @property
    def outputs(self) -> Population:
        """The last population, s_L."""
        return self.populations[-1]

    @cached_property
    def host_values(self) -> int:
        """Numbers that pass between the host and a substrate for one sample: its inputs and its outputs."""
        return math.prod(self.input_shape) + self.outputs.size

    @cached_property
    def _owners(self) -> tuple[tuple[str, nn.Module, str], ...]:
        """(parameter's name, its module, its name there): looked up once, since it is asked for at every step."""
        names = [name for name, _ in self.module.named_parameters()]
        return tuple((n, self.module.get_submodule(n.rpartition(".")[0]), n.rpartition(".")[2]) for n in names)

    @property
    def parameters(self) -> dict[str, nn.Parameter]:
        """The module's parameters by name, as they are now."""
        return {name: getattr(owner, own) for name, owner, own in self._owners}

    @property
    def trained(self) -> tuple[str, ...]:
        """Names of the parameters that are not frozen (`requires_grad`)."""
        return tuple(name for name, p in self.parameters.items() if p.requires_grad)

    @property
    def dtype(self) -> torch.dtype:
        """The parameters' floating type."""
        return self._first.dtype

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return self._first.device

    @property
    def _first(self) -> Tensor:
        _, owner, own = self._owners[0]
        first: Tensor = getattr(owner, own)
        return first

    def dropping(self) -> bool:
        """Whether some Dropout is in training mode, so that masks must be drawn."""
        return any(self.dropout_rate(o) > 0 for c in self.couplings for o in c.operations)

    def dropout_rate(self, operation: object) -> float:
        """A dropout's rate now: 0 in evaluation mode and for every other operation."""
        if not isinstance(operation, Dropout):
            return 0.0
        return operation.rate if self.module.get_submodule(operation.name).training else 0.0

    def batch(self, x: Array) -> Array:
        """x as (batch, *input_shape), a view of what was given. Raises `InputError` for other shapes or types."""
        numbers = str(x.dtype).rpartition(".")[2]
        if not numbers.startswith(("float", "bfloat")):
            raise InputError(f"x holds {numbers}; give floating point numbers, e.g. x.float() / 255")
        if tuple(x.shape[1:]) == self.input_shape and x.ndim > 1:
            return x
        if x.ndim > 1 and len(self.input_shape) == 1 and math.prod(x.shape[1:]) == self.input_shape[0]:
            return x.reshape(len(x), -1)
        raise InputError(
            f"x has shape {tuple(x.shape)}; the network takes (batch, {', '.join(map(str, self.input_shape))})"
        )

    def check_parameters(self, given: Parameters, *, whole: bool = True) -> None:
        """Raise `InputError` unless names and shapes are this network's. whole: none may be missing."""
        own = self.parameters
        for name in given:
            if name not in own:
                raise InputError(f"the network has no parameter {name!r}.{did_you_mean(name, own)}")
            if tuple(given[name].shape) != tuple(own[name].shape):
                raise InputError(
                    f"parameter {name!r} has shape {tuple(given[name].shape)}, not {tuple(own[name].shape)}"
                )
        missing = [name for name in own if name not in given]
        if whole and missing:
            raise InputError(f"parameter {missing[0]!r} is missing: program all of {', '.join(own)}")

    def check_cost(self, cost: str) -> None:
        """Raise `NetworkError` where the cost does not fit the output population."""
        last = self.outputs
        if cost != "cross_entropy":
            return
        if last.activation != IDENTITY or len(last.shape) != 1:
            raise NetworkError(
                "cross_entropy reads the outputs as logits through a softmax: "
                "let the module end with a Linear layer, without an activation after it"
            )

    def steepest_negative_beta(self, cost: str) -> float:
        """The beta at which a nudge of -beta would leave the outputs without a minimum."""
        activation = self.outputs.activation
        if cost == "cross_entropy":
            return 2.0  # the softmax's Jacobian has no eigenvalue above 1/2
        if self.energy_name == "hopfield":
            return 1 / activation.steepest
        return 1 / activation.steepest**2 if isinstance(activation, ClippedLinear) else 1 / activation.steepest

    def energy(
        self,
        x: Tensor,
        states: Sequence[Tensor],
        *,
        parameters: Mapping[str, Tensor] | None = None,
        masks: Mapping[str, Tensor] | None = None,
    ) -> Tensor:
        """E(s; x) for each sample, (batch,), by running the module's own layers: the definition, open to autograd.

        states:     s_1 .. s_L, each (batch, *population).
        parameters: in place of the module's own.
        masks:      of each Dropout by name, (batch, *shape); left out: none drops.
        """
        activations = [p.activation for p in self.populations]
        maps = [self._affine(c, parameters or {}, masks or {}) for c in self.couplings]
        return ENERGIES[self.energy_name](self.batch(x), states, maps, activations)

    def contraction(self, x: Tensor, *, beta: float = 0.0, iterations: int = 200) -> float:
        """The factor by which an even/odd sweep shrinks small errors of the states, at the free equilibrium of x.

        It is the largest over the batch; below 1 settling comes to rest, and 1e-3 of an error is left after
        log(1e-3) / log(rate) sweeps; from 1 on the loops of some sample amplify instead, and ReLUs run away. Every
        Dropout lets all through. The rate is of these samples; what bounds it for all is told in docs/training.md.

        x:          (batch, *inputs).
        beta:       of a squared error at the outputs, held on at that rest: with -0.5 what the nudged phase of
                    beta = 0.5 under `"centered"` nudging has to settle.
        iterations: sweeps at most to come to rest, and products at most to find the largest rate. Without rest after
                    these, the rate is that at the last states.

        Raises `InputError` for other energies: in `"prediction_error"` the free equilibrium is the forward pass.
        """
        return contraction(self, x, beta=beta, iterations=iterations)

    def signature(self) -> dict[str, Any]:
        """The network's build as plain values: what a checkpoint must agree with."""
        return {
            "energy": self.energy_name,
            "input_shape": list(self.input_shape),
            "populations": [{"shape": list(p.shape), "activation": repr(p.activation)} for p in self.populations],
            "couplings": [[{"operation": type(o).__name__, **_plain(o)} for o in c.operations] for c in self.couplings],
        }

    def _affine(
        self, coupling: Coupling, parameters: Mapping[str, Tensor], masks: Mapping[str, Tensor]
    ) -> Callable[[Tensor], Tensor]:
        def run(s: Tensor) -> Tensor:
            for o in coupling.operations:
                if isinstance(o, Dropout):
                    s = s * masks[o.name] if o.name in masks else s
                    continue
                own = {n.rpartition(".")[2]: p for n, p in parameters.items() if n.rpartition(".")[0] == o.name}
                if o.name:
                    s = torch.func.functional_call(self.module.get_submodule(o.name), own, (s,))
            return s

        return run


def _plain(operation: Any) -> dict[str, Any]:
    """A frozen dataclass as JSON values."""
    return {
        k: list(v) if isinstance(v, tuple) else v for k, v in dataclasses.asdict(operation).items() if v is not None
    }
