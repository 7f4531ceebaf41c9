"""Verdicts on the papers' claims: each can fail, and what is committed is what the committed tables say."""

from __future__ import annotations

import json
import shutil
from functools import cache
from pathlib import Path

import pandas as pd
import pytest
from builders import composed
from conftest import ROOT

from replication.experiments.configuration import as_read, changed_settings, configuration_of
from replication.experiments.studies.claims import (
    Check,
    Claim,
    Rule,
    Table,
    between_marks,
    judge,
    judge_all,
    long_table,
    short_table,
    summary_table,
)
from replication.experiments.studies.papers import CLAIMS, PAPERS

FIGURES = ROOT / "figures"
TABLES = sorted({check.table for claim in CLAIMS for check in claim.checks})
CHECKS = [
    pytest.param(check, id=f"{claim.name}-{place}") for claim in CLAIMS for place, check in enumerate(claim.checks)
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the tables and records that the claims need."""
    for name in TABLES:
        for kind in ("csv", "json"):
            shutil.copy(FIGURES / f"{name}.{kind}", tmp_path)
    return tmp_path


def of(table: pd.DataFrame, claim: str) -> pd.Series:
    return table[table["claim"] == claim].iloc[0]


def edit(folder: Path, name: str, column: str, value: object, rows: str = "index >= 0") -> None:
    table = pd.read_csv(folder / f"{name}.csv")
    table.loc[table.eval(rows), column] = value
    table.to_csv(folder / f"{name}.csv", index=False)


@pytest.mark.parametrize(
    ("claim", "name", "column", "value", "rows"),
    [
        ("A-conditions", "fig2", "percent", 90.0, "quantity == 'exact'"),
        ("A-algorithm", "fig3", "percent", 50.0, "quantity == 'proposed' and ensemble == 'gram'"),
        ("A-fig3", "fig3", "cases", 40, "index >= 0"),
        ("A-fig4", "fig4", "relative_error", 1e-3, "method == 'proposed'"),
        ("A-fig5", "fig5", "relative_error_percent", 1.0, "index == 17"),
        ("A-accuracy", "table1", "test_accuracy", 98.0, "family == 'monotone-special' and seed == 1"),
        ("A-hidden-layers", "table1", "certified_units", 5, "family == 'monotone-special' and seed == 2"),
        ("B-condition", "fig6", "percent", 3.0, "quantity == 'unknown' and gamma > 10"),
        ("B-padding", "figB1", "count", 0, "quantity == 'first_tap'"),
        ("D-below", "figD2", "percent", 100.0, "n == 5000 and expansivity > 3"),
        ("D-above", "figD1", "percent", 0.0, "n == 100 and quantity == 'union_bound'"),
        ("D-constant", "figD4", "smallest_ratio", 0.1, "layer == 'orthogonal_frame' and case == 0"),
        ("ours-sound", "fig9", "percent", 0.0, "quantity == 'p_matrix' and gamma < 0.6"),
        ("ours-stable", "fig9", "percent", 50.0, "quantity == 'diagonal_stability' and gamma < 0.6"),
        ("ours-newton", "fig9", "percent", 50.0, "quantity == 'newton_gmres' and gamma < 0.6"),
        ("E1-recovered", "figE1", "weight_error", 0.1, "hidden_layers == 1 and seed == 3"),
        ("E1-bends", "figE1", "angle_error", 0.1, "layers == '1-2' and seed == 2"),
        ("E1-queries", "figE1", "queries", 10**6, "widths == '40-80-1'"),
        ("ours-folds", "fig10", "verdict", "unknown", "network == 'standard' and block == 2"),
        ("ours-penalty", "fig10", "norms", 0.5, "network == 'penalised' and block == 3"),
        ("ours-branches", "bench_branches", "recovered_percent", 99.0, "branch == 'GELU, one layer'"),
        ("E4-basis", "figE4", "value", 7.0, "part == 'structure' and quantity == 'rank'"),
        ("E4-invariant", "figE4", "value", 0.5, "part == 'invariance'"),
        ("E5-explicit", "figE5", "value", 1e-9, "quantity == 'relative_error'"),
        ("E5-sufficient", "figE5", "value", 0.1, "quantity == 'error' and depth == 10000"),
        ("D-digits", "figD3", "output_distance", 0.5, "layer == 'gaussian' and image == 'other'"),
    ],
)
def test_a_changed_table_changes_the_verdict(
    folder: Path, claim: str, name: str, column: str, value: object, rows: str
) -> None:
    alone = [other for other in CLAIMS if other.name == claim]
    assert of(judge_all(alone, folder), claim)["verdict"] == "reproduced"
    edit(folder, name, column, value, rows)
    assert of(judge_all(alone, folder), claim)["verdict"] in ("partly", "not reproduced")


@cache
def committed_table(name: str) -> Table:
    return Table.read(FIGURES, name)


@pytest.mark.parametrize("check", CHECKS)
def test_every_check_measures_a_number_and_fails_without_one(check: Check) -> None:
    table = committed_table(check.table).frame.copy()
    assert check.measure(table) == check.measure(table)  # not NaN
    assert not check.rule.deviation(float("nan"), check.expected) <= check.tolerance
    assert check.says
    assert check.reason


def test_verdicts_are_what_the_checks_make_them() -> None:
    def claim(*expected: float, tolerance: float = 0.0) -> Claim:
        checks = tuple(
            Check("fig", "ones", lambda t: t["x"].sum(), Rule.CLOSE_TO, value, tolerance, "because")
            for value in expected
        )
        return Claim("X", "abstract", "Something.", checks, untested="nothing to measure")

    tables = {"fig": Table(pd.DataFrame({"x": [1.0, 1.0]}), "random units")}

    def verdicts(claim: Claim) -> tuple[object, ...]:
        row = judge(claim, tables)[0]
        return row["verdict_tighter"], row["verdict"], row["verdict_looser"]

    assert verdicts(claim(2)) == ("reproduced", "reproduced", "reproduced")
    assert verdicts(claim(2, 3)) == ("partly", "partly", "partly")
    assert verdicts(claim(3)) == ("not reproduced",) * 3
    assert verdicts(claim()) == ("not tested here",) * 3
    assert verdicts(claim(2.5, tolerance=1.0)) == ("not reproduced", "reproduced", "reproduced")
    assert verdicts(claim(4, tolerance=0.5)) == ("not reproduced", "not reproduced", "reproduced")


def test_one_sided_rules_ask_nothing_of_the_other_side() -> None:
    assert Rule.AT_LEAST.deviation(5, 3) == Rule.AT_MOST.deviation(1, 3) == 0
    assert Rule.AT_LEAST.deviation(1, 3) == Rule.AT_MOST.deviation(5, 3) == Rule.CLOSE_TO.deviation(1, 3) == 2


def test_claims_about_mnist_are_not_judged_by_other_digits() -> None:
    claim = next(claim for claim in CLAIMS if claim.name == "A-fig4")
    rows = judge(claim, {"fig4": Table(Table.read(FIGURES, "fig4").frame, "scikit-learn digits")})
    assert [row["verdict"] for row in rows] == ["not tested here"]
    assert "MNIST" in str(rows[0]["reason"])


def test_tables_of_changed_settings_are_not_judged(folder: Path) -> None:
    record = json.loads((folder / "fig2.json").read_text(encoding="utf-8"))
    record["configuration"]["sweep"]["d"] = 20
    (folder / "fig2.json").write_text(json.dumps(record), encoding="utf-8")
    table = judge_all(CLAIMS, folder)
    told = [claim.name for claim in CLAIMS if any(check.table == "fig2" for check in claim.checks)]
    assert told
    for claim in told:
        row = of(table, claim)
        assert row["verdict"] == "not tested here"
        assert row["reason"] == "fig2 is not made with the settings in conf/ (sweep.d=20, not 10)"
    assert of(table, "A-fig3")["verdict"] == "reproduced"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"threads": 8}, "threads=8, not 1"),  # conf/ names a number
        ({"seed": 3}, "seed=3, not 0"),
        ({"new": 1}, "new=1"),
        ({"sweep": None}, "sweep.solvers.existing._target_=None, not"),
        ({}, ""),
    ],
)
def test_every_changed_setting_counts(change: dict, expected: str) -> None:
    made_with = as_read(configuration_of(composed("fig2"))) | change
    found = changed_settings("fig2", made_with)
    assert found.startswith(expected) if expected else found == ""


def test_what_changes_no_result_does_not_count() -> None:
    for options in (("threads=3",), ("trainer.enable_progress_bar=false",), ("logger=tensorboard",)):
        assert changed_settings("fig5", as_read(configuration_of(composed("fig5", *options)))) == ""
    assert changed_settings("fig5", as_read(configuration_of(composed("fig5", "unit=causal"))))


def test_committed_figures_are_made_with_the_committed_settings() -> None:
    for path in sorted(FIGURES.glob("*.json")):
        assert changed_settings(path.stem, json.loads(path.read_text(encoding="utf-8"))["configuration"]) == ""


def test_a_missing_table_ends_in_a_sentence_that_names_the_command(folder: Path) -> None:
    (folder / "fig5.csv").unlink()
    with pytest.raises(ValueError, match="run: make fig5"):
        judge_all(CLAIMS, folder)


def test_names_are_unique_and_assumptions_are_those_of_the_documentation() -> None:
    assert len({claim.name for claim in CLAIMS}) == len(CLAIMS)
    listed = (ROOT / "docs" / "assumptions.md").read_text()
    for claim in CLAIMS:
        assert claim.checks or claim.untested
        for assumption in claim.assumptions:
            assert f"| {assumption} |" in listed


def test_the_committed_verdicts_are_those_of_the_committed_tables() -> None:
    table = judge_all(CLAIMS, FIGURES)
    assert (FIGURES / "claims.csv").read_text() == table.to_csv(index=False, float_format="%.6g")
    assert (FIGURES / "claims.md").read_text() == long_table(table)
    readme = (ROOT / "README.md").read_text()
    assert readme == between_marks(readme, "verdicts", summary_table(table, PAPERS)), "run: make claims"


def test_a_claim_that_fails_is_named_in_all_tables_and_its_number_on_the_papers_page(folder: Path) -> None:
    edit(folder, "fig4", "relative_error", 1e-3, "method == 'proposed'")
    table = judge_all(CLAIMS, folder)
    text = next(claim.text for claim in CLAIMS if claim.name == "A-fig4")
    assert text in summary_table(table, PAPERS)
    assert text in short_table(table)
    assert "largest relative error of the proposed method: 0.001, not ≤ 0 + 1e-06" in short_table(table)


def test_lost_marks_are_reported() -> None:
    with pytest.raises(ValueError, match="put them back"):
        between_marks("no marks here", "verdicts", "new")
