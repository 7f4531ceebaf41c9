"""Small linear systems by Gaussian elimination."""

from __future__ import annotations

import numpy as np

from replication.compiled import ONE, compiled, inlined


@compiled
def eliminate(K: np.ndarray, v: np.ndarray, order: int) -> int:
    """Solve K[:order, :order]·x = v[:order] in place by Gaussian elimination with partial pivoting.

    Returns:
        The sign of the determinant, 0 where the matrix is singular or not finite.
    """
    k = np.uint64(order)
    sign = 1
    for p in range(k):
        at = largest_in_column(K, p, k)
        if not 0 < abs(K[at, p]) < np.inf:
            return 0
        if at != p:
            swap_rows(K, v, p, at, k)
            sign = -sign
        sign = -sign if K[p, p] < 0 else sign
        inverse = 1 / K[p, p]
        for q in range(p + ONE, k):
            factor = K[q, p] * inverse
            for j in range(p + ONE, k):
                K[q, j] -= factor * K[p, j]
            v[q] -= factor * v[p]
    substitute_back(K, v, k)
    return sign


@inlined
def largest_in_column(K: np.ndarray, p: int, k: int) -> int:
    """Return the row, from p on, of the largest entry of column p."""
    largest, at = abs(K[p, p]), p
    for q in range(p + ONE, k):
        if abs(K[q, p]) > largest:
            largest, at = abs(K[q, p]), q
    return at


@inlined
def swap_rows(K: np.ndarray, v: np.ndarray, p: int, at: int, k: int) -> None:
    """Exchange rows p and `at` of the system that is left from column p on."""
    for j in range(p, k):
        K[p, j], K[at, j] = K[at, j], K[p, j]
    v[p], v[at] = v[at], v[p]


@inlined
def substitute_back(K: np.ndarray, v: np.ndarray, k: int) -> None:
    """Solve the upper triangular system that elimination leaves, in place."""
    for back in range(ONE, k + ONE):
        row = k - back
        value = v[row]
        for j in range(row + ONE, k):
            value -= K[row, j] * v[j]
        v[row] = value / K[row, row]
