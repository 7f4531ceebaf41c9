"""The arrangement of a ReLU layer without biases: which rows are active in the cells at its rays."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations, islice

import numpy as np

from replication.compiled import EPSILON
from replication.relu_layers.elimination import eliminated
from replication.relu_layers.layer import Layer, unit
from replication.relu_layers.singular_values import least_of_grams

BATCH = 8192
DOUBTFUL = 1000  # sets of hyperplanes, nearly dependent, that are decided in rational arithmetic: half a second


@dataclass(frozen=True)
class Lines:
    """The hyperplanes of a layer without biases: rows of one direction, up to sign, share one.

    Attributes:
        rows: one of each (lines, n).
        line: of every row of the layer (m,).
        sign: of every row along that of its line (m,).

    >>> import torch
    >>> lines = Lines.of(Layer.of(torch.tensor([[1.0, 0.0], [0.0, 1.0], [-2.0, 0.0]]), None))
    >>> lines.rows.tolist(), lines.line.tolist(), lines.sign.tolist(), lines.two_sided.tolist()
    ([[1.0, 0.0], [0.0, 1.0]], [0, 1, 0], [1.0, 1.0, -1.0], [True, False])
    """

    rows: np.ndarray
    line: np.ndarray
    sign: np.ndarray

    @classmethod
    def of(cls, layer: Layer) -> Lines:
        """Group the rows of a layer."""
        _, first, line = np.unique(layer.line, return_index=True, return_inverse=True)
        return cls(layer.W[first], line, layer.sign * layer.sign[first][line])

    @property
    def two_sided(self) -> np.ndarray:
        """Whether there are rows on both sides (lines,)."""
        sides = [np.bincount(self.line[self.sign == side], minlength=len(self.rows)) > 0 for side in (1, -1)]
        return sides[0] & sides[1]


def over_rays(layer: Layer, lines: Lines) -> tuple[float, np.ndarray | None]:
    """Bound σ from below by the cells at rays of the arrangement; return its active rows (m,) too where it is σ.

    Every cell has a ray r, where n − 1 independent hyperplanes meet; its active rows are those with ⟨wⱼ,r⟩ > 0 and, of
    the hyperplanes through r, those on the cell's side. Where just n − 1 pass, each combination of sides has a cell,
    and the least σmin is exact; where more pass, or may within rounding, only the rows of n − 1 of them are counted,
    which bounds σ from below. Hyperplanes that are too nearly dependent for their ray leave σ = 0 as the bound, unless
    they are so exactly: then other sets have the rays.

    >>> import torch
    >>> layer = Layer.of(torch.tensor([[2.0, 0.0], [0.0, 3.0], [-1.0, 0.0], [0.0, -4.0]]), None)
    >>> least, active = over_rays(layer, Lines.of(layer))
    >>> round(least, 6), int(active.sum())
    (1.0, 2)
    """
    least, fewest, simple = np.inf, None, True
    doubtful = 0
    products = layer.original[:, :, None] * layer.original[:, None, :]
    for chosen in batches(len(lines.rows), layer.W.shape[1] - 1):
        r, doubt = rays(lines, chosen)
        unclear = doubt > 0.5
        doubtful += int(unclear.sum())
        if doubtful > DOUBTFUL or any(len(eliminated(lines.rows[c])[1]) == len(c) for c in chosen[unclear]):
            return 0.0, None
        side, unique = sides_at(lines, chosen[~unclear], r[~unclear], doubt[~unclear])
        simple &= unique
        for active in active_beside(lines, chosen[~unclear], side):
            values = least_of_grams(np.tensordot(active.astype(float), products, axes=1), len(layer.W))
            if len(values) and values.min() < least:
                least, fewest = float(values.min()), active[values.argmin()]
    if fewest is None:  # no set is independent, so that the rows do not span
        return 0.0, None
    return least, fewest if simple else None


def rays(lines: Lines, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return where sets of n − 1 lines (sets, n − 1) meet, r (sets, n), and bounds of its rounding error (sets,).

    >>> r, doubt = rays(Lines(np.eye(3), np.arange(3), np.ones(3)), np.array([[0, 2]]))
    >>> np.abs(r).round(9).tolist(), bool(doubt[0] < 1e-12)
    ([[0.0, 1.0, 0.0]], True)
    """
    n = lines.rows.shape[1]
    _, sigma, Vt = np.linalg.svd(unit(lines.rows)[chosen], full_matrices=True)
    with np.errstate(divide="ignore"):
        return Vt[:, -1], 8 * n**2 * EPSILON / sigma.min(axis=1, initial=1)


def sides_at(lines: Lines, chosen: np.ndarray, r: np.ndarray, doubt: np.ndarray) -> tuple[np.ndarray, bool]:
    """Return the sides 1 or −1 of rays (sets, n) on all lines, 0 on those that may pass through them (sets, lines).

    And whether these are the chosen ones alone.

    >>> lines = Lines(np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]), np.arange(3), np.ones(3))
    >>> side, unique = sides_at(lines, np.array([[0]]), np.array([[0.0, -1.0]]), np.array([1e-12]))
    >>> side.tolist(), unique
    ([[0.0, -1.0, -1.0]], True)
    """
    along = r @ unit(lines.rows).T
    through = np.abs(along) <= doubt[:, None]
    np.put_along_axis(through, chosen, True, axis=1)
    return np.where(through, 0, np.sign(along)), bool((through.sum(axis=1) == chosen.shape[1]).all())


def batches(lines: int, size: int) -> Iterator[np.ndarray]:
    """Yield all sets of `size` lines, many at a time (sets, size).

    >>> [sets.tolist() for sets in batches(3, 2)]
    [[[0, 1], [0, 2], [1, 2]]]
    """
    sets = combinations(range(lines), size)
    while part := list(islice(sets, BATCH)):
        yield np.array(part, dtype=int).reshape(len(part), size)


def active_beside(lines: Lines, chosen: np.ndarray, side: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the rows active (sets, m) in the cells at rays and their opposites, for all sides of the chosen lines.

    Of a line with rows on one side only, the side without rows is enough: more rows do not lower σmin.

    Args:
        lines: all lines.
        chosen: those that meet in each ray (sets, n − 1).
        side: of the rays on all lines (sets, lines).

    >>> lines = Lines(np.eye(2), np.array([0, 1, 0]), np.array([1.0, 1.0, -1.0]))
    >>> [active.tolist() for active in active_beside(lines, np.array([[0]]), np.array([[0.0, 1.0]]))]
    [[[True, True, False]], [[True, False, False]], [[False, True, True]], [[False, False, True]]]
    """
    two_sided = lines.two_sided
    for pattern in range(2 ** chosen.shape[1] if two_sided.any() else 1):
        own = np.array([1 - 2 * (pattern >> place & 1) for place in range(chosen.shape[1])], dtype=int)
        for of_ray in (side, -side):
            beside = of_ray.copy()
            np.put_along_axis(beside, chosen, own * two_sided[chosen], axis=1)
            yield beside[:, lines.line] * lines.sign > 0
