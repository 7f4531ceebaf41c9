"""Recomputed tables against committed ones: what differs is named, what may differ is declared, and no rule is idle."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from commands import run_script
from conftest import ROOT

from replication.experiments.pipeline import usual_seconds
from replication.experiments.studies.verification import Agreement, Rules, agreement, differences, verify

FIGURES = ROOT / "figures"
RULES = Rules.read(ROOT / "conf" / "verify.yaml")
EXACT = (Agreement(),)
TABLE = pd.DataFrame({"method": ["a", "b"], "value": [1.0, np.nan], "low": [0.5, 0.5], "high": [2.0, 2.0]})


def changed(column: str, row: int, value: object) -> pd.DataFrame:
    table = TABLE.copy()
    table.loc[row, column] = value
    return table


def copied(name: str, folder: Path) -> Path:
    """Copy a figure's table and record."""
    folder.mkdir(exist_ok=True)
    for kind in ("csv", "json"):
        shutil.copy(FIGURES / f"{name}.{kind}", folder)
    return folder


@pytest.mark.parametrize("path", sorted(FIGURES.glob("*.json")), ids=lambda path: path.stem)
def test_every_committed_table_agrees_with_itself_and_with_its_record(path: Path) -> None:
    assert verify(path.stem, FIGURES, FIGURES, RULES) == []


def test_every_rule_fits_a_cell_that_no_earlier_one_took() -> None:
    for name, rules in RULES.tables.items():
        table = pd.read_csv(FIGURES / f"{name}.csv")
        taken = {column: np.zeros(len(table), dtype=bool) for column in table}
        for rule in rules:
            new = {column: rule.fits(column, table) & ~taken[column] for column in table}
            assert any(cells.any() for cells in new.values()), f"{name}: {rule.columns} {rule.rows}"
            taken = {column: taken[column] | new[column] for column in table}


def test_a_difference_names_row_column_and_both_values() -> None:
    (found,) = differences(TABLE, changed("value", 0, 1.25), EXACT)
    for word in ("line 2", "method a", "value", "committed 1.0", "recomputed 1.25"):
        assert word in found


@pytest.mark.parametrize(
    ("column", "row", "value"), [("method", 1, "c"), ("value", 1, 0.0), ("value", 0, np.nan), ("value", 0, np.inf)]
)
def test_text_and_missing_numbers_must_be_equal(column: str, row: int, value: object) -> None:
    assert len(differences(TABLE, changed(column, row, value), (Agreement(relative=1.0, absolute=1.0),))) == 1
    assert differences(TABLE, TABLE, EXACT) == []


def test_a_number_may_differ_by_its_tolerance_and_no_more() -> None:
    rules = (Agreement(("value",), relative=0.1, absolute=0.01), *EXACT)
    assert differences(TABLE, changed("value", 0, 1.105), rules) == []
    assert len(differences(TABLE, changed("value", 0, 1.115), rules)) == 1


def test_a_statistical_number_must_lie_in_the_committed_interval() -> None:
    rules = (Agreement(("value",), interval=("low", "high")), *EXACT)
    assert differences(TABLE, changed("value", 0, 1.9), rules) == []
    assert len(differences(TABLE, changed("value", 0, 2.1), rules)) == 1


def test_the_first_rule_that_fits_holds_and_times_are_not_compared() -> None:
    rules = (Agreement(("val*",), rows="method == 'a'", ignore="time"), *EXACT)
    assert differences(TABLE, changed("value", 0, 99.0), rules) == []
    assert len(differences(TABLE, changed("value", 1, 99.0), rules)) == 1


def test_other_rows_or_columns_are_named() -> None:
    assert "there are 1 rows, not 2" in differences(TABLE, TABLE.head(1), EXACT)[0]
    assert "the columns are" in differences(TABLE, TABLE.drop(columns="low"), EXACT)[0]


def test_a_share_outside_the_interval_of_a_sweep_is_found() -> None:
    table = pd.read_csv(FIGURES / "fig2.csv")
    row = table.query("quantity == 'existing' and 30 < percent < 60").index[0]
    certified = table.query("quantity == 'p_matrix' and 30 < percent < 60").index[0]
    other = table.copy()
    other.loc[row, "percent"] += 1.0  # within the interval
    assert differences(table, other, RULES.of("fig2")) == []
    other.loc[row, "percent"] += 9.0
    other.loc[certified, "percent"] += 0.2  # one case; deterministic
    assert len(differences(table, other, RULES.of("fig2"))) == 2


def test_a_table_changed_by_hand_and_other_data_are_found(tmp_path: Path) -> None:
    folder = copied("fig4", tmp_path / "changed")
    (folder / "fig4.csv").write_text((folder / "fig4.csv").read_text().replace("converged", "diverged", 1))
    assert "changed by hand" in verify("fig4", folder, FIGURES, RULES)[0]
    other = copied("fig4", tmp_path / "other")
    record = json.loads((other / "fig4.json").read_text()) | {"dataset": "digits"}
    (other / "fig4.json").write_text(json.dumps(record))
    assert verify("fig4", FIGURES, other, RULES) == ["recomputed from digits, not from MNIST as committed"]


def test_an_unknown_entry_of_a_rule_is_refused() -> None:
    with pytest.raises(TypeError, match="relativ"):
        agreement({"columns": ["value"], "relativ": 0.1})


def test_the_fast_tables_need_no_data_and_little_time() -> None:
    records = [json.loads((FIGURES / f"{name}.json").read_text()) for name in RULES.fast]
    assert all(record["dataset_checksum"] is None for record in records)
    assert sum(usual_seconds(FIGURES / f"{name}.json") for name in RULES.fast) < 180


@pytest.mark.slow
def test_the_command_recomputes_and_fails_where_a_table_differs(tmp_path: Path) -> None:
    folder = copied("fig7", tmp_path)
    table = pd.read_csv(folder / "fig7.csv")
    table.loc[5, "y1"] += 1e-3
    content = table.to_csv(index=False).encode()
    record = json.loads((folder / "fig7.json").read_text())
    record["sha256"]["fig7.csv"] = hashlib.sha256(content).hexdigest()
    (folder / "fig7.csv").write_bytes(content)
    (folder / "fig7.json").write_text(json.dumps(record))
    done = run_script("verify", "fig7", "--against", str(folder))
    assert done.returncode == 1
    assert "fig7: in 1 places" in done.stdout
    assert "line 7" in done.stdout
    assert "y1: committed" in done.stdout


@pytest.mark.slow
def test_the_command_finds_the_committed_digits_again(mnist_folder: Path) -> None:
    done = run_script("verify", "fig4")
    assert done.returncode == 0, done.stdout
    assert "1 of 1 tables agree" in done.stdout


def test_the_command_names_the_figures_there_are() -> None:
    done = run_script("verify", "fig99")
    assert done.returncode == 1
    assert "there is no figure fig99; there are fig1," in done.stderr
