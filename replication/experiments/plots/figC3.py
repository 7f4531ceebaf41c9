"""figC3: test accuracy against the share of training data, Hamiltonian against ResNet."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from replication.experiments.plots.style import caption, named, style
from replication.experiments.results import Result


def draw(result: Result, record: Mapping[str, Any]) -> Figure:
    """Draw figC3.csv: the mean over seeds as a line, every seed as a point.

    Args:
        result: a table of the columns of `replication.experiments.studies.data_share.data_share`.
        record: how it was made.
    """
    table = result.table
    marks = named(table["network"].unique())
    with style():
        figure, axis = plt.subplots(figsize=(5.6, 4.0))
        for network, runs in table.groupby("network", sort=False):
            colour = marks[str(network)].colour
            means = runs.groupby("share_percent")["test_accuracy"].mean()
            label = (
                f"{marks[str(network)].label}, {runs['parameters'].iloc[0]:,} parameters, {runs['steps'].max():,} steps"
            )
            axis.plot(means.index, means, "-", color=colour, label=label)
            axis.plot(runs["share_percent"], runs["test_accuracy"], "o", color=colour, mfc="none", ms=4)
        shares = sorted(table["share_percent"].unique())
        axis.set_xscale("log")
        axis.set_xticks(shares, [f"{share:g}" for share in shares])
        axis.xaxis.set_minor_locator(NullLocator())
        axis.set_xlabel("share of the subset (%)")
        axis.set_ylabel("test accuracy (%)")
        axis.legend(loc="lower right")
        images = table["training_images"].max()
        caption(
            figure,
            f"{record['dataset']}, a subset of {images:,} training images: small networks, "
            f"the same steps at every share, {table['seed'].nunique()} seeds (settings ours: A16)",
        )
    return figure
