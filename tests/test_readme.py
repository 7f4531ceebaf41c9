"""The README: its code runs, its links lead somewhere, and its figures come from the committed tables."""

import io
import re
import subprocess

import pandas as pd
import pytest
import torch
from conftest import ROOT

TEXT = (ROOT / "README.md").read_text()


def test_its_python_runs() -> None:
    torch.manual_seed(0)
    shared: dict[str, object] = {}  # later blocks go on from earlier ones
    for block in re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL):
        exec(compile(block, "README.md", "exec"), shared)


def test_its_files_exist() -> None:
    for path in re.findall(r"\]\(((?!http|#)[^)]+)\)", TEXT):
        assert (ROOT / path).is_file(), path


def committed(name: str) -> pd.DataFrame:
    """A table as it was committed, whatever has been made since."""
    try:
        shown = subprocess.run(
            ["git", "-C", str(ROOT), "show", f"HEAD:figures/{name}.csv"], capture_output=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    return pd.read_csv(io.BytesIO(shown.stdout))


def test_its_numbers_are_those_of_the_committed_tables() -> None:
    for name in ("fig2", "fig3"):
        sweep = committed(name)
        row = next(line for line in TEXT.splitlines() if line.startswith(f"| {name} "))
        at_two = sweep[sweep["gamma"].round(6) == 2].set_index(["ensemble", "quantity"])
        for case in (("gram", "existing"), ("gaussian", "existing"), ("gaussian", "proposed")):
            percent, low, high = at_two.loc[case, ["percent", "ci_low", "ci_high"]]
            assert f"{percent:.1f} % [{low:.1f}, {high:.1f}]" in row
    errors = committed("fig5").groupby("method")["relative_error_percent"]
    assert errors.max()["proposed"] <= 3.8e-7
    assert f"{errors.min()['existing']:.0f} to {errors.max()['existing']:.0f} %" in TEXT
    families = committed("table1").groupby("family")["test_accuracy"]
    for accuracy in (*families.get_group("monotone"), *families.get_group("standard")):
        assert f"{accuracy:.2f}" in TEXT
