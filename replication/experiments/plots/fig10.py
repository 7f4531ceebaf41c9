"""fig10: blocks of trained networks that fold, with two images that they cannot tell apart, and blocks that do not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from replication.experiments.plots.digits import show
from replication.experiments.plots.style import COLOURS, caption, legend_below, scientific, style
from replication.experiments.results import Result

NAMES = {
    "standard": "one ReLU layer, free kernels",
    "plain": "two ReLU layers, free kernels",
    "penalised": "two ReLU layers, with the penalty",
}
VERDICTS = {  # in words of the picture, with a colour
    "not invertible": (
        "folds: x₁ and x₂ with one output are found; number: ‖f(x₁) − f(x₂)‖/‖x₁ − x₂‖", COLOURS["existing"]
    ),
    "invertible": ("certified as invertible, by the condition named", COLOURS["proposed"]),
    "unknown": ("open", COLOURS["plain"]),
}  # fmt: skip
PICTURES = {
    "first": "x₁, an input of block 1",
    "second": "x₂, beyond the fold",
    "inputs differ": "x₁ − x₂",
    "outputs differ": "f(x₁) − f(x₂)",
}


def draw(result: Result, record: Mapping[str, Any]) -> Figure:
    """Draw fig10.csv, a column for each network: determinants by block, and below two inputs of the first block.

    Args:
        result: a table of the columns of `replication.experiments.studies.trained_blocks`, and its arrays.
        record: how it was made.
    """
    table = result.table
    networks = list(table["network"].unique())
    width = max(6.4, 0.6 + 3.2 * len(networks))
    with style():
        figure = plt.figure(figsize=(width, 6.6))
        grid = figure.add_gridspec(2, len(networks), height_ratios=(1, 1.25))
        for place, network in enumerate(networks):
            rows = table[table["network"] == network]
            draw_blocks(figure.add_subplot(grid[0, place]), rows, first=place == 0)
            cells = np.asarray(grid[1, place].subgridspec(2, 2).subplots())
            draw_pair(cells, {key: result.arrays.get(f"{network}, {key}") for key in PICTURES})
        seen = [VERDICTS[verdict] for verdict in VERDICTS if verdict in set(table["verdict"])]
        legend_below(figure, [Patch(color=colour) for _, colour in seen], [words for words, _ in seen])
        caption(figure, title(table, record))
    return figure


def title(table: pd.DataFrame, record: Mapping[str, Any]) -> str:
    """Say what was trained, and what the rows say."""
    folding = table[table["verdict"] == "not invertible"]
    back = table.dropna(subset="recovered")
    words = (
        f"{record['dataset']}: blocks of trained residual networks; {len(folding)} of {len(table)} are proved to fold\n"
        "(differences: norm over the channels of each pixel of the block, both on one scale; where block 1 does not "
        "fold, the numbers that the network beside it confuses, as images by its own mixing of channels)"
    )
    if len(back):
        first = back.iloc[0]
        words += (
            f"\nWith the penalty {first['recovered']:.0f} of {first['images']:.0f} test images come back from the last "
            f"block's output, largest relative error {scientific(first['error_max'])}"
        )
    return words


def draw_blocks(axis: Axes, rows: pd.DataFrame, first: bool) -> None:
    """Draw the share of images with a negative determinant in every block, in the colour of the verdict."""
    share = 100 * rows["negative"] / rows["looked_at"]
    colours = [VERDICTS[verdict][1] for verdict in rows["verdict"]]
    axis.bar(rows["block"], share, color=colours, width=0.7)
    for block, height, (_, row) in zip(rows["block"], share, rows.iterrows(), strict=True):
        folds, certified = (row["verdict"] == verdict for verdict in ("not invertible", "invertible"))
        words = scientific(row["gap"]) if folds else str(row["condition"]) if certified else ""
        axis.annotate(
            words, (block, height), xytext=(0, 3), textcoords="offset points", ha="center", va="bottom", fontsize=7,
            color=VERDICTS[row["verdict"]][1], rotation=90,
        )  # fmt: skip
    axis.set_xticks(rows["block"])
    axis.set_ylim(0, 160)
    axis.set_yticks([0, 50, 100])
    axis.set_xlabel("block")
    name = str(rows["network"].iloc[0])
    axis.set_title(f"{NAMES.get(name, name)}\ntest accuracy {rows['test_accuracy'].iloc[0]:.2f} %", fontsize=9)
    if first:
        axis.set_ylabel("test images where\ndet f′ < 0 (%)")


def draw_pair(cells: np.ndarray, images: Mapping[str, np.ndarray | None]) -> None:
    """Draw two inputs as images, and how they and their outputs differ, both on one scale."""
    largest = 1.0 if images["inputs differ"] is None else max(float(images["inputs differ"].max()), 1e-300)
    for axis, (key, words) in zip(cells.flat, PICTURES.items(), strict=True):
        image = images[key]
        if image is None:
            axis.set_visible(False)
            continue
        show(axis, image / largest if key.endswith("differ") else image, signed=False)
        axis.set_xlabel(words, fontsize=8, labelpad=2)
