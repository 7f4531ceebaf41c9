"""Write index.html, one page with all figures of a folder: python scripts/report.py [figures]."""

import sys
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from replication.pipeline import plan
from replication.report import page
from replication.results import ROOT, write_atomically
from replication.words import take_any_character

FIGURES = ROOT / "figures"


def main(folder: Path) -> None:
    names = [name for name, _ in plan() if name != "train"]
    words = (
        (ROOT / "README.md").read_text(encoding="utf-8") if folder.resolve() == FIGURES else ""
    )  # they are about those alone
    content = page(folder, names, words).encode()
    write_atomically(folder / "index.html", content)
    print(f"wrote {folder / 'index.html'}, {len(content) / 1e6:.1f} MB")


if __name__ == "__main__":
    take_any_character()
    try:
        main(Path(sys.argv[1]) if len(sys.argv) > 1 else FIGURES)
    except ValueError as error:
        Console(stderr=True, highlight=False, soft_wrap=True).print(f"[bold red]error:[/] {escape(str(error))}")
        sys.exit(1)
