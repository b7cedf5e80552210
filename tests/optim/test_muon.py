"""MuonUpdate against torch.optim.Muon, and the quintic iteration against exact singular values."""

from __future__ import annotations

import io
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from mep_neuro.errors import InputError, OptionError
from mep_neuro.optim.muon import MuonUpdate
from mep_neuro.optim.orthogonal import QUINTIC, as_matrix, magnitude, orthogonalise

BAND = 0.6818, 1.2024  # the band of the quintic: its minimum at 1.0501 and its maximum at 0.5545
REACH = {3: 56.0, 5: 664.4, 6: 2288.6, 8: 27153.0, 10: 322167.0}  # |G|_F over the least value that gets there


def drawn(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def with_singular_values(rows: int, columns: int, values: Tensor) -> Tensor:
    u, _, vh = torch.linalg.svd(drawn(rows, columns, dtype=torch.float64), full_matrices=False)
    return u @ torch.diag(values) @ vh


def group(**options: Any) -> dict[str, Any]:
    return {**MuonUpdate.defaults, **options}


def stepped(gradients: list[Tensor], feedback: float | None = None, **options: Any) -> list[Tensor]:
    state: dict[str, Any] = {}
    p = torch.zeros_like(gradients[0])
    return [MuonUpdate().direction(p, g, state, group(**options), feedback, None) for g in gradients]


def torch_steps(gradients: list[Tensor], **options: Any) -> list[Tensor]:
    """What torch.optim.Muon moves a parameter by, a learning rate of 1 and no weight decay."""
    p = torch.nn.Parameter(torch.zeros_like(gradients[0]))
    optimizer = torch.optim.Muon([p], lr=1.0, weight_decay=0.0, **{**MuonUpdate.defaults, **options})
    moved = []
    for g in gradients:
        p.data.zero_()
        p.grad = g.clone()
        optimizer.step()
        moved.append(-p.detach().clone())
    return moved


def apart(a: Tensor, b: Tensor) -> float:
    return float((a - b).norm() / b.norm())


OPTIONS = [
    {},
    {"nesterov": False},
    {"momentum": 0.0},
    {"momentum": 0.5, "ns_steps": 3},
    {"ns_steps": 8},
    {"adjust_lr_fn": "match_rms_adamw"},
]


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("shape", [(10, 64), (64, 10), (48, 96), (1, 20)])
def test_it_is_torch_optim_muon_in_float32(
    shape: tuple[int, int], options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """torch's own step, kept from rounding to bfloat16: what differs then is rounding alone."""
    monkeypatch.setattr(torch.Tensor, "bfloat16", torch.Tensor.clone)
    gradients = [drawn(*shape, seed=s) for s in range(4)]
    for ours, theirs in zip(stepped(gradients, **options), torch_steps(gradients, **options), strict=True):
        assert apart(ours, theirs) < 1e-5


@pytest.mark.parametrize("shape", [(10, 64), (64, 32), (128, 200)])
def test_torch_optim_muon_as_it_is_differs_by_its_rounding_to_bfloat16(shape: tuple[int, int]) -> None:
    gradients = [drawn(*shape, seed=s) for s in range(4)]
    for ours, theirs in zip(stepped(gradients), torch_steps(gradients), strict=True):
        assert apart(ours, theirs) < 2e-2
        assert torch.cosine_similarity(ours.flatten(), theirs.flatten(), dim=0) > 0.9997
        assert abs(theirs.norm() / ours.norm() - 1) < 1e-2
    scale = math.sqrt(max(1, shape[0] / shape[1]))
    rounded = orthogonalise(gradients[0], dtype=torch.bfloat16)
    assert apart(scale * rounded, torch_steps(gradients[:1], momentum=0.0)[0]) < 1e-3


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_cuda_it_is_torch_optim_muon_as_it_is() -> None:
    gradients = [drawn(128, 200, seed=s).cuda() for s in range(4)]
    for ours, theirs in zip(stepped(gradients), torch_steps(gradients), strict=True):
        assert apart(ours, theirs) < 1e-2


@pytest.mark.parametrize("steps", [1, 3, 5, 8])
@pytest.mark.parametrize("shape", [(6, 9), (9, 6)])
def test_each_singular_value_goes_through_the_quintic(shape: tuple[int, int], steps: int) -> None:
    g = drawn(*shape, dtype=torch.float64)
    u, s, vh = torch.linalg.svd(g, full_matrices=False)
    a, b, c = QUINTIC
    s = s / s.norm()
    for _ in range(steps):
        s = a * s + b * s**3 + c * s**5
    result = orthogonalise(g, steps)
    assert result.dtype == torch.float64
    assert torch.allclose(result, u @ torch.diag(s) @ vh, atol=1e-12, rtol=0)
    alone = torch.zeros(shape, dtype=torch.float64)
    alone[2, 1] = 1.0  # the norm that it is divided by cannot be smaller
    assert orthogonalise(alone, 1)[2, 1] == pytest.approx(a + b + c)


@pytest.mark.parametrize("steps", REACH)
def test_singular_values_that_are_large_enough_get_near_one_and_no_others(steps: int) -> None:
    """The smallest share of the norm that gets there, and everything above it, along 400 values of the logarithm."""
    share = torch.logspace(math.log10(1 / REACH[steps]), math.log10(0.7), 400, dtype=torch.float64)
    for s in share.split(8):
        rest = (1 - s.square().sum().clamp(max=1 - 1e-12)).sqrt() if s.square().sum() < 1 else s.new_zeros(())
        values = torch.cat([s, rest[None]])
        inside = values >= values.norm() / REACH[steps]
        out = torch.linalg.svdvals(orthogonalise(torch.diag(values), steps))[: int(inside.sum())]
        assert out.min() > BAND[0] - 1e-4
        assert out.max() < BAND[1] + 1e-4
    below = torch.tensor([1.0, 0.97 / REACH[steps]], dtype=torch.float64)
    assert torch.linalg.svdvals(orthogonalise(torch.diag(below / below.norm()), steps)).min() < BAND[0] - 0.005


@pytest.mark.parametrize("shape", [(10, 512), (64, 128), (784, 256)])
def test_a_well_conditioned_gradient_comes_out_near_orthonormal(shape: tuple[int, int]) -> None:
    """Well conditioned: a condition number of at most 664 / sqrt(rank)."""
    rank = min(shape)
    well = 664 / math.sqrt(rank)
    for values in (torch.linspace(1, 1 / well, rank), torch.logspace(0, -math.log10(well), rank)):
        out = torch.linalg.svdvals(orthogonalise(with_singular_values(*shape, values.double()).float()))
        assert BAND[0] - 1e-3 < out.min()
        assert out.max() < BAND[1] + 1e-3
    for seed in range(3):
        out = torch.linalg.svdvals(orthogonalise(drawn(*shape, seed=seed)))
        assert BAND[0] - 1e-3 < out.min()
        assert out.max() < BAND[1] + 1e-3


@pytest.mark.parametrize("feedback", [None, 1.0])
@pytest.mark.parametrize("factor", [1e-9, 1e-30, 3e-37, 1e9, 1e30])
def test_the_scale_of_the_gradient_does_not_matter(factor: float, feedback: float | None) -> None:
    gradients = [drawn(12, 20, seed=s) for s in range(4)]
    scaled = [factor * g for g in gradients]
    for one, other in zip(stepped(gradients, feedback), stepped(scaled, feedback), strict=True):
        assert apart(other, one) < 1e-5


@pytest.mark.parametrize("feedback", [None, 1.0])
def test_no_gradient_gives_no_update(feedback: float | None) -> None:
    g = drawn(5, 7)
    zero, then = stepped([torch.zeros(5, 7), g], feedback)
    assert torch.equal(zero, torch.zeros(5, 7))
    assert apart(then, stepped([g])[0]) < 1e-5


def test_what_is_not_a_number_is_not_hidden() -> None:
    g = drawn(5, 7)
    g[2, 3] = math.nan
    assert stepped([g])[0].isnan().all()


@pytest.mark.parametrize("value", [1e-45, 1e-40, 0.5, 1.0, 3.7, 3.4e38])
def test_magnitude_is_the_power_of_two_below(value: float) -> None:
    m = torch.tensor([[0.0, -value]])
    power = float(magnitude(m))
    assert math.log2(power) == math.floor(math.log2(float(-m[0, 1])))
    assert torch.equal(m / power * power, m)


@pytest.mark.parametrize("kernel", [(8, 3, 5), (8, 3, 2, 3), (4, 2, 2, 2, 2)])
def test_a_kernel_is_a_matrix_of_its_flattened_windows(kernel: tuple[int, ...]) -> None:
    gradients = [drawn(*kernel, seed=s) for s in range(3)]
    flat = stepped([g.flatten(1) for g in gradients], 1.0)
    for ours, matrix in zip(stepped(gradients, 1.0), flat, strict=True):
        assert torch.equal(ours, matrix.reshape(kernel))


def test_a_kernel_in_channels_last_takes_the_same_steps() -> None:
    gradients = [drawn(8, 3, 2, 3, seed=s) for s in range(3)]
    turned = [g.to(memory_format=torch.channels_last) for g in gradients]
    for a, b in zip(stepped(gradients, 1.0), stepped(turned, 1.0), strict=True):
        assert torch.allclose(a, b, atol=1e-6)


@pytest.mark.parametrize(
    ("p", "applies"),
    [
        (torch.zeros(3, 4), True),
        (torch.zeros(3, 4, 2, 2), True),
        (torch.zeros(3), False),
        (torch.zeros(()), False),
        (torch.zeros(0, 4), False),
        (torch.zeros(3, 4, dtype=torch.complex64), False),
    ],
)
def test_it_is_for_matrices_and_kernels(p: Tensor, applies: bool) -> None:
    assert MuonUpdate.applies(p) is applies
    if not applies:
        with pytest.raises(InputError, match="neither a real matrix nor a kernel"):
            as_matrix(p)


def test_types_are_kept_and_autocast_changes_nothing() -> None:
    g = drawn(6, 9)
    for dtype, far in ((torch.float64, 1e-5), (torch.bfloat16, 2e-2), (torch.float16, 5e-3)):
        (d,) = stepped([g.to(dtype)])
        assert d.dtype == dtype
        assert apart(d.float(), stepped([g])[0]) < far
    plain = stepped([g], 1.0)[0]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(stepped([g], 1.0)[0], plain)


# -- error feedback ----------------------------------------------------------------------------------------------


def represented(gradients: list[Tensor], feedback: float | None) -> list[Tensor]:
    """The sums of the share C of the gradients that each step stood for, found from the directions alone."""
    state: dict[str, Any] = {}
    options, total, error, sums = group(momentum=0.0), torch.zeros_like(gradients[0]), 0.0, []
    for g in gradients:
        o = MuonUpdate().direction(torch.zeros_like(g), g, state, options, feedback, None)
        moment = g + error
        c = o * (moment * o).sum() / o.square().sum()
        error = moment - c if feedback else 0.0
        total = total + c
        sums.append(total)
    return sums


def test_with_feedback_the_steps_follow_the_gradients_and_without_they_part() -> None:
    """A constant gradient with singular values from 1 to 1/10: without feedback all count alike for ever."""
    g = with_singular_values(10, 16, torch.logspace(0, -1, 10, dtype=torch.float64))
    times = torch.arange(1, 401)
    kept, lost = (
        torch.stack([(total - int(t) * g).norm() for t, total in zip(times, represented([g] * 400, f), strict=True)])
        for f in (1.0, None)
    )
    assert kept.max() < 10 * g.norm()
    assert kept[200:].max() < 1.5 * kept[:200].max()  # bounded
    assert torch.allclose(lost, times * lost[0], rtol=1e-6)  # growing by the same amount every time
    assert lost[-1] > 20 * kept[-1]


def test_the_error_is_what_the_step_left_out() -> None:
    g = drawn(5, 8, dtype=torch.float64)
    for feedback in (0.5, 1.0):
        state: dict[str, Any] = {}
        o = MuonUpdate().direction(g, g, state, group(momentum=0.0), feedback, None)
        c = o * (g * o).sum() / o.square().sum()
        assert torch.allclose(state["error"], feedback * (g - c))
    state = {}
    MuonUpdate().direction(g, g, state, group(), None, None)
    assert "error" not in state


def test_the_share_that_comes_back_changes_the_steps() -> None:
    gradients = [drawn(6, 9, seed=s) for s in range(3)]
    first, second, third = (stepped(gradients, f) for f in (None, 0.5, 1.0))
    assert torch.equal(first[0], second[0])
    assert torch.equal(second[0], third[0])  # nothing was left out before the first step
    assert min(apart(first[2], second[2]), apart(second[2], third[2]), apart(first[2], third[2])) > 0.05


# -- as a part of an optimizer -----------------------------------------------------------------------------------


def test_the_state_is_loaded_as_weights_and_goes_on() -> None:
    gradients = [drawn(4, 6, seed=s) for s in range(4)]
    p, state = torch.zeros(4, 6), dict[str, Any]()
    for g in gradients[:3]:
        MuonUpdate().direction(p, g, state, group(), 0.9, None)
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    loaded = torch.load(file, weights_only=True)
    one, other = (MuonUpdate().direction(p, gradients[3], s, group(), 0.9, None) for s in (state, loaded))
    assert torch.equal(one, other)


@pytest.mark.parametrize("nesterov", [True, False])
@pytest.mark.parametrize("feedback", [None, 1.0])
def test_neither_the_parameter_nor_the_gradient_is_changed(feedback: float | None, nesterov: bool) -> None:
    p, g, state = drawn(4, 6), drawn(4, 6, seed=1), dict[str, Any]()
    before = p.clone(), g.clone()
    directions = [MuonUpdate().direction(p, g, state, group(nesterov=nesterov), feedback, None) for _ in range(3)]
    copies = [d.clone() for d in directions]
    MuonUpdate().direction(p, g, state, group(nesterov=nesterov), feedback, None)
    assert torch.equal(p, before[0])
    assert torch.equal(g, before[1])
    assert all(torch.equal(d, c) for d, c in zip(directions, copies, strict=True))  # and no direction is a buffer


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"momentum": 1.0}, r"momentum is 1.0"),
        ({"ns_steps": 0}, "ns_steps is 0"),
        ({"ns_steps": 100}, "ns_steps is 100"),
        ({"ns_steps": 5.0}, r"ns_steps is 5.0"),
        ({"ns_steps": True}, "ns_steps is True"),
        ({"nesterov": 1}, "nesterov is 1"),
        ({"adjust_lr_fn": "match_rms_adam"}, "Did you mean 'match_rms_adamw'"),
        ({"adjust_lr_fn": None}, "'original' or 'match_rms_adamw'"),
    ],
)
def test_senseless_options_are_errors(options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        MuonUpdate().check(group(**options))
    MuonUpdate().check(group())
