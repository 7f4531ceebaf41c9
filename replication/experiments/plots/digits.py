"""Rows of digits with captions: shared by the figures of digits."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence

import numpy as np
from matplotlib.axes import Axes


def draw_digits(
    line: Sequence[Axes], name: str, images: Iterable[np.ndarray], captions: Sequence[str], signed: bool = False
) -> None:
    """Draw one row of images with its name on the left and, where there are any, captions below."""
    for position, (axis, image) in enumerate(zip(line, images, strict=True)):
        show(axis, image, signed)
        if captions:
            axis.set_xlabel(captions[position], fontsize=7, labelpad=2)
    line[0].set_ylabel(name, rotation=0, ha="right", va="center", labelpad=6)


def show(axis: Axes, image: np.ndarray, signed: bool) -> None:
    """Show one image: grey in [0, 1], or a signed difference in [−1, 1]."""
    axis.imshow(image, interpolation="nearest", cmap="RdBu" if signed else "gray_r", vmin=-1 if signed else 0, vmax=1)
    axis.set_xticks([])
    axis.set_yticks([])
    for spine in axis.spines.values():
        spine.set_visible(True)
        spine.set_linewidth(0.4)


def in_lines(label: str) -> str:
    """Return a label in lines that fit beside a row of images."""
    return "\n".join(textwrap.wrap(label, 14, break_long_words=False))
