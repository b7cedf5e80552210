"""IR drop: what an array of conductances does when its wires have resistance.

Row i is driven at v_i from one end and column j held at 0 V at one end, both at the corner of device (0, 0). Between
one device and the next, and between a terminal and its first device, lies one segment of wire, r ohm:

    v_i --r-- p_i0 --r-- p_i1 --r-- ...    and down column j    0 V --r-- q_0j --r-- q_1j --r-- ...

with the device g_ij between p_ij and q_ij. The network is linear, so the current out of a column is

    I_j = sum_i T_ij v_i

with T the effective conductances, found once for each programming; every product after that is a plain one. Backwards
(columns driven, rows held at 0 V) the same terminals stand at ideal sources, and the short-circuit admittance matrix
of a network of resistors is symmetric (reciprocity): the effective conductances are T^T, with no second solve.
"""

from __future__ import annotations

import os

import torch
from torch import Tensor

from mep_neuro.errors import InputError

MOST_DEVICES = 1024 * 1024
"""Of a tile that `transfer` takes: 2.2e12 multiply-adds if it is square, a minute or two on one core."""
MOST_LOAD = 2.0
"""The largest a in `closed_form`: for a uniform line its drop is 8% too large there, and 53% too large at a = 3."""


def transfer(g: Tensor, r: float) -> Tensor:
    """Effective conductances T of an array with wires, exactly: Kirchhoff's equations of all nodes, eliminated once.

    With x = r g, let Y be the admittance (times r) that the row nodes of one column see of all columns beyond it, and
    D that of the column itself, whose own nodes are eliminated by the inverse R of their tridiagonal matrix:

        D = diag(x) - diag(x) R diag(x),    d = diag(x) R e_0      voltages of row nodes -> current out of the column
        P = (1 + D + Y)^-1                                         voltages a segment nearer to the drivers -> here
        Y <- P (D + Y),                     T <- P [d, T]

    from the far end to the drivers. This is a block LDL^T factorisation of the nodal matrix, whose blocks are
    symmetric positive definite; the rows' solutions come out of the same sweep, so that nothing has to be kept. It
    takes about long short^2 (3/2 short + long / 2) multiply-adds of dense products and memory of order long x short:
    a sparse LU of all the nodes takes 4 to 5 times as long at 128 x 128 and 256 x 256 (benchmarks/analog.py).

    g: (rows, columns), S, at least 0;  r: ohm, of one segment. Returns (rows, columns), S, in g's dtype and on its
    device; float64 inside, good to about 1e-12 of the largest. Raises InputError for a conductance below 0 or not
    finite, and for a tile too large for memory or for patience, naming the GiB it would take.
    """
    _check(g)
    rows, columns = g.shape
    if r == 0:
        return g.clone()
    if rows > columns:  # The network is the same with rows and columns exchanged; the shorter side makes the blocks.
        return transfer(g.T, r).T
    _check_cost(rows, columns, g.device)
    x = g.detach().to(torch.float64) * r
    diagonal, logs = _inverses(x)
    index = torch.arange(rows, device=x.device)
    farther = torch.maximum(index[:, None], index)
    one = torch.eye(rows, dtype=x.dtype, device=x.device)
    beyond, found = torch.zeros_like(one), x.new_empty(rows, 0)
    for own, end, log in zip(*(v.T.flip(0).contiguous() for v in (x, diagonal, logs)), strict=True):
        inverse = (log[:, None] - log).abs_().neg_().exp_().mul_(end[farther])
        out = (inverse[:, 0] * own)[:, None]
        seen = inverse.mul_(own[:, None]).mul_(own).neg_().add_(beyond)
        seen.diagonal().add_(own)
        nearer = torch.cholesky_inverse(torch.linalg.cholesky(seen + one))
        beyond, found = (nearer @ torch.cat((seen, out, found), 1)).split_with_sizes((rows, found.shape[1] + 1), 1)
    return found.div(r).to(g.dtype)


def closed_form(g: Tensor, r: float) -> Tensor:
    """Effective conductances by a closed form: an APPROXIMATION, for small drops in arrays without much structure.

        T_ij = g_ij (1 - c(a_j) h(i / rows) - c(b_i) h(j / columns))
        a_j = r rows sum_i g_ij,    b_i = r columns sum_j g_ij,    i, j from 0
        c(a) = a / 2 - a^2 / 5 + a^3 / 20,    h(u) = 1 - (1 - u)^2

    The term of a_j is the drop along the columns in aihwkit 1.2.0 (ir_drop = 1, ir_drop_Gw_div_gmax = 1 / (r g_max)),
    y_j -= c(a_j) sum_i g_ij h(i / rows) v_i. Two things differ. aihwkit takes a_j = r rows sum_i g_ij |x_i|, because
    its inputs are lengths of pulses; here they are voltages on a linear network, whose drop cannot depend on |x_i|:
    |x_i| = 1. And aihwkit leaves the rows out; here they count by the same formula, so that T^T serves backwards.

    g: (rows, columns), S, at least 0;  r: ohm. Returns (rows, columns), S. Takes four passes over g. Raises InputError
    where a or b is above 2, because the polynomial was fitted below; use `transfer`, or a smaller tile.
    """
    _check(g)
    rows, columns = g.shape
    a, b = g.sum(0).mul_(r * rows), g.sum(1).mul_(r * columns)
    worst = max(float(a.max()), float(b.max()))
    if worst > MOST_LOAD:
        raise InputError(
            f"the closed form of IR drop holds for r n sum g up to {MOST_LOAD:g}, and in this {rows} x {columns} tile "
            f'it is {worst:.3g}; use ir_drop="nodal", a smaller tile, smaller conductances or a better wire'
        )
    along, across = (torch.arange(n, dtype=g.dtype, device=g.device).div_(n) for n in (rows, columns))
    drop = torch.outer(_h(along), _c(a)).add_(torch.outer(_c(b), _h(across)))
    return g - drop.mul_(g)


def _c(a: Tensor) -> Tensor:
    return a * (a * (0.05 * a - 0.2) + 0.5)


def _h(u: Tensor) -> Tensor:
    return 1 - (1 - u).square()


def _inverses(x: Tensor) -> tuple[Tensor, Tensor]:
    """What the inverses R of all columns' tridiagonal matrices are made of: R_ik = diagonal_max(i,k) exp(-|l_i - l_k|).

    A column's matrix is that of its wire, 2 on the diagonal and 1 at the far end, -1 beside it, plus diag(x). The
    pivots from both ends give the diagonal of its inverse, and those from the near end the ratios along a row. All
    logarithms fall along a column, so no product overflows.
    """
    whole = x + 2
    whole[-1] -= 1
    near, far = whole.clone(), whole.clone()
    for i in range(1, len(x)):
        near[i] -= 1 / near[i - 1]
        far[-1 - i] -= 1 / far[-i]
    logs = torch.zeros_like(x)
    logs[1:] = near[:-1].log().cumsum(0)
    return 1 / (near + far - whole), logs


def _check(g: Tensor) -> None:
    if g.dim() != 2:
        raise InputError(f"an array of conductances has shape (rows, columns), and this one {tuple(g.shape)}")
    if not bool(((g >= 0) & (g < torch.inf)).all()):
        raise InputError("a conductance is below 0 S or not finite; IR drop needs real resistors")


def _check_cost(short: int, long: int, device: torch.device) -> None:
    """Raises InputError where the elimination would take too much memory or too long."""
    need, work = 72 * short * (short + long), long * short**2 * (1.5 * short + 0.5 * long)
    free = _free(device)
    if need > free or short * long > MOST_DEVICES:
        why = f"{free / 2**30:.2g} GiB are free" if need > free else f"the most is {MOST_DEVICES} devices"
        raise InputError(
            f"nodal IR drop of a tile of {long} x {short} devices would need {need / 2**30:.2g} GiB and "
            f"{work:.1e} multiply-adds, and {why}: set rows and columns of ArraySpec to a smaller tile, 256 x 256 "
            f'say, or take ir_drop="closed_form", an approximation'
        )


def _free(device: torch.device) -> float:
    """Bytes that can be had on a device; infinite where the system does not say."""
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    try:
        return float(os.sysconf("SC_AVPHYS_PAGES")) * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return float("inf")
