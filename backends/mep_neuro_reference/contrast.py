"""The contrast: a local difference between phases that estimates the gradient.

    sum_k w_k (-dE/dW)(s_k) = sum_k w_k a_k (x) b_k,    sum_k w_k = 0

a_k and b_k are what a synapse sees of its two ends in phase k. With their means over the phases a, b and the deviations
A_k = a_k - a, B_k = b_k - b the sum is, exactly,

    (sum_k w_k A_k) (x) b  +  a (x) (sum_k w_k B_k)  +  sum_k w_k A_k (x) B_k

where nothing large cancels. With two phases the last sum vanishes; below the first coupling lies x in all phases,
and only the first product is left. A conductance's statistic is that of the drop of voltage across it,

    sum_k w_k (-1/2) (a_k,i - b_k,j)^2  =  sum_k w_k a_k,i b_k,j  -  1/2 sum_k w_k a_k,i^2  -  1/2 sum_k w_k b_k,j^2

where the squares, summed over the batch, are a column and a row: sum_k w_k a_k^2 = 2 a sum_k w_k A_k + sum_k w_k A_k^2.
"""

from __future__ import annotations

from collections.abc import Sequence

from mep_neuro_reference.connections import Connection
from mep_neuro_reference.operations import Array


def products(phases: int, level: int) -> int:
    """How many sums of outer products one coupling's contrast takes."""
    if level == 0:
        return 1
    return 2 if phases == 2 else 2 + phases


def weight_contrast(
    connection: Connection, level: int, weights: Sequence[complex], above: Sequence[Array], below: Sequence[Array]
) -> Array:
    """sum_k w_k a_k (x) b_k, summed over the batch, in the weight's shape. above, below: both ends in each phase."""
    a, b = mean(above), mean(below)
    total = connection.outer(combined(weights, above), b)
    if level > 0:
        total = total + connection.outer(a, combined(weights, below))
        if len(weights) > 2:
            for w, a_k, b_k in zip(weights, above, below, strict=True):
                total = total + w * connection.outer(a_k - a, b_k - b)
    return total


def drop_contrast(
    connection: Connection, level: int, weights: Sequence[complex], above: Sequence[Array], below: Sequence[Array]
) -> Array:
    """-1/2 sum_k w_k (a_k,i - b_k,j)^2, summed over the batch, (outputs, inputs)."""
    total = weight_contrast(connection, level, weights, above, below) - squares(weights, above)[:, None] / 2
    return total if level == 0 else total - squares(weights, below)[None, :] / 2


def squares(weights: Sequence[complex], phases: Sequence[Array]) -> Array:
    """sum_k w_k a_k^2, summed over the batch, (units,)."""
    middle = mean(phases)
    total: Array = (2 * middle * combined(weights, phases)).sum(0)
    if len(weights) > 2:
        for w, phase in zip(weights, phases, strict=True):
            total = total + w * ((phase - middle) ** 2).sum(0)
    return total


def bias_contrast(weights: Sequence[complex], above: Sequence[Array]) -> Array:
    """sum_k w_k a_k, summed over the batch and a channel's positions: (outputs,)."""
    moved = combined(weights, above)
    total: Array = moved.reshape(*moved.shape[:2], -1).sum((0, 2))
    return total


def mean(phases: Sequence[Array]) -> Array:
    """The mean over the phases."""
    total: Array = sum(phases[1:], start=phases[0])
    return total / len(phases)


def combined(weights: Sequence[complex], phases: Sequence[Array]) -> Array:
    """sum_k w_k (a_k - a), a the mean over the phases."""
    middle = mean(phases)
    terms = [w * (phase - middle) for w, phase in zip(weights, phases, strict=True)]
    total: Array = sum(terms[1:], start=terms[0])
    return total
