"""IR drop against nodal equations written anew, reciprocity, limits of the closed form, errors."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from scipy.sparse.linalg import splu

from mep_neuro.errors import InputError
from mep_neuro_analog import wires
from mep_neuro_analog.wires import closed_form, transfer


def conductances(rows: int, columns: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 25e-6 * torch.rand(rows, columns, generator=generator, dtype=torch.float64)


def nodal(g: torch.Tensor, r: float, *, back: bool = False) -> np.ndarray:
    """Currents out of the grounded terminals for 1 V at each driven one, (driven, grounded), by all of Kirchhoff's
    equations: one resistor after another, terminals included as nodes of known voltage."""
    rows, columns = g.shape
    inner = 2 * rows * columns
    upper = np.arange(rows * columns).reshape(rows, columns)
    lower = upper + rows * columns
    left, foot = inner + np.arange(rows), inner + rows + np.arange(columns)
    resistors = [(upper[i, j], lower[i, j], float(g[i, j])) for i in range(rows) for j in range(columns)]
    for i in range(rows):
        nodes = [left[i], *upper[i]]
        resistors += [(a, b, 1 / r) for a, b in pairwise(nodes)]
    for j in range(columns):
        nodes = [foot[j], *lower[:, j]]
        resistors += [(a, b, 1 / r) for a, b in pairwise(nodes)]
    a, b, c = (np.array(v) for v in zip(*resistors, strict=True))
    size = inner + rows + columns
    laplacian = sp.csc_matrix(
        (np.concatenate([c, c, -c, -c]), (np.concatenate([a, b, a, b]), np.concatenate([a, b, b, a]))), (size, size)
    )
    driven, grounded = (foot, left) if back else (left, foot)
    voltages = np.zeros((size, len(driven)))
    voltages[driven, np.arange(len(driven))] = 1.0
    voltages[:inner] = splu(laplacian[:inner, :inner].tocsc()).solve(-(laplacian[:inner, inner:] @ voltages[inner:]))
    return -(laplacian @ voltages)[grounded].T


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (1, 6), (6, 1), (5, 9), (9, 5), (64, 64)])
@pytest.mark.parametrize("r", [1e-3, 0.35, 20.0, 1e4])
def test_transfer_is_the_nodal_solution(rows: int, columns: int, r: float) -> None:
    g = conductances(rows, columns)
    found, want = transfer(g, r).numpy(), nodal(g, r)
    assert np.abs(found - want).max() <= 1e-9 * np.abs(want).max()
    # Kirchhoff's equations of 2 x 64 x 64 nodes hold small entries less well than large ones, hence 1e-9 of each too.
    np.testing.assert_allclose(found, want, rtol=1e-9, atol=1e-12 * np.abs(want).max())


def test_the_products_with_vectors_are_the_nodal_solution() -> None:
    g = conductances(64, 64, seed=1)
    v = torch.randn(64, 10, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    want = nodal(g, 1.0).T @ v.numpy()
    assert np.linalg.norm((transfer(g, 1.0).T @ v).numpy() - want) <= 1e-9 * np.linalg.norm(want)


@pytest.mark.parametrize(("rows", "columns"), [(7, 12), (64, 64)])
def test_backwards_it_is_the_transpose_by_reciprocity(rows: int, columns: int) -> None:
    g = conductances(rows, columns)
    want = nodal(g, 5.0, back=True)
    assert np.abs(transfer(g, 5.0).T.numpy() - want).max() <= 1e-9 * np.abs(want).max()


def test_single_devices_and_dead_arrays() -> None:
    """One device at (i, j) alone is in series with i + 1 and j + 1 segments of its wires."""
    for i, j in ((0, 0), (3, 1), (2, 4)):
        g = torch.zeros(4, 5, dtype=torch.float64)
        g[i, j] = 1e-3
        want = torch.zeros_like(g)
        want[i, j] = 1 / (1e3 + (i + j + 2) * 30.0)
        torch.testing.assert_close(transfer(g, 30.0), want, rtol=1e-12, atol=0)
    assert not transfer(torch.zeros(3, 4), 1.0).any()


def test_the_corner_at_the_terminals_loses_least_and_the_far_one_most() -> None:
    lost = 1 - transfer(torch.full((20, 20), 1e-5, dtype=torch.float64), 3.0) / 1e-5
    assert (lost.diff(dim=0) > 0).all()
    assert (lost.diff(dim=1) > 0).all()
    torch.testing.assert_close(lost, lost.T)


def test_small_resistance_is_its_first_order() -> None:
    """T = g - r g (row's drop + column's drop) + O(r^2), with min(j, m) + 1 shared segments of the wires."""
    g, r = conductances(12, 9), 1e-4
    shared_r, shared_c = (torch.minimum(n[:, None], n) + 1.0 for n in (torch.arange(12), torch.arange(9)))
    first = r * g * (g @ shared_c.double() + shared_r.double() @ g)
    torch.testing.assert_close(g - transfer(g, r), first, rtol=1e-5, atol=0)


def test_no_resistance_is_no_change_and_the_dtype_stays() -> None:
    g = conductances(5, 6)
    assert torch.equal(transfer(g, 0.0), g)
    assert torch.equal(closed_form(g, 0.0), g)
    assert transfer(g.float(), 1.0).dtype == closed_form(g.float(), 1.0).dtype == torch.float32
    torch.testing.assert_close(transfer(g.float(), 1.0), transfer(g, 1.0).float(), rtol=1e-6, atol=0)


@pytest.mark.parametrize(("r", "drop", "error"), [(0.1, 0.01, 0.05), (0.35, 0.03, 0.05), (1.0, 0.08, 0.08)])
def test_the_closed_form_is_near_for_small_drops(r: float, drop: float, error: float) -> None:
    """Its error is a small share of the drop, for random conductances and inputs."""
    g = conductances(96, 96)
    v = torch.randn(96, 200, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    ideal, true, near = (t.T @ v for t in (g, transfer(g, r), closed_form(g, r)))
    lost = (true - ideal).norm()
    assert float(lost / ideal.norm()) == pytest.approx(drop, rel=0.5)
    assert float((near - true).norm() / lost) < error


def test_the_closed_form_is_aihwkits_along_the_columns() -> None:
    """At |x| = 1 and one column, where the row's part is that of a single device (columns = 1: h(0) = 0)."""
    g = conductances(40, 1)
    x = torch.randint(0, 2, (40,), generator=torch.Generator().manual_seed(3)).double() * 2 - 1
    g_max, r = 25e-6, 5.0
    w, j = g[:, 0] / g_max, torch.arange(40, dtype=torch.float64)
    a = float((w * x.abs()).sum() * 40 / (1 / (r * g_max)))
    y = w @ x - a * (a * (0.05 * a - 0.2) + 0.5) * (w @ (x * (1 - (1 - j / 40) ** 2)))
    assert float(closed_form(g, r)[:, 0] @ x) == pytest.approx(float(y) * g_max, rel=1e-12)


def test_the_closed_form_serves_both_directions() -> None:
    g = conductances(10, 14)
    torch.testing.assert_close(closed_form(g.T, 3.0), closed_form(g, 3.0).T, rtol=1e-12, atol=0)


def test_a_large_drop_is_none_of_the_closed_forms() -> None:
    with pytest.raises(InputError, match='use ir_drop="nodal"'):
        closed_form(torch.full((256, 256), 25e-6), 2.0)


def test_a_tile_too_large_is_an_error_that_names_gib_and_cures(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"2048 x 1024 devices would need 0\.21 GiB .*smaller tile.*closed_form"):
        transfer(torch.full((2048, 1024), 1e-6), 1.0)
    monkeypatch.setattr(wires, "_free", lambda device: 1e6)
    with pytest.raises(InputError, match=r"200 x 100 devices would need 0\.002 GiB .*GiB are free"):
        transfer(torch.full((100, 200), 1e-6), 1.0)


@pytest.mark.parametrize("bad", [-1e-9, float("nan"), float("inf")])
def test_what_is_no_resistor_is_an_error(bad: float) -> None:
    g = torch.full((3, 3), 1e-6)
    g[1, 1] = bad
    for solve in (transfer, closed_form):
        with pytest.raises(InputError, match="below 0 S or not finite"):
            solve(g, 1.0)


def test_the_shape_is_checked() -> None:
    with pytest.raises(InputError, match=r"\(rows, columns\)"):
        transfer(torch.ones(3), 1.0)
