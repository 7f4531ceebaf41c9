"""figD4: the inverse Lipschitz constant of ReLU layers, and their error under noise, against expansivity."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import cycle
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from replication.experiments.plots.style import caption, style
from replication.experiments.results import Result

SHADES = ("#0072B2", "#E69F00", "#CC79A7", "#D55E00", "#56B4E9", "#000000")
FRAME = "#009E73"


def draw(result: Result, record: Mapping[str, Any]) -> Figure:
    """Draw figD4.csv.

    Args:
        result: a table of the columns of `replication.experiments.studies.noise.noisy_inverses`.
        record: how it was made.
    """
    table, noise = result.table, record["configuration"]["study"]["noise"]
    gaussian, frames = (table[table["layer"] == name] for name in ("gaussian", "orthogonal_frame"))
    sizes = list(gaussian["n"].unique())
    with style():
        figure, (constant, error) = plt.subplots(1, 2, figsize=(8.8, 4.1))
        for shade, n in zip(cycle(SHADES), sizes, strict=False):
            part = gaussian[gaussian["n"] == n]
            exact = (part["sigma_lower"] == part["sigma_upper"]).all()
            draw_spread(constant, part, "sigma_upper", shade, f"σ, n = {n}{'' if exact else ' (at most)'}")
            draw_spread(constant, part, "smallest_ratio", shade, f"smallest ratio of random pairs, n = {n}", "--")
            draw_spread(error, part, "amplification_max", shade, f"largest, n = {n}")
            draw_spread(error, part, "amplification_median", shade, f"median, n = {n}", "--")
        for axis, columns in ((constant, ("sigma_lower",)), (error, ("amplification_max", "amplification_median"))):
            for column, marker in zip(columns, "os", strict=False):
                name = {"amplification_max": "largest, ", "amplification_median": "median, "}.get(column, "σ, ")
                axis.plot(
                    frames["expansivity"], frames[column], marker, color=FRAME, mfc="none", ms=5,
                    label=f"{name}orthogonal frames",
                )  # fmt: skip
            axis.set_xlabel("expansivity m/n (outputs for each input)")
        constant.set_ylabel("‖f(x) − f(x′)‖ / ‖x − x′‖")
        constant.set_ylim(0, 1.75 * constant.get_ylim()[1])  # room for the legend
        constant.set_title("constant C: σ/√2 ≤ C ≤ σ = minₓ σmin(active rows)")
        error.set_yscale("log")
        error.set_ylabel("error / noise  ‖x̂ − x‖ / ‖e‖")
        error.set_title(f"inverse under {100 * noise:g} % noise on the output")
        for axis in (constant, error):
            axis.legend(fontsize=7.5, loc="upper left" if axis is constant else "upper right")
        counts = ", ".join(f"{gaussian[gaussian['n'] == n]['case'].nunique()} for n = {n}" for n in sizes)
        caption(
            figure,
            f"ReLU layers with WᵀW = 2I (Gaussian ones in the mean), layers for each point: {counts}; median and "
            "5–95 % of the layers; 0 is not injective (random W and inputs; experiment reconstructed: A13)",
        )
    return figure


def draw_spread(axis: Axes, table: pd.DataFrame, column: str, colour: str, label: str, line: str = "-") -> None:
    """Draw the median over the layers against expansivity, with the range of 5 to 95 %."""
    groups = table.groupby("expansivity")[column]
    low, middle, high = (groups.quantile(level) for level in (0.05, 0.5, 0.95))
    axis.fill_between(middle.index, low, high, color=colour, alpha=0.15 if line == "-" else 0.07, lw=0)
    axis.plot(np.asarray(middle.index), middle, line, color=colour, label=label)
