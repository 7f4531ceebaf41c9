"""The process of `LemkePeer`: QuantEcon's `lcp_lemke`, compiled by Numba, without torch.

It reads problems, solves all of them in a loop for every line it is sent, answers with the seconds of the loop, and
writes the solutions at the end.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Arrays = list[np.ndarray]


def arrays(path: Path) -> Arrays:
    """Return the arrays that were written to a file by their position."""
    with np.load(path) as written:
        return [written[f"arr_{index}"] for index in range(len(written.files))]


def looped(lcp_lemke: Any, matrices: Arrays, vectors: Arrays) -> tuple[Callable[[], Any], Callable[[Any], Arrays]]:
    """Return what calls `lcp_lemke` for every problem in a loop of Python, as people do, and what reads the results."""
    problems = list(zip(matrices, vectors, strict=True))
    lcp_lemke(*problems[0])  # compiles
    return (
        lambda: [lcp_lemke(M, q) for M, q in problems],
        lambda results: [result.z if result.success else np.full_like(result.z, np.nan) for result in results],
    )


def compiled(lcp_lemke: Any, matrices: Arrays, vectors: Arrays) -> tuple[Callable[[], Any], Callable[[Any], Arrays]]:
    """Return the same for a loop compiled by Numba, over problems of one order, which share their room."""
    from numba import njit

    @njit(cache=True)
    def loop(M, q, z):  # type: ignore[no-untyped-def]
        cases, n = q.shape
        tableau, basis, covering = np.empty((n, 2 * n + 2)), np.empty(n, np.int_), np.ones(n)
        for case in range(cases):
            own = z[case]
            if not lcp_lemke(M[case], q[case], covering, tableau=tableau, basis=basis, z=own).success:
                own[:] = np.nan
        return z

    M, q = np.stack(matrices), np.stack(vectors)
    z = np.empty_like(q)
    loop(M, q, z)  # compiles
    return lambda: loop(M, q, z), list


def serve(path: Path, solutions: Path, loop: str) -> None:
    """Be the process."""
    from quantecon.optimize import lcp_lemke

    given = arrays(path)
    run, read = {"looped": looped, "compiled": compiled}[loop](lcp_lemke, given[::2], given[1::2])
    results: Any = []
    for _ in sys.stdin:
        start = time.perf_counter()
        results = run()
        print(time.perf_counter() - start, flush=True)
    np.savez(solutions, *read(results))


if __name__ == "__main__":
    serve(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
