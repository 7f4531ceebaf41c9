"""Small multiples of invertible percentage against γ, one panel for each ensemble: shared by fig2 and fig3."""

from __future__ import annotations

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from replication.plots.style import COLOURS, LABELS, LINES, style

TITLES = {
    "gaussian": "Gaussian entries",
    "uniform": "uniform entries in [0, 1]",
    "entrywise": "Gaussian entries, deviation γ/√d",
    "gram": "A = BBᵀ (the network's monotone unit)",
    "monotone": "A = B(I + S)Bᵀ, S skew",
    "skew": "A = BSBᵀ, S skew",
}
NOT_RESCALED = ("entrywise",)  # where γ is not the norm of A, and γ < 1 guarantees nothing
MARKS = (
    "exact",
    "proposed",
    "existing",
    "p_matrix",
    "monotone",
    "lipschitz",
)  # in the order of drawing and of the legend


def draw_sweep(table: pd.DataFrame, title: str) -> Figure:
    """Draw the table of fig2 or fig3, with a title above the panels."""
    ensembles = list(table["ensemble"].unique())
    columns = min(3, len(ensembles))
    rows = -(-len(ensembles) // columns)
    with style():
        figure, axes = plt.subplots(
            rows, columns, figsize=(1.2 + 2.6 * columns, 1.6 + 2.2 * rows), sharex=True, sharey=True, squeeze=False
        )
        for axis in axes.flat[len(ensembles) :]:
            axis.set_visible(False)
        for axis, ensemble in zip(axes.flat, ensembles, strict=False):
            draw_panel(axis, table[table["ensemble"] == ensemble], guaranteed=ensemble not in NOT_RESCALED)
            axis.set_title(TITLES.get(ensemble, ensemble))
        for axis in axes[-1]:
            axis.set_xlabel("γ")
        for axis in axes[:, 0]:
            axis.set_ylabel("cases recovered or invertible (%)")
        handles, labels = axes.flat[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=3)
        figure.suptitle(title, fontsize=9.5)
    return figure


def draw_panel(axis: Axes, table: pd.DataFrame, guaranteed: bool) -> None:
    """Draw one ensemble: a line with its interval for each quantity, and the range where γ = ‖A‖ < 1."""
    if guaranteed:
        axis.axvspan(table["gamma"].min(), 1, color="#F0F0F0", lw=0)
        axis.text(0.95, 4, "‖A‖ = γ < 1", ha="right", va="bottom", fontsize=7.5, color="#777777")
    else:
        axis.text(
            table["gamma"].max(), 97, "not rescaled: ‖A‖ varies", ha="right", va="top", fontsize=7.5, color="#777777"
        )
    for quantity in MARKS:
        part = table[table["quantity"] == quantity]
        colour = COLOURS[quantity]
        axis.fill_between(part["gamma"], part["ci_low"], part["ci_high"], color=colour, alpha=0.25, lw=0)
        axis.plot(part["gamma"], part["percent"], LINES[quantity], color=colour, label=LABELS[quantity])
    axis.set_xscale("log", base=2)
    axis.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axis.set_xlim(table["gamma"].min(), table["gamma"].max())
    axis.set_ylim(-3, 103)
