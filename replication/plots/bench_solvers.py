"""bench_solvers: time per case and success of the solvers against the order n, beside lcp_lemke."""

from __future__ import annotations

from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from replication.plots.style import COLOURS, LABELS, style

METHODS = ("existing", "proposed", "lcp_lemke", "exact, checked", "exact")


def draw(table: pd.DataFrame) -> Figure:
    """Draw bench_solvers.csv: time above and success below, one column for each ensemble and γ."""
    table = table[table["method"].isin(METHODS)]
    sets = table[["ensemble", "gamma"]].drop_duplicates().to_numpy().tolist()
    with style():
        figure, axes = plt.subplots(
            2, len(sets), figsize=(1.0 + 2.0 * len(sets), 5.2), sharex=True, sharey="row", squeeze=False,
            height_ratios=(1.6, 1),
        )  # fmt: skip
        for (times, success), (ensemble, gamma) in zip(axes.T, sets, strict=True):
            part = table[(table["ensemble"] == ensemble) & (table["gamma"] == gamma)]
            for method in METHODS:
                draw_method(times, success, part[part["method"] == method], method)
            times.set_title(f"{ensemble}, γ = {gamma:g}")
            success.set_xlabel("order n")
            orders = sorted(part["n"].unique())
            success.set_xticks(orders, labels=[str(n) for n in orders])
            success.minorticks_off()
        axes[0, 0].set_ylabel("time per case (µs)")
        axes[1, 0].set_ylabel("cases solved (%)")
        axes[1, 0].set_ylim(-4, 104)
        handles, labels = axes[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(METHODS))
        figure.suptitle(
            f"s + A·relu(s) = c, {table['cases'].iloc[0]} random cases each, ‖A‖ = γ: medians, with the "
            "extremes of the repetitions (methods reconstructed: A4, A5)",
            fontsize=9.5,
        )
    return figure


def draw_method(times: Axes, success: Axes, table: pd.DataFrame, method: str) -> None:
    """Draw one method's time per case with the extremes, and its share of solved cases."""
    base = method.split(",")[0]
    line: dict[str, Any] = {"color": COLOURS[base], "ls": "--" if method != base else "-", "marker": "o", "ms": 3}
    per_case = 1e6 / table["cases"]
    label = LABELS[base] if method == base else "exact, with residuals and statuses"
    times.plot(table["n"], table["microseconds_per_case"], label=label, **line)
    times.fill_between(
        table["n"],
        table["seconds_low"] * per_case,
        table["seconds_high"] * per_case,
        color=COLOURS[base],
        alpha=0.2,
        lw=0,
    )
    times.set_xscale("log")
    times.set_yscale("log")
    success.plot(table["n"], 100 * table["solved"] / table["cases"], **line)
