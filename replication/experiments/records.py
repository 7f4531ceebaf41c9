"""Records: how a run made what it leaves behind, and whether what is there is still that."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from replication.experiments.configuration import as_read, configuration_of
from replication.experiments.places import ROOT
from replication.experiments.sources import checksums, files_of
from replication.version import __version__

LIBRARIES = (
    "torch", "torchvision", "pytorch-lightning", "torchmetrics", "hydra-core", "numpy", "scipy", "scikit-learn",
    "pandas", "matplotlib", "safetensors",
)  # fmt: skip
MADE_FILES = (":!figures", ":!weights")  # what the experiments write themselves does not make the code differ


@dataclass
class Used:
    """What a run rests on beside its sources.

    Attributes:
        files: weights and records of trainings that it has read.
        seconds: that trainings made for it alone took in earlier runs.
    """

    files: set[Path] = field(default_factory=set)
    seconds: float = 0.0

    def clear(self) -> None:
        """Forget it all, as another run begins in this process."""
        self.files.clear()
        self.seconds = 0.0


USED = Used()


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


def command_line() -> str:
    """Return the command of this run; of a job of a multirun, the command that makes it alone."""
    if in_multirun():
        job = HydraConfig.get()
        return " ".join(["python", f"scripts/{job.job.name}.py", *job.overrides.task])
    script = Path(sys.argv[0]).resolve()
    name = script.relative_to(ROOT).as_posix() if script.is_relative_to(ROOT) else script.name
    return " ".join(["python", name, *sys.argv[1:]])


def in_multirun() -> bool:
    """Return whether this run is a job of a sweep, with a folder of its own."""
    return HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN


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
    return bool(record.get("configuration") == as_read(configuration_of(config)))


def made_from(name: str, config: DictConfig, overrides: Iterable[str]) -> dict[str, str | None]:
    """Return the checksums of all files of the checkout that a figure is made from: sources, configuration, weights."""
    read = {path.relative_to(ROOT).as_posix() for path in USED.files if path.is_relative_to(ROOT)}
    files = files_of(name, OmegaConf.to_container(config, resolve=False), overrides, ROOT)
    return checksums(ROOT, {*files, *read})
