"""Files on disk: written whole or not at all, and by one process at a time."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that it is there whole or not at all."""
    write_together({path: content})


def write_together(contents: Mapping[Path, bytes]) -> None:
    """Write files, each whole or not at all, and none of them where there is no room for all.

    The last one vouches for the others: it goes before the first is replaced, and comes when all are there.

    Raises:
        OSError: if one cannot be written; the files of the same names are then as they were.
    """
    staged: dict[Path, Path] = {}
    try:
        for path, content in contents.items():
            staged[path] = stage(path, content)
        *others, last = staged
        if others:
            last.unlink(missing_ok=True)
        for path, temporary in staged.items():
            os.replace(temporary, path)
    finally:
        for temporary in staged.values():
            temporary.unlink(missing_ok=True)


def stage(path: Path, content: bytes) -> Path:
    """Write a temporary file beside `path`, through to the disk, and return where it is."""
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
    except BaseException as error:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise cannot_write(path, error) from error
        raise
    return Path(temporary)


def cannot_write(path: Path, error: OSError) -> OSError:
    """Return the error of one sentence for a file or folder that cannot be written."""
    reason = error.strerror or str(error)
    return OSError(f"{path} cannot be written ({reason}); make room, or choose another folder by paths.*_dir=...")


@contextmanager
def only_writer(folder: Path, name: str) -> Iterator[None]:
    """Keep other processes from making the same result in the same folder; a process that dies lets go of it.

    Raises:
        RuntimeError: if another process is at it.
        OSError: if the folder cannot be written, before any work is done.
    """
    lock = FileLock(folder / f".{name}.lock")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(blocking=False)
    except Timeout as error:
        raise RuntimeError(
            f"another run is making {name} in {folder}; wait for it to end, or choose another folder by paths.*_dir=..."
        ) from error
    except OSError as error:
        raise cannot_write(folder, error) from error
    try:
        yield
    finally:
        Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()
