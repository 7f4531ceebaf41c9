"""What a cap on ‖A‖ costs in accuracy, and what it saves when the network is inverted (fig8)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

from replication.networks import RectifierNetwork
from replication.solvers import Solver
from replication.studies.cost import whole_cost
from replication.studies.families import largest_norm
from replication.studies.invertibility import wilson


def cap_rows(
    network: RectifierNetwork,
    record: dict[str, Any],
    test_images: int,
    images: Tensor,
    solver: Solver,
    tolerances: Mapping[str, float],
    repetitions: int,
) -> Iterator[dict[str, object]]:
    """Yield a row for each dtype.

    Args:
        network: a trained monotone network, in float64.
        record: of the run that made its weights.
        test_images: number of images that the accuracy was measured on.
        images: the images that are sent through and undone (rows, *image_shape).
        solver: undoes them.
        tolerances: relative residual of every unit, for each dtype's name ("float32", "float64").
        repetitions: timed runs, after one that is not timed.

    Yields:
        norm_cap (None for none), seed, test_accuracy, accuracy_low, accuracy_high (percent, Wilson 95 % over the test
        images), max_norm_A (estimate), dtype, tolerance, images, and the columns of `whole_cost`.
    """
    norm_cap = record["recipe"]["unit"]["make"]["norm_cap"]
    low, high = wilson(round(record["test_accuracy"] * test_images), test_images)
    about = {
        "norm_cap": norm_cap,
        "seed": record["recipe"]["seed"],
        "test_accuracy": 100 * record["test_accuracy"],
        "accuracy_low": low,
        "accuracy_high": high,
        "max_norm_A": largest_norm(network),
    }
    for name, tolerance in tolerances.items():
        cost = whole_cost(network, images, solver, name, tolerance, repetitions)
        yield about | {"dtype": name, "tolerance": tolerance, "images": len(images)} | cost
