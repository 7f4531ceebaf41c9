"""An independent peer: QuantEcon's `lcp_lemke`, compiled by Numba, in a process of its own without torch.

As a script it is that process: it reads problems, solves all of them in a loop for every line it is sent, answers with
the seconds of the loop, and writes the solutions at the end.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import numpy as np


class LemkePeer:
    """Solve w = Mz + q, z ≥ 0, w ≥ 0, zᵀw = 0 for a batch of problems by Lemke's method, again and again.

    Needs the extra `bench`.

    Args:
        problems: pairs of M (n, n) and q (n,), whose n may differ.

    Raises:
        RuntimeError: if the process fails, with the last line that it wrote.
    """

    def __init__(self, problems: Sequence[tuple[np.ndarray, np.ndarray]]) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.solutions = Path(self.folder.name) / "solutions.npz"
        path = Path(self.folder.name) / "problems.npz"
        np.savez(path, *(array for problem in problems for array in problem))
        command = [sys.executable, "-I", __file__, str(path), str(self.solutions)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def run(self) -> float:
        """Solve every problem once; return the seconds it took."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            self.process.stdin.write("run\n")
            self.process.stdin.flush()
            return float(self.process.stdout.readline())
        except (OSError, ValueError):
            raise RuntimeError(f"the lcp_lemke process failed: {self.last_words()}") from None

    def finish(self) -> list[np.ndarray]:
        """End the process; return z (n,) of every problem in the last run, NaN where Lemke's method found none."""
        errors = self.process.communicate()[1]
        if self.process.returncode:
            raise RuntimeError(f"the lcp_lemke process failed: {errors.strip().splitlines()[-1]}")
        return arrays(self.solutions)

    def last_words(self) -> str:
        """Return the last line of the process's errors."""
        self.process.kill()
        lines = self.process.communicate()[1].strip().splitlines()
        return lines[-1] if lines else "no message"

    def __enter__(self) -> LemkePeer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.kill()
        self.process.communicate()
        self.folder.cleanup()


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
