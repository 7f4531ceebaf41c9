"""Running the commands of a reproduction: alone in a folder, with logs, a total progress and the time that is left."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path

from rich.progress import BarColumn, Progress, TimeElapsedColumn

from replication.experiments.pipeline import Stage
from replication.experiments.places import ROOT

SIDE_BY_SIDE = min(4, os.cpu_count() or 1)  # stages of small versions, whose times mean nothing


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
