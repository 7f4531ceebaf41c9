"""tableC: the networks of paper C, how exactly they go back, and the trainings there are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from replication.experiments.plots.cells import draw_cells
from replication.experiments.plots.style import style
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
    "training_images": ("training\nimages", "{:,.0f}"),
    "epochs": ("epochs", "{:.0f}"),
    "steps": ("steps", "{:,.0f}"),
    "seconds": ("training\n(s)", "{:,.0f}"),
    "test_accuracy": ("test accuracy\n(%)", "{:.2f}"),
}


def draw(result: Result, record: Mapping[str, Any]) -> Figure:
    """Draw tableC.csv as a table.

    Args:
        result: a table of the columns of `replication.experiments.studies.presets.preset_table`.
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
        "from recalled facts: A14, A15)"
    )
    with style():
        return draw_cells([name for name, _ in COLUMNS.values()], cells, title, width=13.5)
