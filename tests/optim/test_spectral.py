"""SpectralConstraint against the true singular values, after random updates and after spiteful ones."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import mep_neuro as mep
from mep_neuro.couplings import Conv2d, Weighted
from mep_neuro.errors import InputError, OptionError
from mep_neuro.optim.spectral import KEY, SpectralConstraint

GAMMA = 0.95
LAW = 1 + 1e-3

DENSE = {
    "read-out": nn.Linear(256, 10),
    "square": nn.Linear(48, 48),
    "tall": nn.Linear(17, 40),
    "row": nn.Linear(30, 1),
}
CONVOLUTIONS = {
    "same": (nn.Conv2d(3, 6, 3, padding=1), (3, 8, 8)),
    "strided": (nn.Conv2d(4, 6, 3, stride=2, padding=1), (4, 9, 7)),
    "valid": (nn.Conv2d(2, 5, 3), (2, 7, 7)),
    "dilated": (nn.Conv2d(3, 4, 3, dilation=2, padding=2), (3, 8, 8)),
    "grouped": (nn.Conv2d(4, 6, (3, 2), groups=2, stride=(1, 2)), (4, 6, 7)),
    "sparse": (nn.Conv2d(2, 3, 2, stride=4), (2, 10, 10)),
    "whole": (nn.Conv2d(3, 4, 5), (3, 5, 5)),
}


def operation(layer: nn.Module, shape: tuple[int, ...] | None = None) -> Weighted:
    """What a layer does, as a network sees it."""
    o = mep.EnergyNetwork.from_module(nn.Sequential(layer), input_shape=shape).couplings[0].weighted
    assert o is not None
    return o


def norm(p: Tensor, o: Weighted) -> float:
    """The first singular value of the whole map, by the SVD of its matrix in float64."""
    w = p.detach().double()
    if isinstance(o, Conv2d):
        basis = torch.eye(math.prod(o.in_shape), dtype=w.dtype).view(-1, *o.in_shape)
        w = nn.functional.conv2d(basis, w, None, o.stride, o.padding, o.dilation, o.groups).flatten(1)
    return float(torch.linalg.svdvals(w)[0])


def orthogonal(generator: torch.Generator, shape: torch.Size) -> Tensor:
    """All singular values alike, as Muon's updates have them."""
    rows = shape[0]
    u, _, v = torch.linalg.svd(torch.randn(rows, math.prod(shape[1:]), generator=generator), full_matrices=False)
    return (u @ v).view(shape)


def updates(p: Tensor, o: Weighted, state: dict[str, Any], generator: torch.Generator) -> Iterator[Tensor]:
    """New values for a weight, each made from what the constraint left."""

    def noise() -> Tensor:
        return torch.randn(p.shape, generator=generator)

    kinds: list[Callable[[], Tensor]] = [
        lambda: p + 0.01 * norm(p, o) * noise() / p.numel() ** 0.5,
        lambda: p + 0.05 * orthogonal(generator, p.shape),
        lambda: p + 3 * noise(),
        lambda: 0.1 * orthogonal(generator, p.shape),
        lambda: orthogonal(generator, p.shape),
        lambda: -1.7 * p,
        lambda: 1.004 * p,
        lambda: p.flip(0),
        lambda: p + 0.3 * torch.outer(noise()[:, 0].flatten()[: len(p)], noise()[0].flatten()).view(p.shape),
        lambda: spike(p, o, state, 1.002) if not isinstance(o, Conv2d) else p + 0.02 * noise().sign(),
        lambda: spike(p, o, state, 1.5) if not isinstance(o, Conv2d) else noise().sign(),
        lambda: 1e-6 * noise(),
    ]
    for step in range(240):
        yield kinds[int(torch.randint(len(kinds), (), generator=generator)) if step >= len(kinds) else step]()


def spike(p: Tensor, o: Weighted, state: dict[str, Any], size: float) -> Tensor:
    """The kept top vector stays one of singular value gamma; another direction gets `size` times that."""
    if min(p.shape) == 1:
        return size * p
    kept = state[KEY]
    side = p if p.size(0) <= p.size(1) else p.T
    other = torch.roll(kept, 1) - (torch.roll(kept, 1) @ kept) * kept
    other = other / other.norm()
    v = torch.linalg.svd(side, full_matrices=False)[2]
    new = GAMMA * torch.outer(kept, v[0]) + size * GAMMA * torch.outer(other, v[1])
    return new if p.size(0) <= p.size(1) else new.T


EVERY = [
    *((pytest.param(layer, None, id=name)) for name, layer in DENSE.items()),
    *((pytest.param(layer, shape, id=name)) for name, (layer, shape) in CONVOLUTIONS.items()),
]


@pytest.mark.parametrize(("layer", "shape"), EVERY)
def test_no_update_leaves_a_singular_value_above_gamma(layer: nn.Module, shape: tuple[int, ...] | None) -> None:
    o, constraint = operation(layer, shape), SpectralConstraint(GAMMA)
    generator, state = torch.Generator().manual_seed(3), dict[str, Any]()
    p = nn.Parameter(torch.randn(layer.weight.shape, generator=generator))
    constraint.enforce(p, o, state)
    scaled = 0
    for new in updates(p.detach(), o, state, generator):
        with torch.no_grad():
            p.copy_(new)
        wanted, before = p.detach().clone(), norm(p, o)
        constraint.enforce(p, o, state)
        after = norm(p, o)
        assert after <= GAMMA * LAW
        if before <= GAMMA:
            assert torch.equal(p, wanted)  # what is within the bound is left alone, to the bit
        elif before > GAMMA * LAW:
            scaled += 1
            assert GAMMA / LAW <= after <= GAMMA * (1 + 1e-6)  # no more than needed, and no less
            assert torch.allclose(p * (before / after), wanted, rtol=1e-4, atol=1e-7)  # by one factor
    assert scaled > 100


def test_power_iteration_from_the_kept_vector_would_miss_a_new_direction() -> None:
    """What the Cholesky factor is for: the spikes above are invisible from the vector that is kept."""
    o, state, p = operation(DENSE["square"]), dict[str, Any](), torch.eye(48)
    SpectralConstraint(GAMMA).enforce(p, o, state)
    p = spike(p, o, state, 1.5)
    v = state[KEY]
    for _ in range(3):
        v = p @ (p.T @ v)
        v = v / v.norm()
    assert float((p.T @ v).norm()) < 1.01 * GAMMA
    SpectralConstraint(GAMMA).enforce(p, o, state)
    assert norm(p, o) <= GAMMA * LAW


def test_a_kernel_laid_flat_is_not_the_convolution() -> None:
    layer, shape = CONVOLUTIONS["same"]
    o = operation(layer, shape)
    p = torch.randn(layer.weight.shape, generator=torch.Generator().manual_seed(0))
    flat = p * GAMMA / torch.linalg.matrix_norm(p.flatten(1), 2)
    assert norm(flat, o) > 1.3 * GAMMA
    SpectralConstraint(GAMMA).enforce(p, o, {})
    assert norm(p, o) == pytest.approx(GAMMA, rel=1e-3)
    whole, square = CONVOLUTIONS["whole"]  # but where one window sees it all, it is
    p = torch.randn(whole.weight.shape, generator=torch.Generator().manual_seed(0))
    SpectralConstraint(GAMMA).enforce(p, operation(whole, square), {})
    assert float(torch.linalg.matrix_norm(p.flatten(1), 2)) == pytest.approx(GAMMA, rel=1e-3)


def test_a_convolutions_iterations_see_what_the_kept_vector_has_no_part_in() -> None:
    """Two groups of channels never meet; the kept vector lies in the one, and then the other grows."""
    layer = nn.Conv2d(4, 4, 3, groups=2, padding=1)
    o, state = operation(layer, (4, 7, 7)), dict[str, Any]()
    p = torch.randn(4, 2, 3, 3, generator=torch.Generator().manual_seed(0))
    p[2:] = 0
    SpectralConstraint(GAMMA).enforce(p, o, state)
    state[KEY].view(4, 49)[2:] = 0
    p[2:] = 1.3 * p[:2]
    SpectralConstraint(GAMMA).enforce(p, o, state)
    assert norm(p, o) == pytest.approx(GAMMA, rel=1e-3)


@pytest.mark.parametrize("size", [32, 64])
def test_a_sum_over_windows_of_many_places(size: int) -> None:
    """Its singular values lie dense below the first, which is (1 + 2 cos(pi / (size + 1)))^2 by a closed form."""
    o, p = operation(nn.Conv2d(1, 1, 3, padding=1), (1, size, size)), torch.ones(1, 1, 3, 3)
    SpectralConstraint(GAMMA).enforce(p, o, {})
    first = float(p[0, 0, 0, 0]) * (1 + 2 * math.cos(math.pi / (size + 1))) ** 2
    assert first == pytest.approx(GAMMA / (1 + 5e-4), rel=1e-5)


def test_the_vector_kept_spares_the_whole_decomposition(monkeypatch: pytest.MonkeyPatch) -> None:
    """A weight on its way, at the bound: from the kept vector three products are enough, from noise they are not."""
    o, eigh, whole = operation(nn.Linear(96, 64)), torch.linalg.eigh, list[int]()

    def counted(a: Tensor) -> Any:
        whole.append(len(a) == 64)
        return eigh(a)

    monkeypatch.setattr(torch.linalg, "eigh", counted)
    needed = []
    for keep in (True, False):
        generator, state = torch.Generator().manual_seed(1), dict[str, Any]()
        p = torch.randn(64, 96, generator=generator)
        p += 5 * torch.outer(p[:, 0], p[0]) / 96**0.5
        drift = torch.randn(64, 96, generator=generator)
        whole.clear()
        for _ in range(50):
            SpectralConstraint(GAMMA, power_iterations=3).enforce(p, o, state if keep else {})
            p += 1e-3 * drift + 1e-3 * torch.randn(64, 96, generator=generator)
        needed.append(sum(whole))
    assert needed[0] <= 5
    assert needed[1] >= 25


def test_more_iterations_spare_it_too(monkeypatch: pytest.MonkeyPatch) -> None:
    o, eigh, whole = operation(nn.Linear(96, 64)), torch.linalg.eigh, list[int]()

    def counted(a: Tensor) -> Any:
        whole.append(len(a) == 64)
        return eigh(a)

    monkeypatch.setattr(torch.linalg, "eigh", counted)
    for iterations in (1, 40):
        p = torch.randn(64, 96, generator=torch.Generator().manual_seed(1))
        SpectralConstraint(GAMMA, power_iterations=iterations).enforce(p, o, {})
        whole.append(-1)
    assert whole == [0, 1, -1, 0, -1]


@pytest.mark.parametrize("layer", [nn.Linear(20, 12), nn.Conv2d(2, 3, 3, padding=1)], ids=["dense", "convolution"])
def test_the_state_is_one_tensor_and_a_run_goes_on_from_it_bit_for_bit(layer: nn.Module) -> None:
    o, constraint = operation(layer, (20,) if isinstance(layer, nn.Linear) else (2, 6, 6)), SpectralConstraint(GAMMA)

    def run(p: Tensor, state: dict[str, Any], steps: range) -> None:
        for step in steps:
            p += torch.randn(p.shape, generator=torch.Generator().manual_seed(step))
            constraint.enforce(p, o, state)

    whole, state = torch.zeros_like(layer.weight), dict[str, Any]()
    run(whole, state, range(8))
    part, half = torch.zeros_like(layer.weight), dict[str, Any]()
    run(part, half, range(4))
    file = io.BytesIO()
    torch.save((part, half), file)
    file.seek(0)
    part, half = torch.load(file, weights_only=True)
    assert {name: (type(v), v.dtype) for name, v in half.items()} == {KEY: (Tensor, torch.float32)}
    run(part, half, range(4, 8))
    assert torch.equal(part, whole)
    assert torch.equal(half[KEY], state[KEY])


@pytest.mark.parametrize("size", [1e-30, 1e-6, 1.0, 1e30])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_any_size_of_numbers(size: float, dtype: torch.dtype) -> None:
    for layer, shape in ((nn.Linear(8, 5), None), (nn.Conv2d(2, 3, 3), (2, 5, 5))):
        o = operation(layer, shape)
        p = size * torch.randn(layer.weight.shape, generator=torch.Generator().manual_seed(0)).to(dtype)
        before = p.clone()
        SpectralConstraint(GAMMA).enforce(p, o, {})
        assert p.dtype is dtype
        if size < 0.1:
            assert torch.equal(p, before)
        else:
            assert norm(p, o) == pytest.approx(GAMMA, rel=1e-3)


def test_zeros_stay_and_what_is_not_finite_is_named() -> None:
    p, state = torch.zeros(5, 8), dict[str, Any]()
    SpectralConstraint(GAMMA).enforce(p, operation(nn.Linear(8, 5)), state)
    assert not p.any()
    assert state == {}
    for poison in (float("nan"), float("inf")):
        p[2, 3] = poison
        with pytest.raises(InputError, match=r"'0\.weight' is not finite"):
            SpectralConstraint(GAMMA).enforce(p, operation(nn.Linear(8, 5)), {})


def test_it_works_in_place_on_a_leaf_that_wants_a_gradient_and_under_autocast() -> None:
    layer = nn.Linear(8, 5)
    with torch.no_grad():
        layer.weight.mul_(20)
    p, version = layer.weight, layer.weight._version
    with torch.autocast("cpu", dtype=torch.bfloat16):
        SpectralConstraint(GAMMA).enforce(p, operation(layer), {})
    assert layer.weight is p
    assert p.requires_grad
    assert p._version > version
    assert norm(p, operation(layer)) == pytest.approx(GAMMA, rel=1e-3)


def test_gamma_is_the_bound() -> None:
    for gamma in (0.3, 0.95, 2.0):
        p = torch.randn(12, 20, generator=torch.Generator().manual_seed(0))
        SpectralConstraint(gamma).enforce(p, operation(nn.Linear(20, 12)), {})
        assert norm(p, operation(nn.Linear(20, 12))) == pytest.approx(gamma, rel=1e-3)
    assert repr(SpectralConstraint()) == "SpectralConstraint(gamma=0.95, power_iterations=3)"


@pytest.mark.parametrize("gamma", [0.0, -1.0, float("nan"), float("inf")])
def test_gammas_that_make_no_sense(gamma: float) -> None:
    with pytest.raises(OptionError, match=r"gamma is .*positive"):
        SpectralConstraint(gamma)


def test_iterations_that_make_no_sense() -> None:
    with pytest.raises(OptionError, match="power_iterations is 0"):
        SpectralConstraint(power_iterations=0)
