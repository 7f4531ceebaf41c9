"""The rows of a ReLU layer as the tests take them: in float64, those that are parallel to rounding made so exactly."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from replication.checks import checked_layer
from replication.compiled import EPSILON, as_array

LARGEST = 1e150  # norm of a row, or its inverse, whose square is still a number
SLACK = 4  # roundings of W's dtype by which entries of parallel rows may differ: of both rows, their ratio and product
FAR = 1e3  # how far out directions are tried where there are biases, relative to them


@dataclass(frozen=True)
class Layer:
    """The rows of a layer as the tests take them, in float64.

    Rows that are parallel or opposite to the rounding of their entries (`parallel_rows`) are made so exactly.

    Attributes:
        W: rows that are not zero, each scaled to a norm between 1 and 2, by a power of two but for rows that are
            multiples of an earlier one: of these ± the earlier row (m, n).
        b: their biases, scaled alike (m,).
        factors: by which the rows are multiplied to be those that came (m,).
        line: the first row that each is parallel or opposite to, itself if there is none (m,).
        sign: along that row (m,).
        moved: ‖ΔW‖ and ‖Δb‖ by which the rows that came and their biases were moved for that.

    >>> layer = Layer.of(torch.tensor([[3.0, 3.0], [0.0, 0.0], [-6.0, -6.0]]), torch.tensor([3.0, 1.0, 2.0]))
    >>> layer.W.tolist(), layer.b.tolist(), layer.factors.tolist()
    ([[0.75, 0.75], [-0.75, -0.75]], [0.75, 0.25], [4.0, 8.0])
    >>> layer.opposite().tolist()
    [[0, 1]]
    """

    W: np.ndarray
    b: np.ndarray
    factors: np.ndarray
    line: np.ndarray
    sign: np.ndarray
    moved: tuple[float, float]

    @classmethod
    def of(cls, W: Tensor, b: Tensor | None) -> Layer:
        """Take a weight (m, n) and a bias (m,) or None.

        Raises:
            TypeError, ValueError: as `checked_layer`.
        """
        W, b = checked_layer(W, b)
        rows, biases = as_array(W), as_array(b)
        kept = np.abs(rows).max(axis=1, initial=0) > 0
        rows, biases = rows[kept], biases[kept]
        norms = checked_norms(rows, biases)

        rounding = SLACK * torch.finfo(W.dtype).eps
        line, ratio = parallel_rows(rows, rounding)
        sign = np.sign(ratio)
        factors = np.exp2(np.floor(np.log2(norms)))[line] * np.abs(ratio)
        scaled = sign[:, None] * (rows / factors[:, None])[line]
        shifts = with_common_biases(biases / factors, line, sign, rounding)

        follows = line != np.arange(len(line))
        of_rows = distance_moved(rows[follows], (ratio[:, None] * rows[line])[follows])
        of_biases = distance_moved(biases[follows], (shifts * factors)[follows])
        return cls(scaled, shifts, factors, line, sign, (of_rows, of_biases))

    @property
    def unit_rows(self) -> np.ndarray:
        """The rows with norm 1 (m, n)."""
        return unit(self.W)

    @property
    def original(self) -> np.ndarray:
        """The rows with the norms that they came with (m, n)."""
        rows: np.ndarray = self.W * self.factors[:, None]
        return rows

    def select(self, rows: np.ndarray) -> Layer:
        """Keep the marked rows."""
        kept = {name: getattr(self, name)[rows] for name in ("W", "b", "factors", "line", "sign")}
        return replace(self, **kept)

    def opposite(self) -> np.ndarray:
        """Return the pairs (pairs, 2) of rows i < j of opposite direction."""
        lines, counts = np.unique(self.line, return_counts=True)
        shared = np.flatnonzero(np.isin(self.line, lines[counts > 1]))
        line, sign = self.line[shared], self.sign[shared]
        opposite = (line[:, None] == line) & (sign[:, None] != sign)
        return shared[np.argwhere(np.triu(opposite, 1))]

    def far_out(self, directions: np.ndarray) -> np.ndarray:
        """Return points along directions (k, n), so far that biases hardly count."""
        distance = 1 + FAR * float(np.abs(self.b).max(initial=0))
        return distance * directions

    def active(self, x: np.ndarray) -> np.ndarray:
        """Return which rows are active at points x (k, n), or may be: within the rounding error of it (k, m)."""
        size = np.abs(x) @ np.abs(self.W).T + np.abs(self.b)
        active: np.ndarray = x @ self.W.T + self.b >= -(x.shape[1] + 2) * EPSILON * size
        return active


def checked_norms(rows: np.ndarray, biases: np.ndarray) -> np.ndarray:
    """Return the norms (m,) of rows (m, n) that are not zero.

    Raises:
        ValueError: if a norm, or a bias over its norm, is so large or small that its square is no number.

    >>> checked_norms(np.array([[3e140, 4e140]]), np.zeros(1))
    array([5.e+140])
    """
    largest = np.abs(rows).max(axis=1, keepdims=True, initial=0)
    norms: np.ndarray = largest[:, 0] * np.linalg.norm(rows / largest, axis=1)
    if not ((norms >= 1 / LARGEST) & (norms <= LARGEST) & (np.abs(biases) / LARGEST <= norms)).all():
        raise ValueError(
            f"the norms of W's rows must lie between {1 / LARGEST:g} and {LARGEST:g}, and biases must be less than "
            f"{LARGEST:g} times as large; scale both row by row, which changes no verdict"
        )
    return norms


def distance_moved(before: np.ndarray, after: np.ndarray) -> float:
    """Bound ‖after − before‖, whatever their scale, the rounding of both included.

    >>> round(distance_moved(np.array([1e200, 0.0]), np.array([1e200, 3e190])) / 3e190, 3)
    1.0
    """
    return math.hypot(*(np.abs(before - after) + EPSILON * np.abs(before)).flat)


def parallel_rows(rows: np.ndarray, rounding: float) -> tuple[np.ndarray, np.ndarray]:
    """Return for each row (m, n) the first that it is a multiple of, itself if there is none, and the factor (m,).

    Entries may differ by their rounding: |wⱼ − d·wᵢ| ≤ rounding·|wⱼ|, entry by entry.

    >>> first, factor = parallel_rows(np.array([[1.0, 2.0], [0.0, 1.0], [-3.0, -6.0]]), 1e-15)
    >>> first.tolist(), factor.tolist()
    ([0, 1, 0], [1.0, 1.0, -3.0])
    """
    U = unit(rows / np.abs(rows).max(axis=1, keepdims=True, initial=0))
    near = np.triu(np.abs(U @ U.T) > 1 - 1e-6, 1)  # far beyond the rounding: to look at few pairs
    first, ratio = np.arange(len(rows)), np.ones(len(rows))
    for j in np.flatnonzero(near.any(axis=0)):
        for i in np.flatnonzero(near[:, j] & (first == np.arange(len(rows)))):
            largest = np.abs(rows[i]).argmax()
            d = rows[j, largest] / rows[i, largest]
            if (np.abs(rows[j] - d * rows[i]) <= rounding * np.abs(rows[j])).all():
                first[j], ratio[j] = i, d
                break
    return first, ratio


def with_common_biases(b: np.ndarray, line: np.ndarray, sign: np.ndarray, rounding: float) -> np.ndarray:
    """Return biases (m,), those on a line that name one hyperplane to rounding made equal, but for the sign.

    >>> b, line, sign = np.array([1.0, 5.0, -1.0000001]), np.array([0, 1, 0]), np.array([1.0, 1.0, -1.0])
    >>> with_common_biases(b, line, sign, 1e-6).tolist()
    [1.0, 5.0, -1.0]
    """
    b = b.copy()
    for j in np.flatnonzero(line != np.arange(len(line))):
        along = sign[j] * sign[:j] * b[:j]
        same = np.flatnonzero((line[:j] == line[j]) & (np.abs(b[j] - along) <= rounding * np.abs(along)))
        b[j] = along[same[0]] if len(same) else b[j]
    return b


def unit(x: np.ndarray) -> np.ndarray:
    """Return rows (k, n) of norm 1, those of zeros as they are.

    >>> unit(np.array([[3.0, 4.0], [0.0, 0.0]])).tolist()
    [[0.6, 0.8], [0.0, 0.0]]
    """
    length = np.linalg.norm(x, axis=1, keepdims=True)
    return x / np.where(length > 0, length, 1)
