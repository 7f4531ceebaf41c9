"""The one loop of all fixed-point inverses: residuals, a status for every row, finished rows dropped."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor

from replication.checks import check_counts
from replication.maps import RectifierEquation
from replication.rows import residual_scale, row_norm
from replication.solvers.method import Method
from replication.solvers.solution import CODE, Solution, Status, name_of

RUNNING = -1


class FixedPoint(Method):
    """A method that converges step by step: hyper-parameters, and three functions that never loop.

    Attributes:
        max_iterations: bound of the number of steps.
        patience: steps without a smaller residual, beyond the number it took to reach it, that count as stagnation.

    Raises:
        TypeError: if one is no integer.
        ValueError: if one is negative.
    """

    max_iterations: int
    patience: int

    def __post_init__(self) -> None:
        check_counts(0, max_iterations=self.max_iterations, patience=self.patience)

    @abstractmethod
    def init(self, equation: RectifierEquation) -> Any:
        """Return the state before the first step: a dataclass of tensors (batch, …) and resolvents."""

    @abstractmethod
    def point(self, equation: RectifierEquation, state: Any) -> Tensor:
        """Return the inputs x that the state stands for, like y."""

    def residual(self, equation: RectifierEquation, state: Any, x: Tensor) -> Tensor:
        """Return f(x) − y at the state's point x."""
        return equation.residual(x)

    @abstractmethod
    def step(self, equation: RectifierEquation, state: Any, x: Tensor, residual: Tensor) -> Any:
        """Return the next state, given the current point x and its residual f(x) − y."""

    def work(self, state: Any) -> Tensor | int:
        """Return what this state took beyond the residual, in evaluations of the unit: a number, or (batch,)."""
        return 0

    def solve(self, equation: RectifierEquation, tolerance: float) -> Solution:
        """Iterate every row until it converges or is known to fail (`iterate`)."""
        self.check(equation.map)
        return iterate(equation, self, tolerance)


def select(state: Any, rows: Tensor) -> Any:
    """Keep these rows of every field of a solver's state."""
    kept = {f.name: getattr(state, f.name) for f in fields(state)}
    return replace(
        state,
        **{name: value[rows] if isinstance(value, Tensor) else value.select(rows) for name, value in kept.items()},
    )


def judge(holds: dict[Status, Tensor]) -> Tensor:
    """Return the code of every row's last status that holds (batch,), or RUNNING."""
    outcome = torch.full_like(next(iter(holds.values())), RUNNING, dtype=torch.long)
    for status, rows in holds.items():
        outcome[rows] = CODE[status]
    return outcome


@torch.no_grad()
def iterate(
    equation: RectifierEquation,
    solver: FixedPoint,
    tolerance: float,
    divergence_factor: float = 1e6,
) -> Solution:
    """Run a fixed-point method on every row until the row converges or is known to fail.

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
    evaluations = torch.ones_like(codes)
    improved_at = torch.zeros_like(codes)
    best = torch.full_like(scale, torch.inf)
    first = torch.full_like(scale, torch.inf)
    value = y.clone()

    rows = torch.arange(len(y), device=y.device)  # the rows still in the work, as indices into y
    state = solver.init(equation) if len(y) else None
    evaluations += solver.work(state) if len(y) else 0
    before = value
    for iteration in range(solver.max_iterations + 1):
        if not len(rows):
            break
        x = solver.point(equation, state)
        residual = solver.residual(equation, state, x)
        relative = row_norm(residual) / scale[rows]

        running = codes[rows] == RUNNING
        better = running & (relative < best[rows])
        # a best point is written down when the next is no better, so that steady convergence copies nothing
        passed = running & ~better & (improved_at[rows] == iteration - 1)
        if passed.any():
            value[rows[passed]] = before[passed]
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
        ended_best = better & (outcome != RUNNING)
        value[rows[ended_best]] = x[ended_best]
        codes[rows[running]] = outcome[running]

        running = codes[rows] == RUNNING
        if not running.any():
            break
        if running.float().mean() <= 0.8:
            kept = running.nonzero().squeeze(1)
            rows, equation, state = rows[kept], equation.select(kept), select(state, kept)
            x, residual = x[kept], residual[kept]
        state = solver.step(equation, state, x, residual)
        evaluations[rows] += torch.where(codes[rows] == RUNNING, 1 + solver.work(state), 0)
        before = x
    return Solution(value, codes, iterations, best, evaluations, solver=name_of(solver))
