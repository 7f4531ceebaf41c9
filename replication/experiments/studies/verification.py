"""Whether a recomputed table agrees with the committed one, by the rules of conf/verify.yaml."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from omegaconf import OmegaConf


@dataclass(frozen=True)
class Agreement:
    """How far two cells may differ.

    Attributes:
        columns: patterns of the columns it is for.
        rows: a pandas query of the rows it is for; all where it is empty.
        relative, absolute: the difference may be as large as relative·|committed| + absolute.
        interval: columns of the committed row between which the number must lie.
        ignore: why the cells are not compared.
    """

    columns: tuple[str, ...] = ("*",)
    rows: str = ""
    relative: float = 0.0
    absolute: float = 0.0
    interval: tuple[str, str] | None = None
    ignore: str = ""

    def fits(self, column: str, table: pd.DataFrame) -> np.ndarray:
        """Return for each row whether the rule is for its cell in the column."""
        if not any(fnmatchcase(column, pattern) for pattern in self.columns):
            return np.zeros(len(table), dtype=bool)
        return np.isin(table.index, table.query(self.rows).index) if self.rows else np.ones(len(table), dtype=bool)

    def holds(self, column: str, committed: pd.DataFrame, recomputed: pd.Series) -> np.ndarray:
        """Return for each row whether two cells agree."""
        old, new = committed[column], recomputed
        same = (old == new) | (old.isna() & new.isna())
        if self.ignore:
            return np.ones(len(old), dtype=bool)
        if pd.api.types.is_numeric_dtype(old) and pd.api.types.is_numeric_dtype(new):
            if self.interval:
                low, high = (committed[end] for end in self.interval)
                same |= (low <= new) & (new <= high)
            same |= (old - new).abs() <= self.relative * old.abs() + self.absolute
        return same.to_numpy(dtype=bool)

    def __str__(self) -> str:
        if self.interval:
            return f"within {self.interval[0]} and {self.interval[1]}"
        return f"to within {self.relative:g} of it, and {self.absolute:g}"


@dataclass(frozen=True)
class Rules:
    """What conf/verify.yaml says.

    Attributes:
        fast: figures for a quick look.
        rounding: holds wherever a table's own rules do not.
        tables: rules by figure; the first that fits a cell holds.
    """

    fast: tuple[str, ...]
    rounding: Agreement
    tables: dict[str, tuple[Agreement, ...]]

    @staticmethod
    def read(path: Path) -> Rules:
        """Read the rules.

        Raises:
            TypeError: if a rule has an unknown entry.
        """
        declared: Any = OmegaConf.to_container(OmegaConf.load(path))
        tables = {name: tuple(map(agreement, rules)) for name, rules in declared["tables"].items()}
        return Rules(tuple(declared["fast"]), agreement(declared["rounding"]), tables)

    def of(self, name: str) -> tuple[Agreement, ...]:
        """Return all rules of a table, the last for all that is left."""
        return (*self.tables.get(name, ()), self.rounding)


def agreement(entry: dict[str, Any]) -> Agreement:
    """Return the rule that an entry declares."""
    fields: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in entry.items()}
    return Agreement(**fields)


def differences(committed: pd.DataFrame, recomputed: pd.DataFrame, rules: Sequence[Agreement]) -> list[str]:
    """Return what differs between two tables, a sentence for each cell, or one if their shapes do.

    Args:
        committed: what is published.
        recomputed: what the same command made now.
        rules: which hold, the first that fits a cell; the last one must fit all.
    """
    if list(committed) != list(recomputed):
        return [f"the columns are {', '.join(map(str, recomputed))}, not {', '.join(map(str, committed))}"]
    if len(committed) != len(recomputed):
        return [f"there are {len(recomputed)} rows, not {len(committed)}"]
    found = []
    for column in map(str, committed):
        open_rows = np.ones(len(committed), dtype=bool)
        for rule in rules:
            own = rule.fits(column, committed) & open_rows
            wrong = own & ~rule.holds(column, committed, recomputed[column])
            found += [sentence(committed, recomputed, row, column, rule) for row in np.flatnonzero(wrong).tolist()]
            open_rows &= ~own
    return found


def sentence(committed: pd.DataFrame, recomputed: pd.DataFrame, row: int, column: str, rule: Agreement) -> str:
    """Return what differs in a cell, the row named by its line in the file and by its first columns."""
    key = ", ".join(f"{name} {committed[name].iloc[row]}" for name in list(committed)[:3] if name != column)
    old, new = committed[column].iloc[row], recomputed[column].iloc[row]
    return f"line {row + 2} ({key}), {column}: committed {old}, recomputed {new}; must agree {rule}"


def verify(name: str, committed: Path, recomputed: Path, rules: Rules) -> list[str]:
    """Return in what a recomputed figure differs from the committed one, a sentence each.

    Args:
        name: of the figure.
        committed, recomputed: folders with NAME.csv and NAME.json.
        rules: how they must agree.
    """
    records = [json.loads((folder / f"{name}.json").read_text(encoding="utf-8")) for folder in (committed, recomputed)]
    found = []
    if hashlib.sha256((committed / f"{name}.csv").read_bytes()).hexdigest() != records[0]["sha256"][f"{name}.csv"]:
        found.append(
            "the committed table is not the one that its record names: it was changed by hand, or half restored"
        )
    if (
        records[0]["dataset"] != records[1]["dataset"]
        or records[0]["dataset_checksum"] != records[1]["dataset_checksum"]
    ):
        found.append(f"recomputed from {records[1]['dataset']}, not from {records[0]['dataset']} as committed")
        return found
    tables = [pd.read_csv(folder / f"{name}.csv") for folder in (committed, recomputed)]
    return found + differences(tables[0], tables[1], rules.of(name))
