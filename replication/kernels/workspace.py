"""The room that the compiled loops work in, since they cannot allocate."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from replication.kernels.elimination import width


class Workspace(NamedTuple):
    """Arrays for one walk at a time over the pieces of an equation of order n.

    Attributes:
        active: the piece S, (n,) bool.
        members: the coordinates of S, then the others, (n + 1,).
        K: M[S,S] and c_S, and what elimination leaves of them, (n, width(n)).
        v: the solution z_S, (n,).
        slack: the rounding to be expected in each coordinate, (n,).
        best: the point of smallest sign error so far, (n,).
        smallest: that error, (1,).
        anchor: a piece met earlier, (n,) bool.
        ages: how many pieces ago that was, and how many it may be, (2,).
        tableau: of Lemke's method, (n, padded(n + 2)).
        pivot_row: the row that is subtracted from the others, (padded(n + 2),).
        basis: the basic variables, (n,).
        place: the column of every other variable, (2n + 1,).
    """

    active: np.ndarray
    members: np.ndarray
    K: np.ndarray
    v: np.ndarray
    slack: np.ndarray
    best: np.ndarray
    smallest: np.ndarray
    anchor: np.ndarray
    ages: np.ndarray
    tableau: np.ndarray
    pivot_row: np.ndarray
    basis: np.ndarray
    place: np.ndarray


def padded(numbers: int) -> int:
    """Return a number of columns that leaves no rest where they are taken by eights."""
    return -(-numbers // 8) * 8


def workspace(n: int) -> Workspace:
    """Return the room for equations of order n."""
    empty, integer, truth = np.empty, np.int64, np.bool_
    return Workspace(
        empty(n, truth),
        empty(n + 1, np.uint64),
        empty((n, width(n))),
        empty(n),
        empty(n),
        empty(n),
        empty(1),
        empty(n, truth),
        empty(2, integer),
        empty((n, padded(n + 2))),
        empty(padded(n + 2)),
        empty(n, integer),
        empty(2 * n + 1, integer),
    )
