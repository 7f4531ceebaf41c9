"""The process of `LemkePeer`: QuantEcon's `lcp_lemke`, compiled by Numba, without torch.

It reads problems, solves all of them in a loop for every line it is sent, answers with the seconds of the loop, and
writes the solutions at the end.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np


def arrays(path: Path) -> list[np.ndarray]:
    """Return the arrays that were written to a file by their position."""
    with np.load(path) as written:
        return [written[f"arr_{index}"] for index in range(len(written.files))]


def serve(path: Path, solutions: Path) -> None:
    """Be the process."""
    from quantecon.optimize import lcp_lemke

    given = arrays(path)
    problems = list(zip(given[::2], given[1::2], strict=True))
    lcp_lemke(*problems[0])  # compiles
    results = []
    for _ in sys.stdin:
        start = time.perf_counter()
        results = [lcp_lemke(M, q) for M, q in problems]
        print(time.perf_counter() - start, flush=True)
    np.savez(solutions, *(result.z if result.success else np.full_like(result.z, np.nan) for result in results))


if __name__ == "__main__":
    serve(Path(sys.argv[1]), Path(sys.argv[2]))
