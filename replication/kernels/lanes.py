"""Newton's steps for several rows at once, one in each lane of vectors, where orders are small.

A step solves (I + AD)s = c, D = diag(1_S), by elimination without a search for pivots. It is quick, and what it
finds is judged: signs that agree, and a residual of every coordinate within what rounding explains. Rows that are not
found so are left for the walk of a single row.
"""

from __future__ import annotations

from itertools import accumulate
from math import prod
from typing import NamedTuple

import numpy as np

from replication.compiled import EPSILON, ONE, compiled, inlined
from replication.kernels.pieces import AGREES, CERTAIN, LEFT, SIGN_SLACK, STUCK
from replication.kernels.vectors import LANES, absolute, constant, load, store, where_positive

MOST = 16  # order up to which lanes are quicker than single rows
TWO = np.uint64(2)
FREE = GOES_ON = -1
LINE = 8  # numbers of a line of memory


class Lanes(NamedTuple):
    """Room for as many rows of order n as there are lanes; the last dimension of all is the lane.

    Attributes:
        A, c: of the equations, (n, n, LANES) and (n, LANES).
        active: 1.0 for the coordinates of the pieces, 0.0 elsewhere, (n, LANES).
        K: I + AD and c, and what elimination leaves of them, (n, n + 1, LANES).
        reciprocals: of the pivots, (n, LANES).
        s, z: the solutions and relu(s), (n, LANES).
        judgement: what `judge` writes, (5, LANES).
        state: the row in each lane, its steps, the fewest signs that disagreed and the patience left, (4, LANES).
    """

    A: np.ndarray
    c: np.ndarray
    active: np.ndarray
    K: np.ndarray
    reciprocals: np.ndarray
    s: np.ndarray
    z: np.ndarray
    judgement: np.ndarray
    state: np.ndarray


def lanes(n: int) -> Lanes:
    """Return the room for rows of order n, none where it is not used.

    Vectors begin where the processor's lines of memory do, without which they would take twice the time.
    """
    m = n if n <= MOST else 0
    shapes = (m, m, LANES), (m, LANES), (m, LANES), (m, m + 1, LANES), (m, LANES), (m, LANES), (m, LANES), (5, LANES)
    sizes = [prod(shape) for shape in shapes]
    memory = np.zeros(sum(sizes) + LINE)
    begin = -memory.__array_interface__["data"][0] // memory.itemsize % LINE
    parts = np.split(memory[begin : begin + sum(sizes)], list(accumulate(sizes))[:-1])
    numbers = (part.reshape(shape) for part, shape in zip(parts, shapes, strict=True))
    return Lanes._make([*numbers, np.zeros((4, LANES), np.int64)])


@compiled
def walk_in_lanes(
    A: np.ndarray,
    c: np.ndarray,
    first: np.ndarray,
    patience: int,
    max_steps: int,
    s: np.ndarray,
    ends: np.ndarray,
    steps: np.ndarray,
    room: Lanes,
) -> None:
    """Take Newton's steps for every row; write ends and steps, and s where they lead to the solution."""
    rows, n = c.shape
    of_lane = room.state[0]
    if len(A) == 1:
        for lane in range(LANES):
            fill_matrix(A[0], lane, room)
    taken, busy = 0, 0
    for lane in range(LANES):
        of_lane[lane] = FREE
    while True:
        for lane in range(LANES):
            if of_lane[lane] == FREE and taken < rows:
                of_lane[lane] = taken
                if len(A) > 1:
                    fill_matrix(A[taken], lane, room)
                fill_row(c[taken], first[min(taken, len(first) - 1)], lane, patience, room)
                taken, busy = taken + 1, busy + 1
        if busy == 0:
            return
        newton_step(n, room)
        judge(n, room)
        for lane in range(LANES):
            end = decide(n, lane, patience, max_steps, room) if of_lane[lane] != FREE else GOES_ON
            if end != GOES_ON:
                row, of_lane[lane] = of_lane[lane], FREE
                ends[row], steps[row] = end, room.state[1, lane]
                busy -= 1
                for i in range(n):
                    s[row, i] = room.s[i, lane]
        flip(n, room)


@inlined
def fill_matrix(A: np.ndarray, lane: int, room: Lanes) -> None:
    """Write a matrix to a lane."""
    n, entries = np.uint64(len(A)), room.A
    for i in range(n):
        for j in range(n):
            entries[i, j, lane] = A[i, j]


@inlined
def fill_row(c: np.ndarray, first: np.ndarray, lane: int, patience: int, room: Lanes) -> None:
    """Write a right-hand side, its first piece and the state before any step to a lane."""
    for i in range(len(c)):
        room.c[i, lane] = c[i]
        room.active[i, lane] = first[i] if len(first) else c[i] > 0
    room.state[1, lane], room.state[2, lane], room.state[3, lane] = 0, len(c) + 1, patience


@compiled
def newton_step(order: int, room: Lanes) -> None:
    """Solve (I + AD)s = c in all lanes, and write the sign of the determinant to the judgement."""
    A, active, K, reciprocals, s = room.A, room.active, room.K, room.reciprocals, room.s
    n = np.uint64(order)
    w = n + ONE
    one = constant(1.0)
    for q in range(n):
        for j in range(n):
            store(K, q * w + j, load(A, q * n + j) * load(active, j))
        store(K, q * w + q, load(K, q * w + q) + one)
        store(K, q * w + n, load(room.c, q))
    for p in range(np.uint64(0), n, TWO):
        eliminate_two(K, p, n, reciprocals)
    sign = one
    for back in range(ONE, n + ONE):
        row = n - back
        value = load(K, row * w + n) * load(reciprocals, row)
        sign = sign * where_positive(load(reciprocals, row), one, constant(-1.0))
        store(s, row, value)
        for i in range(row):
            store(K, i * w + n, load(K, i * w + n) - load(K, i * w + row) * value)
    store(room.judgement, np.uint64(0), sign)


@inlined
def eliminate_two(K: np.ndarray, p: int, n: int, reciprocals: np.ndarray) -> None:
    """Eliminate columns p and p + 1 at once, for half the loads and stores."""
    w, one, after = n + ONE, constant(1.0), p + ONE
    first = one / load(K, p * w + p)
    store(reciprocals, p, first)
    if after == n:
        return
    factor = load(K, after * w + p) * first
    for j in range(after, w):
        store(K, after * w + j, load(K, after * w + j) - factor * load(K, p * w + j))
    second = one / load(K, after * w + after)
    store(reciprocals, after, second)
    for q in range(p + TWO, n):
        left = load(K, q * w + p) * first
        right = (load(K, q * w + after) - left * load(K, p * w + after)) * second
        for j in range(p + TWO, w):
            rest = load(K, q * w + j) - left * load(K, p * w + j)
            store(K, q * w + j, rest - right * load(K, after * w + j))


@compiled
def judge(order: int, room: Lanes) -> None:
    """Write to the judgement, after the sign, how many signs disagree, the smallest of them, and Σ|s|; and z = relu(s).

    Residuals are weighed if all signs agree in some lane.
    """
    n = np.uint64(order)
    zero, one = constant(0.0), constant(1.0)
    disagreeing, doubtful, total = zero, constant(np.inf), zero
    for i in range(n):
        own = load(room.s, i)
        store(room.z, i, where_positive(own, own, zero))
        wrong = where_positive(load(room.active, i), zero - own, own)
        disagreeing = disagreeing + where_positive(wrong, one, zero)
        smaller = where_positive(doubtful - wrong, wrong, doubtful)
        doubtful = where_positive(wrong, smaller, doubtful)
        total = total + absolute(own)
    store(room.judgement, np.uint64(1), disagreeing)
    store(room.judgement, np.uint64(2), doubtful)
    store(room.judgement, np.uint64(3), total)
    agreeing = False
    for lane in range(LANES):
        agreeing |= room.judgement[1, lane] == 0
    if agreeing:
        weigh(order, room)


@compiled
def weigh(order: int, room: Lanes) -> None:
    """Write to the judgement how many coordinates of s + Az − c are within what rounding explains."""
    n = np.uint64(order)
    zero, one = constant(0.0), constant(1.0)
    few = zero
    tolerance = constant(SIGN_SLACK * order * EPSILON)
    for i in range(n):
        residual = load(room.s, i) - load(room.c, i)
        size = absolute(load(room.s, i)) + absolute(load(room.c, i))
        for j in range(n):
            entry, z = load(room.A, i * n + j), load(room.z, j)
            residual = residual + entry * z
            size = size + absolute(entry) * z
        margin = tolerance * where_positive(size, size, one) - absolute(residual)  # size 0 has residual 0
        few = few + where_positive(margin, one, zero)
    store(room.judgement, np.uint64(4), few)


@inlined
def decide(n: int, lane: int, patience: int, max_steps: int, room: Lanes) -> int:
    """Return what becomes of the row in a lane, or GOES_ON, by the rules of a single row's steps."""
    judgement, state = room.judgement, room.state
    disagreeing, doubtful, total = judgement[1, lane], judgement[2, lane], judgement[3, lane]
    state[1, lane] += 1
    if disagreeing == 0:
        return AGREES if judgement[4, lane] == n else LEFT
    if not doubtful > CERTAIN * total or state[1, lane] >= max_steps:
        return LEFT
    if disagreeing < state[2, lane]:
        state[2, lane], state[3, lane] = disagreeing, patience
    else:
        state[3, lane] = state[3, lane] - 1 if judgement[0, lane] > 0 else -1
    return STUCK if state[3, lane] < 0 else GOES_ON


@inlined
def flip(order: int, room: Lanes) -> None:
    """Move every coordinate to the side of its sign; zeros stay where they are."""
    zero, one = constant(0.0), constant(1.0)
    for i in range(np.uint64(order)):
        own, kept = load(room.s, i), load(room.active, i)
        store(room.active, i, where_positive(own, one, where_positive(zero - own, zero, kept)))
