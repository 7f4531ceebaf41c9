"""Print a table of the figures in a folder: python scripts/summary.py [figures]."""

import json
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from replication.experiments.configuration import title_of
from replication.experiments.entry import ending_in_one_sentence
from replication.experiments.places import FIGURES


def main(folder: Path) -> None:
    table = Table(title=f"figures in {folder}/")
    for column in ("figure", "file", "what it shows", "dataset", "seconds"):
        table.add_column(column, justify="right" if column == "seconds" else "left")
    for path in sorted(folder.glob("*.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        picture = path.with_suffix(".png").name
        table.add_row(path.stem, picture, title_of(path.stem), record["dataset"], f"{record['seconds']:.1f}")
    Console(width=None if sys.stdout.isatty() else 140).print(table)


if __name__ == "__main__":
    with ending_in_one_sentence():
        main(Path(sys.argv[1]) if len(sys.argv) > 1 else FIGURES)
