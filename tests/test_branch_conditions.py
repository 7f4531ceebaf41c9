"""Random branches against γ (fig9): their equation, the truth at all corners, and shares that fit together."""

from __future__ import annotations

import itertools

import pandas as pd
import pytest
import torch
from builders import composed
from hydra.utils import instantiate
from torch import Tensor

from replication import NewtonGMRES
from replication.certification.diagonal_stability import diagonally_stable
from replication.conditions import POSITIVE
from replication.experiments.data.branches import Branches, BranchKind
from replication.experiments.studies.branch_conditions import SlopeSweep, branch_conditions, conditions
from replication.experiments.studies.invertibility import gamma_grid
from replication.solvers import Banach

KINDS = {
    "relu": BranchKind("relu"),
    "relu, three layers": BranchKind("relu", layers=3),
    "leaky": BranchKind("leaky_relu", options={"negative_slope": 0.25}),
    "elu": BranchKind("elu"),
    "gelu, two layers": BranchKind("gelu", layers=2),
}
GAMMA = gamma_grid(0.5, 4.0, 5)


def drawn(kind: BranchKind, cases: int = 30, n: int = 5, seed: int = 0) -> Branches:
    return kind.draw(cases, n, torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    solvers = {"existing": Banach(patience=100), "newton_gmres": NewtonGMRES()}
    return branch_conditions(KINDS, [(5, 30), (26, 2)], solvers, GAMMA, 5, 1e-11, 1e-6, 0)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_determinants_of_the_jacobian_are_those_of_the_equation(kind: BranchKind) -> None:
    branches = drawn(kind).scaled(torch.tensor([1.7], dtype=torch.float64))
    x = torch.randn(30, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    for case in range(30):
        one = branches.select(torch.tensor([case]))
        jacobian = torch.autograd.functional.jacobian(lambda v, one=one: one(v[None])[0], x[case])
        D = slopes(one, x[case], kind)
        expected = torch.linalg.det(torch.eye(5, dtype=torch.float64) + one.matrix()[0] * D)
        assert torch.allclose(torch.linalg.det(jacobian), expected, rtol=1e-9, atol=1e-12)


def slopes(branch: Branches, x: Tensor, kind: BranchKind) -> Tensor:
    """φ′ at all preactivations of one input, layer by layer."""
    found, z = [], x
    for W, b in zip(branch.weights, branch.biases, strict=False):
        s = W[0] @ z + b[0]
        found.append(kind.phi.slope(s))
        z = kind.phi(s)
    return torch.cat(found)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_gamma_is_the_norm_and_no_scaling_of_layers_makes_it_less(kind: BranchKind) -> None:
    A = drawn(kind).scaled(torch.tensor([0.5, 3.0], dtype=torch.float64)).matrix()
    assert torch.allclose(torch.linalg.matrix_norm(A, ord=2), torch.tensor([0.5, 3.0]).double().repeat_interleave(30))
    for W in drawn(kind).weights[1:-1]:
        assert torch.allclose(torch.linalg.matrix_norm(W, ord=2), torch.ones(30).double())


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_the_truth_is_one_sign_at_all_corners(kind: BranchKind) -> None:
    A, phi = drawn(kind).matrix(), kind.phi
    held = conditions(SlopeSweep(A, phi, GAMMA))["p_matrix"]
    corners = torch.tensor(list(itertools.product((float(phi.lower), float(phi.upper)), repeat=5))).double()
    for index, gamma in enumerate(GAMMA):
        signs = torch.linalg.det(torch.eye(5).double() + gamma * A[:, None] * corners[None, :, None, :]).sign()
        assert torch.equal(held[index], (signs == signs[:, :1]).all(1))
    assert held[0].all()
    assert not held[-1].all()


@pytest.mark.parametrize("name", ["relu, three layers", "leaky", "gelu, two layers"])
def test_stable_matrices_are_those_that_are_found_one_by_one(name: str) -> None:
    sweep = SlopeSweep(drawn(KINDS[name], 15).matrix(), KINDS[name].phi, GAMMA)
    assert sweep.nested == (name != "leaky")
    M, error = sweep.matrices
    everywhere = torch.ones(5, 15, dtype=torch.bool)
    expected = [[diagonally_stable(M[i, j], error[i, j]).sign == POSITIVE for j in range(15)] for i in range(5)]
    assert sweep.stable(~everywhere, everywhere).tolist() == expected
    assert conditions(sweep)["diagonal_stability"].tolist() == expected  # between the monotone ones and the P-matrices


def test_the_table_has_a_row_for_each_branch_order_gamma_and_quantity(table: pd.DataFrame) -> None:
    assert list(table.columns) == [
        "branch", "layers", "n", "gamma", "quantity", "cases", "count", "percent", "ci_low", "ci_high",
        "iterations_median",
    ]  # fmt: skip
    counts = table.groupby(["n", "quantity"]).size()
    assert (counts == len(KINDS) * len(GAMMA)).all()
    assert set(counts[5].index) - set(counts[26].index) == {"existing", "newton_gmres", "p_matrix"}
    assert table.groupby("n")["cases"].unique().map(list).to_dict() == {5: [30], 26: [2]}


def test_weaker_conditions_hold_more_often_and_what_they_promise_comes_back(table: pd.DataFrame) -> None:
    wide = table[table["n"] == 5].pivot(index=["branch", "gamma"], columns="quantity", values="count")
    for stronger, weaker in (
        ("lipschitz", "monotone"), ("monotone", "diagonal_stability"), ("h_matrix", "diagonal_stability"),
        ("diagonal_stability", "p_matrix"), ("p_matrix", "newton_gmres"), ("lipschitz", "existing"),
    ):  # fmt: skip
        assert (wide[stronger] <= wide[weaker]).all(), (stronger, weaker)
    assert (wide["monotone"] < wide["p_matrix"]).any()


def test_activations_of_the_same_slopes_have_the_same_certificates(table: pd.DataFrame) -> None:
    kept = table[~table["quantity"].isin(["existing", "newton_gmres"])].set_index(["n", "gamma", "quantity"])
    relu, elu = (kept[kept["branch"] == name]["count"] for name in ("relu", "elu"))
    assert relu.equals(elu)


def test_more_layers_than_preactivations_are_refused() -> None:
    with pytest.raises(ValueError, match="3 layers need at least as many preactivations, not 2; raise the order"):
        drawn(KINDS["relu, three layers"], n=2)


def test_the_configured_study_is_that_of_order_ten_and_larger_ones() -> None:
    study = instantiate(composed("fig9").study)
    assert [n for n, _ in study["orders"]] == [10, 50, 200]
    assert study["solved_order"] == 10
    assert {kind.layers for kind in study["branches"].values()} == {1, 2, 3}
    assert {kind.activation for kind in study["branches"].values()} == {"relu", "leaky_relu", "elu", "gelu"}
