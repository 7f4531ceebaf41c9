"""figE2: shallow univariate ReLU networks between the kernel and the adaptive regime, beside splines."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import cycle
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.interpolate import CubicSpline

from replication.experiments.plots.style import COLOURS, SPARE, caption, style
from replication.experiments.results import Result

CUBIC, LINEAR, NETWORK = "#D55E00", "#0072B2", "#000000"
SHADES = ("#000000", "#56B4E9", "#E69F00", "#009E73", *SPARE)
SCALE = "scale w = |a| at the start (c = {:g}/w)"


def draw(result: Result, record: Mapping[str, Any]) -> Figure:
    """Draw figE2.csv and figE2.npz.

    Args:
        result: what `replication.experiments.studies.gradient_dynamics.gradient_dynamics` returns.
        record: how it was made.
    """
    study = record["configuration"]["study"]
    swept = result.table[result.table["part"] == "sweep"]
    shown = swept[swept["data"] == study["shown"]].sort_values("w", ascending=False)
    colours = dict(zip(swept["data"].unique(), cycle(SHADES), strict=False))
    with style():
        figure, axes = plt.subplots(2, 3, figsize=(10.4, 6.5))
        for axis, w in zip(axes[0], panels(shown), strict=False):
            draw_fit(axis, result.arrays, w)
        for axis in axes[0][len(panels(shown)) :]:
            axis.set_visible(False)
        axes[0, 0].legend(fontsize=7.5, loc="upper center", ncols=2)
        distances, shares, variations = axes[1]
        draw_distances(distances, shown)
        for name, colour in colours.items():
            part = swept[swept["data"] == name].sort_values("w")
            shares.plot(part["w"], 100 * part["near"], "o-", ms=3, color=colour, label=name)
            shares.plot(part["w"], 100 * part["near_before"], ":", color=colour, lw=1)
            variations.plot(part["w"], part["variation"], "o-", ms=3, color=colour, label=name)
        shares.set_ylim(0, 140)  # room for the legend
        shares.set_yticks(range(0, 101, 20))
        shares.set_ylabel("knots at samples, within 5 % of\nthe spacing (%); dotted: before")
        shares.legend(fontsize=7.5, loc="upper right")
        variations.axhline(1, color=COLOURS["text"], ls=":", lw=1)
        variations.set_ylabel("total variation of the slope over\nthe least an interpolant can have")
        for axis in axes[1]:
            axis.set_xscale("log")
            axis.set_xlabel(SCALE.format(study["flow"]["product"]), fontsize=8)
        caption(
            figure,
            f"Gradient flow of x ↦ Σ c·relu(ax − b)/m, m = {study['flow']['m']}, on {record['dataset']} "
            f"({len(result.arrays['x'])} each). Above and below left: the data “{study['shown']}”; "
            "below: all data (experiment reconstructed: A20)",
        )
    return figure


def panels(shown: pd.DataFrame) -> list[float]:
    """Return the scales whose fits are drawn: the largest, the one nearest to the linear spline, one between."""
    scales = shown["w"].tolist()
    nearest = int(np.argmin(shown["to_linear"].to_numpy()))
    return [scales[place] for place in sorted({0, (nearest + 2) // 2 if nearest > 1 else 0, nearest})]


def draw_fit(axis: Axes, arrays: Mapping[str, np.ndarray], w: float) -> None:
    """Draw a fit beside the two splines, with its knots below."""
    x, y, grid = arrays["x"], arrays["y"], arrays["grid"]
    axis.plot(grid, CubicSpline(x, y, bc_type="natural")(grid), color=CUBIC, lw=1.2, label="natural cubic spline")
    axis.plot(x, y, color=LINEAR, lw=1.2, label="linear spline")
    axis.plot(grid, arrays[f"fit {w:g}"], "--", color=NETWORK, lw=1.4, label="network")
    axis.plot(x, y, "o", color=NETWORK, ms=4)
    knots = arrays[f"knots {w:g}"]
    bottom = 1.9 * y.min()
    axis.plot(knots, np.full_like(knots, bottom), "|", color=NETWORK, ms=9, mew=0.5, label="knots")
    axis.set_xlim(x[0] - 0.05, x[-1] + 0.05)
    axis.set_ylim(2.1 * y.min(), 2.1 * y.max())  # room for the legend
    axis.set_xlabel("x")
    axis.set_title(f"w = {w:g}")


def draw_distances(axis: Axes, shown: pd.DataFrame) -> None:
    """Draw the distances from the two splines against the scale."""
    for column, colour, label in (("to_cubic", CUBIC, "natural cubic spline"), ("to_linear", LINEAR, "linear spline")):
        axis.plot(shown["w"], 100 * shown[column], "o-", ms=3, color=colour, label=f"distance to the {label}")
    axis.set_yscale("log")
    axis.set_ylim(top=60)  # room for the legend
    axis.set_ylabel("largest distance (% of the range)")
    axis.legend(fontsize=7.5, loc="upper right")
