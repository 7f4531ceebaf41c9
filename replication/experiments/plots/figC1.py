"""figC1: error of the first states recomputed from the last ones, against depth, for four reversible networks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from replication.experiments.plots.style import COLOURS, caption, legend_below, named, style
from replication.experiments.results import Result

FLOOR, CEILING = 1e-17, 1e3  # of the errors drawn; what is larger is as good as infinite
DTYPES = {"float64": "o-", "float32": "o--"}


def draw(result: Result, record: Mapping[str, Any]) -> Figure:
    """Draw figC1.csv, a panel for each setting; lines end where nothing is left of the first states.

    Args:
        result: a table of the columns of `replication.experiments.studies.reconstruction.reconstruction`.
        record: how it was made.
    """
    table = result.table
    marks = named(table["network"].unique())
    settings = list(table.groupby("setting", sort=False))
    with style():
        figure, axes = plt.subplots(
            1, len(settings), figsize=(max(5.2, 1.0 + 2.5 * len(settings)), 4.2), sharey=True, squeeze=False
        )
        for axis, (title, part) in zip(axes[0], settings, strict=True):
            for (network, dtype), line in part.groupby(["network", "dtype"], sort=False):
                axis.plot(
                    line["layers"], line["error_median"].clip(FLOOR, CEILING), DTYPES[str(dtype)], ms=3,
                    color=marks[str(network)].colour, label=f"{marks[str(network)].label}, {dtype}",
                )  # fmt: skip
            axis.axhline(1.0, color=COLOURS["plain"], lw=0.8)
            axis.set_xscale("log")
            axis.set_yscale("log")
            axis.set_ylim(FLOOR, CEILING)
            axis.set_xlabel("layers")
            axis.set_title(title)
        axes[0, 0].set_ylabel("relative error of the first states, median")
        handles, labels = axes[0, 0].get_legend_handles_labels()
        legend_below(figure, handles, labels, most=4)
        revnet = "RevNet has no h and is normalised in every panel; " if "revnet" in marks else ""
        caption(
            figure,
            f"Random reversible networks, {table['images'].iloc[0]} random inputs; above the line at 1 nothing is left "
            f"of them\n({revnet}settings ours: A16)",
        )
    return figure
