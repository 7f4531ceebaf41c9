"""Units in the plane, their images of a grid, and the collision of one that folds it (fig7)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import pandas as pd
import torch
from torch import Tensor

from replication.units import ResidualUnit

DTYPE = torch.float64


def plane_unit(M: Sequence[Sequence[float]], bias: Sequence[float]) -> ResidualUnit:
    """Return the unit f(x) = x + (M − I)·relu(x + bias) of the plane."""
    matrix, b1, eye = torch.tensor(M, dtype=DTYPE), torch.tensor(bias, dtype=DTYPE), torch.eye(2, dtype=DTYPE)
    return ResidualUnit(eye, b1, matrix - eye, torch.zeros(2, dtype=DTYPE))


@torch.no_grad()
def grid_images(units: Mapping[str, ResidualUnit], extent: float, points: int) -> pd.DataFrame:
    """Send a grid over [−extent, extent]² through each unit, and the witness of its certificate if it has one.

    Returns:
        A row for each point: unit, verdict, role ("grid" or "witness"), row, column (of the grid, or 0 and 0, 1 of the
        witness), x1, x2, y1, y2, determinant (of the Jacobian in the point's piece).
    """
    side = torch.linspace(-extent, extent, points, dtype=DTYPE)
    grid = torch.cartesian_prod(side, side).flip(1)
    places = [(i // points, i % points) for i in range(points**2)]
    rows: list[dict[str, object]] = []
    for name, unit in units.items():
        certificate = unit.certificate()
        about = {"unit": name, "verdict": certificate.verdict.value}
        rows += [about | {"role": "grid"} | row for row in images(unit, grid, places)]
        if certificate.witness is not None:
            pair = torch.stack(certificate.witness)
            rows += [about | {"role": "witness"} | row for row in images(unit, pair, [(0, 0), (0, 1)])]
    return pd.DataFrame(rows)


def images(unit: ResidualUnit, x: Tensor, places: Sequence[tuple[int, int]]) -> Iterator[dict[str, object]]:
    """Yield the columns of every point of x (points, 2)."""
    y = unit(x)
    D = unit.rectifier_map((2,)).slopes(x)
    determinants = torch.linalg.det(torch.eye(2, dtype=x.dtype) + (unit.W2 * D[:, None, :]) @ unit.W1)
    for (row, column), (x1, x2), (y1, y2), determinant in zip(
        places, x.tolist(), y.tolist(), determinants.tolist(), strict=True
    ):
        yield {"row": row, "column": column, "x1": x1, "x2": x2, "y1": y1, "y2": y2, "determinant": determinant}
