"""fig5: relative errors of recovered images by class, both methods."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from replication.experiments.plots.style import Method, caption, methods, style
from replication.experiments.results import Result


def draw(result: Result, record: Mapping[str, Any]) -> Figure:
    """Draw fig5.csv: every image a point, medians as bars, and the share of images that failed.

    A method that recovers nothing in a precision is drawn in the first one alone.

    Args:
        result: a table of digit, index, method, dtype, relative_error_percent, status, iterations.
        record: how it was made.
    """
    table = result.table
    images, classes = table["index"].nunique(), table["digit"].nunique()
    marks = methods(record["configuration"]["solvers"])
    with style():
        figure, axis = plt.subplots(figsize=(7.2, 5.0))
        axis.set_yscale("log")
        height = 0.0
        for (method, dtype), part in sorted(shown(table), key=lambda item: item[1]["relative_error_percent"].max()):
            height = draw_method(axis, part, marks[method], dtype, above=height)
        axis.set_xticks(range(classes))
        axis.set_xlabel("digit (bars: medians)")
        axis.set_ylabel("relative error of the image (%)")
        axis.set_xlim(-0.6, classes - 0.4)
        low, high = axis.get_ylim()
        axis.set_ylim(low / 3, max(high, height) * 100)
        caption(
            figure,
            f"{record['dataset']}: {images} test images, {images // classes} a class, "
            "recovered from the last hidden layer's output alone (reconstructed: A4–A6)",
        )
    return figure


def shown(table: pd.DataFrame) -> list[tuple[Any, pd.DataFrame]]:
    """Return the rows of each method and precision that are drawn."""
    groups = list(table.groupby(["method", "dtype"], sort=False))
    first = table["dtype"].iloc[0]
    return [(key, part) for key, part in groups if key[1] == first or (part["status"] == "converged").any()]


def draw_method(axis: Axes, table: pd.DataFrame, method: Method, dtype: str, above: float) -> float:
    """Draw one method's points and medians, with a label above them and above a height; return where it stands."""
    for position, (_, part) in enumerate(table.groupby("digit")):
        errors = part["relative_error_percent"].to_numpy()
        spread = np.linspace(-0.33, 0.33, len(errors))
        axis.plot(position + spread, errors, ".", color=method.colour, ms=2.5, alpha=0.5, mew=0)
        axis.plot([position - 0.36, position + 0.36], [np.median(errors)] * 2, color=method.colour, lw=2)
    shares = 100 * table["status"].value_counts(normalize=True)
    statuses = dict.fromkeys(("converged", "diverged", *shares.index))
    ends = ", ".join(f"{status.replace('_', ' ')} {shares.get(status, 0):.3g} %" for status in statuses)
    height = max(2 * table["relative_error_percent"].max(), 60 * above)
    axis.text(-0.5, height, f"{method.label}, {dtype}\n{ends}", color=method.colour, va="bottom")
    return float(height)
