"""figB2: error and time of the inverses of causal units against image size and kernel scale."""

from __future__ import annotations

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from replication.plots.style import COLOURS, LABELS, style

METHODS = {"existing": "s-", "jacobi": "v-", "newton": "^-", "substitution": "o-"}
FLOOR, CEILING = 1e-17, 1e3  # of the errors drawn; what is larger is as good as infinite


def draw(table: pd.DataFrame, recovery: float) -> Figure:
    """Draw figB2.csv: a column of panels for each kernel scale, errors above and times below.

    Args:
        table: the columns of `replication.studies.causal_inverses.causal_inverses`.
        recovery: the error that counts as recovered.
    """
    scales = list(table["scale"].unique())
    with style():
        figure, axes = plt.subplots(2, len(scales), figsize=(1.0 + 2.3 * len(scales), 6.4), sharey="row", sharex=True)
        for (error, cost), scale in zip(axes.T, scales, strict=True):
            part = table[table["scale"] == scale]
            draw_errors(error, part, recovery)
            draw_times(cost, part[part["dtype"] == "float64"])
            norms = part["norm_A"]
            error.set_title(f"taps × {scale**0.5:.2g}: ‖A‖ = {norms.min():.2g} to {norms.max():.2g}")
            cost.set_xlabel("height and width of the image")
        axes[0, 0].set_ylabel("relative error of an image, median")
        axes[1, 0].set_ylabel("time (forward passes), float64")
        handles, labels = axes[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=3)
        images = table["images"]
        figure.suptitle(
            "Random causal units, 16 channels, 32 hidden, 3×3, I + A₀ a P-matrix by construction: "
            f"{images.max()} to {images.min()} images from small to large\n(hollow: not all images converged, "
            "Newton within 60 steps; padding and algorithms reconstructed: A7, A8)",
            fontsize=9.5,
        )
    return figure


def draw_errors(axis: Axes, table: pd.DataFrame, recovery: float) -> None:
    """Draw the median error of every method, and the error that the measured condition lets expect."""
    double = table[table["dtype"] == "float64"]
    expected = double[double["method"] == "substitution"]
    axis.plot(
        expected["size"], expected["expected_error_median"].clip(FLOOR, CEILING), ":", color=COLOURS["p_matrix"],
        label="ε × measured condition, float64",
    )  # fmt: skip
    for method, mark in METHODS.items():
        draw_line(axis, double[double["method"] == method], mark, "relative_error_median", LABELS[method])
    single = table[(table["dtype"] == "float32") & (table["method"] == "substitution")]
    draw_line(axis, single, "o--", "relative_error_median", f"{LABELS['substitution']}, float32")
    axis.axhline(recovery, color=COLOURS["plain"], lw=0.8)
    axis.set_yscale("log")
    axis.set_ylim(FLOOR, CEILING)


def draw_times(axis: Axes, table: pd.DataFrame) -> None:
    """Draw the time of every method in forward passes."""
    for method, mark in METHODS.items():
        draw_line(axis, table[table["method"] == method], mark, "forward_passes", LABELS[method])
    axis.set_yscale("log")
    axis.set_xscale("log", base=2)
    axis.set_xticks(sorted(table["size"].unique()), [str(size) for size in sorted(table["size"].unique())])
    axis.xaxis.set_minor_locator(NullLocator())
    axis.yaxis.set_major_formatter(lambda value, _: f"{value:g}")


def draw_line(axis: Axes, table: pd.DataFrame, mark: str, column: str, label: str) -> None:
    """Draw one method's line, its marks hollow where rows did not converge."""
    colour = COLOURS[table["method"].iloc[0]]
    values = table[column].clip(FLOOR, CEILING) if column.startswith("relative") else table[column]
    axis.plot(table["size"], values, mark, color=colour, ms=4, label=label)
    failed = table["converged_percent"] < 100
    axis.plot(table["size"][failed], values[failed], mark[0], color=colour, mfc="white", ms=4)
