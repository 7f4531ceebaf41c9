"""figD2: how often at least n rows of a Gaussian layer are active at the adversarial direction, against expansivity."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import cycle
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from replication.experiments.plots.style import COLOURS, SPARE, caption, style
from replication.experiments.results import Result
from replication.experiments.studies.expansivity import adversarial_threshold

SHADES = ("#56B4E9", "#0072B2", "#000000", "#E69F00", "#009E73", "#D55E00", *SPARE[3:])


def draw(result: Result, record: Mapping[str, Any]) -> Figure:
    """Draw figD2.csv."""
    table, threshold = result.table, adversarial_threshold()
    with style():
        figure, axis = plt.subplots(figsize=(6.2, 3.7))
        for shade, (n, part) in zip(cycle(SHADES), table.groupby("n"), strict=False):
            axis.fill_between(part["expansivity"], part["ci_low"], part["ci_high"], color=shade, alpha=0.2, lw=0)
            axis.plot(part["expansivity"], part["percent"], "o-", ms=2.5, lw=1.2, color=shade, label=f"n = {n}")
        axis.axvline(threshold, color=COLOURS["text"], ls=":", lw=1)
        axis.text(
            threshold - 0.05, 97, f"n → ∞: c·Φ(−1/√c) = 1\nat c = {threshold:.4f}", ha="right", va="top", fontsize=8,
            color=COLOURS["text"],
        )  # fmt: skip
        axis.text(
            0.02, 0.1, "below n active rows:\nproof that the layer is not injective", transform=axis.transAxes,
            fontsize=8, color=COLOURS["text"],
        )  # fmt: skip
        axis.set_xlim(table["expansivity"].min(), table["expansivity"].max())
        axis.set_ylim(-3, 103)
        axis.set_xlabel("expansivity c = m/n (outputs for each input)")
        axis.set_ylabel("layers with at least n rows active\nat the adversarial direction (%)")
        axis.legend(loc="center right")
        caption(
            figure,
            f"Gaussian layers x ↦ relu(Wx) at x = −Σ wⱼ/‖wⱼ‖: {table['cases'].iloc[0]} layers for each point, with "
            "Wilson 95 % intervals (random W, the layers of a draw by random signs of its rows; settings recalled from "
            "paper D: A11)",
        )
    return figure
