"""A piece of the rectifier equation: its solution, and whether the signs of that agree.

A piece is a set S of active coordinates, on which relu(s) is taken as s while it is taken as 0 on the others. With
M = I + A its solution is z_S = M[S,S]⁻¹c_S and z = 0 elsewhere, s_i = z_i on S and s = c − Az elsewhere. It solves
s + A·relu(s) = c if its signs agree: s ≥ 0 on S, s ≤ 0 elsewhere.
"""

from __future__ import annotations

import numpy as np

from replication.compiled import EPSILON, compiled, inlined
from replication.kernels.elimination import CHUNK, eliminate
from replication.kernels.workspace import Workspace

AGREES, MAX_STEPS, CYCLE, SINGULAR, NOT_P = range(5)  # how a walk ends
STUCK, LEFT = 5, 6  # how its block steps may end: further ones are of no use, or what they found cannot be judged
SIGN_SLACK = 4  # signs of |s_i| within SIGN_SLACK·n·ε of what cancels in it, which is rounding, agree with both sides
CERTAIN = 1e-8  # wrong signs of |s_i| above CERTAIN·max|s| cannot be rounding, short of pieces that are nearly singular
TINY = float(np.finfo(np.float64).tiny)


@compiled
def solve_piece(A: np.ndarray, c: np.ndarray, s: np.ndarray, work: Workspace) -> int:
    """Write the solution of the piece `work.active` to s (n,), and its coordinates to `work.members`.

    Returns:
        The sign of the determinant, 0 where the piece is singular; then s is not written.
    """
    members, K, z = work.members, work.K, work.v
    n, k = len(c), sort_members(work)
    end = np.uint64(k) - np.uint64(k) % CHUNK + CHUNK
    for p in range(k):
        for q in range(k):
            K[p, q] = A[members[p], members[q]]
        for q in range(k, end):
            K[p, q] = 0
        K[p, p] += 1
        K[p, k] = c[members[p]]
    sign: int = eliminate(K, z, k)
    if sign == 0:
        return 0
    for p in range(k, n):
        value = c[members[p]]
        for q in range(k):
            value -= A[members[p], members[q]] * z[q]
        s[members[p]] = value
    for p in range(k):
        s[members[p]] = z[p]
    return sign


@inlined
def sort_members(work: Workspace) -> int:
    """Write the coordinates to `work.members`, active ones first, and return their number."""
    active, members = work.active, work.members
    n, k, others = len(active), 0, 0
    for i in range(n):  # without branches, which could not be predicted: members first, the others from the end
        members[k] = i
        k += active[i]
        others += not active[i]
        members[n - others] = members[n - others] if active[i] else i
    return k


@compiled
def solve_rows(A: np.ndarray, c: np.ndarray, pieces: np.ndarray, z: np.ndarray, work: Workspace) -> None:
    """Solve the piece of every row, and write z. A has one matrix for each row, or one for all."""
    rows, n = c.shape
    for row in range(rows):
        for i in range(n):
            work.active[i] = pieces[row, i]
        sign = solve_piece(A[min(row, len(A) - 1)], c[row], z[row], work)
        for i in range(n):
            z[row, i] = np.nan if sign == 0 else z[row, i] * work.active[i]


@inlined
def sign_error(A: np.ndarray, c: np.ndarray, s: np.ndarray, work: Workspace) -> tuple[float, int, int]:
    """Compare the signs of a piece's solution s with the sides of its coordinates.

    Returns:
        The largest wrong |s_i| relative to all of s, the number of coordinates that disagree, and the last of them.
    """
    active, slack = work.active, work.slack
    largest, wrongest, doubtful = 0.0, 0.0, np.inf
    for i in range(len(active)):
        wrong = -s[i] if active[i] else s[i]
        largest = max(largest, abs(wrong))
        wrongest = max(wrongest, wrong)
        doubtful = wrong if 0 < wrong < doubtful else doubtful
    if wrongest <= 0:
        return 0.0, 0, -1
    if doubtful > CERTAIN * largest:  # no wrong sign can be rounding, which is the usual case
        for i in range(len(active)):
            slack[i] = 0.0
    else:
        expect_rounding(A, c, s, work)
    disagreeing, last = 0, -1
    for i in range(len(active)):
        wrong = -s[i] if active[i] else s[i]
        disagreeing += wrong > slack[i]
        last = i if wrong > slack[i] else last
    return wrongest / largest, disagreeing, last


@compiled
def expect_rounding(A: np.ndarray, c: np.ndarray, s: np.ndarray, work: Workspace) -> None:
    """Write to `work.slack` how much rounding is to be expected in every coordinate of a piece's solution s.

    SIGN_SLACK·n·ε times the sum of what cancels in it, divided by the diagonal of M for active coordinates; inactive
    ones inherit what is expected in the active ones.
    """
    active, members, slack = work.active, work.members, work.slack
    n, k = len(active), 0
    for i in range(n):
        k += active[i]
    for p in range(n):
        i = members[p]
        size, inherited = abs(c[i]), 0.0
        for q in range(k):
            j = members[q]
            size += abs(A[i, j] * s[j])
            inherited += abs(A[i, j]) * slack[j] if p >= k else 0.0
        if p < k:
            size = (size + abs(s[i])) / max(abs(A[i, i] + 1), TINY)
        slack[i] = SIGN_SLACK * n * EPSILON * size + inherited


@inlined
def settle_signs(s: np.ndarray, work: Workspace) -> None:
    """Set what has a wrong sign within the slack to the zero that it is."""
    for i in range(len(s)):
        if s[i] < 0 if work.active[i] else s[i] > 0:
            s[i] = 0
