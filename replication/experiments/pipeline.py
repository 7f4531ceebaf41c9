"""All that there is to train and to make, in order: which of it is done, and doing the rest with a total progress."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from rich.progress import BarColumn, Progress, TimeElapsedColumn

from replication.experiments.configuration import committed, declared
from replication.experiments.files import write_atomically
from replication.experiments.places import CONF, ROOT
from replication.experiments.records import made_from, read_record
from replication.experiments.sources import checksums
from replication.experiments.weights import run_name

START_UP = 5.0  # seconds that a script needs before its record's clock starts
DATA_FOLDERS = ("MNIST/raw", "cifar-10-batches-py")  # whose presence decides what a figure is made from
SIDE_BY_SIDE = min(4, os.cpu_count() or 1)  # stages of small versions, whose times mean nothing
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
    """

    name: str
    command: tuple[str, ...]
    made: Path
    usual: float

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


def usual_seconds(record: Path) -> float:
    """Return how long a stage took according to its committed record, 0 where there is none."""
    try:
        return float(json.loads(record.read_text(encoding="utf-8"))["seconds"]) + START_UP
    except (OSError, ValueError, KeyError):
        return 0.0


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
    usual = FAST_STAGE if fast else usual_seconds(ROOT / kind / f"{name}.json")
    places = (f"paths.{place}_dir={root / place}" for place in ("figures", "weights", "outputs"))
    return Stage(name, (f"scripts/{script}.py", *options, *places), root / kind / f"{name}.json", usual)


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


@contextmanager
def alone(root: Path) -> Iterator[int]:
    """Hold a folder for this run and its children alone; yields the lock, to be passed on to them.

    Raises:
        ValueError: if another run holds it, even if that run was killed and only its child goes on.
    """
    root.mkdir(parents=True, exist_ok=True)
    with (root / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ValueError(f"another run is at work in {root}; wait for it, or end it first") from error
        yield lock.fileno()


def run(stage: Stage, logs: Path, lock: int | None = None, threads: int | None = None) -> float:
    """Run a stage, with all it prints in a log, and return the seconds it took.

    Args:
        stage: what to run.
        logs: folder of the logs.
        lock: to be held by the stage too.
        threads: that it may use, None for as many as it chooses.

    Raises:
        ValueError: if it fails, with its last words.
    """
    start, log = time.perf_counter(), logs / f"{stage.name}.log"
    logs.mkdir(parents=True, exist_ok=True)
    with log.open("w") as file:
        done = subprocess.run(
            [sys.executable, *stage.command], cwd=ROOT, stdout=file, stderr=subprocess.STDOUT, check=False,
            pass_fds=() if lock is None else (lock,),
            env=os.environ | ({} if threads is None else {"OMP_NUM_THREADS": str(threads)}),
        )  # fmt: skip
    if done.returncode:
        last = (log.read_text(encoding="utf-8").strip().splitlines() or ["it said nothing"])[-1]
        raise ValueError(f"{stage.name} failed: {last} (all it said: {log})")
    return time.perf_counter() - start


def time_left(remaining: float, usual: float, took: float) -> str:
    """Return an estimate in words: the usual seconds of what remains, by the pace of what is done."""
    seconds = remaining * (took / usual if usual else 1.0)
    return f"about {seconds / 3600:.1f} h left" if seconds > 5400 else f"about {seconds / 60:.0f} min left"


def run_all(
    todo: Sequence[Stage], logs: Path, lock: int | None = None, at_once: int = 1
) -> Iterator[tuple[Stage, str]]:
    """Run stages with a total progress and an estimate of the time left.

    Args:
        todo: what to run, in this order.
        logs, lock: as for `run`.
        at_once: stages that run side by side, with one thread each where there are several; their times mean little.

    Yields:
        Each stage when it is done, and in words how far that is.
    """
    if not todo:
        return
    start, total, usual = time.perf_counter(), sum(stage.usual for stage in todo), 0.0
    threads = 1 if at_once > 1 else None
    columns = ("{task.description}", BarColumn(), "{task.percentage:.0f} %", TimeElapsedColumn(), "{task.fields[left]}")
    pool = ThreadPoolExecutor(at_once)
    try:
        with Progress(*columns) as progress:
            bar = progress.add_task(todo[0].name, total=max(total, 1.0), left=time_left(total, 0.0, 0.0))
            running = {pool.submit(run, stage, logs, lock, threads): stage for stage in todo}
            for number, future in enumerate(as_completed(running), 1):
                seconds, stage = future.result(), running.pop(future)
                usual += stage.usual
                left = time_left(total - usual, usual, time.perf_counter() - start)
                waiting = next(iter(running.values())).name if running else "done"
                progress.update(
                    bar, completed=usual, left=left, description=f"{min(number + 1, len(todo))}/{len(todo)} {waiting}"
                )
                yield stage, f"{number} of {len(todo)}, {seconds:.0f} s, {left}"
    finally:
        pool.shutdown(cancel_futures=True)
