"""figC2: peak memory and time of one training step against depth, with and without stored activations."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import cycle
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from replication.experiments.plots.style import caption, legend_below, named, style
from replication.experiments.results import Result

MARKS = "so^vD"
LINES = ("-", "--", ":", "-.")


def draw(result: Result, record: Mapping[str, Any]) -> Figure:
    """Draw figC2.csv: memory on the left, time on the right.

    Args:
        result: a table of the columns of `replication.experiments.studies.memory.memory`.
        record: how it was made.
    """
    table = result.table
    first = table.iloc[0]
    with style():
        figure, (memory, time) = plt.subplots(1, 2, figsize=(9.2, 4.2))
        draw_lines(memory, table, "peak_memory_mb", 1 / 1024)
        memory.set_ylabel("peak memory of the process (GiB)")
        draw_lines(time, table, "times_stored", 1.0)
        time.set_ylabel("processor time (× stored)")
        time.set_xscale("log")
        legend_below(figure, *memory.get_legend_handles_labels())
        threads = f"{first['threads']}\N{NO-BREAK SPACE}thread{'' if first['threads'] == 1 else 's'}"
        caption(
            figure,
            f"One training step of Hamiltonian networks, random images of {first['size']}×{first['size']}, {threads} "
            "(architecture from recalled facts: A14; settings ours: A16)",
        )
    return figure


def draw_lines(axis: Axes, table: pd.DataFrame, column: str, scale: float) -> None:
    """Draw a column against the number of layers, a line for each method and batch."""
    marks = named(table["method"].unique())
    dashes = dict(zip(table["batch"].unique(), cycle(LINES), strict=False))
    for (method, mark), sign in zip(marks.items(), cycle(MARKS), strict=False):
        for batch, line in table[table["method"] == method].groupby("batch", sort=False):
            axis.plot(
                line["layers"], scale * line[column], sign + dashes[batch], ms=4, color=mark.colour,
                label=f"{mark.label}, batch {batch}",
            )  # fmt: skip
    axis.set_ylim(bottom=0)
    axis.set_xlabel("layers")
