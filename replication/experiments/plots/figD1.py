"""figD1: probability that a Gaussian ReLU layer is injective against its expansivity, with the thresholds."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import cycle
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MultipleLocator

from replication.experiments.plots.style import COLOURS, SPARE, caption, style
from replication.experiments.results import Result
from replication.experiments.studies.expansivity import THRESHOLDS, adversarial_threshold, union_threshold

SMALL, LARGE = "cividis", ("#D55E00", "#CC79A7", "#E69F00", *SPARE[2:])


def draw(result: Result, record: Mapping[str, Any]) -> Figure:
    """Draw figD1.csv: small n decided exactly above, large n bounded from both sides below."""
    table = result.table
    exact, searched = (table[table["quantity"] == name] for name in ("injective", "not_refuted"))
    with style():
        figure, (above, small, large) = plt.subplots(
            3, 1, figsize=(6.4, 7.2), sharex=True, height_ratios=(0.75, 1.5, 1.5)
        )
        draw_thresholds(above, [small, large])
        sizes = list(exact["n"].unique())
        for shade, n in zip(plt.get_cmap(SMALL)(np.linspace(0, 0.85, len(sizes))), sizes, strict=True):
            draw_curve(small, exact[exact["n"] == n], shade, f"n = {n}")
        for colour, n in zip(cycle(LARGE), searched["n"].unique(), strict=False):
            draw_curve(large, searched[searched["n"] == n], colour, f"n = {n}: at most")
            bound = table[(table["quantity"] == "union_bound") & (table["n"] == n)]
            large.plot(bound["expansivity"], bound["percent"], color=colour, ls="--", label=f"n = {n}: at least")
        small.set_title(f"every layer decided exactly: {exact['cases'].max():.0f} cases for each n")
        large.set_title(
            f"from above: {searched['cases'].max():.0f} cases for each n that a search did not refute; "
            "from below: union bound"
        )
        for axis, place in ((small, 0.85), (large, 0.55)):
            axis.set_ylabel("injective (%)")
            axis.set_ylim(-3, 103)
            if axis.get_legend_handles_labels()[0]:
                axis.legend(loc="center", bbox_to_anchor=(place, 0.45), fontsize=8)
        large.set_xlim(table["expansivity"].min(), table["expansivity"].max())
        large.xaxis.set_major_locator(MultipleLocator(1))
        large.set_xlabel("expansivity m/n (outputs for each input)")
        caption(
            figure,
            "Gaussian ReLU layers x ↦ relu(Wx): share of injective ones against their width, with "
            "Wilson 95 % intervals (random W; experiment reconstructed: A10)",
        )
    return figure


def draw_curve(axis: Axes, part: pd.DataFrame, colour: object, label: str) -> None:
    """Draw a share with its interval."""
    axis.fill_between(part["expansivity"], part["ci_low"], part["ci_high"], color=colour, alpha=0.2, lw=0)
    axis.plot(part["expansivity"], part["percent"], color=colour, label=label)


def draw_thresholds(axis: Axes, others: list[Axes]) -> None:
    """Name the thresholds as n grows, each on a line of its own, and mark them in all panels."""
    named = {f"{name} (recalled)": place for name, place in THRESHOLDS.items()}
    named |= {
        "adversarial direction, c·Φ(−1/√c) = 1 (paper D; computed)": adversarial_threshold(),
        "union bound over rays (ours; computed)": union_threshold(),
    }
    ordered = sorted(named.items(), key=lambda item: item[1])
    for height, (name, place) in enumerate(reversed(ordered)):
        right = place < 7
        axis.plot([place], [height], "o", color=COLOURS["text"], ms=3, clip_on=False)
        axis.text(
            place + (0.12 if right else -0.12), height, f"{place:.4g}: {name}", ha="left" if right else "right",
            va="center", fontsize=7.5, color=COLOURS["text"],
        )  # fmt: skip
        for other in others:
            other.axvline(place, color="#bbbbbb", lw=0.8, ls=":", zorder=0)
        axis.plot([place, place], [-0.7, height], color="#bbbbbb", lw=0.8, ls=":", zorder=0)
    axis.set_ylim(-0.7, len(ordered) - 0.3)
    axis.set_axis_off()
    axis.set_title("thresholds as n → ∞, by source")
