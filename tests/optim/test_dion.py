"""DionUpdate against the paper's algorithm in NumPy, and what its error feedback must do."""

from __future__ import annotations

import io
import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mep_neuro.errors import InputError, OptionError
from mep_neuro.optim.dion import DionUpdate, power_iteration
from mep_neuro.optim.muon import MuonUpdate


def drawn(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def group(**options: Any) -> dict[str, Any]:
    return {**DionUpdate.defaults, "dion_thresh": 0, **options}


def stepped(
    gradients: list[Tensor], feedback: float | None = 1.0, state: dict[str, Any] | None = None, **options: Any
) -> list[Tensor]:
    own = {} if state is None else state
    p = torch.zeros_like(gradients[0])
    return [DionUpdate().direction(p, g, own, group(**options), feedback, None) for g in gradients]


def apart(a: Tensor, b: Tensor) -> float:
    return float((a - b).norm() / b.norm())


@pytest.mark.parametrize("shape", [(12, 20), (20, 12)])
@pytest.mark.parametrize("momentum", [0.0, 0.6, 0.9])
def test_with_feedback_one_it_is_the_papers_algorithm(shape: tuple[int, int], momentum: float) -> None:
    """Ahn et al. 2025, algorithm 1, in NumPy: B = M + G; P, R of B; M = B - (1 - mu) P R^T; Q = R by columns."""
    gradients = [drawn(*shape, seed=s) for s in range(6)]
    state: dict[str, Any] = {}
    (first,) = stepped(gradients[:1], state=state, momentum=momentum, rank_frac=0.25)
    rows, columns = shape
    m, r = gradients[0].numpy(), 3
    p = np.linalg.svd(first.numpy())[0][:, :r]  # the columns that the random start led to
    m = m - (1 - momentum) * p @ p.T @ m
    q = state["basis"].numpy()
    rest = stepped(gradients[1:], state=state, momentum=momentum, rank_frac=0.25)
    for g, ours in zip(gradients[1:], rest, strict=True):
        b = m + g.numpy()
        p = np.linalg.qr(b @ q)[0]
        right = b.T @ p
        m = b - (1 - momentum) * p @ right.T
        q = right / np.linalg.norm(right, axis=0)
        np.testing.assert_allclose(ours.numpy(), math.sqrt(rows / columns) * p @ q.T, atol=1e-10)
    np.testing.assert_allclose(state["momentum_buffer"].numpy(), m, atol=1e-10)


@pytest.mark.parametrize(("feedback", "keep"), [(None, 0.8), (0.5, 0.9), (1.0, 1.0)])
def test_what_the_rank_left_out_stays_as_far_as_feedback_says(feedback: float | None, keep: float) -> None:
    g, state = drawn(10, 8), dict[str, Any]()
    (d,) = stepped([g], feedback, state, momentum=0.8, rank_frac=0.3)
    p = torch.linalg.svd(d).U[:, :2]
    low = p @ p.T @ g
    assert torch.allclose(state["momentum_buffer"], 0.8 * low + keep * (g - low))


def parted(feedback: float | None, times: int) -> Tensor:
    """How far (1 - momentum) sum P R^T is from the sum of one full-rank gradient, found from the directions alone."""
    g = drawn(20, 20) / 20
    state, total, distances = {"momentum_buffer": torch.zeros_like(g)}, torch.zeros_like(g), []
    for t in range(1, times + 1):
        b = state["momentum_buffer"] + g
        (d,) = stepped([g], feedback, state, momentum=0.5)
        p = torch.linalg.svd(d).U[:, :4]
        total = total + 0.5 * p @ p.T @ b
        distances.append((total - t * g).norm())
    return torch.stack(distances)


def test_with_feedback_the_low_rank_parts_follow_the_gradients_and_without_they_part() -> None:
    kept, lost = parted(1.0, 300), parted(None, 300)
    assert kept[100:].max() < 1.1 * kept[:100].max()  # bounded
    growth = lost[101:] - lost[100:-1]
    assert growth.min() > 0.99 * growth.max() > 0  # the same amount every time
    assert lost[-1] > 10 * kept.max()


def test_with_feedback_every_direction_gets_its_turn() -> None:
    """The mean direction has full rank with feedback; without, it keeps to the leading ones."""
    g = drawn(20, 20)
    for feedback, rank in ((1.0, 20), (None, 4)):
        late = torch.stack(stepped([g] * 400, feedback, momentum=0.5)[200:]).mean(0)
        s = torch.linalg.svdvals(late)
        assert int((s > 1e-3 * s[0]).sum()) == rank


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_a_constant_gradient_gives_its_leading_singular_vectors(momentum: float) -> None:
    g = drawn(16, 24)
    u, _, vh = torch.linalg.svd(g, full_matrices=False)
    wanted = math.sqrt(16 / 24) * u[:, :3] @ vh[:3]
    far = [apart(d, wanted) for d in stepped([g] * 400, None, momentum=momentum)]
    assert far[0] > 0.3
    assert far[-1] < 1e-9


def test_power_iteration_goes_by_the_ratio_of_singular_values() -> None:
    s = torch.tensor([4.0, 3.0, 1.5, 1.0, 0.5], dtype=torch.float64)
    u, v = torch.linalg.qr(drawn(7, 5)).Q, torch.linalg.qr(drawn(6, 5, seed=1)).Q
    matrix, basis, far = u @ torch.diag(s) @ v.T, drawn(6, 2, seed=2), []
    for _ in range(14):
        left, basis = power_iteration(matrix, basis)
        assert torch.allclose(left.T @ left, torch.eye(2, dtype=torch.float64))
        far.append((left - u[:, :2] @ (u[:, :2].T @ left)).norm())
    for earlier, later in itertools.pairwise(far[6:]):
        assert later / earlier == pytest.approx((1.5 / 3) ** 2, rel=0.02)


@pytest.mark.parametrize(("fraction", "rank"), [(0.01, 1), (0.2, 2), (0.5, 6), (1.0, 12)])
@pytest.mark.parametrize("shape", [(12, 30), (30, 12)])
def test_the_direction_has_exactly_the_rank_asked_for(shape: tuple[int, int], fraction: float, rank: int) -> None:
    for d in stepped([drawn(*shape, seed=s) for s in range(4)], rank_frac=fraction):
        s = torch.linalg.svdvals(d)
        assert int((s > 1e-10).sum()) == rank
        assert float(d.norm()) == pytest.approx(math.sqrt(rank * shape[0] / shape[1]))  # unit columns


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_gradient_of_lower_rank_is_not_filled_up_with_rounding(dtype: torch.dtype) -> None:
    g = (drawn(40, 1) @ drawn(1, 60, seed=1)).to(dtype)
    for d in stepped([g] * 5):
        s = torch.linalg.svdvals(d)
        assert float(s[0]) == pytest.approx(math.sqrt(40 / 60), rel=1e-5)
        assert s[1] < 1e-5
    full = drawn(40, 60, seed=2).to(dtype)
    for d in stepped([g, full, full], None, momentum=0.0)[1:]:  # the columns that waited come back
        assert int((torch.linalg.svdvals(d) > 0.05).sum()) == 8


def test_what_is_small_but_real_is_kept() -> None:
    u, v = torch.linalg.qr(drawn(40, 8)).Q, torch.linalg.qr(drawn(60, 8, seed=1)).Q
    g = (u @ torch.diag(torch.logspace(0, -4, 8, dtype=torch.float64)) @ v.T).float()
    last = stepped([g] * 5, None)[-1]
    assert apart(last, math.sqrt(40 / 60) * (u @ v.T).float()) < 0.02


def test_no_gradient_gives_no_update_and_loses_no_start() -> None:
    gradients = [drawn(8, 10, seed=s, dtype=torch.float32) for s in range(3)]
    zero, *then = stepped([torch.zeros(8, 10), *gradients])
    assert torch.equal(zero, torch.zeros(8, 10))
    assert all(torch.equal(a, b) for a, b in zip(then, stepped(gradients), strict=True))


@pytest.mark.parametrize("feedback", [None, 1.0])
@pytest.mark.parametrize("factor", [1e-9, 1e-30, 3e-37, 1e9, 1e30])
def test_the_scale_of_the_gradient_does_not_matter(factor: float, feedback: float | None) -> None:
    gradients = [drawn(12, 20, seed=s, dtype=torch.float32) for s in range(5)]
    scaled = stepped([factor * g for g in gradients], feedback)
    for one, other in zip(stepped(gradients, feedback), scaled, strict=True):
        assert apart(other, one) < 1e-5


def test_what_is_not_a_number_is_not_hidden() -> None:
    g = drawn(5, 7)
    g[2, 3] = math.nan
    assert stepped([g])[0].isnan().any()


def test_smaller_matrices_are_orthogonalised_in_full() -> None:
    gradients = [drawn(6, 9, seed=s, dtype=torch.float32) for s in range(3)]
    for feedback in (None, 0.9):
        state: dict[str, Any] = {}
        full = [MuonUpdate().direction(g, g, state, MuonUpdate.defaults, feedback, None) for g in gradients]
        below = stepped(gradients, feedback, dion_thresh=55)
        assert all(torch.equal(a, b) for a, b in zip(below, full, strict=True))
        low = stepped(gradients, feedback, dion_thresh=54)
        assert all(int((torch.linalg.svdvals(d) > 1e-5).sum()) == 1 for d in low)


@pytest.mark.parametrize("kernel", [(8, 3, 5), (8, 3, 2, 3)])
def test_a_kernel_is_a_matrix_of_its_flattened_windows(kernel: tuple[int, ...]) -> None:
    gradients = [drawn(*kernel, seed=s) for s in range(4)]
    flat = stepped([g.flatten(1) for g in gradients])
    for ours, matrix in zip(stepped(gradients), flat, strict=True):
        assert torch.equal(ours, matrix.reshape(kernel))
    if len(kernel) == 4:
        turned = stepped([g.to(memory_format=torch.channels_last) for g in gradients])
        assert all(torch.allclose(a.flatten(1), b, atol=1e-12) for a, b in zip(turned, flat, strict=True))


def test_it_is_for_matrices_and_kernels() -> None:
    assert DionUpdate.applies(torch.zeros(3, 4, 2, 2))
    assert not DionUpdate.applies(torch.zeros(3))
    with pytest.raises(InputError, match="neither a real matrix nor a kernel"):
        stepped([torch.zeros(3)])


def test_types_are_kept_and_autocast_changes_nothing() -> None:
    gradients = [drawn(6, 9, seed=s, dtype=torch.float32) for s in range(2)]
    for dtype, far in ((torch.float64, 1e-5), (torch.bfloat16, 0.1)):
        ours = stepped([g.to(dtype) for g in gradients], None)
        assert ours[0].dtype == dtype
        assert apart(ours[0].float(), stepped(gradients, None)[0]) < far
    plain = stepped(gradients)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert all(torch.equal(a, b) for a, b in zip(stepped(gradients), plain, strict=True))


def test_the_same_run_twice_and_a_state_that_is_loaded_as_weights() -> None:
    gradients = [drawn(10, 12, seed=s) for s in range(5)]
    state: dict[str, Any] = {}
    stepped(gradients[:3], state=state)
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    rest = stepped(gradients[3:], state=torch.load(file, weights_only=True))
    torch.manual_seed(17)  # the start is not drawn from the global generator
    assert all(torch.equal(a, b) for a, b in zip(rest, stepped(gradients)[3:], strict=True))


def test_another_rank_halfway_starts_afresh() -> None:
    gradients = [drawn(10, 12, seed=s) for s in range(2)]
    state: dict[str, Any] = {}
    stepped(gradients[:1], state=state)
    (d,) = stepped(gradients[1:], state=state, rank_frac=0.5)
    assert int((torch.linalg.svdvals(d) > 1e-10).sum()) == 5


@pytest.mark.parametrize("feedback", [None, 1.0])
def test_neither_the_parameter_nor_the_gradient_is_changed(feedback: float | None) -> None:
    p, g, state = drawn(4, 6), drawn(4, 6, seed=1), dict[str, Any]()
    before = p.clone(), g.clone()
    directions = [DionUpdate().direction(p, g, state, group(), feedback, None) for _ in range(3)]
    copies = [d.clone() for d in directions]
    DionUpdate().direction(p, g, state, group(), feedback, None)
    assert torch.equal(p, before[0])
    assert torch.equal(g, before[1])
    assert all(torch.equal(d, c) for d, c in zip(directions, copies, strict=True))  # and no direction is a buffer


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"momentum": -0.1}, r"momentum is -0.1"),
        ({"ns_steps": 0}, "ns_steps is 0"),
        ({"rank_frac": 0.0}, r"rank_frac is 0.0"),
        ({"rank_frac": 1.1}, r"rank_frac is 1.1"),
        ({"rank_frac": math.nan}, "rank_frac is nan"),
        ({"dion_thresh": -1}, "dion_thresh is -1"),
        ({"dion_thresh": math.nan}, "dion_thresh is nan"),
    ],
)
def test_senseless_options_are_errors(options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        DionUpdate().check(group(**options))
    DionUpdate().check(DionUpdate.defaults)
