"""Running the commands of a reproduction: alone in a folder, with logs, a total progress and the time that is left."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path

from rich.progress import BarColumn, Progress, TimeElapsedColumn

from replication.experiments.copies import run_script
from replication.experiments.pipeline import Stage

SIDE_BY_SIDE = min(4, os.cpu_count() or 1)  # stages at once that measure no times
SUPPOSED = 60.0  # seconds of work at the usual pace, beside what is done, when the pace is judged


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

    Args:
        stage: what to run.
        logs: folder of the logs.
        lock: to be held by the stage too.

    Raises:
        ValueError: if it fails, with its last words.
    """
    start, log = time.perf_counter(), logs / f"{stage.name}.log"
    logs.mkdir(parents=True, exist_ok=True)
    log.unlink(missing_ok=True)
    if run_script(stage.command, log, held=lock):
        last = (log.read_text(encoding="utf-8").strip().splitlines() or ["it said nothing"])[-1]
        raise ValueError(f"{stage.name} failed: {last} (all it said: {log})")
    return time.perf_counter() - start


def time_left(remaining: float, usual: float, took: float) -> str:
    """Return an estimate in words: the usual seconds of what remains, by the pace of what is done.

    As if some had been done at the usual pace before: the first stages say little of the pace of all.
    """
    seconds = max(0.0, remaining) * (took + SUPPOSED) / (usual + SUPPOSED)
    return f"about {seconds / 3600:.1f} h left" if seconds > 5400 else f"about {seconds / 60:.0f} min left"


def run_all(
    todo: Sequence[Stage], logs: Path, lock: int | None = None, at_once: int = 1
) -> Iterator[tuple[Stage, str]]:
    """Run stages with a total progress and an estimate of the time left.

    Args:
        todo: what to run, in this order, but those that measure times at the end, one by one.
        logs, lock: as for `run`.
        at_once: stages that run side by side.

    Yields:
        Each stage when it is done, and in words how far that is.
    """
    if not todo:
        return
    groups = [([stage for stage in todo if not stage.alone], at_once), ([stage for stage in todo if stage.alone], 1)]
    share = {stage.name: stage.usual / workers for group, workers in groups for stage in group}
    start, total, usual, number = time.perf_counter(), sum(share.values()), 0.0, 0
    columns = ("{task.description}", BarColumn(), "{task.percentage:.0f} %", TimeElapsedColumn(), "{task.fields[left]}")
    with Progress(*columns) as progress:
        bar = progress.add_task(f"1/{len(todo)}", total=max(total, 1.0), left=time_left(total, 0.0, 0.0))
        for group, workers in groups:
            for stage, seconds in side_by_side(group, workers, logs, lock):
                usual, number = usual + share[stage.name], number + 1
                left = time_left(total - usual, usual, time.perf_counter() - start)
                progress.update(bar, completed=usual, left=left, description=f"{number}/{len(todo)} {stage.name}")
                yield stage, f"{number} of {len(todo)}, {seconds:.0f} s, {left}"


def side_by_side(stages: Sequence[Stage], workers: int, logs: Path, lock: int | None) -> Iterator[tuple[Stage, float]]:
    """Run so many stages at a time; yields each when it is done, with the seconds it took."""
    pool = ThreadPoolExecutor(workers)
    try:
        running = {pool.submit(run, stage, logs, lock): stage for stage in stages}
        for future in as_completed(running):
            yield running[future], future.result()
    finally:
        pool.shutdown(cancel_futures=True)
