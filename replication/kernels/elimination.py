"""Small linear systems by Gaussian elimination."""

from __future__ import annotations

import numpy as np

from replication.compiled import ONE, compiled, inlined

CHUNK = np.uint64(16)  # columns are worked on by so many, which is what vector units take at a time


def width(n: int) -> int:
    """Return the number of columns of K for systems up to order n and their right-hand side: whole chunks."""
    return -(-(n + 1) // int(CHUNK)) * int(CHUNK)


@compiled
def eliminate(K: np.ndarray, x: np.ndarray, order: int) -> int:
    """Solve K[:k, :k]·x = K[:k, k] with k = `order` by Gaussian elimination with partial pivoting, in place of K.

    Columns after k, up to the end of their chunk, must hold numbers; what becomes of them has no meaning.

    Returns:
        The sign of the determinant, 0 where the matrix is singular or not finite.
    """
    k = np.uint64(order)
    end = k - k % CHUNK + CHUNK
    sign = 1
    for p in range(k):
        begin = p - p % CHUNK  # columns before p are done with, so that it does not matter what becomes of them
        at = largest_in_column(K, p, k)
        if not 0 < abs(K[at, p]) < np.inf:
            return 0
        if at != p:
            swap_rows(K, p, at, begin, end)
            sign = -sign
        sign = -sign if K[p, p] < 0 else sign
        x[p] = 1 / K[p, p]
        for q in range(p + ONE, k):
            factor = K[q, p] * x[p]
            for j in range(begin, end):
                K[q, j] -= factor * K[p, j]
    substitute_back(K, x, k)
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
def swap_rows(K: np.ndarray, p: int, at: int, begin: int, end: int) -> None:
    """Exchange rows p and `at` between two columns."""
    for j in range(begin, end):
        K[p, j], K[at, j] = K[at, j], K[p, j]


@inlined
def substitute_back(K: np.ndarray, x: np.ndarray, k: int) -> None:
    """Solve the upper triangular system that elimination leaves, with the reciprocals of its diagonal in x."""
    for back in range(ONE, k + ONE):
        row = k - back
        value = K[row, k]
        for j in range(row + ONE, k):
            value -= K[row, j] * x[j]
        x[row] *= value
