"""figB2: error and time of the inverses of causal units against image size and kernel scale."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from replication.experiments.plots.style import COLOURS, Method, caption, legend_below, methods, style
from replication.experiments.results import Result

MARKS = "osv^Dp*"
FLOOR, CEILING = 1e-17, 1e3  # of the errors drawn; what is larger is as good as infinite


def draw(result: Result, record: Mapping[str, Any]) -> Figure:
    """Draw figB2.csv: a column of panels for each kernel scale, errors above and times below.

    Args:
        result: a table of the columns of `replication.experiments.studies.causal_inverses.causal_inverses`.
        record: how it was made.
    """
    table, study = result.table, record["configuration"]["study"]
    scales, marks = list(table["scale"].unique()), methods(study["solvers"])
    with style():
        figure, axes = plt.subplots(
            2, len(scales), figsize=(max(5.2, 1.0 + 2.3 * len(scales)), 6.6), sharey="row", sharex=True, squeeze=False
        )
        for (error, cost), scale in zip(axes.T, scales, strict=True):
            part = table[table["scale"] == scale]
            draw_errors(error, part, marks, study["recovery"])
            draw_times(cost, part[part["dtype"] == table["dtype"].iloc[0]], marks)
            norms = part["norm_A"]
            error.set_title(f"taps × {scale**0.5:.2g}: ‖A‖ = {norms.min():.3g} to {norms.max():.3g}")
            cost.set_xlabel("height and width of the image")
        axes[0, 0].set_ylabel("relative error of an image, median")
        axes[1, 0].set_ylabel(f"time (forward passes), {table['dtype'].iloc[0]}")
        legend_below(figure, *axes[0, 0].get_legend_handles_labels())
        counts = table.groupby("size")["images"].first()
        caption(
            figure,
            f"Random causal units, {study['channels']} channels, {study['hidden']} hidden, 3×3, I + A₀ a P-matrix by "
            f"construction: {counts.iloc[0]} to {counts.iloc[-1]} images from small to large\n(hollow: not all images "
            "converged; grey: counts as recovered; padding and algorithms reconstructed: A7, A8)",
        )
    return figure


def draw_errors(axis: Axes, table: pd.DataFrame, marks: Mapping[str, Method], recovery: float) -> None:
    """Draw the median error of every method, and the error that the measured condition lets expect."""
    first = table["dtype"].iloc[0]
    expected = table[table["dtype"] == first].drop_duplicates("size").sort_values("size")
    axis.plot(
        expected["size"], expected["expected_error_median"].clip(FLOOR, CEILING), ":", color=COLOURS["p_matrix"],
        label=f"ε × measured condition, {first}",
    )  # fmt: skip
    for (dtype, method), part in table.groupby(["dtype", "method"], sort=False):
        mark, place = marks[str(method)], list(marks).index(str(method)) % len(MARKS)
        label = mark.label + ("" if dtype == first else f", {dtype}")
        line = MARKS[place] + ("-" if dtype == first else "--")
        draw_line(axis, part, line, "relative_error_median", label, mark.colour)
    axis.axhline(recovery, color=COLOURS["plain"], lw=0.8)
    axis.set_yscale("log")
    axis.set_ylim(FLOOR, CEILING)


def draw_times(axis: Axes, table: pd.DataFrame, marks: Mapping[str, Method]) -> None:
    """Draw the time of every method in forward passes."""
    for place, (method, mark) in enumerate(marks.items()):
        part = table[table["method"] == method]
        draw_line(axis, part, MARKS[place % len(MARKS)] + "-", "forward_passes", mark.label, mark.colour)
    axis.set_yscale("log")
    axis.set_xscale("log", base=2)
    axis.set_xticks(sorted(table["size"].unique()), [str(size) for size in sorted(table["size"].unique())])
    axis.xaxis.set_minor_locator(NullLocator())
    axis.yaxis.set_major_formatter(lambda value, _: f"{value:g}")


def draw_line(axis: Axes, table: pd.DataFrame, mark: str, column: str, label: str, colour: str) -> None:
    """Draw one method's line, its marks hollow where rows did not converge."""
    values = table[column].clip(FLOOR, CEILING) if column.startswith("relative") else table[column]
    axis.plot(table["size"], values, mark, color=colour, ms=4, label=label)
    failed = table["converged_percent"] < 100
    axis.plot(table["size"][failed], values[failed], mark[0], color=colour, mfc="white", ms=4)
