"""Make the figures that are not made, or were made from other files: python scripts/make.py [--fast] [figure ...]."""

import argparse
import os
import subprocess
import sys

from rich.console import Console

from replication.experiments.copies import ONE_THREAD
from replication.experiments.entry import ending_in_one_sentence
from replication.experiments.pipeline import (
    FAST_STAGE,
    checked,
    figure_names,
    figure_stage,
    plan,
    quick_first,
    stale,
    write_stamp,
)
from replication.experiments.places import FIGURES, ROOT
from replication.experiments.running import SIDE_BY_SIDE, run_all

OUTPUTS = ROOT / "outputs"
console = Console(highlight=False, soft_wrap=True)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("figures", nargs="*", help="only these; default: all figures, without the benchmarks")
    parser.add_argument("--fast", action="store_true", help="small versions, in outputs/fast")
    parser.add_argument("--list", action="store_true", help="only say what would be made, and why")
    return parser.parse_args()


def main() -> None:
    asked = arguments()
    folder = OUTPUTS / "fast" if asked.fast else FIGURES
    stamps, logs = (OUTPUTS / f"{kind}{'-fast' if asked.fast else ''}" for kind in ("made", "logs"))
    options = dict(plan(asked.fast))
    names = checked(asked.figures) or [name for name in figure_names() if not name.startswith("bench")]
    reasons = {name: stale(name, options[name], folder, stamps) for name in names}
    if asked.list:
        for name, reason in reasons.items():
            print(f"{name}: {reason or 'made'}")
        return
    place, usual = ([f"paths.figures_dir={folder}"], FAST_STAGE) if asked.fast else ([], None)
    todo = [figure_stage(name, [*place, *options[name]], folder, usual) for name, why in reasons.items() if why]
    if len(todo) == 1:  # it says itself how far it is
        command = [sys.executable, *todo[0].command]
        if subprocess.run(command, cwd=ROOT, env=os.environ | ONE_THREAD, check=False).returncode:
            sys.exit(1)
        write_stamp(todo[0].name, options[todo[0].name], folder, stamps)
    else:
        for made, progress in run_all(quick_first(todo), logs, at_once=SIDE_BY_SIDE):
            write_stamp(made.name, options[made.name], folder, stamps)
            console.print(f"made {made.name} ({progress}): {folder / made.name}.png")
    console.print(f"{len(reasons) - len(todo)} of {len(reasons)} were made and up to date; all are in {folder}")


if __name__ == "__main__":
    with ending_in_one_sentence("stopped: the same command makes what is missing"):
        main()
