"""What all units with one ReLU layer share: f(x) = x + W₂·relu(W₁x + b₁) + b₂, forward and back."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import replace

import torch
from torch import Tensor

from replication.certificates import inverse_lipschitz
from replication.checks import check_number, check_rows, check_tensor
from replication.parametrizations import without_graph
from replication.rectifier import RectifierEquation, RectifierMap
from replication.rows import residual_scale, row_norm
from replication.solvers import Solution, Solver, get_solver
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
        return inverse_lipschitz(self.rectifier_map(shape))

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
            TypeError: if y is not a tensor of the unit's dtype, or an option is unknown.
            ValueError: if y is not finite or has the wrong shape, or the solver or the tolerance is wrong.
        """
        method = get_solver(solver, **options)
        check_rows(y, like=next(self.parameters()))
        rows, rectifier_map = self.rows(y)
        if rows.ndim == 4 and rows.dtype == torch.float32:
            rows = rows.contiguous(memory_format=torch.channels_last)  # convolutions are up to three times faster so
        equation = RectifierEquation(rectifier_map, rows)
        solution = method.solve(equation, resolve_tolerance(tolerance, y.dtype))
        solution = replace(solution, value=solution.value.contiguous())
        return with_error_bound(solution, equation).reshape(*y.shape[: y.ndim - rows.ndim + 1])


def resolve_tolerance(tolerance: float | None, dtype: torch.dtype) -> float:
    """Return the tolerance, or the default of the dtype; refuse what is not a positive number."""
    if tolerance is None:
        return 1e-10 if dtype == torch.float64 else 1e-5
    check_number("tolerance", tolerance)
    if not tolerance > 0:
        raise ValueError(f"the tolerance must be positive, not {tolerance!r}")
    return float(tolerance)


def with_error_bound(solution: Solution, equation: RectifierEquation) -> Solution:
    """Add the bound ‖value − x‖ ≤ K·‖f(value) − y‖, infinite where no K is known; none if it is known nowhere.

    The residual counts with the rounding of its own computation.
    """
    constant = inverse_lipschitz(equation.map)
    if not torch.isfinite(constant).any():
        return solution
    residual = solution.residual * residual_scale(equation.y) + rounding_of_residual(equation, solution.value)
    return replace(solution, error_bound=torch.where(torch.isfinite(constant), constant * residual, torch.inf))


def rounding_of_residual(equation: RectifierEquation, x: Tensor) -> Tensor:
    """Bound the rounding error of f(x) − y (rows,), by the number of terms in each sum times their largest size."""
    W1, W2, b1, b2 = equation.map.W1, equation.map.W2, equation.map.b1, equation.map.b2
    size1 = W1.absolute_bound() * row_norm(x) + size_of(b1, W1.codomain)
    size = row_norm(x) + size_of(b2, W2.codomain) + row_norm(equation.y) + W2.absolute_bound() * size1
    return ROUNDING * (W1.terms + W2.terms + 4) * torch.finfo(x.dtype).eps * size


def size_of(bias: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Return ‖bias‖ once it is broadcast to `shape`: (1,), or (rows,) for a bias a row."""
    return row_norm(bias if bias.ndim > len(shape) else bias.expand(shape).unsqueeze(0))
