"""Results on disk: whole or not at all, with a record that says how they were made and nothing of the machine."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from omegaconf import OmegaConf

from replication.experiments import files, records
from replication.experiments.files import write_atomically
from replication.experiments.places import ROOT
from replication.experiments.records import provenance
from replication.experiments.results import Result, write_result

TABLE = pd.DataFrame({"gamma": [0.5, 1.0], "percent": [100.0, 50.0]})


def test_result_files_are_whole_and_checked(tmp_path: Path) -> None:
    figure = plt.figure()
    paths = write_result(tmp_path, "figX", Result(TABLE, {"image": np.eye(3)}), figure, {"figure": "figX"})
    assert [path.name for path in paths] == ["figX.csv", "figX.npz", "figX.png", "figX.pdf", "figX.json"]
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "figX.csv"), TABLE)
    with np.load(tmp_path / "figX.npz", allow_pickle=False) as arrays:
        np.testing.assert_array_equal(arrays["image"], np.eye(3))
    record = json.loads((tmp_path / "figX.json").read_text())
    for name, checksum in record["sha256"].items():
        assert hashlib.sha256((tmp_path / name).read_bytes()).hexdigest() == checksum
    assert (tmp_path / "figX.png").read_bytes().startswith(b"\x89PNG")
    assert not list(tmp_path.glob(".*"))


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "table.csv"
    write_atomically(path, b"old")

    def full(handle: int) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OSError, match="no space"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert [file.name for file in tmp_path.iterdir()] == ["table.csv"]


def test_an_interrupted_result_has_no_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_result(tmp_path, "figX", Result(TABLE), plt.figure(), {})
    real = files.os.replace

    def interrupted(temporary: Path, path: Path) -> None:
        if path.suffix == ".png":
            raise KeyboardInterrupt
        real(temporary, path)

    monkeypatch.setattr(files.os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_result(tmp_path, "figX", Result(TABLE), plt.figure(), {})
    assert not (tmp_path / "figX.json").exists()


def test_provenance_says_how_and_not_where(monkeypatch: pytest.MonkeyPatch) -> None:
    script = ROOT / "scripts" / "fig2.py"
    monkeypatch.setattr(records.sys, "argv", [str(script), "seed=3"])
    config = OmegaConf.create(
        {"seed": 3, "data": {"data_dir": "${paths.here}"}, "paths": {"here": "/somewhere/of/mine"}}
    )
    record = provenance(config, 1.26, "random units", None, figure="fig2")
    assert record["command"] == "python scripts/fig2.py seed=3"
    assert record["configuration"] == {"seed": 3, "data": {}}
    assert record["seconds"] == 1.3
    assert record["versions"]["torch"]
    assert {"processor", "cores", "threads", "accelerator"} == set(record["hardware"])
    assert str(ROOT) not in json.dumps(record)
    assert "/somewhere" not in json.dumps(record)
