"""The one loop of all iterative inverses: residuals, a status for every row, finished rows dropped."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from enum import Enum
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from replication.rectifier import RectifierEquation


class Status(Enum):
    """How the inversion of a row ended."""

    CONVERGED = "The relative residual of the returned value is within the tolerance."
    MAX_ITERATIONS = "The iterations ran out before the relative residual came within the tolerance."
    STAGNATED = "The residual stopped improving above the tolerance: a cycle, or the limit of the floating-point type."
    DIVERGED = "The residual grew far beyond its start: the iteration diverges here."
    NOT_FINITE = "The iteration met a value that is not finite, or a singular matrix."


STATUSES = tuple(Status)
RUNNING = -1
CODE = {status: code for code, status in enumerate(STATUSES)}


@dataclass(frozen=True)
class Solution:
    """What an inversion returns; every field but `value` has the shape of the rows.

    Attributes:
        value: recovered inputs; where the iteration failed, the iterate with the smallest residual.
        codes: index into STATUSES; `status` reads better.
        iterations: steps taken.
        residual: ‖f(value) − y‖ / ‖y‖, of the value returned (‖f(value)‖ where y = 0).
        evaluations: evaluations of the unit, one for each residual.
        error_bound: upper bound of ‖value − x‖ up to the rounding of the residual, infinite for rows without a known
            constant, or None if there is none.
    """

    value: Tensor
    codes: Tensor
    iterations: Tensor
    residual: Tensor
    evaluations: Tensor
    error_bound: Tensor | None = None

    @property
    def status(self) -> np.ndarray:
        """Status of every row, an object array."""
        return np.array(STATUSES, dtype=object)[self.codes.cpu().numpy()]

    @property
    def converged(self) -> Tensor:
        """Whether each row converged."""
        return self.codes == CODE[Status.CONVERGED]

    def reshape(self, *shape: int) -> Solution:
        """Give the rows the shape `shape`."""
        event = self.value.shape[1:]
        return Solution(
            self.value.reshape(*shape, *event),
            self.codes.reshape(shape),
            self.iterations.reshape(shape),
            self.residual.reshape(shape),
            self.evaluations.reshape(shape),
            None if self.error_bound is None else self.error_bound.reshape(shape),
        )


class Solver(Protocol):
    """Hyper-parameters, and three functions that never loop.

    Attributes:
        max_iterations: bound of the number of steps.
        patience: steps without a smaller residual, beyond the number it took to reach it, that count as stagnation.
    """

    @property
    def max_iterations(self) -> int: ...

    @property
    def patience(self) -> int: ...

    def init(self, equation: RectifierEquation) -> Any:
        """Return the state before the first step: a dataclass of tensors (rows, …) and resolvents."""

    def point(self, equation: RectifierEquation, state: Any) -> Tensor:
        """Return the inputs x that the state stands for, like y."""

    def step(self, equation: RectifierEquation, state: Any, x: Tensor, residual: Tensor) -> Any:
        """Return the next state, given the current point x and its residual f(x) − y."""


def row_norm(v: Tensor) -> Tensor:
    """Return the Euclidean norm of every row of v (rows, *shape)."""
    return torch.linalg.vector_norm(v.flatten(1), dim=1)


def residual_scale(y: Tensor) -> Tensor:
    """Return what residuals are relative to: ‖y‖ of every row, or 1 where y = 0."""
    norm = row_norm(y)
    return torch.where(norm > 0, norm, torch.ones_like(norm))


def select(state: Any, rows: Tensor) -> Any:
    """Keep these rows of every field of a solver's state."""
    kept = {f.name: getattr(state, f.name) for f in fields(state)}
    return replace(
        state,
        **{name: value[rows] if isinstance(value, Tensor) else value.select(rows) for name, value in kept.items()},
    )


def judge(holds: dict[Status, Tensor]) -> Tensor:
    """Return the code of every row's last status that holds (rows,), or RUNNING."""
    outcome = torch.full_like(next(iter(holds.values())), RUNNING, dtype=torch.long)
    for status, rows in holds.items():
        outcome[rows] = CODE[status]
    return outcome


@torch.no_grad()
def solve(
    equation: RectifierEquation,
    solver: Solver,
    tolerance: float,
    divergence_factor: float = 1e6,
) -> Solution:
    """Run a solver on every row until the row converges or is known to fail.

    A row ends when the relative residual of its point is at most `tolerance`; it fails when the residual exceeds
    `divergence_factor` times its start, is not finite, has stopped improving, or when `solver.max_iterations` steps are
    done. It has stopped improving if its smallest residual stood for `solver.patience` steps more than it took to get
    there: cycles are cut off, slow steady convergence is not, but a long plateau can be. Finished rows are frozen at
    once, and dropped from the work as soon as they are a fifth of it.

    Args:
        equation: rows to solve.
        solver: the method.
        tolerance: bound of ‖f(x) − y‖ / ‖y‖.
        divergence_factor: growth of the residual that counts as divergence; far above the transient growth of
            non-normal contractions.

    Returns:
        The solution, rows in the order of `equation.y`.
    """
    y = equation.y
    scale = residual_scale(y)
    codes = torch.full_like(scale, RUNNING, dtype=torch.long)
    iterations = torch.zeros_like(codes)
    improved_at = torch.zeros_like(codes)
    best = torch.full_like(scale, torch.inf)
    first = torch.full_like(scale, torch.inf)
    value = y.clone()

    rows = torch.arange(len(y), device=y.device)  # the rows still in the work, as indices into y
    state = solver.init(equation) if len(y) else None
    for iteration in range(solver.max_iterations + 1):
        if not len(rows):
            break
        x = solver.point(equation, state)
        residual = equation.residual(x)
        relative = row_norm(residual) / scale[rows]

        running = codes[rows] == RUNNING
        better = running & (relative < best[rows])
        value[rows[better]] = x[better]
        best[rows[better]] = relative[better]
        improved_at[rows[better]] = iteration
        iterations[rows[running]] = iteration
        if iteration == 0:
            first = relative.clone()

        outcome = judge(
            {
                Status.MAX_ITERATIONS: torch.full_like(running, iteration == solver.max_iterations),
                Status.STAGNATED: iteration >= 2 * improved_at[rows] + solver.patience,
                Status.DIVERGED: relative > divergence_factor * first[rows],
                Status.NOT_FINITE: ~torch.isfinite(relative),
                Status.CONVERGED: relative <= tolerance,
            }
        )
        codes[rows[running]] = outcome[running]

        running = codes[rows] == RUNNING
        if not running.any():
            break
        if running.float().mean() <= 0.8:
            kept = running.nonzero().squeeze(1)
            rows, equation, state = rows[kept], equation.select(kept), select(state, kept)
            x, residual = x[kept], residual[kept]
        state = solver.step(equation, state, x, residual)
    return Solution(value, codes, iterations, best, iterations + 1)
