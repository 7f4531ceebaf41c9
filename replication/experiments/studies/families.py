"""Families of units: accuracy, certificates, norms and inverses (table1)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd
from torch import Tensor

from replication.certificate import Verdict
from replication.experiments.studies.cost import whole_cost
from replication.experiments.studies.recovery import relative_error, undo
from replication.networks import NetworkSolution, RectifierNetwork
from replication.solvers import Solver
from replication.units import ConvRectifierUnit


def largest_norm(units: Iterable[ConvRectifierUnit]) -> float:
    """Estimate the largest ‖A‖ = ‖W₁W₂‖ of float64 units, converged from below to about six digits."""
    return max(unit.rectifier_map(unit.input_shape).norm_estimate() for unit in units)


def certified_cost(
    network: RectifierNetwork, images: Tensor, solver: Solver, dtype: str, tolerance: float, repetitions: int
) -> dict[str, object]:
    """Return the cost of the inverse (`whole_cost`), or nothing for a network that is not certified."""
    if any(unit.certificate(folds=False).verdict is not Verdict.INVERTIBLE for unit in network.units):
        return {}
    return whole_cost(network, images, solver, dtype, tolerance, repetitions)


def family_row(
    network: RectifierNetwork,
    record: dict[str, Any],
    images: Tensor,
    solutions: dict[str, NetworkSolution],
    recovery: float,
    cost: dict[str, object],
) -> dict[str, object]:
    """Return one row of table1.

    Args:
        network: trained, in float64.
        record: of the run that made its weights.
        images: the images that were sent through and undone (batch, *image_shape).
        solutions: of the methods "existing", "proposed" and "auto", which the unit chooses.
        recovery: largest relative error that counts as recovered.
        cost: as `certified_cost` returns it.

    Returns:
        The columns family, seed, test_accuracy (percent), certified_units, units, max_norm_A (estimate),
        recovered_percent_existing, recovered_percent_proposed, recovered_percent_auto, inverse_evaluations (of a unit
        by the proposed method, mean over images and units), parameters, epochs, seconds (of training), images,
        inverse_method, inverse_forward_passes, inverse_error_max (None for networks that are not certified).
    """
    certified = [unit.certificate(folds=False).verdict is Verdict.INVERTIBLE for unit in network.units]
    recovered = {
        method: 100 * float((relative_error(solution.value, images) <= recovery).double().mean())
        for method, solution in solutions.items()
    }
    return {
        "family": record["recipe"]["unit"]["family"],
        "seed": record["recipe"]["seed"],
        "test_accuracy": 100 * record["test_accuracy"],
        "certified_units": sum(certified),
        "units": len(certified),
        "max_norm_A": largest_norm(network.units),
        "recovered_percent_existing": recovered["existing"],
        "recovered_percent_proposed": recovered["proposed"],
        "recovered_percent_auto": recovered["auto"],
        "inverse_evaluations": float(solutions["proposed"].evaluations.double().mean()) / len(certified),
        "parameters": record["parameters"],
        "epochs": record["epochs"],
        "seconds": record["seconds"],
        "images": len(images),
        "inverse_method": cost.get("method"),
        "inverse_forward_passes": cost.get("forward_passes"),
        "inverse_error_max": cost.get("error_max"),
    }


def family_table(
    trained: Iterable[tuple[RectifierNetwork, dict[str, Any]]],
    images: Tensor,
    many: Tensor,
    solvers: Mapping[str, Solver],
    tolerance: float,
    recovery: float,
    cost: Mapping[str, Any],
) -> pd.DataFrame:
    """Return table1, a row for each network.

    Args:
        trained: networks in float64, each with the record of the run that made its weights.
        images: sent through and undone by every method (batch, *image_shape), in float64.
        many: what the cost of the inverse is measured on (batch, *image_shape).
        solvers: "existing", "proposed" and "auto".
        tolerance: of each layer's relative residual.
        recovery: largest relative error that counts as recovered.
        cost: further arguments of `certified_cost`.
    """
    rows = []
    for network, record in trained:
        solutions = undo(network, images, solvers, tolerance)
        rows.append(family_row(network, record, images, solutions, recovery, certified_cost(network, many, **cost)))
    return pd.DataFrame(rows)
