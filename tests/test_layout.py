"""The two halves: the library stands alone, on five packages, and the experiments stand on it."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

PACKAGE = ROOT / "replication"
LIBRARY = [path for path in PACKAGE.rglob("*.py") if "experiments" not in path.parts]
ALLOWED = {"numba", "numpy", "replication", "safetensors", "scipy", "torch"}
OTHERS = ["hydra", "matplotlib", "omegaconf", "pandas", "pytorch_lightning", "rich", "sklearn", "torchvision"]
SLOW = ["torch._dynamo"]  # takes as long to load as all else of the library


def imported(path: Path) -> set[str]:
    """The modules that a file imports, by their full names."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


@pytest.mark.parametrize("path", LIBRARY, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_the_library_imports_its_five_packages_and_none_of_the_experiments(path: Path) -> None:
    names = imported(path)
    assert {name.split(".")[0] for name in names} <= ALLOWED | set(sys.stdlib_module_names)
    assert not {name for name in names if name.startswith("replication.experiments")}


def test_importing_the_library_loads_nothing_of_the_experiments_and_nothing_slow() -> None:
    code = f"import sys, replication; print([name for name in {OTHERS + SLOW} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"
