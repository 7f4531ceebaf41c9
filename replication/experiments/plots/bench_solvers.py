"""bench_solvers: time per case and success of the solvers against the order n, beside lcp_lemke."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from replication.experiments.plots.style import COLOURS, LABELS, Method, caption, legend_below, methods, style
from replication.experiments.results import Result

PEER, COMPILED_PEER = "lcp_lemke", "lcp_lemke, compiled"
CHECKED = "exact, checked"
DASHED = (CHECKED, COMPILED_PEER)


def draw(result: Result, record: Mapping[str, Any]) -> Figure:
    """Draw bench_solvers.csv: time above and success below, one column for each ensemble and γ."""
    peer = Method(LABELS[PEER], COLOURS[PEER])
    own = methods(record["configuration"]["bench"]["solvers"], [peer])
    marks = own | {
        PEER: peer,
        COMPILED_PEER: Method(f"{peer.label}, its loop compiled", peer.colour),
        CHECKED: Method("exact, with residuals and statuses", own["exact"].colour),
    }
    table = result.table[result.table["method"].isin(list(marks))]
    sets = table[["ensemble", "gamma"]].drop_duplicates().to_numpy().tolist()
    with style():
        figure, axes = plt.subplots(
            2, len(sets), figsize=(max(5.2, 1.0 + 2.0 * len(sets)), 5.4), sharex=True, sharey="row", squeeze=False,
            height_ratios=(1.6, 1),
        )  # fmt: skip
        for (times, success), (ensemble, gamma) in zip(axes.T, sets, strict=True):
            part = table[(table["ensemble"] == ensemble) & (table["gamma"] == gamma)]
            for name, mark in marks.items():
                draw_method(
                    times,
                    success,
                    part[part["method"] == name],
                    mark,
                    "--" if name in (CHECKED, COMPILED_PEER) else "-",
                )
            times.set_title(f"{ensemble}, γ = {gamma:g}")
            success.set_xlabel("order n")
            orders = sorted(part["n"].unique())
            success.set_xticks(orders, labels=[str(n) for n in orders])
            success.minorticks_off()
        axes[0, 0].set_ylabel("time per case (µs)")
        axes[1, 0].set_ylabel("cases solved (%)")
        axes[1, 0].set_ylim(-4, 104)
        handles, labels = axes[0, 0].get_legend_handles_labels()
        legend_below(figure, handles, labels, most=len(marks))
        caption(
            figure,
            f"s + A·relu(s) = c, {table['cases'].iloc[0]} random cases each, ‖A‖ = γ: medians, with the extremes of "
            "the repetitions (methods reconstructed: A4, A5)",
        )
    return figure


def draw_method(times: Axes, success: Axes, table: pd.DataFrame, method: Method, dashes: str) -> None:
    """Draw one method's time per case with the extremes, and its share of solved cases."""
    line: dict[str, Any] = {"color": method.colour, "ls": dashes, "marker": "o", "ms": 3}
    per_case = 1e6 / table["cases"]
    times.plot(table["n"], table["microseconds_per_case"], label=method.label, **line)
    low, high = (table[f"seconds_{end}"] * per_case for end in ("low", "high"))
    times.fill_between(table["n"], low, high, color=method.colour, alpha=0.2, lw=0)
    times.set_xscale("log")
    times.set_yscale("log")
    success.plot(table["n"], 100 * table["solved"] / table["cases"], **line)
