"""figC3: test accuracy against the share of training data, Hamiltonian against ResNet."""

from __future__ import annotations

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from replication.plots.style import COLOURS, LABELS, style


def draw(table: pd.DataFrame, dataset: str) -> Figure:
    """Draw figC3.csv: the mean over seeds as a line, every seed as a point.

    Args:
        table: the columns of `replication.studies.data_share.data_share`.
        dataset: its title.
    """
    with style():
        figure, axis = plt.subplots(figsize=(5.6, 4.0))
        for network, runs in table.groupby("network", sort=False):
            colour = COLOURS[str(network)]
            means = runs.groupby("share_percent")["test_accuracy"].mean()
            label = f"{LABELS[str(network)]}, {runs['parameters'].iloc[0]:,} parameters"
            axis.plot(means.index, means, "-", color=colour, label=label)
            axis.plot(runs["share_percent"], runs["test_accuracy"], "o", color=colour, mfc="none", ms=4)
        shares = sorted(table["share_percent"].unique())
        axis.set_xscale("log")
        axis.set_xticks(shares, [f"{share:g}" for share in shares])
        axis.xaxis.set_minor_locator(NullLocator())
        axis.set_xlabel("share of the subset (%)")
        axis.set_ylabel("test accuracy (%)")
        axis.legend(loc="upper left")
        images = table["training_images"].max()
        figure.suptitle(
            f"{dataset}, a subset of {images:,} training images: small networks,\n"
            f"{table['steps'].max()} steps for every share, {table['seed'].nunique()} seeds (settings ours: A16)",
            fontsize=9.5,
        )
    return figure
