"""Gordan's alternative: rows are all negative at some point, or a nonnegative combination of them is zero."""

from __future__ import annotations

import numpy as np
from scipy.optimize import nnls

from replication.compiled import EPSILON
from replication.relu_layers.elimination import eliminated

PREFERENCE = 4.0  # factor of columns that are preferred: any above 1 halves the systems of `FlatSearch`


def negative_point(
    rows: np.ndarray, n: int, preferred: np.ndarray | None = None
) -> tuple[np.ndarray | None, np.ndarray]:
    """Return an input (n,) at which rows (k, d) are negative, or None and the indices of a combination that forbids it.

    The nonnegative least squares ‖Σ λⱼrⱼ‖² + (Σ λⱼ − 1)² → min have a residual δ = 1 − Σ λⱼ that is positive iff there
    is such a point, and then ⟨rⱼ, −Σ λᵢrᵢ⟩ ≤ −δ for all rows.

    Args:
        rows: weights, or with d = n + 1 weights and biases, the last coordinate of the point to be positive.
        n: number of inputs.
        preferred: rows (k,) that the combination is to be made of where there is a choice; none if None.

    Returns:
        The point, or the indices with the largest coefficients first.

    >>> point, _ = negative_point(np.array([[1.0, 0.0], [0.0, 1.0]]), 2)
    >>> bool((point < 0).all())
    True
    >>> negative_point(np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]]), 2)
    (None, array([0, 2]))
    """
    k, d = rows.shape
    system, last = np.ones((d + 1, k)), np.zeros(d + 1)
    system[:-1], last[-1] = rows.T, 1
    factors = np.ones(k) if preferred is None else np.where(preferred, PREFERENCE, 1.0)  # larger columns come in first
    try:
        weights = factors * nnls(system * factors, last, maxiter=100 * k + 100)[0]
    except RuntimeError:  # no convergence
        return None, np.empty(0, dtype=int)
    point = -(rows.T @ weights)
    rounding = 8 * d * EPSILON * np.abs(rows) @ np.abs(point)
    if (rows @ point < -rounding).all() and weights.sum() < 1 - 8 * d * EPSILON:
        return (point[:n] / point[n] if d > n else point), np.empty(0, dtype=int)
    support = np.flatnonzero(weights)
    return None, support[np.argsort(-weights[support], kind="stable")]


def is_dependence(rows: np.ndarray) -> bool:
    """Decide for certain whether Σ λᵢ·rowᵢ = 0 for some λ ≥ 0, λ ≠ 0, of rows (k, d).

    By floating-point numbers with a verified error bound where k = d + 1 and λ > 0, else in rational arithmetic.

    >>> is_dependence(np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, -1.0]])), is_dependence(np.eye(2))
    (True, False)
    """
    return has_verified_dependence(rows) or has_exact_dependence(rows)


def has_verified_dependence(rows: np.ndarray) -> bool:
    """Verify in floating-point numbers that Σ λᵢ·rowᵢ = 0 with λ > 0, of k = d + 1 rows (k, d).

    λ solves Sλ = e, which are these equations and Σ λᵢ = 1. With a computed inverse R and ‖I − RS‖ < ½ in the maximum
    norm, what is computed as λ is off by at most 2·max|R||Sλ − e|. False decides nothing.

    >>> has_verified_dependence(np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, -1.0]]))
    True
    """
    k, d = rows.shape
    if k != d + 1:
        return False
    system = np.ones((k, k))
    system[:-1] = rows.T
    try:
        inverse = np.linalg.inv(system)
    except np.linalg.LinAlgError:
        return False
    weights, rounding, of_inverse, of_system = inverse[:, -1], 2 * (k + 1) * EPSILON, np.abs(inverse), np.abs(system)
    off = system @ weights
    off[-1] -= 1
    off = np.abs(off) + rounding * (of_system @ of_inverse[:, -1])
    gap = inverse @ system
    gap.flat[:: k + 1] -= 1
    gap = np.abs(gap) + rounding * (of_inverse @ of_system)
    return bool(gap.sum(axis=1).max() < 0.5 and weights.min() > 2 * (of_inverse @ off).max())


def has_exact_dependence(rows: np.ndarray) -> bool:
    """Decide in rational arithmetic whether the one dependence of rows (k, d), up to a factor, has one sign.

    False also where they have none or several.

    >>> has_exact_dependence(np.array([[1.0, 0.0], [-2.0, 0.0]])), has_exact_dependence(np.array([[1.0], [1.0]]))
    (True, False)
    """
    work, pivots = eliminated(rows)
    free = [column for column in range(len(rows)) if column not in pivots]
    return len(free) == 1 and all(work[i][free[0]] <= 0 for i in range(len(pivots)))
