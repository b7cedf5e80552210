"""The contrast on the host, from states that were read: sum_k w_k (-dE/dtheta)(s_k), the batch mean.

    sum_k w_k a_k (x) b_k  =  (sum_k w_k a_k) (x) b_0  +  sum_k w_k a_k (x) (b_k - b_0),      sum_k w_k = 0

a_k and b_k are the states above and below a synapse in phase k. States are integers, so their differences are exact and
close phases do not cancel; below the first coupling x stays, and the second sum is nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from mep_neuro_lava.kernels.fixed import Ints


def weight_contrast(weights: Sequence[float], above: Sequence[Ints], below: Sequence[Ints]) -> Ints:
    """(outputs, inputs), the mean over the batch. above, below: states (batch, units) of each phase."""
    total = moved(weights, above).T @ below[0]
    for w, a, b in zip(weights[1:], above[1:], below[1:], strict=True):
        if b is not below[0]:
            total = total + w * (a.T @ (b - below[0]))
    result: Ints = total / len(above[0])
    return result


def bias_contrast(weights: Sequence[float], above: Sequence[Ints]) -> Ints:
    """(outputs,), the mean over the batch."""
    result: Ints = moved(weights, above).mean(0)
    return result


def moved(weights: Sequence[float], above: Sequence[Ints]) -> Ints:
    """sum_k w_k a_k as sum_k w_k (a_k - a_0)."""
    terms = [w * (a - above[0]) for w, a in zip(weights[1:], above[1:], strict=True)]
    total: Ints = sum(terms[1:], start=terms[0])
    return total


def products(phases: int, level: int) -> int:
    """How many sums of outer products one coupling's contrast takes."""
    return 1 if level == 0 else phases
