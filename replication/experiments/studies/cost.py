"""What inverting a whole network costs: wall time and evaluations, layer by layer, beside a forward pass."""

from __future__ import annotations

import copy
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils import parametrize

from replication.experiments.studies.recovery import relative_error
from replication.networks import LayerRecord, NetworkSolution, RectifierNetwork
from replication.solvers import Solution, Solver

TOTAL = "network"
FEW = 10  # images that compile and warm up what is timed


@torch.no_grad()
def inverse_cost(
    network: RectifierNetwork, images: Tensor, solvers: Mapping[str, Solver], tolerance: float, repetitions: int
) -> Iterator[dict[str, object]]:
    """Time the forward pass and each solver's inverse of all hidden layers, in turns, once a few images warmed them up.

    The forward pass has its kernels at hand; what keeps them within their caps in training is not timed.

    Args:
        network: in evaluation mode; its dtype and device decide the arithmetic.
        images: (batch, *image_shape).
        solvers: by name.
        tolerance: relative residual of every unit.
        repetitions: turns that count.

    Yields:
        For each solver, the columns of every unit and then of the whole network: solver, layer (its index, or
        "network"), evaluations (mean over images), seconds_median, seconds_low, seconds_high, forward_seconds (median
        over all turns of all solvers), forward_passes (the ratio of the medians); for the network also method (what the
        solver took), converged (share of the images), error_max (relative, of an image) and device.
    """
    forward: list[float] = []
    seconds: dict[tuple[str, str], list[float]] = defaultdict(list)
    solutions: dict[str, NetworkSolution] = {}
    with parametrize.cached():  # the first pass computes the kernels within their caps, for all
        for solver in solvers.values():
            network.inverse(network.features(images[:FEW]), solver, tolerance)
        for _ in range(repetitions):
            for name, solver in solvers.items():
                start = clock(images)
                features = network.features(images)
                marks = [clock(images)]
                solutions[name] = network.inverse(features, solver, tolerance, progress=partial(mark, marks, images))
                end = clock(images)
                forward.append(marks[0] - start)
                seconds[name, TOTAL].append(end - marks[0])
                for record, before, after in zip(solutions[name].layers, marks, marks[1:], strict=False):
                    seconds[name, str(record.index)].append(after - before)
    forward_seconds = float(np.median(forward))
    for name, solution in solutions.items():
        for record in reversed(solution.layers):
            if not record.closed_form:
                layer = str(record.index)
                evaluations = float(record.solution.evaluations.double().mean())
                times = spread(seconds[name, layer], forward_seconds)
                yield {"solver": name, "layer": layer, "evaluations": evaluations} | times
        times = spread(seconds[name, TOTAL], forward_seconds)
        yield {"solver": name, "layer": TOTAL} | outcome(solution, images) | times


def whole_cost(
    network: RectifierNetwork, images: Tensor, solver: Solver, dtype: str, tolerance: float, repetitions: int
) -> dict[str, object]:
    """Return the whole network's columns of `inverse_cost` for one solver in this dtype."""
    wanted = getattr(torch, dtype)
    own = copy.deepcopy(network).to(wanted)
    costs = inverse_cost(own, images.to(wanted), {"inverse": solver}, tolerance, repetitions)
    (whole,) = (row for row in costs if row["layer"] == TOTAL)
    return {name: value for name, value in whole.items() if name not in ("solver", "layer")}


def outcome(solution: Solution, images: Tensor) -> dict[str, object]:
    """Return evaluations, the method taken, the share that converged, the largest relative error and the device."""
    return {
        "evaluations": float(solution.evaluations.double().mean()),
        "method": solution.solver,
        "converged": float(solution.converged.double().mean()),
        "error_max": float(relative_error(solution.value, images).max()),
        "device": images.device.type,
    }


def mark(marks: list[float], images: Tensor, record: LayerRecord) -> None:
    """Note the time at which a layer is undone."""
    marks.append(clock(images))


def clock(images: Tensor) -> float:
    """Return the time, once the device has done its work."""
    if images.device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def spread(seconds: Sequence[float], forward: float) -> dict[str, object]:
    """Return the columns of the seconds that a solver took."""
    median = float(np.median(seconds))
    return {
        "seconds_median": median,
        "seconds_low": min(seconds),
        "seconds_high": max(seconds),
        "forward_seconds": forward,
        "forward_passes": median / forward,
    }
