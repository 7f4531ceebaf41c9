"""Walks over the linear pieces of the rectifier equation: Newton's method and pivoting, compiled, row by row.

A piece is a set S of active coordinates, on which relu(s) is taken as s while it is taken as 0 on the others. With
M = I + A its solution is z_S = M[S,S]⁻¹c_S and z = 0 elsewhere, s_i = z_i on S and s = c − Az elsewhere. It solves
s + A·relu(s) = c if its signs agree: s ≥ 0 on S, s ≤ 0 elsewhere. A walk starts from S = ∅, where s = c, and changes
the sides of coordinates whose sign disagrees: of all at once (a block step; this is Newton's step), or of one. Lemke's
method instead follows a path of pieces to the solution.

The loops are compiled and run on the CPU in float64, whatever the dtype and device of the unit: the systems are small,
of many sizes and different for every row, which batched linear algebra is slow at.
"""

from __future__ import annotations

import threading
from abc import abstractmethod
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from replication.checks import check_counts
from replication.compiled import as_array, spread
from replication.kernels.lanes import MOST, Lanes, lanes
from replication.kernels.pieces import AGREES, CYCLE, MAX_STEPS, NOT_P, SINGULAR, solve_rows
from replication.kernels.walking import walk_rows
from replication.kernels.workspace import Workspace, workspace
from replication.maps import RectifierEquation, RectifierMap
from replication.rows import residual_scale, row_norm
from replication.solvers.method import Method
from replication.solvers.solution import CODE, Solution, Status, name_of

STATUS_OF_END = {
    AGREES: Status.STAGNATED,  # unless the residual is within the tolerance
    MAX_STEPS: Status.MAX_ITERATIONS,
    CYCLE: Status.STAGNATED,
    SINGULAR: Status.NOT_FINITE,
    NOT_P: Status.NOT_P_MATRIX,
}
CODE_OF_END = [CODE[STATUS_OF_END[end]] for end in range(len(STATUS_OF_END))]
CORRECTIONS = 3
OPERATIONS = 10  # times n³, of a row whose steps are few
KEPT = threading.local()
NO_PIECES = np.zeros((1, 0), np.bool_)  # walks begin where they do by default


class PieceWalk(Method):
    """A method that ends after finitely many pieces: hyper-parameters and its rule.

    Attributes:
        max_iterations: bound of the number of linear systems solved and pivots made.

    Raises:
        ValueError: if max_iterations is not positive.
    """

    max_iterations: int

    def takes(self, rectifier_map: RectifierMap) -> bool:
        return super().takes(rectifier_map) and rectifier_map.has_matrix

    def check(self, rectifier_map: RectifierMap) -> None:
        if super().takes(rectifier_map) and not rectifier_map.has_matrix:
            raise rectifier_map.too_large()
        super().check(rectifier_map)

    def __post_init__(self) -> None:
        check_counts(1, max_iterations=self.max_iterations)

    @property
    @abstractmethod
    def patience(self) -> int:
        """Block steps without fewer disagreeing signs that are allowed before Lemke's method takes over, which it does
        at once where the determinant is negative.

        0 means single steps only, −1 block steps only.
        """

    def walk(self, A: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return s like c (batch, n), how rows ended and their steps, as `walk`."""
        return walk(A, c, self.patience, self.max_iterations)

    def solve(self, equation: RectifierEquation, tolerance: float) -> Solution:
        """Walk for every row, evaluate the unit at the point found, and correct it where its residual is too large.

        A correction is one more step in the piece found: x = y − b₂ − W₂z alone loses digits where x is far smaller
        than y.

        Raises:
            ValueError: if the unit has too many hidden coordinates for matrices.
        """
        self.check(equation.map)
        A, c, linear = equation.map.matrix(), equation.c, equation.map
        s, ends, steps = self.walk(A, c.flatten(1))

        def correction(residual: Tensor) -> Tensor:
            z = solve_pieces(A, linear.W1(residual).flatten(1), s > 0).reshape(c.shape)
            return residual - linear.W2(z)

        value = equation.recover(torch.relu(s.reshape(c.shape)))
        value, relative, corrections = corrected(equation, value, correction, tolerance)
        codes = codes_of(ends, relative, tolerance)
        return Solution(value, codes, steps, relative, 1 + corrections, solver=name_of(self))


def corrected(
    equation: RectifierEquation, value: Tensor, correction: Callable[[Tensor], Tensor], tolerance: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Take up to CORRECTIONS Newton steps in the piece that was found, for the rows whose residual is too large.

    Args:
        equation: f(x) = y.
        value: x (batch, *shape), changed in place.
        correction: J⁻¹ of that piece, applied to residuals like x.
        tolerance: of the relative residual.

    Returns:
        The points of smallest residual, their relative residuals (batch,) and the number of corrections (batch,).
    """
    residual, scale = equation.residual(value), residual_scale(equation.y)
    relative = row_norm(residual) / scale
    taken = torch.zeros_like(relative, dtype=torch.long)
    for _ in range(CORRECTIONS):
        inexact = torch.isfinite(relative) & (relative > tolerance)
        if not inexact.any():
            break
        new = value - correction(residual)
        new_residual = equation.residual(new)
        new_relative = row_norm(new_residual) / scale
        better = inexact & (new_relative < relative)
        for kept, found in ((value, new), (residual, new_residual), (relative, new_relative)):
            kept[better] = found[better]
        taken += inexact
    return value, relative, taken


def codes_of(ends: Tensor, relative: Tensor, tolerance: float) -> Tensor:
    """Return the status codes (batch,) of rows from how their walks ended and from their relative residuals."""
    codes = torch.as_tensor(CODE_OF_END, device=ends.device)[ends]
    codes = torch.where(relative <= tolerance, CODE[Status.CONVERGED], codes)
    return torch.where(torch.isfinite(relative), codes, CODE[Status.NOT_FINITE])


def walk(
    A: Tensor, c: Tensor, patience: int, max_steps: int, start: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Solve s + A·relu(s) = c by walking over pieces.

    Args:
        A: (n, n) for all rows, or one matrix a row (batch, n, n).
        c: (batch, n).
        patience: as PieceWalk.patience.
        max_steps: bound of the number of linear systems solved and pivots made.
        start: the first piece of every row (batch, n), bool; by default S = ∅, or the block step from it.

    Returns:
        s like c, how each row ended (batch,), and the number of systems and pivots (batch,). Rows whose c is not finite
        end as singular pieces do, with s not a number.
    """
    matrices, right = as_array(A), as_array(c)
    rows, n = right.shape
    matrices = matrices.reshape(-1, n, n)
    s, ends, steps = np.empty_like(right), np.empty(rows, np.int64), np.empty(rows, np.int64)
    first = NO_PIECES if start is None else start.cpu().numpy()

    def part(own: slice) -> None:
        of_rows = matrices if A.ndim == 2 else matrices[own]
        pieces = first if start is None else first[own]
        walk_rows(of_rows, right[own], pieces, patience, max_steps, s[own], ends[own], steps[own], *rooms(n))

    spread(part, rows, OPERATIONS * rows * n**3)
    return torch.from_numpy(s).to(c), torch.from_numpy(ends).to(c.device), torch.from_numpy(steps).to(c.device)


def rooms(n: int) -> tuple[Workspace, Lanes]:
    """Return the room for walks of order n: each thread has its own, and keeps it where it is small."""
    if n > MOST:
        return workspace(n), lanes(n)
    kept: dict[str, tuple[Workspace, Lanes]] = KEPT.__dict__
    name = str(n)
    if name not in kept:
        kept[name] = workspace(n), lanes(n)
    return kept[name]


def solve_pieces(A: Tensor, c: Tensor, active: Tensor) -> Tensor:
    """Return z with z_S = M[S,S]⁻¹c_S and z = 0 elsewhere, for given pieces; NaN where the piece is singular.

    Args:
        A: (n, n) for all rows, or one matrix a row (batch, n, n).
        c: (batch, n).
        active: the pieces S (batch, n), bool.
    """
    right, members = as_array(c), active.cpu().numpy()
    n = right.shape[1]
    z = np.empty_like(right)
    solve_rows(as_array(A).reshape(-1, n, n), right, members, z, workspace(n))
    return torch.from_numpy(z).to(c)
