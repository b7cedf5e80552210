"""What a digital-to-analog or analog-to-digital converter lets through."""

from __future__ import annotations

import torch
from torch import Tensor

LEAST_LIMIT = 1e-30
"""The range of a sample that is all zeros; in float32, 2^23 / LEAST_LIMIT is still finite."""


def quantised(values: Tensor, bits: int | None, limit: float | None, *, out: Tensor | None = None) -> Tensor:
    """The nearest code's value: a symmetric converter of 2^bits - 2 steps over [-limit, limit] that clips beyond.

        most = 2^(bits - 1) - 1,    step = limit / most,    q(v) = step clip(round(v / step), -most, most)

    Two of the 2^bits codes stand for zero, so that zero is exact and q(-v) = -q(v). Inside the range q is off by at
    most step / 2, and by step / sqrt(12) in the root mean square if values are spread evenly over a step. Halves go
    to the even code.

    values:  (batch, n), in any unit.
    bits:    2 to 24; None: an ideal converter, and the values themselves come back.
    limit:   in the unit of the values, above 0; None: the largest |value| of each sample, and nothing clips.
    out:     where to write; may be `values`. None: a new tensor.
    Source:  codes are counted as in aihwkit 1.2.0, whose inp_res of a 7-bit DAC is 1 / (2^7 - 2) of the range's width.
    """
    if bits is None:
        return values if out is None else out.copy_(values)
    most = 2 ** (bits - 1) - 1
    if limit is not None:
        step = limit / most
        return torch.mul(values, 1 / step, out=out).round_().clamp_(-most, most).mul_(step)
    steps = values.abs().amax(1, keepdim=True).clamp_(min=LEAST_LIMIT).div_(most)
    return torch.div(values, steps, out=out).round_().mul_(steps)
