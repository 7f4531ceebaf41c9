"""Walks over the linear pieces of the rectifier equation: Newton's method and pivoting, compiled, row by row.

A piece is a set S of active coordinates, on which relu(s) is taken as s while it is taken as 0 on the others. With
M = I + A its solution is z_S = M[S,S]⁻¹c_S and z = 0 elsewhere, s_i = z_i on S and s = c − Az elsewhere. It solves
s + A·relu(s) = c if its signs agree: s ≥ 0 on S, s ≤ 0 elsewhere. A walk starts from S = ∅, where s = c, and changes
the sides of coordinates whose sign disagrees: of all at once (a block step; this is Newton's step), or of one. Lemke's
method instead follows a path of pieces to the solution.

The loops are compiled and run on the CPU in float64, whatever the dtype and device of the unit: the systems are small,
of many sizes and different for every row, which batched linear algebra is slow at.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor

from replication.checks import check_counts
from replication.compiled import EPSILON, ONE, as_array, compiled, spread
from replication.maps import MATRIX_LIMIT, RectifierEquation, RectifierMap
from replication.rows import residual_scale, row_norm
from replication.solvers.method import Method
from replication.solvers.solution import CODE, Solution, Status, name_of

AGREES, MAX_STEPS, CYCLE, SINGULAR, NOT_P = range(5)  # how a walk ends
STATUS_OF_END = {
    AGREES: Status.STAGNATED,  # unless the residual is within the tolerance
    MAX_STEPS: Status.MAX_ITERATIONS,
    CYCLE: Status.STAGNATED,
    SINGULAR: Status.NOT_FINITE,
    NOT_P: Status.NOT_P_MATRIX,
}
SIGN_SLACK = 4  # signs of |s_i| within SIGN_SLACK·n·ε of what cancels in it, which is rounding, agree with both sides
CERTAIN = 1e-8  # wrong signs of |s_i| above CERTAIN·max|s| cannot be rounding, short of pieces that are nearly singular
PIVOT_SLACK = 1e-11  # entries of Lemke's tableau that count as zero, and ratios that count as ties
PATH_LENGTH = 50  # times n: pivots along Lemke's first path before another is tried; most take a few times n
CORRECTIONS = 3
GOLDEN_RATIO = (1 + 5**0.5) / 2
TINY = float(np.finfo(np.float64).tiny)


class PieceWalk(Method):
    """A method that ends after finitely many pieces: hyper-parameters and its rule.

    Attributes:
        max_iterations: bound of the number of linear systems solved and pivots made.

    Raises:
        ValueError: if max_iterations is not positive.
    """

    needs = f"a unit with at most {MATRIX_LIMIT} hidden numbers, whose matrix it takes apart"
    max_iterations: int

    def takes(self, rectifier_map: RectifierMap) -> bool:
        return rectifier_map.has_matrix

    def __post_init__(self) -> None:
        check_counts(1, max_iterations=self.max_iterations)

    @property
    @abstractmethod
    def patience(self) -> int:
        """Block steps without fewer disagreeing signs that are allowed before Lemke's method takes over.

        0 means single steps only, −1 block steps only.
        """

    def walk(self, A: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return s like c (rows, n), how rows ended and their steps, as `walk`."""
        return walk(A, c, self.patience, self.max_iterations)

    def solve(self, equation: RectifierEquation, tolerance: float) -> Solution:
        """Walk for every row, evaluate the unit at the point found, and correct it where its residual is too large.

        A correction is one more step in the piece found: x = y − b₂ − W₂z alone loses digits where x is far smaller
        than y.

        Raises:
            ValueError: if the unit has too many hidden coordinates for matrices.
        """
        self.check(equation.map)
        A, c, linear = equation.map.matrix(), equation.c, equation.map
        s, ends, steps = self.walk(A, c.flatten(1))

        def correction(residual: Tensor) -> Tensor:
            z = solve_pieces(A, linear.W1(residual).flatten(1), s > 0).reshape(c.shape)
            return residual - linear.W2(z)

        value = equation.recover(torch.relu(s.reshape(c.shape)))
        value, relative, corrections = corrected(equation, value, correction, tolerance)
        codes = codes_of(ends, relative, tolerance)
        return Solution(value, codes, steps, relative, 1 + corrections, solver=name_of(self))


def corrected(
    equation: RectifierEquation, value: Tensor, correction: Callable[[Tensor], Tensor], tolerance: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Take up to CORRECTIONS Newton steps in the piece that was found, for the rows whose residual is too large.

    Args:
        equation: f(x) = y.
        value: x (rows, *shape), changed in place.
        correction: J⁻¹ of that piece, applied to residuals like x.
        tolerance: of the relative residual.

    Returns:
        The points of smallest residual, their relative residuals (rows,) and the number of corrections (rows,).
    """
    residual, scale = equation.residual(value), residual_scale(equation.y)
    relative = row_norm(residual) / scale
    taken = torch.zeros_like(relative, dtype=torch.long)
    for _ in range(CORRECTIONS):
        inexact = torch.isfinite(relative) & (relative > tolerance)
        if not inexact.any():
            break
        new = value - correction(residual)
        new_residual = equation.residual(new)
        new_relative = row_norm(new_residual) / scale
        better = inexact & (new_relative < relative)
        for kept, found in ((value, new), (residual, new_residual), (relative, new_relative)):
            kept[better] = found[better]
        taken += inexact
    return value, relative, taken


def codes_of(ends: Tensor, relative: Tensor, tolerance: float) -> Tensor:
    """Return the status codes (rows,) of rows from how their walks ended and from their relative residuals."""
    codes = torch.empty_like(ends)
    for end, status in STATUS_OF_END.items():
        codes[ends == end] = CODE[status]
    codes[relative <= tolerance] = CODE[Status.CONVERGED]
    codes[~torch.isfinite(relative)] = CODE[Status.NOT_FINITE]
    return codes


def walk(
    A: Tensor, c: Tensor, patience: int, max_steps: int, start: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Solve s + A·relu(s) = c by walking over pieces.

    Args:
        A: (n, n) for all rows, or one matrix a row (rows, n, n).
        c: (rows, n).
        patience: as PieceWalk.patience.
        max_steps: bound of the number of linear systems solved and pivots made.
        start: the first piece of every row (rows, n), bool; by default S = ∅, or the block step from it.

    Returns:
        s like c, how each row ended (rows,), and the number of systems and pivots (rows,). Rows whose c is not finite
        end as singular pieces do, with s not a number.
    """
    right = as_array(c)
    finite = np.isfinite(right).all(1)
    right = np.where(finite[:, None], right, 0.0)
    rows, n = right.shape
    matrices = as_array(A).reshape(-1, n, n)
    s, ends, steps = np.empty_like(right), np.empty(rows, np.int64), np.empty(rows, np.int64)
    by_default = right > 0 if patience else np.zeros((rows, n), np.bool_)
    first = by_default if start is None else start.cpu().numpy()

    def part(own: slice) -> None:
        of_rows = matrices if A.ndim == 2 else matrices[own]
        walk_rows(of_rows, right[own], first[own], patience, max_steps, s[own], ends[own], steps[own], *room(n))

    spread(part, rows, rows * n**3)
    s[~finite], ends[~finite] = np.nan, SINGULAR
    return torch.from_numpy(s).to(c), torch.from_numpy(ends).to(c.device), torch.from_numpy(steps).to(c.device)


def room(n: int) -> tuple[np.ndarray, ...]:
    """Return what a walk works in: active, members, K, z, slack, best, anchor, tableau and basis."""
    piece, point, index = partial(np.empty, n, np.bool_), partial(np.empty, n), partial(np.empty, n + 1, np.uint64)
    square, tableau = np.empty((n, n)), np.empty((n, 2 * n + 2))
    return piece(), index(), square, point(), point(), point(), piece(), tableau, np.empty(n, np.int64)


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
    slack: np.ndarray,
    best: np.ndarray,
    anchor: np.ndarray,
    tableau: np.ndarray,
    basis: np.ndarray,
) -> None:
    """Walk for every row, and write s, ends and steps. A has one matrix for each row, or one for all."""
    rows, n = c.shape
    for row in range(rows):
        for i in range(n):
            active[i] = first[row, i]
        ends[row], steps[row] = walk_row(
            A, c, row, patience, max_steps, s, active, members, K, z, slack, best, anchor, tableau, basis
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
    slack: np.ndarray,
    best: np.ndarray,
    anchor: np.ndarray,
    tableau: np.ndarray,
    basis: np.ndarray,
) -> tuple[int, int]:
    """Walk from the piece in `active` and leave the point of smallest sign error in s[row].

    Arguments after `s` are room to work in.

    Returns:
        How the walk ended, and the number of linear systems solved and pivots made.
    """
    n = c.shape[1]
    single, negative, lemke_tried = patience == 0, False, False
    smallest, fewest, left = np.inf, n + 1, patience
    anchor_age, anchor_life = 0, 1
    for i in range(n):
        best[i] = c[row, i]
    sign = solve_piece(A, c, row, active, s, members, K, z)
    solved = 1
    if sign == 0:  # then from S = ∅, whose piece is never singular
        for i in range(n):
            active[i] = False
        sign = solve_piece(A, c, row, active, s, members, K, z)
    while True:
        stuck = False
        if sign != 0:
            error, disagreeing, last = sign_error(A, c, row, s, active, members, slack)
            if disagreeing == 0:
                for i in range(n):  # a wrong sign within the slack is a zero
                    if s[row, i] < 0 if active[i] else s[row, i] > 0:
                        s[row, i] = 0
                return AGREES, solved
            if error < smallest:
                smallest = error
                for i in range(n):
                    best[i] = s[row, i]
            negative |= sign < 0
            if patience > 0 and not lemke_tried:
                if disagreeing < fewest:
                    fewest, left = disagreeing, patience
                else:
                    left -= 1
                    stuck = left < 0
        end = AGREES
        if solved >= max_steps:
            end = MAX_STEPS
        elif negative and (single or stuck):
            end = NOT_P
        elif sign == 0 and (patience <= 0 or lemke_tried):
            end = SINGULAR
        elif stuck or sign == 0:  # Newton's steps lead nowhere: hand the row to Lemke's method
            lemke_tried, single = True, True
            found, pivots = lemke_by_paths(A, c, row, max_steps - solved, active, tableau, basis)
            solved += pivots
            end = AGREES if found else MAX_STEPS if solved >= max_steps else NOT_P
        elif single:
            active[last] = not active[last]
        else:
            for i in range(n):  # zeros stay where they are
                active[i] = (s[row, i] > 0) | ((s[row, i] == 0) & active[i])
        if end == AGREES and (single or patience < 0):
            # the next piece depends on this one alone, so a piece met again is a cycle
            again = anchor_age > 0
            for i in range(n):
                again &= anchor[i] == active[i]
            if again:
                end = CYCLE
            if anchor_age == 0 or anchor_age == anchor_life:  # Brent's method: a younger anchor, for twice as long
                for i in range(n):
                    anchor[i] = active[i]
                anchor_age, anchor_life = 0, 2 * anchor_life
            anchor_age += 1
        if end != AGREES:
            for i in range(n):
                s[row, i] = best[i]
            return end, solved
        sign = solve_piece(A, c, row, active, s, members, K, z)
        solved += 1


@compiled
def sign_error(
    A: np.ndarray, c: np.ndarray, row: int, s: np.ndarray, active: np.ndarray, members: np.ndarray, slack: np.ndarray
) -> tuple[float, int, int]:
    """Compare the signs of s[row] with the sides of its coordinates.

    Returns:
        The largest wrong |s_i| relative to all of s, the number of coordinates that disagree, and the last of them.
    """
    largest, wrongest, doubtful = 0.0, 0.0, np.inf
    for i in range(len(active)):
        wrong = -s[row, i] if active[i] else s[row, i]
        largest = max(largest, abs(wrong))
        wrongest = max(wrongest, wrong)
        doubtful = wrong if 0 < wrong < doubtful else doubtful
    if wrongest <= 0:
        return 0.0, 0, -1
    if doubtful > CERTAIN * largest:  # no wrong sign can be rounding, which is the usual case
        for i in range(len(active)):
            slack[i] = 0.0
    else:
        expect_rounding(A, c, row, s, active, members, slack)
    disagreeing, last = 0, -1
    for i in range(len(active)):
        wrong = -s[row, i] if active[i] else s[row, i]
        disagreeing += wrong > slack[i]
        last = i if wrong > slack[i] else last
    return wrongest / largest, disagreeing, last


@compiled
def expect_rounding(
    A: np.ndarray, c: np.ndarray, row: int, s: np.ndarray, active: np.ndarray, members: np.ndarray, slack: np.ndarray
) -> None:
    """Write how much rounding is to be expected in every coordinate of a piece's solution s[row].

    SIGN_SLACK·n·ε times the sum of what cancels in it, divided by the diagonal of M for active coordinates; inactive
    ones inherit what is expected in the active ones.
    """
    unit = min(row, len(A) - 1)
    n, k = len(active), 0
    for i in range(n):
        k += active[i]
    for p in range(n):
        i = members[p]
        size, inherited = abs(c[row, i]), 0.0
        for q in range(k):
            j = members[q]
            size += abs(A[unit, i, j] * s[row, j])
            inherited += abs(A[unit, i, j]) * slack[j] if p >= k else 0.0
        if p < k:
            size = (size + abs(s[row, i])) / max(abs(A[unit, i, i] + 1), TINY)
        slack[i] = SIGN_SLACK * n * EPSILON * size + inherited


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
    """Write the solution s[row] of the piece `active`, and its coordinates to `members`, the active ones first.

    Returns:
        The sign of the determinant, 0 where the piece is singular; then s is not written.
    """
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
def lemke_by_paths(
    A: np.ndarray, c: np.ndarray, row: int, max_pivots: int, active: np.ndarray, T: np.ndarray, basis: np.ndarray
) -> tuple[bool, int]:
    """Follow Lemke's path and, as long as the solution is not found, other paths, each of them twice as far.

    A path may be exponentially long (Murty, Math. Program. Study 7 (1978) 138–144), but hardly all of them are.

    Returns:
        Whether a solution was found, and the number of pivots.
    """
    length, number, pivots = PATH_LENGTH * c.shape[1], 0, 0
    while True:
        length = min(length, max_pivots - pivots)
        found, taken = lemke(A, c, row, length, number, active, T, basis)
        pivots += taken
        if found or taken < length or pivots >= max_pivots:
            return found, pivots
        length, number = 2 * length, number + 1


@compiled
def lemke(
    A: np.ndarray,
    c: np.ndarray,
    row: int,
    max_pivots: int,
    number: int,
    active: np.ndarray,
    T: np.ndarray,
    basis: np.ndarray,
) -> tuple[bool, int]:
    """Find the piece of the solution by Lemke's method, and write it to `active`.

    w − Mz − z₀d = −c with w, z, z₀ ≥ 0 and wᵀz = 0 is followed from large z₀ to z₀ = 0, rows and columns of M scaled to
    size one, with d = 1 on the path of number 0 and 1 ≤ dᵢ < 2 on others, by multiples of the golden ratio. Ties are
    broken lexicographically, so that the method ends: on P-matrices always at a solution. T holds the columns of w, z
    and z₀ and the right-hand side.

    Source: Lemke, Management Sci. 11 (1965) 681–689.

    Returns:
        Whether a solution was found, and the number of pivots.
    """
    unit = min(row, len(A) - 1)
    n = c.shape[1]
    for i in range(n):
        size = 0.0
        for j in range(n):
            T[i, n + j] = -A[unit, i, j] - (i == j)
            size = max(size, abs(T[i, n + j]))
        size = max(size, TINY)
        for j in range(n):
            T[i, j] = i == j
            T[i, n + j] /= size
        T[i, 2 * n], T[i, 2 * n + 1] = -1.0 - number * (i + 1) * GOLDEN_RATIO % 1, -c[row, i] / size
        basis[i] = i
    for j in range(n):
        size = TINY
        for i in range(n):
            size = max(size, abs(T[i, n + j]))
        for i in range(n):
            T[i, n + j] /= size

    leaving = 0
    for i in range(n):
        if T[i, 2 * n + 1] * T[leaving, 2 * n] > T[leaving, 2 * n + 1] * T[i, 2 * n]:
            leaving = i
    entering, pivots = 2 * n, 0
    while pivots < max_pivots:
        pivot(T, leaving, entering)
        pivots += 1
        left = basis[leaving]
        basis[leaving] = entering
        if left == 2 * n:
            for i in range(n):
                active[i] = False
            for i in range(n):
                if basis[i] >= n:
                    active[basis[i] - n] = True
            return True, pivots
        entering = left + n if left < n else left - n
        leaving = lexicographic_ratio(T, entering, basis)
        if leaving < 0:
            return False, pivots
    return False, pivots


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
