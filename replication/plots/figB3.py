"""figB3: digits recovered from the last hidden layer of causal networks, and how many of all images are."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from replication.plots.digits import draw_digits, scientific
from replication.plots.style import COLOURS, style

NETWORKS = {"causal": "norms capped in training", "causal-uncapped": "no norm capped"}
METHODS = {"substitution": "substitution", "existing": "existing\n(Banach)"}


def draw(table: pd.DataFrame, pixels: dict[str, np.ndarray], dataset: str, recovery: float) -> Figure:
    """Draw figB3.csv with the images of figB3.npz: a block of rows for each network.

    Args:
        table: network, digit, index, method, relative_error_percent, status.
        pixels: "original", and "NETWORK, METHOD" for each pair (digits, height, width).
        dataset: its title.
        recovery: relative error up to which an image counts as recovered.
    """
    pairs = [(network, method) for network in table["network"].unique() for method in METHODS]
    digits, images = len(pixels["original"]), table["index"].nunique()
    with style():
        figure, axes = plt.subplots(
            1 + len(pairs), digits, figsize=(3.4 + 0.72 * digits, 1.2 + 0.95 * (1 + len(pairs)))
        )
        draw_digits(axes[0], "original", pixels["original"], [])
        for line, (network, method) in zip(axes[1:], pairs, strict=True):
            part = table[(table["network"] == network) & (table["method"] == method)]
            errors = part["relative_error_percent"] / 100
            shown = np.nan_to_num(pixels[f"{network}, {method}"], nan=0.5, posinf=1, neginf=0)
            captions = [scientific(error) for error in part.groupby("digit")["relative_error_percent"].first() / 100]
            draw_digits(line, METHODS[method], shown, captions)
            summary = (
                f"{NETWORKS.get(network, network)}:\n{100 * (errors <= recovery).mean():.1f} % of {images} recovered,\n"
                f"median error {scientific(errors.median())},\nlargest {scientific(errors.max())}"
            )
            line[-1].text(
                1.15, 0.5, summary, transform=line[-1].transAxes, va="center", fontsize=8, color=COLOURS[method]
            )
        figure.suptitle(
            f"{dataset}: test images recovered from the last hidden layer of causal networks, with relative errors\n"
            f"(float64; recovered: at most {scientific(recovery)}; reconstructed: A4, A7, A8)",
            fontsize=9.5,
        )
    return figure
