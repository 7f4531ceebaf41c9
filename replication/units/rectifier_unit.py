"""What all units with one ReLU layer share: f(x) = x + W₂·relu(W₁x + b₁) + b₂, forward and back."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor

from replication.certificate import Certificate
from replication.certification import certify, concluded, inverse_lipschitz
from replication.checks import check_rows, check_tensor
from replication.maps import RectifierEquation, RectifierMap
from replication.parametrizations import without_graph
from replication.solvers import Solution, Solver, get_solver
from replication.solvers.jacobians import solve_adjoint
from replication.solvers.solution import resolve_tolerance
from replication.units.implicit import ImplicitStep
from replication.units.layer import Unit


class RectifierUnit(Unit):
    """A layer y = x + W₂·relu(W₁x + b₁) + b₂ that can be undone."""

    differentiable = True

    @abstractmethod
    def rectifier_map(self, shape: tuple[int, ...]) -> RectifierMap:
        """Return the unit as linear maps of inputs of this shape (without the batch).

        Raises:
            ValueError: if the unit does not take inputs of this shape.
        """

    def certificate(self, folds: bool = True) -> Certificate:
        """Certify the unit, for inputs of its `input_shape`.

        Args:
            folds: whether two inputs with the same output are looked for where no condition holds: seconds for large
                convolutions.
        """
        return certify(self.rectifier_map(self.input_shape), folds)

    def inverse_lipschitz(self, shape: tuple[int, ...] | None = None) -> Tensor:
        rectifier_map = self.rectifier_map(self.input_shape if shape is None else shape)
        rectifier_map.check()
        return inverse_lipschitz(rectifier_map)

    def log_abs_det_jacobian(self, x: Tensor) -> Tensor:
        """Return log|det ∂f/∂x| of every row of x: exact, and differentiable in the parameters.

        At a kink, a preactivation of exactly 0, the piece on its negative side is taken.

        Raises:
            TypeError: if x is of another dtype than float32 or float64.
            ValueError: if the unit is a convolution, not causal, with too many hidden numbers for a matrix.
        """
        rows, rectifier_map = self.rows(x)
        return rectifier_map.log_abs_det_jacobian(rows).reshape(x.shape[: x.ndim - rows.ndim + 1])

    def implicit(self, value: Tensor, y: Tensor) -> Tensor:
        rows, rectifier_map = self.rows(value)
        residual = rectifier_map(rows) - y.reshape(rows.shape)
        active = (rectifier_map.slopes(rows) > 0).flatten(1)
        weights = rectifier_map.W1.weight, rectifier_map.W2.weight
        x: Tensor = ImplicitStep.apply(residual, rows, lambda v: -solve_adjoint(rectifier_map, active, v), *weights)
        return x.reshape(y.shape)

    def rows(self, x: Tensor) -> tuple[Tensor, RectifierMap]:
        """Return x as a batch of rows (batch, *shape), and the map that acts on them."""
        return x, self.rectifier_map(tuple(x.shape[1:]))

    def forward(self, x: Tensor) -> Tensor:
        """Return f(x), like x (batch, *shape).

        Raises:
            TypeError: if x is not a tensor of the unit's dtype.
            ValueError: if it has the wrong shape.
        """
        check_tensor(x, like=next(self.parameters()))
        rows, rectifier_map = self.rows(x)
        return rectifier_map(rows).reshape(x.shape)

    @without_graph
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
        # float32 convolutions are up to three times faster with the channels last; those of float64 want them first
        last = rows.ndim == 4 and rows.dtype == torch.float32
        rows = rows.contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)
        equation = RectifierEquation(rectifier_map, rows)
        tolerance = resolve_tolerance(tolerance, y.dtype)
        solution = concluded(method.solve(equation, tolerance), equation, tolerance)
        return solution.reshape(*y.shape[: y.ndim - rows.ndim + 1])
