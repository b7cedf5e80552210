"""A bench: one backend with its options, opened on the suite's small networks, each opening a rig."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mep_neuro import registry
from mep_neuro.backend import Backend
from mep_neuro.capabilities import Capabilities
from mep_neuro.errors import BackendUnavailable, CapabilityError
from mep_neuro.testing.networks import Case, build, cases
from mep_neuro.testing.rig import Rig

REPEATS = 32
"""How often each sample stands in the batch of a substrate with noise; the laws look at the means."""


class Bench:
    """One backend on trial.

    backend: a registered name, or a class.
    options: the backend's own, for every substrate that is opened.

    Raises `BackendNotFound`, or `BackendUnavailable` with the cure.
    """

    def __init__(self, backend: str | type[Backend], **options: Any) -> None:
        self.registered = isinstance(backend, str)
        self.kind = registry.backend_class(backend) if isinstance(backend, str) else backend
        self.name = backend if isinstance(backend, str) else backend.__name__
        self.options = options
        availability = self.kind.availability()
        if not availability:
            raise BackendUnavailable(f"{self.name} cannot run here: {availability.reason}; {availability.cure}")
        self.refused: dict[Case, str] = {}

    def __str__(self) -> str:
        return self.name

    @property
    def capabilities(self) -> Capabilities:
        """What the backend declares."""
        return self.kind.capabilities

    @property
    def repeats(self) -> int:
        """How often each sample stands in a batch."""
        return 1 if self.capabilities.deterministic else REPEATS

    def has(self, option: str) -> bool:
        """Whether the backend has an option of this name."""
        return option in inspect.signature(self.kind.__init__).parameters

    def allowed(self, floor: float = 0.0) -> float:
        """The relative error that a law allows: the declared tolerance, but no less than a floor of its own."""
        return max(floor, self.capabilities.tolerance)

    @cached_property
    def cases(self) -> tuple[Case, ...]:
        """The suite's cases that the backend opens. What it refuses by a `CapabilityError` is noted in `refused`."""
        held = []
        for case in cases(self.capabilities):
            try:
                self.kind(build(case, self.capabilities), seed=0, **self.options).close()
            except CapabilityError as reason:
                self.refused[case] = str(reason)
            else:
                held.append(case)
        return tuple(held)

    def plain(self) -> Iterator[Case]:
        """The plainest case of each energy."""
        for energy in dict.fromkeys(c.energy for c in self.cases):
            yield next(c for c in self.cases if c.energy == energy)

    def chosen(self, **features: Any) -> Iterator[Case]:
        """The plainest case of each energy with some of its features replaced, where there is such a network and the
        backend opens it."""
        for case in self.plain():
            other = Case(**{**vars(case), **features})
            if not other.exists:
                continue
            try:
                self.kind(build(other, self.capabilities), seed=0, **self.options).close()
            except CapabilityError as reason:
                self.refused[other] = str(reason)
            else:
                yield other

    @contextmanager
    def open(
        self,
        case: Case,
        *,
        seed: int = 0,
        settled: bool = True,
        change: Callable[[nn.Sequential], object] | None = None,
        **options: Any,
    ) -> Iterator[Rig]:
        """A substrate on a new network of the case, programmed with its parameters.

        settled: on rate substrates without noise, ask for so many steps and so small a tolerance that what is left of
                 settling is far below the allowed error; else the backend's own defaults.
        change:  done to the module before the substrate is opened.
        options: beside the bench's own, and before them.
        """
        network = build(case, self.capabilities)
        if change is not None:
            change(network.module)
        asked = {**(self.patience if settled else {}), **self.options, **options}
        with self.kind(network, seed=seed, **asked) as substrate:
            rig = Rig(case, network, substrate, self.repeats, self.capabilities.tolerance)
            rig.program({name: p.detach().clone() for name, p in network.parameters.items()})
            yield rig

    @property
    def patience(self) -> Mapping[str, Any]:
        """Options to settle fully, where the backend has them and settles without noise."""
        if self.capabilities.dynamics != "rate" or not self.capabilities.deterministic or not self.has("max_steps"):
            return {}
        return {"max_steps": 3000, "tolerance": 1e-10} if self.has("tolerance") else {"max_steps": 300}


def distance(measured: Tensor, expected: Tensor, scale: float = 0.0) -> float:
    """|measured - expected| / max(|expected|, scale), Euclidean norms; infinite where something is not finite."""
    if measured.shape != expected.shape or not bool(torch.isfinite(measured.abs()).all()):
        return float("inf")
    size = max(float(expected.abs().square().sum().sqrt()), scale, np.finfo(float).tiny)
    return float((measured - expected).abs().square().sum().sqrt()) / size


def worst(measured: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> float:
    """The largest relative distance of any measured parameter's gradient from what is expected of it.

    A gradient below a thousandth of the whole is measured against that.
    """
    floor = 1e-3 * float(joined(expected).norm())
    return max((distance(value, expected[name], floor) for name, value in measured.items()), default=0.0)


def joined(values: Mapping[str, Tensor]) -> Tensor:
    """All entries, one after the other, in the order of the names."""
    return torch.cat([values[name].flatten() for name in sorted(values)]) if values else torch.zeros(0)


def stacked(parts: Sequence[Tensor]) -> Tensor:
    """All states of a sample side by side, (batch, units)."""
    return torch.cat([p.flatten(1) for p in parts], 1)
