"""What a cap on ‖A‖ costs in accuracy, and what it saves when the network is inverted (fig8)."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from replication.experiments.studies.cost import whole_cost
from replication.experiments.studies.families import largest_norm
from replication.experiments.studies.invertibility import wilson
from replication.networks import RectifierNetwork
from replication.solvers import Solver


def cap_row(
    network: RectifierNetwork,
    record: dict[str, Any],
    test_images: int,
    images: Tensor,
    solver: Solver,
    dtype: str,
    tolerance: float,
    repetitions: int,
) -> dict[str, object]:
    """Return one row of fig8.

    Args:
        network: a trained monotone network, in float64.
        record: of the run that made its weights.
        test_images: number of images that the accuracy was measured on.
        images: the images that are sent through and undone (rows, *image_shape).
        solver, dtype, tolerance, repetitions: as for `whole_cost`.

    Returns:
        norm_cap (None for none), seed, test_accuracy, accuracy_low, accuracy_high (percent, Wilson 95 % over the test
        images), max_norm_A (estimate), dtype, tolerance, images, and the columns of `whole_cost`.
    """
    low, high = wilson(round(record["test_accuracy"] * test_images), test_images)
    return {
        "norm_cap": record["recipe"]["unit"]["make"]["norm_cap"],
        "seed": record["recipe"]["seed"],
        "test_accuracy": 100 * record["test_accuracy"],
        "accuracy_low": low,
        "accuracy_high": high,
        "max_norm_A": largest_norm(network.units),
        "dtype": dtype,
        "tolerance": tolerance,
        "images": len(images),
    } | whole_cost(network, images, solver, dtype, tolerance, repetitions)
