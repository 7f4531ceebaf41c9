"""fig4: ten digits, recovered from the network's last hidden layer by both methods."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from replication.experiments.plots.digits import draw_digits, in_lines
from replication.experiments.plots.style import caption, methods, scientific, style
from replication.experiments.results import Result


def draw(result: Result, record: Mapping[str, Any]) -> Figure:
    """Draw fig4.csv with the images of fig4.npz: the originals, what each method recovers, and how the best differs.

    Args:
        result: a table of digit, index, method, relative_error, status; "original" and one entry for each method,
            (digits, height, width), in the order of the table.
        record: how it was made.
    """
    table, pixels = result.table, result.arrays
    rows: list[tuple[str, np.ndarray, list[str]]] = [("original", pixels["original"], [])]
    names = {key: in_lines(method.label) for key, method in methods(record["configuration"]["solvers"]).items()}
    errors = table.groupby("method")["relative_error"].median()
    for method, name in names.items():
        part = table[table["method"] == method]
        rows.append((name, pixels[method], [scientific(error) for error in part["relative_error"]]))
    best = min(names, key=lambda method: errors[method])
    difference = pixels[best] - pixels["original"]
    typical = np.quantile(np.abs(difference), 0.99)
    factor = 10.0 ** np.round(-np.log10(max(typical, np.finfo(float).tiny)))
    rows.append((f"{names[best]} −\noriginal\n× {scientific(factor)}", difference * factor, []))

    digits = len(pixels["original"])
    with style():
        figure, axes = plt.subplots(
            len(rows), digits, figsize=(max(5.2, 1.4 + 0.82 * digits), 0.9 + 1.0 * len(rows)), squeeze=False
        )
        for line, (name, images, captions) in zip(axes, rows, strict=True):
            draw_digits(line, name, images, captions, signed=images is rows[-1][1])
        caption(
            figure,
            f"{record['dataset']}: test images recovered from the last hidden layer's output alone, relative error "
            f"below each\n({table['dtype'].iloc[0]}; where a layer cannot be undone, its iterate of smallest residual "
            "goes on; reconstructed: A4–A6)",
        )
    return figure
