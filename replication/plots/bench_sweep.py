"""bench_sweep: cases per second and memory of γ sweeps against the number of processes."""

from __future__ import annotations

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from replication.plots.style import COLOURS, style

LIMIT = 2000.0  # MB
SIZES = (COLOURS["monotone"], COLOURS["proposed"])  # a short run and the whole one


def draw(table: pd.DataFrame) -> Figure:
    """Draw bench_sweep.csv: throughput on the left, with what one process would give times their number, and memory."""
    with style():
        figure, (speed, memory) = plt.subplots(1, 2, figsize=(7.2, 3.1))
        for colour, (cases, run) in zip(SIZES, table.groupby("cases"), strict=False):
            draw_run(speed, memory, run.sort_values("processes"), f"{cases:,} cases", colour)
        memory.axhline(LIMIT, color=COLOURS["text"], ls="--", lw=1)
        memory.annotate("2 GB", (table["processes"].min(), LIMIT), (0, -11), textcoords="offset points", fontsize=8)
        for axes in (speed, memory):
            axes.set_xlabel("processes, one thread each")
            axes.set_xticks(sorted(table["processes"].unique()))
            axes.set_ylim(0)
        speed.set_ylabel("cases per second")
        memory.set_ylabel("peak memory (MB)")
        memory.set_ylim(0, 1.1 * max(LIMIT, table["peak_memory_mb"].max()))
        speed.legend(loc="upper left")
        figure.suptitle(
            "γ sweep of random units: four methods and three conditions a case (methods reconstructed: A4, A5)",
            fontsize=9.5,
        )
    return figure


def draw_run(speed: Axes, memory: Axes, run: pd.DataFrame, label: str, colour: str) -> None:
    """Draw the runs of one size."""
    first = run.iloc[0]
    ideal = first["cases_per_second"] / first["processes"] * run["processes"]
    speed.plot(run["processes"], run["cases_per_second"], color=colour, marker="o", label=label)
    speed.plot(run["processes"], ideal, color=colour, ls=":", lw=1)
    memory.plot(run["processes"], run["peak_memory_mb"], color=colour, marker="o", label=label)
