"""fig4: ten digits, recovered from the network's last hidden layer by both methods."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from replication.plots.digits import draw_digits, scientific
from replication.plots.style import style

NAMES = {"proposed": "proposed\n(modulus)", "existing": "existing\n(Banach)"}


def draw(table: pd.DataFrame, pixels: dict[str, np.ndarray], dataset: str) -> Figure:
    """Draw fig4.csv with the images of fig4.npz.

    Args:
        table: digit, index, method, relative_error, status.
        pixels: "original" and one entry for each method, (digits, height, width), in the order of the table.
        dataset: its title.
    """
    rows: list[tuple[str, np.ndarray, list[str]]] = [("original", pixels["original"], [])]
    for method, name in NAMES.items():
        part = table[table["method"] == method]
        rows.append((name, pixels[method], [scientific(error) for error in part["relative_error"]]))
    difference = pixels["proposed"] - pixels["original"]
    typical = np.quantile(np.abs(difference), 0.99)
    factor = 10.0 ** np.round(-np.log10(max(typical, np.finfo(float).tiny)))
    rows.append((f"proposed −\noriginal\n× {scientific(factor)}", difference * factor, []))

    digits = len(pixels["original"])
    with style():
        figure, axes = plt.subplots(len(rows), digits, figsize=(1.1 + 0.82 * digits, 4.9), squeeze=False)
        for line, (name, images, captions) in zip(axes, rows, strict=True):
            draw_digits(line, name, images, captions, signed=images is rows[-1][1])
        figure.suptitle(
            f"{dataset}: test images recovered from the last hidden layer's output alone, relative error below each\n"
            "(float64; where a layer of the existing method fails, its iterate of smallest residual goes on; "
            "reconstructed: A4–A6)",
            fontsize=9.5,
        )
    return figure
