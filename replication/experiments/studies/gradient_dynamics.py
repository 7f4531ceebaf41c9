"""Shallow univariate ReLU networks by gradient flow: reduced parameters, kernel and adaptive regime (figE2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from rich.progress import track

from replication.experiments.results import Result
from replication.experiments.studies.shallow_flow import Fit, Reduced, Shallow, fitted, full_flow, reduced_flow
from replication.experiments.studies.univariate_splines import Samples, fixed_knots, initial_law, variation_of_slope

POINTS = 801  # of the grids on which functions are compared


def reduced_and_full(
    units: int, samples: int, times: Sequence[float], steps: Sequence[float], seed: int
) -> pd.DataFrame:
    """Follow the flow of the reduced parameters beside that of all weights, from standard normal weights.

    Returns:
        A row for each step size and time: part, step, time, difference (largest on [−1, 1], of the largest value),
        angle (largest change of a θ so far), delta_drift (largest change of δ, of the largest δ).
    """
    generator = np.random.default_rng(seed)
    a, b, c = generator.standard_normal((3, units))
    network = Shallow(a, b, c, float(units) ** 0.5)
    x = np.linspace(-1, 1, samples)
    y, grid = generator.choice([-1.0, 1.0], samples), np.linspace(-1, 1, POINTS)
    every = np.asarray(times, dtype=float)
    rows = []
    for step in track(steps, description="flows in all weights and reduced"):
        flows = (flow(network, x, y, every, step) for flow in (full_flow, reduced_flow))
        for time, full, reduced in zip(times, *flows, strict=True):
            values = full(grid)
            rows.append(
                {
                    "part": "reduced", "step": step, "time": float(time),
                    "difference": np.abs(values - reduced(grid)).max() / np.abs(values).max(),
                    "angle": np.abs(reduced.theta - Reduced.of(network).theta).max(),
                    "delta_drift": np.abs(full.conserved - network.conserved).max() / np.abs(network.conserved).max(),
                }
            )  # fmt: skip
    return pd.DataFrame(rows)


def kernel_limit(samples: Samples, reaches: Sequence[float], knots: int) -> pd.DataFrame:
    """Measure how far interpolants of least Σc² are from the natural cubic spline, by the law of fixed knots.

    Returns:
        A row for each law: part, law, reach (of uniform knots), to_cubic and to_linear (largest distances between the
        first and the last sample, of the range of the values).
    """
    grid = samples.grid(POINTS)
    laws = [("uniform", float(reach)) for reach in reaches] + [("normal knots", 1.0), ("normal weights", 1.0)]
    rows = []
    for law, reach in laws:
        values = fixed_knots(*initial_law(law, knots, reach), samples, grid)
        rows.append({"part": "kernel limit", "law": law, "reach": reach} | distances(samples, grid, values))
    return pd.DataFrame(rows)


def distances(samples: Samples, grid: np.ndarray, values: np.ndarray) -> dict[str, float]:
    """Return how far a function is from the natural cubic and from the linear spline, of the range of the values."""
    return {
        "to_cubic": float(np.abs(values - samples.cubic(grid)).max() / samples.size),
        "to_linear": float(np.abs(values - samples.linear(grid)).max() / samples.size),
    }


def fit_row(samples: Samples, start: Shallow, fit: Fit) -> dict[str, float]:
    """Return what is measured of a fit, beside `distances`.

    line_error and free_error are distances from the linear spline on the intervals that a function of least variation
    crosses on a line, and on the others; near and curvature the shares of the knots, and of their |ac|, at samples.
    """
    grid = samples.grid(POINTS)
    values, free = fit.network(grid), samples.in_free_intervals(grid)
    off = np.abs(values - samples.linear(grid)) / samples.size
    inside = (start.knots > samples.x[0]) & (start.knots < samples.x[-1])
    knots, delta = fit.network.knots, start.conserved
    return distances(samples, grid, values) | {
        "line_error": float(off[~free].max()),
        "free_error": float(off[free].max()) if free.any() else np.nan,
        "free_intervals": float(samples.free_intervals().sum()),
        "variation": variation_of_slope(values, grid) / samples.least_variation(),
        "near_before": samples.share_near(start.knots),
        "near": samples.share_near(knots),
        "curvature": samples.share_near(knots, np.abs(fit.network.a * fit.network.c)),
        "moved": float(np.abs(knots - start.knots)[inside].max()),
        "turned": mean_turn(start, fit.network, inside),
        "delta_drift": float(np.abs(fit.network.conserved / delta - 1).max()),
        "steps": float(fit.steps),
        "residual": fit.residual / samples.size,
    }


def mean_turn(start: Shallow, end: Shallow, units: np.ndarray) -> float:
    """Return by how much the directions (a, b) of some units turned, in the mean (radians)."""
    directions = [network.a + 1j * network.b for network in (start, end)]
    return float(np.abs(np.angle(directions[1] / directions[0]))[units].mean())


def sweep(
    data: Mapping[str, Samples], scales: Sequence[float], product: float, m: int, reach: float, tolerance: float,
    max_steps: int, shown: str,
) -> tuple[pd.DataFrame, dict[str, np.ndarray]]:  # fmt: skip
    """Follow the gradient flow from small to large second-layer weights: w = |a| from large to small, c = product/w.

    Returns:
        A row for each data set and scale: part, data, w, and the columns of `distances` and `fit_row`; and for the data
        set that is shown its samples, and for each scale the fit on a grid, its knots and their |ac|.
    """
    rows = []
    arrays = {"x": data[shown].x, "y": data[shown].y, "grid": data[shown].grid(POINTS)}
    runs = [(name, w) for name in data for w in scales]
    for name, w in track(runs, description="gradient flows"):
        start = Shallow.on_a_grid(m, w, product / w, float(m), reach)
        fit = fitted(start, data[name].x, data[name].y, tolerance * data[name].size, max_steps)
        rows.append({"part": "sweep", "data": name, "w": float(w)} | fit_row(data[name], start, fit))
        if name == shown:
            arrays |= {f"fit {w:g}": fit.network(arrays["grid"]), f"knots {w:g}": fit.network.knots}
    return pd.DataFrame(rows), arrays


def scale_of_width(
    samples: Samples, widths: Sequence[int], reach: float, tolerance: float, max_steps: int
) -> pd.DataFrame:
    """Follow the flow from w = c = 1 for growing widths m, with α = √m and with α = m, up to a residual.

    Returns:
        A row for each: part, alpha ("√m" or "m"), m, and the columns of `distances` and `fit_row`.
    """
    rows = []
    for alpha, m in track([(alpha, m) for alpha in ("√m", "m") for m in widths], description="widths"):
        start = Shallow.on_a_grid(m, 1.0, 1.0, float(m) ** (0.5 if alpha == "√m" else 1), reach)
        fit = fitted(start, samples.x, samples.y, tolerance * samples.size, max_steps)
        rows.append({"part": "width", "alpha": alpha, "m": float(m)} | fit_row(samples, start, fit))
    return pd.DataFrame(rows)


def gradient_dynamics(
    data: Mapping[str, Mapping[str, Any]],
    shown: str,
    reduced: Mapping[str, Any],
    kernel: Mapping[str, Any],
    flow: Mapping[str, Any],
    width: Mapping[str, Any],
) -> Result:
    """Return `reduced_and_full`, `kernel_limit`, `sweep` and `scale_of_width` in one table, with the fits.

    Source: paper E2; assumption A20.

    Args:
        data: by name, as for `Samples.draw`.
        shown: the data set whose fits are kept, and on which the limit and the widths are studied.
        reduced, kernel, flow, width: the further arguments of the four.
    """
    drawn = {name: Samples.draw(**options) for name, options in data.items()}
    swept, arrays = sweep(drawn, shown=shown, **flow)
    parts = [
        reduced_and_full(**reduced),
        kernel_limit(drawn[shown], **kernel),
        swept,
        scale_of_width(drawn[shown], **width),
    ]
    return Result(pd.concat(parts, ignore_index=True), arrays)
