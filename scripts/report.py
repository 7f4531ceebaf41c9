"""Write index.html, one page with all figures of a folder: python scripts/report.py [figures]."""

import sys
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from replication.experiments.pipeline import figure_names
from replication.experiments.report import page
from replication.experiments.results import write_atomically
from replication.experiments.texts import FIGURES, words_on_figures
from replication.words import take_any_character


def main(folder: Path) -> None:
    names = figure_names()
    text = words_on_figures() if folder.resolve() == FIGURES else ""  # it is about those alone
    content = page(folder, names, text).encode()
    write_atomically(folder / "index.html", content)
    print(f"wrote {folder / 'index.html'}, {len(content) / 1e6:.1f} MB")


if __name__ == "__main__":
    take_any_character()
    try:
        main(Path(sys.argv[1]) if len(sys.argv) > 1 else FIGURES)
    except ValueError as error:
        Console(stderr=True, highlight=False, soft_wrap=True).print(f"[bold red]error:[/] {escape(str(error))}")
        sys.exit(1)
