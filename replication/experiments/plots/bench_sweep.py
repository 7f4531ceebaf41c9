"""bench_sweep: cases per second and memory of γ sweeps against the number of processes."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import cycle
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from replication.experiments.plots.gamma_sweep import CONDITIONS
from replication.experiments.plots.style import COLOURS, SPARE, caption, methods, style
from replication.experiments.results import Result

LIMIT = 2000.0  # MB
SIZES = (COLOURS["monotone"], COLOURS["proposed"], *SPARE[3:])  # a short run, the whole one, others


def draw(result: Result, record: Mapping[str, Any]) -> Figure:
    """Draw bench_sweep.csv: throughput on the left, with what one process would give times their number, and memory."""
    table, solvers = result.table, methods(record["configuration"]["bench"]["solvers"])
    with style():
        figure, (speed, memory) = plt.subplots(1, 2, figsize=(7.2, 3.1))
        for colour, (cases, run) in zip(cycle(SIZES), table.groupby("cases"), strict=False):
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
        caption(
            figure,
            f"γ sweep of random units: {len(solvers)} methods and {len(CONDITIONS)} conditions a case (methods "
            "reconstructed: A4, A5)",
        )
    return figure


def draw_run(speed: Axes, memory: Axes, run: pd.DataFrame, label: str, colour: str) -> None:
    """Draw the runs of one size: medians, with the extremes of the turns."""
    first = run.iloc[0]
    ideal = first["cases_per_second"] / first["processes"] * run["processes"]
    speed.plot(run["processes"], run["cases_per_second"], color=colour, marker="o", label=label)
    speed.plot(run["processes"], ideal, color=colour, ls=":", lw=1)
    speed.vlines(run["processes"], run["cases"] / run["seconds_high"], run["cases"] / run["seconds_low"], color=colour)
    memory.plot(run["processes"], run["peak_memory_mb"], color=colour, marker="o", label=label)
