"""The README: its code runs, its links lead somewhere, and its figures come from the committed tables."""

import re

import pandas as pd
import torch
from conftest import ROOT

TEXT = (ROOT / "README.md").read_text()


def test_its_python_runs() -> None:
    torch.manual_seed(0)
    for block in re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL):
        exec(compile(block, "README.md", "exec"), {})


def test_its_files_exist() -> None:
    for path in re.findall(r"\]\(((?!http|#)[^)]+)\)", TEXT):
        assert (ROOT / path).is_file(), path


def test_its_numbers_are_those_of_the_committed_tables() -> None:
    for name in ("fig2", "fig3"):
        sweep = pd.read_csv(ROOT / "figures" / f"{name}.csv")
        row = next(line for line in TEXT.splitlines() if line.startswith(f"| {name} "))
        at_two = sweep[sweep["gamma"].round(6) == 2].set_index(["ensemble", "quantity"])
        for case in (("gram", "existing"), ("gaussian", "existing"), ("gaussian", "proposed")):
            percent, low, high = at_two.loc[case, ["percent", "ci_low", "ci_high"]]
            assert f"{percent:.1f} % [{low:.1f}, {high:.1f}]" in row
    errors = pd.read_csv(ROOT / "figures" / "fig5.csv").groupby("method")["relative_error_percent"]
    assert errors.max()["proposed"] <= 3.8e-7
    assert f"{errors.min()['existing']:.0f} to {errors.max()['existing']:.0f} %" in TEXT
    families = pd.read_csv(ROOT / "figures" / "table1.csv").groupby("family")["test_accuracy"]
    for accuracy in (*families.get_group("monotone"), *families.get_group("standard")):
        assert f"{accuracy:.2f}" in TEXT
