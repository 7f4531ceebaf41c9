"""A table as a picture."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import matplotlib as mpl
import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from replication.experiments.plots.style import wrapped


def draw_cells(
    titles: Sequence[str],
    cells: Sequence[Sequence[str]],
    title: str,
    width: float,
    bold: Collection[int] = (),
    below: float = 0.0,
) -> Figure:
    """Draw cells in rows under the titles of their columns.

    Args:
        titles: of the columns, of up to two lines.
        cells: of each row.
        title: of the picture.
        width: of the picture, in inches.
        bold: rows, counted from 1, that are bold and underlined.
        below: height in inches of a second, empty axis under the table; 0 for none.
    """
    height = 1.5 + 0.28 * len(cells)
    figure = plt.figure(figsize=(width, height + below))
    heights = [height, below] if below else [height]
    axis = figure.subplots(len(heights), 1, squeeze=False, height_ratios=heights)[0, 0]
    lines = wrapped(title, width, mpl.rcParams["axes.titlesize"])
    axis.set_axis_off()
    grid = axis.table([list(row) for row in cells], colLabels=list(titles), loc="center", cellLoc="center")
    grid.auto_set_font_size(False)
    grid.set_fontsize(8.5)
    for (row_index, _), cell in grid.get_celld().items():
        cell.visible_edges = "B" if row_index == 0 or row_index in bold else ""
        cell.set_height((2 if row_index == 0 else 1) / (len(cells) + 2))
        if row_index in bold:
            cell.set_text_props(weight="bold")
    axis.set_title("\n".join(lines))
    return figure
