"""What every inversion returns: the recovered inputs with a status, a residual and an error bound for each row."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from functools import cache, cached_property
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from replication.checks import check_number, neither


class Status(Enum):
    """How the inversion of a row ended.

    >>> import torch
    >>> from replication import ResidualUnit
    >>> unit = ResidualUnit(torch.eye(1), torch.zeros(1), -2 * torch.eye(1), torch.zeros(1))  # x − 2·relu(x) <= 0
    >>> [status.name for status in unit.inverse(torch.tensor([[-1.0], [1.0]])).status]
    ['CONVERGED', 'NOT_P_MATRIX']
    """

    CONVERGED = "The relative residual of the returned value is within the tolerance."
    MAX_ITERATIONS = "The iterations ran out before the relative residual came within the tolerance."
    STAGNATED = "The residual stopped improving above the tolerance: a cycle, or the limit of the floating-point type."
    DIVERGED = "The residual grew far beyond its start: the iteration diverges here."
    NOT_FINITE = "The method met a value that is not finite, or a singular matrix."
    NOT_P_MATRIX = "A determinant was computed as negative, or Lemke's path ended: I + A seems to be no P-matrix."

    __bool__ = neither("status is Status.CONVERGED")


STATUSES = tuple(Status)
CODE = {status: code for code, status in enumerate(STATUSES)}


@dataclass(frozen=True, repr=False)
class Solution:
    """What an inversion returns; every field but `value` has the shape of the rows.

    Attributes:
        value: recovered inputs; where a row failed, the best point met: of smallest residual for fixed-point methods,
            of smallest sign error for walks over linear pieces.
        codes: index into STATUSES; `status` reads better.
        iterations: steps taken; linear systems solved by walks over linear pieces.
        residual: ‖f(value) − y‖ / ‖y‖, of the value returned (‖f(value)‖ where y = 0); infinite where it overflows.
        evaluations: evaluations of the unit, one for each residual computed, and products with its Jacobian, each
            counted as one; the linear system in each step of `modulus` is not counted.
        bound: what `error_bound` is, or computes it when it is first asked for.
        solver: the name of the method that was used.

    >>> import torch
    >>> from replication import ResidualUnit
    >>> unit = ResidualUnit(torch.eye(2), torch.zeros(2), 3 * torch.eye(2), torch.zeros(2))  # x + 3·relu(x)
    >>> solution = unit.inverse(torch.tensor([[4.0, -2.0], [0.0, 8.0]]))
    >>> solution.value.round(decimals=3), solution.converged, solution.solver
    (tensor([[ 1., -2.],
            [ 0.,  2.]]), tensor([True, True]), 'exact')
    """

    value: Tensor
    codes: Tensor
    iterations: Tensor
    residual: Tensor
    evaluations: Tensor
    bound: Tensor | Callable[[], Tensor | None] | None = None
    solver: str = ""

    __bool__ = neither("solution.converged.all()")

    def __repr__(self) -> str:
        """Return one line, however many rows there are.

        >>> import torch
        >>> Solution(*5 * [torch.zeros(3)], solver="exact")
        Solution(3 rows, 3 converged, residual at most 0, exact)
        """
        counts = f"{self.codes.numel()} rows, {int(self.converged.sum())} converged"
        residual = f"residual at most {float(self.residual.max()):.2g}, " if self.residual.numel() else ""
        return f"{type(self).__name__}({counts}, {residual}{self.solver})"

    @property
    def status(self) -> np.ndarray:
        """Status of every row, an object array."""
        status: np.ndarray = np.array(STATUSES, dtype=object)[self.codes.cpu().numpy()]
        return status

    @property
    def converged(self) -> Tensor:
        """Whether each row converged."""
        return self.codes == CODE[Status.CONVERGED]

    @cached_property
    def error_bound(self) -> Tensor | None:
        """Upper bound of ‖value − x‖ up to the rounding of the residual, or None if no constant is known.

        Infinite for rows without a known constant, or where it overflows. It can take far longer than the inverse,
        so it is computed when it is first asked for, with the weights that the unit had at its inverse.
        """
        return self.bound if self.bound is None or isinstance(self.bound, Tensor) else self.bound()

    def with_error_bound(self, bound: Tensor) -> Solution:
        """Return the same solution with an error bound of every row."""
        return replace(self, bound=bound)

    def reshape(self, *shape: int) -> Solution:
        """Give the rows the shape `shape`."""
        if shape == self.codes.shape:
            return self

        def bound() -> Tensor | None:
            return None if self.error_bound is None else self.error_bound.reshape(shape)

        return replace(
            self,
            value=self.value.reshape(*shape, *self.value.shape[1:]),
            codes=self.codes.reshape(shape),
            iterations=self.iterations.reshape(shape),
            residual=self.residual.reshape(shape),
            evaluations=self.evaluations.reshape(shape),
            bound=bound,
        )


def joined(solutions: Sequence[Solution]) -> Solution:
    """Return the solution of all rows, from those of one part of them after the other."""

    def all_rows(name: str) -> Tensor:
        return torch.cat([getattr(solution, name) for solution in solutions])

    value, codes, residual = map(all_rows, ("value", "codes", "residual"))
    iterations, evaluations = map(all_rows, ("iterations", "evaluations"))
    return Solution(value, codes, iterations, residual, evaluations, solver=solutions[0].solver)


def completed(solution: Solution, left: Tensor, rest: Solution) -> Solution:
    """Return a solution whose rows `left` (indices) another method solved, with the evaluations of both."""
    for name in ("value", "codes", "iterations", "residual"):
        getattr(solution, name)[left] = getattr(rest, name)
    solution.evaluations[left] += rest.evaluations
    return replace(solution, solver=rest.solver)


def resolve_tolerance(tolerance: float | None, dtype: torch.dtype) -> float:
    """Return the tolerance, or the default of the dtype; refuse what is not a positive number."""
    if tolerance is None:
        return 1e-10 if dtype == torch.float64 else 1e-5
    check_number("tolerance", tolerance)
    if not tolerance > 0:
        raise ValueError(f"the tolerance must be positive, not {tolerance!r}")
    return float(tolerance)


def codes_of_residual(residual: Tensor, goal: Tensor | float) -> Tensor:
    """Return the codes (batch,) of solutions that are as good as they get: what can't be judged has not converged.

    >>> from replication.solvers.solution import STATUSES
    >>> [STATUSES[code].name for code in codes_of_residual(torch.tensor([1e-12, 0.1, torch.nan]), 1e-10)]
    ['CONVERGED', 'STAGNATED', 'NOT_FINITE']
    """
    codes = torch.where(residual <= goal, CODE[Status.CONVERGED], CODE[Status.STAGNATED])
    return torch.where(torch.isfinite(residual), codes, CODE[Status.NOT_FINITE])


def name_of(solver: object) -> str:
    """Return the name by which a solver or its class is known: the class in lower case, words joined by underscores."""
    return name_of_class(solver if isinstance(solver, type) else type(solver))


@cache
def name_of_class(kind: type) -> str:
    """Return the name by which a class of solvers is known."""
    return re.sub("(?<=[a-z])(?=[A-Z])", "_", kind.__name__).lower()


class Solver(Protocol):
    """A method with its hyper-parameters."""

    def solve(self, equation: Any, tolerance: float) -> Solution:
        """Solve every row of f(x) = y to ‖f(x) − y‖ / ‖y‖ ≤ tolerance, or say by its status why not."""
