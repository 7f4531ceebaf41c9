"""What a matrix M = I + A says: which condition makes it a P-matrix, or which principal minor is negative."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from replication.certification.diagonal_stability import diagonally_stable
from replication.certification.factorizations import SPECTRA, has_positive_sum, is_below_one
from replication.certification.p_matrices import p_matrix_search
from replication.compiled import EPSILON
from replication.conditions import (
    NEGATIVE,
    P_MATRIX_LIMIT,
    POSITIVE,
    TINY,
    UNDECIDED,
    all_finite,
    certain_signs,
    is_h_matrix,
    margin,
    p_matrix_test,
    spectral_norm,
    symmetric_minimum,
)
from replication.operators import Dense, norm_from_below
from replication.solvers.blocks import diagonal_blocks

SEARCH_LIMIT = 200  # order up to which minors are looked at by branch and bound
STABLE = "M = I + A is diagonally stable: ΛM + MᵀΛ is positive definite for some Λ"
EVERY_MINOR_LIMIT = 12  # order up to which all minors are computed one by one where the recursive test is undecided


@dataclass(frozen=True)
class Decision:
    """What a matrix M = I + A says: the condition that makes it a P-matrix, or a subset whose minor is negative."""

    condition: str | None
    reason: str
    subset: Tensor | None = None


def below_one(value: float) -> str:
    """Write a number below 1 so that it reads as one."""
    return f"{value:.6g} < 1" if value < 0.99999 else f"1 − {1 - value:.2g} < 1"


def decide(A: Tensor, error: Tensor) -> Decision:
    """Decide whether M = I + A is a P-matrix.

    Args:
        A: (n, n) in float64.
        error: entrywise bound of its error, zero exactly where A is zero by structure.
    """
    if not all_finite(A):
        return Decision(None, "A = W₁W₂ overflows in float64, so that no condition on it can be decided.")
    found = by_factorizations(A, error.sum(1), error.sum(0)) if len(A) > SPECTRA else None
    if found is not None:
        return found
    norm, minimum, off = float(spectral_norm(A)), float(symmetric_minimum(A)), float(margin(A, error))
    if norm + off < 1:
        return Decision("lipschitz", f"‖A‖ = {below_one(norm)}.")
    if minimum - off > -1:
        return Decision("monotone", f"λmin((A + Aᵀ)/2) = {minimum:.6g} > −1, while ‖A‖ = {norm:.6g}.")
    if is_h_matrix(A, error):
        return Decision(
            "h_matrix",
            f"M = I + A is an H-matrix with positive diagonal, while ‖A‖ = {norm:.6g} and λmin((A + Aᵀ)/2) = "
            f"{minimum:.6g}.",
        )
    blocks = diagonal_blocks((A != 0) | (error != 0))
    if len(blocks) > 1:
        return decide_blocks(A, error, blocks)
    return decide_minors(A, error)


def by_factorizations(A: Tensor, rows: Tensor, columns: Tensor) -> Decision | None:
    """Prove that M is the identity and a contraction, or monotone, by Cholesky factorizations; None if that fails.

    Args:
        A: (n, n) in float64.
        rows, columns: sums of entrywise bounds of its error, (n,) each.
    """
    norm = norm_from_below(Dense(A), like=A)
    arguments = A.cpu(), rows.cpu(), columns.cpu()
    if norm < 1 and is_below_one(*arguments):
        return Decision("lipschitz", f"‖A‖ < 1, by a Cholesky factorization of I − AᵀA; ‖A‖ is about {norm:.2g}.")
    if has_positive_sum(*arguments):
        return Decision(
            "monotone", f"λmin((A + Aᵀ)/2) > −1, by a Cholesky factorization, while ‖A‖ is about {norm:.2g}."
        )
    return None


def decide_blocks(A: Tensor, error: Tensor, blocks: list[Tensor]) -> Decision:
    """Decide a block triangular matrix by its diagonal blocks: it is P iff they all are."""
    unknown = None
    for block in blocks:
        rows, columns = block[:, None], block[None, :]
        part = decide(A[rows, columns], error[rows, columns])
        if part.subset is not None:
            subset = torch.zeros(len(A), dtype=torch.bool, device=A.device)
            subset[block] = part.subset
            return replace(part, subset=subset)
        if part.condition is None:
            unknown = part
    largest = max(map(len, blocks))
    shape = f"M = I + A is block triangular with {len(blocks)} diagonal blocks of order {largest} or less"
    if unknown is not None:
        return Decision(None, f"{shape}, of which one is not decided. {unknown.reason}")
    return Decision("triangular", f"{shape}, all of them P-matrices.")


def decide_minors(A: Tensor, error: Tensor) -> Decision:
    """Decide a matrix by its principal minors: all of them up to order P_MATRIX_LIMIT, few of them past it."""
    n = len(A)
    if n > P_MATRIX_LIMIT:
        return decide_large(A, error)
    test = p_matrix_test(A, error)
    if test.signs == UNDECIDED and n <= EVERY_MINOR_LIMIT:
        subset = any_negative_minor(A, error)
        if subset is not None:
            return Decision(None, negative_reason(subset), subset)
    if test.signs == POSITIVE:
        return Decision("p_matrix", f"All {2**n - 1} principal minors of M = I + A are positive.")
    if test.signs == NEGATIVE:
        return Decision(None, negative_reason(test.subset), test.subset)
    return Decision(
        None, "A principal minor of M = I + A is zero to within its rounding error, so its sign is not certain."
    )


def decide_large(A: Tensor, error: Tensor) -> Decision:
    """Decide a matrix past order P_MATRIX_LIMIT: by a few minors, by diagonal stability, by branch and bound."""
    n = len(A)
    subset = negative_minor(A, error)
    if subset is not None:
        return Decision(None, negative_reason(subset), subset)
    M = A + torch.eye(n, dtype=A.dtype, device=A.device)
    stable = diagonally_stable(M, error)
    if stable.sign == POSITIVE:
        return Decision("diagonal_stability", f"{STABLE}.")
    if n > SEARCH_LIMIT:
        return Decision(None, f"Order {n} is past the limit {SEARCH_LIMIT} of the search for a negative minor.")
    search = p_matrix_search(M, error)
    if search.sign == POSITIVE:
        return Decision("p_matrix", "All principal minors of M = I + A are positive, by branch and bound.")
    if search.subset is not None:
        return Decision(None, negative_reason(search.subset.to(A.device)), search.subset.to(A.device))
    return Decision(None, f"Order {n}: whether all minors are positive was not decided by {search.parts} parts.")


def negative_reason(subset: Tensor) -> str:
    """Say which minor is negative."""
    rows = (subset.nonzero().squeeze(1) + 1).tolist()
    named = ", ".join(map(str, rows)) if len(rows) <= 8 else f"{', '.join(map(str, rows[:8]))}, …"
    return f"The principal minor of M = I + A in row{'s' if len(rows) > 1 else ''} {named} is negative"


def negative_minor(A: Tensor, error: Tensor) -> Tensor | None:
    """Look for a negative principal minor of orders 1, 2 and n of M = I + A; return its rows (n,), or None."""
    n = len(A)
    order_two = torch.combinations(torch.arange(n, device=A.device))
    small = p_matrix_test(
        A[order_two[:, :, None], order_two[:, None, :]], error[order_two[:, :, None], order_two[:, None]]
    )
    subset = torch.zeros(n, dtype=torch.bool, device=A.device)
    if (small.signs == NEGATIVE).any():
        first = int((small.signs == NEGATIVE).nonzero()[0])
        subset[order_two[first][small.subset[first]]] = True
        return subset
    return negative_among(A, error, ~subset[None])


def any_negative_minor(A: Tensor, error: Tensor) -> Tensor | None:
    """Return the rows (n,) of a negative principal minor of I + A, from all of them one by one, or None.

    For matrices with zero minors, through which the recursive test cannot look.
    """
    codes = torch.arange(1, 2 ** len(A), device=A.device)
    return negative_among(A, error, (codes[:, None] >> torch.arange(len(A), device=A.device)) % 2 == 1)


def negative_among(A: Tensor, error: Tensor, subsets: Tensor) -> Tensor | None:
    """Return the first of the subsets (k, n) whose principal minor of I + A is negative for certain, or None.

    det M[S,S] = det(I + AD), whose sign is certain if no error within the margin makes I + AD singular.
    """
    pieces = torch.eye(len(A), dtype=A.dtype, device=A.device) + A * subsets[:, None, :]
    negative = certain_signs(pieces, margin(A, error) + len(A) * EPSILON) < 0
    return subsets[negative][0] if negative.any() else None


def product_error(W1: Dense, W2: Dense) -> Tensor:
    """Bound the rounding error of W₁W₂ in float64 entrywise, (h, h): zero exactly where every product is zero."""
    first, second = W1.weight.double(), W2.weight.double()
    possible = (first != 0).double() @ (second != 0).double() > 0
    underflow = possible.double() * (W1.domain[0] * TINY)
    return (W1.domain[0] + 1) * EPSILON * (first.abs() @ second.abs()) + underflow
