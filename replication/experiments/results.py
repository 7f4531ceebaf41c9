"""Results: a table, its arrays and its picture, written with the record of how they were made."""

from __future__ import annotations

import hashlib
import io
import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from replication.experiments.files import write_together
from replication.experiments.plots.style import style
from replication.experiments.records import read_record


@dataclass(frozen=True)
class Result:
    """What a study makes: a tidy table, and arrays that belong to it (images, say)."""

    table: pd.DataFrame
    arrays: dict[str, np.ndarray] = field(default_factory=dict)


Draw = Callable[[Result, Mapping[str, Any]], Figure]  # of a result and the record of how it was made


def write_result(folder: Path, name: str, result: Result, figure: Figure, record: Mapping[str, Any]) -> list[Path]:
    """Write NAME.csv, NAME.npz where there are arrays, NAME.png, NAME.pdf and, last, NAME.json with their checksums.

    Args:
        folder: where to.
        name: the figure's name.
        result: what the figure shows.
        figure: the picture.
        record: how it was made, as `provenance` returns it.

    Returns:
        The paths written.
    """
    contents = {"csv": result.table.to_csv(index=False).encode()}
    if result.arrays:
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **result.arrays)  # type: ignore[arg-type]
        contents["npz"] = buffer.getvalue()
    return write_contents(folder, name, contents | pictures(figure), record)


def write_contents(folder: Path, name: str, contents: Mapping[str, bytes], record: Mapping[str, Any]) -> list[Path]:
    """Write the files of a result, given by their suffixes, and its record with their checksums; return the paths."""
    checksums = {f"{name}.{kind}": hashlib.sha256(content).hexdigest() for kind, content in contents.items()}
    written = (json.dumps({**record, "sha256": checksums}, indent=2, ensure_ascii=False) + "\n").encode()
    files = {folder / f"{name}.{kind}": content for kind, content in {**contents, "json": written}.items()}
    write_together(files)
    return list(files)


def pictures(figure: Figure) -> dict[str, bytes]:
    """Return a figure as PNG and as PDF, in the look of this package, and close it."""
    found = {}
    logging.getLogger("fontTools").setLevel(logging.WARNING)  # which tells of every table of a font
    with style():
        for kind, metadata in (("png", None), ("pdf", {"CreationDate": None})):
            buffer = io.BytesIO()
            figure.savefig(buffer, format=kind, metadata=metadata)
            found[kind] = buffer.getvalue()
    plt.close(figure)
    return found


def redraw(folder: Path, name: str, draw: Draw) -> list[Path]:
    """Draw a result anew from its table and arrays; of its record only the checksums of the pictures change.

    Args:
        folder: holds the result.
        name: of the figure.
        draw: makes the picture.

    Raises:
        ValueError: if the result is not whole.
    """
    record = read_record(folder, name)
    kept = {
        kind: (folder / f"{name}.{kind}").read_bytes()
        for kind in ("csv", "npz")
        if f"{name}.{kind}" in record["sha256"]
    }
    arrays = dict(np.load(io.BytesIO(kept["npz"]), allow_pickle=False)) if "npz" in kept else {}
    result = Result(pd.read_csv(io.BytesIO(kept["csv"])), arrays)
    return write_contents(folder, name, kept | pictures(draw(result, record)), record)
