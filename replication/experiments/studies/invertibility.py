"""The γ sweeps of fig2 and fig3: shares of random units that each method inverts, and that satisfy each condition."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cache

import numpy as np
import pandas as pd
import torch
from rich.progress import Progress
from scipy.stats import binomtest
from torch import Tensor

from replication.conditions import is_lipschitz, is_monotone, is_p_matrix
from replication.experiments.data.ensembles import DTYPE, Ensemble, normal
from replication.maps import RectifierEquation
from replication.rows import row_norm
from replication.solvers import Solver
from replication.units import ResidualUnit

CONDITIONS = {"lipschitz": is_lipschitz, "monotone": is_monotone, "p_matrix": is_p_matrix}
MEDIAN = {"iterations_median": 0.5}
KINDS: dict[str, Callable[..., ResidualUnit]] = {"linear": Ensemble.linear, "residual": Ensemble.residual}


def gamma_grid(smallest: float, largest: float, values: int) -> Tensor:
    """Return γ values in geometric progression."""
    return torch.as_tensor(np.geomspace(smallest, largest, values), dtype=DTYPE)


def sweep(
    kind: str,
    ensembles: Mapping[str, Ensemble],
    solvers: Mapping[str, Solver],
    gamma: Tensor,
    cases: int,
    d: int,
    tolerance: float,
    recovery: float,
    seed: int,
) -> pd.DataFrame:
    """Sweep γ over random units and count the cases that come back, and those that satisfy each condition.

    Source: paper A, Fig. 2 (kind "linear") and Fig. 3 (kind "residual"); assumptions A1 to A5.

    Args:
        kind: "linear" (x + relu(Wx + b)) or "residual" (x + W₂·relu(W₁x + b₁) + b₂).
        ensembles: by name; each draws from a seed of its own.
        solvers: by the name of the quantity they fill.
        gamma: values of γ, (values,).
        cases: random units for each γ: the same ones for every γ, scaled, and for every method.
        d: dimension of x.
        tolerance: of the solvers' relative residual.
        recovery: largest relative error ‖x̂ − x‖/‖x‖ that counts as recovered.
        seed: of the draws.

    Returns:
        A row for each ensemble, γ and quantity: ensemble, gamma, quantity, cases, count, percent, ci_low, ci_high
        (Wilson 95 %), iterations_median (of the cases recovered; empty for conditions).

    Raises:
        ValueError: if the kind is unknown.
    """
    draw = kind_of_unit(kind)
    rows: list[dict[str, object]] = []
    with Progress() as progress:
        task = progress.add_task(f"γ sweep, {kind} unit", total=len(ensembles) * (len(solvers) + len(CONDITIONS)))
        for name, ensemble in ensembles.items():
            generator = torch.Generator().manual_seed(seed)
            x = normal(cases, d, generator=generator).repeat(len(gamma), 1)
            units = draw(ensemble, cases, d, gamma, generator)
            for quantity, held, iterations in measure(units, x, solvers, tolerance, recovery):
                for index, value in enumerate(gamma.tolist()):
                    part = slice(index * cases, (index + 1) * cases)
                    steps = None if iterations is None else iterations[part][held[part]]
                    rows.append({"ensemble": name, "gamma": value, "quantity": quantity} | share(held[part], steps))
                progress.advance(task)
    return pd.DataFrame(rows)


def kind_of_unit(kind: str) -> Callable[..., ResidualUnit]:
    """Return what draws units of this kind from an ensemble; raise a ValueError if the kind is unknown."""
    if kind not in KINDS:
        raise ValueError(f"unknown kind {kind!r} of unit; known are {', '.join(KINDS)}")
    return KINDS[kind]


@torch.no_grad()
def measure(
    units: ResidualUnit, x: Tensor, solvers: Mapping[str, Solver], tolerance: float, recovery: float
) -> Iterator[tuple[str, Tensor, Tensor | None]]:
    """Yield each quantity with the cases for which it holds and, for a method, the iterations of every case."""
    for quantity, solver in solvers.items():
        yield quantity, *recovered(units, x, solver, tolerance, recovery)
    A = units.W1 @ units.W2
    for quantity, condition in CONDITIONS.items():
        yield quantity, condition(A), None


@torch.no_grad()
def recovered(
    units: ResidualUnit, x: Tensor, solver: Solver, tolerance: float, recovery: float
) -> tuple[Tensor, Tensor]:
    """Send x (units, d) through the units and back: which rows came back to themselves, and in how many iterations.

    A solver that converges to another preimage has not recovered x.
    """
    equation = RectifierEquation(units.rectifier_map(tuple(x.shape[1:])), units(x))
    solution = solver.solve(equation, tolerance)
    error = row_norm(solution.value - x) / row_norm(x)
    return error <= recovery, solution.iterations


@cache  # since SciPy's test, which it comes from, takes as long as ten cases
def wilson(count: int, cases: int) -> tuple[float, float]:
    """Return the Wilson 95 % interval of a share, in percent."""
    interval = binomtest(count, cases).proportion_ci(0.95, method="wilson")
    return 100 * interval.low, 100 * interval.high


def share(held: Tensor, iterations: Tensor | None, quantiles: Mapping[str, float] = MEDIAN) -> dict[str, object]:
    """Return the columns of one measurement over cases (cases,), with the Wilson 95 % interval in percent.

    Args:
        held: the cases for which it holds (cases,).
        iterations: of the cases that count, or None for a condition.
        quantiles: columns of quantiles of the iterations.
    """
    count, cases = int(held.sum()), len(held)
    low, high = wilson(count, cases)
    return {
        "cases": cases,
        "count": count,
        "percent": 100 * count / cases,
        "ci_low": low,
        "ci_high": high,
    } | {
        name: None if iterations is None or not count else float(iterations.double().quantile(level))
        for name, level in quantiles.items()
    }
