"""Lemke's method: the path of w − Mz − z₀d = −c from large z₀ to z₀ = 0, in a tableau."""

from __future__ import annotations

import numpy as np

from replication.compiled import compiled, inlined
from replication.kernels.pieces import TINY
from replication.kernels.workspace import Workspace

PIVOT_SLACK = 1e-11  # entries of Lemke's tableau that count as zero, and ratios that count as ties
PATH_LENGTH = 50  # times n: pivots along Lemke's first path before another is tried; most take a few times n
GOLDEN_RATIO = (1 + 5**0.5) / 2


@compiled
def lemke_by_paths(A: np.ndarray, c: np.ndarray, max_pivots: int, work: Workspace) -> tuple[bool, int]:
    """Follow Lemke's path and, as long as the solution is not found, other paths, each of them twice as far.

    A path may be exponentially long (Murty, Math. Program. Study 7 (1978) 138–144), but hardly all of them are.

    Returns:
        Whether a solution was found, and the number of pivots.
    """
    length, number, pivots = PATH_LENGTH * len(c), 0, 0
    while True:
        length = min(length, max_pivots - pivots)
        found, taken = lemke(A, c, length, number, work)
        pivots += taken
        if found or taken < length or pivots >= max_pivots:
            return found, pivots
        length, number = 2 * length, number + 1


@compiled
def lemke(A: np.ndarray, c: np.ndarray, max_pivots: int, number: int, work: Workspace) -> tuple[bool, int]:
    """Find the piece of the solution by Lemke's method, and write it to `work.active`.

    w − Mz − z₀d = −c with w, z, z₀ ≥ 0 and wᵀz = 0 is followed from large z₀ to z₀ = 0, rows and columns of M scaled to
    size one, with d = 1 on the path of number 0 and 1 ≤ dᵢ < 2 on others, by multiples of the golden ratio. Ties are
    broken lexicographically, so that the method ends: on P-matrices always at a solution.

    Source: Lemke, Management Sci. 11 (1965) 681–689.

    Returns:
        Whether a solution was found, and the number of pivots.
    """
    T, basis = work.tableau, work.basis
    n = len(c)
    fill_tableau(A, c, number, T, basis)
    leaving = first_row(T)
    entering, pivots = 2 * n, 0
    while pivots < max_pivots:
        pivot(T, leaving, entering)
        pivots += 1
        left = basis[leaving]
        basis[leaving] = entering
        if left == 2 * n:
            read_piece(basis, work.active)
            return True, pivots
        entering = left + n if left < n else left - n
        leaving = lexicographic_ratio(T, entering, basis)
        if leaving < 0:
            return False, pivots
    return False, pivots


@inlined
def fill_tableau(A: np.ndarray, c: np.ndarray, number: int, T: np.ndarray, basis: np.ndarray) -> None:
    """Write the columns of w, z and z₀ and the right-hand side, M scaled, and the basis w."""
    n = len(c)
    for i in range(n):
        size = 0.0
        for j in range(n):
            T[i, n + j] = -A[i, j] - (i == j)
            size = max(size, abs(T[i, n + j]))
        size = max(size, TINY)
        for j in range(n):
            T[i, j] = i == j
            T[i, n + j] /= size
        T[i, 2 * n], T[i, 2 * n + 1] = -1.0 - number * (i + 1) * GOLDEN_RATIO % 1, -c[i] / size
        basis[i] = i
    for j in range(n):
        size = TINY
        for i in range(n):
            size = max(size, abs(T[i, n + j]))
        for i in range(n):
            T[i, n + j] /= size


@inlined
def first_row(T: np.ndarray) -> int:
    """Return the row that z₀ enters for: where −c/d is smallest."""
    n, leaving = len(T), 0
    for i in range(n):
        if T[i, 2 * n + 1] * T[leaving, 2 * n] > T[leaving, 2 * n + 1] * T[i, 2 * n]:
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
def pivot(T: np.ndarray, row: int, column: int) -> None:
    """Make column `column` of the tableau the unit vector of `row`."""
    n, width = T.shape
    factor = 1 / T[row, column]
    for j in range(width):
        T[row, j] *= factor
    for i in range(n):
        if i != row:
            factor = T[i, column]
            if factor != 0:
                for j in range(width):
                    T[i, j] -= factor * T[row, j]
            T[i, column] = 0
    T[row, column] = 1


@compiled
def lexicographic_ratio(T: np.ndarray, entering: int, basis: np.ndarray) -> int:
    """Return the row that leaves: of lexicographically smallest (right-hand side, columns of w)/entry; −1 for none.

    z₀ leaves whenever it ties.
    """
    n = len(T)
    found = -1
    for i in range(n):
        if T[i, entering] <= PIVOT_SLACK:
            continue
        if found < 0:
            found = i
            continue
        difference = T[i, 2 * n + 1] / T[i, entering] - T[found, 2 * n + 1] / T[found, entering]
        tie = abs(difference) <= PIVOT_SLACK * abs(T[found, 2 * n + 1] / T[found, entering])
        if tie and (basis[found] == 2 * n or basis[i] == 2 * n):
            found = i if basis[i] == 2 * n else found
            continue
        j = 0
        while tie and j < n:
            difference = T[i, j] / T[i, entering] - T[found, j] / T[found, entering]
            tie = abs(difference) <= PIVOT_SLACK
            j += 1
        if difference < 0:
            found = i
    return found
