"""All that there is to train and to make, in order: which of it is done, and doing the rest with a total progress."""

from __future__ import annotations

import fcntl
import json
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hydra.utils import instantiate
from rich.progress import BarColumn, Progress, TimeElapsedColumn

from replication.experiments.results import ROOT, committed, read_record
from replication.experiments.training import run_name

START_UP = 5.0  # seconds that a script needs before its record's clock starts
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
    """Return all trainings ("train", options) and figures (name, options), as the Makefile lists them, in order.

    Args:
        fast: with the options of the small versions.

    Raises:
        ValueError: if make cannot be asked.
    """
    words = ["make", "-s", "-C", str(ROOT), "plan", *(["FAST=1"] if fast else [])]
    try:
        lines = subprocess.run(words, capture_output=True, text=True, check=True).stdout.splitlines()
    except (OSError, subprocess.CalledProcessError) as error:
        raise ValueError(f"make cannot say what there is to make ({error}); install make, run in a checkout") from error
    entries = [shlex.split(line) for line in lines if line]
    return [(name, tuple(options)) for name, *options in entries]


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


def run(stage: Stage, logs: Path, lock: int | None = None) -> float:
    """Run a stage, with all it prints in a log, and return the seconds it took.

    Raises:
        ValueError: if it fails, with its last words.
    """
    start, log = time.perf_counter(), logs / f"{stage.name}.log"
    logs.mkdir(parents=True, exist_ok=True)
    with log.open("w") as file:
        done = subprocess.run(
            [sys.executable, *stage.command], cwd=ROOT, stdout=file, stderr=subprocess.STDOUT, check=False,
            pass_fds=() if lock is None else (lock,),
        )  # fmt: skip
    if done.returncode:
        last = (log.read_text(encoding="utf-8").strip().splitlines() or ["it said nothing"])[-1]
        raise ValueError(f"{stage.name} failed: {last} (all it said: {log})")
    return time.perf_counter() - start


def time_left(remaining: float, usual: float, took: float) -> str:
    """Return an estimate in words: the usual seconds of what remains, by the pace of what is done."""
    seconds = remaining * (took / usual if usual else 1.0)
    return f"about {seconds / 3600:.1f} h left" if seconds > 5400 else f"about {seconds / 60:.0f} min left"


def run_all(todo: Sequence[Stage], logs: Path, lock: int | None = None) -> Iterator[tuple[Stage, str]]:
    """Run stages one after the other, with a total progress and an estimate of the time left.

    Yields:
        Each stage when it is done, and in words how far that is.
    """
    if not todo:
        return
    total, usual, took = sum(stage.usual for stage in todo), 0.0, 0.0
    columns = ("{task.description}", BarColumn(), "{task.percentage:.0f} %", TimeElapsedColumn(), "{task.fields[left]}")
    with Progress(*columns) as progress:
        bar = progress.add_task("", total=max(total, 1.0), left=time_left(total, 0.0, 0.0))
        for number, stage in enumerate(todo, 1):
            progress.update(bar, description=f"{number}/{len(todo)} {stage.name}")
            seconds = run(stage, logs, lock)
            took, usual = took + seconds, usual + stage.usual
            left = time_left(total - usual, usual, took)
            progress.update(bar, completed=usual, left=left)
            yield stage, f"{number} of {len(todo)}, {seconds:.0f} s, {left}"
