"""Data on their way into training: pairs of tensors or iterables of batches, checked, and drawn by a seed."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Iterator
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor
from typing_extensions import TypeIs

from mep_neuro.costs import encode_target
from mep_neuro.errors import InputError
from mep_neuro.network import EnergyNetwork

Data: TypeAlias = tuple[Tensor, Tensor] | Iterable[tuple[Tensor, Tensor]]
"""(x, target) tensors, from which batches are drawn, or anything that gives batches, such as a DataLoader."""


def derived_seed(*parts: int) -> int:
    """One seed out of several numbers. Trailing zeros change nothing: (1, 2) and (1, 2, 0) give the same."""
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint32)[0])


def is_pair(data: Data) -> TypeIs[tuple[Tensor, Tensor]]:
    """Whether these are (x, target), and not batches."""
    return isinstance(data, tuple) and len(data) == 2 and all(isinstance(part, Tensor) for part in data)


def check_data(name: str, data: Data | None, network: EnergyNetwork) -> None:
    """Say what is wrong with a pair of tensors before anything runs."""
    if data is None or not is_pair(data):
        return
    x, target = data
    if len(x) != len(target):
        raise InputError(f"x has {len(x)} samples, but the target has {len(target)} (the {name} data)")
    if len(x) == 0:
        raise InputError(f"the {name} data hold no samples")
    for what, values in (("x", x), ("the target", target)):
        bad = ~torch.isfinite(values).flatten(1).all(1) if values.dim() > 1 else ~torch.isfinite(values)
        if bool(bad.any()):
            raise InputError(f"{what} is not finite in sample {int(bad.nonzero()[0])} of the {name} data: clean them")
    network.batch(x[:1])
    labels = target.dim() == 1 and not target.is_floating_point()
    encode_target(torch.stack(target.aminmax()) if labels else target[:1], network.outputs.shape, network.dtype)


def draw_batches(data: Data, batch_size: int, seed: int | None) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of a pair of tensors, in an order drawn from the seed (in their own without one), or an iterable's own.

    An iterable that draws from PyTorch's global generator, as a shuffling DataLoader does, draws from the seed; the
    global generator is left as it was.
    """
    if not is_pair(data):
        yield from _drawn(data, seed or 0)
        return
    x, target = data
    generator = torch.Generator().manual_seed(seed or 0)
    order = torch.arange(len(x)) if seed is None else torch.randperm(len(x), generator=generator)
    for rows in torch.split(order.to(x.device), batch_size):
        yield x[rows], target[rows]


def _drawn(data: Iterable[tuple[Tensor, Tensor]], seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """An iterable's batches, drawn while the global generator is lent a state of its own."""
    lent, batches = torch.Generator().manual_seed(seed).get_state(), None
    while True:
        outside = torch.get_rng_state()
        torch.set_rng_state(lent)
        try:
            batches = iter(data) if batches is None else batches
            x, target = next(batches)
        except StopIteration:
            return
        finally:
            lent = torch.get_rng_state()
            torch.set_rng_state(outside)
        yield x, target


def batch_count(data: Data, batch_size: int) -> int | None:
    """How many batches there are; None where that is not known."""
    return math.ceil(len(data[0]) / batch_size) if is_pair(data) else operator.length_hint(data) or None
