"""How fast γ sweeps of up to a million cases run, in one process and in several, and how much memory they take."""

from __future__ import annotations

import io
import itertools
import multiprocessing
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import dataclass, replace
from functools import partial
from threading import Event, Thread
from typing import Any

import numpy as np
import pandas as pd
import psutil
import torch
from rich.progress import track
from torch import Tensor

from replication.experiments.data.ensembles import Ensemble
from replication.experiments.studies.invertibility import sweep

INTERVAL = 0.5  # seconds between two looks at the memory
START_METHOD = "forkserver"  # its processes share what it has loaded


@dataclass(frozen=True)
class Job:
    """A part of a γ sweep: the kind of unit, its ensemble, its dimension, and some values of γ."""

    kind: str
    name: str
    ensemble: Ensemble
    d: int
    gamma: Tensor


def sweep_benchmark(
    kinds: Sequence[str],
    ensembles: Mapping[str, Ensemble],
    dimensions: Sequence[int],
    sizes: Sequence[int],
    turns: Sequence[int],
    processes: Sequence[int],
    gamma: Tensor,
    gamma_at_once: int,
    **options: Any,
) -> pd.DataFrame:
    """Time γ sweeps over many settings, one after the other in each of some processes.

    A few values of γ of one setting are drawn, measured and counted at a time, and only the counts are kept, so that
    memory grows neither with the number of settings nor with that of values of γ.

    Args:
        kinds, ensembles, dimensions: a setting for each combination, dimensions varying first.
        sizes: numbers of settings, the first ones, that make up a run.
        turns: of each size, how often every number of processes does it, in turns.
        processes: numbers of processes, each with one thread.
        gamma: values of γ (values,).
        gamma_at_once: values of γ in memory at a time.
        options: of every sweep (`sweep` of studies/invertibility.py): solvers, cases, tolerance, recovery, seed.

    Returns:
        A row for each size and number of processes: processes, settings, repetitions, cases, seconds (median of the
        turns, wall time with the start of the processes), seconds_low, seconds_high, cases_per_second,
        peak_memory_mb (of this process and all it started, pages that several share counted once), rows (of the
        tables made).

    Raises:
        ValueError: if a size is larger than the number of settings, or turns are not as many as sizes.
    """
    if len(sizes) != len(turns):
        raise ValueError(f"sizes {list(sizes)} and turns {list(turns)} must be as many")
    settings = [
        [Job(kind, name, ensemble, d, part) for part in torch.split(gamma, gamma_at_once)]
        for kind, (name, ensemble), d in itertools.product(kinds, ensembles.items(), dimensions)
    ]
    if max(sizes) > len(settings):
        raise ValueError(f"a run of {max(sizes)} settings was asked for, and there are {len(settings)} combinations")
    run_job(replace(settings[0][0], gamma=gamma[:1]), options | {"cases": 1})  # which compiles what is to be compiled
    rows: list[dict[str, object]] = []
    for size, repetitions in zip(sizes, turns, strict=True):
        jobs = [*itertools.chain(*settings[:size])]
        runs: dict[int, list[dict[str, Any]]] = {workers: [] for workers in processes}
        for _ in range(repetitions):
            for workers, done in runs.items():
                done.append(timed_run(jobs, workers, options))
        rows += [{"processes": workers, "settings": size} | over_turns(done) for workers, done in runs.items()]
    return pd.DataFrame(rows)


def over_turns(runs: Sequence[Mapping[str, Any]]) -> dict[str, object]:
    """Return the columns of the same run, done several times."""
    seconds = [run["seconds"] for run in runs]
    cases, median = runs[0]["cases"], float(np.median(seconds))
    return {
        "repetitions": len(runs),
        "cases": cases,
        "seconds": median,
        "seconds_low": min(seconds),
        "seconds_high": max(seconds),
        "cases_per_second": cases / median,
        "peak_memory_mb": max(run["peak_memory_mb"] for run in runs),
        "rows": runs[0]["rows"],
    }


def timed_run(jobs: Sequence[Job], workers: int, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return what one run took, and how much it did."""
    start = time.perf_counter()
    cases = rows = 0
    context = multiprocessing.get_context(START_METHOD)
    context.set_forkserver_preload([__name__])
    with (
        ProcessPoolExecutor(workers, mp_context=context, initializer=torch.set_num_threads, initargs=(1,)) as pool,
        peak_memory() as peak,  # which ends first, while the processes are there
    ):
        done = pool.map(partial(run_job, options=dict(options)), jobs)
        for table in track(done, f"{workers} processes", total=len(jobs)):
            cases += int(table.loc[table["quantity"] == table["quantity"].iloc[0], "cases"].sum())
            rows += len(table)
    seconds = time.perf_counter() - start
    return {"cases": cases, "seconds": seconds, "peak_memory_mb": peak[-1] / 1e6, "rows": rows}


def run_job(job: Job, options: dict[str, Any]) -> pd.DataFrame:
    """Sweep one part, quietly."""
    with redirect_stdout(io.StringIO()):
        return sweep(job.kind, {job.name: job.ensemble}, d=job.d, gamma=job.gamma, **options)


@contextmanager
def peak_memory() -> Iterator[list[int]]:
    """Watch the memory of this process and its children: a list whose last number is the largest total in bytes.

    Shared pages are told apart, which takes some hundredths of a second, only when more is in use than ever before, and
    once at the end, so that a run that is over before it was looked at has a number too.
    """
    peak, ended = [0], Event()

    def watch() -> None:
        most = 0
        while not ended.wait(INTERVAL):
            used = memory_in_use()
            if used > most:
                most = used
                peak.append(max(peak.pop(), total_memory()))

    watcher = Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield peak
    finally:
        ended.set()
        watcher.join()
        peak.append(max(peak.pop(), total_memory()))


def memory_in_use() -> int:
    """Return the memory of this process and all it started in bytes, pages that several share counted for each."""
    return total(lambda process: process.memory_info().rss)


def total_memory() -> int:
    """Return the memory of this process and all it started in bytes, pages that several share counted once."""

    def own_share(process: psutil.Process) -> int:
        memory = process.memory_full_info()
        return int(
            getattr(memory, "pss", memory.uss)
        )  # without pss, elsewhere than on Linux, shared pages are left out

    return total(own_share)


def total(of_process: Callable[[psutil.Process], int]) -> int:
    """Add a number up over this process and all it started."""
    own, numbers = psutil.Process(), 0
    for process in (own, *own.children(recursive=True)):
        with suppress(psutil.Error):  # it has just ended
            numbers += of_process(process)
    return numbers
