"""One self-contained page of all figures, with claims, numbers, commands and records."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markdown_it import MarkdownIt
from omegaconf import OmegaConf

from replication.experiments.configuration import title_of
from replication.experiments.studies.claims import Verdict, check_cells, judge_all
from replication.experiments.studies.papers import CLAIMS, PAPERS, paper_of

WHOLE_ROWS, HEAD_ROWS = 12, 6  # a table of at most so many rows is shown whole, of a longer one only the head
PROVENANCE = ("command", "made", "seconds", "dataset", "dataset_checksum", "commit", "hardware", "versions")


@dataclass(frozen=True)
class Entry:
    """A figure on the page.

    Attributes:
        name: of the figure.
        record: how it was made.
        picture: its PNG in base64.
        table: its numbers, whole or only the head.
        rows: number of rows of the whole table.
        words: what the paper says and what is found, in HTML, from the documentation; empty where it says nothing.
        claims: names of the claims that it speaks to, and its checks for each.
    """

    name: str
    record: dict[str, Any]
    picture: str
    table: pd.DataFrame
    rows: int
    words: tuple[str, str] | tuple[()]
    claims: dict[str, list[dict[str, Any]]]

    @property
    def title(self) -> str:
        """What it shows, in one line."""
        return title_of(self.name)

    @property
    def configuration(self) -> str:
        """The configuration in YAML."""
        return OmegaConf.to_yaml(OmegaConf.create(self.record["configuration"]))

    @property
    def provenance(self) -> dict[str, str]:
        """The rest of the record in words."""
        return {key.replace("_", " "): in_words(self.record[key]) for key in PROVENANCE if self.record.get(key)}


def in_words(value: Any) -> str:
    """Return an entry of a record in words.

    >>> in_words({"torch": "2.14", "cuda": None})
    'torch 2.14'
    """
    if isinstance(value, dict):
        return ", ".join(f"{key} {item}" for key, item in value.items() if item is not None)
    return str(value)


def cell(value: Any) -> str:
    """Return a cell of a table, numbers to four digits.

    >>> cell(0.123456), cell(3.0), cell(float("nan"))
    ('0.1235', '3', '')
    """
    if isinstance(value, float):
        return "" if value != value else f"{value:.4g}"
    return str(value)


def words(text: str, name: str) -> tuple[str, str] | tuple[()]:
    """Return what the documentation says of a figure in HTML: what the paper says ("" if nothing), and what we get."""
    section = re.search(rf"^## {name}\n(.*?)(?=^## |\Z)", text, re.DOTALL | re.MULTILINE)
    said = dict(re.findall(r"^(The paper|Here)\n:   (.*)$", section[1], re.MULTILINE)) if section else {}
    if not said:
        return ()
    says, gets = (MarkdownIt().renderInline(said.get(term, "")) for term in ("The paper", "Here"))
    return says, gets


def entry(folder: Path, name: str, text: str, checks: pd.DataFrame) -> Entry:
    """Read a figure.

    Args:
        folder: holds NAME.csv, .png and .json.
        name: of the figure.
        text: of the documentation, as `words` reads it.
        checks: the checks that measure this figure, as `judge_all` returns them.

    Raises:
        ValueError: if one of its files is missing or unreadable.
    """
    try:
        record = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
        table = pd.read_csv(folder / f"{name}.csv")
        picture = base64.b64encode((folder / f"{name}.png").read_bytes()).decode()
    except (OSError, ValueError) as error:
        raise ValueError(f"{name} in {folder} is missing or damaged ({error}); run: make {name}") from error
    shown = table if len(table) <= WHOLE_ROWS else table.head(HEAD_ROWS)
    claims = {str(claim): check_cells(rows) for claim, rows in checks.groupby("claim", sort=False)}
    return Entry(name, record, picture, shown, len(table), words(text, name), claims)


def page(folder: Path, names: Sequence[str], text: str) -> str:
    """Return the page in HTML, everything in it.

    Args:
        folder: holds the figures' files.
        names: of the figures, in order; those without a record in the folder are left out.
        text: that says in words what is found: the documentation's for the committed figures, or "".

    Raises:
        ValueError: if a file of a figure is missing.
    """
    verdicts = judge_all(CLAIMS, folder)
    there = [name for name in names if (folder / f"{name}.json").is_file()]
    entries = [entry(folder, name, text, verdicts[verdicts["figure"] == name]) for name in there]
    claims = [rows.iloc[0].to_dict() | {"figures": list(rows["figure"].dropna().unique())}
              for _, rows in verdicts.groupby("claim", sort=False)]  # fmt: skip
    groups = {paper: [one for one in entries if paper_of(one.name) == paper] for paper in PAPERS}
    template = Environment(
        loader=PackageLoader("replication.experiments"), autoescape=True, trim_blocks=True, lstrip_blocks=True,
        undefined=StrictUndefined,
    )  # fmt: skip
    template.filters["cell"] = cell
    return template.get_template("report.html").render(
        papers=PAPERS,
        groups={paper: entries for paper, entries in groups.items() if entries},
        claims={claim["claim"]: claim for claim in claims},
        counts={v.value: sum(claim["verdict"] == v.value for claim in claims) for v in Verdict},
    )
