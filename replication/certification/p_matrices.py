"""Whether a matrix of any order is a P-matrix, all its principal minors being positive: by branch and bound.

M is a P-matrix iff one diagonal entry mᵢᵢ is positive and two parts of order n − 1 are P-matrices: M without row and
column i, and the Schur complement of mᵢᵢ. A part is not divided if it is diagonally stable, or small enough for the
compiled test. Rounding errors of Schur complements are carried along entry by entry, so that *yes* is certain; *no*
rests on one minor, whose sign is certain too. The question is co-NP-complete, so there is a limit, and a third answer.

Sources: Tsatsomeros and Li, BIT 40 (2000) 380–384 (the recursion); Coxson, Mathematical Programming 64 (1994) 173–178
(its complexity); Tsatsomeros, Linear Algebra and its Applications 307 (2000) 151–165 (principal pivot transforms);
Berman and Plemmons, Nonnegative Matrices in the Mathematical Sciences (1994), chapter 6.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from replication.certification.diagonal_stability import DiagonalStability, diagonally_stable
from replication.compiled import EPSILON
from replication.conditions import (
    NEGATIVE,
    POSITIVE,
    UNDECIDED,
    all_finite,
    certain_signs,
    complement,
    signs_of_minors,
)
from replication.exact_arithmetic import binary_places, integers
from replication.operators import frobenius_norm
from replication.solvers.blocks import diagonal_blocks

LEAF = 13  # order up to which a part is tested by all its minors: some milliseconds
EXACT_LIMIT = 64  # order up to which a minor is computed in integers, where its sign is not certain: a second
DESCENTS = 100  # in the search for a negative minor
CENTRES = 6  # of the search for a part's scaling: most that have one show it sooner
NUMBERS = 8_000_000  # of the parts that are looked at, all counted as if of M's order: tens of seconds


@dataclass(frozen=True)
class PMatrixSearch:
    """What the search found.

    Attributes:
        sign: POSITIVE where all principal minors are positive, NEGATIVE where one is negative, UNDECIDED else.
        subset: the rows and columns of the negative minor (n,); None unless the sign is NEGATIVE.
        parts: how many were looked at.
    """

    sign: int
    subset: Tensor | None
    parts: int


@dataclass(frozen=True, eq=False)
class Part:
    """A Schur complement of a principal submatrix of M.

    Attributes:
        value: (k, k).
        error: entrywise bound of its error (k, k).
        rows: of M that are left (k,).
        pivots: of M that were eliminated.
        scaling: Λ to begin with (k,), None where nothing is known.
    """

    value: np.ndarray
    error: np.ndarray
    rows: np.ndarray
    pivots: np.ndarray
    scaling: np.ndarray | None = None

    def scaled(self, scaling: Tensor | None) -> Part:
        """Return the part with a scaling (k,) that its own parts begin with."""
        return self if scaling is None else replace(self, scaling=scaling.numpy())

    def without(self, i: int) -> Part:
        """Return the part without its row and column i."""
        rest = np.delete(np.arange(len(self.rows)), i)
        own = np.ix_(rest, rest)
        scaling = None if self.scaling is None else self.scaling[rest]
        return Part(self.value[own], self.error[own], self.rows[rest], self.pivots, scaling)

    def eliminated(self, i: int) -> Part:
        """Return the Schur complement of its diagonal entry i, which must be positive for certain."""
        order = np.concatenate([[i], np.delete(np.arange(len(self.rows)), i)])
        own = np.ix_(order, order)
        work, error = (np.stack([part[own], part[own]]) for part in (self.value, self.error))
        complement(work, error, 0)
        scaling = None if self.scaling is None else self.scaling[order[1:]]
        pivots = np.append(self.pivots, self.rows[i])
        return Part(work[1, 1:, 1:], error[1, 1:, 1:], self.rows[order[1:]], pivots, scaling)


@torch.no_grad()
def p_matrix_search(M: Tensor, error: Tensor | None = None, parts: int | None = None) -> PMatrixSearch:
    """Decide whether all principal minors of M are positive.

    Args:
        M: (n, n), n ≥ 1.
        error: entrywise bound of its error (n, n), or None where it is exact.
        parts: bound of the parts that are looked at, by default `default_parts(n)`.

    >>> p_matrix_search(torch.tensor([[1.0, -3.0], [3.0, 1.0]])).sign
    1
    >>> p_matrix_search(torch.tensor([[1.0, 3.0], [3.0, 1.0]])).subset
    tensor([True, True])
    """
    value = M.detach().cpu().double()
    error = torch.zeros_like(value) if error is None else error.detach().cpu().double()
    if not (all_finite(value) and all_finite(error)):
        return PMatrixSearch(UNDECIDED, None, 0)
    search = Search(value, error, default_parts(len(value)) if parts is None else parts)
    sign = POSITIVE
    for block in diagonal_blocks((value != 0) | (error != 0)):
        own = np.ix_(block.numpy(), block.numpy())
        found = search.decide(Part(value.numpy()[own], error.numpy()[own], block.numpy(), np.empty(0, np.int64)))
        if found == NEGATIVE:
            return PMatrixSearch(NEGATIVE, search.subset, search.parts)
        sign = min(sign, found)
    return PMatrixSearch(sign, None, search.parts)


def default_parts(n: int) -> int:
    """Return how many parts of a matrix of order n are looked at unless it is said: fewer of larger ones.

    >>> default_parts(50), default_parts(200)
    (3200, 200)
    """
    return max(1, NUMBERS // n**2)


class Search:
    """Branch and bound over the parts of one matrix.

    Attributes:
        parts: how many were looked at.
        subset: the rows and columns of a negative minor (n,), once one is found.
    """

    def __init__(self, M: Tensor, error: Tensor, limit: int) -> None:
        self.M, self.error, self.limit = M, error, limit
        self.parts = 0
        self.subset: Tensor | None = None

    def decide(self, whole: Part) -> int:
        """Return the sign of the smallest principal minor of a part, UNDECIDED where it is not certain."""
        if stability(whole).sign == POSITIVE:
            return POSITIVE
        if len(whole.rows) > LEAF and self.found(descend(whole.value, whole.rows)):
            return NEGATIVE
        sign, left = POSITIVE, [whole]
        while left:
            if self.parts >= self.limit:
                return UNDECIDED
            outcome = self.divide(left.pop())
            if outcome is None:
                return NEGATIVE
            certain, children = outcome
            sign = sign if certain else UNDECIDED
            left += children
        return sign

    def divide(self, part: Part) -> tuple[bool, list[Part]] | None:
        """Return whether all that was seen of a part is certain, and what is left of it; None at a negative minor."""
        self.parts += 1
        k = len(part.rows)
        if k <= LEAF:
            sign, rows = minors(part)
            if sign == UNDECIDED:
                rows = descend(part.value, part.rows)
            if sign != POSITIVE and rows is not None and self.found(np.concatenate([part.pivots, rows])):
                return None
            return sign == POSITIVE, []
        diagonal, doubt = part.value.diagonal(), part.error.diagonal()
        lowest = int((diagonal - doubt).argmin())
        if diagonal[lowest] <= doubt[lowest]:
            if self.found(np.append(part.pivots, part.rows[lowest])):
                return None
            return False, [part.without(lowest)]
        pair = negative_pair(part.value)
        if pair is not None and self.found(np.concatenate([part.pivots, part.rows[pair]])):
            return None
        found = stability(part)
        if found.sign == POSITIVE:
            return True, []
        part, i = part.scaled(found.scaling), pivot_of(part.value, found)
        return True, [part.eliminated(i), part.without(i)]

    def found(self, rows: np.ndarray | None) -> bool:
        """Return whether the principal minor of M in these rows is negative for certain, and keep them if it is."""
        if rows is None or not is_negative(self.M, self.error, torch.from_numpy(np.sort(rows))):
            return False
        self.subset = torch.zeros(len(self.M), dtype=torch.bool)
        self.subset[torch.from_numpy(rows)] = True
        return True


def minors(part: Part) -> tuple[int, np.ndarray | None]:
    """Return the sign of the smallest principal minor of a small part, and the rows of a negative one."""
    k = len(part.rows)
    signs, subset = np.empty(1, np.int64), np.zeros((1, k), np.bool_)
    work, error = np.empty((2, k + 1, k, k))
    signs_of_minors(part.value[None], part.error[None], signs, subset, work, error, np.empty(k + 1, np.int64))
    return int(signs[0]), part.rows[subset[0]]


def negative_pair(M: np.ndarray) -> np.ndarray | None:
    """Return the rows of a principal minor of order 2 that is negative as computed, the smallest, or None."""
    products = np.outer(M.diagonal(), M.diagonal())
    relative = 1 - M * M.T / products
    np.fill_diagonal(relative, 1)
    lowest = np.array(np.unravel_index(relative.argmin(), M.shape))
    return lowest if relative[tuple(lowest)] < 0 else None


def stability(part: Part) -> DiagonalStability:
    """Return what is known of a part's diagonal stability, which makes it a P-matrix."""
    start = None if part.scaling is None else torch.from_numpy(part.scaling)
    return diagonally_stable(torch.from_numpy(part.value), torch.from_numpy(part.error), CENTRES, start)


def pivot_of(M: np.ndarray, found: DiagonalStability) -> int:
    """Return the row that has most to do with M having no scaling, all diagonal entries counting as ones.

    It is the largest diagonal entry of the proof LLᵀ, or where there is none that of the lowest eigenvector.
    """
    unit = np.sqrt(M.diagonal())
    if found.factor is not None:
        return int(((unit[:, None] * found.factor.numpy()) ** 2).sum(1).argmax())
    S = M / unit[:, None] / unit
    return int(np.abs(np.linalg.eigh(S + S.T)[1][:, 0]).argmax())


@np.errstate(all="ignore")
def descend(M: np.ndarray, rows: np.ndarray) -> np.ndarray | None:
    """Look for a negative minor of M by exchanging one or two rows while it gets smaller; return its rows, or None.

    After principal pivots on a set S the minors of orders 1 and 2 are det M[S△{i, j}]/det M[S].

    Args:
        M: (k, k).
        rows: what its rows are called (k,).
    """
    generator, k = np.random.default_rng(0), len(M)
    for descent in range(DESCENTS):
        chosen = generator.permutation(k)[: generator.integers(k) if descent else 0]
        T, inside = pivoted(M, chosen.tolist())
        if T is None:
            return np.asarray(rows[inside])
        while np.isfinite(T).all():
            ratio, exchange = smallest_minor(T)
            inside[exchange] ^= True
            if ratio < 0 and inside.any():
                return np.asarray(rows[inside])
            if not 0 < ratio < 1 - 1e-9:
                break
            for i in exchange.tolist():
                T = exchanged(T, i)
    return None


def smallest_minor(T: np.ndarray) -> tuple[float, np.ndarray]:
    """Return the smallest principal minor of orders 1 and 2 of T (k, k), and its rows."""
    ratios = np.outer(T.diagonal(), T.diagonal()) - T * T.T
    np.fill_diagonal(ratios, T.diagonal())
    i, j = np.unravel_index(ratios.argmin(), T.shape)
    return float(ratios[i, j]), np.unique([i, j])


def pivoted(M: np.ndarray, chosen: list[int]) -> tuple[np.ndarray | None, np.ndarray]:
    """Return the principal pivot transform of M (k, k) on some rows, and these (k,).

    None and the rows so far at a pivot that is negative, and their minor with it; rows with a pivot of zero are left.
    """
    T, inside = M, np.zeros(len(M), bool)
    for i in chosen:
        if T[i, i] == 0:
            continue
        inside[i] = True
        if T[i, i] < 0:
            return None, inside
        T = exchanged(T, i)
    return T, inside


def exchanged(T: np.ndarray, i: int) -> np.ndarray:
    """Return the principal pivot transform of T on one index."""
    row, column, pivot = T[i], T[:, i] / T[i, i], T[i, i]
    new = T - np.outer(column, row)
    new[i], new[:, i] = -row / pivot, column
    new[i, i] = 1 / pivot
    return new


def is_negative(M: Tensor, error: Tensor, rows: Tensor) -> bool:
    """Prove that the principal minor of M in these rows is negative, in integers where rounding leaves it in doubt."""
    own = M[rows[:, None], rows], error[rows[:, None], rows]
    unit = 2.0 ** -(own[0].abs().amax(1) * own[0].abs().amax(0)).clamp(min=1e-300).log2().div(4).round()
    value, wrong = (unit[:, None] * part * unit for part in own)
    sign = int(certain_signs(value, frobenius_norm(wrong) + EPSILON * frobenius_norm(value)))
    if sign or wrong.any() or len(rows) > EXACT_LIMIT:
        return sign < 0
    return determinant_sign(own[0]) < 0


def determinant_sign(matrix: Tensor) -> int:
    """Return the sign of the determinant of an exact matrix (n, n), by elimination in integers.

    Source: Bareiss, Mathematics of Computation 22 (1968) 565–578.
    """
    places = binary_places(matrix)
    work, sign, before = [integers(row, places) for row in matrix], 1, 1
    while len(work) > 1:
        place = next((k for k, row in enumerate(work) if row[0]), None)
        if place is None:
            return 0
        head = work.pop(place)
        sign *= (-1) ** place
        work = [[(head[0] * a - row[0] * b) // before for a, b in zip(row[1:], head[1:], strict=True)] for row in work]
        before = head[0]
    return sign * ((work[0][0] > 0) - (work[0][0] < 0))
