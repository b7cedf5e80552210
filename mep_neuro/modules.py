"""PyTorch modules of resistive networks: doubled inputs, diodes, and conductances to begin with."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from typing_extensions import final

from mep_neuro.errors import NetworkError, OptionError


@final
class SignedInput(nn.Module):
    """Voltage sources of both signs, x -> (gain x, -gain x), (batch, n) to (batch, 2 n).

    A conductance cannot be negative; joined to both signs of an input, a node can be pulled either way. The gain makes
    up for the voltage that a network of resistors loses from one population to the next. It has nothing to train, and
    stands before the first Linear, which then takes 2 n inputs. Source: Kendall et al. 2020, arXiv:2006.01981.

    Raises `OptionError` for a gain that is not a positive number.

    >>> SignedInput(gain=10.0)(torch.tensor([[1.0, -0.5]]))
    tensor([[ 10.,  -5., -10.,   5.]])
    """

    def __init__(self, gain: float = 50.0) -> None:
        super().__init__()
        if not (math.isfinite(gain) and gain > 0):
            raise OptionError(f"the gain is {gain}; give a positive number")
        self.gain = float(gain)

    def forward(self, x: Tensor) -> Tensor:
        """(gain x, -gain x)."""
        return signed(x, self.gain)

    def extra_repr(self) -> str:
        """The gain, for `print(module)`."""
        return f"gain={self.gain:g}"


@final
class Diodes(nn.Module):
    """Ideal diodes to ground at the nodes of a hidden population: v >= 0 in its first half, v <= 0 in its second.

    Of an odd number of nodes the first half is the larger. The first half are excitatory nodes, the second inhibitory
    ones (Scellier 2024, arXiv:2402.11674). `nn.ReLU` makes all of them excitatory.

    >>> Diodes()(torch.tensor([[-1.0, 2.0, -3.0, 4.0]]))
    tensor([[ 0.,  2., -3.,  0.]])
    """

    def forward(self, v: Tensor) -> Tensor:
        """max(v, 0) in the first half, min(v, 0) in the second."""
        return half_rectified(v)


def signed(x: Tensor, gain: float) -> Tensor:
    """(gain x, -gain x) along the last axis."""
    x = gain * x
    return torch.cat([x, -x], -1)


def half_rectified(v: Tensor) -> Tensor:
    """max(v, 0) in the first half of the axis after the batch, the larger one, and min(v, 0) in the second."""
    first, second = v.tensor_split([(v.size(1) + 1) // 2], 1)
    return torch.cat([first.clamp_min(0.0), second.clamp_max(0.0)], 1)


@torch.no_grad()
def resistive_init_(module: nn.Module, *, scale: float = 2.0, generator: torch.Generator | None = None) -> nn.Module:
    """Draw each Linear's weights as conductances, uniform in [0, scale / sqrt(inputs)], and set its biases to 0.

    In place; returns the module. PyTorch's own initial weights are of both signs, which the resistive energy refuses.
    Only the ratios of conductances decide where a free phase rests; their size is what beta is measured against: at an
    output with n conductances their sum is n scale / (2 sqrt(n)) on average.

    generator: of the random numbers; PyTorch's global one where it is left out.

    Raises `OptionError` for a scale that is not positive, and `NetworkError` where there is no Linear.
    """
    if not (math.isfinite(scale) and scale > 0):
        raise OptionError(f"the scale is {scale}; give a positive number")
    layers = [m for m in module.modules() if isinstance(m, nn.Linear)]
    if not layers:
        raise NetworkError("the module has no Linear, whose weights could be conductances")
    for layer in layers:
        layer.weight.uniform_(0.0, scale / math.sqrt(layer.in_features), generator=generator)
        if layer.bias is not None:
            layer.bias.zero_()
    return module
