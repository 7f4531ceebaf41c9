"""Lemke's method: the path of w − Mz − z₀d = −c from large z₀ to z₀ = 0, in a tableau.

The tableau T has one row for each basic variable, and columns for the variables that are not and for the right-hand
side. Variables are numbered: w₁ … wₙ, z₁ … zₙ, z₀.
"""

from __future__ import annotations

import numpy as np

from replication.compiled import compiled, inlined
from replication.kernels.pieces import TINY
from replication.kernels.workspace import Workspace

TWO, EIGHT = np.uint64(2), np.uint64(8)
FOUND, RAY, TOO_LONG = range(3)  # how a path ends
PIVOT_SLACK = 1e-11  # entries of Lemke's tableau that count as zero, and ratios that count as ties
GOLDEN_RATIO = (1 + 5**0.5) / 2


@compiled
def lemke(A: np.ndarray, c: np.ndarray, max_pivots: int, number: int, work: Workspace) -> tuple[int, int]:
    """Find the piece of a solution by Lemke's method, and write it to `work.active`.

    w − Mz − z₀d = −c with w, z, z₀ ≥ 0 and wᵀz = 0 is followed from large z₀ to z₀ = 0. Ties are broken
    lexicographically, so that the method ends: on P-matrices always at a solution, on others maybe in a ray.

    Args:
        A, c: of one row, (n, n) and (n,).
        max_pivots: bound of the number of pivots.
        number: of the path; the first has number 0 and d = 1, others another d (`covering`).
        work: room.

    Source: Lemke, Management Sci. 11 (1965) 681–689.

    Returns:
        FOUND, RAY or TOO_LONG, and the number of pivots.
    """
    T, basis, place = work.tableau, work.basis, work.place
    n = len(c)
    fill_tableau(A, c, number, work)
    leaving = first_row(T)
    entering, pivots = 2 * n, 0
    while pivots < max_pivots:
        column, left = place[entering], basis[leaving]
        exchange(T, leaving, column, work.pivot_row)
        basis[leaving], place[entering], place[left] = entering, -1, column
        pivots += 1
        if left == 2 * n:
            read_piece(basis, work.active)
            return FOUND, pivots
        entering = left + n if left < n else left - n
        leaving = lexicographic_ratio(T, place[entering], basis, place, work.v)
        if leaving < 0:
            return RAY, pivots
    return TOO_LONG, pivots


@compiled
def fill_tableau(A: np.ndarray, c: np.ndarray, number: int, work: Workspace) -> None:
    """Write the columns of z and z₀ and the right-hand side, and the basis w.

    Rows and columns of M are scaled to size one, which changes no path: only the sizes of w and z.
    """
    T, basis, place, sizes = work.tableau, work.basis, work.place, work.pivot_row
    n, largest = len(c), TINY
    for j in range(n):
        sizes[j] = TINY
    for i in range(n):
        size = TINY
        for j in range(n + 2, T.shape[1]):
            T[i, j] = 0.0
        for j in range(n):
            T[i, j] = -A[i, j] - (i == j)
            size = max(size, abs(T[i, j]))
        for j in range(n):
            T[i, j] /= size
            sizes[j] = max(sizes[j], abs(T[i, j]))
        T[i, n], T[i, n + 1] = -covering(number, i, size), -c[i] / size
        largest = max(largest, -T[i, n])
        basis[i], place[i], place[n + i] = i, -1, i
    place[2 * n] = n
    for j in range(n):
        sizes[j] = 1 / sizes[j]
    for i in range(n):
        T[i, n] /= largest
        for j in range(n):
            T[i, j] *= sizes[j]


@inlined
def covering(number: int, i: int, size: float) -> float:
    """Return dᵢ in units of the size of its row: d = 1 on path 0, 1 ≤ dᵢ < 2 of rows of size one on others.

    The latter by multiples of the golden ratio.
    """
    return 1 / size if number == 0 else 1.0 + number * (i + 1) * GOLDEN_RATIO % 1


@inlined
def first_row(T: np.ndarray) -> int:
    """Return the row that z₀ enters for: the last where −c/d is smallest, which the lexicographic order asks for."""
    n, leaving = len(T), 0
    for i in range(n):
        if T[i, n + 1] * T[leaving, n] >= T[leaving, n + 1] * T[i, n]:
            leaving = i
    return leaving


@inlined
def read_piece(basis: np.ndarray, active: np.ndarray) -> None:
    """Write the coordinates whose z is basic."""
    n = len(basis)
    for i in range(n):
        active[i] = False
    for i in range(n):
        if basis[i] >= n:
            active[basis[i] - n] = True


@compiled
def exchange(T: np.ndarray, row: int, column: int, pivot_row: np.ndarray) -> None:
    """Exchange the variable of a row with that of a column of the tableau."""
    n, width = np.uint64(T.shape[0]), np.uint64(T.shape[1])
    r, e, half = np.uint64(row), np.uint64(column), n // TWO
    width -= width % EIGHT  # which it is a multiple of, said for the compiler
    inverse = 1 / T[r, e]
    for j in range(width):
        pivot_row[j] = T[r, j] * inverse
    pivot_row[e] = inverse
    for i in range(half):  # two rows at a time, for half the loads
        upper, lower = T[i, e], T[i + half, e]
        for j in range(width):
            T[i, j] -= upper * pivot_row[j]
            T[i + half, j] -= lower * pivot_row[j]
        T[i, e], T[i + half, e] = -upper * inverse, -lower * inverse
    for i in range(TWO * half, n):
        factor = T[i, e]
        for j in range(width):
            T[i, j] -= factor * pivot_row[j]
        T[i, e] = -factor * inverse
    for j in range(width):
        T[r, j] = pivot_row[j]


@compiled
def lexicographic_ratio(T: np.ndarray, column: int, basis: np.ndarray, place: np.ndarray, ratios: np.ndarray) -> int:
    """Return the row that leaves: of lexicographically smallest (right-hand side, columns of w)/entry; −1 for none.

    z₀ leaves whenever it ties.
    """
    n, smallest = len(T), np.inf
    for i in range(n):  # without branches, which could not be predicted
        counts = T[i, column] > PIVOT_SLACK
        ratio = T[i, n + 1] / (T[i, column] if counts else 1.0)
        ratios[i] = ratio if counts else np.inf
        smallest = min(smallest, ratios[i])
    found, tied = -1, smallest + PIVOT_SLACK * abs(smallest)
    for i in range(n):
        if ratios[i] <= tied and ratios[i] < np.inf and (found < 0 or precedes(T, column, i, found, basis, place)):
            found = i
    return found


@compiled
def precedes(T: np.ndarray, column: int, i: int, other: int, basis: np.ndarray, place: np.ndarray) -> bool:
    """Say whether row i leaves before another of the same ratio: as that of z₀, or by the columns of w."""
    n = len(T)
    if basis[i] == 2 * n or basis[other] == 2 * n:
        first: bool = basis[i] == 2 * n
        return first
    for j in range(n):
        own, others = column_of_w(T, i, j, basis, place), column_of_w(T, other, j, basis, place)
        difference: float = own / T[i, column] - others / T[other, column]
        if abs(difference) > PIVOT_SLACK:
            before: bool = difference < 0
            return before
    return False


@inlined
def column_of_w(T: np.ndarray, i: int, j: int, basis: np.ndarray, place: np.ndarray) -> float:
    """Return entry i of the column of wⱼ, a unit vector where it is basic."""
    if place[j] >= 0:
        entry: float = T[i, place[j]]
        return entry
    return 1.0 if basis[i] == j else 0.0
