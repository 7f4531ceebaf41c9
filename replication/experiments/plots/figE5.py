"""figE5: deep ReLU networks with known limits, what their weights do, and random perturbations of the identity."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from replication.experiments.plots.style import caption, style
from replication.experiments.results import Result

SHADES = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#000000", "#999999")
MARKERS = "osv^DPX*"
DEPTH = "number of layers n"
LEAST = 1e-9  # that is drawn


def draw(result: Result, record: Mapping[str, Any]) -> Figure:
    """Draw figE5.csv, whose columns are those of `replication.experiments.studies.deep_limits.deep_limits`."""
    table = result.table
    with style():
        figure, axes = plt.subplots(2, 2, figsize=(9.2, 8.2))
        draw_limits(axes[0, 0], table)
        draw_random(axes[0, 1], table)
        draw_cases(axes[1, 0], table, ("change",))
        draw_cases(axes[1, 1], table, ("distance", "bias"))
        axes[1, 0].set_title("outputs: ‖Nₙ − Nₙ₋₁‖ / ‖N₀‖")
        axes[1, 1].set_title("layers: ‖Wₙ − I‖ + ‖bₙ‖")
        for axis in axes.flat:
            axis.set_xlabel(DEPTH)
            axis.set_xscale("log")
            axis.set_yscale("log")
        for axis in axes[1]:
            axis.set_ylim(LEAST, 20)
        figure.legend(*axes[1, 0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
        study = record["configuration"]["study"]
        caption(
            figure,
            f"Networks Nₙ = relu(WₙNₙ₋₁ + bₙ), N₀ = relu(x), of width {study['width']}, with {study['inputs']} normal "
            "inputs; below, eight networks and what outputs and layers do (those below 10⁻⁹ are not drawn); "
            "experiment reconstructed: A23",
        )
    return figure


def draw_limits(axis: Axes, table: pd.DataFrame) -> None:
    """Draw the distance from the limit where it is known, and the slope that the theory gives it."""
    part = table[table["part"] == "sufficient"]
    for shade, p in zip(SHADES, part["p"].unique(), strict=False):
        rows = part[part["p"] == p]
        error, tail = (rows[rows["quantity"] == name].set_index("depth")["value"] for name in ("error", "tail"))
        axis.plot(error.index, error, color=shade, label=f"p = {p:g}")
        axis.plot(tail.index, tail, ":", color=shade, label=f"‖S‖·Σ i⁻ᵖ past n, slope −{p - 1:g}")
    axis.set_title("Wₙ = exp(S·n⁻ᵖ), S ≥ 0: distance from exp(S·ζ(p))·relu(x)")
    axis.set_ylabel("relative error")
    axis.legend(fontsize=7.5)


def draw_random(axis: Axes, table: pd.DataFrame) -> None:
    """Draw how far networks with random layers move while their depth is tripled."""
    part = table[(table["part"] == "random") & (table["quantity"] == "change")]
    for shade, p in zip(SHADES, part["p"].unique(), strict=False):
        rows = part[part["p"] == p]
        axis.plot(rows["depth"], rows["value"], "o-", ms=4, color=shade, label=f"p = {p:g}")
    axis.set_title("Wₙ = I + Gₙ·n⁻ᵖ, Gₙ normal: move from n/3 to n layers")
    axis.set_ylabel("relative change, median of the networks")
    axis.legend(fontsize=7.5)


def draw_cases(axis: Axes, table: pd.DataFrame, quantities: tuple[str, ...]) -> None:
    """Draw one line for each network: the sum of some quantities against depth."""
    part = table[(table["part"] == "cases") & table["quantity"].isin(quantities)]
    for place, (case, rows) in enumerate(part.groupby("case", sort=False)):
        values = rows.groupby("depth")["value"].sum()
        axis.plot(
            values.index, np.where(values > 0, values, np.nan), color=SHADES[place % len(SHADES)], label=case,
            marker=MARKERS[place % len(MARKERS)], ms=4, markevery=0.1, lw=1,
        )  # fmt: skip
