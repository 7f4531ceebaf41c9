"""figE1: boundaries seen in the plane, queries of recovered networks against their size, and the errors left."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from replication.experiments.plots.style import caption, style
from replication.experiments.results import Result

STRAIGHT, BENT, TRUE = "#0072B2", "#D55E00", "#BBBBBB"
DEPTHS = {1: ("one hidden layer", "#0072B2", "o"), 2: ("two hidden layers", "#D55E00", "s")}
GRID = 601  # points of each side on which the true boundaries are drawn


def draw(result: Result, record: Mapping[str, Any]) -> Figure:
    """Draw figE1.csv and its arrays.

    Args:
        result: a table and arrays of `replication.experiments.studies.network_recovery.recoveries`.
        record: how it was made.
    """
    study = record["configuration"]["study"]
    networks = result.table[result.table["kind"] != "crossing"]
    with style():
        figure, (plane, queries, errors) = plt.subplots(1, 3, figsize=(11.4, 4.1))
        draw_plane(plane, result, study["plane"], study["window"])
        draw_queries(queries, networks)
        draw_errors(errors, networks)
        whole = int(networks["whole"].astype(bool).sum())
        caption(
            figure,
            f"ReLU networks, random and trained, recovered from their outputs alone: {whole} of {len(networks)} are "
            "the black box's function; errors are the largest of a network, none is left out (random: normal weights "
            "of variance 2/inputs, standard normal biases; trained on 8×8 digits; A18, A19)",
        )
    return figure


def draw_plane(axis: Axes, result: Result, widths: list[int], window: float) -> None:
    """Draw the true boundaries of a network on the plane as lines, and the kinks seen in its outputs as dots."""
    first, second = true_preactivations(result.arrays["weights"], widths, window)
    ticks = np.linspace(-window, window, GRID)
    for values in (*first, *second):
        axis.contour(ticks, ticks, values, levels=[0], colors=TRUE, linewidths=2.5)
    seen = result.arrays["seen"]
    for layer, colour, name in (
        (1, STRAIGHT, "on a recovered line: first layer"),
        (2, BENT, "elsewhere: second layer"),
    ):
        part = seen[seen[:, 2] == layer]
        axis.plot(part[:, 0], part[:, 1], ".", ms=3, color=colour, label=name)
    axis.plot([], [], color=TRUE, lw=2.5, label="true boundaries")
    axis.set_xlim(-window, window)
    axis.set_ylim(-window, 1.55 * window)  # room for the legend
    axis.set_xlabel("x₁")
    axis.set_ylabel("x₂")
    axis.legend(fontsize=7.5, loc="upper left")
    axis.set_title(f"kinks seen, network {'-'.join(map(str, widths))}")


def true_preactivations(flat: np.ndarray, widths: list[int], window: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the preactivations of both hidden layers on a grid of the plane (units, GRID, GRID)."""
    _, h, units = widths[:3]
    W, rest = flat[: 2 * h].reshape(h, 2), flat[2 * h :]
    b, rest = rest[:h], rest[h:]
    V, c = rest[: units * h].reshape(units, h), rest[units * h : units * h + units]
    ticks = np.linspace(-window, window, GRID)
    x = np.stack(np.meshgrid(ticks, ticks), axis=-1)
    first = x @ W.T + b
    second = np.maximum(first, 0) @ V.T + c
    return np.moveaxis(first, -1, 0), np.moveaxis(second, -1, 0)


def draw_queries(axis: Axes, networks: pd.DataFrame) -> None:
    """Draw queries against parameters, filled where the network was recovered."""
    for depth, (name, colour, marker) in DEPTHS.items():
        part = networks[networks["hidden_layers"] == depth]
        whole = part[part["whole"].astype(bool)]
        axis.plot(part["parameters"], part["queries"], marker, mfc="none", color=colour, ms=5, label=name)
        axis.plot(whole["parameters"], whole["queries"], marker, color=colour, ms=5)
    trained = networks[networks["kind"] == "trained"]
    axis.plot(
        trained["parameters"], trained["queries"], "o", mfc="none", color="#000000", ms=10, label="trained on digits"
    )
    size = np.array([networks["parameters"].min(), networks["parameters"].max()])
    axis.plot(size, 45 * size, "--", color="#777777", lw=1, label="45 a parameter")
    axis.plot(size, 15 * size, ":", color="#777777", lw=1, label="15 a parameter")
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.set_xlabel("weights and biases")
    axis.set_ylabel("queries")
    axis.legend(fontsize=7.5, loc="lower right")
    axis.set_title("queries (filled: function recovered)")


def draw_errors(axis: Axes, networks: pd.DataFrame) -> None:
    """Draw histograms of the largest error of the weights and of the function."""
    edges = np.arange(-14, 1.5, 0.5).tolist()
    for column, colour, name in (
        ("weight_error", "#009E73", "weights and biases"),
        ("function_error", "#CC79A7", "function"),
    ):
        values = networks[column].replace(np.inf, np.nan).dropna()
        axis.hist(np.log10(values.clip(1e-14, 10)), bins=edges, color=colour, alpha=0.55, label=name)
    missing = int((~np.isfinite(networks["function_error"])).sum())
    axis.set_xlabel("log₁₀ of the largest error")
    axis.set_ylabel("networks")
    axis.legend(fontsize=7.5, loc="upper right", title=f"no network given: {missing}", title_fontsize=7.5)
    axis.set_title("errors, up to order and scale of units")
