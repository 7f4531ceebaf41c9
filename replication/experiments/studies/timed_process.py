"""Work that is timed in a process of its own, run by run, so that several methods can take turns."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from types import TracebackType

from typing_extensions import Self


class TimedProcess:
    """A process that does its work once for every line it is sent, and answers with the seconds it took.

    Args:
        title: of the process, for errors.
        command: that starts it.
        environment: variables beside those of this process.

    Raises:
        RuntimeError: if the process fails, with the last line that it wrote.
    """

    def __init__(self, title: str, command: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
        self.title = title
        self.process = subprocess.Popen(
            command, env=os.environ | dict(environment or {}),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def tell(self, line: str) -> None:
        """Send a line, to which nothing is answered."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(f"{line}\n")
            self.process.stdin.flush()
        except OSError:
            raise self.failed() from None

    def run(self) -> float:
        """Do the work once; return the seconds it took."""
        try:
            return float(self.ask("run"))
        except ValueError:
            raise self.failed() from None

    def ask(self, line: str) -> str:
        """Send a line; return the line that answers it."""
        assert self.process.stdout is not None
        self.tell(line)
        answer = self.process.stdout.readline()
        if not answer:
            raise self.failed()
        return answer

    def failed(self) -> RuntimeError:
        """End the process, and return the error that says why it failed."""
        self.process.kill()
        return RuntimeError(self.failure(self.process.communicate()[1]))

    def finish(self) -> str:
        """End the process; return what it says in the end."""
        output, errors = self.process.communicate()
        if self.process.returncode:
            raise RuntimeError(self.failure(errors))
        return output

    def failure(self, errors: str) -> str:
        """Return one sentence on a process that failed."""
        return f"the {self.title} process failed: {(errors.strip().splitlines() or ['no message'])[-1]}"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.kill()
        self.process.communicate()
