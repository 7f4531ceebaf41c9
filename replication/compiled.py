"""What the compiled loops share: how they are compiled, and how a batch is spread over threads.

They call no LAPACK and start none of Numba's threads, so that they cannot meet torch's.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from numba import njit
from torch import Tensor

EPSILON = float(np.finfo(np.float64).eps)
ONE = np.uint64(1)  # unsigned indices are not checked for being negative, so that loops over them are vectorized
THREAD_WORK = 10**8  # floating-point operations of a batch from which another thread pays

# _nrt=False: without Numba's counting of references, which costs small systems half their time. Nothing can be
# allocated inside then, so the loops are given the arrays they work in.
compiled = njit(  # type: ignore[call-overload]
    cache=True, nogil=True, error_model="numpy", fastmath={"contract", "nsz", "arcp", "reassoc"}, _nrt=False
)


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
