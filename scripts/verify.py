"""Recompute tables and compare them with the committed ones: python scripts/verify.py [--fast] [figure ...]."""

import argparse
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from replication.experiments.entry import ending_in_one_sentence
from replication.experiments.pipeline import SIDE_BY_SIDE, Stage, figure_names, run_all, usual_seconds
from replication.experiments.places import CONF, FIGURES
from replication.experiments.studies.verification import Rules, verify

RULES = CONF / "verify.yaml"
SHOWN = 10  # differences of a figure that are printed
console = Console(highlight=False, soft_wrap=True)


def recomputation(name: str, folder: Path) -> Stage:
    """Return the stage that makes a figure, as it was committed, in another folder."""
    words = (f"scripts/{name}.py", f"paths.figures_dir={folder}", f"paths.outputs_dir={folder}/outputs")
    return Stage(name, words, folder / f"{name}.json", usual_seconds(FIGURES / f"{name}.json"))


def chosen(names: list[str], fast: bool, rules: Rules) -> list[str]:
    """Return the figures to verify: those named, else the quick ones, else all."""
    all_names = figure_names()
    unknown = {*names, *rules.fast, *rules.tables} - set(all_names)
    if unknown:
        raise ValueError(f"there is no figure {', '.join(sorted(unknown))}; there are {', '.join(all_names)}")
    return names or (list(rules.fast) if fast else all_names)


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
    with tempfile.TemporaryDirectory() as folder:
        todo = [recomputation(name, Path(folder)) for name in chosen(options.figures, options.fast, rules)]
        for stage, progress in run_all(todo, Path(folder) / "logs", at_once=SIDE_BY_SIDE if options.fast else 1):
            found = verify(stage.name, options.against, Path(folder), rules)
            report(stage.name, found, progress)
            differing += bool(found)
    console.print(f"{len(todo) - differing} of {len(todo)} tables agree with the committed ones")
    return 1 if differing else 0


if __name__ == "__main__":
    with ending_in_one_sentence():
        sys.exit(main())
