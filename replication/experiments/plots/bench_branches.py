"""bench_branches: evaluations of each method on branches of eight kinds, and the rounding of chains of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from replication.experiments.plots.style import COLOURS, caption, legend_below, methods, scientific, style
from replication.experiments.results import Result


def draw(result: Result, record: Mapping[str, Any]) -> Figure:
    """Draw bench_branches.csv: a row for each kind of branch, evaluations on the left and chains on the right."""
    table, bench = result.table, record["configuration"]["bench"]
    marks = methods(bench["solvers"])
    kinds = list(table["branch"].unique())
    with style():
        figure, (spent, lost) = plt.subplots(1, 2, figsize=(8.6, 1.6 + 0.36 * max(4, len(kinds))), sharey=True)
        for shift, (method, mark) in zip(np.linspace(-0.2, 0.2, len(marks)), marks.items(), strict=True):
            rows = table[table["method"] == method]
            places = [kinds.index(kind) + shift for kind in rows["branch"]]
            spent.plot(rows["evaluations"], places, "o", color=mark.colour, label=mark.label)
            lost.plot(rows["chain_rounding_max"], places, "o", color=mark.colour)
        spent.set_yticks(range(len(kinds)), kinds)
        spent.invert_yaxis()
        spent.set_xlim(0)
        spent.set_xlabel(f"evaluations until every row is back to {scientific(bench['error'])}")
        lost.axvline(100, color=COLOURS["text"], ls="--", lw=1)
        lost.set_xscale("log")
        lost.set_xlabel(f"error of a chain of {bench['chain']},\nin ε times the product of its condition numbers")
        legend_below(figure, *spent.get_legend_handles_labels())
        caption(
            figure,
            f"Random branches of order {bench['n']} with ‖A‖ = {bench['gamma']:g} in every block, {bench['cases']} of "
            f"each kind, float64: at least {table['recovered_percent'].min():g} % of the rows come back\n(mean "
            "evaluations, products with the Jacobian included; largest error of a chain)",
        )
    return figure
