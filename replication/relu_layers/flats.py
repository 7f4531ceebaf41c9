"""The exact test of small ReLU layers: a search over the flats that active rows may span."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from replication.compiled import EPSILON
from replication.relu_layers.collisions import Pair, colliding_pair, refuted
from replication.relu_layers.gordan import is_dependence, negative_point
from replication.relu_layers.layer import Layer
from replication.relu_layers.verdict import SpanningTest


def by_flats(layer: Layer) -> SpanningTest:
    """Decide exactly, by a search over the flats that active rows may span (`FlatSearch`).

    >>> import torch
    >>> by_flats(Layer.of(torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]]), None)).reason
    "No cell's active rows lie in a hyperplane (4 rows, 2 columns, 3 systems solved)."
    """
    search = FlatSearch(layer)
    pair = search.violation()
    if pair is not None:
        return refuted(layer, pair)
    m, n = layer.W.shape
    if search.certain:
        reason = f"No cell's active rows lie in a hyperplane ({m} rows, {n} columns, {search.systems} systems solved)."
        return SpanningTest(True, "directed_spanning_set", reason)
    return SpanningTest(None, None, f"For {m} rows and {n} columns a cell is too thin to be told from rounding.")


@dataclass(frozen=True)
class Flat:
    """The span of some rows.

    Attributes:
        basis: orthonormal (k, n).
        doubt: bound of the rounding error of a distance from it.

    >>> flat = Flat(np.empty((0, 2)), 0.0).joined(np.array([3.0, 4.0]))
    >>> flat.basis.tolist(), flat.distances(np.array([[4.0, -3.0], [6.0, 8.0]])).round(9).tolist()
    ([[0.6, 0.8]], [5.0, 0.0])
    """

    basis: np.ndarray
    doubt: float

    def distances(self, U: np.ndarray) -> np.ndarray:
        """Return the distance of rows (m, n) from the flat (m,)."""
        outside = U - (U @ self.basis.T) @ self.basis
        distances: np.ndarray = np.linalg.norm(outside, axis=1)
        return distances

    def joined(self, u: np.ndarray) -> Flat:
        """Return the flat that also holds u (n,), which lies outside it for certain."""
        q = u - self.basis.T @ (self.basis @ u)
        q -= self.basis.T @ (self.basis @ q)
        distance = float(np.linalg.norm(q))
        doubt = self.doubt + 2 * (self.doubt + 8 * len(u) * EPSILON) / distance
        return Flat(np.concatenate([self.basis, q[None] / distance]), doubt)


class FlatSearch:
    """Look for an input whose active rows all lie in one flat F of dimension below n.

    Such an input has ⟨wⱼ,x⟩ + bⱼ < 0 for all rows outside F. Begin with F = {0}. If the rows outside F cannot all be
    negative, some λ ≥ 0, λ ≠ 0 proves it, Σⱼ λⱼ(wⱼ, bⱼ) = (0, β) with β ≥ 0, with at most n + 1 positive λⱼ (Gordan,
    Carathéodory); one of *these* rows must be active, so that it lies in F: try each in turn, and keep those tried
    before negative. F gains a dimension each time, so at most (n + 1)ⁿ⁻¹ systems, whatever m, decide; degenerate
    configurations need no care. Rows that are negative already need no try, so λ is made of these where it can be, and
    the row of the largest λⱼ is tried first: this takes less than half the systems for Gaussian rows.

    What is certain: that rows outside F, whose distance exceeds its rounding error, lie outside; rows in doubt are
    dropped, which only makes violations easier to find. The combination λ is verified (`is_dependence`); what cannot be
    verified makes the search uncertain. A violation is verified by `colliding_pair`.

    Attributes:
        certain: whether every step so far was verified.
        systems: solved so far.

    >>> import torch
    >>> search = FlatSearch(Layer.of(torch.tensor([[2.0], [-1.0]]), None))
    >>> search.violation(), search.certain, search.systems
    (None, True, 1)
    """

    def __init__(self, layer: Layer) -> None:
        self.layer, self.U = layer, layer.unit_rows
        m, n = layer.W.shape
        rows = np.concatenate([layer.W, layer.b[:, None]], axis=1)
        # the last row makes the last coordinate positive; without biases it would have no effect
        self.rows = np.concatenate([rows, -np.eye(n + 1)[-1:]]) if layer.b.any() else layer.W
        self.always = np.arange(len(self.rows)) >= m
        self.certain, self.systems = True, 0

    def violation(self) -> Pair | None:
        """Return a colliding pair, or None."""
        n = self.layer.W.shape[1]
        return self.visit(Flat(np.empty((0, n)), 0.0), self.always)

    def visit(self, flat: Flat, negative: np.ndarray) -> Pair | None:
        """Search below a flat, with the rows (rows,) that must be negative even where they lie in it."""
        n = self.layer.W.shape[1]
        inside = np.zeros(len(self.rows), dtype=bool)
        inside[: len(self.U)] = flat.distances(self.U) <= 2 * flat.doubt + 8 * n * EPSILON
        wanted = np.flatnonzero(~inside | negative)
        self.systems += 1
        x, support = negative_point(self.rows[wanted], n, negative[wanted])
        if x is not None:
            pair = colliding_pair(self.layer, x)
            self.certain &= pair is not None
            return pair
        support = wanted[support]
        self.certain &= is_dependence(self.rows[support])
        if len(flat.basis) == n - 1:
            return None
        negative = negative.copy()
        for row in support[~negative[support]]:
            pair = self.visit(flat.joined(self.U[row]), negative)
            if pair is not None:
                return pair
            negative[row] = True
        return None
