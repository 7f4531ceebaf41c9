"""Peak memory and time of one training step against depth, with and without stored activations (figC2)."""

from __future__ import annotations

import json
import os
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from importlib.util import find_spec
from queue import SimpleQueue
from typing import Any

import numpy as np
import pandas as pd
from rich.progress import Progress

from replication.experiments.studies.benchmark import timed
from replication.experiments.studies.timed_process import TimedProcess

COMMAND = [sys.executable, "-m", "replication.experiments.studies.step_process"]
OURS = ("stored", "reversible")
MEASURED = ("layers", "parameters", "peak_memory_mb", "loss", "weights_mb")  # of what a process reports
AT_ONCE = min(2, os.cpu_count() or 1)  # processes whose memory is measured; those that are timed are alone
# glibc's allocator then gives blocks back when they are freed, so that the peak is not that of its fragmentation
FREED_AT_ONCE = {"MALLOC_MMAP_THRESHOLD_": str(2**18)}


class StepTimes(TimedProcess):
    """Training steps of networks, one after the other, in a process of its own that times them.

    Args:
        title: of what it does.
        threads: of torch.
    """

    def __init__(self, title: str, threads: int) -> None:
        super().__init__(title, [*COMMAND, "time", str(threads)])

    def begin(self, training: Mapping[str, object]) -> None:
        """Go on to a network, by the arguments of `replication.experiments.studies.step_process.Training`."""
        self.tell(json.dumps(training))


class StepMemory(TimedProcess):
    """Training steps of networks, each in a process of its own whose memory is measured.

    Args:
        threads: of torch.
    """

    def __init__(self, threads: int) -> None:
        super().__init__("memory", [*COMMAND, "memory", str(threads)], FREED_AT_ONCE)

    def report(self, training: Mapping[str, object]) -> dict[str, Any]:
        """Do a step of a training.

        Args:
            training: arguments of `replication.experiments.studies.step_process.Training`.

        Returns:
            What its `report` does, and weights_mb, the size of its weights, gradients and momentum.
        """
        report: dict[str, Any] = json.loads(self.ask(json.dumps(training)))
        return report | {"weights_mb": 3 * 4 * report["parameters"] / 2**20}


def memory(
    methods: Sequence[str],
    channels: Sequence[int],
    series: Sequence[Mapping[str, Any]],
    size: int,
    threads: int,
    repetitions: int,
) -> pd.DataFrame:
    """Measure one training step (forward, backward, SGD with momentum) of Hamiltonian networks of growing depth.

    Every network has a process of its own whose memory counts; times are taken by turns of the methods, each in
    a process of its own.

    Source: paper C, memory-efficient training (from recalled facts, assumption A14; settings A16).

    Args:
        methods: "stored", "reversible", "revtorch"; the last is left out, with a warning, where it is not installed.
        channels: of the stages.
        series: each a batch, the number of images, and stages, the stages' numbers of blocks for each depth.
        size: height and width of the random images.
        threads: of torch in each process; times are meant for one.
        repetitions: timed steps, after one of a few images that warms up.

    Returns:
        A row for each depth and method: method, layers, parameters, batch, size, threads, peak_memory_mb (of the
        process in a step, the optimizer's memory being there, and of the libraries what is used), loss (of this step),
        weights_mb (weights, gradients and momentum), seconds_median, seconds_low, seconds_high (of the processor),
        times_stored (median over that of "stored", where this is measured), repetitions.
    """
    used = [method for method in methods if method in OURS or find_spec(method)]
    for missing in set(methods) - set(used):
        warnings.warn(f"{missing} is not installed and left out; pip install it to have it compared", stacklevel=2)
    trainings = [
        {
            method: {
                "network": {"channels": list(channels), "blocks": list(blocks), "sequence": method},
                "batch": one["batch"],
                "size": size,
            }
            for method in used
        }
        for one in series
        for blocks in one["stages"]
    ]
    rows: list[dict[str, object]] = []
    with Progress() as progress, ExitStack() as stack:
        task = progress.add_task("memory and time", total=2 * len(trainings) * len(used))
        reports = []
        for report in memory_reports([one for training in trainings for one in training.values()], threads):
            reports.append(report)
            progress.advance(task)
        processes = {method: stack.enter_context(StepTimes(method, threads)) for method in used}
        for number, training in enumerate(trainings):
            for method, process in processes.items():
                process.begin(training[method])
            times, _ = timed({method: process.run for method, process in processes.items()}, repetitions, warm=True)
            progress.advance(task, len(used))
            for method, report in zip(used, reports[number * len(used) :], strict=False):
                common = {"method": method, "batch": training[method]["batch"], "size": size, "threads": threads}
                measured = {name: report[name] for name in MEASURED}
                rows.append(common | measured | time_columns(times[method], times.get("stored")))
    return pd.DataFrame(rows)


def memory_reports(trainings: Sequence[Mapping[str, object]], threads: int) -> Iterator[dict[str, Any]]:
    """Yield what `StepMemory.report` returns of each training, AT_ONCE of them being measured at a time."""
    idle: SimpleQueue[StepMemory] = SimpleQueue()

    def report(training: Mapping[str, object]) -> dict[str, Any]:
        process = idle.get()
        try:
            return process.report(training)
        finally:
            idle.put(process)

    with ExitStack() as stack:
        for _ in range(AT_ONCE):
            idle.put(stack.enter_context(StepMemory(threads)))
        yield from stack.enter_context(ThreadPoolExecutor(AT_ONCE)).map(report, trainings)


def time_columns(seconds: Sequence[float], stored: Sequence[float] | None) -> dict[str, object]:
    """Return the columns that say how long a step took."""
    median = float(np.median(seconds))
    return {
        "seconds_median": median,
        "seconds_low": min(seconds),
        "seconds_high": max(seconds),
        "times_stored": None if stored is None else median / float(np.median(stored)),
        "repetitions": len(seconds),
    }


def slope(table: pd.DataFrame, method: str, batch: int) -> float:
    """Return how many megabytes of peak memory a layer adds, by least squares over the depths of a batch.

    NaN where there are not two of them.
    """
    rows = table[(table["method"] == method) & (table["batch"] == batch)]
    if rows["layers"].nunique() < 2:
        return float("nan")
    return float(np.polyfit(rows["layers"], rows["peak_memory_mb"], 1)[0])
