"""figD3: images with one and the same output of a Gaussian ReLU layer, and what two layers recover of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from replication.experiments.plots.digits import show
from replication.experiments.plots.style import caption, scientific, style
from replication.experiments.results import Result

COLUMNS = {
    "digit": "digit x",
    "other": "another image x′\nof its wedge",
    "digit_gaussian": "Gaussian layer:\nrecovered from f(x)",
    "other_gaussian": "and from\nf(x′) = f(x)",
    "digit_injective": "injective layer:\nrecovered from f(x)",
    "other_injective": "and from f(x′)",
}


def draw(result: Result, record: Mapping[str, Any]) -> Figure:
    """Draw figD3.csv with the images of figD3.npz.

    Args:
        result: a table of the columns of `wedges` (studies/wedge.py); images by the names of COLUMNS
            (digits, height, width), in the order of the table.
        record: how it was made.
    """
    table, pixels = result.table, result.arrays
    digits = len(pixels["digit"])
    n, m = table[["n", "m"]].iloc[0]
    with style():
        figure, axes = plt.subplots(digits, len(COLUMNS), figsize=(7.4, 1.1 + 1.5 * digits), squeeze=False)
        for (name, title), column in zip(COLUMNS.items(), axes.T, strict=True):
            column[0].set_title(title, fontsize=8)
            for row, axis in enumerate(column):
                show(axis, pixels[name][row], signed=False)
                axis.set_xlabel(measured(name, table, row), fontsize=7, labelpad=2)
        caption(
            figure,
            f"{record['dataset']}: {digits} test digits under ReLU layers of {n} inputs and {m} outputs "
            f"(m/n = {m / n:.2g})\n(for each digit a Gaussian layer turned so that the digit lies in its adversarial "
            "direction, and the image of the same output nearest to another digit; injective: [B; −B] and more rows; "
            "reconstructed: A12)",
        )
    return figure


def measured(name: str, table: pd.DataFrame, row: int) -> str:
    """Say what is measured below an image: active rows, distances, or the relative error of a recovery."""
    image, _, layer = name.partition("_")
    facts = table[(table["image"] == image) & (table["layer"] == (layer or "gaussian"))].iloc[row]
    if name == "digit":
        return f"{facts['active']} active rows"
    if name == "other":
        return f"‖x′ − x‖ = {facts['distance']:.2f}‖x‖\noutputs differ by {scientific(facts['output_distance'])}"
    return f"error {scientific(facts['relative_error'])}"
