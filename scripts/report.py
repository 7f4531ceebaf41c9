"""Write index.html, one page with all figures of a folder: python scripts/report.py [figures]."""

import sys
from pathlib import Path

from replication.experiments.entry import ending_in_one_sentence
from replication.experiments.files import write_atomically
from replication.experiments.pipeline import figure_names
from replication.experiments.places import FIGURES
from replication.experiments.report import page
from replication.experiments.texts import words_on_figures


def main(folder: Path) -> None:
    names = figure_names()
    text = words_on_figures() if folder.resolve() == FIGURES else ""  # it is about those alone
    content = page(folder, names, text).encode()
    write_atomically(folder / "index.html", content)
    print(f"wrote {folder / 'index.html'}, {len(content) / 1e6:.1f} MB")


if __name__ == "__main__":
    with ending_in_one_sentence():
        main(Path(sys.argv[1]) if len(sys.argv) > 1 else FIGURES)
