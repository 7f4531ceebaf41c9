"""fig8: test accuracy against the cost of the inverse, and the accuracy of the inverse, by the cap on ‖A‖."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import cycle
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FormatStrFormatter, LogLocator, NullLocator

from replication.experiments.plots.style import COLOURS, caption, scientific, style
from replication.experiments.results import Result

DTYPES = {"float32": COLOURS["existing"], "float64": COLOURS["proposed"]}


def draw(result: Result, record: Mapping[str, Any]) -> Figure:
    """Draw fig8.csv: the cost in the first precision, the errors in all.

    Args:
        result: a table of the columns of `replication.experiments.studies.caps.cap_rows`.
        record: how it was made.
    """
    table = result.table
    with style():
        figure, (cost, error) = plt.subplots(1, 2, figsize=(8.8, 3.9))
        draw_cost(cost, table[table["dtype"] == table["dtype"].iloc[0]])
        draw_error(error, table)
        caption(
            figure,
            f"{record['dataset']}: monotone networks trained with a cap on ‖A‖, inverted from their last hidden layer "
            "(reconstructed: A6)",
        )
    return figure


def draw_cost(axis: Axes, table: pd.DataFrame) -> None:
    """Draw accuracy against forward passes, a colour for each cap and a point for each seed."""
    groups = list(table.groupby([cap_name(cap) for cap in table["norm_cap"]], sort=False))
    shades, images = plt.get_cmap("viridis")(np.linspace(0, 0.9, len(groups))), table["images"].iloc[0]
    for (name, runs), shade, marker in zip(groups, shades, cycle("os^Dv*"), strict=False):
        accuracy = runs["test_accuracy"]
        bars = [accuracy - runs["accuracy_low"], runs["accuracy_high"] - accuracy]
        fewer = "" if runs["images"].iloc[0] == images else f", {runs['images'].iloc[0]} images"
        axis.errorbar(
            runs["forward_passes"],
            accuracy,
            yerr=bars,
            fmt=marker,
            mfc="none",
            color=shade,
            ecolor="#cccccc",
            label=f"{name}{fewer}",
        )
    axis.legend(loc="lower center", bbox_to_anchor=(0.70, 0), fontsize=8)
    axis.set_xscale("log")
    axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.xaxis.set_major_formatter(FormatStrFormatter("%g"))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.margins(0.12, 0.18)
    axis.set_xlabel(f"time of the inverse of {images} images, {table['dtype'].iloc[0]} (forward passes)")
    axis.set_ylabel("test accuracy (%), with Wilson 95 % interval")
    axis.set_title("what the cap costs, and what it saves")


def draw_error(axis: Axes, table: pd.DataFrame) -> None:
    """Draw the largest relative error of an image against the cap, by precision."""
    caps = list(dict.fromkeys(cap_name(cap) for cap in table["norm_cap"]))
    for dtype, colour in DTYPES.items():
        part = table[table["dtype"] == dtype]
        label = f"{dtype}, each unit to a residual of {scientific(part['tolerance'].iloc[0])}"
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
