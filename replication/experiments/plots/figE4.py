"""figE4: numbers of basis paths, norms against the generalisation gap, and test errors under penalties."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from replication.experiments.plots.style import caption, style
from replication.experiments.results import Result

MEASURES = {  # label and colour
    "basis_sup": ("basis-path norm φ", "#0072B2"),
    "basis_l2": ("basis paths, squares", "#56B4E9"),
    "path_l1": ("path norm, p = 1", "#E69F00"),
    "path_l2": ("path norm, p = 2", "#D55E00"),
    "l2": ("L2 norm", "#009E73"),
    "spectral": ("spectral norms' product", "#CC79A7"),
}
STARTS = {"he": "He's start", "skeleton": "start with the skeleton at 1"}
AXES = {"mislabelled": "wrong labels", "width": "width", "seed": "seed"}
METHODS = ("#999999", "#009E73", "#D55E00", "#0072B2", "#E69F00")
SEEDS = "os^vDP"


def draw(result: Result, record: Mapping[str, Any]) -> Figure:
    """Draw figE4.csv, of the columns of `replication.experiments.studies.path_generalisation.paths_and_norms`."""
    table, study = result.table, record["configuration"]["study"]
    with style():
        figure, axes = plt.subplots(2, 3, figsize=(12.2, 8.0), gridspec_kw={"width_ratios": [1.25, 1.25, 1]})
        for axis, start in zip(axes[0], STARTS, strict=False):
            draw_gaps(axis, table, start)
        draw_counts(axes[0, 2], table)
        for axis, start in zip(axes[1], STARTS, strict=False):
            draw_correlations(axis, table, start)
        draw_penalties(axes[1, 2], table)
        chosen = study["correlation"]
        networks = table[(table["part"] == "network") & (table["axis"] == "mislabelled")]
        wrong = networks["case"].astype(int).max()
        share = wrong / max(chosen["mislabelled"])  # of the images asked for that there were
        caption(
            figure,
            f"Networks without biases, {chosen['layers']} hidden layers, on {int(share * chosen['labelled'])} images "
            f"and up to {wrong} more with wrong labels ({record['dataset']}); right, below: "
            f"{int(share * study['regularisation']['mislabelled'])} wrong labels, the best of as many tunings each; "
            "experiment reconstructed: A22",
        )
    return figure


def draw_gaps(axis: Axes, table: pd.DataFrame, start: str) -> None:
    """Draw each measure, over its mean without wrong labels, against the gap of the networks with more and more."""
    part = table[(table["part"] == "network") & (table["start"] == start) & (table["axis"] == "mislabelled")]
    wide = part.assign(case=part["case"].astype(int)).pivot_table(
        index=["case", "seed"], columns="quantity", values="value"
    )
    for measure, (label, colour) in MEASURES.items():
        if measure in wide:
            first = wide[measure].groupby("case").mean().iloc[0]
            axis.plot(wide["gap"], wide[measure] / first, "o", ms=4, color=colour, label=label)
    axis.set_yscale("log")
    axis.set_ylim(top=3 * axis.get_ylim()[1])  # room for the legend
    axis.set_xlabel("generalisation gap (%)")
    axis.set_ylabel("measure / its mean without wrong labels")
    axis.set_title(f"wrong labels added, {STARTS[start]}")
    axis.legend(fontsize=7.5, loc="upper left")


def draw_counts(axis: Axes, table: pd.DataFrame) -> None:
    """Draw, for each small architecture, the numbers of weights, of paths and of independent ones."""
    wide = table[table["part"] == "structure"].pivot_table(index="case", columns="quantity", values="value", sort=False)
    places = np.arange(len(wide))
    for quantity, label, mark, colour in (
        ("paths", "paths", "^", "#999999"), ("weights", "weights m", "s", "#E69F00"),
        ("expected", "m − hidden units", "o", "#0072B2"), ("rank", "independent paths", "x", "#000000"),
    ):  # fmt: skip
        if quantity in wide:
            size = {"o": 8, "x": 5}.get(mark, 5)
            fill = "none" if mark == "o" else colour
            axis.plot(places, wide[quantity], mark, ms=size, mfc=fill, color=colour, label=label)
    axis.set_xticks(places, wide.index, rotation=60, ha="right", rotation_mode="anchor", fontsize=7.5)
    axis.set_yscale("log")
    axis.set_title("paths of small networks, by their widths")
    axis.legend(fontsize=7.5)


def draw_correlations(axis: Axes, table: pd.DataFrame, start: str) -> None:
    """Draw the rank correlation of each measure with the gap along each axis, with its interval."""
    part = table[(table["part"] == "correlation") & (table["start"] == start)]
    names = [name for name in AXES if name in set(part["axis"])]
    for place, (measure, (_, colour)) in enumerate(MEASURES.items()):
        rows = part[part["quantity"] == measure].set_index("axis").reindex(names)
        x = np.arange(len(names)) + (place - len(MEASURES) / 2 + 0.5) / (len(MEASURES) + 2)
        axis.vlines(x, rows["low"], rows["high"], color=colour, lw=2)
        axis.plot(x, rows["value"], "o", color=colour, ms=5)
    axis.axhline(0, color="#777777", lw=0.8)
    axis.set_xticks(np.arange(len(names)), [AXES[name] for name in names])
    axis.set_ylim(-1.05, 1.05)
    axis.set_ylabel("rank correlation with the gap, 95 %")
    axis.set_title(f"along each axis, {STARTS[start]}")


def draw_penalties(axis: Axes, table: pd.DataFrame) -> None:
    """Draw the test error of every seed with each method, at its best tuning, and the means."""
    part = table[(table["part"] == "regularised") & (table["quantity"] == "test_error")]
    methods = list(part["case"].unique())
    for place, start in enumerate(STARTS):
        for number, method in enumerate(methods):
            values = part[(part["start"] == start) & (part["case"] == method)]["value"].to_numpy(float)
            x, colour = number + 0.3 * (place - 0.5), METHODS[number % len(METHODS)]
            axis.plot(
                np.full(len(values), x), values, "os"[place], ms=4.5, color=colour, mfc="none" if place else colour
            )
            if len(values):
                axis.hlines(values.mean(), x - 0.12, x + 0.12, color=colour, lw=2)
    for place, label in enumerate(STARTS.values()):
        axis.plot([], [], "os"[place], color="#777777", mfc="none" if place else "#777777", label=label)
    axis.set_xticks(range(len(methods)), [method.replace(" norm", "\nnorm") for method in methods], fontsize=8)
    axis.set_ylabel("test error (%)")
    axis.set_ylim(0, 1.1 * axis.get_ylim()[1])
    axis.set_title("SGD with a penalty, three seeds".replace("three", str(part["seed"].nunique())))
    axis.legend(fontsize=7.5, loc="lower right")
