"""table1: families of units under one training recipe."""

from __future__ import annotations

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from replication.plots.style import style

COLUMNS = {
    "family": ("family", "{}"),
    "seed": ("seed", "{}"),
    "test_accuracy": ("test accuracy\n(%)", "{:.2f}"),
    "certified_units": ("certified\nunits", "{}"),
    "max_norm_A": ("largest\n‖A‖", "{:.2f}"),
    "recovered_percent_existing": ("recovered (%)\nby existing", "{:.0f}"),
    "recovered_percent_proposed": ("recovered (%)\nby proposed", "{:.0f}"),
    "inverse_evaluations": ("evaluations\nper unit", "{:.1f}"),
    "parameters": ("parameters", "{:,}"),
    "epochs": ("epochs", "{}"),
    "seconds": ("training\n(s)", "{:.0f}"),
}


def draw(table: pd.DataFrame, dataset: str) -> Figure:
    """Draw table1.csv as a table.

    Args:
        table: the columns of `replication.studies.families.family_row`.
        dataset: its title.
    """
    cells = [[form.format(row[name]) for name, (_, form) in COLUMNS.items()] for _, row in table.iterrows()]
    for line, (_, row) in zip(cells, table.iterrows(), strict=True):
        line[list(COLUMNS).index("certified_units")] = f"{row['certified_units']} of {row['units']}"
    with style():
        figure, axis = plt.subplots(figsize=(11, 1.5 + 0.28 * len(table)))
        axis.set_axis_off()
        grid = axis.table(cells, colLabels=[title for title, _ in COLUMNS.values()], loc="center", cellLoc="center")
        grid.auto_set_font_size(False)
        grid.set_fontsize(8.5)
        for (row_index, _), cell in grid.get_celld().items():
            cell.visible_edges = "B" if row_index == 0 else ""
            cell.set_height((2 if row_index == 0 else 1) / (len(table) + 2))
        axis.set_title(
            f"{dataset}: families of units under one training recipe\n"
            f"(recovered: relative error at most 10⁻⁶ in float64, {table['images'].iloc[0]} test images; "
            "reconstructed: A4–A6)"
        )
    return figure
