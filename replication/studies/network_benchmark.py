"""What inverting a whole network costs: wall time and evaluations, layer by layer, beside a forward pass."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial

import numpy as np
import pandas as pd
import torch
from rich.progress import Progress
from torch import Tensor
from torch.nn.utils import parametrize

from replication.networks import LayerRecord, NetworkSolution, RectifierNetwork
from replication.solvers import Solver
from replication.studies.recovery import relative_error

TOTAL = "network"


def network_benchmark(
    network: RectifierNetwork,
    images: Tensor,
    solvers: Mapping[str, Solver],
    batches: Sequence[int],
    tolerances: Mapping[str, float],
    repetitions: int,
    largest_batch: Mapping[str, int],
) -> pd.DataFrame:
    """Time the forward pass and the inverse of all hidden layers, in turns.

    Args:
        network: trained, in evaluation mode.
        images: at least as many as the largest batch (rows, *image_shape).
        solvers: by name.
        batches: numbers of images.
        tolerances: relative residual of every unit, for each dtype's name ("float32", "float64").
        repetitions: timed runs, after one that is not timed.
        largest_batch: for solvers that are too slow for larger ones.

    Returns:
        A row for each dtype, batch, solver and layer that is solved, and one for the whole network: dtype, batch,
        solver, tolerance, layer (its index, or "network"), evaluations (mean over images), seconds_median, seconds_low,
        seconds_high, forward_seconds, forward_passes (median over the forward pass's), error_max (relative, of the
        images; for the network), device.
    """
    rows: list[dict[str, object]] = []
    with Progress() as progress:
        task = progress.add_task("network benchmark", total=len(tolerances) * len(batches) * len(solvers))
        for name, tolerance in tolerances.items():
            dtype = getattr(torch, name)
            network = network.to(dtype)
            for batch in batches:
                own = images[:batch].to(dtype)
                for method, solver in solvers.items():
                    if batch <= largest_batch.get(method, batch):
                        about = {"dtype": name, "batch": batch, "solver": method, "tolerance": tolerance}
                        timings = time_inverse(network, own, solver, tolerance, repetitions)
                        rows += [about | row for row in timings]
                    progress.advance(task)
    return pd.DataFrame(rows)


def error_curve(
    network: RectifierNetwork, images: Tensor, solvers: Mapping[str, Solver], tolerances: Sequence[float]
) -> pd.DataFrame:
    """Invert at falling tolerances, for evaluations against the true error.

    Returns:
        A row for each solver and tolerance: dtype, batch, solver, tolerance, layer ("network"), evaluations (mean over
        images, of all units), error_max, device.
    """
    features = network.features(images)
    rows = []
    for method, solver in solvers.items():
        for tolerance in tolerances:
            solution = network.inverse(features, solver, tolerance)
            rows.append(
                {"dtype": str(images.dtype).removeprefix("torch."), "batch": len(images), "solver": method}
                | {"tolerance": tolerance, "layer": TOTAL}
                | outcome(solution, images)
            )
    return pd.DataFrame(rows)


def outcome(solution: NetworkSolution, images: Tensor) -> dict[str, object]:
    """Return evaluations, the largest relative error and the device."""
    return {
        "evaluations": float(solution.evaluations.double().mean()),
        "error_max": float(relative_error(solution.value, images).max()),
        "device": images.device.type,
    }


@torch.no_grad()
def time_inverse(
    network: RectifierNetwork, images: Tensor, solver: Solver, tolerance: float, repetitions: int
) -> Iterator[dict[str, object]]:
    """Yield the columns of every unit and of the whole network."""
    forward: list[float] = []
    whole: list[float] = []
    layers: dict[int, list[float]] = {}
    for _ in range(repetitions + 1):
        with parametrize.cached():
            features, seconds = timed_forward(network, images)
        forward.append(seconds)
        marks = [clock(images)]
        solution = network.inverse(features, solver, tolerance, progress=partial(mark, marks, images))
        whole.append(clock(images) - marks[0])
        for record, start, end in zip(solution.layers, marks, marks[1:], strict=False):
            layers.setdefault(record.index, []).append(end - start)
    pass_seconds = float(np.median(forward[1:]))
    for record in reversed(solution.layers):
        if record.solution is not None:
            evaluations = float(record.solution.evaluations.double().mean())
            yield {"layer": str(record.index), "evaluations": evaluations} | spread(layers[record.index], pass_seconds)
    yield {"layer": TOTAL} | outcome(solution, images) | spread(whole, pass_seconds)


def mark(marks: list[float], images: Tensor, record: LayerRecord) -> None:
    """Note the time at which a layer is undone."""
    marks.append(clock(images))


def timed_forward(network: RectifierNetwork, images: Tensor) -> tuple[Tensor, float]:
    """Return the features of images, and the seconds they took."""
    start = clock(images)
    features = network.features(images)
    return features, clock(images) - start


def clock(images: Tensor) -> float:
    """Return the time, once the device has done its work."""
    if images.device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def spread(seconds: Sequence[float], forward: float) -> dict[str, object]:
    """Return the columns of a run's seconds, the first run left out."""
    counted = seconds[1:]
    median = float(np.median(counted))
    return {
        "seconds_median": median,
        "seconds_low": min(counted),
        "seconds_high": max(counted),
        "forward_seconds": forward,
        "forward_passes": median / forward,
    }
