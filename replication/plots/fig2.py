"""fig2: inverse of the rectifier linear transform, invertible percentage against γ."""

import pandas as pd
from matplotlib.figure import Figure

from replication.plots.gamma_sweep import draw_sweep


def draw(table: pd.DataFrame) -> Figure:
    """Draw fig2.csv."""
    return draw_sweep(
        table,
        f"Inverse of the rectifier linear transform y = x + relu(Wx + b), dimension 10: {table['cases'].iloc[0]} "
        "random cases for each γ\n(95 % Wilson intervals; grey: the existing method is guaranteed; "
        "ensembles reconstructed: assumptions A1, A3–A5)",
    )
