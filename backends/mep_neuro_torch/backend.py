"""The torch substrate: batched settling on the module's own tensors, on CPU or CUDA."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, final

import torch
from torch import Tensor

from mep_neuro.backend import Backend
from mep_neuro.capabilities import Availability, Capabilities
from mep_neuro.couplings import Dropout
from mep_neuro.counts import OperationCounts, Tally
from mep_neuro.counts import Phase as CountedPhase
from mep_neuro.errors import BackendUnavailable, InputError, OptionError, SettlingError, did_you_mean
from mep_neuro.network import EnergyNetwork
from mep_neuro.types import Equilibrium, Nudge, Parameters
from mep_neuro_torch.contrast import contrast, products
from mep_neuro_torch.hopfield import Hopfield
from mep_neuro_torch.minimisers import Pull
from mep_neuro_torch.operations import Masks, Weights, forward, repeated
from mep_neuro_torch.prediction_error import PredictionError, squared_norm
from mep_neuro_torch.relaxation import Blocks, Phase, Relaxation
from mep_neuro_torch.solvers import SOLVERS, Course

CONVERGED = 1e-3
"""The relative residual up to which a sample counts as converged where no tolerance is given."""

ROUNDING = 8
"""Changes of so many units in the last place are rounding, and count as rest."""

DEFAULT_STEPS = 20
"""Iterations of the free and of each nudged phase."""


class Rest(NamedTuple):
    """What a later phase of the same samples takes over from an equilibrium."""

    relaxation: Relaxation
    rows: slice
    phase: Phase
    x: Tensor
    versions: tuple[int, ...]


class TensorBackend(Backend):
    """Settling on tensors; see `TorchBackend` for the options."""

    capabilities: ClassVar[Capabilities] = Capabilities(
        energies=frozenset({"hopfield", "prediction_error"}),
        couplings=frozenset({"Dense", "Conv2d", "AvgPool2d", "Flatten", "Dropout"}),
        activations=frozenset({"ClippedLinear", "Logistic"}),
        costs=frozenset({"squared_error", "cross_entropy"}),
        forces=True,
        complex_nudging=True,
        shares_parameters=True,
        arrays="torch",
        tolerance=1e-4,
    )

    def _open(
        self,
        network: EnergyNetwork,
        seed: int,
        device: torch.device | str | None,
        solver: str,
        max_steps: int | Sequence[int],
        tolerance: float | None,
        compiled: bool | str,
    ) -> None:
        self.network = network
        if device is not None:
            network.module.to(device)
        self._steps = _step_limits(max_steps)
        if tolerance is not None and not tolerance > 0:
            raise OptionError(f"tolerance is {tolerance}; give a positive number, or None to run all steps")
        self._tolerance = tolerance
        if solver not in SOLVERS:
            raise OptionError(
                f"no solver {solver!r}; there are: {', '.join(SOLVERS)}.{did_you_mean(solver, SOLVERS)}"
            )
        self._solver, self._sweeps = SOLVERS[solver], solver == "even_odd"
        self._blocks = _blocks(network, compiled)
        self._owners = [
            None if c.weighted is None else network.module.get_submodule(c.weighted.name) for c in network.couplings
        ]
        self._tally = Tally()
        self._bounds: tuple[tuple[int, ...], list[Tensor]] | None = None
        self._betas: dict[tuple[Any, ...], Tensor] = {}
        self._generator = torch.Generator(network.device).manual_seed(seed)

    @torch.no_grad()
    def program(self, parameters: Parameters) -> None:
        own = self.network.parameters
        check_parameters(parameters, own)
        for name, value in parameters.items():
            own[name].copy_(value)

    @torch.no_grad()
    def read(self) -> Parameters:
        return {name: p.detach().clone() for name, p in self.network.parameters.items()}

    @torch.no_grad()
    def apply(self, update: Parameters) -> None:
        own = self.network.parameters
        for name, value in update.items():
            own[name].add_(value)

    def reseed(self, seed: int) -> None:
        self._generator.manual_seed(seed)

    def counts(self) -> OperationCounts:
        return self._tally.freeze()

    @torch.no_grad()
    def settle(self, x: Tensor, *, nudge: Nudge | None = None, start: Equilibrium | None = None) -> Equilibrium:
        if nudge is not None:
            return self._nudged(x, [nudge], start)[0]
        self._tally.presented(len(x))
        rest = self._begin(x, start)
        outputs = self._blocks.outputs(rest.relaxation.states)
        course = self._course(outputs.abs().flatten(1).amax(1).clamp_min(1.0), nudged=False, reached=True)
        before = list(rest.relaxation.states)
        if start is not None or not self._blocks.free_is_forward:
            self._solver(rest.relaxation, course)
        return self._settled(rest, course, before, [None])[0]

    @torch.no_grad()
    def settle_each(self, x: Tensor, nudges: Sequence[Nudge], start: Equilibrium) -> tuple[Equilibrium, ...]:
        return self._nudged(x, nudges, start)

    @torch.no_grad()
    def contrast(self, terms: Sequence[tuple[complex, Equilibrium]]) -> Parameters:
        if abs(sum(w for w, _ in terms)) > 1e-6 * sum(abs(w) for w, _ in terms):
            raise InputError("the weights of a contrast must sum to 0")
        x = terms[0][1].x
        rests = [self._known(x, e) or self._begin(x, e) for _, e in terms]
        local = {id(r.relaxation): r.relaxation.local() for r in rests}
        ends = [
            tuple([end[r.rows] for end in side] for side in local[id(r.relaxation)]) for r in rests
        ]
        phase, item = rests[0].phase, x.element_size()
        found = contrast(self.network, x, ends, [w for w, _ in terms], phase.weights, _cut(phase.masks, len(x)))
        for level, coupling in enumerate(self.network.couplings):
            if coupling.weighted is not None and coupling.weighted.weight in found:
                self._tally.outer(coupling, len(x), item, products(len(terms), level))
        return {name: value.to(self.network.dtype) for name, value in found.items()}

    def _begin(self, x: Tensor, start: Equilibrium | None) -> Rest:
        """x clamped, and the states of a start, or of the forward pass, set on their way without a nudge."""
        known = None if start is None else self._known(x, start)
        item, couplings = x.element_size(), self.network.couplings
        if known is not None:
            phase = Phase(known.phase.clamped[known.rows], known.phase.weights, _cut(known.phase.masks, len(x)))
        else:
            old = start.context if start is not None else None
            masks = _cut(old.phase.masks, len(x)) if isinstance(old, Rest) else self._masks(len(x))
            weights = self._weights()
            phase = Phase(forward(couplings[0], x, weights[0], masks), weights, masks)
            self._tally.product("free", couplings[0], len(x), item)
        if start is None:
            relaxation = self._blocks.rest(phase)
            for population in self.network.populations:
                self._tally.neurons("free", population.size, len(x), item)
        else:
            relaxation = self._blocks.resume(start.states, phase)
        if start is None or self._blocks.needs_bounds:  # the products of the forward pass, or of predicting again
            for coupling in couplings[1:]:
                self._tally.product("free", coupling, len(x), item)
        return Rest(relaxation, slice(0, len(x)), phase, x, self._versions(x))

    def _nudged(
        self, x: Tensor, nudges: Sequence[Nudge], start: Equilibrium | None
    ) -> tuple[Equilibrium, ...]:
        copies, known = len(nudges), None if start is None else self._known(x, start)
        free_start = known is not None and known.phase.pull is None
        rest = known if known is not None and free_start else self._begin(x, start)
        outputs = self._blocks.outputs(rest.relaxation.states)
        pull, slope = self._pull(nudges, outputs)
        phase = Phase(
            clamped=repeated(rest.phase.clamped, copies),
            weights=rest.phase.weights,
            masks={name: repeated(mask, copies) for name, mask in rest.phase.masks.items()},
            pull=pull,
            bounds=self._norms(x, rest),
        )
        relaxation = rest.relaxation.again(phase, copies)
        rounding = ROUNDING * torch.finfo(slope.dtype).eps / (self._tolerance or CONVERGED)
        size = outputs.abs().flatten(1).amax(1).clamp_min(1.0)
        course = self._course(
            torch.maximum(slope, rounding * repeated(size, copies)), nudged=True, reached=not free_start
        )
        before = list(relaxation.states)
        self._solver(relaxation, course)
        nudged = Rest(relaxation, rest.rows, phase, x, rest.versions)
        return self._settled(nudged, course, before, nudges)

    def _pull(self, nudges: Sequence[Nudge], outputs: Tensor) -> tuple[Pull, Tensor]:
        """The nudges on one stacked batch, and |beta| |dC/ds| of each sample."""
        copies, activation = len(nudges), self.network.outputs.activation
        turned = any(isinstance(n.beta, complex) for n in nudges)
        dtype = outputs.dtype.to_complex() if turned else outputs.dtype
        beta = self._column([n.beta for n in nudges], outputs, dtype)
        kinds = {(n.cost if n.force is None else "force") for n in nudges}
        if len(kinds) > 1:
            raise InputError("phases that settle together must share one kind of nudge")
        kind, shape = kinds.pop(), (copies * len(outputs), *outputs.shape[1:])
        given = [n.target if n.force is None else n.force for n in nudges]
        if any(g is None for g in given):
            raise InputError("a nudge needs a target with a cost, or a force")
        one = given[0] if all(g is given[0] for g in given) else torch.stack([g for g in given if g is not None])
        assert one is not None
        stacked = (beta.view(copies, len(outputs), *[1] * (outputs.dim() - 1)) * one).reshape(shape)
        if kind == "force":
            pull, force = Pull.ready(activation, beta * 0, stacked), one
        elif kind == "squared_error":
            pull, force = Pull.ready(activation, beta, stacked), one - outputs
        else:
            target = repeated(one, copies) if one is given[0] else one.reshape(shape)
            pull, force = Pull.ready(activation, beta, stacked, target), one - torch.softmax(outputs, 1)
        force = force.abs().reshape(-1, *outputs.shape[1:]).flatten(1).amax(1)
        strength = beta.abs().flatten()
        return pull, strength * (repeated(force, copies) if len(force) == len(outputs) else force)

    def _column(self, betas: Sequence[complex], outputs: Tensor, dtype: torch.dtype) -> Tensor:
        """beta for each row of the stacked batch; kept, since moving it to a device would wait for it."""
        key = (tuple(betas), len(outputs), outputs.dim(), dtype, outputs.device)
        if key not in self._betas:
            if len(self._betas) > 64:
                self._betas.clear()
            values = torch.tensor(list(betas), dtype=dtype).to(outputs.device)
            self._betas[key] = values.repeat_interleave(len(outputs)).view(-1, *[1] * (outputs.dim() - 1))
        return self._betas[key]

    def _course(self, scale: Tensor, *, nudged: bool, reached: bool) -> Course:
        """reached: whether every level may be away from rest already; else the nudge must travel to it first."""
        levels = len(self.network.populations)
        travel = (levels + 1) // 2 if self._sweeps else levels
        return Course(
            max_steps=self._steps[nudged],
            min_steps=1 + travel if nudged else 1,
            scale=scale,
            tolerance=self._tolerance,
            nudged=nudged,
            reached=reached,
            updates=[0] * levels,
            residual=torch.zeros_like(scale),
        )

    def _settled(
        self, rest: Rest, course: Course, before: Sequence[Tensor], nudges: Sequence[Nudge | None]
    ) -> tuple[Equilibrium, ...]:
        """One equilibrium for each nudge, out of the stacked batch; counted and looked over."""
        x, outputs = rest.x, self._blocks.outputs(rest.relaxation.states)
        self._count("nudged" if course.nudged else "free", course, len(outputs))
        total = outputs.sum().abs() + course.residual.sum() + (0 if course.nudged else x.sum())
        if not bool(torch.isfinite(total)):
            self._explain(rest, course, before)
        found = []
        for k, nudge in enumerate(nudges):
            rows = slice(k * len(x), (k + 1) * len(x))
            found.append(
                Equilibrium(
                    x=x,
                    states=tuple(s[rows] for s in rest.relaxation.states),
                    outputs=outputs[rows],
                    steps=course.steps,
                    residual=course.residual[rows],
                    tolerance=self._tolerance or CONVERGED,
                    nudge=nudge,
                    context=rest._replace(rows=rows),
                )
            )
        return tuple(found)

    def _explain(self, rest: Rest, course: Course, before: Sequence[Tensor]) -> None:
        """Something is not finite: raise the error that says what, settling once more to see where."""
        if not bool(torch.isfinite(rest.x).all()):
            raise InputError(f"x is not finite in sample {_first_bad(rest.x)}: clean the data")
        for name, p in self.network.parameters.items():
            if not bool(torch.isfinite(p).all()):
                raise InputError(f"parameter {name!r} is not finite: the training diverged; lower the learning rate")
        watched = Watched(rest.relaxation.again(rest.phase, 1), before)
        watched.course = self._course(course.scale, nudged=course.nudged, reached=course.reached)
        self._solver(watched, watched.course)

    def _known(self, x: Tensor, equilibrium: Equilibrium) -> Rest | None:
        """An equilibrium's context, if it is of these samples and these parameters."""
        rest = equilibrium.context
        if not isinstance(rest, Rest) or len(rest.x) != len(x):
            return None
        same = rest.x.data_ptr() == x.data_ptr() and rest.x.shape == x.shape and rest.x.stride() == x.stride()
        return rest if same and rest.versions == self._versions(x) else None

    def _weights(self) -> list[Weights]:
        return [(None, None) if o is None else (o.weight, o.bias) for o in self._owners]  # type: ignore[misc]

    def _versions(self, x: Tensor) -> tuple[int, ...]:
        """Counters that change with every change in place of x or of a parameter."""
        tensors = [x, *(p for pair in self._weights() for p in pair if p is not None)]
        return tuple(-1 if t.is_inference() else t._version for t in tensors)

    def _norms(self, x: Tensor, rest: Rest) -> list[Tensor]:
        """Bounds of each coupling's |f|^2, worked out anew when a parameter has changed."""
        if not self._blocks.needs_bounds:
            return []
        if self._bounds is None or self._bounds[0] != rest.versions[1:]:
            pairs = zip(self.network.couplings[1:], rest.phase.weights[1:], strict=True)
            self._bounds = (rest.versions[1:], [x.new_zeros(()), *(squared_norm(c, w, x) for c, w in pairs)])
        return self._bounds[1]

    def _masks(self, batch: int) -> Masks:
        masks = dict[str, Tensor]()
        for coupling in self.network.couplings:
            for o in coupling.operations:
                rate = self.network.dropout_rate(o)
                if rate > 0 and isinstance(o, Dropout):
                    keep = torch.empty(
                        batch, *o.in_shape, dtype=self.network.dtype, device=self._generator.device
                    ).bernoulli_(1 - rate, generator=self._generator)
                    masks[o.name] = keep.div_(1 - rate)
        return masks

    def _count(self, phase: CountedPhase, course: Course, batch: int) -> None:
        item = self.network.dtype.itemsize
        for level, (times, population) in enumerate(zip(course.updates, self.network.populations, strict=True)):
            if times:
                self._tally.neurons(phase, population.size, batch, item, times)
                for index, back in self._blocks.products(level):
                    self._tally.product(phase, self.network.couplings[index], batch, item, times, back=back)


@final
class Watched(Relaxation):
    """A relaxation that looks at every state it is given, to tell where numbers stop being finite."""

    course: Course

    def __init__(self, inner: Relaxation, states: Sequence[Tensor]) -> None:
        self._inner = inner
        self.states = inner.states
        for level, s in enumerate(states):
            inner.put(level, s)

    def minimum(self, level: int) -> Tensor:
        return self._inner.minimum(level)

    def put(self, level: int, s: Tensor) -> None:
        if not bool(torch.isfinite(s.abs()).all()):
            raise SettlingError(
                f"population {level + 1} is not finite in iteration {self.course.steps + 1} of the "
                f"{'nudged' if self.course.nudged else 'free'} phase: its loop runs away. Scale the weights down, "
                "use a bounded activation (nn.Hardsigmoid, nn.Hardtanh(0, 1)), or a smaller beta"
            )
        self._inner.put(level, s)

    def again(self, phase: Phase, copies: int) -> Relaxation:
        return self._inner.again(phase, copies)

    def local(self) -> tuple[list[Tensor], list[Tensor]]:
        return self._inner.local()


@final
class TorchBackend(TensorBackend):
    """Tensors on CPU or CUDA, in the module's own dtype and on its own device.

    device:    moves the module there first; None leaves it where it is.
    solver:    "even_odd" (default), "synchronous", "euler" or "anderson".
    max_steps: iterations of a phase, or (free, nudged).
    tolerance: stop early once no sample changes by more, relative to beta |dC/ds| (free: to max(1, |s|)); costs one
               wait for the device an iteration. None (default) runs all steps without waiting.
    compile:   True or a `torch.compile` mode compiles the block minimisers.
    """

    @classmethod
    def availability(cls) -> Availability:
        return Availability(True)

    def __init__(
        self,
        network: EnergyNetwork,
        *,
        seed: int = 0,
        device: str | None = None,
        solver: str = "even_odd",
        max_steps: int | Sequence[int] = DEFAULT_STEPS,
        tolerance: float | None = None,
        compile: bool | str = False,
    ) -> None:
        if device is not None and torch.device(device).type == "cuda" and not torch.cuda.is_available():
            raise BackendUnavailable(f"device {device!r} is not there: {_why_no_cuda()}")
        self._open(network, seed, device, solver, max_steps, tolerance, compile)


@final
class CudaBackend(TensorBackend):
    """The torch backend on a CUDA device that must exist; options as in `TorchBackend`."""

    @classmethod
    def availability(cls) -> Availability:
        if torch.cuda.is_available():
            return Availability(True)
        return Availability(False, _why_no_cuda(), "use backend 'torch', which runs on the CPU")

    def __init__(
        self,
        network: EnergyNetwork,
        *,
        seed: int = 0,
        device: str = "cuda",
        solver: str = "even_odd",
        max_steps: int | Sequence[int] = DEFAULT_STEPS,
        tolerance: float | None = None,
        compile: bool | str = False,
    ) -> None:
        self._open(network, seed, device, solver, max_steps, tolerance, compile)


def check_parameters(given: Mapping[str, Any], own: Mapping[str, Tensor]) -> None:
    """Raise `InputError` unless the names and shapes are the network's."""
    for name in own:
        if name not in given:
            raise InputError(f"parameter {name!r} is missing")
    for name, value in given.items():
        if name not in own:
            raise InputError(f"the network has no parameter {name!r}.{did_you_mean(name, own)}")
        if tuple(value.shape) != tuple(own[name].shape):
            raise InputError(f"parameter {name!r} has shape {tuple(value.shape)}, not {tuple(own[name].shape)}")


def _blocks(network: EnergyNetwork, compiled: bool | str) -> Blocks:
    if network.energy_name == "prediction_error":
        if compiled:
            raise OptionError("compile works on the hopfield energy; leave it out for prediction_error")
        return PredictionError(network)

    def wrap(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        if not compiled:
            return function
        mode = compiled if isinstance(compiled, str) else None
        return torch.compile(function, mode=mode)

    return Hopfield(network, wrap)


def _step_limits(max_steps: int | Sequence[int]) -> tuple[int, int]:
    free, nudged = (max_steps, max_steps) if isinstance(max_steps, int) else max_steps
    if free < 1 or nudged < 1:
        raise OptionError(f"max_steps is {max_steps}; settling takes at least 1 step")
    return free, nudged


def _cut(masks: Masks, batch: int) -> Masks:
    return {name: mask[:batch] for name, mask in masks.items()}


def _first_bad(x: Tensor) -> int:
    return int((~torch.isfinite(x)).flatten(1).any(1).nonzero()[0])


def _why_no_cuda() -> str:
    if torch.version.cuda is None:
        return f"this build of PyTorch ({torch.__version__}) has no CUDA"
    return "PyTorch finds no CUDA device"
