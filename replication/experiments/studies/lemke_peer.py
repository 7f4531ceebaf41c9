"""An independent peer: QuantEcon's `lcp_lemke` in a process of its own."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import numpy as np

from replication.experiments.studies import lemke_process
from replication.experiments.studies.timed_process import TimedProcess


class LemkePeer(TimedProcess):
    """Solve w = Mz + q, z ≥ 0, w ≥ 0, zᵀw = 0 for many problems by Lemke's method in a loop of Python, again and again.

    Needs the extra `bench`.

    Args:
        problems: pairs of M (n, n) and q (n,), whose n may differ.

    Raises:
        RuntimeError: if the process fails, with the last line that it wrote.
    """

    loop = "looped"

    def __init__(self, problems: Sequence[tuple[np.ndarray, np.ndarray]]) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.solutions = Path(self.folder.name) / "solutions.npz"
        path = Path(self.folder.name) / "problems.npz"
        np.savez(path, *(array for problem in problems for array in problem))
        command = [sys.executable, "-I", lemke_process.__file__, str(path), str(self.solutions), self.loop]
        super().__init__("lcp_lemke", command)

    def solved(self) -> list[np.ndarray]:
        """End the process; return z (n,) of every problem in the last run, NaN where Lemke's method found none."""
        self.finish()
        return lemke_process.arrays(self.solutions)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)
        self.folder.cleanup()


class CompiledLemkePeer(LemkePeer):
    """The same by a loop that is compiled too, over problems of one order."""

    loop = "compiled"
