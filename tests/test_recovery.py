"""Networks recovered from their outputs: against true weights and counted queries, and refused where there are none."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from builders import said_by_example
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from replication import recover_network
from replication.experiments.studies.network_recovery import (
    bends,
    comparison,
    random_network,
    recoveries,
    turn,
    uncrossable,
)
from replication.recovery import Recovery, RecoveryStatus
from replication.recovery.lines import kinks_on_segment
from replication.recovery.oracle import Oracle
from replication.recovery.pieces import affine_piece, hyperplane_between
from replication.recovery.signs import flips


def counted(f: Callable[[Tensor], Tensor]) -> tuple[Callable[[Tensor], Tensor], list[int]]:
    """A function beside the numbers of rows that it was asked for."""
    asked: list[int] = []

    def g(x: Tensor) -> Tensor:
        asked.append(len(x))
        return f(x)

    return g, asked


def recovered(widths: list[int], seed: int) -> tuple[nn.Sequential, Recovery]:
    network = random_network(widths, seed)
    return network, recover_network(network, widths[0], seed=seed)


@settings(max_examples=15, deadline=None)
@given(d=st.integers(3, 8), h=st.integers(1, 8), m=st.integers(1, 3), seed=st.integers(0, 10**6))
def test_one_hidden_layer_comes_out_whole(d: int, h: int, m: int, seed: int) -> None:
    network, recovery = recovered([d, h, m], seed)
    told = comparison(network, recovery)
    assert told["architecture_exact"]
    assert float(str(told["weight_error"])) < 1e-6
    assert float(str(told["function_error"])) < 1e-8
    if h <= d:
        assert recovery.status is RecoveryStatus.RECOVERED
        assert told["signs"]


def test_the_network_given_is_an_ordinary_one_with_the_true_weights_up_to_order_and_scale() -> None:
    network, recovery = recovered([8, 6, 2], 0)
    assert recovery.network is not None
    plain = recovery.network.sequential()
    x = torch.randn(50, 8, dtype=torch.float64)
    assert torch.allclose(plain(x), network(x), atol=1e-10)
    true = network[0].weight / network[0].weight.norm(dim=1, keepdim=True)
    cosines = (recovery.layers[0].weight @ true.T).detach()
    assert torch.allclose(cosines.max(dim=0).values, torch.ones(6, dtype=torch.float64))


def test_where_signs_are_open_the_function_is_equal_and_it_is_said() -> None:
    network, recovery = recovered([4, 12, 1], 0)
    assert recovery.status is RecoveryStatus.FUNCTION
    assert "signs open" in recovery.reason
    assert recovery.network is not None
    assert not recovery.layers[0].signs_known
    x = torch.randn(50, 4, dtype=torch.float64)
    assert torch.allclose(recovery.network(x), network(x), atol=1e-9)
    with pytest.raises(ValueError, match="signs of some units"):
        recovery.network.sequential()


@pytest.mark.parametrize("seed", [1, 2, 5])
def test_two_hidden_layers_come_out_whole(seed: int) -> None:
    network, recovery = recovered([10, 10, 5, 1], seed)
    told = comparison(network, recovery)
    assert recovery.status is RecoveryStatus.RECOVERED, recovery.reason
    assert told["architecture_exact"]
    assert float(str(told["weight_error"])) < 1e-6
    assert recovery.defect < 1e-4


@pytest.mark.parametrize(("widths", "seed"), [([10, 10, 5, 1], 0), ([6, 6, 4, 1], 2), ([2, 5, 5, 1], 0)])
def test_what_is_not_recovered_is_flagged(widths: list[int], seed: int) -> None:
    network, recovery = recovered(widths, seed)
    x = 3 * torch.randn(500, widths[0], dtype=torch.float64)
    if recovery.network is None:
        assert recovery.status is RecoveryStatus.PARTLY
        assert "off by" in recovery.reason
    else:
        assert torch.allclose(recovery.network(x), network(x), atol=1e-6)


def test_queries_are_counted_and_limited() -> None:
    f, asked = counted(random_network([6, 6, 1], 0))
    recovery = recover_network(f, 6)
    assert recovery.queries == sum(asked)
    f, asked = counted(random_network([6, 6, 1], 0))
    stopped = recover_network(f, 6, max_queries=300)
    assert stopped.status is RecoveryStatus.OUT_OF_QUERIES
    assert sum(asked) <= 300
    assert stopped.network is None


def test_another_centre_scale_and_seed_give_the_same_network() -> None:
    network = random_network([5, 5, 1], 1)
    moved = recover_network(
        lambda x: 1e6 * network(x - 100), 5, centre=torch.full((5,), 100.0, dtype=torch.float64), seed=7
    )
    assert moved.status is RecoveryStatus.RECOVERED
    assert moved.network is not None
    x = torch.randn(50, 5, dtype=torch.float64)
    assert torch.allclose(moved.network(x + 100) / 1e6, network(x), atol=1e-7)


def test_affine_functions_are_affine() -> None:
    W = torch.randn(3, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for f in (lambda x: x @ W + 1, lambda x: torch.full((len(x), 2), 3.0, dtype=torch.float64)):
        recovery = recover_network(f, 3)
        assert recovery.status is RecoveryStatus.AFFINE
        assert recovery.architecture == (3, 2)
        assert recovery.network is not None
        x = torch.randn(20, 3, dtype=torch.float64)
        assert torch.allclose(recovery.network(x), f(x), atol=1e-10)


NOISE = torch.Generator().manual_seed(0)
NO_NETWORKS = {
    "tanh": torch.tanh,
    "sine": lambda x: torch.sin(5 * x),
    "softplus": lambda x: nn.functional.softplus(x, beta=1000.0),
    "noise": lambda x: torch.relu(x) + 1e-6 * torch.randn(x.shape, generator=NOISE, dtype=x.dtype),
    "float32 inside": lambda x: torch.relu(x).float().double() * 1.1,
    "step": lambda x: (x[:, :1] > 0.1).double() + torch.relu(x[:, 1:2]),
    "square": lambda x: x.square(),
}


@pytest.mark.parametrize("name", NO_NETWORKS)
def test_what_is_no_network_is_refused_in_a_sentence(name: str) -> None:
    recovery = recover_network(NO_NETWORKS[name], 3)
    assert recovery.status is RecoveryStatus.REFUSED, recovery
    assert recovery.network is None
    assert recovery.reason


def test_a_piecewise_linear_function_of_another_kind_gets_no_wrong_network() -> None:
    def f(x: Tensor) -> Tensor:
        return x.abs().amax(dim=1, keepdim=True)

    recovery = recover_network(f, 4)
    x = 3 * torch.randn(500, 4, dtype=torch.float64)
    assert recovery.network is None or torch.allclose(recovery.network(x), f(x), atol=1e-6)


def test_three_hidden_layers_are_flagged_not_guessed() -> None:
    network = random_network([5, 5, 4, 4, 1], 0)
    recovery = recover_network(network, 5)
    x = 3 * torch.randn(500, 5, dtype=torch.float64)
    assert recovery.network is None or torch.allclose(recovery.network(x), network(x), atol=1e-6)


@pytest.mark.parametrize(
    ("f", "error", "match"),
    [
        (lambda x: x.float(), TypeError, "float64"),
        (lambda x: x.numpy(), TypeError, "float64"),
        (lambda x: x[:, 0], ValueError, "rows"),
        (lambda x: x[:1], ValueError, "rows"),
        (lambda x: x / 0, ValueError, "finite"),
    ],
)
def test_wrong_outputs_are_named(f: Callable[[Tensor], Tensor], error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        recover_network(f, 3)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"inputs": 0}, ValueError), ({"inputs": 2.0}, TypeError), ({"radius": -1.0}, ValueError),
        ({"radius": "far"}, TypeError), ({"centre": torch.zeros(2)}, ValueError), ({"centre": 0}, TypeError),
        ({"max_queries": 0}, ValueError), ({"seed": -1}, ValueError), ({"radius": math.nan}, ValueError),
    ],
)  # fmt: skip
def test_wrong_settings_are_named(options: dict[str, object], error: type[Exception]) -> None:
    with pytest.raises(error):
        recover_network(lambda x: x, **({"inputs": 3} | options))


def oracle_of(network: nn.Sequential, d: int) -> Oracle:
    oracle = Oracle(network, np.zeros(d), 10.0, 10**7)
    oracle.calibrate(np.random.default_rng(0))
    return oracle


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6))
@example(seed=31821)  # two kinks that bend opposite ways: the outer tangents meet on one of them, beside both
def test_kinks_on_a_segment_are_where_the_preactivations_vanish(seed: int) -> None:
    network = random_network([3, 6, 1], seed)
    start, end = np.random.default_rng(seed).normal(size=(2, 3)) * 5
    kinks = kinks_on_segment(oracle_of(network, 3), start, end)
    u = [network[0](torch.from_numpy(one)).detach().numpy() for one in (start, end)]
    true = u[0] / (u[0] - u[1])
    true = np.sort(true[(true > 1e-6) & (true < 1 - 1e-6)])
    assert len(kinks.unresolved) == 0
    assert len(kinks.t) == len(true)
    assert np.abs(kinks.t - true).max(initial=0) < 1e-8


def test_a_piece_is_the_gradient_by_autograd_and_two_make_a_hyperplane() -> None:
    network = random_network([4, 5, 2], 3)
    oracle = oracle_of(network, 4)
    piece = affine_piece(oracle, np.zeros(4), 1.0)
    assert piece is not None
    jacobian = torch.func.jacrev(network)(torch.zeros(4, dtype=torch.float64)).detach().numpy()
    assert np.allclose(piece.gradient * oracle.scale, jacobian, atol=1e-9)
    assert hyperplane_between(piece, piece, np.ones(4)) is None


def test_signs_are_told_only_where_they_are_binary() -> None:
    generator = np.random.default_rng(0)
    A, s = generator.normal(size=(6, 4)), np.array([1.0, 0, 0, 1])
    turned, defect = flips(A, A @ s)
    assert turned is not None
    assert (turned == (s > 0)).all()
    assert defect < 1e-12
    assert flips(A, A @ (s + 0.3))[0] is None
    assert flips(A[:3], A[:3] @ s)[0] is None


def test_boundaries_bend_by_the_angle_of_the_true_weights() -> None:
    rows = list(bends(random_network([2, 5, 5, 1], 1), 6.0))
    assert {row["layers"] for row in rows} == {"1-1", "1-2"}
    assert max(float(str(row["angle_error"])) for row in rows) < 1e-6
    assert turn(np.array([[1.0, 0.0], [0.0, 1.0]])) == pytest.approx(math.pi / 2)


def test_a_plane_that_cannot_be_crossed_is_counted() -> None:
    network = random_network([3, 2, 1, 1], 0)
    layers = [part for part in network if isinstance(part, nn.Linear)]
    with torch.no_grad():
        layers[1].weight.copy_(torch.tensor([[1.0, -1.0]]))
        layers[1].bias.copy_(torch.tensor([1.0]))
    assert uncrossable(layers) == 1  # on plane 1 only the positive weight is left beside the positive bias


def test_the_example_recovers_what_it_trained() -> None:
    said = said_by_example("recover_network")
    assert "the whole network was recovered" in said
    assert "(64, 16, 10)" in said


def test_the_study_makes_a_row_for_each_network_and_crossing() -> None:
    result = recoveries(
        [{"widths": [3, 3, 1], "count": 2}], [], [2, 3, 2, 1], [1], lines=5, window=4.0, workers=1, seed=0
    )
    networks = result.table[result.table["kind"] == "network"]
    assert list(networks["widths"]) == ["3-3-1"] * 2
    assert networks["whole"].all()
    assert (networks["queries"] > networks["parameters"]).all()
    assert set(result.arrays) == {"seen", "weights"}
