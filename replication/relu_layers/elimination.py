"""Reduced echelon forms in rational arithmetic."""

from __future__ import annotations

from fractions import Fraction

import numpy as np


def eliminated(rows: np.ndarray) -> tuple[list[list[Fraction]], list[int]]:
    """Return the reduced echelon form of the transpose of rows (k, d) in rational arithmetic, and its pivot columns.

    >>> work, pivots = eliminated(np.array([[1.0, 0.0], [2.0, 0.0], [3.0, 4.0]]))
    >>> [[str(value) for value in row] for row in work], pivots
    ([['1', '2', '0'], ['0', '0', '1']], [0, 2])
    """
    k, d = rows.shape
    work = [[Fraction(value) for value in column] for column in rows.T.tolist()]
    pivots: list[int] = []
    for column in range(k):
        place = next((i for i in range(len(pivots), d) if work[i][column] != 0), None)
        if place is None:
            continue
        top = len(pivots)
        work[top], work[place] = work[place], work[top]
        work[top] = [value / work[top][column] for value in work[top]]
        for i in range(d):
            if i != top and work[i][column] != 0:
                work[i] = [a - work[i][column] * p for a, p in zip(work[i], work[top], strict=True)]
        pivots.append(column)
    return work, pivots
