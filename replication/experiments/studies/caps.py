"""What a cap on ‖A‖ costs in accuracy, and what it saves when the network is inverted (fig8)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd
from torch import Tensor

from replication.experiments.data.images import ImageData
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
        images: the images that are sent through and undone (batch, *image_shape).
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


def cap_table(
    trained: Iterable[tuple[RectifierNetwork, dict[str, Any], int | None]],
    data: ImageData,
    precisions: Mapping[str, Mapping[str, Any]],
    solver: Solver,
    repetitions: int,
) -> pd.DataFrame:
    """Return fig8's table, a row for each network and precision.

    Args:
        trained: monotone networks in float64, each with the record of the run that made its weights and the images of
            each class that are enough for it, or None.
        data: whose test images are sent through and undone.
        precisions: by the name of the dtype: `tolerance`, and images of each class, `per_class`.
        solver, repetitions: as for `whole_cost`.
    """
    rows = []
    for network, record, enough in trained:
        for dtype, precision in precisions.items():
            per_class = min(enough or precision["per_class"], precision["per_class"])
            images, tolerance = data.balanced_test(per_class)[0], precision["tolerance"]
            assert data.test is not None
            rows.append(cap_row(network, record, len(data.test), images, solver, dtype, tolerance, repetitions))
    return pd.DataFrame(rows)
