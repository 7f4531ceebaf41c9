"""Error, conditioning and time of the inverses of causal units against image size and kernel scale (figB2)."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import torch
from rich.progress import Progress
from torch import Tensor

from replication.experiments.studies.recovery import relative_error
from replication.solvers import Solver
from replication.units import MonotoneCausalConvUnit

T = TypeVar("T")


@torch.no_grad()
def random_unit(channels: int, hidden: int, size: int, scale: float, seed: int) -> MonotoneCausalConvUnit:
    """Draw a unit with normal taps, I + A₀ a P-matrix by construction, and A scaled by `scale`, in float64."""
    torch.manual_seed(seed)
    unit = MonotoneCausalConvUnit(channels, hidden, image_size=(size, size)).double()
    unit.weight1.mul_(scale**0.5)
    unit.taps2.mul_(scale**0.5)
    return unit


def causal_inverses(
    channels: int,
    hidden: int,
    sizes: Sequence[int],
    images: Sequence[int],
    scales: Sequence[float],
    solvers: Mapping[str, Solver],
    dtypes: Mapping[str, Sequence[str]],
    repetitions: int,
    budget: float,
    recovery: float,
    condition_steps: int,
    seed: int,
) -> pd.DataFrame:
    """Invert random causal units and measure error and time, beside the conditioning of each image.

    Source: paper B, abstract (inverse algorithms, shown effective by experiment); assumptions A7 and A8.

    Args:
        channels, hidden: of the units, whose kernels are 3×3.
        sizes: heights and widths of the images.
        images: the number of standard normal images of each size.
        scales: of A = W₁W₂; 1 is variance 1/fan-in for every tap.
        solvers: by the method's name.
        dtypes: the methods to be measured in "float64" and in "float32".
        repetitions: timed runs at most; fewer where they take more than `budget` seconds together, but always one.
        budget: see above.
        recovery: relative error ‖x̂ − x‖/‖x‖ up to which an image counts as recovered, and ε times its condition up to
            which it counts as well-conditioned.
        condition_steps: of the power iteration that measures the condition.
        seed: of the draws.

    Returns:
        A row for each dtype, scale, size and method: dtype, scale, norm_A (estimate), size, images, method,
        relative_error_median, relative_error_max, residual_max, condition_median, condition_max (`inverse_condition`),
        expected_error_median (ε times the condition), ill_conditioned_percent, recovered_percent, converged_percent,
        iterations_median, seconds (median), forward_seconds (median), forward_passes (their ratio), runs.
    """
    if unknown := {name for chosen in dtypes.values() for name in chosen} - set(solvers):
        raise ValueError(f"there is no solver {', '.join(sorted(unknown))}; there are {', '.join(solvers)}")
    if len(sizes) != len(images):
        raise ValueError(f"sizes {list(sizes)} and images {list(images)} must be as many")
    rows: list[dict[str, object]] = []
    warm_up(solvers)
    norms = {size: norm_of_scale_one(channels, hidden, size, seed) for size in sizes}
    with Progress() as progress:
        methods = sum(map(len, dtypes.values()))
        task = progress.add_task("causal inverses", total=methods * len(scales) * len(sizes))
        for scale in scales:
            for size, count in zip(sizes, images, strict=True):
                unit = random_unit(channels, hidden, size, scale, seed)
                x = torch.randn(count, channels, size, size, dtype=torch.float64)
                about = {"scale": scale, "norm_A": scale * norms[size], "size": size, "images": count}
                for name, chosen in dtypes.items():
                    dtype = getattr(torch, name)
                    own, inputs = unit.to(dtype), x.to(dtype)
                    conditioned = conditioning(own, inputs, condition_steps, recovery)
                    _, forward, _ = timed(partial(forward_pass, own, inputs), 7, budget)
                    for method in chosen:
                        measured = inversion(own, inputs, solvers[method], repetitions, budget, recovery)
                        passes = {"forward_seconds": forward, "forward_passes": measured["seconds"] / forward}
                        rows.append({"dtype": name} | about | {"method": method} | measured | conditioned | passes)
                        progress.advance(task)
    return pd.DataFrame(rows).sort_values(["dtype", "scale", "method", "size"], ascending=[False, True, True, True])


@torch.no_grad()
def warm_up(solvers: Mapping[str, Solver]) -> None:
    """Run every method once on a small image, so that no time measured later is that of compiling loops."""
    unit = random_unit(2, 3, 4, 0.5, seed=0)
    y = unit(torch.randn(1, 2, 4, 4, dtype=torch.float64))
    for solver in solvers.values():
        unit.inverse(y, solver)


def norm_of_scale_one(channels: int, hidden: int, size: int, seed: int) -> float:
    """Estimate ‖A‖ of the unit of scale 1, which every other scale multiplies."""
    unit = random_unit(channels, hidden, size, 1.0, seed)
    return unit.rectifier_map(unit.input_shape).norm_estimate()


@torch.no_grad()
def forward_pass(unit: MonotoneCausalConvUnit, x: Tensor) -> Tensor:
    """Return the unit's outputs."""
    y: Tensor = unit(x)
    return y


@torch.no_grad()
def conditioning(unit: MonotoneCausalConvUnit, x: Tensor, steps: int, recovery: float) -> dict[str, object]:
    """Return the columns of the images' conditioning."""
    condition = unit.inverse_condition(x, steps).double()
    expected = torch.finfo(x.dtype).eps * condition
    return {
        "condition_median": float(condition.median()),
        "condition_max": float(condition.max()),
        "expected_error_median": float(expected.median()),
        "ill_conditioned_percent": 100 * float((expected > recovery).double().mean()),
    }


@torch.no_grad()
def inversion(
    unit: MonotoneCausalConvUnit, x: Tensor, solver: Solver, repetitions: int, budget: float, recovery: float
) -> dict[str, Any]:
    """Return the columns of one method."""
    y = unit(x)
    solution, seconds, runs = timed(partial(unit.inverse, y, solver), repetitions, budget)
    error = relative_error(solution.value, x)
    error = torch.where(torch.isfinite(error), error, torch.inf)
    return {
        "relative_error_median": float(error.median()),
        "relative_error_max": float(error.max()),
        "residual_max": float(solution.residual.max()),
        "recovered_percent": 100 * float((error <= recovery).double().mean()),
        "converged_percent": 100 * float(solution.converged.double().mean()),
        "iterations_median": float(solution.iterations.double().median()),
        "seconds": seconds,
        "runs": runs,
    }


def timed(run: Callable[[], T], repetitions: int, budget: float) -> tuple[T, float, int]:
    """Return what the last call returned, the median of the seconds that a call takes, and the number of calls."""
    seconds: list[float] = []
    while True:
        start = time.perf_counter()
        made = run()
        seconds.append(time.perf_counter() - start)
        if len(seconds) >= repetitions or sum(seconds) >= budget:
            return made, float(np.median(seconds)), len(seconds)
