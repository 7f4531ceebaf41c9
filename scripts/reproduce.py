"""Make everything from nothing, and go on after a stop: python scripts/reproduce.py [--fast] [--list] [stage ...]."""

import argparse
from pathlib import Path

from rich.console import Console
from rich.table import Table

from replication.experiments.entry import ending_in_one_sentence
from replication.experiments.pipeline import Stage, stages
from replication.experiments.places import ROOT
from replication.experiments.running import alone, run, run_all

console = Console(highlight=False, soft_wrap=True)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("stages", nargs="*", help="only these, by the names of --list; default: all")
    parser.add_argument("--fast", action="store_true", help="small versions, on scikit-learn's digits")
    parser.add_argument("--list", action="store_true", help="say what there is, and what is done")
    parser.add_argument("--folder", type=Path, help="where to work; default: outputs/reproduction[-fast]")
    return parser.parse_args()


def chosen(everything: list[Stage], names: list[str]) -> list[Stage]:
    """Return the stages of these names, or all."""
    unknown = set(names) - {stage.name for stage in everything}
    if unknown:
        raise ValueError(f"there is no stage {', '.join(sorted(unknown))}; --list names them all")
    return [stage for stage in everything if not names or stage.name in names]


def overview(wanted: list[Stage]) -> Table:
    table = Table("stage", "done", "usual minutes")
    for stage in wanted:
        table.add_row(stage.name, "yes" if stage.done else "", f"{stage.usual / 60:.1f}")
    return table


def main() -> None:
    options = arguments()
    folder = (options.folder or ROOT / "outputs" / f"reproduction{'-fast' if options.fast else ''}").resolve()
    wanted = chosen(stages(folder, options.fast), options.stages)
    if options.list:
        console.print(overview(wanted))
        return
    with alone(folder) as lock:
        todo = [stage for stage in wanted if not stage.done]
        console.print(f"{len(wanted) - len(todo)} of {len(wanted)} stages are done; working in {folder}")
        for stage, progress in run_all(todo, folder / "logs", lock):
            console.print(f"made {stage.name} ({progress})")
        judging = ("report",) if options.fast else ("claims", "report")  # small tables say nothing about claims
        for script in () if options.stages else judging:
            run(Stage(script, (f"scripts/{script}.py", str(folder / "figures")), folder, 0.0), folder / "logs", lock)
    console.print(
        f"all {len(wanted)} stages are done" + ("" if options.stages else f"; see {folder}/figures/index.html")
    )


if __name__ == "__main__":
    with ending_in_one_sentence("stopped: the same command goes on; a training goes on after its last finished epoch"):
        main()
