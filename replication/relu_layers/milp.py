"""The mixed-integer programs of a violation, for ReLU layers past the exact test."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp

from replication.relu_layers.collisions import Pair, colliding_pair, refuted
from replication.relu_layers.gordan import negative_point
from replication.relu_layers.layer import Layer, unit
from replication.relu_layers.verdict import SpanningTest

INFEASIBLE = 2  # status of scipy.optimize.milp


def by_milp(layer: Layer, time_limit: float, general_position: bool) -> SpanningTest:
    """Decide by mixed-integer programs, to the tolerances of HiGHS, within a time limit in seconds.

    First: is there x ≠ 0 with ⟨wⱼ,x⟩ > 0 for fewer than n rows? If not, rows in general position span at every x. For
    others then: are there x ≠ 0 and v ≠ 0 with ⟨wⱼ,x⟩ ≤ 0 or ⟨wⱼ,v⟩ = 0 for each row? If not, the rows span at
    every x. With biases the rows with bⱼ ≥ 0 are taken, which is sufficient.

    >>> import torch
    >>> by_milp(Layer.of(torch.tensor([[2.0], [-1.0]]), None), time_limit=10.0, general_position=False).reason
    'The mixed-integer program of a violation is infeasible (2 rows, 1 columns).'
    """
    rows = layer.unit_rows[layer.b >= 0]
    m, n = rows.shape
    size = f"{m} rows, {n} columns"
    programs = [counting_program] if general_position else [counting_program, spanning_program]
    for program in programs:
        parts, constraints = program(rows)
        result = milp(**parts.program(constraints), options={"time_limit": time_limit / len(programs)})
        pair = None if result.x is None else pair_nearby(layer, parts.read(result.x, "z") < 0.5)
        if pair is not None:
            return refuted(layer, pair)
        if result.status == INFEASIBLE and program is programs[-1]:
            given = ", in general position as given" if general_position else ""
            return SpanningTest(
                True, "milp", f"The mixed-integer program of a violation is infeasible ({size}{given})."
            )
        if result.status != INFEASIBLE:
            break
    return SpanningTest(None, None, f"Mixed-integer programs did not decide within {time_limit:g} s ({size}).")


def pair_nearby(layer: Layer, inactive: np.ndarray) -> Pair | None:
    """Return a colliding pair where the rows marked among those with bⱼ ≥ 0 are negative, or None.

    >>> import torch
    >>> x1, x2 = pair_nearby(Layer.of(torch.eye(2), None), np.array([True, True]))
    >>> bool((x1 < 0).all() and (x2 < 0).all())
    True
    """
    n = layer.W.shape[1]
    x, _ = negative_point(layer.W[layer.b >= 0][inactive], n)
    return None if x is None else colliding_pair(layer, layer.far_out(unit(x[None]))[0])


def counting_program(rows: np.ndarray) -> tuple[Parts, list[LinearConstraint]]:
    """Return the program that asks for x ≠ 0 at which fewer than n of the rows (m, n) are positive.

    >>> parts, constraints = counting_program(np.eye(2))
    >>> parts.sizes, len(constraints)
    ({'x': 2, 'z': 2, 'above': 2, 'below': 2}, 5)
    """
    m, n = rows.shape
    parts = Parts({"x": n, "z": m, "above": n, "below": n})
    few = LinearConstraint(parts.block(1, z=np.ones((1, m))), 0, n - 1)
    return parts, [*positive_rows(parts, rows), few]


def spanning_program(rows: np.ndarray) -> tuple[Parts, list[LinearConstraint]]:
    """Return the program that asks for x ≠ 0 and a v ≠ 0 orthogonal to all rows (m, n) that are positive at x.

    >>> parts, constraints = spanning_program(np.eye(2))
    >>> parts.sizes, len(constraints)
    ({'x': 2, 'v': 2, 'z': 2, 'above': 2, 'below': 2, 'one': 2}, 8)
    """
    m, n = rows.shape
    parts = Parts({"x": n, "v": n, "z": m, "above": n, "below": n, "one": n})
    bound = np.abs(rows).sum(axis=1)
    orthogonal = [
        LinearConstraint(parts.block(m, v=sign * rows, z=np.diag(bound)), -np.inf, bound) for sign in (1.0, -1.0)
    ]
    nonzero = [
        LinearConstraint(parts.block(n, v=np.eye(n), one=-2 * np.eye(n)), -1, np.inf),
        LinearConstraint(parts.block(1, one=np.ones((1, n))), 1, 1),
    ]
    return parts, [*positive_rows(parts, rows), *orthogonal, *nonzero]


def positive_rows(parts: Parts, rows: np.ndarray) -> list[LinearConstraint]:
    """Return the constraints that zⱼ = 1 where ⟨wⱼ,x⟩ > 0, and that a component of x is 1 ("above") or −1 ("below").

    >>> len(positive_rows(Parts({"x": 2, "z": 2, "above": 2, "below": 2}), np.eye(2)))
    4
    """
    m, n = rows.shape
    eye, ones = np.eye(n), np.ones((1, n))
    return [
        LinearConstraint(parts.block(m, x=rows, z=-np.diag(np.abs(rows).sum(axis=1))), -np.inf, 0),
        LinearConstraint(parts.block(n, x=eye, above=-2 * eye), -1, np.inf),
        LinearConstraint(parts.block(n, x=eye, below=2 * eye), -np.inf, 1),
        LinearConstraint(parts.block(1, above=ones, below=ones), 1, 1),
    ]


@dataclass(frozen=True)
class Parts:
    """The variables of a mixed-integer program: how many have each name; x and v in [−1, 1], the others 0 or 1.

    >>> parts = Parts({"x": 2, "z": 1})
    >>> parts.block(1, z=np.ones((1, 1))).tolist(), parts.read(np.array([0.5, -0.5, 1.0]), "z").tolist()
    ([[0.0, 0.0, 1.0]], [1.0])
    """

    sizes: dict[str, int]

    def block(self, count: int, **parts: np.ndarray) -> np.ndarray:
        """Return `count` rows of constraints, with these coefficients and zeros elsewhere."""
        return np.concatenate([parts.get(name, np.zeros((count, size))) for name, size in self.sizes.items()], axis=1)

    def program(self, constraints: list[LinearConstraint]) -> dict[str, object]:
        """Return the arguments of `scipy.optimize.milp` in search of any point that satisfies the constraints."""
        whole = np.concatenate([np.full(size, name not in ("x", "v")) for name, size in self.sizes.items()])
        bounds = Bounds(np.where(whole, 0, -1), np.ones(len(whole)))
        return {"c": np.zeros(len(whole)), "constraints": constraints, "integrality": whole, "bounds": bounds}

    def read(self, point: np.ndarray, name: str) -> np.ndarray:
        """Return the variables of a name."""
        ends = dict(zip(self.sizes, np.cumsum(list(self.sizes.values())), strict=True))
        return point[ends[name] - self.sizes[name] : ends[name]]
