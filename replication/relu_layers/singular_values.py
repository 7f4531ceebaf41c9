"""Smallest singular values of sets of rows, less or with their rounding errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from replication.compiled import EPSILON


def least_of_rows(rows: np.ndarray) -> tuple[float, float]:
    """Return σmin of rows (k, n), less and with its rounding error; 0 for certain where k < n.

    >>> lower, upper = least_of_rows(np.diag([1.0, 3.0]))
    >>> lower < 1 < upper < lower + 1e-12, least_of_rows(np.ones((1, 2)))
    (True, (0.0, 0.0))
    """
    k, n = rows.shape
    if k < n:
        return 0.0, 0.0
    sigma = np.linalg.svd(rows, compute_uv=False)
    rounding = 4 * k * EPSILON * sigma[0]
    return max(0.0, float(sigma[-1] - rounding)), float(sigma[-1] + rounding)


def least_of_sets(W: Tensor, sets: Tensor) -> Tensor:
    """Return σmin of the rows of W (m, n) that are marked in each set (sets, m), less its rounding error (sets,).

    >>> W = torch.tensor([[2.0, 0.0], [0.0, 4.0], [0.0, 3.0]]).double()
    >>> least_of_sets(W, torch.tensor([[True, True, True], [False, True, True]])).round(decimals=9)
    tensor([2., 0.], dtype=torch.float64)
    """
    values = [torch.linalg.eigvalsh((part.to(W.dtype)[:, :, None] * W).mT @ W) for part in sets.split(64)]
    least: Tensor = root_less_rounding(torch.cat(values), len(W))
    return least


def least_of_grams(grams: np.ndarray, terms: int) -> np.ndarray:
    """Return σmin of row sets with Gram matrices WᵀW (k, n, n), sums of `terms` rows, less its rounding error (k,).

    >>> least_of_grams(np.array([np.eye(2), [[1.0, 1.0], [1.0, 1.0]]]), 2).round(9).tolist()
    [1.0, 0.0]
    """
    bounds: np.ndarray = root_less_rounding(np.linalg.eigvalsh(grams), terms)
    return bounds


def root_less_rounding(values: Any, terms: int) -> Any:
    """Return √λmin of computed eigenvalues (k, n) of Gram matrices, an array or a tensor, less its rounding error (k,).

    Errors are ε times those of the eigenvalues, n¹·⁵λmax, and of the sums, `terms` times the trace.

    >>> root_less_rounding(np.array([[4.0, 9.0], [-1e-20, 9.0]]), 2).round(9).tolist()
    [2.0, 0.0]
    """
    rounding = EPSILON * (8 * values.shape[-1] ** 1.5 * values[:, -1] + (terms + 2) * values.sum(-1))
    return (values[:, 0] - rounding).clip(min=0) ** 0.5
