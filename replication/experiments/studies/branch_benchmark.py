"""What brings random branches below norm 1 back to one error, and what chains of them lose (bench_branches)."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any, cast

import pandas as pd
import torch
from torch import Tensor

from replication.experiments.data.branches import Branches, BranchKind
from replication.experiments.data.ensembles import normal
from replication.maps.equation import RowEquation
from replication.rows import row_norm
from replication.solvers import Solution, Solver

EPS = torch.finfo(torch.float64).eps


@torch.no_grad()
def branch_benchmark(
    branches: Mapping[str, BranchKind],
    solvers: Mapping[str, Solver],
    n: int,
    gamma: float,
    cases: int,
    chain: int,
    chain_tolerance: float,
    error: float,
    tolerances: Sequence[float],
    seed: int,
) -> pd.DataFrame:
    """Undo random branches by each method, with the loosest tolerance that brings every row back to one error.

    "existing" is the loop x ← y − g(x) of packages with residual flows; "normflows", one of them, is left out, with a
    warning, where it is not installed. For what is drawn see `BranchKind`.

    Source: design of the package (no paper has it).

    Args:
        branches: kinds, by name.
        solvers: by name.
        n: preactivations and inputs.
        gamma: norm of every block of A.
        cases: random branches of each kind, in float64.
        chain, chain_tolerance: so many of them one after the other, and the tolerance of each's residual.
        error: largest relative error of a row that counts as brought back.
        tolerances: of the residual, which are tried in this order.
        seed: of the draws.

    Returns:
        A row for each branch and method: branch, layers, n, gamma, method, cases, tolerance, recovered_percent,
        error_max, evaluations (mean, products with the Jacobian included), evaluations_ratio (to the existing method),
        chain_error_max (relative, of the first inputs), chain_rounding_max (that error in units of ε times the product
        of the condition numbers of the branches' Jacobians).
    """
    rows: list[dict[str, object]] = []
    if "normflows" in solvers and not find_spec("normflows"):
        warnings.warn("normflows is not installed and left out; pip install it to have it compared", stacklevel=2)
        solvers = {name: solver for name, solver in solvers.items() if name != "normflows"}
    for name, kind in branches.items():
        generator = torch.Generator().manual_seed(seed)
        maps = [kind.draw(cases, n, generator).scaled(torch.tensor([gamma])) for _ in range(chain)]
        x = normal(cases, n, generator=generator)
        about: dict[str, Any] = {"branch": name, "layers": kind.layers, "n": n, "gamma": gamma}
        found = [
            about
            | {"method": method, "cases": cases}
            | one_branch(maps[0], x, solver, error, tolerances)
            | whole_chain(maps, x, solver, chain_tolerance)
            for method, solver in solvers.items()
        ]
        existing = next((row["evaluations"] for row in found if row["method"] == "existing"), math.nan)
        rows += [row | {"evaluations_ratio": row["evaluations"] / existing} for row in found]
    return pd.DataFrame(rows)


def solved(f: Branches, y: Tensor, solver: Solver, tolerance: float) -> Solution:
    """Solve f(x) = y for every row."""
    return cast("Any", solver).solve(RowEquation(f, y), tolerance)  # type: ignore[no-any-return]


def one_branch(f: Branches, x: Tensor, solver: Solver, error: float, tolerances: Sequence[float]) -> dict[str, Any]:
    """Return the columns on one branch, at the first tolerance that brings every row back, or at the last."""
    row: dict[str, Any] = {}
    for tolerance in tolerances:
        solution = solved(f, f(x), solver, tolerance)
        errors = row_norm(solution.value - x) / row_norm(x)
        row = {
            "tolerance": tolerance,
            "recovered_percent": float(100 * (errors <= error).double().mean()),
            "error_max": float(errors.max()),
            "evaluations": float(solution.evaluations.double().mean()),
        }
        if (errors <= error).all():
            break
    return row


def whole_chain(maps: Sequence[Branches], x: Tensor, solver: Solver, tolerance: float) -> dict[str, Any]:
    """Return the columns on a chain of branches, undone one by one from the last one's outputs."""
    states, conditions = [x], torch.ones(len(x), dtype=x.dtype)
    for f in maps:
        conditions = conditions * torch.linalg.cond(jacobians(f, states[-1]))
        states.append(f(states[-1]))
    value = states[-1]
    for f in reversed(maps):
        value = solved(f, value, solver, tolerance).value
    errors = row_norm(value - x) / row_norm(x)
    return {
        "chain_error_max": float(errors.max()),
        "chain_rounding_max": float((errors / (EPS * conditions)).max()),
    }


def jacobians(f: Branches, x: Tensor) -> Tensor:
    """Return the Jacobian of every row (rows, d, d)."""
    rows, d = x.shape
    with torch.enable_grad():
        at = x.clone().requires_grad_()
        y = f(at)
        columns = [torch.autograd.grad(y[:, k].sum(), at, retain_graph=True)[0] for k in range(d)]
    return torch.stack(columns, 1).reshape(rows, d, d)
