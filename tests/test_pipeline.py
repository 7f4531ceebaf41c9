"""What there is to make, which of it is done, and a reproduction that goes on after it was killed."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from commands import run_script
from conftest import ROOT
from omegaconf import OmegaConf

from replication.experiments import copies
from replication.experiments.pipeline import Stage, figure_stage, is_whole, plan, quick_first, stages
from replication.experiments.running import alone, run, run_all, time_left

SCRIPT = [sys.executable, "scripts/reproduce.py", "--fast"]


def test_the_plan_has_every_figure_and_every_trained_network() -> None:
    shown = {path.stem for path in (ROOT / "conf").glob("*.yaml") if "title" in OmegaConf.load(path)}
    names = [stage.name for stage in stages(ROOT / "outputs" / "none")]
    weights = {path.stem for path in (ROOT / "weights").glob("*.json") if not path.stem.startswith("digits")}
    assert len(names) == len(set(names))
    assert shown | weights <= set(names)
    assert max(map(names.index, weights)) < min(map(names.index, shown))  # trainings come first


def test_every_stage_has_a_usual_duration_from_its_record(tmp_path: Path) -> None:
    for stage in stages(tmp_path):
        assert stage.usual > 0, stage.name


def test_stages_write_into_their_folder_alone(tmp_path: Path) -> None:
    for fast in (False, True):
        for stage in stages(tmp_path, fast):
            assert stage.made.is_relative_to(tmp_path)
            for kind in ("figures", "weights", "outputs"):
                assert f"paths.{kind}_dir={tmp_path / kind}" in stage.command


def test_the_fast_version_is_small_and_needs_no_mnist(tmp_path: Path) -> None:
    commands = {stage.name: stage.command for stage in stages(tmp_path, fast=True)}
    assert {"data=digits", "trainer.max_epochs=1"} <= set(commands["digits-monotone-0"])
    assert "data=digits" in commands["figD3"]
    assert "trainer.max_epochs=1" not in commands["figD3"]
    assert "sweep.cases=40" in commands["fig2"]
    assert dict(plan())["fig2"] == ()


def test_a_result_counts_only_when_all_its_files_are_whole(tmp_path: Path) -> None:
    for kind in ("csv", "json", "png", "pdf"):
        shutil.copy(ROOT / "figures" / f"fig7.{kind}", tmp_path)
    record = tmp_path / "fig7.json"
    assert is_whole(record)
    picture = (tmp_path / "fig7.png").read_bytes()
    (tmp_path / "fig7.png").write_bytes(picture[:-1])
    assert not is_whole(record)
    (tmp_path / "fig7.png").unlink()
    assert not is_whole(record)
    (tmp_path / "fig7.png").write_bytes(picture)
    record.write_text(record.read_text()[:-10])
    assert not is_whole(record)


def test_weights_count_only_with_both_files(tmp_path: Path) -> None:
    record = tmp_path / "digits-monotone-0.json"
    assert not is_whole(record)
    weights = record.with_suffix(".safetensors")
    record.write_text(json.dumps({"sha256": {weights.name: hashlib.sha256(b"weights").hexdigest()}}))
    assert not is_whole(record)
    weights.write_bytes(b"weights")
    assert is_whole(record)


def test_a_stage_that_fails_says_why_and_where_the_log_is(tmp_path: Path) -> None:
    script = tmp_path / "figX.py"
    script.write_text("print('at work')\nraise SystemExit('error: no disk left')")
    stage = Stage("figX", (str(script),), tmp_path, 1.0)
    with pytest.raises(ValueError, match=r"figX failed: error: no disk left .*figX\.log") as error:
        run(stage, tmp_path / "logs")
    assert "at work" in (tmp_path / "logs" / "figX.log").read_text()
    assert "Traceback" not in str(error.value)


def test_stages_run_side_by_side_with_one_thread_and_those_that_measure_times_alone(tmp_path: Path) -> None:
    noting = tmp_path / "noting.py"
    noting.write_text(
        "import os, pathlib, sys, time\n"
        "pathlib.Path(sys.argv[1]).write_text(f\"{time.time()} {os.environ['OMP_NUM_THREADS']}\")\n"
        "time.sleep(0.7)\n"
        "pathlib.Path(sys.argv[1]).open('a').write(f' {time.time()}')\n"
    )
    names = {"timed": True, "first": False, "second": False}
    todo = [
        Stage(name, (str(noting), str(tmp_path / name)), tmp_path, 1.0, measured) for name, measured in names.items()
    ]
    done = [stage.name for stage, _ in run_all(todo, tmp_path / "logs", at_once=2)]
    noted = {name: [float(word) for word in (tmp_path / name).read_text().split()] for name in names}
    assert done[-1] == "timed"
    assert noted["first"][0] < noted["second"][2]
    assert noted["second"][0] < noted["first"][2]
    assert noted["timed"][0] >= max(noted["first"][2], noted["second"][2])
    assert {threads for _, threads, _ in noted.values()} == {1}


def test_quick_figures_come_first_and_then_the_longest(tmp_path: Path) -> None:
    order = quick_first(Stage(str(seconds), (), tmp_path, seconds) for seconds in (100.0, 20.0, 500.0, 6.0))
    assert [stage.usual for stage in order] == [6.0, 20.0, 500.0, 100.0]
    measured = [name for name, _ in plan() if name != "train" and figure_stage(name, (), tmp_path).alone]
    assert measured == ["figB2", "figC2", "bench_network", "bench_solvers", "bench_sweep"]


def test_two_runs_do_not_share_a_folder_even_if_only_a_child_is_left(tmp_path: Path) -> None:
    with alone(tmp_path) as lock:
        with pytest.raises(ValueError, match="another run is at work"), alone(tmp_path):
            pass
        child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=(lock,))
    with pytest.raises(ValueError, match="another run is at work"), alone(tmp_path):
        pass
    child.communicate(b"\n")
    with alone(tmp_path):
        pass


def test_the_time_left_follows_the_pace_so_far() -> None:
    assert time_left(600, 0, 0) == "about 10 min left"
    assert time_left(600, 600, 1200) == "about 19 min left"
    assert time_left(1800, 5, 20) == "about 37 min left"  # not two hours, for a slow start
    assert time_left(7200, 100, 100) == "about 2.0 h left"


@pytest.mark.slow
def test_a_killed_reproduction_goes_on_where_it_was(tmp_path: Path) -> None:
    words = [*SCRIPT, "--folder", str(tmp_path), "fig1", "fig7"]
    first, second = (tmp_path / "figures" / f"{name}.json" for name in ("fig1", "fig7"))
    started = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.DEVNULL, start_new_session=True)
    deadline = time.monotonic() + 600
    while not first.is_file() and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(started.pid, signal.SIGKILL)
    started.wait()
    assert is_whole(first)
    assert not second.is_file()
    made = first.stat().st_mtime_ns

    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "1 of 2 stages are done" in done.stdout
    assert first.stat().st_mtime_ns == made
    assert is_whole(second)


def test_an_unknown_stage_is_named(tmp_path: Path) -> None:
    done = run_script("reproduce", "--fast", "--folder", str(tmp_path), "fig99")
    assert done.returncode == 1
    assert "there is no stage fig99" in done.stderr


def test_scripts_that_end_at_the_same_time_are_not_taken_for_crashes(tmp_path: Path) -> None:
    script = tmp_path / "nothing.py"
    script.write_text("pass\n")
    with ThreadPoolExecutor(8) as pool:
        ends = list(pool.map(lambda n: copies.run_script([str(script)], tmp_path / f"{n}.log"), range(60)))
    assert ends == [0] * 60
