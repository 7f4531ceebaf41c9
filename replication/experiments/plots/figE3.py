"""figE3: sample variance and mean of random ReLU networks against depth, and training from three initialisations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import cycle
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from replication.experiments.plots.style import COLOURS, SPARE, caption, style
from replication.experiments.results import Result

SHADES = ("#D55E00", "#E69F00", "#56B4E9", "#0072B2", *SPARE)
STARTS = {
    "total": ("keeps the total variance (He)", "#D55E00", "o"),
    "sample": ("keeps the sample variance", "#0072B2", "s"),
    "batch norm": ("batch normalisation", "#009E73", "^"),
}


def draw(result: Result, record: Mapping[str, Any]) -> Figure:
    """Draw figE3.csv.

    Args:
        result: a table of the columns of `replication.experiments.studies.variance_decay.variance_decay` and of
            `replication.experiments.studies.initialisations.trainings`.
        record: how it was made.
    """
    table, configuration = result.table, record["configuration"]
    study, training = configuration["study"], configuration["training"]
    colours = dict(zip((width for width, _ in by_width(table, "random")), cycle(SHADES), strict=False))
    theory = table[(table["part"] == "theory") & (table["layer"] <= study["depth"])]
    with style():
        figure, (variance, ratio, loss) = plt.subplots(1, 3, figsize=(11.2, 4.1))
        draw_variance(variance, table, theory, colours)
        draw_ratio(ratio, table, theory, colours)
        draw_losses(loss, table[table["part"] == "training"])
        counts = ", ".join(
            f"{part['networks'].iloc[0]:.0f} of width {width:g}" for width, part in by_width(table, "random")
        )
        caption(
            figure,
            f"Random ReLU networks without biases, weights of variance 2/N: means over {counts}; m/v with one standard "
            f"deviation (settings partly ours: A21). Right: {record['dataset']}, {training['hidden']} hidden layers of "
            f"{training['width']}, {training['steps']} steps, three seeds each",
        )
    return figure


def by_width(table: pd.DataFrame, name: str) -> Iterator[tuple[float, pd.DataFrame]]:
    """Yield each width of a part of the table with its rows, the smallest first."""
    part = table[table["part"] == name]
    for width in sorted(part["width"].unique().tolist()):
        yield width, part[part["width"] == width]


def draw_variance(axis: Axes, table: pd.DataFrame, theory: pd.DataFrame, colours: Mapping[float, str]) -> None:
    """Draw the sample variance against the layer, with the total one of the widest networks."""
    for width, part in by_width(table, "random"):
        axis.plot(part["layer"], part["variance"], color=colours[width], lw=1.3, label=f"v², N = {width:g}")
    axis.plot(theory["layer"], theory["variance"], color=COLOURS["text"], ls="--", label="v², theory, N → ∞")
    for width, part in list(by_width(table, "batch norm"))[-1:]:
        axis.plot(part["layer"], part["variance"], color="#009E73", label=f"v², batch norm, N = {width:g}")
        axis.axhline(1 - 1 / np.pi, color="#009E73", ls=":", lw=1, label="1 − 1/π")
    for width, part in list(by_width(table, "random"))[-1:]:
        axis.errorbar(
            part["layer"], part["total"], part["total_se"], fmt=".", color="#999999", ms=3, lw=0.7,
            label=f"σ² = v² + m², N = {width:g}, ± s.e.",
        )  # fmt: skip
    axis.set_yscale("log")
    axis.set_ylim(0.9 * table["variance"][table["layer"] <= theory["layer"].max()].min(), 22)  # room for the legend
    axis.set_xlabel("layer")
    axis.set_ylabel("variance of preactivations")
    axis.set_title("the total variance stays, the sample variance decays")
    axis.legend(fontsize=7, loc="upper left", ncols=2, columnspacing=0.8, handlelength=1.3)


def draw_ratio(axis: Axes, table: pd.DataFrame, theory: pd.DataFrame, colours: Mapping[float, str]) -> None:
    """Draw m/v against the layer, beside what is read off the published picture."""
    for width, part in by_width(table, "random"):
        axis.fill_between(
            part["layer"], part["ratio"] - part["ratio_sd"], part["ratio"] + part["ratio_sd"],
            color=colours[width], alpha=0.2, lw=0,
        )  # fmt: skip
        axis.plot(part["layer"], part["ratio"], color=colours[width], label=f"N = {width:g}")
    axis.plot(theory["layer"], theory["ratio"], color=COLOURS["text"], ls="--", label="theory, N → ∞")
    published = table[table["part"] == "read off"]
    axis.plot(
        published["layer"], published["ratio"], "D", color=COLOURS["text"], mfc="none", ms=5, ls="none",
        label="read by eye off the\nfirst author's picture",
    )  # fmt: skip
    axis.set_xlabel("layer")
    axis.set_ylabel("m/v (sample mean over sample deviation)")
    axis.set_title("finite width approaches the theory")
    axis.legend(fontsize=7.5, loc="upper left")


def draw_losses(axis: Axes, table: pd.DataFrame) -> None:
    """Draw the last loss of every training against its learning rate; diverged ones at the top."""
    last = table[table["step"] == table["step"].max()]
    top = 1.25 * last["loss"].max()
    for name, part in last.groupby("initialisation", sort=False):
        label, colour, marker = STARTS.get(str(name), (str(name), SPARE[0], "o"))
        means = part.groupby("rate")["loss"].mean()
        axis.plot(part["rate"], part["loss"].fillna(top), marker, color=colour, mfc="none", ms=5, ls="none")
        axis.plot(means.index, means, color=colour)
        axis.plot([], [], marker, ls="-", color=colour, mfc="none", ms=5, label=label)
    if last["loss"].isna().any():
        axis.axhspan(0.93 * top, 1.08 * top, color="#999999", alpha=0.15, lw=0)
        axis.annotate("diverged", (0.5, top), xycoords=("axes fraction", "data"), ha="center", va="center", fontsize=8)
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_ylim(top=2.3 * top)  # room for the legend
    axis.set_xticks(rates := sorted(last["rate"].unique()), [f"{rate:g}" for rate in rates])
    axis.set_xticks([], minor=True)
    axis.set_xlabel("learning rate")
    axis.set_ylabel("training loss (cross entropy) at the end")
    axis.set_title("training: three initialisations")
    axis.legend(fontsize=7.5, loc="upper right")
