"""Downloads of data sets: into place when they are whole, and given up soon where no server answers."""

from __future__ import annotations

import socket
import tempfile
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from queue import Empty, Queue
from threading import Thread

DOWNLOAD_TIMEOUT = 20.0  # seconds without an answer that count as a no


class DataUnavailableError(RuntimeError):
    """The data set is not there and cannot be downloaded."""


def download(
    title: str,
    fetch: Callable[..., object],
    made: Sequence[str],
    urls: list[str],
    data_dir: Path,
    instead: str,
) -> None:
    """Download data by torchvision into a folder of their own, and move them into place when they are whole.

    Args:
        title: of the data.
        fetch: called with a folder and download=True.
        made: the files or folders to be moved, relative to the folder.
        urls: one of them must answer first.
        data_dir: where to.
        instead: what a user may set REPLICATION_DATA to a folder of, or use.

    Raises:
        DataUnavailableError: if no server answers in time, or the folder cannot be written.
    """
    advice = f"set REPLICATION_DATA to a folder that holds {instead}"
    if not any_answers(urls, DOWNLOAD_TIMEOUT):
        raise DataUnavailableError(
            f"{title} is not in {data_dir} and no download server answered within {DOWNLOAD_TIMEOUT:.0f} s; {advice}"
        )
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(DOWNLOAD_TIMEOUT)
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=data_dir) as folder:
            fetch(folder, download=True)
            for name in made:
                (data_dir / name).parent.mkdir(parents=True, exist_ok=True)
                (Path(folder) / name).replace(data_dir / name)
    except (OSError, RuntimeError) as error:
        raise DataUnavailableError(f"{title} could not be downloaded into {data_dir} ({error}); {advice}") from error
    finally:
        socket.setdefaulttimeout(before)


def any_answers(urls: list[str], timeout: float) -> bool:
    """Whether one of the servers has its file, all asked at once; a silent one cannot hold us longer."""
    answers: Queue[bool] = Queue()

    def ask(url: str) -> None:
        request = urllib.request.Request(url, method="HEAD")
        try:
            with urllib.request.urlopen(request, timeout=timeout) as response:
                answers.put(response.status == 200)
        except (OSError, ValueError):
            answers.put(False)

    for url in urls:
        Thread(target=ask, args=(url,), daemon=True).start()
    try:
        return any(answers.get(timeout=timeout) for _ in urls)
    except Empty:
        return False
