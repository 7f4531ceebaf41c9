"""Scripts that run in copies of one process, which has loaded what they need: each would take seconds to load it."""

from __future__ import annotations

import multiprocessing
import os
import runpy
import sys
from collections.abc import Sequence
from multiprocessing.reduction import DupFd
from pathlib import Path
from typing import Any

from replication.experiments.places import ROOT

LOADED = ["matplotlib.pyplot", "replication.experiments.entry", "replication.experiments.training"]
START = "forkserver" if sys.platform == "linux" else "spawn"  # elsewhere a copy of what these load may crash
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")  # as conf/ has it


class Descriptor:
    """An open file that a copy holds too, as long as it runs."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __reduce__(self) -> tuple[Any, ...]:
        return _own, (DupFd(self.number),)


def _own(duplicate: Any) -> Descriptor:
    return Descriptor(duplicate.detach())


def run_script(command: Sequence[str], log: Path, held: int | None = None) -> int:
    """Run a script with one thread, from the repository's root, and return its exit status.

    Args:
        command: the script and its arguments.
        log: takes all that it prints.
        held: an open file that it holds too, a lock say.
    """
    os.environ.update(ONE_THREAD)  # before the first copy: what is loaded counts its threads then
    context: Any = multiprocessing.get_context(START)
    if START == "forkserver":
        context.set_forkserver_preload(LOADED)
    copy = context.Process(target=execute, args=(command, log, None if held is None else Descriptor(held)))
    copy.start()
    copy.join()
    return int(copy.exitcode)


def execute(command: Sequence[str], log: Path, held: Descriptor | None) -> None:
    """Be the script, in this process."""
    with log.open("w") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    os.chdir(ROOT)
    sys.argv = list(command)
    runpy.run_path(command[0], run_name="__main__")
