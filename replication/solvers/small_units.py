"""The loop of `iterate` for many small units at once, each a row's own: the same steps, compiled."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from replication.compiled import as_array, spread
from replication.kernels import fixed_points
from replication.kernels.fixed_points import Ends, Limits, Room, Units, room
from replication.maps import DenseMap, RectifierEquation
from replication.rows import residual_scale
from replication.solvers.iteration import DIVERGENCE_FACTOR, FixedPoint
from replication.solvers.solution import CODE, Solution, Status, name_of

SMALL = 400  # numbers of a matrix below which torch adds its products up one by one, as the compiled loops do
SMALL_ALONE = 2**14  # of the matrix of a single row, whose steps are shorter than calls of torch
STEPS = 100  # that a row takes, roughly
STATUS_OF_END = {
    fixed_points.MAX_ITERATIONS: Status.MAX_ITERATIONS,
    fixed_points.STAGNATED: Status.STAGNATED,
    fixed_points.DIVERGED: Status.DIVERGED,
    fixed_points.NOT_FINITE: Status.NOT_FINITE,
    fixed_points.CONVERGED: Status.CONVERGED,
}

RowLoop = Callable[[slice, Units, np.ndarray, np.ndarray, Limits, Ends, Room], None]


def are_small(equation: RectifierEquation) -> bool:
    """Return whether an equation has a small unit for every row, for which the compiled loops are made, or one row."""
    units, y = equation.map, equation.y
    if not isinstance(units, DenseMap) or y.dtype != torch.float64 or y.device.type != "cpu":
        return False
    h, d = units.W1.weight.shape[-2:]
    own = units.W1.batched and units.W2.batched
    return h * max(h, d) < (SMALL_ALONE if len(y) == 1 else SMALL if own else 0)


def iterate_small(equation: RectifierEquation, solver: FixedPoint, tolerance: float, loop: RowLoop) -> Solution:
    """Run a compiled loop on every row; return what `iterate` would.

    Args:
        equation: rows to solve, of which each has a small unit, or one row.
        solver: the method.
        tolerance: bound of ‖f(x) − y‖ / ‖y‖.
        loop: of the method, from some rows, their units, y, its norms, limits and room to their ends.
    """
    f, (rows, d) = equation.map, equation.y.shape
    y, scale = as_array(equation.y), as_array(residual_scale(equation.y))
    h = f.W1.weight.shape[-2]
    shapes = (h, d), (h,), (d, h), (d,)
    parameters = f.W1.weight, f.b1, f.W2.weight, f.b2
    arrays = [as_array(tensor.reshape(-1, *shape)) for tensor, shape in zip(parameters, shapes, strict=True)]
    limits = Limits(tolerance, DIVERGENCE_FACTOR, solver.patience, solver.max_iterations)
    ends = Ends(y.copy(), np.empty(rows), np.empty(rows, np.int64), np.empty(rows, np.int64))

    def part(own: slice) -> None:
        of_rows = Units(*(array[own] for array in arrays))
        loop(own, of_rows, y[own], scale[own], limits, Ends(*(array[own] for array in ends)), room(h, d))

    spread(part, rows, STEPS * rows * 2 * h * d)
    value, residual, end, steps = map(torch.from_numpy, ends)
    codes = torch.empty_like(end)
    for number, status in STATUS_OF_END.items():
        codes[end == number] = CODE[status]
    return Solution(value, codes, steps, residual, 1 + steps, solver=name_of(solver))
