"""EnergyNetwork: a chain of populations and couplings, read off an `nn.Sequential` whose parameters it shares."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from mep_neuro.activations import IDENTITY, Activation, ClippedLinear
from mep_neuro.contraction import contraction
from mep_neuro.couplings import Coupling, Dropout, Operation, Shape
from mep_neuro.energies import ENERGIES, Link, Map, check_chain, check_energy
from mep_neuro.errors import InputError, MepNeuroError, NetworkError, did_you_mean
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
                     Hardsigmoid, Hardtanh, Sigmoid, Tanh, Identity. An activation closes a population. For
                     `"resistive"`: of Linear, with weights >= 0, and Diodes, ReLU, ReLU6, Hardtanh, Identity; Flatten
                     and SignedInput may come first.
        energy:      `"hopfield"`, `"prediction_error"` or `"resistive"` (see `mep_neuro.energies`).
        input_shape: one sample's shape, e.g. (1, 28, 28); needed where the first layer is a convolution.

        Raises `NetworkError`, naming the module and what to use instead, for all that the energy cannot hold.
        """
        check_energy(energy)
        shape, stages = trace(module, None if input_shape is None else tuple(input_shape))
        check_chain(energy, [s.coupling for s in stages], [s.activation for s in stages])
        network = cls(
            module=module,
            energy_name=energy,
            input_shape=shape,
            populations=tuple(Population(s.coupling.out_shape, s.activation) for s in stages),
            couplings=tuple(s.coupling for s in stages),
        )
        network.check_conductances(network.parameters, NetworkError)
        return network

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

    @cached_property
    def conductances(self) -> tuple[str, ...]:
        """Names of the parameters that are conductances, and so cannot be negative: the resistive energy's weights."""
        if self.energy_name != "resistive":
            return ()
        return tuple(c.weighted.weight for c in self.couplings if c.weighted is not None)

    def check_conductances(self, given: Parameters, error: type[MepNeuroError] = InputError) -> None:
        """Raise `InputError` naming a conductance that is negative."""
        for name in self.conductances:
            if name in given and (least := float(torch.as_tensor(given[name]).detach().min())) < 0:
                raise error(
                    f"parameter {name!r} is negative ({least:.3g} at the least), and conductances are 0 or more. Begin "
                    "with mep.resistive_init_(module); a learner sets to 0 what a step of an optimizer took below it"
                )

    @torch.no_grad()
    def project(self) -> None:
        """Set each negative conductance of the module to 0, in place: the projection that ends a step of an optimizer.

        A learner does it before it settles, and `fit` after each step. Other energies have nothing to project.
        """
        for name in self.conductances:
            p = self.parameters[name]
            if bool((p < 0).any()):
                p.clamp_(min=0.0)

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

    def steepest_negative_beta(self, cost: str, parameters: Parameters | None = None) -> float:
        """The beta at which a nudge of -beta would leave the outputs without a minimum.

        parameters: in place of the module's own; they matter for the resistive energy, where it is the least sum of
                    conductances at an output (twice that for cross entropy).
        """
        activation = self.outputs.activation
        if self.energy_name == "resistive":
            held = self.parameters if parameters is None else parameters
            least = torch.as_tensor(held[self.conductances[-1]]).detach().sum(1).min()
            return float(least) * (2 if cost == "cross_entropy" else 1)
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
        links = [self.link(c, {**self.parameters, **(parameters or {})}, masks or {}) for c in self.couplings]
        return ENERGIES[self.energy_name](self.batch(x), states, links, activations)

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

    def link(
        self, coupling: Coupling, parameters: Mapping[str, Tensor], masks: Mapping[str, Tensor] | None = None
    ) -> Link:
        """A coupling as the energies' definitions see it, with parameters in place of the module's own."""
        masks = masks or {}
        o = coupling.weighted
        before = () if o is None else coupling.operations[: coupling.operations.index(o)]
        return Link(
            affine=self._chained(coupling.operations, parameters, masks),
            seen=self._chained(before, parameters, masks),
            weight=None if o is None else parameters[o.weight],
            bias=None if o is None or o.bias is None else parameters[o.bias],
        )

    def _affine(self, coupling: Coupling) -> Map:
        """s -> f(s) + b with the module's own parameters, every Dropout letting all through."""
        return self._chained(coupling.operations, {}, {})

    def _chained(
        self, operations: Sequence[Operation], parameters: Mapping[str, Tensor], masks: Mapping[str, Tensor]
    ) -> Map:
        def run(s: Tensor) -> Tensor:
            for o in operations:
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
