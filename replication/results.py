"""Results on disk: written whole or not at all, each with the record of how it was made."""

from __future__ import annotations

import hashlib
import io
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from omegaconf import DictConfig, OmegaConf

ROOT = Path(__file__).resolve().parent.parent
LIBRARIES = (
    "torch", "torchvision", "pytorch-lightning", "torchmetrics", "hydra-core", "numpy", "scipy", "scikit-learn",
    "pandas", "matplotlib", "safetensors",
)  # fmt: skip
MADE_FILES = (":!figures", ":!weights")  # what the experiments write themselves does not make the code differ


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that it is there whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


@dataclass(frozen=True)
class Result:
    """What a study makes: a tidy table, and arrays that belong to it (images, say)."""

    table: pd.DataFrame
    arrays: dict[str, np.ndarray] = field(default_factory=dict)


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
    for kind in ("png", "pdf"):
        buffer = io.BytesIO()
        figure.savefig(buffer, format=kind, metadata={"CreationDate": None} if kind == "pdf" else None)
        contents[kind] = buffer.getvalue()
    plt.close(figure)
    checksums = {f"{name}.{kind}": hashlib.sha256(content).hexdigest() for kind, content in contents.items()}
    contents["json"] = (json.dumps({**record, "sha256": checksums}, indent=2, ensure_ascii=False) + "\n").encode()

    (folder / f"{name}.json").unlink(missing_ok=True)  # without it nothing here counts as a result
    for kind, content in contents.items():
        write_atomically(folder / f"{name}.{kind}", content)
    return [folder / f"{name}.{kind}" for kind in contents]


def provenance(config: DictConfig, seconds: float, dataset: str, checksum: str | None, **more: Any) -> dict[str, Any]:
    """Return the record of a run: command, configuration, versions, commit, data, hardware and time.

    Args:
        config: of the run; its paths, which belong to a machine, are left out.
        seconds: wall time.
        dataset: what the data is, in words.
        checksum: of the data, or None for data drawn at random.
        more: further entries, in place of those of the same name.
    """
    script = Path(sys.argv[0]).resolve()
    command = script.relative_to(ROOT).as_posix() if script.is_relative_to(ROOT) else script.name
    return {
        "command": " ".join(["python", command, *sys.argv[1:]]),
        "dataset": dataset,
        "dataset_checksum": checksum,
        "seconds": round(seconds, 1),
        "made": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "commit": commit(),
        "versions": {"replication": installed("replication"), "python": platform.python_version()}
        | {library: installed(library) for library in LIBRARIES},
        "hardware": hardware(),
        "configuration": without_places(OmegaConf.to_container(config, resolve=True, throw_on_missing=False)),
    } | more


def without_places(configuration: Any) -> Any:
    """Return a configuration less its folders, which belong to a machine; what lies in them has its checksum."""
    if isinstance(configuration, dict):
        kept = {str(key): value for key, value in configuration.items() if key not in ("paths", "data_dir")}
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
        names = [line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        model = names[0] if names else model
    accelerator = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {"processor": model, "cores": os.cpu_count(), "threads": torch.get_num_threads(), "accelerator": accelerator}
