"""All that there is to train and to make, in order: the command of each, how long it takes, and which of it is done."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from replication.experiments.configuration import committed, declared
from replication.experiments.files import write_atomically
from replication.experiments.places import CONF, FIGURES, ROOT, WEIGHTS
from replication.experiments.records import made_from, read_record
from replication.experiments.sources import checksums
from replication.experiments.weights import run_name

START_UP = 2.0  # seconds that a script needs before its record's clock starts, where all is loaded
DATA_FOLDERS = ("MNIST/raw", "cifar-10-batches-py")  # whose presence decides what a figure is made from
QUICK = 30.0  # seconds up to which a stage counts as quick
FAST_STAGE = 12.0  # seconds that a small stage takes
FAST_TRAINING = ("data=digits", "trainer.max_epochs=1", "trainer.enable_progress_bar=false")


@dataclass(frozen=True)
class Stage:
    """One command and what it leaves behind.

    Attributes:
        name: of the figure or of the weights, also that of the log.
        command: words of the command, less the Python interpreter, to run in the repository's root.
        made: the record that the stage writes.
        usual: seconds that it usually takes.
        alone: whether it measures times, and so is to run with no other beside it.
    """

    name: str
    command: tuple[str, ...]
    made: Path
    usual: float
    alone: bool = False

    @property
    def done(self) -> bool:
        """Whether its result is there, whole."""
        return is_whole(self.made)


def is_whole(record: Path) -> bool:
    """Whether a result is complete: its record is there, and every file that the record names has its checksum."""
    try:
        read_record(record.parent, record.name.removesuffix(".json"))
    except ValueError:
        return False
    return True


def plan(fast: bool = False) -> list[tuple[str, tuple[str, ...]]]:
    """Return all trainings ("train", options), and all figures and benchmarks (name, options), in order.

    A figure is a configuration in conf/ that has a `title`; trainings are listed in conf/trainings.yaml.

    Args:
        fast: with the options of the small versions.
    """
    figures = [path.stem for path in CONF.glob("*.yaml") if "title" in declared(path.stem)]
    figures.sort(key=lambda name: (name.startswith("bench"), name))
    options = {name: tuple(declared(name).get("fast", ())) if fast else () for name in figures}
    return [*(("train", tuple(line.split(" "))) for line in declared("trainings").trainings), *options.items()]


def figure_names() -> list[str]:
    """Return the names of all figures and benchmarks, in order."""
    return [name for name, _ in plan() if name != "train"]


def checked(names: Iterable[str]) -> list[str]:
    """Return names of figures and benchmarks as they are.

    Raises:
        ValueError: if there is no figure of such a name.
    """
    wanted, known = list(names), figure_names()
    if unknown := sorted(set(wanted) - set(known)):
        raise ValueError(f"there is no figure {', '.join(unknown)}; there are {', '.join(known)}")
    return wanted


def usual_seconds(record: Path) -> float:
    """Return how long a stage took according to its committed record, 0 where there is none."""
    try:
        return float(json.loads(record.read_text(encoding="utf-8"))["seconds"]) + START_UP
    except (OSError, ValueError, KeyError):
        return 0.0


def training_seconds(name: str) -> float:
    """Return how long the trainings took that one figure alone needs, by their committed records."""
    return sum(usual_seconds(record) for record in (WEIGHTS / name).glob("*.json"))


def stages(root: Path, fast: bool = False) -> list[Stage]:
    """Return all stages of a reproduction in a folder: every training, then every figure and benchmark.

    Args:
        root: what the stages read and write lies here.
        fast: small versions, on scikit-learn's digits.
    """
    return [stage(name, options, root.resolve(), fast) for name, options in plan(fast)]


def stage(script: str, options: tuple[str, ...], root: Path, fast: bool) -> Stage:
    """Return the stage of one entry of the plan."""
    config = committed(script)
    if fast:
        kept = tuple(word for word in options if not word.startswith("data="))
        options = kept + (FAST_TRAINING if "trainer" in config else FAST_TRAINING[:1] if "data" in config else ())
    kind, name = "figures", script
    if script == "train":
        trained = committed(script, options)
        kind, name = "weights", run_name(trained, instantiate(trained.data))
    usual = FAST_STAGE if fast else usual_seconds(ROOT / kind / f"{name}.json") + training_seconds(name)
    places = (f"paths.{place}_dir={root / place}" for place in ("figures", "weights", "outputs"))
    command = (f"scripts/{script}.py", *options, *places)
    return Stage(name, command, root / kind / f"{name}.json", usual, measures_time(script))


def figure_stage(name: str, options: Iterable[str], folder: Path, usual: float | None = None) -> Stage:
    """Return the command that makes a figure.

    Args:
        name: of the figure.
        options: of its configuration.
        folder: where it is written.
        usual: seconds that it usually takes; those of the committed record where they are not given.
    """
    seconds = usual_seconds(FIGURES / f"{name}.json") if usual is None else usual
    return Stage(name, (f"scripts/{name}.py", *options), folder / f"{name}.json", seconds, measures_time(name))


def measures_time(name: str) -> bool:
    """Return whether times are what a figure shows."""
    return bool(declared(name).get("alone", False))


def quick_first(todo: Iterable[Stage]) -> list[Stage]:
    """Return stages with the quick ones first, so that something is soon there, and then the longest first."""
    return sorted(todo, key=lambda stage: stage.usual if stage.usual <= QUICK else QUICK + 1 / stage.usual)


def stale(name: str, options: tuple[str, ...], folder: Path, stamps: Path) -> str:
    """Return in words why a figure is to be made, or nothing if it was made here and nothing that it rests on changed.

    Args:
        name: of the figure.
        options: of its configuration.
        folder: where it is.
        stamps: where it is written down what was made here.
    """
    try:
        record, stamp = read_record(folder, name), json.loads((stamps / f"{name}.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return "not made here yet"
    config = committed(name, options)
    if stamp != stamp_of(record, config):
        return "made again elsewhere, or other data are at hand"
    before, now = record.get("sources", {}), made_from(name, config, options)
    now |= checksums(ROOT, before)
    changed = sorted(path for path in before | now if before.get(path) != now.get(path))
    return f"changed: {', '.join(changed[:3])}{', …' if len(changed) > 3 else ''}" if changed else ""


def write_stamp(name: str, options: tuple[str, ...], folder: Path, stamps: Path) -> None:
    """Write down that a figure was made here."""
    stamp = stamp_of(read_record(folder, name), committed(name, options))
    write_atomically(stamps / f"{name}.json", json.dumps(stamp).encode())


def stamp_of(record: dict[str, Any], config: DictConfig) -> dict[str, Any]:
    """Return when a figure was made, and whether the data that it may be made from are at hand."""
    folder = Path(config.paths.data_dir)
    of_images = "data_dir" in str(OmegaConf.to_container(config.get("data", OmegaConf.create()), resolve=False))
    at_hand = [place for place in DATA_FOLDERS if of_images and any((folder / place).glob("*"))]
    return {"made": record["made"], "data": at_hand}
