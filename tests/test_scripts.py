"""The commands a user types: scripts, multiruns, Make's idea of what is stale, and errors of one sentence."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from builders import composed
from commands import run_script
from conftest import ROOT

SMALL = ["sweep.cases=5", "sweep.gamma.values=3", "sweep.d=4"]
pytestmark = pytest.mark.slow


def run(script: str, *overrides: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a script with its output under `folder`, offline as far as data go."""
    paths = [f"paths.{name}_dir={folder / name}" for name in ("figures", "weights", "outputs")]
    return run_script(script, *overrides, *paths)


def command(script: str, *words: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a script as a user types it, in a process that loads its libraries itself."""
    paths = [f"paths.{name}_dir={folder / name}" for name in ("figures", "weights", "outputs")]
    return subprocess.run(
        [sys.executable, f"scripts/{script}.py", *words, *paths], cwd=ROOT, capture_output=True, text=True,
        check=False, env=os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "200"},
    )  # fmt: skip


def test_a_figure_script_writes_table_picture_and_record(tmp_path: Path) -> None:
    done = command("fig3", *SMALL, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    written = sorted(path.name for path in (tmp_path / "figures").iterdir())
    assert written == ["fig3.csv", "fig3.json", "fig3.pdf", "fig3.png"]
    record = json.loads((tmp_path / "figures" / "fig3.json").read_text())
    assert record["configuration"]["sweep"]["cases"] == 5
    assert record["dataset"] == "random units"


def test_the_scripts_on_random_units_write_their_results(tmp_path: Path) -> None:
    bench = [
        "bench.cases=20",
        "bench.orders=[3]",
        "bench.repetitions=1",
        "bench.p_test_cases=10",
        "bench.p_test_order=4",
    ]
    blocks = ["sweep.cases=4", "sweep.gamma.values=2"]
    inverses = ["study.sizes=[4,6]", "study.images=[2,1]", "study.scales=[0.5,2.0]", "study.repetitions=1"]
    branches = ["study.orders=[[4,5]]", "study.solved_order=4", "study.gamma.values=3"]
    flows = ["study.epochs=1", "study.seeds=[0]", "study.samples=5"]
    for script, small in (
        ("fig6", SMALL), ("fig7", ["points=7"]), ("fig9", branches), ("bench_solvers", bench), ("figB1", blocks),
        ("figB2", inverses), ("figB4", flows), ("bench_branches", ["bench.cases=3", "bench.chain=2"]),
    ):  # fmt: skip
        done = run(script, *small, folder=tmp_path)
        assert done.returncode == 0, done.stderr
        written = sorted(path.name for path in (tmp_path / "figures").glob(f"{script}.*"))
        arrays = ["npz"] if script == "figB4" else []
        assert written == [f"{script}.{kind}" for kind in sorted(["csv", "json", "pdf", "png", *arrays])]


def test_the_figures_of_injective_layers_write_their_results(tmp_path: Path) -> None:
    small = {
        "figD1": ["study.exact=[2]", "study.searched=[5]", "study.cases=3", "study.searched_cases=2"],
        "figD2": ["study.sizes=[20]", "study.trials=3"],
        "figD3": ["data=digits", "study.digits=[3]", "study.towards=[8]"],
        "figD4": ["study.sizes=[[2,2]]", "study.pairs=50", "study.inputs=5"],
    }
    for script, options in small.items():
        done = run(script, *options, folder=tmp_path)
        assert done.returncode == 0, done.stderr
        written = {path.suffix for path in (tmp_path / "figures").glob(f"{script}.*")}
        assert written == {".csv", ".json", ".pdf", ".png"} | ({".npz"} if script == "figD3" else set())
    wedge = pd.read_csv(tmp_path / "figures" / "figD3.csv").set_index(["layer", "image"])
    assert wedge.loc[("gaussian", "other"), "output_distance"] < 1e-12 < wedge.loc[("gaussian", "other"), "distance"]
    assert wedge.loc["injective", "relative_error"].max() < 1e-9


def test_the_figures_of_the_companions_write_their_results(tmp_path: Path) -> None:
    small = {
        "figE2": [
            "study.flow.scales=[1000,50]",
            "study.flow.max_steps=50",
            "study.reduced.units=10",
            "study.reduced.times=[1,2]",
            "study.kernel.knots=400",
            "study.width.widths=[400]",
            "study.width.max_steps=10",
        ],
        "figE3": [
            "data=digits",
            "study.widths=[[30,3],[1000,2]]",
            "study.depth=49",
            "study.draws=100",
            "training.steps=2",
        ],
        "figE4": [
            "data=digits",
            "study.correlation.steps=2",
            "study.correlation.widths=[4,6]",
            "study.correlation.width=6",
            "study.correlation.labelled=100",
            "study.correlation.mislabelled=[0,20]",
            "study.regularisation.steps=2",
            "study.regularisation.labelled=100",
            "study.regularisation.mislabelled=20",
            "study.regularisation.validation=50",
        ],
        "figE5": ["study.depth=100", "study.random.depth=81", "study.initialisation.steps=2", "study.points=5"],
    }
    for script, options in small.items():
        done = run(script, *options, folder=tmp_path)
        assert done.returncode == 0, done.stderr
        written = {path.suffix for path in (tmp_path / "figures").glob(f"{script}.*")}
        assert written == {".csv", ".json", ".pdf", ".png"} | ({".npz"} if script == "figE2" else set())


def test_the_figure_of_recovered_networks_writes_its_results(tmp_path: Path) -> None:
    small = [
        "study.networks=[{widths:[3,3,1],count:2}]", "study.trained=[{widths:[64,2,10],count:1}]", "study.workers=1",
        "study.plane_seeds=[1]", "study.lines=3",
    ]  # fmt: skip
    done = run("figE1", *small, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    written = {path.suffix for path in (tmp_path / "figures").glob("figE1.*")}
    assert written == {".csv", ".json", ".npz", ".pdf", ".png"}


def test_the_figures_of_reversible_networks_write_their_results(tmp_path: Path) -> None:
    small = {
        "figC1": ["study.depths=[4,20]"],
        "figC2": ["study.series=[{batch:2,stages:[[2,1,1],[3,2,1]]}]", "study.size=8", "study.repetitions=1"],
        "figC3": ["data=digits", "trainer.max_steps=2", "shares=[0.5,1.0]", "seeds=[0]"],
        "tableC": ["study.networks=[leapfrog-26,resnet-32]", "study.size=8"],
    }
    for script, options in small.items():
        done = run(script, *options, folder=tmp_path)
        assert done.returncode == 0, done.stderr
        written = {path.suffix for path in (tmp_path / "figures").glob(f"{script}.*")}
        assert written == {".csv", ".json", ".pdf", ".png"}
    steps = pd.read_csv(tmp_path / "figures" / "figC2.csv")
    assert list(steps["method"]) == ["stored", "reversible", "revtorch"] * 2
    assert steps.groupby("layers")["loss"].apply(lambda loss: loss.max() - loss.min()).max() < 1e-4
    shares = pd.read_csv(tmp_path / "figures" / "figC3.csv")
    assert list(shares["training_images"]) == [398] * 3 + [797] * 3
    assert list(shares["steps"]) == [2, 2, 6] * 2  # ResNet takes as long for three steps as the Hamiltonian for one
    again = run("figC3", *small["figC3"], folder=tmp_path)
    assert "weights in" not in again.stdout  # what is trained is not trained again
    record = json.loads((tmp_path / "figures" / "figC3.json").read_text())
    assert record["seconds"] > shares["seconds"].sum()  # but its time counts


def test_a_multirun_gives_every_job_its_own_folder(tmp_path: Path) -> None:
    done = run("fig2", "-m", "seed=0,1", "ensemble=gaussian,gram", *SMALL, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    tables = sorted((tmp_path / "outputs").rglob("fig2.csv"))
    assert len({path.parent for path in tables}) == 4
    seen = {tuple(pd.read_csv(path)["ensemble"].unique()) for path in tables}
    assert seen == {("gaussian",), ("gram",)}
    assert not (tmp_path / "figures").exists()


def test_training_sweeps_as_a_multirun(tmp_path: Path) -> None:
    small = ["data=digits", "trainer.max_epochs=1", "network.units_per_stage=1", "trainer.enable_progress_bar=false"]
    done = run("train", "-m", "unit=monotone,lipschitz", "seed=0,1", *small, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    weights = sorted((tmp_path / "outputs").rglob("*.safetensors"))
    names = {path.stem for path in weights}
    assert names == {f"digits-{family}-{seed}" for family in ("monotone", "lipschitz") for seed in (0, 1)}
    assert len({path.parent for path in weights}) == 4
    assert not (tmp_path / "weights").exists()


def test_the_digits_make_every_figure_of_the_network_and_say_so(tmp_path: Path) -> None:
    small = ["data=digits", "trainer.max_epochs=1"]  # with the bars that a user sees, one inside the other
    for script in ("fig1", "fig4", "fig5"):
        size = [] if script == "fig1" else [f"per_class={1 if script == 'fig4' else 2}"]
        done = run(script, *small, *size, folder=tmp_path)
        assert done.returncode == 0, done.stderr
        record = json.loads((tmp_path / "figures" / f"{script}.json").read_text())
        assert "digits" in record["dataset"]
    assert len(pd.read_csv(tmp_path / "figures" / "fig5.csv")) == 80
    runs = "runs=[{family:monotone,norm_cap:3.0,seed:0},{family:monotone-uncapped,norm_cap:null,seed:0}]"
    done = run(
        "fig8",
        *small,
        runs,
        "precisions.float32.per_class=1",
        "precisions.float64.per_class=1",
        "repetitions=1",
        folder=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert list(pd.read_csv(tmp_path / "figures" / "fig8.csv")["norm_cap"].isna()) == [False, False, True, True]
    done = run("figB3", *small, "per_class=1", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(pd.read_csv(tmp_path / "figures" / "figB3.csv")) == 40
    done = run("fig10", *small, "study.looked_at=2", "study.per_class=1", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert list(pd.read_csv(tmp_path / "figures" / "fig10.csv").groupby("network").size()) == [4, 4, 6]
    size = ["per_class=1", "cost.per_class=1", "cost.repetitions=1"]
    done = run("table1", *small, "runs=[{family:monotone,seed:0},{family:standard,seed:0}]", *size, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert list(pd.read_csv(tmp_path / "figures" / "table1.csv")["inverse_method"].isna()) == [False, True]
    few = ["bench.batches=[1,10]", "bench.repetitions=1", "curve.images=5", "curve.tolerances=[1e-3,1e-6]"]
    done = run("bench_network", *small, *few, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert set(pd.read_csv(tmp_path / "figures" / "bench_network.csv")["network"]) == {
        "monotone",
        "lipschitz",
        "contraction",
    }


@pytest.mark.parametrize(
    ("script", "overrides", "sentence"),
    [
        ("fig2", ["ensemble=cauchy"], "Could not find 'ensemble/cauchy'"),
        ("fig2", ["sweep.kind=cubic"], "unknown kind 'cubic' of unit"),
        ("fig2", ["sweep.casse=3"], "Could not override 'sweep.casse'"),
        ("train", ["unit=magic"], "Could not find 'unit/magic'"),
        (
            "train",
            ["data=digits", "unit.make.norm_cap=-1"],
            "unit.make.norm_cap must be a finite number above 0, not -1",
        ),
        ("fig5", ["data=digits", "per_class=101"], "has 100 test images, fewer than 101"),
        ("fig2", ["threads=0"], "threads must be a whole number of at least 1, not 0"),
        ("figD3", ["data=digits", "study.digits=[11]", "study.towards=[8]"], "must be as many, of 0 to 9"),
    ],
)
def test_wrong_configurations_end_in_one_sentence(
    script: str, overrides: list[str], sentence: str, tmp_path: Path
) -> None:
    done = run(script, *overrides, folder=tmp_path)
    assert done.returncode == 1
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
    assert not list((tmp_path / "figures").glob("*"))


def last_line(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


def test_results_of_changed_settings_go_elsewhere_unless_a_folder_is_named(tmp_path: Path) -> None:
    def contents() -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in sorted((ROOT / "figures").iterdir()) if path.is_file()}

    before, outputs = contents(), f"paths.outputs_dir={tmp_path}"
    changed = last_line(run_script("fig7", "points=9", outputs, cwd=tmp_path))
    made = next(tmp_path.glob("fig7/*/fig7.csv"))
    assert f"wrote {made}" in changed
    assert changed.endswith(f"(points=9, not 25), so {ROOT / 'figures'} is left as it is")
    named = last_line(run_script("fig7", "points=9", "paths.figures_dir=here", outputs, cwd=tmp_path))
    assert "wrote here/fig7.csv" in named
    assert "left as it is" not in named
    assert (tmp_path / "here" / "fig7.png").is_file()  # relative to where one stands
    assert contents() == before


def test_figures_and_weights_are_those_of_the_checkout_wherever_one_stands(tmp_path: Path) -> None:
    config = composed("fig4", "data=digits")
    for name in ("figures", "weights", "outputs"):
        assert config.paths[f"{name}_dir"] == str(ROOT / name)
    looked = run_script("fig4", "data=digits", "--cfg", "job", "--resolve", "--package", "paths", cwd=tmp_path)
    assert f"weights_dir: {ROOT / 'weights'}" in last_line_of(looked, "weights_dir")
    summary = run_script("summary", cwd=tmp_path)
    assert summary.returncode == 0, summary.stderr
    assert "fig2.png" in summary.stdout
    assert not list(tmp_path.iterdir())


def last_line_of(done: subprocess.CompletedProcess[str], word: str) -> str:
    assert done.returncode == 0, done.stderr
    return next(line for line in done.stdout.splitlines() if word in line)


def test_without_a_place_for_data_they_are_looked_for_in_the_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REPLICATION_DATA")
    assert composed("train", "data=mnist").data.data_dir == str(ROOT / "data")


@pytest.mark.parametrize(
    ("file", "expected"), [("scripts/summary.py", "fig2.png"), ("examples/own_network.py", "10 of 10 images converged")]
)
def test_commands_and_examples_can_be_piped_where_there_are_no_greek_letters(file: str, expected: str) -> None:
    environment = os.environ | {"PYTHONIOENCODING": "cp1252", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, file], capture_output=True, env=environment, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert expected in done.stdout.decode("cp1252")


def test_help_lists_every_target() -> None:
    done = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True)
    for target in (
        "figures",
        "fig1",
        "fig7",
        "table1",
        "bench",
        "claims",
        "pictures",
        "verify",
        "report",
        "reproduce",
        "test",
        "lint",
    ):
        assert f"  {target} " in done.stdout
    assert re.search(r"  fig8 .*: \d+ min\n", done.stdout)
    assert "{" not in done.stdout
