"""The reference run's environment: constraints that fit the ranges, and records that were made with them."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path

import pytest
from builders import composed
from conftest import ROOT, Refusal
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

LINES = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
LOCKED = datetime.fromisoformat(re.search(r"\d{4}-\d\d-\d\d", LINES[0])[0]).replace(tzinfo=timezone.utc)
CONSTRAINTS = {canonicalize_name(r.name): r for r in map(Requirement, LINES[2:])}
RECORDS = {
    path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted((ROOT / "figures").glob("*.json"))
}


def dependencies() -> list[tuple[str, str]]:
    """Every dependency in pyproject.toml, with the comment beside it."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    text = text[text.index("dependencies = [") : text.index("[tool.")]
    return re.findall(r'"([A-Za-z][\w.-]*(?:\[[\w,]+\])?(?:[<>=][^"]*)?)"\]?,?[ \t]*(#.*)?', text)


def version_of(name: str) -> str:
    return next(iter(CONSTRAINTS[canonicalize_name(name)].specifier)).version


def test_every_dependency_has_a_reason_and_a_locked_version_within_its_range() -> None:
    found = dependencies()
    assert len(found) >= 20
    for line, reason in found:
        assert len(reason) > 5, f"{line} has no reason"
        requirement = Requirement(line)
        if requirement.name not in ("replication-rectifier", "tensorboard"):
            assert requirement.specifier.contains(version_of(requirement.name)), line


def test_constraints_are_versions_alone_for_the_reference_python_alone() -> None:
    for line in LINES[2:]:
        assert re.fullmatch(r'[a-z0-9-]+==[\w.]+ ; python_version == "3\.\d+" and sys_platform == "linux"', line), line
    assert all(not re.search(r"://|index|/", line) for line in LINES[2:])


@pytest.mark.parametrize("name", RECORDS)
def test_records_made_since_the_lock_have_its_versions_and_older_ones_lie_in_the_ranges(name: str) -> None:
    record = RECORDS[name]
    versions = {
        library: found for library, found in record["versions"].items() if library not in ("replication", "python")
    }
    if datetime.fromisoformat(record["made"]) >= LOCKED:
        assert versions == {library: version_of(library) for library in versions}
        assert f"Python {record['versions']['python']}" in LINES[0]
    ranges = {Requirement(line).name: Requirement(line).specifier for line, _ in dependencies()}
    for library, version in versions.items():
        assert ranges[library].contains(version), f"{library} {version}"


def test_some_records_were_made_since_the_lock() -> None:
    assert any(datetime.fromisoformat(record["made"]) >= LOCKED for record in RECORDS.values())


def test_no_test_reaches_a_server_and_trying_is_noticed() -> None:
    ask = (
        "import urllib.request; urllib.request.urlopen('http://ossci-datasets.s3.amazonaws.com/mnist/a.gz', timeout=60)"
    )
    with pytest.raises(OSError, match="403"):
        exec(ask)
    done = subprocess.run([sys.executable, "-c", ask.replace("http", "https")], capture_output=True, text=True)
    assert done.returncode == 1
    with socket.socket() as direct, pytest.raises(OSError, match=r"tests do not reach 192\.0\.2\.1"):
        direct.connect(("192.0.2.1", 80))
    assert len(Refusal.asked) == 3
    assert all("amazonaws" in asked or "192.0.2.1" in asked for asked in Refusal.asked)
    Refusal.asked.clear()


def test_the_data_folder_is_seen_through_fixtures_alone(tmp_path: Path) -> None:
    assert not Path(os.environ["REPLICATION_DATA"]).exists()
    config = composed("train", "data=mnist")
    assert config.data.data_dir == os.environ["REPLICATION_DATA"]
    names = {path.name: path.read_text(encoding="utf-8") for path in (ROOT / "tests").glob("*.py")}
    forbidden = "REPLICATION_TEST" + "_DATA"
    assert [name for name, text in names.items() if forbidden in text] == ["conftest.py"]


def test_the_continuous_run_tests_without_data_and_with() -> None:
    lines = [line.split(" #")[0].strip() for line in (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()]
    bare, data = lines.index("make test-all"), lines.index("make test-all ONLY=data")
    assert lines.index("unset REPLICATION_DATA") < bare < lines.index("export REPLICATION_DATA=../shared/data") < data


COMPILE = """
import sys
import numpy as np
import numba.core.caching as caching
if sys.argv[1] == "read-only":
    def refuse(self):
        raise OSError(30, "Read-only file system")
    caching._CacheLocator.ensure_cache_path = refuse
import replication
from replication import compiled
def twice(x):
    for i in range(len(x)):
        x[i] *= 2
twice.__module__ = "replication.compiled"
twice = compiled.compiled(twice)
x = np.ones(2)
twice(x); twice(x); twice(np.ones((2, 2))[0])
print(x, twice.stats.cache_path)
"""


@pytest.mark.slow
@pytest.mark.parametrize("place", ["read-only", "writable"])
def test_the_package_works_where_nothing_can_be_written_and_says_once_that_it_compiles(
    place: str, tmp_path: Path
) -> None:
    script = tmp_path / "script.py"
    script.write_text(COMPILE)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, script, place], env=environment, capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("[4. 4.]")
    kept = "kept for the next time" if place == "writable" else "unless NUMBA_CACHE_DIR names a folder to keep it"
    assert re.fullmatch(rf"compiling the loops of this package: some seconds, .*{kept}\n", done.stderr), done.stderr
    if place == "writable":  # read from the disk, and nothing said
        again = subprocess.run([sys.executable, script, place], env=environment, capture_output=True, text=True)
        assert again.stderr == ""
