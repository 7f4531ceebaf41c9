"""What all units with one ReLU layer share: f(x) = x + W₂·relu(W₁x + b₁) + b₂, forward and back."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import replace

import torch
from torch import Tensor

from replication.certificates import inverse_lipschitz
from replication.checks import check_number, check_rows, check_tensor
from replication.parametrizations import without_graph
from replication.rectifier import RectifierEquation, RectifierMap
from replication.rows import residual_scale, row_norm, smallest_number
from replication.solvers import Solution, Solver, Status, get_solver
from replication.solvers.solution import CODE
from replication.units.unit import Unit

ROUNDING = 8  # margin for convolution algorithms that round more than plain sums


class RectifierUnit(Unit):
    """A layer y = x + W₂·relu(W₁x + b₁) + b₂ that can be undone."""

    @abstractmethod
    def rectifier_map(self, shape: tuple[int, ...]) -> RectifierMap:
        """Return the unit as linear maps of inputs of this shape (without the rows).

        Raises:
            ValueError: if the unit does not take inputs of this shape.
        """

    def inverse_lipschitz(self, shape: tuple[int, ...]) -> Tensor:
        rectifier_map = self.rectifier_map(shape)
        rectifier_map.check()
        return inverse_lipschitz(rectifier_map)

    def rows(self, x: Tensor) -> tuple[Tensor, RectifierMap]:
        """Return x as rows (rows, *shape), and the map that acts on them."""
        return x, self.rectifier_map(tuple(x.shape[1:]))

    def forward(self, x: Tensor) -> Tensor:
        """Return f(x), like x (rows, *shape).

        Raises:
            TypeError: if x is not a tensor of the unit's dtype.
            ValueError: if it has the wrong shape.
        """
        check_tensor(x, like=next(self.parameters()))
        rows, rectifier_map = self.rows(x)
        return rectifier_map(rows).reshape(x.shape)

    @without_graph()
    def inverse(
        self, y: Tensor, solver: str | Solver = "auto", tolerance: float | None = None, **options: object
    ) -> Solution:
        """Recover x from y = f(x), row by row.

        Args:
            y: outputs, of the shape and dtype of the unit's inputs.
            solver: a name in `replication.solvers.SOLVERS` ("banach" is the existing method, "modulus" the proposed
                one, "exact" needs no condition but invertibility, "auto" chooses), or a configured solver.
            tolerance: bound of ‖f(x) − y‖/‖y‖ that counts as converged; by default 1e-10 in float64, 1e-5 in float32.
            options: of the solver named; unknown ones are refused.

        Returns:
            A solution with a status for every row; rows that fail leave the others alone.

        Raises:
            TypeError: if y is not a tensor of the unit's dtype, float32 or float64, or an option is unknown.
            ValueError: if y or a weight is not finite, y has the wrong shape, or the solver or the tolerance is wrong.
        """
        method = get_solver(solver, **options)
        check_rows(y, like=next(self.parameters()))
        rows, rectifier_map = self.rows(y)
        rectifier_map.check()
        if rows.ndim == 4 and rows.dtype == torch.float32:
            rows = rows.contiguous(memory_format=torch.channels_last)  # convolutions are up to three times faster so
        equation = RectifierEquation(rectifier_map, rows)
        tolerance = resolve_tolerance(tolerance, y.dtype)
        solution = judged(method.solve(equation, tolerance), equation, tolerance)
        return with_error_bound(solution, equation).reshape(*y.shape[: y.ndim - rows.ndim + 1])


def resolve_tolerance(tolerance: float | None, dtype: torch.dtype) -> float:
    """Return the tolerance, or the default of the dtype; refuse what is not a positive number."""
    if tolerance is None:
        return 1e-10 if dtype == torch.float64 else 1e-5
    check_number("tolerance", tolerance)
    if not tolerance > 0:
        raise ValueError(f"the tolerance must be positive, not {tolerance!r}")
    return float(tolerance)


def judged(solution: Solution, equation: RectifierEquation, tolerance: float) -> Solution:
    """Take back *converged* where under- or overflow may have changed f(value) by more than tolerance and rounding."""
    accuracy = max(tolerance, torch.finfo(equation.y.dtype).eps)
    kept = lost_to_range(equation, solution.value) <= accuracy * residual_scale(equation.y)
    codes = torch.where(solution.converged & ~kept, CODE[Status.STAGNATED], solution.codes)
    residual = solution.residual.nan_to_num(nan=torch.inf, posinf=torch.inf)
    return replace(solution, value=solution.value.contiguous(), codes=codes, residual=residual)


def with_error_bound(solution: Solution, equation: RectifierEquation) -> Solution:
    """Add the bound ‖value − x‖ ≤ K·‖f(value) − y‖, infinite where no K is known; none if it is known nowhere.

    The residual counts with the rounding of its own computation.
    """
    constant = inverse_lipschitz(equation.map)
    if not torch.isfinite(constant).any():
        return solution
    residual = solution.residual * residual_scale(equation.y) + rounding_of_residual(equation, solution.value)
    return replace(solution, error_bound=(constant * residual).nan_to_num(nan=torch.inf, posinf=torch.inf))


def rounding_of_residual(equation: RectifierEquation, x: Tensor) -> Tensor:
    """Bound the rounding error of f(x) − y (rows,), by the number of terms in each sum times their largest size."""
    terms = equation.map.W1.terms + equation.map.W2.terms + 4
    rounding = ROUNDING * terms * torch.finfo(x.dtype).eps * size_of_terms(equation, x)
    return rounding + lost_to_range(equation, x)


def size_of_terms(equation: RectifierEquation, x: Tensor) -> Tensor:
    """Bound all that is added up in f(x) − y (rows,), and so every partial sum."""
    W1, W2, b1, b2 = equation.map.W1, equation.map.W2, equation.map.b1, equation.map.b2
    size1 = W1.absolute_bound() * row_norm(x) + size_of(b1, W1.codomain)
    return row_norm(x) + size_of(b2, W2.codomain) + row_norm(equation.y) + W2.absolute_bound() * size1


def lost_to_range(equation: RectifierEquation, x: Tensor) -> Tensor:
    """Bound what underflow takes from f(x) − y (rows,); infinite where a sum in it may overflow."""
    W1, W2 = equation.map.W1, equation.map.W2
    h, d = math.prod(W1.codomain), math.prod(W1.domain)
    products = W2.absolute_bound() * (math.sqrt(h) * W1.terms) + math.sqrt(d) * (W2.terms + 4)
    lost = ROUNDING * smallest_number(x) * products
    return torch.where(torch.isfinite(size_of_terms(equation, x)), lost, torch.inf)


def size_of(bias: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Return ‖bias‖ once it is broadcast to `shape`: (1,), or (rows,) for a bias a row."""
    return row_norm(bias if bias.ndim > len(shape) else bias.expand(shape).unsqueeze(0))
