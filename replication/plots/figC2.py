"""figC2: peak memory and time of one training step against depth, with and without stored activations."""

from __future__ import annotations

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from replication.plots.style import COLOURS, LABELS, style

METHODS = {"stored": "s", "reversible": "o", "revtorch": "^"}
LINES = ("-", "--", ":")


def draw(table: pd.DataFrame) -> Figure:
    """Draw figC2.csv: memory on the left, time on the right.

    Args:
        table: the columns of `replication.studies.memory.memory`.
    """
    first = table.iloc[0]
    with style():
        figure, (memory, time) = plt.subplots(1, 2, figsize=(9.2, 4.2))
        draw_lines(memory, table, "peak_memory_mb", 1 / 1024)
        memory.set_ylabel("peak memory of the process (GiB)")
        draw_lines(time, table, "times_stored", 1.0)
        time.set_ylabel("processor time (× stored)")
        time.set_xscale("log")
        handles, labels = memory.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=table["batch"].nunique())
        figure.suptitle(
            f"One training step of Hamiltonian networks, random images of {first['size']}×{first['size']}, "
            f"{first['threads']} thread (architecture from recalled facts: A14; settings ours: A16)",
            fontsize=9.5,
        )
    return figure


def draw_lines(axis: Axes, table: pd.DataFrame, column: str, scale: float) -> None:
    """Draw a column against the number of layers, a line for each method and batch."""
    for method, mark in METHODS.items():
        batches = table[table["method"] == method].groupby("batch", sort=False)
        for (batch, line), dashes in zip(batches, LINES, strict=False):
            axis.plot(
                line["layers"], scale * line[column], mark + dashes, ms=4, color=COLOURS[method],
                label=f"{LABELS[method]}, batch {batch}",
            )  # fmt: skip
    axis.set_ylim(bottom=0)
    axis.set_xlabel("layers")
