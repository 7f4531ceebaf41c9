"""figB1: invertible percentage of random convolutional blocks against γ, by padding."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from replication.experiments.plots.style import COLOURS, LABELS, LINES, Method, caption, legend_below, methods, style
from replication.experiments.results import Result

FIRST_TAP = "condition: I + A₀ is a P-matrix, A₀ of the first taps alone"


def draw(result: Result, record: Mapping[str, Any]) -> Figure:
    """Draw figB1.csv: a column of panels for each block, a row for each padding."""
    table, sweep = result.table, record["configuration"]["sweep"]
    marks = dict(reversed(methods(sweep["solvers"]).items()))
    marks["p_matrix"] = Method(LABELS["p_matrix"], COLOURS["p_matrix"])
    blocks, paddings = list(table["ensemble"].unique()), list(table["padding"].unique())
    with style():
        figure, axes = plt.subplots(
            len(paddings),
            len(blocks),
            figsize=(max(6.2, 1.0 + 2.25 * len(blocks)), 1.9 + 2.1 * len(paddings)),
            sharex=True,
            sharey=True,
            squeeze=False,
        )
        for line, padding in zip(axes, paddings, strict=True):
            for axis, block in zip(line, blocks, strict=True):
                draw_panel(axis, table[(table["ensemble"] == block) & (table["padding"] == padding)], marks)
            line[0].set_ylabel(f"zeros: {padding}\nblocks (%)")
        for axis, block in zip(axes[0], blocks, strict=True):
            axis.set_title(block)
        for axis in axes[-1]:
            axis.set_xlabel("γ, scale of A = W₁W₂")
        handles, labels = axes[-1, 0].get_legend_handles_labels()
        legend_below(figure, handles, labels, most=2)
        taps = f"{sweep['kernel_size']}×{sweep['kernel_size']}"
        caption(
            figure,
            f"Residual blocks with two random {taps} convolutions: {table['cases'].iloc[0]} cases for each γ, the same "
            "for every padding\n(95 % Wilson intervals; truth: all principal minors of the whole matrix; padding and "
            "ensemble reconstructed: A7, A9)",
        )
    return figure


def draw_panel(axis: Axes, table: pd.DataFrame, marks: Mapping[str, Method]) -> None:
    """Draw one block under one padding: a line with its interval for each quantity, the condition as circles."""
    for quantity, mark in marks.items():
        part, colour = table[table["quantity"] == quantity], mark.colour
        axis.fill_between(part["gamma"], part["ci_low"], part["ci_high"], color=colour, alpha=0.25, lw=0)
        axis.plot(part["gamma"], part["percent"], LINES.get(quantity, "-"), color=colour, label=mark.label)
    condition = table[table["quantity"] == "first_tap"]
    if len(condition):
        axis.plot(
            condition["gamma"], condition["percent"], "o", color=COLOURS["proposed"], mfc="none", ms=5, label=FIRST_TAP
        )
    axis.set_xscale("log", base=4)
    axis.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    if table["gamma"].nunique() > 1:
        axis.set_xlim(table["gamma"].min(), table["gamma"].max())
    axis.set_ylim(-3, 103)
