"""Recompute tables and compare them with the committed ones: python scripts/verify.py [--fast] [figure ...]."""

import argparse
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from replication.experiments.entry import ending_in_one_sentence
from replication.experiments.pipeline import checked, figure_names, figure_stage, quick_first
from replication.experiments.places import CONF, FIGURES
from replication.experiments.running import SIDE_BY_SIDE, run_all
from replication.experiments.studies.verification import Rules, verify

RULES = CONF / "verify.yaml"
SHOWN = 10  # differences of a figure that are printed
console = Console(highlight=False, soft_wrap=True)


def report(name: str, found: list[str], progress: str) -> None:
    """Print what differs in a figure, or that nothing does."""
    verdict = f"[red]differs[/] {name}: in {len(found)} places" if found else f"[green]agrees[/] {name}"
    console.print(f"{verdict} ({progress})")
    for sentence in found[:SHOWN]:
        console.print(f"  {name}: {escape(sentence)}")
    if len(found) > SHOWN:
        console.print(f"  {name}: and {len(found) - SHOWN} more")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("figures", nargs="*", help="only these; default: all")
    parser.add_argument("--fast", action="store_true", help="only the quick ones of conf/verify.yaml")
    parser.add_argument("--against", type=Path, default=FIGURES, help="folder of the tables; default: figures")
    options = parser.parse_args()
    rules, differing = Rules.read(RULES), 0
    checked([*rules.fast, *rules.tables])
    names = checked(options.figures) or (rules.fast if options.fast else figure_names())
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        words = [f"paths.figures_dir={folder}", f"paths.outputs_dir={folder / 'outputs'}"]
        todo = [figure_stage(name, words, folder) for name in names]
        for stage, progress in run_all(quick_first(todo), folder / "logs", at_once=SIDE_BY_SIDE):
            found = verify(stage.name, options.against, folder, rules)
            report(stage.name, found, progress)
            differing += bool(found)
    console.print(f"{len(todo) - differing} of {len(todo)} tables agree with the committed ones")
    return 1 if differing else 0


if __name__ == "__main__":
    with ending_in_one_sentence():
        sys.exit(main())
