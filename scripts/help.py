"""List what make can make, and how long that takes by the records: python3 scripts/help.py, nothing installed."""

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CORES = 2  # of the machine whose times are told, and stages at once that measure no times


def seconds(records: Iterable[Path]) -> float:
    """Return how long all that was made took, by its records."""
    return sum(float(json.loads(path.read_text(encoding="utf-8"))["seconds"]) for path in records if path.is_file())


def in_all(took: Mapping[str, float]) -> float:
    """Return how long these figures take together, by their times alone: those that measure times have no neighbour."""
    configurations = {name: (ROOT / "conf" / f"{name}.yaml").read_text(encoding="utf-8") for name in took}
    return sum(
        time if re.search("^alone: true", configurations[name], re.MULTILINE) else time / CORES
        for name, time in took.items()
    )


def words(time: float) -> str:
    """Return a time in words."""
    return f"{time / 3600:.1f} h" if time > 5400 else f"{time / 60:.0f} min" if time > 99 else f"{max(1, time):.0f} s"


def main() -> None:
    titles = {
        path.stem: found[1]
        for path in sorted((ROOT / "conf").glob("*.yaml"), key=lambda path: (path.stem.startswith("bench"), path.stem))
        if (found := re.search("^title: (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE))
    }
    took = {name: seconds([ROOT / "figures" / f"{name}.json"]) for name in titles}
    benches = {name: time for name, time in took.items() if name.startswith("bench")}
    trainings = seconds((ROOT / "weights").rglob("*.json"))
    times = {
        "figures": in_all(took) - in_all(benches),
        "bench": in_all(benches),
        "train": seconds([ROOT / "weights" / "mnist-monotone-0.json"]),
        "trainings": trainings,
        "verify": in_all(took),
        "all": sum(took.values()) + trainings,
    }

    print("make TARGET [FAST=1] [REPLICATION_DATA=folder with MNIST/raw]     (durations: two CPU cores)")
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target, what in re.findall(r"^([a-z-]+):.*## (.*)$", makefile, re.MULTILINE):
        print(f"  {target:13} {what.format(**{name: words(time) for name, time in times.items()})}")
    for name, title in titles.items():
        own = seconds((ROOT / "weights" / name).glob("*.json"))
        anew = f"; its trainings anew: {words(own)}" if own else ""
        print(f"  {name:13} {title}" + f": {words(took[name])}{anew}" * bool(took[name]))


if __name__ == "__main__":
    main()
