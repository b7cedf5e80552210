"""SpectralConstraint: after every step of an optimizer, no bounded coupling stretches a state by more than gamma."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, final

import torch
from torch import Tensor
from torch.nn import functional as F

from mep_neuro.couplings import Conv2d, Weighted
from mep_neuro.errors import InputError, OptionError

KEY = "spectral_vector"
"""Where the state of a parameter keeps its top singular vector; the other one is W times it."""

SLACK = 5e-4
"""Share of sigma by which a weight may end below gamma when it is scaled down."""

CONV_ITERATIONS = 40
CONV_ROUNDS = 5
CONV_NOISE = 0.1
"""Noise in the vector that a convolution's iterations start from, against the kept one's length of 1."""


@final
class SpectralConstraint:
    """W <- W gamma / sigma(W) where sigma(W) > gamma; sigma is the largest |W s| / |s|, the first singular value.

    gamma:            the bound, positive. What settling asks of it: docs/training.md, "When settling is guaranteed".
    power_iterations: products with W^T W after each step of the optimizer, from the vector that the last ones found.

    For a dense weight the bound is proven each time: sigma <= t where t^2 - W^T W has a Cholesky factor. If the
    iterations came too little close for that, sigma is taken from all eigenvalues. A convolution is bounded as the map
    that it is on its own input shape, zeros outside, by its product and the transposed one: its kernel laid flat has
    another norm. That map is too large to be factored; `CONV_ITERATIONS` products start from the vector kept and some
    noise, until what is left of the eigenvector's equation is below a thousandth of sigma^2.

    All iterates of the power iteration are kept and used (Lanczos; Golub and Van Loan 2013, chapter 10).
    """

    def __init__(self, gamma: float = 0.95, power_iterations: int = 3) -> None:
        if not (math.isfinite(gamma) and gamma > 0):
            raise OptionError(f"gamma is {gamma}; give a positive bound on the singular values, e.g. 0.95")
        if power_iterations < 1:
            raise OptionError(f"power_iterations is {power_iterations}; give at least 1")
        self.gamma, self.power_iterations = gamma, power_iterations

    def __repr__(self) -> str:
        return f"SpectralConstraint(gamma={self.gamma}, power_iterations={self.power_iterations})"

    @torch.no_grad()
    def enforce(self, p: Tensor, coupling_operation: Weighted, state: dict[str, Any]) -> None:
        """Scale a weight down, in place, where it stretches by more than gamma.

        coupling_operation: what the weight does: `Dense`, or `Conv2d` with its input shape.
        state:              the parameter's own in the optimizer; it gets one tensor, "spectral_vector".

        Raises `InputError` for a weight that is not finite.
        """
        o, size = coupling_operation, float(p.abs().max())
        if not math.isfinite(size):
            raise InputError(f"parameter {o.weight!r} is not finite: the training diverged; lower the learning rate")
        if size == 0:
            return
        w, gamma = p.double() / size, self.gamma / size  # in float64, which neither autocast nor TF32 makes coarser
        if isinstance(o, Conv2d):
            sigma, vector = _convolved(w, o, _kept(state, o.in_shape, w), gamma)
        else:
            sigma, vector = _dense(w, _kept(state, (min(w.shape),), w), gamma, self.power_iterations)
        state[KEY] = vector.to(p.dtype)
        if sigma > gamma:
            p.mul_(gamma / sigma)


def _dense(w: Tensor, start: Tensor, gamma: float, iterations: int) -> tuple[float, Tensor]:
    """A bound that sigma lies below, gamma where that is one, and the top eigenvector of the smaller Gram matrix."""
    gram = w @ w.T if w.size(0) <= w.size(1) else w.T @ w
    value, vector, _ = _top(lambda v: gram @ v, start, iterations)
    sigma = math.sqrt(value)
    for limit in (gamma, sigma * (1 + SLACK)):
        if limit > sigma and _all_below(gram, limit**2):
            return limit, vector
    values, vectors = torch.linalg.eigh(gram)
    return math.sqrt(float(values[-1])), vectors[:, -1]


def _all_below(gram: Tensor, limit: float) -> bool:
    """Whether all eigenvalues are below a limit: a Cholesky factor is the proof."""
    rest = limit * torch.eye(len(gram), dtype=gram.dtype, device=gram.device) - gram
    return int(torch.linalg.cholesky_ex(rest).info) == 0


def _convolved(w: Tensor, o: Conv2d, start: Tensor, gamma: float) -> tuple[float, Tensor]:
    """Sigma of a convolution on its input shape, raised by SLACK if above gamma, and its top singular vector."""
    sizes = zip(o.in_shape[1:], o.out_shape[1:], o.kernel, o.stride, o.padding, o.dilation, strict=True)
    short = [n - ((m - 1) * st - 2 * pad + d * (k - 1) + 1) for n, m, k, st, pad, d in sizes]

    def square(v: Tensor) -> Tensor:
        above = F.conv2d(v.view(1, *o.in_shape), w, None, o.stride, o.padding, o.dilation, o.groups)
        return F.conv_transpose2d(above, w, None, o.stride, o.padding, short, o.groups, o.dilation).flatten()

    start = start + CONV_NOISE * _noise(start)
    for _ in range(CONV_ROUNDS):
        value, start, left = _top(square, start, min(CONV_ITERATIONS, len(start)))
        if left <= 2 * SLACK * value:
            break
    sigma = math.sqrt(value)
    return sigma * (1 + SLACK) if sigma > gamma else sigma, start


def _top(product: Callable[[Tensor], Tensor], start: Tensor, iterations: int) -> tuple[float, Tensor, float]:
    """The largest eigenvalue of a positive map on vectors, its eigenvector, and what is left of their equation, by
    Lanczos' iteration with every vector orthogonalised against all before it."""
    basis = [start / start.norm()]
    diagonal, beside = [], []
    for _ in range(iterations):
        v = product(basis[-1])
        diagonal.append(v @ basis[-1])
        span = torch.stack(basis)
        for _ in range(2):
            v = v - (span @ v) @ span
        length = v.norm()
        beside.append(length)
        rounding = 1e3 * torch.finfo(v.dtype).eps * diagonal[0].abs()  # nothing new: from there on zeros
        basis.append(torch.where(length > rounding, v / length, 0.0))
    d, b = torch.stack(diagonal), torch.stack(beside)
    values, vectors = torch.linalg.eigh(torch.diag(d) + torch.diag(b[:-1], 1) + torch.diag(b[:-1], -1))
    mix = vectors[:, -1]
    vector: Tensor = mix @ torch.stack(basis[:-1])
    value, left = torch.stack([values[-1], b[-1] * mix[-1].abs()]).tolist()
    return max(value, 0.0), vector / vector.norm(), left


def _kept(state: dict[str, Any], shape: tuple[int, ...], like: Tensor) -> Tensor:
    """The vector kept of the step before, flat; noise at the first step."""
    if KEY in state:
        kept: Tensor = state[KEY].to(like)
        return kept
    return _noise(like.new_empty(math.prod(shape)))


def _noise(like: Tensor) -> Tensor:
    """A random vector of length 1, the same each time."""
    generator = torch.Generator().manual_seed(0)
    noise: Tensor = torch.randn(like.shape, generator=generator, dtype=like.dtype)
    noise /= noise.norm()
    return noise.to(like.device)
