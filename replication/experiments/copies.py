"""Scripts that run in copies of one process, which has loaded what they need: each would take seconds to load it."""

from __future__ import annotations

import atexit
import multiprocessing
import os
import runpy
import sys
from collections.abc import Mapping, Sequence
from multiprocessing.connection import wait
from multiprocessing.reduction import DupFd
from pathlib import Path
from threading import Lock
from typing import Any

from replication.experiments.places import ROOT

LOADED = [
    "matplotlib.pyplot",
    "scipy.optimize",
    "scipy.stats",
    "sklearn.datasets",
    "replication.experiments.data.colour",
    "replication.experiments.entry",
    "replication.experiments.training",
]
START = "forkserver" if sys.platform == "linux" else "spawn"  # elsewhere a copy of what these load may crash
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")  # as conf/ has it
# every start asks how the copies before ended; of two threads that ask at once the second is told of a crash
ONE_AT_A_TIME = Lock()


class Descriptor:
    """An open file that a copy holds too, as long as it runs."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __reduce__(self) -> tuple[Any, ...]:
        return own, (DupFd(self.number),)


def own(duplicate: Any) -> Descriptor:
    """Return what another process had duplicated for this one."""
    return Descriptor(duplicate.detach())


def run_script(
    command: Sequence[str],
    said: Path,
    complained: Path | None = None,
    *,
    cwd: Path = ROOT,
    environment: Mapping[str, str] | None = None,
    held: int | None = None,
    patience: float | None = None,
) -> int:
    """Run a script with one thread to its end, and return its exit status.

    Args:
        command: the script and its arguments.
        said: file that takes what it prints.
        complained: file that takes its errors; None for the same.
        cwd: where it runs.
        environment: all its variables; None for those of this process.
        held: an open file that it holds too, a lock say.
        patience: seconds that it may take.

    Raises:
        TimeoutError: if it takes longer; it is ended then.
    """
    os.environ.update(ONE_THREAD)  # before the first copy: what is loaded counts its threads then
    context: Any = multiprocessing.get_context(START)
    if START == "forkserver":
        context.set_forkserver_preload(LOADED)
    lock = None if held is None else Descriptor(held)
    variables = dict(os.environ if environment is None else environment)
    copy = context.Process(target=execute, args=(command, (said, complained or said), cwd, variables, lock))
    with ONE_AT_A_TIME:
        copy.start()
    if not wait([copy.sentinel], patience):
        copy.kill()
        raise TimeoutError(f"{' '.join(command)} did not end in {patience} seconds")
    with ONE_AT_A_TIME:
        copy.join()
    return int(copy.exitcode)


def execute(
    command: Sequence[str], outputs: Sequence[Path], cwd: Path, environment: Mapping[str, str], _: Descriptor | None
) -> None:
    """Be the script, in this process."""
    for stream, path in enumerate(outputs, start=1):
        with path.open("a") as file:
            os.dup2(file.fileno(), stream)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    sys.argv = list(command)
    try:
        runpy.run_path(command[0], run_name="__main__")
    finally:
        atexit._run_exitfuncs()  # which processes of multiprocessing leave out
