"""figB3: digits recovered from the last hidden layer of causal networks, and how many of all images are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from replication.experiments.plots.digits import draw_digits, in_lines
from replication.experiments.plots.style import caption, methods, scientific, style
from replication.experiments.results import Result


def draw(result: Result, record: Mapping[str, Any]) -> Figure:
    """Draw figB3.csv with the images of figB3.npz: a block of rows for each network.

    Args:
        result: a table of network, digit, index, method, relative_error_percent, status; "original", and
            "NETWORK, METHOD" for each pair (digits, height, width).
        record: how it was made.
    """
    table, pixels, config = result.table, result.arrays, record["configuration"]
    recovery, marks = config["recovery"], methods(config["solvers"])
    caps = {run["family"]: run["norm_cap"] for run in config["runs"]}
    pairs = [(network, method) for network in table["network"].unique() for method in marks]
    digits, images = len(pixels["original"]), table["index"].nunique()
    with style():
        figure, axes = plt.subplots(
            1 + len(pairs), digits, figsize=(3.9 + 0.72 * digits, 1.2 + 0.95 * (1 + len(pairs))), squeeze=False
        )
        draw_digits(axes[0], "original", pixels["original"], [])
        for line, (network, method) in zip(axes[1:], pairs, strict=True):
            part = table[(table["network"] == network) & (table["method"] == method)]
            errors = part["relative_error_percent"] / 100
            shown = np.nan_to_num(pixels[f"{network}, {method}"], nan=0.5, posinf=1, neginf=0)
            captions = [scientific(error) for error in part.groupby("digit")["relative_error_percent"].first() / 100]
            draw_digits(line, in_lines(marks[method].label), shown, captions)
            summary = (
                f"{norms(caps[network])}:\n{100 * (errors <= recovery).mean():.1f} % of {images} recovered,\n"
                f"median error {scientific(errors.median())},\nlargest {scientific(errors.max())}"
            )
            line[-1].text(
                1.15, 0.5, summary, transform=line[-1].transAxes, va="center", fontsize=8, color=marks[method].colour
            )
        caption(
            figure,
            f"{record['dataset']}: test images recovered from the last hidden layer of causal networks, with relative "
            f"errors\n(float64; recovered: at most {scientific(recovery)}; reconstructed: A4, A7, A8)",
        )
    return figure


def norms(cap: float | None) -> str:
    """Say what was done to the norms of a network's units in training."""
    return "no norm capped" if cap is None else f"‖W₁‖·‖W₂‖ ≤ {cap:g} in training"
