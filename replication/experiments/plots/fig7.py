"""fig7: images of a grid under an invertible unit of the plane, and under one that folds it, with a collision."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from replication.experiments.plots.style import COLOURS, caption, legend_below, style
from replication.experiments.results import Result

KEEPS, FLIPS = "#56B4E9", "#D55E00"


def draw(result: Result, record: Mapping[str, Any]) -> Figure:
    """Draw fig7.csv: inputs above and outputs below, one column for each unit."""
    table = result.table
    names = list(table["unit"].unique())
    with style():
        figure, axes = plt.subplots(2, len(names), figsize=(1.0 + 3.5 * len(names), 7.6), squeeze=False)
        for column, name in enumerate(names):
            part = table[table["unit"] == name]
            for axis, space in zip(axes[:, column], "xy", strict=True):
                draw_grid(axis, part[part["role"] == "grid"], space)
                draw_witness(axis, part[part["role"] == "witness"], space)
                axis.set_xlabel(f"{space}₁")
                axis.set_ylabel(f"{space}₂")
                axis.set_aspect("equal", adjustable="datalim")
            axes[0, column].set_title(f"certificate: {part['verdict'].iloc[0]}\ninputs x")
            axes[1, column].set_title("outputs f(x)")
        labels = {
            KEEPS: "pieces that keep the orientation (det > 0)",
            FLIPS: "pieces that reverse it (det < 0): the plane is folded there",
        }
        legend_below(figure, [Patch(color=colour) for colour in labels], list(labels.values()), most=1)
        units = {1: "A unit", 2: "Two units"}.get(len(names), f"{len(names)} units")
        caption(
            figure,
            f"{units} f(x) = x + A·relu(x + b) of the plane, and what becomes of a grid\n(dots: the two inputs of the "
            "certificate, whose outputs coincide; units chosen for this picture)",
        )
    return figure


def draw_grid(axis: Axes, table: pd.DataFrame, space: str) -> None:
    """Draw the cells of the grid, or their images, coloured by the orientation of their piece."""
    table = table.sort_values(["row", "column"])
    side = int(table["row"].max()) + 1
    points = table[[f"{space}1", f"{space}2"]].to_numpy().reshape(side, side, 2)
    flips = (table["determinant"].to_numpy() < 0).reshape(side, side)
    corners = [points[:-1, :-1], points[:-1, 1:], points[1:, 1:], points[1:, :-1]]
    cells = np.stack(corners, axis=2).reshape(-1, 4, 2)
    # a cell on a fold counts as flipped if most of its corners are
    flipped = flips[:-1, :-1].astype(int) + flips[:-1, 1:] + flips[1:, 1:] + flips[1:, :-1]
    colours = np.where(flipped.reshape(-1) > 2, FLIPS, KEEPS)
    axis.add_collection(
        PolyCollection(list(cells), facecolors=colours, edgecolors=COLOURS["text"], linewidths=0.3, alpha=0.45)
    )
    axis.autoscale_view()


def draw_witness(axis: Axes, table: pd.DataFrame, space: str) -> None:
    """Mark the two points of the witness, if there are any."""
    for number, (_, row) in enumerate(table.iterrows(), start=1):
        place = (row[f"{space}1"], row[f"{space}2"])
        axis.plot(*place, "o", color="black", ms=6, mfc="white" if number == 2 else "black", mew=1.5, zorder=5)
        label = f"x⁽{'¹²'[number - 1]}⁾" if space == "x" else "f(x⁽¹⁾) = f(x⁽²⁾)"
        if space == "x" or number == 1:
            axis.annotate(
                label, place, xytext=(8, 8), textcoords="offset points", fontsize=9, zorder=6,
                bbox={"boxstyle": "round,pad=0.15", "fc": "white", "ec": "none", "alpha": 0.8},
            )  # fmt: skip
