"""Verdicts on the papers' claims: a claim has checks, a check is a number from a table and the rule it must pass."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import pandas as pd

from replication.experiments.configuration import changed_settings

TIGHTER, LOOSER = 0.1, 10.0  # factors on every tolerance, to see how much the verdict rests on it


class Verdict(Enum):
    """What the tables say about a claim."""

    REPRODUCED = "reproduced"
    PARTLY = "partly"
    NOT = "not reproduced"
    NOT_TESTED = "not tested here"


class Rule(Enum):
    """How a measured value must lie to an expected one; the value is its sign."""

    AT_LEAST = "≥"
    AT_MOST = "≤"
    CLOSE_TO = "="

    def deviation(self, value: float, expected: float) -> float:
        """Return the smallest tolerance with which the value passes; NaN for a NaN."""
        if self is Rule.CLOSE_TO:
            return abs(value - expected)
        return max(0.0, expected - value if self is Rule.AT_LEAST else value - expected) if value == value else value


@dataclass(frozen=True)
class Table:
    """A table: what `NAME.csv` holds, the data set that its record names, and which settings are not those in conf/."""

    frame: pd.DataFrame
    dataset: str
    changed: str = ""

    @staticmethod
    def read(folder: Path, name: str) -> Table:
        """Read a table with its record.

        Raises:
            ValueError: if one of the two is missing or unreadable.
        """
        try:
            record = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
            changed = changed_settings(name, record["configuration"])
            return Table(pd.read_csv(folder / f"{name}.csv"), record["dataset"], changed)
        except (OSError, ValueError, KeyError) as error:
            raise ValueError(f"{name} in {folder} is missing or damaged ({error}); run: make {name}") from error


@dataclass(frozen=True)
class Check:
    """One number that speaks to a claim, and the rule it must pass.

    Attributes:
        table: the figure whose table is measured.
        says: what the number is, in words.
        measure: makes the number of the table.
        rule: how the number must lie to `expected`.
        expected: what the claim says.
        tolerance: how far on the wrong side of it, or off it, still passes.
        reason: for the tolerance.
        unit: of all three numbers, with a space before it where it takes one.
    """

    table: str
    says: str
    measure: Callable[[pd.DataFrame], float]
    rule: Rule
    expected: float
    tolerance: float
    reason: str
    unit: str = ""

    def bound(self) -> str:
        """Return the rule in signs, e.g. "≥ 100 − 1 %"."""
        sign = {Rule.AT_LEAST: "−", Rule.AT_MOST: "+", Rule.CLOSE_TO: "±"}[self.rule]
        tolerance = f" {sign} {self.tolerance:g}" if self.tolerance else ""
        return f"{self.rule.value} {self.expected:g}{tolerance}{self.unit}"


@dataclass(frozen=True)
class Claim:
    """What a paper claims.

    Attributes:
        name: unique, the paper's letter first, or "ours".
        source: where the paper says so, or how it is known.
        text: the claim in a sentence.
        checks: what speaks to it, the most telling one first; none where nothing here does.
        assumptions: ids of the reconstructed settings that the checks rest on.
        untested: why nothing here speaks to it.
        dataset: what the tables must be made from, where that matters.
    """

    name: str
    source: str
    text: str
    checks: Sequence[Check] = ()
    assumptions: Sequence[str] = ()
    untested: str = ""
    dataset: str | None = None

    @property
    def paper(self) -> str:
        """The paper's letter, or "ours"."""
        return self.name.partition("-")[0]


def verdict(deviations: Sequence[float], tolerances: Iterable[float]) -> Verdict:
    """Return the verdict on a claim whose checks deviate so much and may deviate so much."""
    passed = [deviation <= tolerance for deviation, tolerance in zip(deviations, tolerances, strict=True)]
    if not passed:
        return Verdict.NOT_TESTED
    return Verdict.REPRODUCED if all(passed) else Verdict.PARTLY if any(passed) else Verdict.NOT


def measured(check: Check, table: pd.DataFrame) -> float:
    """Return a check's number, NaN where the table has no rows for it, as small versions have not."""
    try:
        return float(check.measure(table))
    except (KeyError, ValueError):
        return float("nan")


def no_evidence(name: str, table: Table, dataset: str | None) -> str:
    """Return why a table says nothing about a claim: other settings than those in conf/, other data; else nothing."""
    if table.changed:
        return f"{name} is not made with the settings in conf/ ({table.changed})"
    return f"{name} is not made from {dataset}" if dataset and table.dataset != dataset else ""


def judge(claim: Claim, tables: Mapping[str, Table]) -> list[dict[str, object]]:
    """Return one row for each check of a claim, or one row that says why there is none.

    Args:
        claim: what to judge.
        tables: by figure name, at least those that the claim's checks measure.
    """
    head: dict[str, object] = {"claim": claim.name, "paper": claim.paper, "source": claim.source, "text": claim.text}
    foreign = [why for check in claim.checks if (why := no_evidence(check.table, tables[check.table], claim.dataset))]
    checks = [] if foreign else list(claim.checks)
    values = [measured(check, tables[check.table].frame) for check in checks]
    deviations = [check.rule.deviation(value, check.expected) for check, value in zip(checks, values, strict=True)]
    verdicts = {
        name: verdict(deviations, [factor * check.tolerance for check in checks]).value
        for name, factor in (("verdict", 1.0), ("verdict_tighter", TIGHTER), ("verdict_looser", LOOSER))
    }
    head |= verdicts | {"assumptions": " ".join(claim.assumptions)}
    if not checks:
        return [head | {"reason": foreign[0] if foreign else claim.untested}]
    return [
        head
        | {"figure": check.table, "measure": check.says, "value": value, "unit": check.unit.strip()}
        | {"rule": check.bound(), "tolerance": check.tolerance, "tolerance_needed": deviation}
        | {"passes": deviation <= check.tolerance, "reason": check.reason}
        for check, value, deviation in zip(checks, values, deviations, strict=True)
    ]


def judge_all(claims: Sequence[Claim], folder: Path) -> pd.DataFrame:
    """Return the verdicts on claims as a table with one row for each check.

    Columns: claim, paper, source, text, verdict, verdict_tighter and verdict_looser (all tolerances ten times smaller
    and larger), assumptions, figure, measure, value, unit, rule, tolerance, tolerance_needed (the smallest that
    passes), passes, reason.

    Args:
        claims: what to judge.
        folder: holds the tables and their records.

    Raises:
        ValueError: if a table is missing.
    """
    names = sorted({check.table for claim in claims for check in claim.checks})
    tables = {name: Table.read(folder, name) for name in names}
    return pd.DataFrame([row for claim in claims for row in judge(claim, tables)])


def number(row: pd.Series) -> str:
    """Return a measured value with its unit."""
    plain = row["value"] == 0 or 1e-3 <= abs(row["value"]) < 1e6
    value = f"{row['value']:.4g}" if plain else f"{row['value']:.1e}"
    return f"{value} {row['unit']}".strip()


def totals(table: pd.DataFrame) -> str:
    """Return in words how many claims have which verdict."""
    counts = table.drop_duplicates("claim")["verdict"].value_counts()
    return ", ".join(f"{counts[verdict.value]} {verdict.value}" for verdict in Verdict if verdict.value in counts)


def why(rows: pd.DataFrame) -> str:
    """Return which of a claim's checks fail, or why nothing is tested; nothing for a claim that is reproduced."""
    tested = rows.dropna(subset="figure")
    failed = tested[~tested["passes"].astype(bool)]
    words = [f"{row['measure']}: {number(row)}, not {row['rule']}" for _, row in failed.iterrows()]
    return "; ".join(words) or ("" if len(tested) else str(rows["reason"].iloc[0]))


def short_table(table: pd.DataFrame) -> str:
    """Return the verdicts in Markdown, one line a claim, with what fails or why nothing is tested."""
    lines = [f"**{totals(table)}**\n", "| claim | verdict | figures |", "|---|---|---|"]
    for _, rows in table.groupby("claim", sort=False):
        first, words = rows.iloc[0], why(rows)
        figures = ", ".join(dict.fromkeys(rows["figure"].dropna())) or "–"
        lines.append(f"| {first['text']} | **{first['verdict']}**{': ' * bool(words)}{words} | {figures} |")
    return "\n".join(lines) + "\n"


def summary_table(table: pd.DataFrame, papers: Mapping[str, str]) -> str:
    """Return in Markdown how many of each paper's claims have which verdict, and which are tested and fail.

    The numbers that decide are in the other tables.

    Args:
        table: as `judge_all` returns it.
        papers: what to call each paper, by its letter.
    """
    claims = table.drop_duplicates("claim")
    lines = [f"| paper | {' | '.join(v.value for v in Verdict)} |", "|---|" + "---:|" * len(Verdict)]
    for paper, rows in claims.groupby("paper", sort=False):
        counts = " | ".join(str((rows["verdict"] == v.value).sum()) for v in Verdict)
        lines.append(f"| **{paper}** {papers[str(paper)]} | {counts} |")
    lines.append("")
    short = table[table["verdict"].isin([Verdict.PARTLY.value, Verdict.NOT.value])]
    for _, rows in short.groupby("claim", sort=False):
        first = rows.iloc[0]
        lines.append(f"- *{first['verdict']}* ({first['paper']}): {first['text']}")
    return "\n".join(lines).rstrip() + "\n"


def long_table(table: pd.DataFrame) -> str:
    """Return the verdicts in Markdown, with every check, its rule, its reason, and how the verdict moves with it."""
    parts = [
        "# What the papers claim, and what the tables say\n",
        f"Made by `make claims` from the tables in this folder: {totals(table)}. The last column is the smallest "
        "tolerance with which a check passes. Ids such as A3 are those of docs/assumptions.md: reconstructed settings. "
        "*Reproduced* means that what the words of a claim say holds here; the papers' own numbers are not at hand.\n",
    ]
    for name, rows in table.groupby("claim", sort=False):
        first = rows.iloc[0]
        assumed = f" Rests on {first['assumptions']}." if first["assumptions"] else ""
        parts.append(f"## {name}: {first['verdict']}\n\n{first['text']} *Source: {first['source']}.*{assumed}\n")
        if rows["figure"].isna().all():
            parts.append(f"{first['reason'][0].upper()}{first['reason'][1:]}.\n")
            continue
        lines = [
            "| figure | what is measured | value | rule | passes | because | needs |",
            "|---|---|---|---|---|---|---|",
        ]
        lines += [
            f"| {row['figure']} | {row['measure']} | {number(row)} | {row['rule']} "
            f"| {'yes' if row['passes'] else 'no'} | {row['reason']} | {row['tolerance_needed']:.2g} |"
            for _, row in rows.iterrows()
        ]
        moved = f"Tolerances ten times tighter: {first['verdict_tighter']}; looser: {first['verdict_looser']}."
        parts.append("\n".join(lines) + f"\n\n{moved}\n")
    return "\n".join(parts)


def between_marks(text: str, mark: str, new: str) -> str:
    """Return a text with what stands between <!-- mark --> and <!-- /mark --> replaced.

    Raises:
        ValueError: if the marks are not there.
    """
    start, end = f"<!-- {mark} -->\n", f"<!-- /{mark} -->"
    if start not in text or end not in text:
        raise ValueError(f"the lines {start.strip()} and {end} are not both there; put them back")
    before, rest = text.split(start, 1)
    return before + start + new + end + rest.split(end, 1)[1]


def check_cells(rows: pd.DataFrame) -> list[dict[str, str]]:
    """Return what a page shows of each check: measure, value with its unit, rule, and whether it passes."""
    return [
        {
            "measure": row["measure"],
            "value": number(row),
            "rule": row["rule"],
            "passes": "yes" if row["passes"] else "no",
        }
        for _, row in rows.iterrows()
    ]
