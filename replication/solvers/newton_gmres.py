"""Newton's method with GMRES on Jacobian-vector products, for any map that keeps the shape of its rows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Protocol, cast

import torch
from torch import Tensor

from replication.checks import check_counts, check_numbers_finite, check_precision, check_rows
from replication.forward_mode import Map, jacobian_product
from replication.gmres import gmres
from replication.rows import column, residual_scale, row_norm
from replication.solvers.iteration import FixedPoint, iterate
from replication.solvers.method import GeneralMethod
from replication.solvers.solution import Solution

DECREASE = 1e-4  # share of the promised decrease of ‖f(x) − y‖ that a step must bring
FARTHEST = 100.0  # growth of the residual that ends a walk
SHORTEST = 2.0**-7  # share of Newton's step below which the plain step is tried


class Equation(Protocol):
    """f(x) = y, row by row: what the method asks of an equation."""

    @property
    def map(self) -> Map:
        """f, of rows like y."""

    @property
    def y(self) -> Tensor:
        """Outputs (batch, *shape)."""

    def residual(self, x: Tensor) -> Tensor:
        """Return f(x) − y."""

    def select(self, rows: Tensor) -> Any:
        """Keep these rows."""


@dataclass(frozen=True)
class MapEquation:
    """f(x) = y for a function or module that maps every row by itself.

    Attributes:
        function: f, from (batch, *shape) to (batch, *shape).
        y: outputs (batch, *shape).
        evaluation: f for residuals, where it is not to be differentiated; by default the function.

    Raises:
        TypeError: if y is no tensor of float32 or float64.
        ValueError: if y is not finite, or f does not keep its shape.
    """

    function: Map
    y: Tensor
    evaluation: Map | None = None

    @classmethod
    def checked(cls, function: Map, y: Tensor) -> MapEquation:
        """Make the equation after a look at y and at the shape of f(y)."""
        check_rows(y, y)
        check_precision(y)
        equation = cls(function, y)
        with torch.no_grad():
            shape = tuple(equation.map(y[:1]).shape)
        if shape != tuple(y[:1].shape):
            raise ValueError(
                f"the map takes {tuple(y[:1].shape)} to {shape}; only maps that keep the shape have inverses"
            )
        return equation

    def map(self, x: Tensor) -> Tensor:
        """Return f(x), evaluated on a copy: modules may begin with an activation in place."""
        return self.function(x.clone())

    def residual(self, x: Tensor) -> Tensor:
        """Return f(x) − y."""
        return (self.map(x) if self.evaluation is None else self.evaluation(x)) - self.y

    def start(self) -> Tensor:
        """Return the point at which methods begin: y."""
        return self.y

    def select(self, rows: Tensor) -> MapEquation:
        """Keep these rows."""
        return MapEquation(self.function, self.y[rows], self.evaluation)


@dataclass(frozen=True)
class NewtonGMRESState:
    """A point on trial, and what it is compared with.

    Attributes:
        x: the point on trial: base + α·direction, or farther on a walk.
        base: the last point that was accepted, like x.
        residual: f(base) − y.
        size: its norm (batch,), infinite before the first step.
        direction: like x.
        alpha: share of the direction that is on trial (batch,).
        newton: whether the direction is Newton's (batch,), else −residual.
        walk: whole steps that may still be taken without a smaller residual (batch,).
        forcing: share of the residual that the last linear system was solved to (batch,).
        products: with the Jacobian, in the last step (batch,).
    """

    x: Tensor
    base: Tensor
    residual: Tensor
    size: Tensor
    direction: Tensor
    alpha: Tensor
    newton: Tensor
    walk: Tensor
    forcing: Tensor
    products: Tensor


@dataclass(frozen=True)
class NewtonGMRES(GeneralMethod, FixedPoint):
    """Iterate x ← x + αp with f′(x)p ≈ y − f(x), by restarted GMRES on products with f′, from x = y.

    Where ‖f(x) − y‖ does not fall, a walk of whole steps goes on for a while, since on linear pieces it often ends at
    the solution; else the row returns, and α is halved until it falls. Where f has kinks Newton's direction may lead
    nowhere: then the plain step p = y − f(x) is halved likewise, along which it falls for every strongly monotone f.
    Rows may stagnate where f folds or is stretched too unevenly; what they converge to on a folding f is one of several
    preimages. A trial that overflows, or is a million times worse than the start, ends its row.

    Every trial of a step is one iteration; evaluations count residuals and products alike.

    Source: Saad and Schultz, SIAM J. Sci. Stat. Comput. 7 (1986) 856–869 (GMRES); Eisenstat and Walker, SIAM J. Sci.
    Comput. 17 (1996) 16–32 (forcing terms, choice 2); Pang, Math. Oper. Res. 15 (1990) 311–341 (kinks);
    Chamberlain et al., Math. Program. Study 16 (1982) 1–17 (walks that return).

    Args:
        forcing: share of the residual that linear systems are solved to, at most.
        restart: products after which GMRES begins again; it keeps as many vectors like y.
        cycles: times that GMRES begins, at most.
        walk: whole steps without a smaller residual, before a row returns.
        goal: relative residual that need not be improved on by linear systems; `solve` sets it to its tolerance.
        max_iterations, patience: as for every fixed point (`FixedPoint`).

    Raises:
        ValueError: if forcing does not lie between 0 and 1, or another number is negative.

    >>> from replication import LipschitzConvUnit
    >>> unit = LipschitzConvUnit(1, 2, image_size=(4, 4))
    >>> unit.inverse(unit(torch.randn(3, 1, 4, 4)).detach(), NewtonGMRES()).solver
    'newton_gmres'
    """

    forcing: float = 0.01
    restart: int = 40
    cycles: int = 5
    walk: int = 8
    goal: float = 0.0
    max_iterations: int = 200
    patience: int = 30

    def __post_init__(self) -> None:
        super().__post_init__()
        check_counts(1, restart=self.restart, cycles=self.cycles)
        check_counts(0, walk=self.walk)
        check_numbers_finite(forcing=self.forcing, goal=self.goal)
        if not 0 < self.forcing < 1 or self.goal < 0:
            raise ValueError(
                f"forcing must lie between 0 and 1 and goal not be negative, not {self.forcing!r}, {self.goal!r}"
            )

    def solve(self, equation: Equation, tolerance: float) -> Solution:
        """Iterate every row until it converges or is known to fail (`iterate`)."""
        return iterate(cast("Any", equation), replace(self, goal=max(self.goal, tolerance)), tolerance)

    def init(self, equation: Equation) -> NewtonGMRESState:
        x = equation.y
        unknown = torch.full_like(x.flatten(1)[:, 0], torch.inf)
        none, forcing = torch.zeros_like(unknown), torch.full_like(unknown, self.forcing)
        return NewtonGMRESState(x, x, x, unknown, x, none, none.bool(), none.long(), forcing, none.long())

    def point(self, equation: Equation, state: NewtonGMRESState) -> Tensor:
        return state.x

    def step(self, equation: Equation, state: NewtonGMRESState, x: Tensor, residual: Tensor) -> NewtonGMRESState:
        size = row_norm(residual)
        promised = torch.where(state.newton, 1 - state.forcing, 1.0)
        accepted = size <= (1 - DECREASE * state.alpha * promised) * state.size
        walking = state.newton & (state.alpha == 1) & (state.walk > 0) & (size <= FARTHEST * state.size)
        shorter = shortened(state)
        rows = (accepted | walking).nonzero().squeeze(1)
        if not len(rows):
            return shorter
        forcing = self.forcing_terms(state.forcing[rows], size[rows], state.size[rows], equation.y[rows])
        direction, products = newton_direction(equation.select(rows), x[rows], residual[rows], forcing, self)
        new = column(accepted[rows], x)
        return NewtonGMRESState(
            shorter.x.index_copy(0, rows, x[rows] + direction),
            torch.where(column(accepted, x), x, state.base),
            torch.where(column(accepted, x), residual, state.residual),
            torch.where(accepted, size, state.size),
            shorter.direction.index_copy(0, rows, torch.where(new, direction, state.direction[rows])),
            shorter.alpha.index_fill(0, rows, 1),
            shorter.newton.index_fill(0, rows, True),
            torch.where(accepted, self.walk, state.walk - 1),
            state.forcing.index_copy(0, rows, forcing),
            torch.zeros_like(state.products).index_copy(0, rows, products),
        )

    def work(self, state: NewtonGMRESState) -> Tensor:
        return state.products

    def forcing_terms(self, last: Tensor, size: Tensor, last_size: Tensor, y: Tensor) -> Tensor:
        """Return the share of the residual that each row's next linear system is solved to (batch,)."""
        forcing = 0.9 * (size / last_size).square()
        memory = 0.9 * last.square()  # so that one lucky step does not ask for too much
        forcing = torch.where((memory > 0.1) & (size < last_size), torch.maximum(forcing, memory), forcing)
        forcing = torch.where(torch.isfinite(last_size), forcing, self.forcing)
        needless = 0.5 * self.goal * residual_scale(y) / size
        finest = 10 * torch.finfo(size.dtype).eps
        return torch.maximum(forcing, needless).clamp(finest, self.forcing)


def shortened(state: NewtonGMRESState) -> NewtonGMRESState:
    """Return half the last trial, or the whole plain step where Newton's has been halved too often."""
    given_up = state.newton & (state.alpha / 2 < SHORTEST)
    direction = torch.where(column(given_up, state.x), -state.residual, state.direction)
    alpha = torch.where(given_up, 1.0, state.alpha / 2)
    return replace(
        state,
        x=state.base + column(alpha, state.x) * direction,
        direction=direction,
        alpha=alpha,
        newton=state.newton & ~given_up,
        products=torch.zeros_like(state.products),
    )


def newton_direction(
    equation: Equation, x: Tensor, residual: Tensor, forcing: Tensor, solver: NewtonGMRES
) -> tuple[Tensor, Tensor]:
    """Return p with f′(x)p ≈ −residual, like x, or −residual where none is found, and the products taken (batch,)."""

    def product(v: Tensor, rows: Tensor) -> Tensor:
        return jacobian_product(equation.select(rows).map, x[rows], v)

    size = column(row_norm(residual), x)
    solved, products = gmres(product, -residual / size, forcing, solver.restart, solver.cycles)
    finite = column(torch.isfinite(solved.flatten(1)).all(1), x)
    return torch.where(finite, solved * size, -residual), products


def invert_map(function: Map, y: Tensor, tolerance: float, **options: Any) -> Solution:
    """Solve f(x) = y for a bare function or module, row by row, with every row's status and residual.

    Nothing is known of f, so there is no error bound, and x may be one of several preimages.

    Args:
        function: f, which maps rows (batch, *shape) to rows like them, each by itself; modules in eval mode.
        y: outputs (batch, *shape).
        tolerance: bound of ‖f(x) − y‖ / ‖y‖.
        options: of `NewtonGMRES`.

    Raises:
        TypeError, ValueError: as `MapEquation.checked` and `NewtonGMRES`.

    >>> x = torch.linspace(-1, 1, 6, dtype=torch.float64).reshape(2, 3)
    >>> invert_map(lambda x: x + torch.tanh(x).flip(1) / 2, x + torch.tanh(x).flip(1) / 2, 1e-12).converged
    tensor([True, True])
    """
    return NewtonGMRES(**options).solve(MapEquation.checked(function, y), tolerance)
