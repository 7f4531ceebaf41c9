"""Conditions proved by Cholesky factorizations: of large matrices in a tenth of the time that spectra take.

If the factorization of H − cI runs to its end in floating point, H is positive definite, where c is as large as what
rounding, in the factorization and in H itself, may take from its smallest eigenvalue.

Source: Rump, BIT 46 (2006) 433–452, theorem 2.3.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.linalg.lapack import dpotrf
from torch import Tensor

from replication.compiled import EPSILON
from replication.conditions import TINY
from replication.operators import Dense

LARGEST = 1 / (100 * EPSILON)  # order below which the bound holds as it is written
SPECTRA = 256  # order up to which eigenvalues and singular values are computed at once, which say more


def covering(n: int, trace: float, doubt: float) -> float:
    """Return what is subtracted from the diagonal of a symmetric matrix H before it is factorized.

    λmin(H) > c − (n + 1)ε·trace(H − cI)/(1 − …) if the factorization of H − cI ends; c exceeds this by the doubt.

    Args:
        n: the order.
        trace: of H, as computed.
        doubt: bound of the norm of H's error.
    """
    return (n + 3) * EPSILON * 1.01 * trace + doubt * (1 + n * EPSILON) + n**2 * TINY + EPSILON * trace


def is_positive_definite(H: Tensor, doubt: float) -> bool:
    """Prove that every symmetric matrix within `doubt` of H (n, n), in the spectral norm, is positive definite.

    H is symmetric, in float64 on the CPU, and is overwritten.
    """
    n, diagonal = len(H), H.diagonal()
    if not ((diagonal > 0).all() and n < LARGEST):
        return False
    diagonal -= covering(n, float(diagonal.sum()), doubt)
    factor, info = dpotrf(H.numpy().T, lower=1, clean=0, overwrite_a=1)
    return bool(info == 0 and np.isfinite(factor.diagonal()).all())  # not every LAPACK stops at what is no number


def sums_of_errors(W1: Dense, W2: Dense) -> tuple[Tensor, Tensor]:
    """Bound the sums of rows and of columns of `product_error`, (h,) each, without its product of matrices."""
    first, second = W1.weight.double().abs(), W2.weight.double().abs()
    h, d = first.shape
    share, lost = 1.01 * (d + 1) * EPSILON, 2.0 * h * d * TINY
    ones = first.new_ones(h)
    return share * (first @ (second @ ones)) + lost, share * (second.mT @ (first.mT @ ones)) + lost


def is_below_one(A: Tensor, rows: Tensor, columns: Tensor) -> bool:
    """Prove ‖A‖₂ < 1 by I − AᵀA.

    Args:
        A: (n, n) in float64, on the CPU.
        rows, columns: sums of entrywise bounds of its error, (n,) each.
    """
    n, size = len(A), A.abs()
    edge = 1 - 1.01 * math.sqrt(float(rows.amax()) * float(columns.amax()))
    if not edge > 0:
        return False
    rounding = 1.01 * (n + 1) * EPSILON * float((size.mT @ size.sum(1)).amax()) + 2.0 * n**2 * TINY
    H = -(A.mT @ A)
    H.diagonal().add_(edge**2)
    return is_positive_definite(H, rounding + 8 * EPSILON)


def has_positive_sum(A: Tensor, rows: Tensor, columns: Tensor) -> bool:
    """Prove that M + Mᵀ is positive definite, M = I + A; arguments as for `is_below_one`."""
    H = A + A.mT
    rounding = 4 * EPSILON * (float(H.abs().sum(1).amax()) + 2)
    H.diagonal().add_(2)
    return is_positive_definite(H, rounding + 1.01 * float((rows + columns).amax()))
