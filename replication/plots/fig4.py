"""fig4: ten digits, recovered from the network's last hidden layer by both methods."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

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
            signed = images is rows[-1][1]
            for position, (axis, image) in enumerate(zip(line, images, strict=True)):
                show(axis, image, signed)
                if captions:
                    axis.set_xlabel(captions[position], fontsize=7, labelpad=2)
            line[0].set_ylabel(name, rotation=0, ha="right", va="center", labelpad=6)
        figure.suptitle(
            f"{dataset}: test images recovered from the last hidden layer's output alone, relative error below each\n"
            "(float64; where a layer of the existing method fails, its iterate of smallest residual goes on; "
            "reconstructed: A4–A6)",
            fontsize=9.5,
        )
    return figure


def show(axis: Axes, image: np.ndarray, signed: bool) -> None:
    """Show one image: grey in [0, 1], or a signed difference in [−1, 1]."""
    axis.imshow(image, interpolation="nearest", cmap="RdBu" if signed else "gray_r", vmin=-1 if signed else 0, vmax=1)
    axis.set_xticks([])
    axis.set_yticks([])
    for spine in axis.spines.values():
        spine.set_visible(True)
        spine.set_linewidth(0.4)


def scientific(value: float) -> str:
    """Write a number like 3.1·10⁻¹¹."""
    if value == 0 or not np.isfinite(value):
        return f"{value:g}"
    exponent = int(np.floor(np.log10(abs(value))))
    if -2 <= exponent <= 2:
        return f"{value:.2g}"
    superscript = str(exponent).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    mantissa = f"{value / 10**exponent:.1f}"
    return f"10{superscript}" if mantissa == "1.0" else f"{mantissa}·10{superscript}"
