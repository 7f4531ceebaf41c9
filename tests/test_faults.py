"""What goes wrong on real machines: every row of docs/faults.md, each with a test that fails without its guard."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from builders import composed, mnist, same_tensors
from commands import PATIENCE, python, script
from conftest import ROOT
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from safetensors.torch import load_file, save_file
from torch.utils.data import TensorDataset

from replication.experiments import training
from replication.experiments.files import only_writer, write_atomically, write_together
from replication.experiments.records import is_made, provenance, read_record
from replication.experiments.results import Result, write_result
from replication.experiments.training import load_network, train
from replication.experiments.weights import is_trained, load_record

FAST = ("data=digits", "trainer.max_epochs=2", "trainer.enable_progress_bar=false", "network.units_per_stage=1")
SMALL = ("sweep.cases=5", "sweep.gamma.values=3", "sweep.d=4", "ensemble=gaussian")
TABLE = pd.DataFrame({"gamma": [0.5, 1.0], "percent": [100.0, 50.0]})
CONFIG = OmegaConf.create({"seed": 3})


# which a shell's background jobs, and all that they start, ignore
HEEDS_CTRL_C = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"


def start(code: str, *words: str, **options: object) -> subprocess.Popen[str]:
    """Start Python code in the repository's root, as a user would start a script, to be talked with."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "200"} | dict(options.pop("env", {}))  # type: ignore[call-overload]
    return subprocess.Popen(
        [sys.executable, "-c", code, *words], cwd=ROOT, env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options,
    )  # fmt: skip


def folders(place: Path) -> list[str]:
    return [f"paths.{name}_dir={place / name}" for name in ("figures", "weights", "outputs")]


def run(name: str, *overrides: str, place: Path, before: str = "") -> tuple[int, str, str]:
    """Run a script to its end: its exit code, what it said and what it complained about."""
    done = python(script(name, f"{HEEDS_CTRL_C}\n{before}"), *overrides, *folders(place))
    return done.returncode, done.stdout, done.stderr


def hidden(folder: Path) -> list[str]:
    """Temporary files and locks that were left behind."""
    return [path.name for path in folder.rglob(".*") if path.is_file()]


def same(first: Path, second: Path) -> bool:
    return same_tensors(load_file(first), load_file(second))


@pytest.fixture(scope="module")
def config() -> DictConfig:
    return composed("train", *FAST)


@pytest.fixture(scope="module")
def trained(config: DictConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of a training that nothing disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    return train(config, folder, folder)


@pytest.fixture
def copied(trained: Path, tmp_path: Path) -> Path:
    """A copy of those weights with their record, to be damaged."""
    for path in (trained, trained.with_suffix(".json")):
        shutil.copy(path, tmp_path)
    return tmp_path / trained.name


def load(config: DictConfig, weights: Path) -> None:
    load_network(config, instantiate(config.data), weights.parent, weights.parent / "runs")


@pytest.fixture(scope="module")
def figure(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small fig2 that nothing disturbed."""
    place = tmp_path_factory.mktemp("figure")
    ended, _, complained = run("fig2", *SMALL, place=place)
    assert ended == 0, complained
    return place / "figures"


# kill -9 and Ctrl-C

CUT = """
import os, signal
from replication.experiments import training
step = training.Classifier.training_step
def cut(self, batch, index):
    if self.current_epoch == 1 and index == 3:
        os.kill(os.getpid(), signal.{name})
    return step(self, batch, index)
training.Classifier.training_step = cut
"""


@pytest.mark.slow
@pytest.mark.parametrize(("name", "code"), [("SIGKILL", -signal.SIGKILL), ("SIGINT", 130)])
def test_a_training_that_is_killed_or_interrupted_goes_on_to_the_same_weights(
    name: str, code: int, config: DictConfig, trained: Path, tmp_path: Path
) -> None:
    ended, _, complained = run("train", *FAST, place=tmp_path, before=CUT.format(name=name))
    assert ended == code, complained
    assert "Traceback" not in complained
    assert not list(tmp_path.rglob("*.safetensors"))
    resumed = train(config, tmp_path / "weights", tmp_path / "outputs" / "training")
    assert load_record(resumed)["resumed"]
    assert same(resumed, trained)


def test_a_checkpoint_that_cannot_be_written_leaves_the_one_before(
    config: DictConfig, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, written = os.fsync, []

    def full(handle: int) -> None:
        if os.fstat(handle).st_size > 100_000 and len(written) == 1:
            raise OSError(28, "No space left on device")
        written.extend([handle] if os.fstat(handle).st_size > 100_000 else [])
        real(handle)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match=r"last.ckpt cannot be written \(No space left on device\); make room"):
            train(config, tmp_path, tmp_path)
    assert written
    resumed = train(config, tmp_path, tmp_path)
    assert load_record(resumed)["resumed"]
    assert same(resumed, trained)


@pytest.mark.slow
def test_a_sweep_that_is_killed_and_then_interrupted_goes_on_where_it_stopped(tmp_path: Path) -> None:
    cut = """
import os, signal
from replication.experiments.studies import invertibility
sweep = invertibility.sweep
def cut(**options):
    if options["seed"] == {seed}:
        os.kill(os.getpid(), signal.{name})
    return sweep(**options)
invertibility.sweep = cut
"""
    command = ("-m", "seed=0,1,2", f"hydra.sweep.dir={tmp_path / 'sweep'}", *SMALL)
    for seed, name, code in ((1, "SIGKILL", -signal.SIGKILL), (2, "SIGINT", 130), (3, "SIGINT", 0)):
        ended, said, complained = run("fig2", *command, place=tmp_path, before=cut.format(seed=seed, name=name))
        assert ended == code, complained
        assert "Traceback" not in complained
        assert said.count("already there") == seed - 1
        made = [(tmp_path / "sweep" / str(job) / "fig2.json").is_file() for job in range(3)]
        assert made == [job < seed for job in range(3)]
    for job in range(3):
        record = read_record(tmp_path / "sweep" / str(job), "fig2")
        assert record["configuration"]["seed"] == job
        assert record["command"].startswith(f"python scripts/fig2.py seed={job} sweep.cases=5")


@pytest.mark.parametrize("place", range(5), ids=["csv", "npz", "png", "pdf", "json"])
def test_a_figure_killed_between_two_of_its_files_is_no_result(place: int, tmp_path: Path) -> None:
    code = f"""
import os, signal, sys
from pathlib import Path
import numpy as np, pandas as pd, matplotlib.pyplot as plt
from replication.experiments import results
folder = Path(sys.argv[1])
result = lambda value: results.Result(pd.DataFrame({{"x": [value]}}), {{"a": np.full(2, value)}})
results.write_result(folder, "figX", result(1.0), plt.figure(), {{"configuration": {{}}}})
real, places = os.replace, iter(range(9))
def cut(*paths):
    if next(places) == {place}:
        os.kill(os.getpid(), signal.SIGKILL)
    real(*paths)
os.replace = cut
results.write_result(folder, "figX", result(2.0), plt.figure(), {{"configuration": {{}}}})
"""
    assert python(code, str(tmp_path)).returncode == -signal.SIGKILL
    assert not is_made(tmp_path, "figX", OmegaConf.create({}))
    assert not (tmp_path / "figX.json").exists()


def test_files_of_two_runs_are_no_result(tmp_path: Path) -> None:
    write_result(tmp_path / "a", "figX", Result(TABLE), plt.figure(), {"configuration": {"seed": 3}})
    write_result(tmp_path / "b", "figX", Result(2 * TABLE), plt.figure(), {"configuration": {"seed": 3}})
    assert is_made(tmp_path / "a", "figX", CONFIG)
    assert not is_made(tmp_path / "a", "figX", OmegaConf.create({"seed": 4}))
    shutil.copy(tmp_path / "b" / "figX.csv", tmp_path / "a")
    with pytest.raises(ValueError, match=r"figX.csv in .* is not what its record figX.json says; make figX anew"):
        read_record(tmp_path / "a", "figX")


# disks and folders


@pytest.mark.slow
def test_a_disk_without_room_for_the_picture_leaves_the_figure_as_it_was(figure: Path, tmp_path: Path) -> None:
    shutil.copytree(figure, tmp_path / "figures")
    before = {path.name: path.read_bytes() for path in (tmp_path / "figures").iterdir()}
    largest = max(map(len, before.values()))
    full = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({largest // 2}, {largest // 2}))"
    ended, _, complained = run("fig2", *SMALL, "seed=1", place=tmp_path, before=full)
    assert ended == 1
    assert re.search(r"error: .*/fig2\.\w+ cannot be written \(File too large\); make room", complained), complained
    assert "Traceback" not in complained
    assert {path.name: path.read_bytes() for path in (tmp_path / "figures").iterdir()} == before


@pytest.mark.parametrize("content", [{"a.csv": b"1", "b.csv": b"2", "c.json": b"3"}])
def test_files_are_written_together_or_not_at_all(
    content: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {tmp_path / name: value for name, value in content.items()}
    write_together(files)
    count = iter(range(9))

    def full(handle: int) -> None:
        if next(count) == 1:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"b.csv cannot be written \(No space left on device\); make room"):
        write_together({path: b"new" for path in files})
    assert {path: path.read_bytes() for path in files} == files
    assert not hidden(tmp_path)


def test_a_folder_that_cannot_be_written_is_said_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    for folder in (tmp_path / "file" / "figures", Path("/proc/figures")):  # even root cannot write there
        refused = pytest.raises(OSError, match=r"cannot be written \(.*\); make room, or choose another folder")
        with refused, only_writer(folder, "fig2"):
            pytest.fail("the work began")
        with refused:
            write_atomically(folder / "fig2.csv", b"")


@pytest.mark.slow
def test_a_script_without_permission_ends_in_one_sentence_before_its_study(tmp_path: Path) -> None:
    never = "from replication.experiments.studies import invertibility; invertibility.sweep = None"
    done = python(script("fig2", never), *SMALL, "paths.figures_dir=/proc/figures", f"paths.outputs_dir={tmp_path}")
    assert done.returncode == 1
    assert "error: /proc/figures cannot be written" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_read_only_data_folder_is_enough_and_is_left_as_it_is(mnist_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(mnist_folder / "MNIST" / "raw", tmp_path / "MNIST" / "raw")
    for path in (*tmp_path.rglob("*"), tmp_path):
        path.chmod(0o555 if path.is_dir() else 0o444)
        os.utime(path, (0, 0))
    try:
        data = mnist(tmp_path)
        data.prepare_data()
        data.setup()
        assert len(data.train) == 60000
        assert {path.stat().st_mtime for path in (*tmp_path.rglob("*"), tmp_path)} == {
            0.0
        }  # root may write: nobody did
    finally:
        for path in (tmp_path, *tmp_path.rglob("*")):
            path.chmod(0o755)


# two at once


def test_two_runs_of_one_result_in_one_folder_are_refused_and_a_dead_one_does_not_count(tmp_path: Path) -> None:
    code = """
import sys, time
from pathlib import Path
from replication.experiments.files import only_writer
with only_writer(Path(sys.argv[1]), "fig2"):
    print("locked", flush=True)
    time.sleep(3600)
"""
    process = start(code, str(tmp_path))
    assert process.stdout is not None
    assert process.stdout.readline() == "locked\n"
    try:
        refused = pytest.raises(RuntimeError, match=r"another run is making fig2 in .*; wait for it to end, or choose")
        with refused, only_writer(tmp_path, "fig2"):
            pytest.fail("two at once")
        with only_writer(tmp_path, "fig3"):
            pass
    finally:
        process.kill()
        process.communicate()
    with only_writer(tmp_path, "fig2"):
        pass


@pytest.mark.slow
def test_two_trainings_of_one_name_do_not_touch_each_other(config: DictConfig, trained: Path, tmp_path: Path) -> None:
    waiting = """
import sys, time
from replication.experiments import training
begin = training.train_alone
def wait(*arguments):
    print("training", flush=True)
    sys.stdin.readline()
    return begin(*arguments)
training.train_alone = wait
"""
    process = start(script("train", waiting), *FAST, *folders(tmp_path), stdin=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == "training\n"
    with pytest.raises(RuntimeError, match="another run is making digits-monotone-0"):
        train(config, tmp_path / "weights", tmp_path / "outputs" / "training")
    _, complained = process.communicate("go\n", timeout=PATIENCE)
    assert process.returncode == 0, complained
    assert same(tmp_path / "weights" / trained.name, trained)


# corrupt, foreign and hostile files


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda content: content[:-100], "checksum differs"),
        (lambda content: content[:-1] + bytes([content[-1] ^ 1]), "checksum differs"),
        (lambda content: b"", "checksum differs"),
        (lambda content: np.random.default_rng(0).bytes(1000), "checksum differs"),
    ],
    ids=["truncated", "one bit", "empty", "foreign"],
)
def test_damaged_weights_are_refused(
    damage: Callable[[bytes], bytes], sentence: str, config: DictConfig, copied: Path
) -> None:
    load(config, copied)
    assert is_trained(config, instantiate(config.data), copied.parent)
    assert not is_trained(composed("train", *FAST, "seed=1"), instantiate(config.data), copied.parent)
    copied.write_bytes(damage(copied.read_bytes()))
    with pytest.raises(ValueError, match=rf"weights in .* cannot be used .*{sentence}.*restore the file, or delete it"):
        load(config, copied)
    assert not is_trained(config, instantiate(config.data), copied.parent)


def test_weights_that_are_not_finite_are_refused(config: DictConfig, copied: Path) -> None:
    weights = load_file(copied)
    name = "classifier.bias"
    weights[name][0] = torch.nan
    save_file(weights, copied)
    record = load_record(copied)
    del record["sha256"]  # as records of older weights
    copied.with_suffix(".json").write_text(json.dumps(record))
    with pytest.raises(ValueError, match=rf"values that are not finite \(in {name}\); restore the file, or delete it"):
        load(config, copied)


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
        lambda path: path.write_bytes(path.read_bytes()[:-10]),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(np.random.default_rng(0).bytes(1000)),
        lambda path: torch.save({"weights": torch.ones(3)}, path),
        lambda path: torch.save({"state_dict": {"network.weight": torch.ones(3)}}, path),
        lambda path: torch.save(torch.ones(3), path),
        lambda path: (path.unlink(), path.mkdir()),
    ],
    ids=["half", "truncated", "empty", "foreign", "other keys", "other network", "tensor", "folder"],
)
def test_damaged_checkpoints_are_refused(damage: Callable[[Path], object], config: DictConfig, tmp_path: Path) -> None:
    network = instantiate(config.network, image_shape=(1, 8, 8), classes=10)
    module = instantiate(config.training, network=network)
    path = tmp_path / "last.ckpt"
    torch.save({"state_dict": module.state_dict()}, path)
    training.check_checkpoint(path, module)
    damage(path)
    with pytest.raises(ValueError, match=r"the checkpoint .* cannot be used \(.*\); delete it to begin anew"):
        training.check_checkpoint(path, module)


def test_a_checkpoint_whose_recipe_cannot_be_read_is_not_continued(config: DictConfig, tmp_path: Path) -> None:
    checkpoints = tmp_path / "checkpoints"
    checkpoints.mkdir()
    (checkpoints / "last.ckpt").touch()
    for damaged in (b"", b"{", b"\xff\xfe", b"[]"):
        (tmp_path / "recipe.json").write_bytes(damaged)
        with pytest.raises(ValueError, match="or delete the folder to begin anew"):
            training.checkpoint_to_resume(checkpoints, training.recipe(config))


@pytest.mark.parametrize(
    "damaged", [b"", b"{", b"[]", b"\xff\xfe", b"{}", b'{"sha256": 3}', b'{"sha256": {"lost.csv": ""}}']
)
def test_damaged_records_are_refused(damaged: bytes, tmp_path: Path) -> None:
    write_result(tmp_path, "figX", Result(TABLE), plt.figure(), {"configuration": {"seed": 3}})
    (tmp_path / "figX.json").write_bytes(damaged)
    with pytest.raises(ValueError, match=r"figX.json is no record of a whole result .*; make figX anew"):
        read_record(tmp_path, "figX")
    assert not is_made(tmp_path, "figX", CONFIG)


@pytest.mark.parametrize("damage", [lambda table: table[:-3], lambda table: b"", lambda table: b"a,b\n1,2\n"])
def test_damaged_tables_are_refused(damage: Callable[[bytes], bytes], tmp_path: Path) -> None:
    write_result(tmp_path, "figX", Result(TABLE), plt.figure(), {"configuration": {"seed": 3}})
    table = tmp_path / "figX.csv"
    table.write_bytes(damage(table.read_bytes()))
    with pytest.raises(ValueError, match="is not what its record"):
        read_record(tmp_path, "figX")


# numbers that are none


def test_images_that_are_not_finite_stop_a_training_before_its_first_step(
    config: DictConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from replication.experiments.data.images import Digits

    load = Digits.load

    def broken(self: Digits) -> tuple[TensorDataset, TensorDataset]:
        parts = load(self)
        parts[0].tensors[0][5, 0, 0, 0] = torch.nan
        return parts

    monkeypatch.setattr(Digits, "load", broken)
    with pytest.raises(ValueError, match=r"images of scikit-learn digits .* have values that are not finite"):
        train(config, tmp_path, tmp_path)


# places and times


@pytest.fixture(scope="module")
def german(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment whose numbers have a decimal comma."""
    folder = tmp_path_factory.mktemp("locale")
    compiler = shutil.which("localedef")
    if compiler is None:
        pytest.skip("localedef, which makes locales, is not installed")
    made = subprocess.run(
        [compiler, "-i", "de_DE", "-f", "UTF-8", folder / "de_DE.UTF-8"], check=False, capture_output=True
    )
    if made.returncode:
        pytest.skip("the sources of locales are not installed")
    return {"LOCPATH": str(folder), "LC_ALL": "de_DE.UTF-8", "LANG": "de_DE.UTF-8"}


@pytest.mark.slow
def test_decimal_commas_and_a_terminal_without_greek_letters_change_no_table(
    german: dict[str, str], figure: Path, tmp_path: Path
) -> None:
    comma = "import locale; locale.setlocale(locale.LC_ALL, ''); print(f'{0.5:n}')"
    environment = german | {"PYTHONIOENCODING": "ascii"}
    process = start(script("fig2", comma), *SMALL, *folders(tmp_path), env=environment)
    said, complained = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, complained
    assert said.startswith("0,5\nfig2: cases inverted against ?")  # the locale is in force, and γ cannot be shown
    assert (tmp_path / "figures" / "fig2.csv").read_bytes() == (figure / "fig2.csv").read_bytes()
    assert read_record(tmp_path / "figures", "fig2")["title"].startswith("cases inverted against γ")


def test_times_in_records_are_utc_with_four_digit_years_in_every_time_zone(monkeypatch: pytest.MonkeyPatch) -> None:
    for zone in ("Pacific/Kiritimati", "America/Los_Angeles", "UTC"):
        monkeypatch.setenv("TZ", zone)
        time.tzset()
        before = datetime.now(timezone.utc).replace(microsecond=0)
        made = provenance(CONFIG, 1.0, "random units", None)["made"]
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", made)
        assert before <= datetime.fromisoformat(made) <= datetime.now(timezone.utc)
    monkeypatch.undo()
    time.tzset()


# the page


def test_every_row_of_the_page_of_faults_names_a_test_that_exists() -> None:
    page = (ROOT / "docs" / "faults.md").read_text(encoding="utf-8")
    rows = [row for row in page.splitlines() if row.startswith("| ")][1:]
    assert all("`test_" in row for row in rows)
    named = set(re.findall(r"`(test_\w+)`", page))
    tests = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").glob("test_*.py"))
    assert named <= set(re.findall(r"def (test_\w+)\(", tests))
    own = set(re.findall(r"def (test_\w+)\(", Path(__file__).read_text(encoding="utf-8")))
    assert own - named == {"test_every_row_of_the_page_of_faults_names_a_test_that_exists"}
