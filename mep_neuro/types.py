"""The values that pass between a learner and a substrate: nudge, equilibrium, parameters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

Array: TypeAlias = Any
"""A `torch.Tensor` or a `numpy.ndarray`, as the backend's capabilities say. The batch comes first."""

Parameters: TypeAlias = Mapping[str, Array]
"""Arrays by the module's own parameter names (`"0.weight"`, `"0.bias"`, ...)."""


@dataclass(frozen=True)
class Nudge:
    """What is added to the energy in a nudged phase: a pull on the output population.

        F(s) = E(s; x) + beta C(s_L, target)        with a cost and a target
        F(s) = E(s; x) - beta <force, s_L>          with a force, whatever it comes from

    beta:   strength; negative pushes away from the target; complex for holomorphic nudging.
    target: (batch, *outputs), one-hot for labels.
    cost:   `"squared_error"` or `"cross_entropy"`.
    force:  (batch, *outputs); the gradient that is then estimated is that of -<force, s_L>.
    """

    beta: float | complex
    target: Array | None = None
    cost: str = "squared_error"
    force: Array | None = None


@dataclass(frozen=True)
class Equilibrium:
    """Where a network came to rest with x clamped.

    x:         (batch, *inputs), the clamped population s_0.
    states:    s_1 .. s_L, each (batch, *population).
    outputs:   what the network answers, (batch, *outputs): s_L, or rho(s_L) where s_L is a drive.
    steps:     iterations of the solver (0 where no solver iterates).
    residual:  (batch,), the largest change of any state in the last iteration, relative to the scale that
               matters: beta |dC/ds| in a nudged phase, max(1, |outputs|) in the free phase.
    tolerance: the residual up to which a sample counts as converged.
    nudge:     None in the free phase.
    context:   the backend's own notes (clamped drive, dropout masks), for phases that start from here.
    """

    x: Array
    states: tuple[Array, ...]
    outputs: Array
    steps: int
    residual: Array
    tolerance: float
    nudge: Nudge | None = None
    context: Any = field(default=None, repr=False, compare=False)

    @property
    def converged(self) -> Array:
        """(batch,) booleans: which samples came to rest. Not converging is a value, not an error."""
        return self.residual <= self.tolerance
