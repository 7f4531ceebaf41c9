"""Sweeps past one machine: launchers, jobs that fail, one table of all jobs, several processes, a million cases."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
import pytest
import torch
from builders import CONF, composed
from commands import run_script
from conftest import ROOT
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import OmegaConf

from replication.experiments.data.batches import ShuffledBatches
from replication.experiments.results import Result, write_result
from replication.experiments.studies.gather import gather
from replication.experiments.studies.invertibility import sweep
from replication.experiments.studies.sweep_benchmark import sweep_benchmark
from replication.experiments.training import load_network
from replication.experiments.weights import load_record

SMALL = ["sweep.cases=5", "sweep.gamma.values=3", "sweep.d=4", "ensemble=gaussian"]


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["joblib", "submitit_local"])
def test_launchers_run_every_job_and_a_job_that_fails_leaves_the_others_alone(launcher: str, tmp_path: Path) -> None:
    place = f"hydra.sweep.dir={tmp_path}"
    words = [f"hydra/launcher={launcher}", "sweep.kind=linear,cubic", "sweep.cases=5,6", *SMALL[1:], place]
    done = subprocess.run(  # with workers, which know the script as a file
        [sys.executable, "scripts/fig2.py", "-m", *words], cwd=ROOT, capture_output=True, text=True, check=False,
        env=os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "200"},
    )  # fmt: skip
    assert done.returncode == 1
    assert "unknown kind 'cubic' of unit; known are linear, residual" in done.stderr
    assert "Traceback" not in done.stderr
    gathered = gather(tmp_path)
    assert gathered.table["job"].unique().tolist() == [0, 1]
    assert gathered.table.groupby("job")["cases"].first().tolist() == [5, 6]
    assert {job: why.split(":")[0] for job, why in gathered.missing.items()} == {
        2: "sweep.kind=cubic sweep.cases=5",
        3: "sweep.kind=cubic sweep.cases=6",
    }
    record = json.loads((tmp_path / "1" / "fig2.json").read_text())
    assert record["command"] == "python scripts/fig2.py sweep.kind=linear sweep.cases=6 " + " ".join(SMALL[1:])
    assert str(tmp_path) not in json.dumps(record)


def test_the_cluster_launcher_is_a_choice() -> None:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("fig2", ["hydra/launcher=submitit_slurm"], return_hydra_config=True)
    assert config.hydra.launcher._target_.endswith("SlurmLauncher")


@pytest.fixture
def swept(tmp_path: Path) -> Path:
    """A folder as a sweep of 2 × 2 jobs leaves it, of which the last was never begun."""
    OmegaConf.save(
        {"hydra": {"overrides": {"task": ["sweep.d=4,8", "seed=0,1", "sweep.cases=5"]}}}, tmp_path / "multirun.yaml"
    )
    for job in range(3):
        table = pd.DataFrame({"seed": [job % 2] * 2, "percent": [1.0, float(job)]})
        write_result(tmp_path / str(job), "figX", Result(table), plt.figure(), {"figure": "figX"})
    return tmp_path


def test_a_sweep_is_gathered_into_one_table_with_its_settings(swept: Path) -> None:
    gathered = gather(swept)
    expected = {
        "job": [0, 0, 1, 1, 2, 2],
        "sweep.d": ["4", "4", "4", "4", "8", "8"],
        "seed": [0, 0, 1, 1, 0, 0],
        "percent": [1.0, 0.0, 1.0, 1.0, 1.0, 2.0],
    }
    assert gathered.table.to_dict("list") == expected
    assert gathered.missing == {3: "sweep.d=8 seed=1: not finished"}


@pytest.mark.parametrize("damage", ["cut", "foreign", "lost", "no record"])
def test_jobs_whose_result_is_not_whole_are_named_and_left_out(damage: str, swept: Path) -> None:
    table = swept / "1" / "figX.csv"
    if damage == "cut":
        table.write_bytes(table.read_bytes()[:-2])
    elif damage == "foreign":
        shutil.copy(swept / "2" / "figX.csv", table)
    elif damage == "lost":
        table.unlink()
    else:
        table.with_suffix(".json").unlink()
    gathered = gather(swept)
    assert set(gathered.table["job"]) == {0, 2}
    assert set(gathered.missing) == {1, 3}
    assert gathered.missing[1].startswith("sweep.d=4 seed=1: ")


def test_a_folder_of_no_sweep_is_refused_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is no folder of a sweep: multirun"):
        gather(tmp_path)
    (tmp_path / "multirun.yaml").write_text("hydra: 3")
    done = run_script("gather", str(tmp_path))
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr


# several processes


@pytest.mark.parametrize("processes", [1, 2, 4])
def test_processes_share_every_batch_evenly_and_together_see_what_one_sees(processes: int) -> None:
    whole = list(ShuffledBatches(50, 8, seed=1))
    shares = [list(ShuffledBatches(50, 8, seed=1, processes=processes, rank=rank)) for rank in range(processes)]
    for batch, parts in zip(whole, zip(*shares, strict=True), strict=True):
        assert sorted(itertools.chain(*parts)) == sorted(batch)
        assert {len(part) for part in parts} == {8 // processes}
    with pytest.raises(ValueError, match="3 processes cannot share batches of 8 evenly"):
        ShuffledBatches(50, 8, seed=1, processes=3)


@pytest.mark.slow
def test_two_processes_train_one_network_and_write_its_weights_once(tmp_path: Path) -> None:
    small = ["data=digits", "trainer.max_epochs=2", "network.units_per_stage=1", "trainer.enable_progress_bar=false"]
    paths = [f"paths.{name}_dir={tmp_path / name}" for name in ("weights", "outputs")]
    done = subprocess.run(  # which begins the other one as it was begun itself
        [sys.executable, "scripts/train.py", "trainer=ddp", *small, *paths], cwd=ROOT, capture_output=True, text=True,
        check=False, env=os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "200"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("weights in") == 1
    config = composed("train", "trainer=ddp", *small)
    weights = tmp_path / "weights" / "digits-monotone-0.safetensors"
    record = load_record(weights)
    assert record["recipe"]["steps"]["devices"] == 2
    assert record["epochs"] == 2
    data = instantiate(config.data)
    network = load_network(config, data, weights.parent, tmp_path)
    images, labels, _ = data.balanced_test(100)
    accuracy = float((network(images).argmax(1) == labels).float().mean())
    assert accuracy == pytest.approx(record["test_accuracy"], abs=1e-3)
    assert accuracy > 0.5  # both learn: chance is 0.1


# a million cases


def test_a_sweep_in_parts_counts_what_the_whole_one_counts() -> None:
    options = instantiate(composed("bench_sweep", "bench.cases=6", "bench.gamma.values=5").bench)
    kept = {name: options[name] for name in ("solvers", "cases", "tolerance", "recovery", "seed")}
    ensembles = {"gram": options["ensembles"]["gram"]}
    whole = sweep("residual", ensembles, d=4, gamma=options["gamma"], **kept)
    parts = [sweep("residual", ensembles, d=4, gamma=part, **kept) for part in options["gamma"].split(2)]
    keys = ["gamma", "quantity"]
    pd.testing.assert_frame_equal(
        pd.concat(parts).sort_values(keys, ignore_index=True), whole.sort_values(keys, ignore_index=True)
    )


@pytest.mark.slow
def test_the_benchmark_of_sweeps_runs_all_its_cases() -> None:
    few = ["bench.cases=6", "bench.gamma.values=5", "bench.gamma_at_once=2", "bench.dimensions=[3,4]"]
    some = ["bench.sizes=[1,3]", "bench.turns=[2,1]", "bench.processes=[2]"]
    options = instantiate(composed("bench_sweep", *few, *some).bench)
    table = sweep_benchmark(**options)
    assert table["repetitions"].tolist() == [2, 1]
    assert (table["seconds_low"] <= table["seconds"]).all()
    assert (table["seconds"] <= table["seconds_high"]).all()
    assert table["cases"].tolist() == [1 * 5 * 6, 3 * 5 * 6]
    assert table["rows"].tolist() == [1 * 5 * 7, 3 * 5 * 7]
    assert (table["cases_per_second"] * table["seconds"]).round(6).equals(table["cases"].astype(float))
    assert (table["peak_memory_mb"] > 50).all()
    with pytest.raises(ValueError, match="a run of 17 settings was asked for, and there are 16 combinations"):
        sweep_benchmark(**options | {"sizes": [17], "turns": [1]})
    with pytest.raises(ValueError, match=r"sizes \[1, 3\] and turns \[1\] must be as many"):
        sweep_benchmark(**options | {"turns": [1]})


def test_a_sweep_of_a_million_cases_takes_hardly_more_memory_than_a_smaller_one() -> None:
    memory = pd.read_csv(ROOT / "figures" / "bench_sweep.csv").set_index(["cases", "processes"])["peak_memory_mb"]
    assert memory.max() < 2000
    assert memory[1_000_000, 2] < 1.1 * memory[125_000, 2]  # it streams


def test_the_whole_benchmark_is_a_million_cases() -> None:
    bench = composed("bench_sweep").bench
    settings = len(bench.kinds) * len(bench.ensembles) * len(bench.dimensions)
    assert max(bench.sizes) == settings
    assert settings * len(torch.as_tensor(instantiate(bench.gamma))) * bench.cases == 1_000_000
