"""table1: families of units under one training recipe, and special networks trained longer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from replication.experiments.plots.cells import draw_cells
from replication.experiments.plots.style import scientific, style
from replication.experiments.results import Result

Columns = dict[str, tuple[str, str]]  # titles and forms by the names of the columns

FIRST: Columns = {
    "family": ("family", "{}"),
    "seed": ("seed", "{}"),
    "test_accuracy": ("test accuracy\n(%)", "{:.2f}"),
    "certified_units": ("certified\nunits", "{}"),
    "max_norm_A": ("largest\n‖A‖", "{:.2f}"),
}
LAST: Columns = {
    "inverse_method": ("its own\nmethod", "{}"),
    "inverse_forward_passes": ("inverse\n(forward passes)", "{:.1f}"),
    "parameters": ("parameters", "{:,}"),
    "epochs": ("epochs", "{}"),
    "seconds": ("training\n(s)", "{:.0f}"),
}
SHORT = {"Banach": "existing", "Modulus": "proposed", "Auto": "its own"}
NAMES = {"monotone-special": "special", "causal-special": "causal, special"}  # as wide as the column
AVERAGED = ("test_accuracy", "inverse_forward_passes")


def columns_of(solvers: Mapping[str, Any]) -> Columns:
    """Return the columns of the picture, with one for each method of the configuration."""
    kinds = {key: settings["_target_"].rpartition(".")[2] for key, settings in solvers.items() if key[0] != "_"}
    names = {key: SHORT.get(kind, kind) for key, kind in kinds.items()}
    order = sorted(names, key=lambda key: [*SHORT.values(), names[key]].index(names[key]))
    shares = {f"recovered_percent_{key}": (f"recovered (%)\nby {names[key]}", "{:.0f}") for key in order}
    evaluations = {"inverse_evaluations": (f"evaluations\n({names['proposed']})", "{:.1f}")}
    return FIRST | shares | evaluations | LAST


def draw(result: Result, record: Mapping[str, Any]) -> Figure:
    """Draw table1.csv as a table, with the mean and standard deviation over the seeds of each family.

    Args:
        result: a table of the columns of `replication.experiments.studies.families.family_row`.
        record: how it was made.
    """
    table, config = result.table, record["configuration"]
    columns = columns_of(config["solvers"])
    cells, means = [], []
    for family, runs in table.groupby("family", sort=False):
        cells += [run_cells(row, columns) for _, row in runs.iterrows()]
        if len(runs) > 1:
            cells.append([mean_cell(name, form, str(family), runs) for name, (_, form) in columns.items()])
            means.append(len(cells))
    title = (
        f"{record['dataset']}: families of units under one training recipe, and special networks trained longer, "
        "mean ± standard deviation over seeds\n"
        f"(recovered: relative error at most {scientific(config['recovery'])} in float64, {table['images'].iloc[0]} "
        f"test images; inverse: all hidden layers in {config['cost']['dtype']} by the unit's own method, where "
        "certified; reconstructed: A4–A8)"
    )
    with style():
        return draw_cells([name for name, _ in columns.values()], cells, title, width=0.98 * len(columns), bold=means)


def run_cells(row: pd.Series, columns: Columns) -> list[str]:
    """Return the cells of one run."""
    cells = {name: "–" if pd.isna(row[name]) else form.format(row[name]) for name, (_, form) in columns.items()}
    family = {"family": NAMES.get(row["family"], row["family"])}
    return list((cells | family | {"certified_units": f"{row['certified_units']} of {row['units']}"}).values())


def mean_cell(name: str, form: str, family: str, runs: pd.DataFrame) -> str:
    """Return the cell of a column in the row of a family's means."""
    if name in ("family", "seed"):
        return NAMES.get(family, family) if name == "family" else "mean"
    if name not in AVERAGED or runs[name].isna().any():
        return ""
    return f"{form.format(runs[name].mean())} ± {form.format(runs[name].std())}"
