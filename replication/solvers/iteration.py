"""The one loop of all fixed-point inverses: residuals, a status for every row, finished rows dropped."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor

from replication.checks import check_counts
from replication.maps import RectifierEquation
from replication.rows import column, residual_scale, row_norm
from replication.solvers.method import Method
from replication.solvers.solution import CODE, Solution, Status, name_of

RUNNING = -1
KEPT = 0.8  # share of the rows worked on that are running, at which the others are dropped
FEW = 16  # rows whose residuals are compared quicker one by one
DIVERGENCE_FACTOR = 1e6  # growth of a residual that counts as divergence; far above that of non-normal contractions


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
        """Return the state before the first step: a dataclass of tensors (batch, …), resolvents and integers."""

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
    """Keep these rows of every field of a solver's state; numbers are of all rows."""
    kept = {f.name: getattr(state, f.name) for f in fields(state)}
    return replace(
        state,
        **{
            name: value[rows] if isinstance(value, Tensor) else value.select(rows)
            for name, value in kept.items()
            if not isinstance(value, int)
        },
    )


class Record:
    """How far the rows are: what is found of all of them, and the smallest residuals of those that are worked on.

    Args:
        y: outputs (batch, *shape).
        solver: the method.
        tolerance, divergence_factor: as for `iterate`.
    """

    def __init__(self, y: Tensor, solver: FixedPoint, tolerance: float, divergence_factor: float) -> None:
        self.last, self.patience = solver.max_iterations, solver.patience
        self.tolerance, self.divergence_factor = tolerance, divergence_factor
        self.scale = residual_scale(y)
        self.rows = torch.arange(len(y), device=y.device)  # that are worked on, as indices into y
        self.first = self.lowest = torch.full_like(self.scale, torch.inf)  # residuals; −∞ once a row has ended
        self.few: list[float] = []  # the smallest residuals of a few rows, where these are at hand
        self.reached: Tensor | int = 0  # the step of the smallest residual
        self.spent: Tensor | int = 1  # evaluations
        self.before = y  # the points of the step before
        numbers = self.rows.new_zeros(3, len(y))
        self.found = Solution(
            y.clone(), numbers[0], numbers[1], self.lowest.clone(), numbers[2], solver=name_of(solver)
        )

    @property
    def running(self) -> Tensor:
        """Which of the rows that are worked on have not ended."""
        return self.lowest >= 0

    def note(self, x: Tensor, relative: Tensor, iteration: int) -> bool:
        """Take down the points of a step and their relative residuals; return whether a row has ended."""
        self.first = self.first if iteration else relative
        if iteration < self.last and iteration + self.patience and self.all_improve(relative):
            self.lowest, self.reached, self.before = relative, iteration, x
            return False
        better = relative < self.lowest
        self.few = []
        # a best point is written down when the next is no better, so that steady convergence copies nothing
        passed = self.running & ~better & (self.reached == iteration - 1)
        if passed.any():
            self.found.value[self.rows[passed]] = self.before[passed]
        self.lowest = torch.where(better, relative, self.lowest)
        self.reached = torch.where(better, iteration, self.reached)
        self.before = x
        return self.end(x, better, self.outcome(relative, iteration), iteration)

    def all_improve(self, relative: Tensor) -> bool:
        """Return whether all residuals are smaller than ever before, and none is small enough."""
        if len(relative) > FEW:
            return bool(((relative < self.lowest) & (relative > self.tolerance)).all())
        numbers, lowest = relative.tolist(), self.few or self.lowest.tolist()
        self.few = numbers
        return all(self.tolerance < new < old for new, old in zip(numbers, lowest, strict=True))

    def outcome(self, relative: Tensor, iteration: int) -> Tensor:
        """Return the code of every row's last status that holds (batch,), or RUNNING."""
        holds = {
            Status.MAX_ITERATIONS: torch.full_like(self.rows, iteration == self.last, dtype=torch.bool),
            Status.STAGNATED: torch.as_tensor(iteration >= 2 * self.reached + self.patience),
            Status.DIVERGED: relative > self.divergence_factor * self.first,
            Status.NOT_FINITE: ~(relative < torch.inf),
            Status.CONVERGED: relative <= self.tolerance,
        }
        outcome = torch.full_like(self.rows, RUNNING)
        for status, rows in holds.items():
            outcome.masked_fill_(rows, CODE[status])
        return outcome

    def end(self, x: Tensor, better: Tensor, outcome: Tensor, iteration: int) -> bool:
        """Write down the rows that have an outcome; return whether there are any."""
        ended = (self.running & (outcome != RUNNING)).nonzero().squeeze(1)
        if not len(ended):
            return False
        found = self.found
        rows: Tensor | slice = self.rows[ended]
        own: Tensor | slice = ended
        if len(ended) == len(found.codes):  # all at once, for which slices are quicker
            rows = own = slice(None)
        found.value[rows] = torch.where(column(better[own], x), x[own], found.value[rows])
        found.codes[rows], found.iterations[rows] = outcome[own], iteration
        found.residual[rows] = self.lowest[own]
        found.evaluations[rows] = self.spent[own] if isinstance(self.spent, Tensor) else self.spent
        self.lowest[own] = -torch.inf
        return True

    def keep(self, kept: Tensor) -> None:
        """Go on with some of the rows only."""
        for name in ("scale", "rows", "first", "lowest", "reached", "before"):
            setattr(self, name, getattr(self, name)[kept])
        self.spent = self.spent[kept] if isinstance(self.spent, Tensor) else self.spent


@torch.no_grad()
def iterate(
    equation: RectifierEquation,
    solver: FixedPoint,
    tolerance: float,
    divergence_factor: float = DIVERGENCE_FACTOR,
) -> Solution:
    """Run a fixed-point method on every row until the row converges or is known to fail.

    A row ends when the relative residual of its point is at most `tolerance`; it fails when the residual exceeds
    `divergence_factor` times its start, is not finite, has stopped improving, or when `solver.max_iterations` steps are
    done. It has stopped improving if its smallest residual stood for `solver.patience` steps more than it took to get
    there: cycles are cut off, slow steady convergence is not, but a long plateau can be. Finished rows are frozen at
    once, and dropped from the work as soon as they are a fifth of it. Steps at which all rows improve and none ends,
    most of them, cost little beyond the evaluation.

    Args:
        equation: rows to solve.
        solver: the method.
        tolerance: bound of ‖f(x) − y‖ / ‖y‖.
        divergence_factor: growth of the residual that counts as divergence.

    Returns:
        The solution, rows in the order of `equation.y`.
    """
    record = Record(equation.y, solver, tolerance, divergence_factor)
    state = solver.init(equation) if len(equation.y) else None
    record.spent += solver.work(state) if len(equation.y) else 0
    for iteration in range(solver.max_iterations + 1 if len(equation.y) else 0):
        x = solver.point(equation, state)
        residual = solver.residual(equation, state, x)
        if record.note(x, row_norm(residual) / record.scale, iteration):
            kept = record.running.nonzero().squeeze(1)
            if not len(kept):
                break
            if len(kept) <= KEPT * len(x):
                record.keep(kept)
                equation, state, x, residual = equation.select(kept), select(state, kept), x[kept], residual[kept]
        state = solver.step(equation, state, x, residual)
        record.spent = record.spent + 1 + solver.work(state)
    return record.found
