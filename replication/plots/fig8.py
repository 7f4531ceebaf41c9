"""fig8: test accuracy against the cost of the inverse, and the accuracy of the inverse, by the cap on ‖A‖."""

from __future__ import annotations

from itertools import cycle

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FormatStrFormatter, LogLocator, NullLocator

from replication.plots.style import COLOURS, style

DTYPES = {"float32": COLOURS["existing"], "float64": COLOURS["proposed"]}


def draw(table: pd.DataFrame, dataset: str) -> Figure:
    """Draw fig8.csv.

    Args:
        table: the columns of `replication.studies.caps.cap_rows`.
        dataset: its title.
    """
    single = table[table["dtype"] == "float32"]
    with style():
        figure, (cost, error) = plt.subplots(1, 2, figsize=(8.8, 3.9))
        draw_cost(cost, single)
        draw_error(error, table)
        figure.suptitle(
            f"{dataset}: monotone networks trained with a cap on ‖A‖, inverted from their last hidden layer "
            "(reconstructed: A6)",
            fontsize=9.5,
        )
    return figure


def draw_cost(axis: Axes, table: pd.DataFrame) -> None:
    """Draw accuracy against forward passes, a colour for each cap and a point for each seed."""
    groups = list(table.groupby([cap_name(cap) for cap in table["norm_cap"]], sort=False))
    shades = plt.get_cmap("viridis")(np.linspace(0, 0.9, len(groups)))
    for (name, runs), shade, marker in zip(groups, shades, cycle("os^Dv*"), strict=False):
        accuracy = runs["test_accuracy"]
        bars = [accuracy - runs["accuracy_low"], runs["accuracy_high"] - accuracy]
        axis.errorbar(
            runs["forward_passes"],
            accuracy,
            yerr=bars,
            fmt=marker,
            mfc="none",
            color=shade,
            ecolor="#cccccc",
            label=str(name),
        )
    axis.legend(loc="lower center", bbox_to_anchor=(0.62, 0), fontsize=8)
    axis.set_xscale("log")
    axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.xaxis.set_major_formatter(FormatStrFormatter("%g"))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.margins(0.12, 0.18)
    axis.set_xlabel(f"time of the inverse of {table['images'].iloc[0]} images, float32 (forward passes)")
    axis.set_ylabel("test accuracy (%), with Wilson 95 % interval")
    axis.set_title("what the cap costs, and what it saves")


def draw_error(axis: Axes, table: pd.DataFrame) -> None:
    """Draw the largest relative error of an image against the cap, by precision."""
    caps = list(dict.fromkeys(cap_name(cap) for cap in table["norm_cap"]))
    for dtype, colour in DTYPES.items():
        part = table[table["dtype"] == dtype]
        label = f"{dtype}, each unit to a residual of {part['tolerance'].iloc[0]:.0e}"
        places = [caps.index(cap_name(cap)) for cap in part["norm_cap"]]
        axis.plot(places, part["error_max"], "o", color=colour, mfc="none", label=label)
        largest = part["error_max"].groupby(places).max()
        axis.plot(largest.index, largest, "-", color=colour, lw=1)
    axis.set_yscale("log")
    low, high = axis.get_ylim()
    axis.set_ylim(low, high * 300)
    axis.set_xticks(range(len(caps)), caps)
    axis.set_xlabel("training, cap on ‖A‖")
    axis.set_ylabel("largest relative error of an image")
    axis.set_title("how well images come back")
    axis.legend(loc="upper left", fontsize=8)


def cap_name(cap: float | None) -> str:
    """Return what a cap is called in the picture."""
    return "no cap" if cap is None or np.isnan(cap) else f"cap {cap:g}"
