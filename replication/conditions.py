"""Conditions on A under which s + A·relu(s) = c has one solution for every c, batched: upper bounds and exact tests.

Each `is_…` answers True only where the condition is certain: rounding, under- and overflow, and the error bound of A
where A was computed, are accounted for. A is (..., n, n), and M = I + A; where A is not finite, nothing is certain.

Source: design of the package after paper A, abstract (conditions for invertible hidden layers).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from replication.compiled import EPSILON, as_array, compiled, spread
from replication.operators import frobenius_norm, rounding_margin

P_MATRIX_LIMIT = 24  # order up to which the exact test, of 2ⁿ pieces, is made: about half a second for one matrix
POSITIVE, NEGATIVE, UNDECIDED = 1, -1, 0
TINY = float(np.finfo(np.float64).tiny)


def spectral_norm(A: Tensor) -> Tensor:
    """Return ‖A‖₂ (...,) by singular values, infinite where A is not finite."""
    finite = all_finite(A)
    norm = torch.linalg.matrix_norm(torch.where(finite[..., None, None], A, 0), ord=2)
    return torch.where(finite, norm, torch.inf)


def symmetric_minimum(A: Tensor) -> Tensor:
    """Return λmin((A + Aᵀ)/2) (...,) by symmetric eigenvalues, −∞ where A is not finite."""
    finite = all_finite(A)
    symmetric = torch.where(finite[..., None, None], A / 2 + A.mT / 2, 0)
    return torch.where(finite, torch.linalg.eigvalsh(symmetric)[..., 0], -torch.inf)


def all_finite(A: Tensor) -> Tensor:
    """Return whether matrices (..., m, n) are finite (...,)."""
    return torch.isfinite(A).all(-1).all(-1)


def margin(A: Tensor, error: Tensor | None) -> Tensor:
    """Return how far a singular value or symmetric eigenvalue of A may be off (...,).

    Args:
        A: (..., n, n).
        error: entrywise bound of the error of A (..., n, n), or None where A is exact.
    """
    rounding = rounding_margin(A)
    return rounding if error is None else rounding + frobenius_norm(error)


def is_lipschitz(A: Tensor, error: Tensor | None = None) -> Tensor:
    """Decide ‖A‖₂ < 1, which the existing method needs.

    >>> is_lipschitz(torch.diag(torch.tensor([0.5, -0.9])))
    tensor(True)
    """
    return spectral_norm(A) + margin(A, error) < 1


def is_monotone(A: Tensor, error: Tensor | None = None) -> Tensor:
    """Decide λmin((A + Aᵀ)/2) > −1, which the proposed method needs.

    >>> is_monotone(torch.tensor([[0.0, 5.0], [-5.0, 0.0]]))
    tensor(True)
    """
    return symmetric_minimum(A) - margin(A, error) > -1


def comparison_matrix(A: Tensor, error: Tensor | None = None) -> Tensor:
    """Return ⟨M⟩ (..., n, n): m_ii on the diagonal, −|m_ij| off it, each lowered by what A's error may change."""
    diagonal = torch.diagonal(A, dim1=-2, dim2=-1) + 1
    comparison = -A.abs()
    torch.diagonal(comparison, dim1=-2, dim2=-1).copy_(diagonal)
    return comparison - A.abs() * EPSILON - (0 if error is None else error)


def dominance(comparison: Tensor) -> tuple[Tensor, Tensor]:
    """Return d with ⟨M⟩d ≈ 1, and a lower bound of the smallest entry of ⟨M⟩d: (..., n) and (...,).

    ⟨M⟩ is a nonsingular M-matrix, and M an H-matrix, iff some d > 0 has ⟨M⟩d > 0. Where d is not positive or not finite
    the bound is −∞.
    """
    ones = torch.ones_like(comparison[..., :1])
    d = torch.linalg.solve_ex(comparison, ones)[0]
    terms = comparison.shape[-1] + 2
    rounding = terms * EPSILON * (comparison.abs() @ d.abs()) + terms * TINY
    lowest = (comparison @ d - rounding).squeeze(-1).amin(-1)
    d = d.squeeze(-1)
    return d, torch.where((d > 0).all(-1) & torch.isfinite(d).all(-1), lowest, -torch.inf)


def is_h_matrix(A: Tensor, error: Tensor | None = None) -> Tensor:
    """Decide that M has a positive diagonal and its comparison matrix is a nonsingular M-matrix.

    >>> is_h_matrix(torch.tensor([[0.0, 100.0], [0.0, 0.0]]))
    tensor(True)
    """
    A = A.double()
    return dominance(comparison_matrix(A, error))[1] > 0


def inverse_norm_bound(A: Tensor, error: Tensor | None = None) -> Tensor:
    """Bound ‖⟨M⟩⁻¹‖₂ from above by √(‖·‖₁‖·‖_∞) (...,), infinite where M is not known to be an H-matrix."""
    comparison = comparison_matrix(A.double(), error)
    bounds = []
    for matrix in (comparison, comparison.mT.contiguous()):
        d, lowest = dominance(matrix)
        bounds.append(torch.where(lowest > 0, d.amax(-1) / lowest, torch.inf))
    return bounds[0].sqrt() * bounds[1].sqrt()


def certain_signs(matrix: Tensor, error: Tensor) -> Tensor:
    """Return the signs (...,) of determinants of matrices (..., n, n), 0 where one is not certain.

    A sign is that of the computed factors PLU, whose product is off by at most n·ε·|L||U|; it is certain if no error of
    this size, together with `error`, makes the matrix singular.

    Source: Higham, Accuracy and Stability of Numerical Algorithms, second edition, theorem 9.3.

    Args:
        matrix: (..., n, n) in float64.
        error: bound of the norm of its error (...,).
    """
    finite, n = all_finite(matrix), matrix.shape[-1]
    matrix = torch.where(finite[..., None, None], matrix, 0)
    _, L, U = torch.linalg.lu(matrix)
    rounding = n * EPSILON * frobenius_norm(L.abs() @ U.abs()) + n**2 * TINY + rounding_margin(matrix)
    certain = finite & (torch.linalg.svdvals(matrix)[..., -1] > 2 * (rounding + error))
    return torch.where(certain, torch.linalg.slogdet(matrix).sign, 0)


@dataclass(frozen=True)
class PMatrixTest:
    """What the exact test found for each matrix.

    Attributes:
        signs: POSITIVE where every principal minor is positive, NEGATIVE where one is negative, UNDECIDED where the
            sign of one drowns in rounding and no negative one was met (...,).
        subset: the rows and columns of the negative minor (..., n), False elsewhere.
    """

    signs: Tensor
    subset: Tensor


def p_matrix_test(A: Tensor, error: Tensor | None = None) -> PMatrixTest:
    """Decide whether all principal minors of M = I + A are positive, with running bounds of the rounding errors.

    M is a P-matrix iff m₁₁ > 0 and both M without row and column 1, and the Schur complement M/m₁₁, are. Along with
    every Schur complement goes a bound of each entry's error, underflow included; a pivot within its bound of zero, or
    that overflowed, is undecided, never guessed.

    Source: Tsatsomeros and Li, BIT 40 (2000) 380–384.

    Args:
        A: (..., n, n), n ≤ P_MATRIX_LIMIT.
        error: entrywise bound of the error of A, like A, or None where A is exact.

    Raises:
        ValueError: if n is past the limit.
    """
    n = A.shape[-1]
    if n > P_MATRIX_LIMIT:
        raise ValueError(
            f"the exact P-matrix test of order {n} would take 2^{n} pieces; the limit is order {P_MATRIX_LIMIT}"
        )
    M = as_array(A).reshape(-1, n, n) + np.eye(n)
    bound = EPSILON * np.abs(M)  # of adding 1
    if error is not None:
        bound = bound + as_array(error).reshape(-1, n, n)
    signs, subset = np.empty(len(M), np.int64), np.zeros((len(M), n), np.bool_)

    def part(own: slice) -> None:
        work, doubt, stage = np.empty((n + 1, n, n)), np.empty((n + 1, n, n)), np.empty(n + 1, np.int64)
        signs_of_minors(M[own], bound[own], signs[own], subset[own], work, doubt, stage)

    spread(part, len(M), 30.0 * len(M) * 2**n)
    batch = A.shape[:-2]
    device = A.device
    return PMatrixTest(
        torch.from_numpy(signs).reshape(batch).to(device), torch.from_numpy(subset).reshape(*batch, n).to(device)
    )


def is_p_matrix(A: Tensor, error: Tensor | None = None) -> Tensor:
    """Decide that M = I + A is a P-matrix: necessary and sufficient for one solution for every c.

    Minors are looked at only where M is not monotone, which makes it a P-matrix without.

    Raises:
        ValueError: if the order is past the limit of the exact test.

    >>> is_p_matrix(torch.tensor([[0.0, -3.0], [3.0, 0.0]])), is_p_matrix(torch.tensor([[0.0, 3.0], [3.0, 0.0]]))
    (tensor(True), tensor(False))
    """
    holds = is_monotone(A, error)
    rest = ~holds
    holds[rest] = p_matrix_test(A[rest], None if error is None else error[rest]).signs == POSITIVE
    return holds


@compiled
def signs_of_minors(
    M: np.ndarray,
    bound: np.ndarray,
    signs: np.ndarray,
    subset: np.ndarray,
    work: np.ndarray,
    error: np.ndarray,
    stage: np.ndarray,
) -> None:
    """Run the test for every matrix (cases, n, n), and write signs and subset; the rest is room to work in."""
    n = M.shape[1]
    for case in range(len(M)):
        for i in range(n):
            for j in range(n):
                work[0, i, j], error[0, i, j] = M[case, i, j], bound[case, i, j]
        signs[case] = sign_of_minors(work, error, stage, subset, case)


@compiled
def sign_of_minors(work: np.ndarray, error: np.ndarray, stage: np.ndarray, subset: np.ndarray, case: int) -> int:
    """Walk the binary tree of Schur complements of work[0] depth first; return the sign of the smallest minor.

    Level k holds, in rows and columns k to n − 1, the Schur complement of the members chosen among the first k.
    """
    n = work.shape[1]
    sign = POSITIVE
    level = 0
    stage[0] = 0
    while level >= 0:
        if level == n or stage[level] == 2:
            level -= 1
            continue
        k = level
        if stage[k] == 0:  # with row k, if its pivot is positive
            stage[k] = 1
            pivot, doubt = work[k, k, k], error[k, k, k]
            if pivot < -doubt:
                for i in range(n):
                    subset[case, i] = (i < k and stage[i] == 1) or i == k
                return NEGATIVE
            if not pivot > doubt:
                sign = UNDECIDED
                continue
            complement(work, error, k)
        else:  # without row k
            stage[k] = 2
            for i in range(k + 1, n):
                for j in range(k + 1, n):
                    work[k + 1, i, j], error[k + 1, i, j] = work[k, i, j], error[k, i, j]
        level += 1
        stage[level] = 0
    return sign


@compiled
def complement(work: np.ndarray, error: np.ndarray, k: int) -> None:
    """Write the Schur complement of entry (k, k) of level k into level k + 1, with bounds of its entries' errors."""
    n = work.shape[1]
    pivot, doubt = work[k, k, k], error[k, k, k]
    for i in range(k + 1, n):
        factor = work[k, i, k] / pivot
        size = abs(factor)
        wrong = (error[k, i, k] + size * doubt + TINY) / (pivot - doubt) + 4 * EPSILON * size + TINY
        for j in range(k + 1, n):
            entry = work[k, i, j] - factor * work[k, k, j]
            work[k + 1, i, j] = entry
            spread_error = error[k, i, j] + (size + wrong) * error[k, k, j] + wrong * abs(work[k, k, j])
            error[k + 1, i, j] = spread_error + 2 * EPSILON * (abs(entry) + size * abs(work[k, k, j])) + TINY
