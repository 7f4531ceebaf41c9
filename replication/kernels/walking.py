"""Walks over the linear pieces: block steps (Newton's), single steps, and Lemke's method where these lead nowhere."""

from __future__ import annotations

import numpy as np

from replication.compiled import compiled, inlined
from replication.kernels.lanes import MOST, Lanes, walk_in_lanes
from replication.kernels.lemke import FOUND, TOO_LONG, lemke
from replication.kernels.pieces import (
    AGREES,
    CYCLE,
    LEFT,
    MAX_STEPS,
    NOT_P,
    SINGULAR,
    STUCK,
    settle_signs,
    sign_error,
    solve_piece,
)
from replication.kernels.workspace import Workspace

PATH_LENGTH = 50  # times n: pivots along Lemke's first path before another is tried; most take a few times n
RAYS = 2  # paths that may end in one before a row is given up: the second solves some 5 % of the rows, at its cost


@compiled
def walk_rows(
    A: np.ndarray,
    c: np.ndarray,
    first: np.ndarray,
    patience: int,
    max_steps: int,
    s: np.ndarray,
    ends: np.ndarray,
    steps: np.ndarray,
    work: Workspace,
    room: Lanes,
) -> None:
    """Walk for every row, and write s, ends and steps. A has one matrix for each row, or one for all.

    The first pieces are those given or, where there are none, S = ∅, or the block step from it if those are allowed.
    Rows whose c is not finite end as singular pieces do, with s not a number.
    """
    rows, n = c.shape
    for row in range(rows):
        ends[row] = LEFT
    if patience > 0 and n <= MOST:
        walk_in_lanes(A, c, first, patience, max_steps, s, ends, steps, room)
    for row in range(rows):
        if ends[row] != AGREES:
            begin(c[row], first[min(row, len(first) - 1)], patience, work.active)
            matrix = A[min(row, len(A) - 1)]
            ends[row], steps[row] = walk_row(matrix, c[row], s[row], patience, max_steps, ends[row] == STUCK, work)


@inlined
def begin(c: np.ndarray, first: np.ndarray, patience: int, active: np.ndarray) -> None:
    """Write the first piece of a row."""
    for i in range(len(c)):
        active[i] = first[i] if len(first) else patience != 0 and c[i] > 0


@compiled
def walk_row(
    A: np.ndarray, c: np.ndarray, s: np.ndarray, patience: int, max_steps: int, stuck: bool, work: Workspace
) -> tuple[int, int]:
    """Walk from the piece in `work.active` and leave the solution, or the point of smallest sign error, in s (n,).

    Where the block steps are known to lead nowhere, `stuck`, Lemke's method begins at once.

    Returns:
        How the walk ended, and the number of linear systems solved and pivots made.
    """
    for i in range(len(c)):
        if not np.isfinite(c[i]):
            s[:] = np.nan
            return SINGULAR, 0
    sign = start(A, c, s, work)
    if patience > 0:
        end, steps = STUCK, 1
        if not stuck:
            end, steps = patient_steps(A, c, s, sign, patience, max_steps, work)
        if end == STUCK:
            end, steps = follow_paths(A, c, s, steps, max_steps, work)
    else:
        end, steps = steps_until_cycle(A, c, s, sign, patience == 0, 1, max_steps, work)
    if end != AGREES:
        for i in range(len(c)):
            s[i] = work.best[i]
    return end, steps


@inlined
def start(A: np.ndarray, c: np.ndarray, s: np.ndarray, work: Workspace) -> int:
    """Solve the first piece or, where it is singular, that of S = ∅, which never is; return the determinant's sign."""
    for i in range(len(c)):
        work.best[i] = c[i]
    work.smallest[0], work.ages[0], work.ages[1] = np.inf, 0, 1
    sign: int = solve_piece(A, c, s, work)
    if sign == 0:
        for i in range(len(c)):
            work.active[i] = False
        sign = solve_piece(A, c, s, work)
    return sign


@inlined
def patient_steps(
    A: np.ndarray, c: np.ndarray, s: np.ndarray, sign: int, patience: int, max_steps: int, work: Workspace
) -> tuple[int, int]:
    """Take block steps from a solved piece as long as fewer signs disagree than ever before, `patience` times excepted.

    No exception is made of a piece with a negative determinant: on matrices that are not P, Lemke's path leads further.

    Returns:
        AGREES, MAX_STEPS or STUCK, and the number of systems solved.
    """
    fewest, left, steps = len(c) + 1, patience, 1
    while sign != 0:
        error, disagreeing, _ = sign_error(A, c, s, work)
        if disagreeing == 0:
            settle_signs(s, work)
            return AGREES, steps
        remember(s, error, work)
        left = patience if disagreeing < fewest else left - 1 if sign > 0 else -1
        fewest = min(fewest, disagreeing)
        if steps >= max_steps:
            return MAX_STEPS, steps
        if left < 0:
            return STUCK, steps
        block_step(s, work.active)
        sign = solve_piece(A, c, s, work)
        steps += 1
    return MAX_STEPS if steps >= max_steps else STUCK, steps


@compiled
def follow_paths(
    A: np.ndarray, c: np.ndarray, s: np.ndarray, steps: int, max_steps: int, work: Workspace
) -> tuple[int, int]:
    """Follow Lemke's path and, while no solution is found, other paths; every path twice as far as that before it.

    A path may be exponentially long (Murty, Math. Program. Study 7 (1978) 138–144), but hardly all of them are. The
    first is taken up again after the second, as far as half of max_steps allows. On P-matrices no path ends in a ray;
    on others RAYS of them may before the row is given up.

    Returns:
        How the walk ended, and `steps` with the systems solved and pivots made here.
    """
    length, attempt, rays, end, unfinished = PATH_LENGTH * len(c), 0, 0, NOT_P, False
    while steps < max_steps:
        again = unfinished and attempt == 2
        longest = max(length, max_steps // 2) if again else length
        path, pivots = lemke(A, c, min(longest, max_steps - steps), 0 if again else attempt, work)
        steps += pivots
        if path == FOUND and steps < max_steps:
            end, steps = mend(A, c, s, steps, min(max_steps, steps + length), work)
            if end == AGREES:
                return AGREES, steps
        rays += path != TOO_LONG
        if rays >= RAYS:
            return end, steps
        unfinished |= attempt == 0 and path == TOO_LONG
        length, attempt = 2 * length, attempt + 1
    return MAX_STEPS, steps


@compiled
def mend(A: np.ndarray, c: np.ndarray, s: np.ndarray, steps: int, max_steps: int, work: Workspace) -> tuple[int, int]:
    """Solve the piece at the end of a path, and mend the signs that rounding turned by single steps."""
    work.ages[0], work.ages[1] = 0, 1
    sign = solve_piece(A, c, s, work)
    ended: tuple[int, int] = steps_until_cycle(A, c, s, sign, True, steps + 1, max_steps, work)
    return ended


@compiled
def steps_until_cycle(
    A: np.ndarray, c: np.ndarray, s: np.ndarray, sign: int, single: bool, steps: int, max_steps: int, work: Workspace
) -> tuple[int, int]:
    """Take single or block steps from a solved piece until the signs agree or a piece is met again.

    Returns:
        How the walk ended, and `steps` with the systems solved here.
    """
    while sign != 0:
        error, disagreeing, last = sign_error(A, c, s, work)
        if disagreeing == 0:
            settle_signs(s, work)
            return AGREES, steps
        remember(s, error, work)
        if steps >= max_steps:
            return MAX_STEPS, steps
        if single and sign < 0:
            return NOT_P, steps
        if single:
            work.active[last] = not work.active[last]
        else:
            block_step(s, work.active)
        if met_again(work):
            return CYCLE, steps
        sign = solve_piece(A, c, s, work)
        steps += 1
    return MAX_STEPS if steps >= max_steps else SINGULAR, steps


@inlined
def block_step(s: np.ndarray, active: np.ndarray) -> None:
    """Move every coordinate to the side of its sign; zeros stay where they are."""
    for i in range(len(s)):
        active[i] = (s[i] > 0) | ((s[i] == 0) & active[i])


@inlined
def remember(s: np.ndarray, error: float, work: Workspace) -> None:
    """Keep s as the best point so far if its sign error is the smallest."""
    if error < work.smallest[0]:
        work.smallest[0] = error
        for i in range(len(s)):
            work.best[i] = s[i]


@inlined
def met_again(work: Workspace) -> bool:
    """Say whether the piece was met before; where the next depends on this one alone, that is a cycle.

    By Brent's method: pieces are compared with an anchor, which is replaced after twice as many of them every time.
    """
    active, anchor, ages = work.active, work.anchor, work.ages
    again: bool = ages[0] > 0
    for i in range(len(active)):
        again &= anchor[i] == active[i]
    if ages[0] == 0 or ages[0] == ages[1]:
        for i in range(len(active)):
            anchor[i] = active[i]
        ages[0], ages[1] = 0, 2 * ages[1]
    ages[0] += 1
    return again
