"""What a solver moves: the states of one phase, and the minimiser of each block with its neighbours held."""

from __future__ import annotations

import abc
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import Tensor

from mep_neuro.errors import OptionError
from mep_neuro.network import EnergyNetwork
from mep_neuro.types import Nudge
from mep_neuro_torch.contrast import contrast
from mep_neuro_torch.minimisers import Pull
from mep_neuro_torch.operations import Masks, Weights


@dataclass(frozen=True)
class Phase:
    """All that stays fixed while one phase settles."""

    clamped: Tensor
    """f_1(x) + b_1, the drive that the clamped input gives, (batch, *population 1)."""
    weights: Sequence[Weights]
    masks: Masks = field(default_factory=dict)
    pull: Pull | None = None
    bounds: Sequence[Tensor] = ()
    """c_l >= |f_l|^2, where the energy's minimiser needs them."""


class Relaxation(abc.ABC):
    """The states of phases that settle side by side, (copies * batch, ...). Tensors are replaced, not changed in place.

    A state that is still the same in all copies may be kept, and worked on, once: (batch, ...).
    """

    states: list[Tensor]
    products: Counter[tuple[int, bool, int]]
    """The products taken so far: (coupling, back through the adjoint, rows)."""

    @abc.abstractmethod
    def minimum(self, level: int) -> Tensor:
        """The block minimiser of states[level] with its neighbours held."""

    @abc.abstractmethod
    def put(self, level: int, s: Tensor) -> None:
        """Replace states[level]."""

    def pass_errors(self) -> None:
        """Hand the errors down from the outputs, and the states up from x: an iteration of the `errors` solver."""
        raise OptionError("the solver 'errors' is for the prediction_error energy")

    @abc.abstractmethod
    def again(self, phase: Phase, rows: int) -> Relaxation:
        """The same states set on their way in another phase, in copies up to so many rows."""

    @abc.abstractmethod
    def local(self) -> tuple[list[Tensor], list[Tensor]]:
        """What a synapse sees: the two ends of every coupling, -dE/dW_l = post_l (x) pre_l.

        post_1 .. post_L and pre_2 .. pre_L; pre_1 is x. What an energy's own `contrast` takes may be cut otherwise.
        """


class Blocks(abc.ABC):
    """An energy on this backend: where a phase begins, and what its blocks cost."""

    network: EnergyNetwork
    needs_bounds: bool
    free_is_forward: bool
    """Whether the forward pass is the free equilibrium, so that nothing is left to settle."""

    @abc.abstractmethod
    def rest(self, phase: Phase) -> Relaxation:
        """The forward pass, where every settling without a start begins."""

    @abc.abstractmethod
    def resume(self, states: Sequence[Tensor], phase: Phase) -> Relaxation:
        """Given states, set on their way."""

    @abc.abstractmethod
    def outputs(self, states: Sequence[Tensor]) -> Tensor:
        """What the network answers, (batch, *outputs)."""

    def check_nudges(  # noqa: B027  # most energies have nothing to check here
        self, nudges: Sequence[Nudge], relaxation: Relaxation
    ) -> None:
        """Raise `InputError` for a nudge under which the outputs have no minimum."""

    def contrast(
        self,
        x: Tensor,
        ends: Sequence[Sequence[Sequence[Tensor]]],
        weights: Sequence[complex],
        parameters: Sequence[Weights],
        masks: Masks,
    ) -> dict[str, Tensor]:
        """sum_k weights_k (-dE/dtheta)(s_k), the mean over the batch; ends: `Relaxation.local` of each phase."""
        return contrast(self.network, x, ends, weights, parameters, masks)
