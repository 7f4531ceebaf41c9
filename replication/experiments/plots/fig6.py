"""fig6: what decides the certificates of an ensemble against γ, and the steps of each method."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from replication.experiments.plots.gamma_sweep import ASSUMPTIONS, NOT_RESCALED, TITLES, about
from replication.experiments.plots.style import Method, caption, methods, style
from replication.experiments.results import Result

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
ENOUGH = 0.05  # share of the cases that must come back for a spread of their steps to mean something


def draw(result: Result, record: Mapping[str, Any]) -> Figure:
    """Draw fig6.csv: a row of two panels for each ensemble."""
    table, sweep = result.table, record["configuration"]["sweep"]
    ensembles, marks = list(table["ensemble"].unique()), methods(sweep["solvers"])
    with style():
        figure, axes = plt.subplots(
            len(ensembles), 2, figsize=(8.6, 1.0 + 3.3 * len(ensembles)), squeeze=False, width_ratios=(1.15, 1)
        )
        for (shares, steps), ensemble in zip(axes, ensembles, strict=True):
            part = table[table["ensemble"] == ensemble]
            draw_shares(shares, part)
            draw_steps(steps, part, marks)
            shares.set_title(f"certificates, {TITLES.get(ensemble, ensemble)}")
            steps.set_title("steps to recover x: median, 5–95 % of the cases")
            for axis in (shares, steps):
                axis.set_xscale("log", base=2)
                axis.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
                if part["gamma"].nunique() > 1:
                    axis.set_xlim(part["gamma"].min(), part["gamma"].max())
                axis.set_xlabel("γ" if ensemble in NOT_RESCALED else "γ = ‖A‖")
        subject = about(table, sweep)
        caption(
            figure,
            f"{subject[0].upper()}{subject[1:]}\n"
            f"(ensembles and methods reconstructed: assumptions {ASSUMPTIONS[sweep['kind']]})",
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
    axis.legend(handles[::-1], labels[::-1], loc="upper center", bbox_to_anchor=(0.5, -0.17), ncols=2, fontsize=8)


def draw_steps(axis: Axes, table: pd.DataFrame, marks: Mapping[str, Method]) -> None:
    """Draw the median of the steps of every method against γ, with the range of 5 to 95 %."""
    for method, mark in marks.items():
        part = table[(table["quantity"] == method) & (table["count"] >= ENOUGH * table["cases"])]
        axis.fill_between(
            part["gamma"], part["iterations_p5"], part["iterations_p95"], color=mark.colour, alpha=0.2, lw=0
        )
        axis.plot(part["gamma"], part["iterations_median"], color=mark.colour, label=mark.label)
    axis.set_yscale("symlog", linthresh=1)
    axis.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axis.set_ylabel("steps (exact, Newton: linear systems)")
    axis.legend(loc="upper left", fontsize=8)
    axis.text(
        0.98, 0.02, f"drawn where at least {ENOUGH:.0%} of the cases come back", transform=axis.transAxes, ha="right",
        va="bottom", fontsize=7.5, color="#777777",
    )  # fmt: skip
    axis.set_ylim(0, axis.get_ylim()[1] * 100)
