"""bench_network: the cost of a network's inverse in forward passes, and evaluations against the true error."""

from __future__ import annotations

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from replication.plots.style import COLOURS, LABELS, style

CURVES = {"lipschitz": "Lipschitz network", "contraction": "a unit that contracts by 0.9"}


def draw(table: pd.DataFrame, dataset: str) -> Figure:
    """Draw bench_network.csv: forward passes by batch on the left, the error curve on the right."""
    whole = table[table["layer"] == "network"]
    with style():
        figure, (cost, *curves) = plt.subplots(1, 3, figsize=(11.5, 3.9), width_ratios=(1.7, 1, 1))
        draw_cost(cost, whole[(whole["network"] == "monotone") & (whole["device"] == "cpu")])
        for axis, (network, title) in zip(curves, CURVES.items(), strict=True):
            draw_curve(axis, whole[whole["network"] == network], title)
        figure.suptitle(
            f"{dataset}: recovering images from the last hidden layer's output (reconstructed: A4–A6)", fontsize=9.5
        )
    return figure


def draw_cost(axis: Axes, table: pd.DataFrame) -> None:
    """Draw bars of the inverse's wall time over that of a forward pass, with the extremes of the repetitions."""
    groups = table[["dtype", "batch"]].drop_duplicates().to_numpy().tolist()
    solvers = list(table["solver"].unique())
    width = 0.8 / len(solvers)
    for place, solver in enumerate(solvers):
        part = table[table["solver"] == solver].set_index(["dtype", "batch"])
        here = [(x, part.loc[tuple(group)]) for x, group in enumerate(groups) if tuple(group) in part.index]
        positions = [x + (place - (len(solvers) - 1) / 2) * width for x, _ in here]
        passes = [row["forward_passes"] for _, row in here]
        low = [row["forward_passes"] - row["seconds_low"] / row["forward_seconds"] for _, row in here]
        high = [row["seconds_high"] / row["forward_seconds"] - row["forward_passes"] for _, row in here]
        colour = COLOURS[solver]
        axis.bar(positions, passes, width, color=colour, yerr=[low, high], error_kw={"lw": 0.8}, label=LABELS[solver])
        for x, value in zip(positions, passes, strict=True):
            axis.text(x, value * 1.12, f"{value:.0f}", ha="center", va="bottom", fontsize=7)
    axis.set_yscale("log")
    axis.set_ylim(1, axis.get_ylim()[1] * 6)
    axis.set_xticks(range(len(groups)), [f"{dtype}\nbatch {batch}" for dtype, batch in groups], fontsize=7.5)
    axis.set_ylabel("time of the inverse (forward passes)")
    axis.set_title("monotone network, all hidden layers")
    axis.legend(loc="upper left", fontsize=8)


def draw_curve(axis: Axes, table: pd.DataFrame, title: str) -> None:
    """Draw evaluations of all units against the largest true error."""
    for solver in table["solver"].unique():
        part = table[table["solver"] == solver]
        axis.plot(part["error_max"], part["evaluations"], "o-", ms=3, color=COLOURS[solver], label=LABELS[solver])
    axis.set_xscale("log")
    axis.invert_xaxis()
    axis.set_ylim(0, None)
    axis.set_xlabel("largest relative error")
    axis.set_ylabel("evaluations of units, per image")
    axis.set_title(title)
    axis.legend(loc="upper left", fontsize=8)
