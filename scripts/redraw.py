"""Draw pictures anew from their tables, computing nothing: python scripts/redraw.py [--folder figures] [figure ...]."""

import argparse
from importlib import import_module
from pathlib import Path

from replication.experiments.entry import ending_in_one_sentence
from replication.experiments.files import only_writer
from replication.experiments.pipeline import checked, figure_names
from replication.experiments.places import FIGURES
from replication.experiments.results import redraw


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("figures", nargs="*", help="only these; default: all that are there")
    parser.add_argument("--folder", type=Path, default=FIGURES, help="where they are; default: figures")
    options = parser.parse_args()
    there = [name for name in figure_names() if (options.folder / f"{name}.json").is_file()]
    for name in checked(options.figures) or there:
        with only_writer(options.folder, name):
            redraw(options.folder, name, import_module(f"replication.experiments.plots.{name}").draw)
        print(f"{name}: drawn anew from {options.folder / name}.csv", flush=True)


if __name__ == "__main__":
    with ending_in_one_sentence():
        main()
