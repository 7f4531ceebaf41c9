"""One tidy table of a sweep: the tables of all its jobs, with what was set for each."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from replication.experiments.records import read_record


@dataclass(frozen=True)
class Sweep:
    """What became of a sweep.

    Attributes:
        table: the rows of all finished jobs, with the columns `job` and one for each setting that the sweep varies,
            named by its path in the configuration (where a table has a column of that name already, that one).
        missing: the jobs that are not finished, by number: what was set for each, and why it does not count.
    """

    table: pd.DataFrame
    missing: dict[int, str]


def gather(folder: Path) -> Sweep:
    """Gather the folder of a multirun into one table.

    A job counts if its record is there and has the checksums of its files. The result of a training is a table of one
    row: its accuracy, epochs, parameters and seconds.

    Args:
        folder: of the multirun (hydra.sweep.dir), with a folder for each job.

    Returns:
        The table, and the jobs that are missing in it.

    Raises:
        ValueError: if it is no folder of a multirun.
    """
    parts, missing = [], {}
    for job, chosen in enumerate(jobs_of(folder)):
        try:
            part = job_table(folder / str(job))
        except ValueError as error:
            missing[job] = f"{' '.join(f'{name}={value}' for name, value in chosen.items())}: {error}"
            continue
        part.insert(0, "job", job)
        for place, (name, value) in enumerate(chosen.items(), start=1):
            if name not in part:
                part.insert(place, name, value)
        parts.append(part)
    return Sweep(pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(), missing)


def jobs_of(folder: Path) -> list[dict[str, str]]:
    """Return what a multirun varies, for each of its jobs in order.

    Raises:
        ValueError: if there is no readable multirun.yaml in the folder.
    """
    path = folder / "multirun.yaml"
    try:
        overrides = list(OmegaConf.load(path).hydra.overrides.task)
    except Exception as error:  # of the file system, of YAML, or a missing key
        raise ValueError(f"{folder} is no folder of a sweep: {path.name} is missing or unreadable ({error})") from error
    varied = [
        override for override in OverridesParser.create().parse_overrides(overrides) if override.is_sweep_override()
    ]
    names = [override.get_key_element() for override in varied]
    choices = [list(override.sweep_string_iterator()) for override in varied]
    return [dict(zip(names, chosen, strict=True)) for chosen in itertools.product(*choices)]


def job_table(folder: Path) -> pd.DataFrame:
    """Return the table of one job.

    Raises:
        ValueError: if its result is not whole.
    """
    records = sorted(folder.glob("*.json"))
    if not records:
        raise ValueError("not finished")
    tables = [table_of(folder, path.stem) for path in records]
    return pd.concat(tables, ignore_index=True)


def table_of(folder: Path, name: str) -> pd.DataFrame:
    """Return the table of one result, a figure's or a training's."""
    record = read_record(folder, name)
    if f"{name}.csv" in record["sha256"]:
        return pd.read_csv(folder / f"{name}.csv")
    columns = ("test_accuracy", "epochs", "parameters", "seconds")
    return pd.DataFrame([{"network": name} | {column: record[column] for column in columns}])
