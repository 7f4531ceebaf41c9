"""Recovery of test images from a network's last hidden layer: fig4, fig5 and figB3."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial

import numpy as np
import pandas as pd
import torch
from rich.progress import Progress, TaskID
from torch import Tensor

from replication.experiments.results import Result
from replication.networks import LayerRecord, NetworkSolution, RectifierNetwork
from replication.rows import row_norm
from replication.solvers import Solver

TestImages = tuple[Tensor, Tensor, Tensor]  # images, their classes, their places in the test set


def undo(
    network: RectifierNetwork, images: Tensor, solvers: Mapping[str, Solver], tolerance: float
) -> dict[str, NetworkSolution]:
    """Send images through all hidden layers and recover them from the last one's output alone, by each method.

    Args:
        network: in evaluation mode; its dtype decides the arithmetic.
        images: (batch, *image_shape).
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
    """Return ‖x̂ − x‖/‖x‖ of every image (batch,)."""
    return row_norm(value - images) / row_norm(images)


def recovery_table(
    solutions: Mapping[str, NetworkSolution], images: Tensor, labels: Tensor, indices: Tensor
) -> pd.DataFrame:
    """Return a row for each method and image: digit, index, method, dtype, relative_error, status, iterations.

    Source: paper A, Figs. 4 and 5.

    Args:
        solutions: by method, as `undo` returns them.
        images: the originals (batch, *image_shape).
        labels: their classes (batch,).
        indices: their places in the test set (batch,).
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


def recovered_digits(
    network: RectifierNetwork, test: TestImages, solvers: Mapping[str, Solver], tolerance: float
) -> Result:
    """Recover images in float64 by each method, and keep their pixels: the table and the arrays of fig4.

    Args:
        network: in float64.
        test: images (batch, 1, height, width) with their classes and places.
        solvers: by the method's name.
        tolerance: of each layer's relative residual.
    """
    images, labels, indices = test[0].double(), *test[1:]
    solutions = undo(network, images, solvers, tolerance)
    pixels = {method: solution.value[:, 0].numpy() for method, solution in solutions.items()}
    return Result(recovery_table(solutions, images, labels, indices), {"original": images[:, 0].numpy()} | pixels)


def recovery_errors(
    network: RectifierNetwork, test: TestImages, solvers: Mapping[str, Solver], tolerances: Mapping[str, float]
) -> pd.DataFrame:
    """Recover images by each method in each precision: the table of fig5, errors in percent.

    Args:
        network: of any dtype; it is left in the last one.
        test: images (batch, *image_shape) with their classes and places.
        solvers: by the method's name.
        tolerances: of each layer's relative residual, by the name of the dtype.
    """
    tables = []
    for name, tolerance in tolerances.items():
        dtype = getattr(torch, name)
        images = test[0].to(dtype)
        solutions = undo(network.to(dtype), images, solvers, tolerance)
        tables.append(recovery_table(solutions, images, *test[1:]))
    return in_percent(pd.concat(tables, ignore_index=True))


def recovery_by_network(
    networks: Iterable[tuple[str, RectifierNetwork]],
    test: TestImages,
    per_class: int,
    solvers: Mapping[str, Solver],
    tolerance: float,
) -> Result:
    """Recover images from several networks in float64, and keep the pixels of the first image of each class: figB3.

    Args:
        networks: by their names, in float64.
        test: images (batch, 1, height, width), so many of each class, with their classes and places.
        per_class: images of each class.
        solvers: by the method's name.
        tolerance: of each layer's relative residual.
    """
    images, labels, indices = test[0].double(), *test[1:]
    tables: list[pd.DataFrame] = []
    shown: dict[str, np.ndarray] = {"original": images[::per_class, 0].numpy()}
    for name, network in networks:
        solutions = undo(network, images, solvers, tolerance)
        tables.append(recovery_table(solutions, images, labels, indices).assign(network=name))
        shown |= {f"{name}, {method}": kept.value[::per_class, 0].numpy() for method, kept in solutions.items()}
    return Result(in_percent(pd.concat(tables, ignore_index=True)), shown)
