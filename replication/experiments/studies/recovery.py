"""Recovery of test images from the network's last hidden layer: fig4 and fig5."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import pandas as pd
import torch
from rich.progress import Progress, TaskID
from torch import Tensor

from replication.networks import LayerRecord, NetworkSolution, RectifierNetwork
from replication.rows import row_norm
from replication.solvers import Solver


def undo(
    network: RectifierNetwork, images: Tensor, solvers: Mapping[str, Solver], tolerance: float
) -> dict[str, NetworkSolution]:
    """Send images through all hidden layers and recover them from the last one's output alone, by each method.

    Args:
        network: in evaluation mode; its dtype decides the arithmetic.
        images: (rows, *image_shape).
        solvers: by the method's name.
        tolerance: of each layer's relative residual.
    """
    with torch.no_grad():
        features = network.features(images)
    solutions = {}
    with Progress() as progress:
        for method, solver in solvers.items():
            task = progress.add_task(f"undoing {len(images)} images, {method}", total=len(network.hidden_layers))
            solutions[method] = network.inverse(features, solver, tolerance, progress=partial(advance, progress, task))
    return solutions


def advance(progress: Progress, task: TaskID, record: LayerRecord) -> None:
    """Move a progress bar on by one layer."""
    progress.advance(task)


def relative_error(value: Tensor, images: Tensor) -> Tensor:
    """Return ‖x̂ − x‖/‖x‖ of every image (rows,)."""
    return row_norm(value - images) / row_norm(images)


def recovery_table(
    solutions: Mapping[str, NetworkSolution], images: Tensor, labels: Tensor, indices: Tensor
) -> pd.DataFrame:
    """Return a row for each method and image: digit, index, method, dtype, relative_error, status, iterations.

    Source: paper A, Figs. 4 and 5.

    Args:
        solutions: by method, as `undo` returns them.
        images: the originals (rows, *image_shape).
        labels: their classes (rows,).
        indices: their places in the test set (rows,).
    """
    parts = [
        pd.DataFrame(
            {
                "digit": labels.numpy(),
                "index": indices.numpy(),
                "method": method,
                "dtype": str(images.dtype).removeprefix("torch."),
                "relative_error": relative_error(solution.value, images).numpy(),
                "status": [status.name.lower() for status in solution.status],
                "iterations": solution.iterations.numpy(),
            }
        )
        for method, solution in solutions.items()
    ]
    return pd.concat(parts, ignore_index=True)


def in_percent(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table with its relative errors in percent, as fig5.csv has them."""
    renamed = table.rename(columns={"relative_error": "relative_error_percent"})
    return renamed.assign(relative_error_percent=100 * renamed["relative_error_percent"])
