"""The experiments: tables with the promised columns, counts that are right, and figures drawn from them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from builders import batch_of, composed, folding, recorded
from hydra.utils import instantiate

from replication import Anderson, Auto, Banach, Chebyshev, Exact, Modulus, Newton, RectifierNetwork
from replication.experiments.data.ensembles import Gaussian, Gram, Monotone
from replication.experiments.plots import (
    bench_network,
    bench_solvers,
    fig1,
    fig2,
    fig3,
    fig4,
    fig5,
    fig6,
    fig7,
    fig8,
    table1,
)
from replication.experiments.plots.fig4 import scientific
from replication.experiments.results import Result
from replication.experiments.studies.architecture import architecture
from replication.experiments.studies.benchmark import benchmark
from replication.experiments.studies.caps import cap_row
from replication.experiments.studies.collision import grid_images
from replication.experiments.studies.families import certified_cost, family_row, largest_norm
from replication.experiments.studies.invertibility import gamma_grid, recovered, share, sweep
from replication.experiments.studies.lemke_peer import LemkePeer
from replication.experiments.studies.network_benchmark import contractive_unit, error_curve, network_benchmark
from replication.experiments.studies.recovery import in_percent, recovery_table, undo
from replication.experiments.studies.verdicts import VERDICTS, verdicts

SWEEP_COLUMNS = [
    "ensemble", "gamma", "quantity", "cases", "count", "percent", "ci_low", "ci_high", "iterations_median",
]  # fmt: skip
SOLVERS = {"proposed": Modulus(), "existing": Banach(patience=20)}
SWEEP_SOLVERS = SOLVERS | {"newton": Newton(), "exact": Exact()}


def small_sweep(kind: str, seed: int = 0) -> pd.DataFrame:
    return sweep(
        kind, {"gaussian": Gaussian(), "gram": Gram()}, SWEEP_SOLVERS, gamma_grid(0.5, 8, 5), 30, 6, 1e-11, 1e-6, seed
    )


@pytest.fixture(scope="module")
def network() -> RectifierNetwork:
    torch.manual_seed(0)
    config = composed("train", "data=digits", "network.units_per_stage=1")
    made = instantiate(config.network, image_shape=(1, 8, 8), classes=10)
    with torch.no_grad():
        made(torch.rand(64, 1, 8, 8))
    return made.double().eval()


@pytest.mark.parametrize("kind", ["linear", "residual"])
def test_sweep_tells_the_truth_about_both_methods(kind: str) -> None:
    table = small_sweep(kind)
    assert list(table.columns) == SWEEP_COLUMNS
    assert len(table) == 2 * 5 * 7
    percent = table.set_index(["ensemble", "quantity", "gamma"])["percent"].sort_index()
    for ensemble in ("gaussian", "gram"):
        assert percent[ensemble, "existing", 0.5] == percent[ensemble, "proposed", 0.5] == 100  # γ < 1
        assert (percent[ensemble, "lipschitz"] == [100, 0, 0, 0, 0]).all()
        assert (percent[ensemble, "proposed"] >= percent[ensemble, "monotone"]).all()  # the condition suffices
        assert (percent[ensemble, "p_matrix"] >= percent[ensemble, "monotone"]).all()
        assert (percent[ensemble, "exact"] >= percent[ensemble, "p_matrix"]).all()
    for quantity in ("proposed", "exact", "p_matrix"):
        assert (percent["gram", quantity] == 100).all()
    assert percent["gaussian", "p_matrix", 8] < 20
    assert percent["gram", "existing", 8] < 20
    assert percent["gaussian", "proposed", 8] < 50
    assert (table["ci_low"] <= table["percent"] + 1e-9).all()
    assert (table["percent"] <= table["ci_high"] + 1e-9).all()
    assert table["iterations_median"].isna().sum() >= 2 * 5 * 2  # conditions have none


def test_sweep_is_a_function_of_its_seed() -> None:
    first, again, other = (small_sweep("linear", seed) for seed in (0, 0, 1))
    pd.testing.assert_frame_equal(first, again)
    assert not first.equals(other)


def test_unknown_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown kind 'cubic' of unit; known are linear, residual"):
        small_sweep("cubic")


def test_interval_is_wilsons() -> None:
    row = share(torch.tensor([True] * 8 + [False] * 2), None)
    p, n, z = 0.8, 10, 1.959964
    centre, half = p + z**2 / (2 * n), z * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    low, high = (100 * (centre + sign * half) / (1 + z**2 / n) for sign in (-1, 1))
    assert (row["ci_low"], row["ci_high"]) == pytest.approx((low, high), rel=1e-5)
    assert row["iterations_median"] is None


def test_another_preimage_is_not_recovery() -> None:
    # f(x) = x − 2·relu(x) folds: f(3) = −3 = f(−3), and the existing method, started at −3, stays there
    unit = batch_of([folding()])
    held, _ = recovered(unit, torch.tensor([[3.0]], dtype=torch.float64), Banach(), 1e-10, 1e-6)
    assert not held.item()
    held, _ = recovered(unit, torch.tensor([[-3.0]], dtype=torch.float64), Banach(), 1e-10, 1e-6)
    assert held.item()


def test_recovery_table_and_its_figures(network: RectifierNetwork) -> None:
    images = torch.rand(20, 1, 8, 8, dtype=torch.float64)
    labels, indices = torch.arange(10).repeat_interleave(2), torch.arange(20)
    solutions = undo(network, images, SOLVERS, 1e-10)
    table = recovery_table(solutions, images, labels, indices)
    assert list(table.columns) == ["digit", "index", "method", "dtype", "relative_error", "status", "iterations"]
    assert len(table) == 40
    proposed = table[table["method"] == "proposed"]
    assert (proposed["status"] == "converged").all()
    assert (proposed["relative_error"] < 1e-8).all()
    value = solutions["existing"].value.numpy()
    expected = np.linalg.norm((value - images.numpy()).reshape(20, -1), axis=1)
    expected /= np.linalg.norm(images.numpy().reshape(20, -1), axis=1)
    np.testing.assert_allclose(table[table["method"] == "existing"]["relative_error"], expected)
    pixels = {"original": images[:, 0].numpy()} | {m: s.value[:, 0].numpy() for m, s in solutions.items()}
    assert len(fig4.draw(Result(table, pixels), recorded("fig4")).axes) == 80
    percent = in_percent(table)
    np.testing.assert_allclose(percent["relative_error_percent"], 100 * table["relative_error"])
    single = undo(network.float(), images.float(), SOLVERS, 1e-5)
    network.double()
    both = pd.concat([percent, in_percent(recovery_table(single, images.float(), labels, indices))])
    assert list(both["dtype"].unique()) == ["float64", "float32"]
    title = fig5.draw(Result(both), recorded("fig5")).get_suptitle().replace("\n", " ")
    assert "random images: 20 test images, 2 a class" in title
    assert "reconstructed" in title


def test_family_row_has_its_columns(network: RectifierNetwork) -> None:
    images = torch.rand(4, 1, 8, 8, dtype=torch.float64)
    record = {
        "recipe": {"unit": {"family": "monotone"}, "seed": 3}, "test_accuracy": 0.5, "parameters": 7, "epochs": 1,
        "seconds": 2.0,
    }  # fmt: skip
    cost = certified_cost(network, images, Chebyshev(), "float32", 1e-5, 2)
    row = family_row(network, record, images, undo(network, images, SOLVERS | {"auto": Auto()}, 1e-10), 1e-6, cost)
    assert list(row) == [
        "family", "seed", "test_accuracy", "certified_units", "units", "max_norm_A", "recovered_percent_existing",
        "recovered_percent_proposed", "recovered_percent_auto", "inverse_evaluations", "parameters", "epochs",
        "seconds", "images", "inverse_method", "inverse_forward_passes", "inverse_error_max",
    ]  # fmt: skip
    assert (row["test_accuracy"], row["certified_units"], row["units"]) == (50.0, 2, 2)
    assert row["recovered_percent_proposed"] == row["recovered_percent_auto"] == 100
    assert row["inverse_method"] == "chebyshev"
    assert row["inverse_forward_passes"] > 0
    assert network.classifier.weight.dtype == torch.float64
    assert 0 < largest_norm(network.units) <= 3.0001  # the cap
    free = row | {"family": "standard", "inverse_forward_passes": None}
    table = pd.DataFrame([row, row | {"seed": 4, "test_accuracy": 52.0}, free])
    axis = table1.draw(Result(table), recorded("table1")).axes[0]
    assert "random" in axis.get_title()
    cells = {place: cell.get_text().get_text() for place, cell in axis.tables[0].get_celld().items()}
    assert cells[3, 1] == "mean"
    assert cells[3, 2] == "51.00 ± 1.41"
    assert cells[4, 10] == "–"


def test_a_network_that_is_not_certified_has_no_cost() -> None:
    torch.manual_seed(0)
    config = composed("train", "data=digits", "network.units_per_stage=1", "unit=standard")
    loud = instantiate(config.network, image_shape=(1, 8, 8), classes=10).eval()
    assert certified_cost(loud, torch.rand(2, 1, 8, 8), Chebyshev(), "float32", 1e-5, 1) == {}


def test_rows_of_caps_and_their_figure(network: RectifierNetwork) -> None:
    images = torch.rand(4, 1, 8, 8)
    rows = []
    for norm_cap in (3.0, None):
        record = {"recipe": {"unit": {"make": {"norm_cap": norm_cap}}, "seed": 3}, "test_accuracy": 0.5}
        for dtype, tolerance in (("float32", 1e-5), ("float64", 1e-10)):
            rows.append(cap_row(network, record, 40, images, Auto(), dtype, tolerance, 1))
    table = pd.DataFrame(rows)
    assert list(table["dtype"]) == ["float32", "float64"] * 2
    assert (table["converged"] == 1).all()
    assert (table["error_max"] < [1e-3, 1e-8] * 2).all()
    assert table["accuracy_low"].iloc[0] == pytest.approx(35.20, abs=0.01)  # Wilson, 20 of 40
    figure = fig8.draw(Result(table), recorded("fig8"))
    assert [text.get_text() for text in figure.axes[0].get_legend().get_texts()] == ["cap 3", "no cap"]
    assert "reconstructed" in figure.get_suptitle()


def test_architecture_is_read_off_the_network(network: RectifierNetwork) -> None:
    table = architecture(network)
    assert table["parameters"].sum() == sum(parameter.numel() for parameter in network.parameters())
    assert list(table["shape_in"][1:]) == list(table["shape_out"][:-1])
    assert (table["undone_by"] == "").sum() == 2
    text = " ".join(text.get_text() for text in fig1.draw(Result(table), recorded("fig1")).axes[0].texts)
    for word in ("monotone unit", "16×4×4", "32 hidden", "← fixed point", "not undone"):
        assert word in text


def test_repeated_groups_are_drawn_once() -> None:
    torch.manual_seed(0)
    config = composed("train", "data=digits")
    table = architecture(instantiate(config.network, image_shape=(1, 8, 8), classes=10))
    assert [times for _, times in fig1.grouped(table)] == [1, 1, 3, 1, 3, 1, 1]


@pytest.mark.parametrize("plot", [fig2, fig3])
@pytest.mark.parametrize("ensembles", [["gaussian"], ["gaussian", "entrywise", "gram", "mine"]])
def test_sweep_figures_from_a_small_table(plot: object, ensembles: list[str]) -> None:
    rows = [
        [ensemble, gamma, quantity, 30, 15, 50.0, 33.2, 66.8, 4.0]
        for ensemble in ensembles
        for quantity in ("existing", "proposed", "exact", "newton", "lipschitz", "monotone", "p_matrix")
        for gamma in (0.5, 1.0, 2.0)
    ]
    name = plot.__name__.rpartition(".")[2]
    figure = plot.draw(Result(pd.DataFrame(rows, columns=SWEEP_COLUMNS)), recorded(name))
    panels = [axis for axis in figure.axes if axis.get_visible()]
    assert len(panels) == len(ensembles)
    assert all(len(axis.lines) == 7 for axis in panels)
    assert "30 random cases" in figure.get_suptitle().replace("\n", " ")


def test_every_case_has_one_verdict_and_the_exact_inverse_finds_the_invertible_ones() -> None:
    gamma = gamma_grid(0.5, 4, 3)
    table = verdicts("linear", {"gaussian": Gaussian()}, SWEEP_SOLVERS, gamma, 25, 5, 1e-11, 1e-6, 0)
    count = table.pivot(index="gamma", columns="quantity", values="count")
    assert (count[list(VERDICTS)].sum(axis=1) == 25).all()
    invertible = count[["lipschitz", "monotone", "h_matrix", "triangular", "p_matrix"]].sum(axis=1)
    assert (count["exact"] >= invertible).all()
    assert count["collision"].iloc[-1] > 0
    swept = sweep("linear", {"gaussian": Gaussian()}, SOLVERS, gamma, 25, 5, 1e-11, 1e-6, 0)
    assert list(swept[swept["quantity"] == "p_matrix"]["count"]) == invertible.tolist()  # the same cases
    steps = table[table["quantity"] == "existing"]
    assert (steps["iterations_p5"] <= steps["iterations_median"]).all()
    assert (steps["iterations_median"] <= steps["iterations_p95"]).all()
    assert len(fig6.draw(Result(table), recorded("fig6")).axes) == 2


def test_images_of_a_grid_and_of_the_witness() -> None:
    config = composed("fig7").units
    table = grid_images(instantiate(config, _convert_="all"), 2.0, 5)
    assert (table.groupby(["unit", "role"]).size() == 25).sum() == 2
    witness = table[table["role"] == "witness"]
    assert list(witness["verdict"].unique()) == ["not invertible"]
    np.testing.assert_allclose(*witness[["y1", "y2"]].to_numpy(), atol=1e-7)
    assert np.linalg.norm(np.subtract(*witness[["x1", "x2"]].to_numpy())) > 0.1
    M, b = np.array(config["invertible"].M), np.array(config["invertible"].bias)
    part = table[table["unit"] == "invertible"]
    x = part[["x1", "x2"]].to_numpy()
    np.testing.assert_allclose(part[["y1", "y2"]], x + np.maximum(x + b, 0) @ (M - np.eye(2)).T)
    active = x + b > 0
    expected = [np.linalg.det(np.where(row, M, np.eye(2))) for row in active]
    np.testing.assert_allclose(part["determinant"], expected)
    assert len(fig7.draw(Result(table), recorded("fig7")).axes) == 4


@pytest.mark.slow
def test_benchmark_solves_every_p_matrix_and_times_all_methods() -> None:
    pytest.importorskip("quantecon")
    ensembles = {"gaussian": Gaussian(), "monotone": Monotone()}
    solvers = {"existing": Banach(patience=20), "proposed": Modulus(), "exact": Exact()}
    table = benchmark(ensembles, solvers, [5], [0.9, 5.0], 20, 2, 1e-10, 0, 30, 4)
    peers = {"lcp_lemke": "times_faster_than_lemke", "lcp_lemke, compiled": "times_faster_than_compiled_lemke"}
    methods = {"exact", "exact, checked", "existing", "proposed", *peers}
    assert set(table["method"]) == methods | {"p_matrix test"}
    assert len(table) == 2 * 2 * 6 + 1
    always = table[table["method"].isin(["exact", "exact, checked", *peers])]
    assert (always["p_solved"] == always["p_cases"]).all()
    assert (table[table["gamma"] == 0.9]["p_cases"] == table[table["gamma"] == 0.9]["cases"]).all()
    assert (table["seconds_low"] <= table["seconds_median"]).all()
    for peer, ratio in peers.items():
        np.testing.assert_allclose(table[table["method"] == peer][ratio], 1)
    solved = table.pivot(index=["ensemble", "gamma", "n"], columns="method", values="solved").dropna(subset="exact")
    assert (solved["lcp_lemke"] == solved["lcp_lemke, compiled"]).all()
    assert (solved["exact"] >= solved["lcp_lemke"]).all()
    assert len(bench_solvers.draw(Result(table), recorded("bench_solvers")).axes) == 8


def test_network_benchmark_counts_and_times_every_unit(network: RectifierNetwork) -> None:
    images = torch.rand(20, 1, 8, 8)
    solvers = {"chebyshev": Chebyshev(), "proposed": Modulus()}
    table = network_benchmark(network, images, solvers, [1, 6], {"float32": 1e-5, "float64": 1e-9}, 2, {"proposed": 1})
    units = len(network.units)
    assert len(table) == 2 * (units + 1) * (2 + 1)  # both solvers for a batch of 1, one for 6
    whole = table[table["layer"] == "network"]
    assert (whole["error_max"] < 1e-3).all()
    layers = table[table["layer"] != "network"].groupby(["dtype", "batch", "solver"])
    expected = whole.set_index(["dtype", "batch", "solver"])["evaluations"].sort_index()
    pd.testing.assert_series_equal(layers["evaluations"].sum(), expected, check_names=False)
    assert (
        layers["seconds_low"].sum() <= whole.set_index(["dtype", "batch", "solver"])["seconds_high"].sort_index()
    ).all()
    np.testing.assert_allclose(whole["forward_passes"], whole["seconds_median"] / whole["forward_seconds"])
    network.double()
    curve = error_curve(
        network, images.double(), {"anderson": Anderson(), "existing": Banach(patience=20)}, [1e-2, 1e-8]
    )
    unit, x = contractive_unit((2, 2, 4, 4), hidden=3, contraction=0.9, seed=0)
    hard = error_curve(unit, x, {"existing": Banach()}, [1e-2, 1e-8])
    assert hard["evaluations"].iloc[1] > 100
    anderson = curve[curve["solver"] == "anderson"]
    assert anderson["error_max"].is_monotonic_decreasing
    assert anderson["evaluations"].is_monotonic_increasing
    both = pd.concat(
        [table.assign(network="monotone"), curve.assign(network="lipschitz"), hard.assign(network="contraction")]
    )
    assert len(bench_network.draw(Result(both), recorded("bench_network")).axes) == 3


def test_a_peer_that_fails_says_why() -> None:
    with (
        LemkePeer([]) as peer,
        pytest.raises(RuntimeError, match="process failed: IndexError"),
    ):
        peer.run()


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (3.14e-11, "3.1·10⁻¹¹"), (1e9, "10⁹"), (0.5, "0.5"), (float("inf"), "inf")]
)
def test_scientific_notation(value: float, text: str) -> None:
    assert scientific(value) == text
