"""figB4: held-out bits per dimension of flows of causal units, and samples drawn by the inverse."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from replication.experiments.plots.digits import show
from replication.experiments.plots.style import COLOURS, caption, style
from replication.experiments.results import Result

ACROSS = 5  # samples in a row


def draw(result: Result, record: Mapping[str, Any]) -> Figure:
    """Draw figB4.csv with the samples of figB4.npz.

    Args:
        result: a table of the columns of `flow_study` (studies/flows.py); "data", and "cap CAP" for each cap (samples,
            height, width), in [0, 1].
        record: how it was made.
    """
    table, pixels = result.table, result.arrays
    caps = [None if np.isnan(cap) else cap for cap in table["norm_cap"].astype(float).unique()]
    panels = {"held-out digits": pixels["data"]} | {f"samples, {cap_name(cap)}": pixels[f"cap {cap}"] for cap in caps}
    with style():
        figure, (bits, *panes) = plt.subplots(
            1, 1 + len(panels), figsize=(2.8 + 2.2 * len(panels), 3.1), width_ratios=(1.25, *[1] * len(panels))
        )
        draw_bits(bits, table, caps)
        for axis, (title, images) in zip(panes, panels.items(), strict=True):
            show(axis, mosaic(images), signed=False)
            axis.set_title(title)
        caption(
            figure,
            f"{record['dataset']}: flows of causal units trained by exact maximum likelihood for "
            f"{table['epochs'].max()} epochs\n(not of the paper; dashed: what independent pixels need, which may "
            "favour single grey levels)",
        )
    return figure


def mosaic(images: np.ndarray) -> np.ndarray:
    """Return images (samples, height, width) side by side, ACROSS in a row, with white lines between."""
    white = np.zeros((-len(images) % ACROSS, *images.shape[1:]), images.dtype)
    framed = np.pad(np.concatenate((images, white)), ((0, 0), (1, 1), (1, 1)))
    _, height, width = framed.shape
    return framed.reshape(-1, ACROSS, height, width).swapaxes(1, 2).reshape(-1, ACROSS * width)


def draw_bits(axis: Axes, table: pd.DataFrame, caps: list[float | None]) -> None:
    """Draw the bits of every seed, held-out and training, by cap."""
    for position, cap in enumerate(caps):
        runs = table[table["norm_cap"].isna() if cap is None else table["norm_cap"] == cap]
        shift = np.linspace(-0.12, 0.12, len(runs))
        axis.plot(position + shift, runs["training_bits"], "o", color=COLOURS["plain"], mfc="none", ms=4)
        axis.plot(position + shift, runs["held_out_bits"], "o", color=COLOURS["exact"], ms=4)
        label = f"{runs['held_out_bits'].mean():.2f}"
        axis.text(position + 0.2, runs["held_out_bits"].mean(), label, va="center", color=COLOURS["exact"])
    axis.axhline(table["independent_bits"].iloc[0], color=COLOURS["plain"], lw=0.8, ls="--")
    axis.text(-0.45, table["independent_bits"].iloc[0], "independent pixels", va="bottom", fontsize=7.5)
    axis.set_xlim(-0.5, len(caps) - 0.3)
    axis.set_xticks(range(len(caps)), [cap_name(cap) for cap in caps])
    axis.set_ylabel("bits per dimension")
    axis.set_title("filled: held out, hollow: training")


def cap_name(cap: float | None) -> str:
    """Return what a cap is called in the picture."""
    return "no cap" if cap is None else f"norms ≤ {cap:g}"
