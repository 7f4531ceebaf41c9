"""fig9: branches of any depth and activation against γ: conditions, truth, and what comes back, a panel for each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from replication.experiments.plots.style import COLOURS, Method, caption, legend_below, methods, style
from replication.experiments.results import Result

CONDITIONS = {  # in the order of drawing, each with its line
    "lipschitz": (Method("condition: Lipschitz, max(|α|, |β|)‖A‖ < 1", COLOURS["lipschitz"]), ":"),
    "h_matrix": (Method("condition: M is an H-matrix", COLOURS["h_matrix"]), ":"),
    "monotone": (Method("condition: M is monotone", COLOURS["monotone"]), "--"),
    "p_matrix": (Method("corner determinants of one sign: M is a P-matrix", COLOURS["p_matrix"]), "-."),
}
STABLE = "diagonal_stability"
MANY = 100  # cases from which an interval is narrow
STABLE_LINES = ("-", "--", ":", "-.")  # by order, the smallest first


def draw(result: Result, record: Mapping[str, Any]) -> Figure:
    """Draw fig9.csv: a panel for each branch."""
    table, study = result.table, record["configuration"]["study"]
    branches = list(table["branch"].unique())
    stable = Method("condition: M is diagonally stable", COLOURS[STABLE])
    marks = methods(study["solvers"], [stable, *(mark for mark, _ in CONDITIONS.values())])
    columns = min(3, len(branches))
    rows = -(-len(branches) // columns)
    with style():
        figure, axes = plt.subplots(
            rows, columns, figsize=(max(6.2, 1.2 + 2.6 * columns), 2.4 + 2.4 * rows), sharex=True, sharey=True,
            squeeze=False,
        )  # fmt: skip
        for axis in axes.flat[len(branches) :]:
            axis.set_visible(False)
        for axis, branch in zip(axes.flat, branches, strict=False):
            draw_panel(axis, table[table["branch"] == branch], marks, stable)
            axis.set_title(branch)
        for axis in axes[-1]:
            axis.set_xlabel("γ = ‖A‖")
        for axis in axes[:, 0]:
            axis.set_ylabel("cases (%)")
        legend_below(figure, *axes.flat[0].get_legend_handles_labels())
        caption(figure, title(table))
    return figure


def title(table: pd.DataFrame) -> str:
    """Say what the cases are, and how many."""
    cases = table.groupby("n")["cases"].first()
    counts = ", ".join(f"{count} of order {n}" for n, count in cases.items())
    return (
        "Random residual branches with normal weights: certified by each condition on the slopes' matrix "
        "M = (I + αA)⁻¹(I + βA), and recovered by each method\n"
        f"(95 % Wilson intervals; cases for each γ: {counts}; order {cases.index.min()} where none is named; "
        "for one layer the P-matrices are the invertible ones, for more they are certainly invertible)"
    )


def draw_panel(axis: Axes, table: pd.DataFrame, marks: Mapping[str, Method], stable: Method) -> None:
    """Draw one kind of branch: a line with its interval for each quantity, and the range where ‖A‖ < 1."""
    low, high, orders = table["gamma"].min(), table["gamma"].max(), sorted(table["n"].unique())
    axis.axvspan(low, max(low, min(1, high)), color="#F0F0F0", lw=0)
    axis.text(low * 1.04, 4, "‖A‖ < 1", ha="left", va="bottom", fontsize=7.5, color="#777777", clip_on=True)
    smallest = table[table["n"] == orders[0]]
    for quantity, mark in marks.items():
        draw_line(axis, smallest[smallest["quantity"] == quantity], mark, "-", mark.label)
    for n, line in zip(orders, STABLE_LINES, strict=False):
        part = table[(table["n"] == n) & (table["quantity"] == STABLE)]
        draw_line(axis, part, stable, line, f"{stable.label}, n = {n}")
    for quantity, (mark, line) in CONDITIONS.items():
        draw_line(axis, smallest[smallest["quantity"] == quantity], mark, line, mark.label)
    axis.set_xscale("log", base=2)
    axis.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    if low < high:
        axis.set_xlim(low, high)
    axis.set_ylim(-3, 103)


def draw_line(axis: Axes, part: pd.DataFrame, mark: Method, line: str, label: str) -> None:
    """Draw one quantity with its interval, the fainter the fewer cases there are."""
    alpha = 0.2 if part["cases"].max() >= MANY else 0.08
    axis.fill_between(part["gamma"], part["ci_low"], part["ci_high"], color=mark.colour, alpha=alpha, lw=0)
    axis.plot(part["gamma"], part["percent"], line, color=mark.colour, label=label)
