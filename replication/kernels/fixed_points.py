"""Fixed-point iterations of many small units, row by row: a step takes less than torch needs to begin one.

Products are added up as torch does it for matrices so small, and rounded as written, so that rows end as in its loop.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from replication.compiled import as_written, inlined_as_written

LANES = 8  # numbers that a vector unit takes at a time
PARTS = 4  # sums of squares that torch adds up a norm in
RUNNING, MAX_ITERATIONS, STAGNATED, DIVERGED, NOT_FINITE, CONVERGED = range(6)  # how a row ends
TINY, HUGE = 1e4 * float(np.finfo(np.float64).tiny) ** 0.5, np.inf  # norms past which squares under- or overflow


class Units(NamedTuple):
    """f(x) = x + W₂·relu(W₁x + b₁) + b₂, one a row: (rows, h, d), (rows, h), (rows, d, h), (rows, d)."""

    W1: np.ndarray
    b1: np.ndarray
    W2: np.ndarray
    b2: np.ndarray


class Limits(NamedTuple):
    """When a row ends, as `iterate` of solvers/iteration.py has it."""

    tolerance: float
    divergence_factor: float
    patience: int
    max_iterations: int


class Ends(NamedTuple):
    """What is found: the best points (rows, d), their relative residuals, how rows ended and after how many steps."""

    value: np.ndarray
    residual: np.ndarray
    end: np.ndarray
    steps: np.ndarray


class Room(NamedTuple):
    """Arrays for one row at a time; columns, and vectors, are filled up to whole lanes.

    Attributes:
        W1, W2, inverse: transposes (d, ·), (h, ·) and (h, ·).
        x, residual, right: (·) inputs.
        z, t: (·) hidden numbers.
    """

    W1: np.ndarray
    W2: np.ndarray
    inverse: np.ndarray
    x: np.ndarray
    residual: np.ndarray
    z: np.ndarray
    t: np.ndarray


def room(h: int, d: int) -> Room:
    """Return the room for units with h hidden numbers and d inputs."""
    hidden, inputs = (-(-n // LANES) * LANES for n in (h, d))
    matrices = np.zeros((d, hidden)), np.zeros((h, inputs)), np.zeros((h, hidden))
    return Room(*matrices, np.zeros(inputs), np.zeros(inputs), np.zeros(hidden), np.zeros(hidden))


@as_written
def banach_rows(units: Units, y: np.ndarray, scale: np.ndarray, limits: Limits, ends: Ends, room: Room) -> None:
    """Iterate x ← x − (f(x) − y) from x = y (rows, d), with residuals relative to `scale` (rows,)."""
    for row in range(len(y)):
        load(units, row, room)
        for i in range(y.shape[1]):
            room.x[i] = y[row, i]
        first, best, improved, step = np.inf, np.inf, 0, 0
        while True:
            evaluate(units, y, row, room)
            relative = norm(room.residual, y.shape[1]) / scale[row]
            first = relative if step == 0 else first
            if relative < best:
                best, improved = relative, step
                keep(room.x, row, ends)
            end = judge(relative, first, improved, step, limits)
            if end != RUNNING:
                break
            for i in range(y.shape[1]):
                room.x[i] -= room.residual[i]
            step += 1
        ends.residual[row], ends.end[row], ends.steps[row] = best, end, step


@as_written
def modulus_rows(
    units: Units,
    inverse: np.ndarray,
    base: np.ndarray,
    t: np.ndarray,
    omega: float,
    y: np.ndarray,
    scale: np.ndarray,
    limits: Limits,
    ends: Ends,
    room: Room,
) -> None:
    """Iterate t ← base + 2ω·inverse·|t| − |t| from t (rows, h), with x = y − b₂ − W₂(|t| + t)."""
    h, d = units.W1.shape[1:]
    for row in range(len(y)):
        load(units, row, room)
        transpose(inverse[row], room.inverse)
        for i in range(h):
            room.t[i] = t[row, i]
        first, best, improved, step = np.inf, np.inf, 0, 0
        while True:
            for i in range(h):
                room.z[i] = abs(room.t[i]) + room.t[i]
            product(room.W2, room.z, room.x)
            for i in range(d):
                room.x[i] = y[row, i] - units.b2[row, i] - room.x[i]
            evaluate(units, y, row, room)
            relative = norm(room.residual, d) / scale[row]
            first = relative if step == 0 else first
            if relative < best:
                best, improved = relative, step
                keep(room.x, row, ends)
            end = judge(relative, first, improved, step, limits)
            if end != RUNNING:
                break
            for i in range(h):
                room.t[i] = abs(room.t[i])
            product(room.inverse, room.t, room.z)
            for i in range(h):
                room.t[i] = base[row, i] + 2 * omega * room.z[i] - room.t[i]
            step += 1
        ends.residual[row], ends.end[row], ends.steps[row] = best, end, step


@inlined_as_written
def load(units: Units, row: int, room: Room) -> None:
    """Write the matrices of a row to the room."""
    transpose(units.W1[row], room.W1)
    transpose(units.W2[row], room.W2)


@inlined_as_written
def transpose(matrix: np.ndarray, columns: np.ndarray) -> None:
    """Write a matrix column by column."""
    for i in range(matrix.shape[0]):
        for j in range(matrix.shape[1]):
            columns[j, i] = matrix[i, j]


@inlined_as_written
def product(columns: np.ndarray, v: np.ndarray, out: np.ndarray) -> None:
    """Write the matrix with these columns times v."""
    for i in range(len(out)):
        out[i] = 0.0
    for j in range(len(columns)):
        for i in range(len(out)):
            out[i] += columns[j, i] * v[j]


@inlined_as_written
def evaluate(units: Units, y: np.ndarray, row: int, room: Room) -> None:
    """Write f(x) − y of a row to the room."""
    product(room.W1, room.x, room.z)
    for i in range(units.b1.shape[1]):
        s = room.z[i] + units.b1[row, i]
        room.z[i] = 0.0 if s <= 0 else s  # NaN stays
    product(room.W2, room.z, room.residual)
    for i in range(y.shape[1]):
        room.residual[i] = room.x[i] + (room.residual[i] + units.b2[row, i]) - y[row, i]


@inlined_as_written
def norm(v: np.ndarray, n: int) -> float:
    """Return the Euclidean norm of v[:n], also where squares would over- or underflow."""
    result: float = scaled_norm(v, n, 1.0)
    if TINY <= result < HUGE:
        return result
    largest = 0.0
    for i in range(n):
        largest = max(largest, abs(v[i]))
    scale = largest if 0 < largest < HUGE else 1.0
    return float(scale * scaled_norm(v, n, scale))


@inlined_as_written
def scaled_norm(v: np.ndarray, n: int, scale: float) -> float:
    """Return the norm of v[:n]/scale, added up in the order of torch."""
    whole = n - n % PARTS
    a = b = c = d = 0.0
    for i in range(0, whole, PARTS):
        a += (v[i] / scale) ** 2
        b += (v[i + 1] / scale) ** 2
        c += (v[i + 2] / scale) ** 2
        d += (v[i + 3] / scale) ** 2
    total = a + b + c + d
    for i in range(whole, n):
        total += (v[i] / scale) ** 2
    return math.sqrt(total)


@inlined_as_written
def keep(x: np.ndarray, row: int, ends: Ends) -> None:
    """Write a point down."""
    for i in range(ends.value.shape[1]):
        ends.value[row, i] = x[i]


@inlined_as_written
def judge(relative: float, first: float, improved: int, step: int, limits: Limits) -> int:
    """Return how a row ends at a point, or RUNNING."""
    if relative <= limits.tolerance:
        return CONVERGED
    if not abs(relative) < HUGE:
        return NOT_FINITE
    if relative > limits.divergence_factor * first:
        return DIVERGED
    if step >= 2 * improved + limits.patience:
        return STAGNATED
    return MAX_ITERATIONS if step == limits.max_iterations else RUNNING
