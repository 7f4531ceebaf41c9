"""What a figure is made from: every file that it uses, and no other; what was made from other files is made again."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from commands import python
from conftest import ROOT
from omegaconf import OmegaConf

from replication.experiments.configuration import committed
from replication.experiments.pipeline import figure_names
from replication.experiments.records import made_from
from replication.experiments.sources import files_of

WATCH = """
import runpy, sys, threading
from pathlib import Path
root = Path.cwd()
script, *words = sys.argv[1:]
runpy.run_path(script)  # imports all that it needs, which calls functions that the figure does not
seen = set()
def watch(frame, event, argument):
    if event == "call":
        seen.add(frame.f_code.co_filename)
sys.argv = [script, *words]
threading.setprofile(watch)
sys.setprofile(watch)
try:
    runpy.run_path(script, run_name="__main__")
finally:
    sys.setprofile(None)
    places = [Path(name) for name in seen]
    print("USED", *sorted(p.relative_to(root).as_posix() for p in places if p.is_relative_to(root / "replication")))
"""


@pytest.fixture(scope="module")
def files() -> dict[str, set[str]]:
    """The files that every figure is made from."""
    return {
        name: set(files_of(name, OmegaConf.to_container(committed(name), resolve=False), (), ROOT))
        for name in figure_names()
    }


def test_files_belong_to_the_figures_that_use_them_and_to_no_other(files: dict[str, set[str]]) -> None:
    experiments = "replication/experiments"
    users = {
        f"{experiments}/plots/fig2.py": {"fig2"},
        f"{experiments}/plots/digits.py": {"fig10", "fig4", "figB3", "figB4", "figD3"},
        f"{experiments}/studies/collision.py": {"fig7"},
        f"{experiments}/studies/step_process.py": {"figC2", "tableC"},  # run as a process of its own
        f"{experiments}/studies/expansivity.py": {"figD1", "figD2"},
        f"{experiments}/data/colour.py": {"figC3"},
        "conf/fig3.yaml": {"fig3"},
        "conf/gamma_sweep.yaml": {"fig2", "fig3", "fig6"},
        "scripts/fig4.py": {"fig4"},
        "README.md": set(),
        "conf/solver/newton_cg.yaml": {"bench_network"},
    }
    for file, expected in users.items():
        assert (ROOT / file).is_file(), file
        assert {name for name in files if file in files[name]} == expected, file
    for file in ("replication/maps/rectifier.py", "conf/base.yaml", f"{experiments}/plots/replication.mplstyle"):
        assert {name for name in files if file in files[name]} >= {"fig2", "fig4", "table1", "bench_solvers"}, file
    assert "conf/solver/exact.yaml" in files["bench_solvers"]
    assert "conf/trainer/default.yaml" in files["fig4"]


def test_every_file_named_is_there(files: dict[str, set[str]]) -> None:
    for name, paths in files.items():
        assert {f"scripts/{name}.py", f"conf/{name}.yaml", "conf/paths/default.yaml"} <= paths
        assert all((ROOT / path).is_file() for path in paths)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("fig7", ["points=7"]),
        ("fig3", ["sweep.cases=5", "sweep.gamma.values=3", "sweep.d=4"]),
        ("figD4", ["study.sizes=[[2,2]]", "study.pairs=50", "study.inputs=5"]),
    ],
)
def test_no_file_is_forgotten_whose_functions_are_called(
    files: dict[str, set[str]], name: str, options: list[str], tmp_path: Path
) -> None:
    words = [f"scripts/{name}.py", *options, f"paths.figures_dir={tmp_path}", f"paths.outputs_dir={tmp_path}"]
    done = python(WATCH, *words)
    assert done.returncode == 0, done.stderr
    used = set(done.stdout.splitlines()[-1].split()[1:])
    assert len(used) > 10
    assert used <= files[name]


@pytest.mark.slow
def test_what_was_made_from_other_files_is_made_again(tmp_path: Path) -> None:
    copy = tmp_path / "checkout"
    for folder in ("replication", "conf", "scripts"):
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for name in figure_names():
        sources = made_from(name, committed(name), ())
        record = {"made": "then", "sha256": {}, "sources": sources}
        for path, content in (
            (copy / "figures" / f"{name}.json", record),
            (copy / "outputs" / "made" / f"{name}.json", {"made": "then", "data": []}),
        ):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(content))

    def listed() -> dict[str, str]:
        environment = {key: value for key, value in os.environ.items() if key != "REPLICATION_DATA"}
        done = subprocess.run(
            [sys.executable, "scripts/make.py", "--list", *figure_names()], cwd=copy, capture_output=True, text=True,
            check=True, env=environment | {"PYTHONPATH": str(copy)},
        )  # fmt: skip
        return dict(line.split(": ", 1) for line in done.stdout.splitlines())

    assert set(listed().values()) == {"made"}
    for file in ("replication/experiments/plots/digits.py", "conf/figC1.yaml", "replication/relu_layers/stability.py"):
        with (copy / file).open("a") as opened:
            opened.write("\n# changed\n")
    (copy / "figures" / "fig7.json").unlink()
    (copy / "data" / "MNIST" / "raw").mkdir(parents=True)
    (copy / "data" / "MNIST" / "raw" / "some").touch()
    stale = {name: why for name, why in listed().items() if why != "made"}
    assert stale["fig7"] == "not made here yet"
    assert "replication/experiments/plots/digits.py" in stale["figB4"]
    assert "conf/figC1.yaml" in stale["figC1"]
    assert "replication/relu_layers/stability.py" in stale["figD4"]
    assert stale["table1"] == "made again elsewhere, or other data are at hand"
    assert not {"fig2", "fig3", "fig6", "figB1", "figC2", "bench_solvers"} & set(stale)
