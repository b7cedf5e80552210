"""The contrast of rates, for learning on the host: a local difference between phases that estimates the gradient.

    sum_k w_k (-dE/dW)(s_k) = sum_k w_k a_k (x) b_k
                            = (sum_k w_k A_k) (x) b + a (x) (sum_k w_k B_k) + sum_k w_k A_k (x) B_k,    sum_k w_k = 0

with a, b the means over the phases of what a synapse joins, and A_k, B_k the deviations from them: nothing large
cancels. Below the first coupling lies x in all phases, so that B_k = 0.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mep_neuro_brian2.layout import Array


def products(phases: int, level: int) -> int:
    """How many sums of outer products one coupling's contrast takes."""
    return 1 if level == 0 else 2 if phases == 2 else 2 + phases


def contrast(weights: Sequence[float], above: Sequence[Array], below: Sequence[Array]) -> tuple[Array, Array]:
    """(weight, bias) of one coupling: batch means. above, below: its ends in each phase, (batch, units)."""
    w, a, b = np.array(weights), np.stack(above), np.stack(below)
    mean_a, mean_b = a.mean(0), b.mean(0)
    a, b = a - mean_a, b - mean_b
    moved_a, moved_b = np.tensordot(w, a, 1), np.tensordot(w, b, 1)
    total = moved_a.T @ mean_b + mean_a.T @ moved_b
    if len(w) > 2:
        total = total + np.einsum("k,kni,knj->ij", w, a, b)
    return total / len(mean_a), moved_a.mean(0)
