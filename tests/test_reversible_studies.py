"""The experiments on reversible networks: their measures can fail, and their tables have what they promise."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from builders import recorded
from torch import nn

from replication import HamiltonianBlock, preset
from replication.experiments.plots import figC1, figC3, tableC
from replication.experiments.results import Result
from replication.experiments.studies import memory as memory_study
from replication.experiments.studies.data_share import data_share
from replication.experiments.studies.memory import StepMemory, memory, slope, time_columns
from replication.experiments.studies.presets import (
    curves,
    exactness,
    preset_table,
    reconstruction_error,
    trained_presets,
)
from replication.experiments.studies.reconstruction import grown_blocks, reconstruction, relative_errors
from replication.experiments.training import cut_by_ten
from replication.units.reversible import Coupling

PLAIN = {"hamiltonian": {"step": 0.1, "normalise": False}}


def test_depth_and_growth_are_those_asked_for() -> None:
    torch.manual_seed(0)
    once = grown_blocks(lambda: HamiltonianBlock(4), 9, 1.0, torch.float64)
    torch.manual_seed(0)
    thrice = grown_blocks(lambda: HamiltonianBlock(4), 9, 3.0, torch.float64)
    assert len(list(once)) == 3  # blocks of four layers
    for small, large in zip(once.parameters(), thrice.parameters(), strict=True):
        torch.testing.assert_close(large, 3 * small if small.ndim > 1 else small)


def test_a_wrong_inverse_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    sequence = grown_blocks(lambda: HamiltonianBlock(4), 8, 1.0, torch.float64)
    images = torch.randn(3, 4, 5, 5, dtype=torch.float64)
    with torch.no_grad():
        assert relative_errors(sequence, images)[0].max() < 1e-12
        network = preset("leapfrog-26", (3, 8, 8)).double()
        assert reconstruction_error(network, torch.randn(2, 3, 8, 8, dtype=torch.float64)) < 1e-12
        monkeypatch.setattr(Coupling, "undone", lambda self, c, branch: c + branch)
        assert relative_errors(sequence, images)[0].min() > 0.1
        assert reconstruction_error(network, torch.randn(2, 3, 8, 8, dtype=torch.float64)) > 0.1


def test_what_is_unstable_loses_its_first_states_and_says_so_with_infinity() -> None:
    settings = [{"title": title, "growth": growth, "options": PLAIN} for title, growth in (("stable", 1), ("not", 10))]
    table = reconstruction({"hamiltonian": HamiltonianBlock}, settings, 8, 6, 3, [4, 120, 1200], 0)
    assert len(table) == 2 * 2 * 3
    double = table[table["dtype"] == "float64"].set_index(["setting", "layers"])["error_max"]
    assert double["stable"].max() < 1e-10
    assert double["not", 4] < 1e-10
    assert double["not", 1200] == float("inf")
    assert len(figC1.draw(Result(table), recorded("figC1")).axes) == 2


def test_exactness_compares_recomputed_stored_and_exact_gradients() -> None:
    found = exactness("leapfrog-26", images=3, size=8, seed=0)
    assert (
        0 < float(found["reconstruction_error_float64"]) < 1e-12 < float(found["reconstruction_error_float32"]) < 1e-3
    )
    assert 0 < float(found["gradient_error_float32"]) < 0.1
    assert 0 < float(found["gradient_rounding_float32"]) < 0.1


def written(folder: Path, name: str, network: dict[str, Any]) -> None:
    recipe = {"network": network, "data": {"batch_size": 3}, "training": {"precision": "bfloat16"}}
    record = {
        "recipe": recipe, "dataset": "CIFAR-10", "training_images": 7, "epochs": 2, "steps": 3,
        "seconds": 4, "test_accuracy": 0.5,
    }  # fmt: skip
    (folder / f"{name}.json").write_text(json.dumps(record))


def test_only_trainings_of_presets_are_listed_and_networks_without_one_are_shown_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def report(_: StepMemory, step: dict[str, Any]) -> dict[str, Any]:
        asked.append(step)
        return {"step_memory_mb": 123.4}

    monkeypatch.setattr(StepMemory, "report", report)
    written(tmp_path, "cifar10-resnet-32-0", {"name": "resnet-32"})
    written(tmp_path, "mnist-monotone-0", {"hidden": [1]})
    assert list(trained_presets(tmp_path)) == ["resnet-32"]
    (tmp_path / "cifar10-resnet-32-0.csv").write_text("epoch,step,train_loss\n0,19,2.5\n0,39,1.5\n1,59,1.0\n")
    table = preset_table(tmp_path, ["resnet-32", "resnet-110"], 2, 8, 0)
    assert table["test_accuracy"].iloc[0] == 50
    assert table["test_accuracy"].isna().tolist() == [False, True]
    assert asked == [{"network": "resnet-32", "size": 8, "batch": 3, "precision": "bfloat16"}]
    assert table["step_memory_mb"].iloc[0] == 123.4
    arrays = curves(tmp_path, ["cifar10-resnet-32-0", "cifar10-none-0"])
    assert list(arrays) == ["cifar10-resnet-32-0"]
    for given in ({}, arrays):
        axes = tableC.draw(Result(table, given), recorded("tableC")).axes
        cells = [cell.get_text().get_text() for cell in axes[0].tables[0].get_celld().values()]
        assert "50.00" in cells
        assert "–" in cells
        drawn = [line.get_ydata().tolist() for axis in axes[1:] for line in axis.lines]
        assert drawn == ([[2.0, 1.0]] if given else [])


def test_the_memory_of_a_step_is_that_of_the_network_and_batch() -> None:
    with StepMemory(threads=1) as process:

        def taken(network: str, batch: int) -> float:
            step = {"network": network, "size": 16, "batch": batch, "precision": "bfloat16"}
            return float(process.report(step)["step_memory_mb"])

        stored = taken("resnet-32", 200)
        assert 20 < taken("leapfrog-26", 200) < stored - 10
        assert 0 < taken("resnet-32", 4) < stored / 3
        with pytest.raises(RuntimeError, match=r"the memory process failed: .*resnet-33"):
            taken("resnet-33", 4)


def test_every_network_share_and_seed_is_trained_once() -> None:
    seen = []

    def record(network: str, share: float, seed: int) -> dict[str, Any]:
        seen.append((network, share, seed))
        return {
            "training_images": int(100 * share),
            "test_accuracy": share,
            "parameters": 5,
            "steps": 9,
            "seconds": 1.0,
        }

    table = data_share(record, ["hamiltonian", "resnet"], [0.1, 1.0], [0, 1])
    assert len(set(seen)) == len(seen) == len(table) == 8
    assert (table["training_images"] == table["share_percent"]).all()
    assert len(figC3.draw(Result(table), recorded("figC3")).axes) == 1


def test_the_slope_is_that_of_the_batch_and_method() -> None:
    rows = [
        {"method": method, "batch": batch, "layers": layers, "peak_memory_mb": 100 + add * layers}
        for method, batch, add in (("stored", 8, 2.0), ("stored", 4, 1.0), ("reversible", 8, 0.5))
        for layers in (10, 20, 50)
    ]
    assert slope(pd.DataFrame(rows), "stored", 8) == pytest.approx(2)
    assert slope(pd.DataFrame(rows), "reversible", 8) == pytest.approx(0.5)
    assert slope(pd.DataFrame(rows), "reversible", 4) != slope(pd.DataFrame(rows), "reversible", 4)  # NaN: not measured
    assert time_columns([2.0, 4.0, 3.0], [1.0, 2.0, 1.5])["times_stored"] == 2


def test_a_peer_that_is_not_installed_is_left_out_with_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_study, "find_spec", lambda name: None)
    with pytest.warns(UserWarning, match="revtorch is not installed and left out"):
        assert memory(["revtorch"], [2, 4], [{"batch": 1, "stages": [[1, 1]]}], 8, 1, 1).empty


def test_the_rate_is_cut_by_ten_at_the_shares_asked_for() -> None:
    optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=0.1)
    schedule = cut_by_ten(optimizer, total_steps=80, at=[0.5, 0.75])
    rates = []
    for _ in range(80):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates == pytest.approx([0.1] * 40 + [0.01] * 20 + [0.001] * 20)
