"""What the compiled loops share: how they are compiled, and how a batch is spread over threads.

They call no LAPACK and start none of Numba's threads, so that they cannot meet torch's.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numba import njit
from numba.core import event
from numba.core.caching import FunctionCache
from torch import Tensor

LOGGER = logging.getLogger("replication")  # speaks on the standard error, unless the user says otherwise
EPSILON = float(np.finfo(np.float64).eps)
ONE = np.uint64(1)  # unsigned indices are not checked for being negative, so that loops over them are vectorized
THREAD_WORK = 10**8  # floating-point operations of a batch from which another thread pays

# _nrt=False: without Numba's counting of references, which costs small systems half their time. Nothing can be
# allocated inside then, so the loops are given the arrays they work in.
OPTIONS: dict[str, Any] = {
    "nogil": True,
    "error_model": "numpy",
    "fastmath": {"contract", "nsz", "arcp", "reassoc"},
    "_nrt": False,
}
AS_WRITTEN = OPTIONS | {"fastmath": False}


FOLDER = Path(__file__).parent
LOOPS = sorted([*FOLDER.glob("compiled.py"), *FOLDER.glob("kernels/*.py")])
# Numba forgets what it kept of a loop when the loop's file changes; parts of other files are compiled into it too.
STAMP = [(file.stat().st_mtime, file.stat().st_size) for file in LOOPS]


def compiled(function: Callable[..., Any], options: dict[str, Any] = OPTIONS) -> Callable[..., Any]:
    """Compile a loop when it is first called, and keep the result on the disk, where something can be written there."""
    try:
        dispatcher = njit(cache=True, **options)(function)
    except RuntimeError:  # neither beside the package nor in the user's cache, and NUMBA_CACHE_DIR is not set
        return cast("Callable[..., Any]", njit(**options)(function))
    kept = dispatcher._cache._cache_file
    kept._source_stamp = kept._source_stamp, STAMP
    return cast("Callable[..., Any]", dispatcher)


def inlined(function: Callable[..., Any], options: dict[str, Any] = OPTIONS) -> Callable[..., Any]:
    """Compile a part of a loop into what calls it, where the call would cost more than the part."""
    return cast("Callable[..., Any]", njit(forceinline=True, **options)(function))


def as_written(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a loop whose operations round one by one, in their order, and which may meet what is not finite."""
    return compiled(function, AS_WRITTEN)


def inlined_as_written(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a part of such a loop into what calls it."""
    return inlined(function, AS_WRITTEN)


class Announcement(event.Listener):
    """Say once in a process that loops are compiled, so that the first call does not seem to hang."""

    def __init__(self) -> None:
        self.said = False

    def on_start(self, started: event.Event) -> None:
        dispatcher = started.data["dispatcher"]
        if self.said or not dispatcher.py_func.__module__.startswith("replication."):
            return
        self.said = True
        kept = isinstance(dispatcher._cache, FunctionCache)
        again = (
            "kept for the next time" if kept else "in every process, unless NUMBA_CACHE_DIR names a folder to keep it"
        )
        LOGGER.warning("compiling the loops of this package: some seconds, %s", again)

    def on_end(self, ended: event.Event) -> None:
        """Nothing more is said."""


event.register("numba:compile", Announcement())


def as_array(tensor: Tensor) -> np.ndarray:
    """Return a tensor of any device and dtype as a contiguous float64 array."""
    return np.ascontiguousarray(tensor.detach().to("cpu", torch.float64).numpy())


def spread(work_on: Callable[[slice], None], rows: int, work: float) -> None:
    """Call `work_on` for slices of the rows, in as many threads as torch uses if the work (operations) is worth it."""
    threads = torch.get_num_threads() if work > THREAD_WORK else 1
    size = max(1, -(-rows // threads))
    parts = [slice(start, start + size) for start in range(0, rows, size)]
    if len(parts) == 1:
        work_on(parts[0])
    elif parts:
        with ThreadPoolExecutor(len(parts)) as pool:
            list(pool.map(work_on, parts))
