"""Small multiples of invertible percentage against γ, one panel for each ensemble: shared by fig2 and fig3."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from replication.experiments.plots.style import COLOURS, LABELS, LINES, Method, caption, legend_below, methods, style
from replication.experiments.results import Result

TITLES = {
    "gaussian": "Gaussian entries",
    "uniform": "uniform entries in [0, 1]",
    "entrywise": "Gaussian entries, deviation γ/√d",
    "gram": "A = BBᵀ (network's monotone unit)",
    "monotone": "A = B(I + S)Bᵀ, S skew",
    "skew": "A = BSBᵀ, S skew",
}
UNITS = {
    "linear": "rectifier linear transform y = x + relu(Wx + b)",
    "residual": "residual unit y = x + W₂relu(W₁x + b₁) + b₂, A = W₁W₂",
}
ASSUMPTIONS = {"linear": "A1, A3–A5", "residual": "A2–A5"}
NOT_RESCALED = ("entrywise",)  # where γ is not the norm of A, and γ < 1 guarantees nothing
CONDITIONS = {name: Method(LABELS[name], COLOURS[name]) for name in ("p_matrix", "monotone", "lipschitz")}


def about(table: pd.DataFrame, sweep: Mapping[str, Any]) -> str:
    """Say which units a sweep is of, and how many."""
    return f"{UNITS[sweep['kind']]}, dimension {sweep['d']}: {table['cases'].iloc[0]} random cases for each γ"


def draw_sweep(result: Result, record: Mapping[str, Any]) -> Figure:
    """Draw the table of fig2 or fig3: every method of the configuration, and every condition."""
    table, sweep = result.table, record["configuration"]["sweep"]
    ensembles = list(table["ensemble"].unique())
    marks = (
        dict(reversed(methods(sweep["solvers"], CONDITIONS.values()).items())) | CONDITIONS
    )  # in the order of drawing
    columns = min(3, len(ensembles))
    rows = -(-len(ensembles) // columns)
    with style():
        figure, axes = plt.subplots(
            rows, columns, figsize=(max(6.2, 1.2 + 2.6 * columns), 2.1 + 2.2 * rows), sharex=True, sharey=True,
            squeeze=False,
        )  # fmt: skip
        for axis in axes.flat[len(ensembles) :]:
            axis.set_visible(False)
        for axis, ensemble in zip(axes.flat, ensembles, strict=False):
            draw_panel(axis, table[table["ensemble"] == ensemble], marks, guaranteed=ensemble not in NOT_RESCALED)
            axis.set_title(TITLES.get(ensemble, ensemble))
        for axis in axes[-1]:
            axis.set_xlabel("γ")
        for axis in axes[:, 0]:
            axis.set_ylabel("cases recovered or invertible (%)")
        legend_below(figure, *axes.flat[0].get_legend_handles_labels())
        caption(
            figure,
            f"Inverse of the {about(table, sweep)}\n(95 % Wilson intervals; grey: ‖A‖ < 1, where the existing method "
            f"is guaranteed; ensembles reconstructed: assumptions {ASSUMPTIONS[sweep['kind']]})",
        )
    return figure


def draw_panel(axis: Axes, table: pd.DataFrame, marks: Mapping[str, Method], guaranteed: bool) -> None:
    """Draw one ensemble: a line with its interval for each quantity, and the range where γ = ‖A‖ < 1."""
    low, high = table["gamma"].min(), table["gamma"].max()
    if guaranteed and low < 1:
        axis.axvspan(low, min(1, high), color="#F0F0F0", lw=0)
        axis.text(min(0.95, high), 4, "‖A‖ < 1", ha="right", va="bottom", fontsize=7.5, color="#777777", clip_on=True)
    elif not guaranteed:
        axis.text(high, 97, "not rescaled: ‖A‖ varies", ha="right", va="top", fontsize=7.5, color="#777777")
    for quantity, mark in marks.items():
        part = table[table["quantity"] == quantity]
        axis.fill_between(part["gamma"], part["ci_low"], part["ci_high"], color=mark.colour, alpha=0.25, lw=0)
        axis.plot(part["gamma"], part["percent"], LINES.get(quantity, "-"), color=mark.colour, label=mark.label)
    axis.set_xscale("log", base=2)
    axis.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    if low < high:
        axis.set_xlim(low, high)
    axis.set_ylim(-3, 103)
