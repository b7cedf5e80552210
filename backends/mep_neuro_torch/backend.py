"""The torch substrate: batched settling on the module's own tensors, on CPU or CUDA."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from mep_neuro.backend import Backend
from mep_neuro.capabilities import Capabilities
from mep_neuro.counts import OperationCounts, Tally
from mep_neuro.counts import Phase as CountedPhase
from mep_neuro.network import EnergyNetwork
from mep_neuro.settling import (
    CONVERGED,
    RUNAWAY,
    check_contrast,
    check_solver,
    check_step_size,
    check_tolerance,
    step_limits,
)
from mep_neuro.types import Equilibrium, Nudge, Parameters
from mep_neuro_torch.checks import Watched, check_finite, check_samples
from mep_neuro_torch.contrast import products
from mep_neuro_torch.energies import ENERGIES, blocks
from mep_neuro_torch.nudges import Nudger
from mep_neuro_torch.operations import Weights, draw_masks, forward, repeated
from mep_neuro_torch.prediction_error import squared_norm
from mep_neuro_torch.relaxation import Phase, Relaxation
from mep_neuro_torch.rest import Free, Rest, parts
from mep_neuro_torch.solvers import SOLVERS, Course

ROUNDING = 8
"""Changes of so many units in the last place are rounding, and count as rest."""


class TensorBackend(Backend):
    """Settling on tensors; see `TorchBackend` for the options."""

    capabilities: Capabilities = Capabilities(
        energies=ENERGIES,
        couplings=frozenset({"Dense", "Conv2d", "AvgPool2d", "Flatten", "Dropout", "Signed"}),
        activations=frozenset({"ClippedLinear", "Logistic", "Rectifiers"}),
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
        step_size: float | None,
        compiled: bool | str,
    ) -> None:
        self.network = network
        if device is not None:
            network.module.to(device)
        check_finite(network.parameters)
        self._steps = step_limits(max_steps)
        self._tolerance = check_tolerance(tolerance)
        self._step_size = check_step_size(step_size, solver)
        self._solver = SOLVERS[check_solver(solver, SOLVERS, network.energy_name)]
        self._sweeps, self._passes = solver == "even_odd", solver == "errors"
        self._blocks = blocks(network, compiled)
        self._held = [
            {} if c.weighted is None else network.module.get_submodule(c.weighted.name)._parameters
            for c in network.couplings
        ]
        self._tally = Tally()
        self._bounds: tuple[tuple[int, ...], list[Tensor]] | None = None
        self._nudger = Nudger(network.outputs.activation)
        self._generator = torch.Generator(network.device).manual_seed(seed)

    @torch.no_grad()
    def program(self, parameters: Parameters) -> None:
        own = self.network.parameters
        self.network.check_parameters(parameters)
        check_finite(parameters)
        self.network.check_conductances(parameters)
        for name, value in parameters.items():
            own[name].copy_(value)

    @torch.no_grad()
    def read(self) -> Parameters:
        return {name: p.detach().clone() for name, p in self.network.parameters.items()}

    @torch.no_grad()
    def apply(self, update: Parameters) -> None:
        own = self.network.parameters
        self.network.check_parameters(update, whole=False)
        check_finite(update)
        for name, value in update.items():
            own[name].add_(value)
        self.network.project()  # a device can go no lower

    def reseed(self, seed: int) -> None:
        self._generator.manual_seed(seed)

    def counts(self) -> OperationCounts:
        return self._tally.freeze()

    @torch.no_grad()
    def settle(self, x: Tensor, *, nudge: Nudge | None = None, start: Equilibrium | None = None) -> Equilibrium:
        if nudge is not None:
            return self._nudged(x, [nudge], start)[0]
        self._tally.presented(x.size(0), self.network.host_values * x.element_size())
        relaxation, phase = self._begin(x, start)
        course = self._course(self._size(relaxation), nudged=False, reached=True)
        before = list(relaxation.states)
        if start is not None or not self._blocks.free_is_forward:
            self._solver(relaxation, course)
        return self._settled(x, relaxation, phase, course, before, [None])[0]

    @torch.no_grad()
    def settle_each(self, x: Tensor, nudges: Sequence[Nudge], start: Equilibrium) -> tuple[Equilibrium, ...]:
        return self._nudged(x, nudges, start)

    @torch.no_grad()
    def contrast(self, terms: Sequence[tuple[complex, Equilibrium]]) -> Parameters:
        check_contrast([w for w, _ in terms])
        x, masks, ends = terms[0][1].x, dict[str, Tensor](), []
        versions = self._versions(x)
        for _, equilibrium in terms:
            known = self._known(x, equilibrium, versions)
            if known is not None:
                ends.append(known.local())
                masks = {**masks, **known.masks}
            else:
                ends.append(self._begin(x, equilibrium)[0].local())
        weights = [w for w, _ in terms]
        found = self._blocks.contrast(x, ends, weights, self._weights(), masks)
        for level, coupling in enumerate(self.network.couplings):
            if coupling.weighted is not None and coupling.weighted.weight in found:
                self._tally.outer(coupling, x.size(0), x.element_size(), products(len(terms), level))
        return {name: value.to(self.network.dtype) for name, value in found.items()}

    def _begin(self, x: Tensor, start: Equilibrium | None) -> tuple[Relaxation, Phase]:
        """x clamped, and the states of a start, or of the forward pass, set on their way without a nudge."""
        known = None if start is None else self._known(x, start, self._versions(x))
        item, couplings = x.element_size(), self.network.couplings
        if known is not None and known.free is not None:
            phase = known.free.phase
        else:
            old = None if start is None else start.context
            masks = old.masks if isinstance(old, Rest) else draw_masks(self.network, x.size(0), self._generator)
            weights = self._weights()
            phase = Phase(forward(couplings[0], x, weights[0], masks), weights, masks)
            self._tally.product("free", couplings[0], x.size(0), item)
        if start is None:
            relaxation = self._blocks.rest(phase)
            for population in self.network.populations:
                self._tally.neurons("free", population.size, x.size(0), item)
        else:
            phase = replace(phase, bounds=self._norms(x, phase.weights))
            relaxation = self._blocks.resume(start.states, phase)
        if start is None or self._blocks.needs_bounds:  # the products of the forward pass, or of predicting again
            for coupling in couplings[1:]:
                self._tally.product("free", coupling, x.size(0), item)
        return relaxation, phase

    def _nudged(self, x: Tensor, nudges: Sequence[Nudge], start: Equilibrium | None) -> tuple[Equilibrium, ...]:
        rows, versions = len(nudges) * x.size(0), self._versions(x)
        known = None if start is None else self._known(x, start, versions)
        free = None if known is None else known.free
        relaxation, phase = self._begin(x, start) if free is None else (free.relaxation, free.phase)
        self._blocks.check_nudges(nudges, relaxation)
        pull, slope = self._nudger.pull(nudges, self._blocks.outputs(relaxation.states))
        rounding = ROUNDING * torch.finfo(slope.dtype).eps / (self._tolerance or CONVERGED)
        size = self._size(relaxation) if free is None else free.size
        scale = torch.maximum(slope, repeated(rounding * size, rows))
        phase = Phase(phase.clamped, phase.weights, phase.masks, pull, self._norms(x, phase.weights))
        relaxation = relaxation.again(phase, rows)
        course = self._course(scale, nudged=True, reached=free is None)
        before = list(relaxation.states)
        self._solver(relaxation, course)
        return self._settled(x, relaxation, phase, course, before, nudges)

    def _size(self, relaxation: Relaxation) -> Tensor:
        """max(1, |outputs|) of each sample: the scale of a free phase."""
        return self._blocks.outputs(relaxation.states).abs().flatten(1).amax(1).clamp_min(1.0)

    def _course(self, scale: Tensor, *, nudged: bool, reached: bool) -> Course:
        """reached: whether every level may be away from rest already; else the nudge must travel to it first."""
        levels = len(self.network.populations)
        travel = (levels + 1) // 2 if self._sweeps else levels
        return Course(
            max_steps=self._steps[nudged],
            min_steps=1 + (travel if nudged and not self._passes else 0),
            scale=scale,
            tolerance=self._tolerance,
            step_size=self._step_size,
            nudged=nudged,
            reached=reached,
            updates=[0] * levels,
            residual=torch.zeros_like(scale),
        )

    def _settled(
        self,
        x: Tensor,
        relaxation: Relaxation,
        phase: Phase,
        course: Course,
        before: Sequence[Tensor],
        nudges: Sequence[Nudge | None],
    ) -> tuple[Equilibrium, ...]:
        """One equilibrium for each nudge, out of the stacked batch; counted and looked over."""
        outputs, versions = self._blocks.outputs(relaxation.states), self._versions(x)
        self._count("nudged" if course.nudged else "free", course, relaxation)
        seen = torch.linalg.vector_norm(course.residual) if course.steps else 0 * outputs.sum()
        if not abs((seen if course.nudged else seen + 0 * x.sum()).item()) <= RUNAWAY:  # the phase's one wait
            self._explain(x, relaxation, phase, course, before)
        sides = relaxation.local() if course.nudged else ([], [])
        cut = parts([*relaxation.states, *sides[0], *sides[1], outputs, course.residual], x.size(0), len(nudges))
        return tuple(
            Equilibrium(
                x=x,
                states=(own := tuple([cut[id(s)][k] for s in relaxation.states])),
                outputs=cut[id(outputs)][k],
                steps=course.steps,
                residual=cut[id(course.residual)][k],
                tolerance=self._tolerance or CONVERGED,
                nudge=nudge,
                context=Rest(
                    states=own,
                    x=x,
                    versions=versions,
                    masks=phase.masks,
                    free=None if course.nudged else Free(relaxation, phase, course.scale),
                    ends=[[cut[id(end)][k] for end in side] for side in sides] if course.nudged else None,
                ),
            )
            for k, nudge in enumerate(nudges)
        )

    def _explain(
        self, x: Tensor, relaxation: Relaxation, phase: Phase, course: Course, before: Sequence[Tensor]
    ) -> None:
        """Something is not finite, or may grow: raise the error that says what, settling once more to see where."""
        check_samples(x)
        check_finite(self.network.parameters)
        again = self._course(course.scale, nudged=course.nudged, reached=course.reached)
        watched = Watched(relaxation.again(phase, course.scale.size(0)), before, again, self.network, x.size(0))
        self._solver(watched, again)
        if course.steps:
            watched.check_growth()

    def _known(self, x: Tensor, equilibrium: Equilibrium, versions: tuple[int, ...]) -> Rest | None:
        """An equilibrium's context, if it is of these samples, these parameters and its own states."""
        rest = equilibrium.context
        if not isinstance(rest, Rest) or rest.states is not equilibrium.states:
            return None
        same = rest.x.data_ptr() == x.data_ptr() and rest.x.shape == x.shape and rest.x.stride() == x.stride()
        return rest if same and rest.versions == versions else None

    def _weights(self) -> list[Weights]:
        torch.clear_autocast_cache()  # it keeps casts of weights as they were before a step in the same context
        return [(held.get("weight"), held.get("bias")) for held in self._held]

    def _versions(self, x: Tensor) -> tuple[int, ...]:
        """Counters that change with every change in place of x or of a parameter."""
        tensors = [x, *(p for held in self._held for p in held.values() if p is not None)]
        return tuple([-1 if t.is_inference() else t._version for t in tensors])

    def _norms(self, x: Tensor, weights: Sequence[Weights]) -> list[Tensor]:
        """Bounds of each coupling's |f|^2, worked out anew when a parameter has changed."""
        if not self._blocks.needs_bounds:
            return []
        versions = self._versions(x)[1:]
        if self._bounds is None or self._bounds[0] != versions:
            pairs = zip(self.network.couplings[1:], weights[1:], strict=True)
            self._bounds = (versions, [x.new_zeros(()), *(squared_norm(c, w, x) for c, w in pairs)])
        return self._bounds[1]

    def _count(self, phase: CountedPhase, course: Course, relaxation: Relaxation) -> None:
        item = self.network.dtype.itemsize
        for updated, population in zip(course.updates, self.network.populations, strict=True):
            self._tally.neurons(phase, population.size, updated, item)
        for (index, back, rows), times in relaxation.products.items():
            self._tally.product(phase, self.network.couplings[index], rows, item, times, back=back)
        relaxation.products.clear()
