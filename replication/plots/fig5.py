"""fig5: relative errors of recovered images by class, both methods."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from replication.plots.style import COLOURS, LABELS, style

SHOWN = (("existing", "float64"), ("proposed", "float32"), ("proposed", "float64"))


def draw(table: pd.DataFrame, dataset: str) -> Figure:
    """Draw fig5.csv: every image a point, medians as bars, and the share of images that failed.

    Args:
        table: digit, index, method, dtype, relative_error_percent, status, iterations.
        dataset: its title.
    """
    images, classes = table["index"].nunique(), table["digit"].nunique()
    with style():
        figure, axis = plt.subplots(figsize=(7.2, 5.0))
        for method, dtype in SHOWN:
            draw_method(axis, table[(table["method"] == method) & (table["dtype"] == dtype)], method, dtype)
        axis.set_yscale("log")
        axis.set_xticks(range(classes))
        axis.set_xlabel("digit (bars: medians)")
        axis.set_ylabel("relative error of the image (%)")
        axis.set_xlim(-0.6, classes - 0.4)
        low, high = axis.get_ylim()
        axis.set_ylim(low / 3, high * 300)
        axis.set_title(
            f"{dataset}: {images} test images, {images // classes} a class,\n"
            "recovered from the last hidden layer's output alone (reconstructed: A4–A6)"
        )
    return figure


def draw_method(axis: Axes, table: pd.DataFrame, method: str, dtype: str) -> None:
    """Draw one method's points and medians, with a label above them."""
    colour = COLOURS[method]
    for position, (_, part) in enumerate(table.groupby("digit")):
        errors = part["relative_error_percent"].to_numpy()
        spread = np.linspace(-0.33, 0.33, len(errors))
        axis.plot(position + spread, errors, ".", color=colour, ms=2.5, alpha=0.5, mew=0)
        axis.plot([position - 0.36, position + 0.36], [np.median(errors)] * 2, color=colour, lw=2)
    shares = 100 * table["status"].value_counts(normalize=True)
    statuses = dict.fromkeys(("converged", "diverged", *shares.index))
    ends = ", ".join(f"{status.replace('_', ' ')} {shares.get(status, 0):.3g} %" for status in statuses)
    worst = table["relative_error_percent"].max()
    axis.text(-0.5, worst * 2, f"{LABELS[method]}, {dtype}\n{ends}", color=colour, va="bottom")
