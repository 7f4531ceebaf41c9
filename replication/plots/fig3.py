"""fig3: inverse of the residual unit with a fully-connected layer, invertible percentage against γ."""

import pandas as pd
from matplotlib.figure import Figure

from replication.plots.gamma_sweep import draw_sweep


def draw(table: pd.DataFrame) -> Figure:
    """Draw fig3.csv."""
    return draw_sweep(
        table,
        f"Inverse of the residual unit y = x + W₂relu(W₁x + b₁) + b₂, A = W₁W₂, dimension 10: {table['cases'].iloc[0]} "
        "random cases for each γ\n(95 % Wilson intervals; grey: the existing method is guaranteed; "
        "ensembles reconstructed: assumptions A2–A5)",
    )
