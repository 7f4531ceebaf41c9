"""Walks over the linear pieces of the rectifier equation: Newton's method and pivoting, compiled, row by row.

A piece is a set S of active coordinates, on which relu(s) is taken as s while it is taken as 0 on the others. With
M = I + A its solution is z_S = M[S,S]⁻¹c_S and z = 0 elsewhere, s_i = z_i on S and s = c − Az elsewhere. It solves
s + A·relu(s) = c if its signs agree: s ≥ 0 on S, s ≤ 0 elsewhere. A walk starts from S = ∅, where s = c, and changes
the sides of coordinates whose sign disagrees: of all at once (a block step; this is Newton's step), or of one.

The loops are compiled and run on the CPU in float64, whatever the dtype and device of the unit: the systems are small,
of many sizes and different for every row, which batched linear algebra is slow at.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import partial

import numpy as np
import torch
from torch import Tensor

from replication.compiled import EPSILON, ONE, as_array, compiled, spread
from replication.rectifier import RectifierEquation
from replication.solvers.solution import CODE, Solution, Status, name_of, residual_scale, row_norm

AGREES, MAX_STEPS, CYCLE, SINGULAR, NOT_P = range(5)  # how a walk ends
STATUS_OF_END = {
    AGREES: Status.STAGNATED,  # unless the residual is within the tolerance
    MAX_STEPS: Status.MAX_ITERATIONS,
    CYCLE: Status.STAGNATED,
    SINGULAR: Status.NOT_FINITE,
    NOT_P: Status.NOT_P_MATRIX,
}
SIGN_SLACK = 4  # signs of |s_i| ≤ SIGN_SLACK·n·ε·max|s|, which is rounding, agree with both sides


class PieceWalk(ABC):
    """A method that ends after finitely many pieces: hyper-parameters and its rule.

    Attributes:
        max_iterations: bound of the number of pieces solved.
    """

    max_iterations: int

    @property
    @abstractmethod
    def patience(self) -> int:
        """Block steps without fewer disagreeing signs that are allowed before single steps take over.

        0 means single steps only, −1 block steps only.
        """

    def solve(self, equation: RectifierEquation, tolerance: float) -> Solution:
        """Walk for every row, evaluate the unit at the point found, and correct it where its residual is too large.

        The correction is one more step in the piece found: x = y − b₂ − W₂z alone loses digits where x is far smaller
        than y.

        Raises:
            ValueError: if the unit has too many hidden coordinates for matrices.
        """
        A, c, linear = equation.map.matrix(), equation.c, equation.map
        s, ends, steps = walk(A, c.flatten(1), self.patience, self.max_iterations)
        value = equation.recover(torch.relu(s.reshape(c.shape)))
        residual = equation.residual(value)
        scale = residual_scale(equation.y)
        relative = row_norm(residual) / scale

        inexact = (ends == AGREES) & (relative > tolerance)
        if inexact.any():
            right = linear.W1(residual)
            z = solve_pieces(A, right.flatten(1), s > 0).reshape(c.shape)
            corrected = value - residual + linear.W2(z)
            corrected_relative = row_norm(equation.residual(corrected)) / scale
            better = inexact & (corrected_relative < relative)
            value[better], relative[better] = corrected[better], corrected_relative[better]

        codes = torch.empty_like(ends)
        for end, status in STATUS_OF_END.items():
            codes[ends == end] = CODE[status]
        codes[~torch.isfinite(relative)] = CODE[Status.NOT_FINITE]
        codes[relative <= tolerance] = CODE[Status.CONVERGED]
        return Solution(value, codes, steps, relative, 1 + inexact.long(), solver=name_of(self))


def walk(
    A: Tensor, c: Tensor, patience: int, max_steps: int, start: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Solve s + A·relu(s) = c by walking over pieces.

    Args:
        A: (n, n) for all rows, or one matrix a row (rows, n, n).
        c: (rows, n).
        patience: as PieceWalk.patience.
        max_steps: bound of the number of pieces solved.
        start: the first piece of every row (rows, n), bool; by default S = ∅, or the block step from it.

    Returns:
        s like c, how each row ended (rows,), and the number of pieces solved (rows,).
    """
    right = as_array(c)
    rows, n = right.shape
    matrices = as_array(A).reshape(-1, n, n)
    s, ends, steps = np.empty_like(right), np.empty(rows, np.int64), np.empty(rows, np.int64)
    by_default = right > 0 if patience else np.zeros((rows, n), np.bool_)
    first = by_default if start is None else start.cpu().numpy()

    def part(own: slice) -> None:
        of_rows = matrices if A.ndim == 2 else matrices[own]
        walk_rows(of_rows, right[own], first[own], patience, max_steps, s[own], ends[own], steps[own], *room(n))

    spread(part, rows, rows * n**3)
    return torch.from_numpy(s).to(c), torch.from_numpy(ends).to(c.device), torch.from_numpy(steps).to(c.device)


def room(n: int) -> tuple[np.ndarray, ...]:
    """Return what a walk works in: active, members, K, z, and the piece and point to come back to."""
    piece, point = partial(np.empty, n, np.bool_), partial(np.empty, n)
    return piece(), np.empty(n + 1, np.uint64), np.empty((n, n)), point(), piece(), piece(), point()


def solve_pieces(A: Tensor, c: Tensor, active: Tensor) -> Tensor:
    """Return z with z_S = M[S,S]⁻¹c_S and z = 0 elsewhere, for given pieces; NaN where the piece is singular.

    Args:
        A: (n, n) for all rows, or one matrix a row (rows, n, n).
        c: (rows, n).
        active: the pieces S (rows, n), bool.
    """
    right, members = as_array(c), active.cpu().numpy()
    n = right.shape[1]
    z = np.empty_like(right)
    solve_rows(as_array(A).reshape(-1, n, n), right, members, z, *room(n)[:4])
    return torch.from_numpy(z).to(c)


@compiled
def solve_rows(
    A: np.ndarray,
    c: np.ndarray,
    pieces: np.ndarray,
    z: np.ndarray,
    active: np.ndarray,
    members: np.ndarray,
    K: np.ndarray,
    v: np.ndarray,
) -> None:
    """Solve the piece of every row, and write z. A has one matrix for each row, or one for all."""
    rows, n = c.shape
    for row in range(rows):
        for i in range(n):
            active[i] = pieces[row, i]
        sign = solve_piece(A, c, row, active, z, members, K, v)
        for i in range(n):
            z[row, i] = np.nan if sign == 0 else z[row, i] * active[i]


@compiled
def walk_rows(
    A: np.ndarray,
    c: np.ndarray,
    first: np.ndarray,
    patience: int,
    max_steps: int,
    s: np.ndarray,
    ends: np.ndarray,
    steps: np.ndarray,
    active: np.ndarray,
    members: np.ndarray,
    K: np.ndarray,
    z: np.ndarray,
    anchor: np.ndarray,
    best_active: np.ndarray,
    best: np.ndarray,
) -> None:
    """Walk for every row, and write s, ends and steps. A has one matrix for each row, or one for all."""
    rows, n = c.shape
    for row in range(rows):
        for i in range(n):
            active[i] = first[row, i]
        ends[row], steps[row] = walk_row(
            A, c, row, patience, max_steps, s, active, members, K, z, anchor, best_active, best
        )


@compiled
def walk_row(
    A: np.ndarray,
    c: np.ndarray,
    row: int,
    patience: int,
    max_steps: int,
    s: np.ndarray,
    active: np.ndarray,
    members: np.ndarray,
    K: np.ndarray,
    z: np.ndarray,
    anchor: np.ndarray,
    best_active: np.ndarray,
    best: np.ndarray,
) -> tuple[int, int]:
    """Walk from the piece in `active` and leave the point of smallest sign error in s[row].

    Arguments after `s` are room to work in.

    Returns:
        How the walk ended, and the number of linear systems solved.
    """
    n = c.shape[1]
    solved = 0
    for i in range(n):
        solved |= active[i]
    if solve_piece(A, c, row, active, s, members, K, z) == 0:  # then from S = ∅, whose piece is never singular
        for i in range(n):
            active[i] = False
        solve_piece(A, c, row, active, s, members, K, z)
    smallest, fewest, left = np.inf, n + 1, patience
    single = patience == 0
    anchor_age, anchor_life = 0, 1
    sign = 1
    while True:
        error, disagreeing, last = sign_error(s, row, active)
        if disagreeing == 0:
            return AGREES, solved
        if error < smallest:
            smallest = error
            for i in range(n):
                best[i], best_active[i] = s[row, i], active[i]
        if solved >= max_steps or (single and sign < 0):
            copy(s, row, best)
            return (NOT_P if single and sign < 0 else MAX_STEPS), solved

        if patience > 0:
            if disagreeing < fewest:
                fewest, left, single, anchor_age = disagreeing, patience, False, 0
            elif left > 0:
                left -= 1
            else:
                single = True
        if single:
            active[last] = not active[last]
        else:
            for i in range(n):  # zeros stay where they are
                active[i] = (s[row, i] > 0) | ((s[row, i] == 0) & active[i])
        sign = solve_piece(A, c, row, active, s, members, K, z)
        solved += 1
        if sign == 0 and not single and patience > 0:  # a singular piece: go on from the best point by single steps
            left, single = 0, True
            copy(s, row, best)
            for i in range(n):
                active[i] = best_active[i]
            last = sign_error(s, row, active)[2]
            active[last] = not active[last]
            sign = solve_piece(A, c, row, active, s, members, K, z)
        if sign == 0:
            copy(s, row, best)
            return SINGULAR, solved

        if single or patience < 0:  # then the next piece depends on this one alone, so a piece met again is a cycle
            if anchor_age > 0 and same(active, anchor):
                copy(s, row, best)
                return CYCLE, solved
            if anchor_age == 0:
                anchor_life = 1
            if anchor_age == 0 or anchor_age == anchor_life:  # Brent's method: a younger anchor, for twice as long
                for i in range(n):
                    anchor[i] = active[i]
                anchor_age, anchor_life = 0, 2 * anchor_life
            anchor_age += 1


@compiled
def sign_error(s: np.ndarray, row: int, active: np.ndarray) -> tuple[float, int, int]:
    """Return the largest |s_i| whose sign disagrees with its side, the number of these, and the last of them."""
    largest, error = 0.0, 0.0
    for i in range(len(active)):
        value = s[row, i]
        wrong = -value if active[i] else value
        largest = abs(value) if abs(value) > largest else largest
        error = wrong if wrong > error else error
    slack = SIGN_SLACK * len(active) * EPSILON * largest
    disagreeing, last = 0, -1
    if error > slack:
        for i in range(len(active)):
            wrong = -s[row, i] if active[i] else s[row, i]
            disagreeing += wrong > slack
            last = i if wrong > slack else last
    return error, disagreeing, last


@compiled
def solve_piece(
    A: np.ndarray,
    c: np.ndarray,
    row: int,
    active: np.ndarray,
    s: np.ndarray,
    members: np.ndarray,
    K: np.ndarray,
    z: np.ndarray,
) -> int:
    """Write the solution s[row] of the piece `active`; return the sign of its determinant, 0 where it is singular."""
    unit = min(row, len(A) - 1)
    n, k, others = c.shape[1], 0, 0
    for i in range(n):  # without branches, which could not be predicted: members first, the others from the end
        members[k] = i
        k += active[i]
        others += not active[i]
        members[n - others] = members[n - others] if active[i] else i
    for p in range(k):
        for q in range(k):
            K[p, q] = A[unit, members[p], members[q]]
        K[p, p] += 1
        z[p] = c[row, members[p]]
    sign = eliminate(K, z, k)
    if sign == 0:
        return 0
    for p in range(k, n):
        value = c[row, members[p]]
        for q in range(k):
            value -= A[unit, members[p], members[q]] * z[q]
        s[row, members[p]] = value
    for p in range(k):
        s[row, members[p]] = z[p]
    return sign


@compiled
def eliminate(K: np.ndarray, v: np.ndarray, order: int) -> int:
    """Solve K[:order, :order]·x = v[:order] in place by Gaussian elimination with partial pivoting.

    Returns:
        The sign of the determinant, 0 where the matrix is singular or not finite.
    """
    k = np.uint64(order)
    sign = 1
    for p in range(k):
        largest, at = abs(K[p, p]), p
        for q in range(p + ONE, k):
            if abs(K[q, p]) > largest:
                largest, at = abs(K[q, p]), q
        if not 0 < largest < np.inf:
            return 0
        if at != p:
            for j in range(p, k):
                K[p, j], K[at, j] = K[at, j], K[p, j]
            v[p], v[at] = v[at], v[p]
            sign = -sign
        sign = -sign if K[p, p] < 0 else sign
        inverse = 1 / K[p, p]
        for q in range(p + ONE, k):
            factor = K[q, p] * inverse
            for j in range(p + ONE, k):
                K[q, j] -= factor * K[p, j]
            v[q] -= factor * v[p]
    for back in range(ONE, k + ONE):
        row = k - back
        value = v[row]
        for j in range(row + ONE, k):
            value -= K[row, j] * v[j]
        v[row] = value / K[row, row]
    return sign


@compiled
def copy(s: np.ndarray, row: int, source: np.ndarray) -> None:
    """Copy to s[row]; faster here than a slice assignment."""
    for i in range(len(source)):
        s[row, i] = source[i]


@compiled
def same(a: np.ndarray, b: np.ndarray) -> bool:
    """Return whether two patterns are equal."""
    for i in range(len(a)):  # noqa: SIM110
        if a[i] != b[i]:
            return False
    return True
