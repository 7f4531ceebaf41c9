"""bench_network: the cost of a network's inverse in forward passes, and evaluations against the true error."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from replication.experiments.plots.style import Method, caption, methods, style
from replication.experiments.results import Result


def draw(result: Result, record: Mapping[str, Any]) -> Figure:
    """Draw bench_network.csv: forward passes by batch on the left, error curves on the right."""
    whole, config = result.table[result.table["layer"] == "network"], record["configuration"]
    marks = methods({**config["curve"]["solvers"], **config["bench"]["solvers"]})
    contraction = config["curve"]["contractive"]["contraction"]
    curves = {"lipschitz": "Lipschitz network", "contraction": f"a unit that contracts by {contraction:g}"}
    with style():
        figure, (cost, *panels) = plt.subplots(1, 3, figsize=(11.5, 4.1), width_ratios=(1.7, 1, 1))
        cases = whole[(whole["network"] == "monotone") & (whole["device"] == whole["device"].iloc[0])]
        draw_cost(cost, cases, marks)
        cost.set_title(f"{config['unit']['family']} network, all hidden layers")
        for axis, (network, title) in zip(panels, curves.items(), strict=True):
            draw_curve(axis, whole[whole["network"] == network], marks, title)
        caption(
            figure,
            f"{record['dataset']}: recovering images from the last hidden layer's output (reconstructed: A4–A6)",
        )
    return figure


def draw_cost(axis: Axes, table: pd.DataFrame, marks: Mapping[str, Method]) -> None:
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
        colour, label = marks[solver].colour, marks[solver].label
        axis.bar(positions, passes, width, color=colour, yerr=[low, high], error_kw={"lw": 0.8}, label=label)
        for x, value, above in zip(positions, passes, high, strict=True):
            axis.text(x, (value + above) * 1.12, f"{value:.0f}", ha="center", va="bottom", fontsize=7)
    axis.set_yscale("log")
    axis.set_ylim(1, axis.get_ylim()[1] * 6)
    axis.set_xticks(range(len(groups)), [f"{dtype}\nbatch {batch}" for dtype, batch in groups], fontsize=7.5)
    axis.set_ylabel("time of the inverse (forward passes)")
    axis.legend(loc="upper left", fontsize=8)


def draw_curve(axis: Axes, table: pd.DataFrame, marks: Mapping[str, Method], title: str) -> None:
    """Draw evaluations of all units against the largest true error."""
    for solver in table["solver"].unique():
        part, mark = table[table["solver"] == solver], marks[solver]
        axis.plot(part["error_max"], part["evaluations"], "o-", ms=3, color=mark.colour, label=mark.label)
    axis.set_xscale("log")
    axis.invert_xaxis()
    axis.set_ylim(0, None)
    axis.set_xlabel("largest relative error")
    axis.set_ylabel("evaluations of units, per image")
    axis.set_title(title)
    axis.legend(loc="upper left", fontsize=8)
