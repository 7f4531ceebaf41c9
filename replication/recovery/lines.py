"""The kinks of a piecewise linear function on a segment, by tangents and bisection."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from replication.recovery.oracle import Array, Oracle, RefusedError

NDBool = NDArray[np.bool_]
Ask = Callable[[Array], Array]  # places on a segment, of any shape, to values with one dimension more

HALVINGS = 34
MOST = 1000  # pieces looked at together: more kinks than that are none of a network of moderate size
APART = 1e-7  # kinks that are known are left out with this much of the segment around them
BESIDE = 0.02  # of the spacing of five points: both sides of a kink are looked at no farther from it than this,
SEEN = 64.0  # and where the tangents are this many tolerances apart: two kinks farther off than that are told from one
FIFTHS = np.arange(5) / 4


@dataclass(frozen=True)
class Kinks:
    """The kinks on a segment start + t(end − start), t in [0, 1].

    Attributes:
        t: their places (n,), in order.
        jump: by how much the derivative with respect to t jumps there (n, m).
        left: the piece from t[i] − left[i] to t[i] is linear (n,).
        right: so is that from t[i] to t[i] + right[i] (n,).
        unresolved: intervals (k, 2) in which something bends that is no single kink.
    """

    t: Array
    jump: Array
    left: Array
    right: Array
    unresolved: Array


def kinks_on_segment(oracle: Oracle, start: Array, end: Array, known: Array | None = None) -> Kinks:
    """Find the kinks on a segment.

    An interval is linear if five points of it are; it holds one kink if the function is on the tangents at its ends
    where they meet, right before and right after; else it is halved.

    Source: paper E1 (PointsOnLine, with tangents in place of equal slopes).

    Args:
        oracle: is asked.
        start: (d,).
        end: (d,).
        known: places of kinks in (0, 1) to leave out.

    Raises:
        RefusedError: if there are too many kinks, or the function jumps.
    """
    edges = np.concatenate([[0.0], np.sort(known) if known is not None else [], [1.0]])
    a, width = edges[:-1] + APART, np.diff(edges) - 2 * APART
    a, width = a[width > 0], width[width > 0]

    def ask(t: Array) -> Array:
        values: Array = oracle(start + t.reshape(-1, 1) * (end - start))
        return values.reshape(*t.shape, -1)

    values = ask(a[:, None] + width[:, None] * FIFTHS)
    found: list[tuple[Array, Array]] = []
    for _ in range(HALVINGS):
        a, width, values = bent_pieces(oracle.tolerance, a, width, values)
        if len(a) == 0:
            break
        if len(a) > MOST:
            raise RefusedError("the function bends nearly everywhere on a line, so it is not piecewise linear")
        t, jump, single = single_kinks(oracle, ask, a, width, values)
        found.append((t[single], jump[single]))
        a, width, values = halved(ask, a[~single], width[~single], values[~single])
    if len(a) and np.abs(values[:, 4] - values[:, 0]).max() > 1e-4:
        raise RefusedError("the function jumps, so it is not continuous and piecewise linear")
    return collected(found, oracle.outputs, edges, np.stack([a, a + width], axis=1))


def bent_pieces(tolerance: float, a: Array, width: Array, values: Array) -> tuple[Array, Array, Array]:
    """Return the intervals that are not linear: left ends (n,), widths (n,) and values (n, 5, m)."""
    keep = bends(tolerance, values).any(axis=1)
    return a[keep], width[keep], values[keep]


def bends(tolerance: float, values: Array) -> NDBool:
    """Return at which of the three inner points (n, 3) the values (n, 5, m) bend."""
    second = values[:, :-2] - 2 * values[:, 1:-1] + values[:, 2:]
    bent: NDBool = np.abs(second).max(axis=2) > tolerance
    return bent


def single_kinks(oracle: Oracle, ask: Ask, a: Array, width: Array, values: Array) -> tuple[Array, Array, NDBool]:
    """Return where the end tangents meet (n,), the jump of the derivative (n, m), and whether that is all there is."""
    bent = bends(oracle.tolerance, values)
    left, right = values[:, 1] - values[:, 0], values[:, 4] - values[:, 3]
    jump = right - left
    size = (jump**2).sum(axis=1)
    gap = values[:, 3] - values[:, 1] - 3 * right + left  # of the tangents at 0, in units of the spacing
    place = -(gap * jump).sum(axis=1) / np.where(size > 0, size, 1)
    single = bent[:, 1] & ~(bent[:, 0] & bent[:, 2]) & (size > 0) & (place > 1) & (place < 3)
    t = a + width / 4 * place
    apart = np.abs(jump).max(axis=1)
    single &= apart * BESIDE > 8 * oracle.tolerance
    if single.any():
        beside = np.minimum(SEEN * oracle.tolerance / apart[single], BESIDE)
        around = place[single, None] + beside[:, None] * np.array([-1.0, 0.0, 1.0])
        on_left = values[single, None, 1] + (around[:, :2, None] - 1) * left[single, None]
        on_right = values[single, None, 3] + (around[:, 2:, None] - 3) * right[single, None]
        off = ask(a[single, None] + width[single, None] / 4 * around) - np.concatenate([on_left, on_right], axis=1)
        single[single] = np.abs(off).max(axis=(1, 2)) < 4 * oracle.tolerance
    return t, jump * 4 / width[:, None], single


def halved(ask: Ask, a: Array, width: Array, values: Array) -> tuple[Array, Array, Array]:
    """Return both halves of the intervals, with two new values each."""
    if len(a) == 0:
        return a, width, values
    new = ask(a[:, None] + width[:, None] * (FIFTHS[:4] + 0.125))
    nine = np.empty((len(a), 9, values.shape[2]))
    nine[:, ::2], nine[:, 1::2] = values, new
    both = np.concatenate([nine[:, :5], nine[:, 4:]])
    return np.concatenate([a, a + width / 2]), np.concatenate([width, width]) / 2, both


def collected(found: list[tuple[Array, Array]], outputs: int, edges: Array, unresolved: Array) -> Kinks:
    """Put the kinks in order, and say how far each is from its neighbours and from the ends."""
    t = np.concatenate([t for t, _ in found]) if found else np.empty(0)
    jump = np.concatenate([jump for _, jump in found]) if found else np.empty((0, outputs))
    order = np.argsort(t)
    t, jump = t[order], jump[order]
    walls = np.sort(np.concatenate([edges, t, unresolved.ravel()]))
    before = walls[np.searchsorted(walls, t, side="left") - 1]
    after = walls[np.searchsorted(walls, t, side="right")]
    return Kinks(t, jump, t - before, after - t, unresolved)
