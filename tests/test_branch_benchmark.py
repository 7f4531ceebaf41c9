"""Random branches below norm 1 (bench_branches): Jacobians by differences, and rows that come back as they should."""

from __future__ import annotations

import pytest
import torch

from replication.experiments.data.branches import BranchKind
from replication.experiments.data.ensembles import normal
from replication.experiments.studies import branch_benchmark as module
from replication.experiments.studies.branch_benchmark import branch_benchmark, jacobians
from replication.experiments.studies.residual_flow_peer import ResidualFlowPeer
from replication.maps.equation import RowEquation
from replication.solvers import Banach, NewtonGMRES


@pytest.mark.parametrize("kind", [BranchKind("tanh"), BranchKind("softplus", 3)])
def test_jacobians_are_those_of_differences(kind: BranchKind) -> None:
    generator = torch.Generator().manual_seed(0)
    f = kind.draw(4, 6, generator).scaled(torch.tensor([0.8]))
    x, v, h = normal(4, 6, generator=generator), normal(4, 6, generator=generator), 1e-6
    difference = (f(x + h * v) - f(x - h * v)) / (2 * h)
    torch.testing.assert_close((jacobians(f, x) @ v[..., None])[..., 0], difference, rtol=1e-6, atol=1e-8)


def test_every_row_comes_back_and_a_chain_loses_as_much_as_its_conditions_let_it() -> None:
    table = branch_benchmark(
        {"relu": BranchKind("relu", 2), "gelu": BranchKind("gelu")},
        {"existing": Banach(patience=30), "newton": NewtonGMRES()},
        n=8, gamma=0.8, cases=10, chain=3, chain_tolerance=1e-15, error=1e-9, tolerances=[1e-6, 1e-10], seed=0,
    )  # fmt: skip
    assert list(table["method"]) == ["existing", "newton"] * 2
    assert (table["recovered_percent"] == 100).all()
    assert (table["error_max"] <= 1e-9).all()
    assert (table.loc[table["method"] == "existing", "evaluations_ratio"] == 1).all()
    assert (table["chain_error_max"] < 1e-12).all()
    assert (table["chain_rounding_max"] < 100).all()


def test_beyond_norm_one_the_existing_loop_brings_less_back() -> None:
    table = branch_benchmark(
        {"relu": BranchKind("relu")}, {"existing": Banach(max_iterations=200, patience=30)},
        n=8, gamma=3.0, cases=20, chain=1, chain_tolerance=1e-12, error=1e-9, tolerances=[1e-12], seed=0,
    )  # fmt: skip
    assert table["recovered_percent"].item() < 100
    assert table["error_max"].item() > 1e-9


def test_the_peer_is_the_loop_and_counts_what_each_row_needs() -> None:
    generator = torch.Generator().manual_seed(0)
    f = BranchKind("relu").draw(5, 8, generator).scaled(torch.tensor([0.8]))
    x = normal(5, 8, generator=generator)
    solution = ResidualFlowPeer().solve(RowEquation(f, f(x)), 1e-12)
    torch.testing.assert_close(solution.value, x, rtol=0, atol=1e-10)
    for row, count in enumerate(solution.evaluations):
        own, y = f.select(torch.tensor([row])), f(x)[row : row + 1]
        value = y
        for _ in range(int(count)):
            value = y - (own(value) - value)
        torch.testing.assert_close(value, solution.value[row : row + 1], rtol=0, atol=0)
    assert len(set(solution.evaluations.tolist())) > 1


def test_without_the_peer_the_others_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.warns(UserWarning, match="normflows is not installed and left out"):
        table = branch_benchmark(
            {"relu": BranchKind("relu")}, {"existing": Banach(), "normflows": ResidualFlowPeer()},
            n=4, gamma=0.5, cases=2, chain=1, chain_tolerance=1e-12, error=1e-9, tolerances=[1e-12], seed=0,
        )  # fmt: skip
    assert list(table["method"]) == ["existing"]
