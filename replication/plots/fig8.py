"""fig8: test accuracy against the cost of the inverse, and the accuracy of the inverse, by the cap on ‖A‖."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

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
    """Draw accuracy against forward passes, a labelled point for each cap."""
    accuracy = table["test_accuracy"]
    bars = [accuracy - table["accuracy_low"], table["accuracy_high"] - accuracy]
    axis.errorbar(table["forward_passes"], accuracy, yerr=bars, fmt="o", color=COLOURS["monotone"], ecolor="#bbbbbb")
    for place, (_, row) in enumerate(table.iterrows()):
        offset = (0, 8 if place % 2 else -14)  # by turns, as neighbours lie close
        place_of = (row["forward_passes"], row["accuracy_high" if place % 2 else "accuracy_low"])
        axis.annotate(cap_name(row["norm_cap"]), place_of, offset, textcoords="offset points", ha="center", fontsize=8)
    axis.set_xscale("log")
    axis.margins(0.12, 0.18)
    axis.set_xlabel(f"time of the inverse of {table['images'].iloc[0]} images, float32 (forward passes)")
    axis.set_ylabel("test accuracy (%), with Wilson 95 % interval")
    axis.set_title("what the cap costs, and what it saves")


def draw_error(axis: Axes, table: pd.DataFrame) -> None:
    """Draw the largest relative error of an image against the cap, by precision."""
    for dtype, colour in DTYPES.items():
        part = table[table["dtype"] == dtype]
        places = np.arange(len(part))
        label = f"{dtype}, each unit to a residual of {part['tolerance'].iloc[0]:.0e}"
        axis.plot(places, part["error_max"], "o-", color=colour, label=label)
    axis.set_yscale("log")
    low, high = axis.get_ylim()
    axis.set_ylim(low, high * 30)
    axis.set_xticks(places, [cap_name(cap) for cap in part["norm_cap"]])
    axis.set_xlabel("cap on ‖A‖ in training")
    axis.set_ylabel("largest relative error of an image")
    axis.set_title("how well images come back")
    axis.legend(loc="upper left", fontsize=8)


def cap_name(cap: float | None) -> str:
    """Return what a cap is called in the picture."""
    return "none" if cap is None or np.isnan(cap) else f"{cap:g}"
