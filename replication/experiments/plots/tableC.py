"""tableC: the networks of paper C, how exactly they go back, and the trainings there are with their curves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from replication.experiments.plots.cells import draw_cells
from replication.experiments.plots.style import named, style
from replication.experiments.results import Result

COLUMNS = {
    "network": ("network", "{}"),
    "layers": ("layers", "{}"),
    "parameters": ("parameters", "{:,}"),
    "reconstruction_error_float64": ("states back,\nfloat64", "{:.1e}"),
    "reconstruction_error_float32": ("states back,\nfloat32", "{:.1e}"),
    "gradient_error_float32": ("gradient by\nrecomputing", "{:.1e}"),
    "gradient_rounding_float32": ("rounding of\ngradients", "{:.1e}"),
    "dataset": ("trained on", "{}"),
    "epochs": ("epochs", "{:.0f}"),
    "precision": ("layers\nin", "{}"),
    "seconds": ("training\n(s)", "{:,.0f}"),
    "step_memory_mb": ("memory of\na step (MB)", "{:,.0f}"),
    "test_accuracy": ("test accuracy\n(%)", "{:.2f}"),
}


def draw(result: Result, record: Mapping[str, Any]) -> Figure:
    """Draw tableC.csv as a table, and under it the curves of tableC.npz, the mean loss of every epoch.

    Args:
        result: a table of the columns of `replication.experiments.studies.presets.preset_table`, and the arrays of
            `replication.experiments.studies.presets.curves`.
        record: how it was made.
    """
    shown = result.table.reindex(columns=list(COLUMNS))
    cells = [
        ["–" if pd.isna(row[name]) else form.format(row[name]) for name, (_, form) in COLUMNS.items()]
        for _, row in shown.iterrows()
    ]
    title = (
        "Networks of paper C: relative errors of recomputed states and gradients (float32) at initialisation, beside "
        "the rounding of ordinary gradients, and what was trained\n(–: not trained, or not reversible; architectures "
        "from recalled facts: A14, A15; trainings ours: A16)"
    )
    with style():
        below = 2.8 if result.arrays else 0.0
        figure = draw_cells([name for name, _ in COLUMNS.values()], cells, title, width=13.5, below=below)
        if result.arrays:
            draw_curves(figure.axes[1], result)
    return figure


def draw_curves(axis: Axes, result: Result) -> None:
    """Draw the mean training loss of every epoch of the runs that kept theirs."""
    networks = result.table.set_index("run")["network"]
    kinds = named({str(networks[run]).partition("-")[0]: None for run in result.arrays})
    for run, (epoch, _, loss) in result.arrays.items():
        network = str(networks[run])
        means = pd.Series(loss).groupby(epoch).mean()
        axis.plot(means.index + 1, means, "o-", ms=3, color=kinds[network.partition("-")[0]].colour, label=network)
    axis.set_yscale("log")
    axis.yaxis.set_major_formatter("{x:g}")
    axis.yaxis.set_minor_locator(LogLocator(subs=(2, 3, 5)))
    axis.yaxis.set_minor_formatter("{x:g}")
    axis.set_xlabel("epoch")
    axis.set_ylabel("training loss (with its penalty),\nmean of the epoch")
    axis.legend(loc="upper right", ncols=2)
