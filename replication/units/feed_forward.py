"""Units of any feed-forward module: read, certified, and undone by methods that ask for values and derivatives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from replication.certificate import Certificate
from replication.certification.feed_forward import LiftedMatrices, certify_feed_forward
from replication.checks import check_rows
from replication.gmres import gmres
from replication.maps import MATRIX_LIMIT
from replication.maps.feed_forward import FeedForwardMap
from replication.parametrizations import without_graph
from replication.rows import residual_scale, row_norm
from replication.solvers import SOLVERS, Auto, Method, Solution, Solver, get_solver
from replication.solvers.method import GeneralMethod
from replication.solvers.newton_gmres import MapEquation
from replication.solvers.solution import name_of, resolve_tolerance
from replication.units.implicit import ImplicitStep
from replication.units.layer import Unit

BOUNDED = 256  # inputs and preactivations up to which an inverse comes with an error bound
GENERAL = [name for name, method in SOLVERS.items() if issubclass(method, GeneralMethod)]


@dataclass(frozen=True)
class Snapshot:
    """What a module was: by its weights and outputs, and the mode of its parts."""

    tensors: list[Tensor]
    modes: list[bool]

    def same(self, other: Snapshot) -> bool:
        """Return whether nothing has changed; NaN counts as a change."""
        pairs = zip(self.tensors, other.tensors, strict=False)
        return (
            self.modes == other.modes
            and len(self.tensors) == len(other.tensors)
            and all(a.dtype == b.dtype and a.device == b.device and torch.equal(a, b) for a, b in pairs)
        )


class FeedForwardUnit(Unit):
    """A module made of affine maps, element-wise activations and skip connections that keeps the shape.

    Its parameters are the module's own; what it computes is read anew where it is asked for and the module is no longer
    what it was when it was read: by its weights, its mode, and its outputs.

    Source: design of the package (no paper has it): s + Aφ(s) = c for branches of any depth.

    Args:
        module: the module, whose inputs have the shape (batch, *shape).
        example: inputs (batch, *shape), where folds are looked for.
        read: returns the module as a feed-forward map.
        evaluate: returns what the module makes of inputs, and leaves it as it is.
        found: what reading it has returned, if it has been read.

    >>> from replication import as_unit
    >>> unit = as_unit(nn.Sequential(nn.Linear(2, 2), nn.Softplus(), nn.Linear(2, 2)), torch.randn(3, 2))
    >>> type(unit).__name__, unit.input_shape
    ('FeedForwardUnit', (2,))
    """

    title = "feed-forward unit"
    differentiable = True
    example: Tensor

    def __init__(
        self,
        module: nn.Module,
        example: Tensor,
        read: Callable[[nn.Module, Tensor], FeedForwardMap],
        evaluate: Callable[[Tensor], Tensor],
        found: FeedForwardMap | None = None,
    ) -> None:
        super().__init__()
        self.module, self.read, self.evaluate = module, read, evaluate
        with torch.inference_mode(False):
            self.register_buffer("example", example.detach().clone(), persistent=False)  # so that it follows `to`
        self.training = module.training
        self.known = None if found is None else (self.snapshot(), found)

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what was read, which cannot be pickled."""
        return {**self.__dict__, "known": None}

    @property
    def input_shape(self) -> tuple[int, ...]:
        return tuple(self.example.shape[1:])

    def forward(self, x: Tensor) -> Tensor:
        """Return f(x), like x (batch, *shape)."""
        y: Tensor = self.module(x)
        return y

    def feed_forward(self) -> FeedForwardMap:
        """Return the module as a feed-forward map, with the weights that it has now."""
        now = self.snapshot()
        if self.known is None or not self.known[0].same(now):
            self.known = now, self.read(self.module, self.example)
        return self.known[1]

    @torch.no_grad()
    def snapshot(self) -> Snapshot:
        """Return the module's weights and mode, and what it makes of the example."""
        named = (*self.module.named_parameters(), *self.module.named_buffers())
        tensors = [self.example, *(tensor for _, tensor in named)]
        try:
            tensors.append(self.evaluate(self.example))
        except ValueError:  # then reading it says why it is none any more
            tensors.append(torch.full((1,), torch.nan))
        return Snapshot([tensor.detach().clone() for tensor in tensors], [m.training for m in self.module.modules()])

    @without_graph
    def inverse(
        self, y: Tensor, solver: str | Solver = "auto", tolerance: float | None = None, **options: object
    ) -> Solution:
        """Recover x from y = f(x), row by row.

        Args:
            y: outputs (batch, *shape).
            solver: "newton_gmres", which "auto" takes, "anderson" or "banach", or one of them, configured.
            tolerance: bound of ‖f(x) − y‖/‖y‖ that counts as converged, with f as the module evaluates it; by default
                1e-10 in float64, 1e-5 in float32.
            options: of the solver named.

        Returns:
            A solution with a status for every row. Small modules that are proved to be diagonally stable come with an
            error bound, up to the rounding of the residual.

        Raises:
            TypeError: if y is not a tensor of the module's dtype, or an option is unknown.
            ValueError: if y is not finite or has the wrong shape, the solver is made for other units, or the module
                can no longer be read.
        """
        method = general_solver(solver, **options)
        check_rows(y, like=self.example)
        if tuple(y.shape[1:]) != self.input_shape:
            shape = ", ".join(map(str, self.input_shape))
            raise ValueError(f"the unit takes outputs (batch, {shape}), not of shape {tuple(y.shape)}")
        f = self.feed_forward()
        equation = MapEquation(lambda x: f.output(x).to(x.dtype), y, self.evaluate)
        solution = method.solve(equation, resolve_tolerance(tolerance, y.dtype))
        return with_bound(solution, y, f)

    def implicit(self, value: Tensor, y: Tensor) -> Tensor:
        residual = self.module(value.clone()) - y  # of a copy, since modules may overwrite their input
        f = self.feed_forward()
        x: Tensor = ImplicitStep.apply(
            residual, value, lambda v: -solve_adjoint(f, value, v), *self.module.parameters()
        )
        return x

    def log_abs_det_jacobian(self, x: Tensor) -> Tensor:
        """Return log|det ∂f/∂x| of every row of x (batch,), exact but without a gradient."""
        return self.feed_forward().log_abs_det_jacobian(x).to(x.dtype)

    @without_graph
    def certificate(self, folds: bool = True) -> Certificate:
        """Certify the unit, or find two inputs with the same output.

        Args:
            folds: whether such inputs are looked for where no condition holds: seconds to a minute for large modules.
        """
        return certify_feed_forward(self.feed_forward(), self.evaluate, self.example, folds)

    @without_graph
    def inverse_lipschitz(self, shape: tuple[int, ...] | None = None) -> Tensor:
        bound = LiftedMatrices(self.feed_forward()).bound()
        return self.example.new_tensor(torch.inf if bound is None else bound.constant)


def general_solver(solver: str | Solver, **options: object) -> Solver:
    """Return a solver for any module, by its name or configured, as `get_solver`.

    Raises:
        ValueError: if it is made for other units.
    """
    method = get_solver(solver, **options)
    if isinstance(method, Method) and not isinstance(method, GeneralMethod | Auto):
        raise ValueError(
            f"{name_of(method)} needs a unit with one ReLU layer, and the module is read as none; use one of "
            f"{', '.join(GENERAL)}, which take every module, or auto"
        )
    return method


def with_bound(solution: Solution, y: Tensor, f: FeedForwardMap) -> Solution:
    """Add error bounds to the solution of a small map that is diagonally stable."""
    if max(f.n, f.d) > BOUNDED:
        return solution
    matrices = LiftedMatrices(f)
    bound = matrices.bound()
    if bound is None:
        return solution
    size = solution.residual * residual_scale(y) + 2 * matrices.departure
    return solution.with_error_bound((bound.constant * size).nan_to_num(nan=torch.inf, posinf=torch.inf))


@torch.no_grad()
def solve_adjoint(f: FeedForwardMap, x: Tensor, v: Tensor) -> Tensor:
    """Return u with Df(x)ᵀu = v for rows x and v (batch, *shape): by the matrix where it is small, else by GMRES.

    Raises:
        RuntimeError: if the system is not solved, because the Jacobian is singular or nearly so.
    """
    if f.d <= MATRIX_LIMIT:
        u = torch.linalg.solve_ex(f.jacobian(x).mT, v.flatten(1).to(f.dtype))[0].reshape(v.shape)
    else:
        accuracy = torch.full_like(row_norm(v), 4 * torch.finfo(f.dtype).eps)
        u, _ = gmres(lambda w, rows: f.jacobian_adjoint(x[rows], w), v.to(f.dtype), accuracy, 60, 20)
    missing: Tensor = row_norm(f.jacobian_adjoint(x, u) - v) / residual_scale(v)
    if torch.isfinite(v).all() and not (missing <= torch.finfo(v.dtype).eps ** 0.5).all():
        raise RuntimeError(
            "the gradient cannot be computed: the Jacobian of a row is singular or nearly so (its linear system is "
            f"solved to {float(missing.max()):.1e} only)"
        )
    solved: Tensor = u.to(v)
    return solved
