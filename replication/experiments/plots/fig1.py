"""fig1: the architecture, drawn from the table of the network's own layers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from replication.experiments.plots.style import COLOURS, style, wrapped
from replication.experiments.results import Result

PITCH, BOX_WIDTH, BOX_HEIGHT, ROW_PITCH = 2.0, 1.8, 1.0, 2.5
KEPT = "#EEF3F8"  # hidden layers undone by a formula
UNIT = "#CFE3F3"  # rectifier units
LAST = "#F4F4F4"  # not undone


def draw(result: Result, record: Mapping[str, Any]) -> Figure:
    """Draw fig1.csv: a row for each stage, repeated groups drawn once, arrows forward, and how each layer is undone."""
    table = result.table
    lines = stages(grouped(table))
    width, height = max(sum(len(group) for group, _ in line) for line in lines), len(lines)
    parameters = int(table["parameters"].sum())
    with style():
        figure, axis = plt.subplots(figsize=(0.4 + 1.6 * width, 0.8 + 1.75 * height))
        axis.set_axis_off()
        for row, line in enumerate(lines):
            draw_line(axis, line, -row * ROW_PITCH, last=row == height - 1)
        axis.set_xlim(-PITCH / 2 - 0.15, width * PITCH - PITCH / 2 + 0.15)
        axis.set_ylim(-(height - 1) * ROW_PITCH - 1.25, 1.15)
        title = (
            f"The network, {parameters:,} parameters (reconstructed: assumption A6). Every hidden layer is undone, the "
            "last one first, as written below it.\n×n: the group stands n times, each with weights of its own."
        )
        axis.set_title("\n".join(wrapped(title, figure.get_figwidth(), mpl.rcParams["axes.titlesize"])))
    return figure


def grouped(table: pd.DataFrame) -> list[tuple[pd.DataFrame, int]]:
    """Return the layers as groups with the number of times each is repeated, longest repetition of three first."""
    names = list(zip(table["layer"], table["formula"], table["shape_in"], table["shape_out"], strict=True))
    groups: list[tuple[pd.DataFrame, int]] = []
    start = 0
    while start < len(names):
        size, times = 1, 1
        for length in (3, 2, 1):
            count = 1
            while names[start + count * length : start + (count + 1) * length] == names[start : start + length]:
                count += 1
            if count > 1:
                size, times = length, count
                break
        groups.append((table.iloc[start : start + size], times))
        start += size * times
    return groups


def stages(groups: list[tuple[pd.DataFrame, int]]) -> list[list[tuple[pd.DataFrame, int]]]:
    """Break the groups into lines: a new one starts after a repeated group, if another repeated one follows."""
    lines: list[list[tuple[pd.DataFrame, int]]] = [[]]
    for position, (group, times) in enumerate(groups):
        lines[-1].append((group, times))
        if times > 1 and any(later > 1 for _, later in groups[position + 1 :]):
            lines.append([])
    return lines


def draw_line(axis: Axes, line: list[tuple[pd.DataFrame, int]], y: float, last: bool) -> None:
    """Draw one line of groups at height y."""
    column = 0
    for group, times in line:
        left = column * PITCH - PITCH / 2 + 0.06
        if times > 1:
            right = (column + len(group)) * PITCH - PITCH / 2 - 0.06
            frame = FancyBboxPatch(
                (left, y - 0.98), right - left, 1.72, boxstyle="round,pad=0,rounding_size=0.1", fill=False,
                edgecolor=COLOURS["plain"], linestyle="--",
            )  # fmt: skip
            axis.add_patch(frame)
            axis.text(right - 0.05, y + 0.78, f"×{times}", ha="right", va="bottom", fontsize=10, weight="bold")
        for _, layer in group.iterrows():
            draw_layer(axis, layer, column * PITCH, y)
            if column:
                axis.annotate(
                    "", xy=(column * PITCH - BOX_WIDTH / 2, y), xytext=((column - 1) * PITCH + BOX_WIDTH / 2, y),
                    arrowprops={"arrowstyle": "-|>", "color": COLOURS["plain"], "shrinkA": 0, "shrinkB": 0, "lw": 0.8},
                )  # fmt: skip
            column += 1
    if not last:
        end, turn = (column - 1) * PITCH, y - ROW_PITCH + 1.2
        axis.plot([end, end, 0], [y - 0.98, turn, turn], color=COLOURS["plain"], lw=1.2, solid_joinstyle="round")
        axis.annotate(
            "", xy=(0, y - ROW_PITCH + BOX_HEIGHT / 2), xytext=(0, turn),
            arrowprops={"arrowstyle": "-|>", "color": COLOURS["plain"], "shrinkA": 0, "shrinkB": 0},
        )  # fmt: skip


def draw_layer(axis: Axes, layer: pd.Series, x: float, y: float) -> None:
    """Draw one layer's box with its name, formula, shapes and inverse."""
    undone = isinstance(layer["undone_by"], str) and layer["undone_by"] != ""
    colour = LAST if not undone else UNIT if layer["layer"].endswith("unit") else KEPT
    box = FancyBboxPatch(
        (x - BOX_WIDTH / 2, y - BOX_HEIGHT / 2), BOX_WIDTH, BOX_HEIGHT, boxstyle="round,pad=0,rounding_size=0.08",
        facecolor=colour, edgecolor=COLOURS["text"], linewidth=0.7,
    )  # fmt: skip
    axis.add_patch(box)
    axis.text(x, y + 0.34, layer["layer"], ha="center", va="center", fontsize=8, weight="bold")
    axis.text(x, y + 0.01, layer["formula"], ha="center", va="center", fontsize=7)
    shape = (
        layer["shape_out"] if layer["shape_in"] == layer["shape_out"] else f"{layer['shape_in']} → {layer['shape_out']}"
    )
    axis.text(x, y - 0.36, shape, ha="center", va="center", fontsize=7, color="#555555")
    inverse = f"← {layer['undone_by']}" if undone else "not undone"
    axis.text(
        x, y - 0.73, inverse, ha="center", va="center", fontsize=8, style="normal" if undone else "italic",
        color=COLOURS["proposed"] if undone else COLOURS["plain"],
    )  # fmt: skip
