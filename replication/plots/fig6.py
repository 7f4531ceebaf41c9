"""fig6: what decides the certificates of an ensemble against γ, and the steps of each method."""

from __future__ import annotations

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from replication.plots.gamma_sweep import TITLES
from replication.plots.style import COLOURS, LABELS, style

# Bottom to top: invertible by ever weaker conditions, unknown, not invertible
AREAS = {
    "lipschitz": ("‖A‖ < 1", "#E69F00"),
    "monotone": ("λmin(sym A) > −1", "#56B4E9"),
    "h_matrix": ("H-matrix", "#0072B2"),
    "triangular": ("block triangular", "#004D7A"),
    "p_matrix": ("P-matrix only", "#009E73"),
    "unknown": ("unknown", "#BBBBBB"),
    "collision": ("not invertible: two inputs collide", "#D55E00"),
}
METHODS = ("existing", "proposed", "exact")
ENOUGH = 0.05  # share of the cases that must come back for a spread of their steps to mean something


def draw(table: pd.DataFrame) -> Figure:
    """Draw fig6.csv: a row of two panels for each ensemble."""
    ensembles = list(table["ensemble"].unique())
    with style():
        figure, axes = plt.subplots(
            len(ensembles), 2, figsize=(8.6, 1.0 + 2.9 * len(ensembles)), squeeze=False, width_ratios=(1.15, 1)
        )
        for (shares, steps), ensemble in zip(axes, ensembles, strict=True):
            part = table[table["ensemble"] == ensemble]
            draw_shares(shares, part)
            draw_steps(steps, part)
            shares.set_title(f"certificates, {TITLES.get(ensemble, ensemble)}")
            steps.set_title("steps to recover x: median, 5–95 % of the cases")
            for axis in (shares, steps):
                axis.set_xscale("log", base=2)
                axis.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
                axis.set_xlim(part["gamma"].min(), part["gamma"].max())
                axis.set_xlabel("γ = ‖A‖")
        figure.suptitle(
            f"Rectifier linear transforms y = x + relu(Wx + b), dimension 10: {table['cases'].iloc[0]} random cases "
            "for each γ\n(ensembles and methods reconstructed: assumptions A1, A3–A5)",
            fontsize=9.5,
        )
    return figure


def draw_shares(axis: Axes, table: pd.DataFrame) -> None:
    """Stack the shares of the cases by what decides their certificate, and label the areas."""
    shares = table.pivot(index="gamma", columns="quantity", values="percent")
    present = [name for name in AREAS if shares[name].max() > 0]
    axis.stackplot(
        shares.index,
        [shares[name] for name in present],
        colors=[AREAS[name][1] for name in present],
        labels=[AREAS[name][0] for name in present],
        lw=0,
    )
    axis.set_ylim(0, 100)
    axis.set_ylabel("cases (%)")
    handles, labels = axis.get_legend_handles_labels()
    axis.legend(
        handles[::-1], labels[::-1], loc="lower right", frameon=True, framealpha=0.9, edgecolor="none", fontsize=8
    )


def draw_steps(axis: Axes, table: pd.DataFrame) -> None:
    """Draw the median of the steps of every method against γ, with the range of 5 to 95 %."""
    for method in METHODS:
        part = table[(table["quantity"] == method) & (table["count"] >= ENOUGH * table["cases"])]
        axis.fill_between(
            part["gamma"], part["iterations_p5"], part["iterations_p95"], color=COLOURS[method], alpha=0.2, lw=0
        )
        axis.plot(part["gamma"], part["iterations_median"], color=COLOURS[method], label=LABELS[method])
    axis.set_yscale("symlog", linthresh=1)
    axis.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axis.set_ylabel("steps (exact: linear systems)")
    axis.legend(loc="upper left", fontsize=8)
    axis.text(
        0.98, 0.02, f"drawn where at least {ENOUGH:.0%} of the cases come back", transform=axis.transAxes, ha="right",
        va="bottom", fontsize=7.5, color="#777777",
    )  # fmt: skip
    axis.set_ylim(0, axis.get_ylim()[1] * 30)
