"""NaturalUpdate against Kronecker products solved whole, and what a natural gradient must be invariant to."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import mep_neuro as mep
from mep_neuro.errors import InputError, MepNeuroError, OptionError
from mep_neuro.optim.update import Statistics


def drawn(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def group(**options: Any) -> dict[str, Any]:
    return {**mep.NaturalUpdate.defaults, "momentum": 0.0, **options}


def direction(g: Tensor, pre: Tensor, post: Tensor, state: dict[str, Any] | None = None, **options: Any) -> Tensor:
    own = {} if state is None else state
    return mep.NaturalUpdate().direction(torch.zeros_like(g), g, own, group(**options), None, Statistics(pre, post))


def by_hand(g: Tensor, a: Tensor, b: Tensor, damping: float) -> Tensor:
    """(B / b + e I) (x) (A / a + e I) written out whole, and solved for all entries of the gradient at once."""
    e = damping**0.5
    above = b / (b.trace() / len(b)) + e * torch.eye(len(b), dtype=b.dtype)
    below = a / (a.trace() / len(a)) + e * torch.eye(len(a), dtype=a.dtype)
    return torch.linalg.solve(torch.kron(above, below), g.flatten()).reshape(g.shape)


G, PRE, POST = drawn(3, 5), drawn(20, 5, seed=1), drawn(20, 3, seed=2)


@pytest.mark.parametrize("damping", [1e-8, 1e-3, 1.0, 100.0])
def test_the_direction_solves_the_damped_kronecker_system(damping: float) -> None:
    wanted = by_hand(G, PRE.T @ PRE / 20, POST.T @ POST / 20, damping)
    torch.testing.assert_close(direction(G, PRE, POST, fisher_damping=damping), wanted)


@pytest.mark.parametrize("damping", [1e-8, 1e-3, 1.0])
def test_the_diagonal_variant_divides_by_mean_squares(damping: float) -> None:
    e, a, b = damping**0.5, PRE.square().mean(0), POST.square().mean(0)
    wanted = torch.stack(
        [torch.stack([G[i, j] / (b[i] / b.mean() + e) / (a[j] / a.mean() + e) for j in range(5)]) for i in range(3)]
    )
    found = direction(G, PRE, POST, use_diagonal_fisher=True, fisher_damping=damping)
    torch.testing.assert_close(found, wanted)
    assert not torch.allclose(found, direction(G, PRE, POST, fisher_damping=damping), rtol=1e-2)


def test_equal_eigenvalues_leave_the_gradient_as_it_is() -> None:
    """Where the Fisher matrix is a multiple of one, the natural gradient is the gradient."""
    pre, post = 7 * torch.linalg.qr(drawn(20, 5)).Q, 1e-6 * torch.linalg.qr(drawn(20, 3)).Q
    torch.testing.assert_close(direction(G, pre, post, fisher_damping=1e-12), G, rtol=1e-5, atol=0)


def test_strong_damping_is_gradient_descent() -> None:
    torch.testing.assert_close(1e12 * direction(G, PRE, POST, fisher_damping=1e12), G, rtol=1e-4, atol=1e-4)


def test_one_step_solves_least_squares() -> None:
    """With outputs of equal noise the Fisher matrix of C = 1/2 |W s - y|^2 is I (x) A, its Hessian: Newton's step."""
    target, start = drawn(3, 5, seed=5), drawn(3, 5, seed=6)
    a = PRE.T @ PRE / 20
    gradient = (start - target) @ a
    step = direction(gradient, PRE, torch.linalg.qr(drawn(20, 3)).Q, fisher_damping=1e-20)
    torch.testing.assert_close(start - step / (a.trace() / 5), target, rtol=1e-6, atol=1e-8)


def test_the_running_means_are_corrected_for_their_start() -> None:
    state: dict[str, Any] = {}
    once = direction(G, PRE, POST, state)
    for _ in range(3):  # the same statistics again: the same means
        torch.testing.assert_close(direction(G, PRE, POST, state), once)
    moments = [drawn(20, n, seed=s) for s, n in ((7, 5), (8, 3))]
    state = {}
    direction(G, PRE, POST, state, fisher_decay=0.6)
    found = direction(G, *moments, state, fisher_decay=0.6)
    parts = [[v.T @ v / 20 for v in (first, second)] for first, second in zip((PRE, POST), moments, strict=True)]
    a, b = ((0.6 * 0.4 * old + 0.4 * new) / (1 - 0.6**2) for old, new in parts)
    torch.testing.assert_close(found, by_hand(G, a, b, 1e-3))
    assert not torch.allclose(found, by_hand(G, parts[0][1], parts[1][1], 1e-3), rtol=1e-2)


def test_without_decay_only_the_last_statistics_count() -> None:
    state: dict[str, Any] = {}
    direction(G, drawn(20, 5, seed=7), drawn(20, 3, seed=8), state, fisher_decay=0.0)
    torch.testing.assert_close(direction(G, PRE, POST, state, fisher_decay=0.0), direction(G, PRE, POST))


def test_momentum_comes_after() -> None:
    state: dict[str, Any] = {}
    first = direction(G, PRE, POST, state, momentum=0.5).clone()
    torch.testing.assert_close(direction(G, PRE, POST, state, momentum=0.5), 1.5 * first)


def test_neither_gradient_nor_statistics_are_changed() -> None:
    before = [v.clone() for v in (G, PRE, POST)]
    direction(G, PRE, POST)
    assert all(torch.equal(a, b) for a, b in zip(before, (G, PRE, POST), strict=True))


@pytest.mark.parametrize("diagonal", [False, True])
@pytest.mark.parametrize("size", [1e-30, 1e-12, 1e12])
def test_the_scale_of_the_statistics_does_not_matter_even_in_float32(size: float, diagonal: bool) -> None:
    g, pre, post = G.float(), PRE.float(), POST.float()
    scaled = direction(g, pre, (post.double() * size).float(), use_diagonal_fisher=diagonal)
    assert bool(torch.isfinite(scaled).all())
    if size > 1e-20:  # the squares of 1e-30 are below float32: there is nothing left to weigh by
        torch.testing.assert_close(scaled, direction(g, pre, post, use_diagonal_fisher=diagonal), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("diagonal", [False, True])
def test_units_that_saw_nothing_give_a_finite_direction(diagonal: bool) -> None:
    for pre, post in ((PRE, 0 * POST), (0 * PRE, POST), (0 * PRE, 0 * POST)):
        found = direction(G, pre, post, use_diagonal_fisher=diagonal)
        assert bool(torch.isfinite(found).all())


def test_a_factor_that_rounding_leaves_without_a_root_does_not_fail() -> None:
    pre = (drawn(2, 200) + 3).float()  # rank 2 of 200
    gram = pre.T @ pre / 2
    normal = gram / gram.diagonal().mean() + 1e-12 * torch.eye(200)
    assert int(torch.linalg.cholesky_ex(normal).info) > 0  # so the eigenvalues are what solves it
    post = POST.float()[:2]
    gradient = post.T @ pre / 2
    found = direction(gradient, pre, post, fisher_damping=1e-24)
    assert bool(torch.isfinite(found).all())
    assert (found * gradient).sum() > 0  # downhill


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 1e30])
@pytest.mark.parametrize("where", ["gradient", "pre", "post"])
@pytest.mark.parametrize("diagonal", [False, True])
def test_what_diverged_says_so_and_leaves_the_running_means_alone(bad: float, where: str, diagonal: bool) -> None:
    given = {"gradient": G.float(), "pre": PRE.float(), "post": POST.float()}
    state: dict[str, Any] = {}
    first = direction(*given.values(), state, use_diagonal_fisher=diagonal)
    kept = {name: v.clone() if isinstance(v, Tensor) else v for name, v in state.items()}
    spoilt = {**given, where: given[where].clone()}
    spoilt[where][0, 0] = bad
    if where == "gradient" and bad == 1e30:  # large, but its square is nowhere needed
        assert bool(torch.isfinite(direction(*spoilt.values(), state, use_diagonal_fisher=diagonal)).all())
        return
    with pytest.raises(InputError, match="the training diverged; lower the learning rate"):
        direction(*spoilt.values(), state, use_diagonal_fisher=diagonal)
    assert all(torch.equal(torch.as_tensor(v), torch.as_tensor(state[name])) for name, v in kept.items())
    torch.testing.assert_close(direction(*given.values(), state, use_diagonal_fisher=diagonal), first)


def run(activation: type[nn.Module], dtype: torch.dtype, lr: float, steps: int) -> nn.Sequential:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), activation(), nn.Linear(8, 3)).to(dtype)
    optimizer = mep.natural_ep(model.parameters(), model, lr=lr)
    for _ in range(steps):
        optimizer.step(x=drawn(12, 6, dtype=dtype), target=torch.arange(12) % 3)
    return model


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("activation", [nn.ReLU, nn.Identity])
def test_training_that_diverges_is_an_error_of_ours(activation: type[nn.Module], dtype: torch.dtype) -> None:
    with pytest.raises(MepNeuroError, match=r"diverged|not finite|infinite|NaN|runs away"):
        run(activation, dtype, 1e3, 300)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_saturated_units_do_not_fail(dtype: torch.dtype) -> None:
    """A learning rate that drives all states into their bounds leaves factors of rank one or zero."""
    assert all(bool(torch.isfinite(p).all()) for p in run(nn.Hardsigmoid, dtype, 100.0, 20).parameters())


@pytest.mark.parametrize("diagonal", [False, True])
def test_through_ep_one_linear_layer_gets_the_natural_gradient(diagonal: bool) -> None:
    """One layer, squared error: d = (y - W x - b) / (1 - beta^2) and s = x in closed form."""
    torch.manual_seed(2)
    model = nn.Sequential(nn.Linear(5, 3)).double()
    x, y = drawn(20, 5), drawn(20, 3, seed=1)
    w, b = (p.detach().clone() for p in model.parameters())
    optimizer = mep.natural_ep(model.parameters(), model, lr=0.1, momentum=0.0, beta=0.25, use_diagonal_fisher=diagonal)
    optimizer.step(x=x, target=y)
    d = (y - x @ w.T - b) / (1 - 0.25**2)
    gradient, above, below = -d.T @ x / 20, d.T @ d / 20, x.T @ x / 20
    if diagonal:
        above, below = above.diagonal().diag(), below.diagonal().diag()
    torch.testing.assert_close(model[0].weight.grad, gradient)
    torch.testing.assert_close(model[0].weight.detach(), w - 0.1 * by_hand(gradient, below, above, 1e-3))


def test_rescaling_an_input_changes_the_functions_update_less_than_gradient_descents() -> None:
    """x -> D x with W -> W D^-1 is the same function. By how much does the direction in which the outputs move change?

    Gradient descent moves the outputs by G D D x: it changes by the squares of D. The natural gradient moves them by
    G D (D A D)^-1 D x = G A^-1 x: not at all, but for the damping."""
    scale = torch.tensor([1.0, 1.0, 10.0, 1.0, 1.0], dtype=torch.float64)

    def moved(d: Tensor, damping: float | None) -> Tensor:
        gradient = -POST.T @ (PRE * d) / 20
        step = gradient if damping is None else direction(gradient, PRE * d, POST, fisher_damping=damping)
        change = (PRE * d) @ step.T
        return change / change.norm()

    one = torch.ones(5, dtype=torch.float64)
    plain, default, exact = (float((moved(scale, e) - moved(one, e)).norm()) for e in (None, 1e-3, 1e-20))
    assert plain > 0.8
    assert default < 0.5 * plain
    assert exact < 1e-6


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fisher_damping": 0.0}, "fisher_damping is 0.0; it must be above 0"),
        ({"fisher_damping": float("nan")}, "fisher_damping is nan"),
        ({"fisher_decay": 1.0}, "fisher_decay is 1.0"),
        ({"fisher_decay": -0.1}, "fisher_decay is -0.1"),
        ({"momentum": 1.0}, "momentum is 1.0"),
    ],
)
def test_options_out_of_range_are_errors(options: dict[str, Any], message: str) -> None:
    model = nn.Sequential(nn.Linear(5, 3))
    with pytest.raises(OptionError, match=message):
        mep.natural_ep(model.parameters(), model, **options)
