"""figC1: error of the first states recomputed from the last ones, against depth, for four reversible networks."""

from __future__ import annotations

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from replication.plots.style import COLOURS, LABELS, style

FLOOR, CEILING = 1e-17, 1e3  # of the errors drawn; what is larger is as good as infinite
DTYPES = {"float64": "o-", "float32": "o--"}


def draw(table: pd.DataFrame) -> Figure:
    """Draw figC1.csv, a panel for each setting; lines end where nothing is left of the first states.

    Args:
        table: the columns of `replication.studies.reconstruction.reconstruction`.
    """
    settings = list(table.groupby("setting", sort=False))
    with style():
        figure, axes = plt.subplots(
            1, len(settings), figsize=(1.0 + 2.5 * len(settings), 4.0), sharey=True, squeeze=False
        )
        for axis, (title, part) in zip(axes[0], settings, strict=True):
            for (network, dtype), line in part.groupby(["network", "dtype"], sort=False):
                axis.plot(
                    line["layers"], line["error_median"].clip(FLOOR, CEILING), DTYPES[str(dtype)], ms=3,
                    color=COLOURS[str(network)], label=f"{LABELS[str(network)]}, {dtype}",
                )  # fmt: skip
            axis.axhline(1.0, color=COLOURS["plain"], lw=0.8)
            axis.set_xscale("log")
            axis.set_yscale("log")
            axis.set_ylim(FLOOR, CEILING)
            axis.set_xlabel("layers")
            axis.set_title(title)
        axes[0, 0].set_ylabel("relative error of the first states, median")
        handles, labels = axes[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=4)
        figure.suptitle(
            f"Random reversible networks, {table['images'].iloc[0]} random inputs; above the line at 1 nothing is left "
            "of them\n(RevNet has no h and is normalised in every panel; settings ours: A16)",
            fontsize=9.5,
        )
    return figure
