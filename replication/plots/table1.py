"""table1: families of units under one training recipe."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from replication.plots.cells import draw_cells
from replication.plots.style import style

COLUMNS = {
    "family": ("family", "{}"),
    "seed": ("seed", "{}"),
    "test_accuracy": ("test accuracy\n(%)", "{:.2f}"),
    "certified_units": ("certified\nunits", "{}"),
    "max_norm_A": ("largest\n‖A‖", "{:.2f}"),
    "recovered_percent_existing": ("recovered (%)\nby existing", "{:.0f}"),
    "recovered_percent_proposed": ("recovered (%)\nby proposed", "{:.0f}"),
    "recovered_percent_auto": ("recovered (%)\nby its own", "{:.0f}"),
    "inverse_evaluations": ("evaluations\n(proposed)", "{:.1f}"),
    "inverse_method": ("its own\nmethod", "{}"),
    "inverse_forward_passes": ("inverse\n(forward passes)", "{:.1f}"),
    "parameters": ("parameters", "{:,}"),
    "epochs": ("epochs", "{}"),
    "seconds": ("training\n(s)", "{:.0f}"),
}
AVERAGED = ("test_accuracy", "inverse_forward_passes")


def draw(table: pd.DataFrame, dataset: str) -> Figure:
    """Draw table1.csv as a table, with the mean and standard deviation over the seeds of each family.

    Args:
        table: the columns of `replication.studies.families.family_row`.
        dataset: its title.
    """
    cells, means = [], []
    for family, runs in table.groupby("family", sort=False):
        cells += [run_cells(row) for _, row in runs.iterrows()]
        if len(runs) > 1:
            cells.append([mean_cell(name, str(family), runs) for name in COLUMNS])
            means.append(len(cells))
    title = (
        f"{dataset}: families of units under one training recipe, mean ± standard deviation over seeds\n"
        f"(recovered: relative error at most 10⁻⁶ in float64, {table['images'].iloc[0]} test images; inverse: all "
        "hidden layers in float32 by the unit's own method, where certified; reconstructed: A4–A8)"
    )
    with style():
        return draw_cells([name for name, _ in COLUMNS.values()], cells, title, width=13.5, bold=means)


def run_cells(row: pd.Series) -> list[str]:
    """Return the cells of one run."""
    cells = {name: "–" if pd.isna(row[name]) else form.format(row[name]) for name, (_, form) in COLUMNS.items()}
    return list((cells | {"certified_units": f"{row['certified_units']} of {row['units']}"}).values())


def mean_cell(name: str, family: str, runs: pd.DataFrame) -> str:
    """Return the cell of a column in the row of a family's means."""
    if name in ("family", "seed"):
        return family if name == "family" else "mean"
    if name not in AVERAGED or runs[name].isna().any():
        return ""
    form = COLUMNS[name][1]
    return f"{form.format(runs[name].mean())} ± {form.format(runs[name].std())}"
