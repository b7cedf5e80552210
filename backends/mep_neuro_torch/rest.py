"""What an equilibrium takes along for later phases and the contrast of the same samples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

from mep_neuro_torch.operations import Masks
from mep_neuro_torch.relaxation import Phase, Relaxation


class Free(NamedTuple):
    """A settled free phase, as nudged phases go on from it."""

    relaxation: Relaxation
    phase: Phase
    size: Tensor
    """max(1, |outputs|) of each sample."""


class Rest(NamedTuple):
    """An equilibrium's context: what later phases and the contrast of the same samples take over."""

    states: tuple[Tensor, ...]
    x: Tensor
    versions: tuple[int, ...]
    masks: Masks
    free: Free | None
    """Of a free phase: what nudged phases go on from."""
    ends: Sequence[Sequence[Tensor]] | None
    """Of a nudged phase: (post, pre) of every coupling. The clamped drive is not kept: it would only fill memory."""

    def local(self) -> Sequence[Sequence[Tensor]]:
        """What each synapse sees."""
        if self.ends is not None:
            return self.ends
        assert self.free is not None
        return self.free.relaxation.local()


def parts(stacked: Sequence[Tensor], batch: int, copies: int) -> dict[int, Sequence[Tensor]]:
    """Each tensor, by its id, cut into one batch a phase; what the phases still share is the same in all."""
    alone = {id(t): t for t in stacked}
    return {key: t.chunk(copies) if t.size(0) > batch else [t] * copies for key, t in alone.items()}
