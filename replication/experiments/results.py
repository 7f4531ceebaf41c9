"""Results on disk: written whole or not at all, each with the record of how it was made."""

from __future__ import annotations

import functools
import hashlib
import io
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from filelock import FileLock, Timeout
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobRuntime
from hydra.types import RunMode
from matplotlib.figure import Figure
from omegaconf import DictConfig, OmegaConf

from replication.experiments.plots.style import style
from replication.experiments.sources import checksums, files_of
from replication.version import __version__

ROOT = Path(__file__).resolve().parent.parent.parent
LIBRARIES = (
    "torch", "torchvision", "pytorch-lightning", "torchmetrics", "hydra-core", "numpy", "scipy", "scikit-learn",
    "pandas", "matplotlib", "safetensors",
)  # fmt: skip
MADE_FILES = (":!figures", ":!weights")  # what the experiments write themselves does not make the code differ
CONDUCT = {"enable_progress_bar", "fast", "log_every_n_steps", "logger"}  # settings that change no result
SINCE = {
    "network.flips": False,
    "trainer.max_steps": -1,
    "steps.max_steps": -1,
}  # settings that older records lack: what was done then
MOVED = ("replication.experiments.", "replication.")  # older records name the same classes at their former places

READ: set[Path] = set()  # weights and records of trainings that this run has read, on which its result rests

OmegaConf.register_new_resolver("checkout", lambda place: str(ROOT / place), replace=True)


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


@dataclass(frozen=True)
class Result:
    """What a study makes: a tidy table, and arrays that belong to it (images, say)."""

    table: pd.DataFrame
    arrays: dict[str, np.ndarray] = field(default_factory=dict)


Draw = Callable[[Result, Mapping[str, Any]], Figure]  # of a result and the record of how it was made


def write_result(folder: Path, name: str, result: Result, figure: Figure, record: Mapping[str, Any]) -> list[Path]:
    """Write NAME.csv, NAME.npz where there are arrays, NAME.png, NAME.pdf and, last, NAME.json with their checksums.

    Args:
        folder: where to.
        name: the figure's name.
        result: what the figure shows.
        figure: the picture.
        record: how it was made, as `provenance` returns it.

    Returns:
        The paths written.
    """
    contents = {"csv": result.table.to_csv(index=False).encode()}
    if result.arrays:
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **result.arrays)  # type: ignore[arg-type]
        contents["npz"] = buffer.getvalue()
    return write_contents(folder, name, contents | pictures(figure), record)


def write_contents(folder: Path, name: str, contents: Mapping[str, bytes], record: Mapping[str, Any]) -> list[Path]:
    """Write the files of a result, given by their suffixes, and its record with their checksums; return the paths."""
    checksums = {f"{name}.{kind}": hashlib.sha256(content).hexdigest() for kind, content in contents.items()}
    written = (json.dumps({**record, "sha256": checksums}, indent=2, ensure_ascii=False) + "\n").encode()
    files = {folder / f"{name}.{kind}": content for kind, content in {**contents, "json": written}.items()}
    write_together(files)
    return list(files)


def pictures(figure: Figure) -> dict[str, bytes]:
    """Return a figure as PNG and as PDF, in the look of this package, and close it."""
    found = {}
    with style():
        for kind, metadata in (("png", None), ("pdf", {"CreationDate": None})):
            buffer = io.BytesIO()
            figure.savefig(buffer, format=kind, metadata=metadata)
            found[kind] = buffer.getvalue()
    plt.close(figure)
    return found


def redraw(folder: Path, name: str, draw: Draw) -> list[Path]:
    """Draw a result anew from its table and arrays; of its record only the checksums of the pictures change.

    Args:
        folder: holds the result.
        name: of the figure.
        draw: makes the picture.

    Raises:
        ValueError: if the result is not whole.
    """
    record = read_record(folder, name)
    kept = {
        kind: (folder / f"{name}.{kind}").read_bytes()
        for kind in ("csv", "npz")
        if f"{name}.{kind}" in record["sha256"]
    }
    arrays = dict(np.load(io.BytesIO(kept["npz"]), allow_pickle=False)) if "npz" in kept else {}
    result = Result(pd.read_csv(io.BytesIO(kept["csv"])), arrays)
    return write_contents(folder, name, kept | pictures(draw(result, record)), record)


def read_record(folder: Path, name: str) -> dict[str, Any]:
    """Return the record of a result, once every file that belongs to it is found to be whole and its own.

    Raises:
        ValueError: if there is no readable record, or a file is missing, changed, cut off or another run's.
    """
    path = folder / f"{name}.json"
    try:
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        checksums = dict(record["sha256"])
        found = {file: hashlib.sha256((folder / file).read_bytes()).hexdigest() for file in checksums}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is no record of a whole result ({error!r}); make {name} anew") from error
    wrong = [file for file in checksums if found[file] != checksums[file]]
    if wrong:
        raise ValueError(f"{', '.join(wrong)} in {folder} is not what its record {path.name} says; make {name} anew")
    return record


def is_made(folder: Path, name: str, config: DictConfig) -> bool:
    """Return whether a whole result of this configuration is there."""
    try:
        record = read_record(folder, name)
    except ValueError:
        return False
    made_with: object = record.get("configuration")
    return made_with == as_read(configuration_of(config))


@functools.cache
def committed(script: str, options: tuple[str, ...] = ()) -> DictConfig:
    """Return a script's configuration as it stands in conf/, with these options."""
    running, hydra = GlobalHydra.instance().hydra, GlobalHydra.instance()  # of a script that is at work
    job = JobRuntime.instance().get("name")
    hydra.clear()
    try:
        with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
            return compose(script, overrides=list(options))
    finally:
        hydra.hydra = running
        JobRuntime.instance().set("name", job)  # of the jobs of a sweep that are still to come


def changed_settings(name: str, made_with: Any) -> str:
    """Return in words which settings differ from those in conf/; nothing where the result would be the same.

    The number of threads counts where conf/ names one.

    Args:
        name: of the figure.
        made_with: its configuration, as its record has it.
    """
    wanted = settings(as_read(configuration_of(committed(name))))
    found = settings(made_with)
    if wanted.get("threads") is None:
        found["threads"] = None
    return differing(found, wanted)


def differing(made_with: Any, wanted: Any) -> str:
    """Return in words how settings differ from those that are wanted; nothing where they do not."""
    found, wanted = settings(made_with), settings(wanted)
    found = {key: value for key, value in SINCE.items() if key in wanted} | found
    other = [
        f"{key}={found.get(key)}" + (f", not {wanted[key]}" if key in wanted else "")
        for key in wanted | found
        if key not in wanted or key not in found or wanted[key] != found[key]
    ]
    return other[0] + (f", and {len(other) - 1} more" if len(other) > 1 else "") if other else ""


def settings(configuration: Any, within: str = "") -> dict[str, Any]:
    """Return the settings of a configuration that results depend on, by their paths."""
    if not isinstance(configuration, dict) or not configuration:
        return {within: json.loads(json.dumps(configuration).replace(*MOVED))}
    found: dict[str, Any] = {}
    for key, value in configuration.items():
        if key not in CONDUCT:
            found |= settings(value, f"{within}.{key}" if within else key)
    return found


def as_read(value: Any) -> Any:
    """Return what a value becomes when it is written as JSON and read again."""
    return json.loads(json.dumps(value))


def made_from(name: str, config: DictConfig, overrides: Iterable[str]) -> dict[str, str | None]:
    """Return the checksums of all files of the checkout that a figure is made from: sources, configuration, weights."""
    read = {path.relative_to(ROOT).as_posix() for path in READ if path.is_relative_to(ROOT)}
    files = files_of(name, OmegaConf.to_container(config, resolve=False), overrides, ROOT)
    return checksums(ROOT, {*files, *read})


def provenance(config: DictConfig, seconds: float, dataset: str, checksum: str | None, **more: Any) -> dict[str, Any]:
    """Return the record of a run: command, configuration, versions, commit, data, hardware and time.

    Args:
        config: of the run; its paths, which belong to a machine, are left out.
        seconds: wall time.
        dataset: what the data is, in words.
        checksum: of the data, or None for data drawn at random.
        more: further entries, in place of those of the same name.
    """
    return {
        "command": command_line(),
        "dataset": dataset,
        "dataset_checksum": checksum,
        "seconds": round(seconds, 1),
        "made": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "commit": commit(),
        "versions": {"replication": __version__, "python": platform.python_version()}
        | {library: installed(library) for library in LIBRARIES},
        "hardware": hardware(),
        "configuration": configuration_of(config),
    } | more


def in_multirun() -> bool:
    """Return whether this run is a job of a sweep, with a folder of its own."""
    return HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN


def command_line() -> str:
    """Return the command of this run; of a job of a multirun, the command that makes it alone."""
    if in_multirun():
        job = HydraConfig.get()
        return " ".join(["python", f"scripts/{job.job.name}.py", *job.overrides.task])
    script = Path(sys.argv[0]).resolve()
    name = script.relative_to(ROOT).as_posix() if script.is_relative_to(ROOT) else script.name
    return " ".join(["python", name, *sys.argv[1:]])


def configuration_of(config: DictConfig) -> Any:
    """Return a configuration as records have it: resolved, less its folders."""
    return without_places(OmegaConf.to_container(config, resolve=True, throw_on_missing=False))


def without_places(configuration: Any) -> Any:
    """Return a configuration less its folders, which belong to a machine; what lies in them has its checksum."""
    if isinstance(configuration, dict):
        kept = {str(key): value for key, value in configuration.items() if key not in ("paths", "data_dir", "fast")}
        return {key: without_places(value) for key, value in kept.items()}
    if isinstance(configuration, list):
        return [without_places(value) for value in configuration]
    return configuration


def installed(package: str) -> str | None:
    """Return the version of an installed package."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def commit() -> str | None:
    """Return the commit of the code, with "-modified" where files differ from it, or None outside a repository."""

    def git(*words: str) -> str:
        return subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True, check=True).stdout

    try:
        head = git("rev-parse", "HEAD").strip()
        changes = git("status", "--porcelain", "--", ".", *MADE_FILES)
    except (OSError, subprocess.CalledProcessError):
        return None
    return f"{head}-modified" if changes else head


def hardware() -> dict[str, Any]:
    """Return what the run had: processor, cores, threads, accelerator."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        names = [
            line.split(":", 1)[1].strip()
            for line in cpuinfo.read_text(encoding="utf-8").splitlines()
            if "model name" in line
        ]
        model = names[0] if names else model
    accelerator = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {"processor": model, "cores": os.cpu_count(), "threads": torch.get_num_threads(), "accelerator": accelerator}
