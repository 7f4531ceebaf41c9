"""Which way the units of a layer point: a linear system whose solution is 0 or 1."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from replication.recovery.oracle import Array

BINARY = 1e-4  # entries farther than this from 0 and 1 betray a wrong network
RANK = 1e-9  # relative singular value below which a system leaves some signs open


def flips(matrix: Array, right: Array) -> tuple[NDArray[np.bool_] | None, float]:
    """Solve matrix·s = right (n,) for s (h,) in {0, 1}.

    relu(−u) = relu(u) − u: a unit that points the other way leaves a linear trace behind, and these traces add up to
    `right`. Where the system has one solution it is near 0 or 1 in every entry, or something is wrong.

    Source: companion E1; derived here.

    Returns:
        The solution, None where it is not determined or not binary, and the largest distance of its entries from 0 and
        1 (NaN where it is not determined).
    """
    if matrix.shape[1] == 0:
        rest = float(np.abs(right).max(initial=0))
        return (np.zeros(0, dtype=bool) if rest < BINARY else None), rest
    scale = np.linalg.norm(matrix, axis=0)
    if matrix.shape[0] < matrix.shape[1] or not scale.all():
        return None, float("nan")
    u, s, v = np.linalg.svd(matrix / scale, full_matrices=False)
    if s[-1] < RANK * s[0]:
        return None, float("nan")
    solution = (v.T @ ((u.T @ right) / s)) / scale
    residual = np.abs(matrix @ solution - right).max() / scale.max()
    defect = float(max(np.minimum(np.abs(solution), np.abs(solution - 1)).max(), residual))
    return (solution > 0.5 if defect < BINARY else None), defect
