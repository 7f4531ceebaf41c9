"""Bounds of the inverse Lipschitz constant: against brute force over cells, pairs of inputs, and the two constants."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from builders import layer_with_near_parallel_rows
from hypothesis import given
from hypothesis import strategies as st
from oracles import active_sets, least_stretch
from torch import Tensor

from replication.experiments.data.ensembles import normal
from replication.relu_layers.spanning import directed_spanning_test
from replication.relu_layers.stability import stability

COARSE = math.sqrt(torch.finfo(torch.float64).eps)  # of a singular value by the eigenvalues of WᵀW, relative to ‖W‖


def gaussian(m: int, n: int, seed: int = 0) -> Tensor:
    return normal(m, n, generator=torch.Generator().manual_seed(seed))


def least_over_cells(W: Tensor) -> float:
    """σ = min σmin(W_S(x)) over the cells at random points and around the rays where n − 1 hyperplanes meet."""
    n = W.shape[1]
    sets = torch.tensor(list(itertools.combinations(range(len(W)), n - 1)), dtype=torch.long)
    sets = sets.reshape(max(len(sets), 1), n - 1)
    rays = torch.linalg.svd(W[sets], full_matrices=True)[2][:, -1]
    around = torch.cat([sign * rays + 1e-7 * gaussian(len(rays), n, k) for k in range(20) for sign in (1, -1)])
    patterns = torch.unique(torch.cat([gaussian(2000, n, 7), around]) @ W.mT > 0, dim=0)
    values = [torch.linalg.svdvals(W[p])[-1] if p.sum() >= n else W.new_zeros(()) for p in patterns]
    return float(min(values))


def ratios(W: Tensor, pairs: int = 40_000) -> Tensor:
    """‖f(x) − f(x′)‖/‖x − x′‖ of random pairs, of near ones and of pairs through the origin."""
    n = W.shape[1]
    x, other = gaussian(pairs, n, 1), gaussian(pairs, n, 2)
    near = x + 10 ** -(4 * torch.rand(pairs, 1).double()) * other
    scaled = -x * torch.rand(pairs, 1).double()
    first, second = torch.cat([x] * 4), torch.cat([other, near, scaled, -x])
    change = torch.relu(first @ W.mT) - torch.relu(second @ W.mT)
    return change.norm(dim=1) / (first - second).norm(dim=1)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_it_is_exact_for_small_layers(n: int) -> None:
    for case in range(12):
        W = gaussian((4 + case % 5) * n, n, case)
        bounds = stability(W)
        assert bounds.exact
        assert bounds.lower == pytest.approx(least_over_cells(W), abs=COARSE * float(W.norm()))
        assert (bounds.lower > 0) == directed_spanning_test(W).spans


def test_it_is_exact_with_opposite_rows_and_for_the_minimal_layer() -> None:
    B, d = gaussian(3, 3), torch.tensor([0.5, 1.0, 2.0]).double()
    minimal = torch.cat([B, -d[:, None] * B])
    expected = float(torch.linalg.svdvals(d.clamp_max(1)[:, None] * B)[-1])
    assert stability(minimal).lower == pytest.approx(expected, rel=1e-8)
    mixed = torch.cat([minimal, gaussian(4, 3, 1)])
    assert stability(mixed).exact
    assert stability(mixed).lower == pytest.approx(least_over_cells(mixed), rel=1e-8)
    B = gaussian(40, 40)
    large = stability(torch.cat([B, -B]))
    sigma = float(torch.linalg.svdvals(B)[-1])
    assert large.lower == pytest.approx(sigma, rel=1e-5)
    assert large.upper >= large.lower


def test_three_hyperplanes_through_a_ray_give_a_bound_only() -> None:
    rows = torch.tensor([[1.0, 0, 0], [0, 1, 0], [1, 1, 0], [0, 0, 1]]).double()
    W = torch.cat([rows, -rows])
    bounds = stability(W)
    assert not bounds.exact
    assert 0 < bounds.lower <= least_over_cells(W) <= bounds.upper + COARSE


def test_the_constant_is_one_over_the_root_of_two_and_no_better() -> None:
    smallest = []
    for case in range(30):
        n = 1 + case % 4
        W = gaussian((6 + case % 3) * n, n, case)
        sigma = stability(W).lower
        if sigma > 0:
            smallest.append(float(ratios(W).min()) / sigma)
    assert min(smallest) >= 1 / math.sqrt(2)
    for n in (1, 3):
        B = gaussian(n, n)
        W = torch.cat([B, -B])
        v = torch.linalg.svd(B)[2][-1]  # the worst pair is v and −v
        change = torch.relu(W @ v) - torch.relu(-W @ v)
        assert float(change.norm()) / 2 == pytest.approx(stability(W).lower / math.sqrt(2), rel=1e-7)
    wide = torch.cat([100 * torch.eye(1), -torch.eye(1)]).double()
    assert float(ratios(wide).min()) == pytest.approx(stability(wide).lower, rel=0.01)


def test_large_layers_are_bounded_from_both_sides_and_biases_from_below() -> None:
    W = gaussian(720, 60)
    bounds = stability(W)
    assert bounds.lower == 0
    assert not bounds.exact
    assert 0 < bounds.upper < float(torch.linalg.svdvals(W[torch.relu(W @ gaussian(60, 1)[:, 0]) > 0])[-1])
    assert bounds.inverse_lipschitz == math.inf
    W, b = gaussian(60, 3), gaussian(60, 1, 5)[:, 0]
    shifted = stability(W, b)
    assert shifted.lower == pytest.approx(stability(W[b >= 0]).lower)
    x, other = gaussian(20_000, 3, 1), gaussian(20_000, 3, 2)
    ratio = (torch.relu(x @ W.mT + b) - torch.relu(other @ W.mT + b)).norm(dim=1) / (x - other).norm(dim=1)
    assert 0 < shifted.lower <= float(ratio.min()) * math.sqrt(2)


def least_of_cells(W: Tensor, b: Tensor) -> float:
    """σ on the line or the plane, cell by cell in rational arithmetic."""
    sets = active_sets(W.double().numpy(), b.double().numpy())
    return min((least_stretch(W.double().numpy()[list(rows)]) for rows in sets), default=0.0)


@given(st.integers(1, 2), st.integers(0, 10**6), st.booleans(), st.sampled_from([torch.float32, torch.float64]))
def test_no_bound_is_on_the_wrong_side_of_what_rational_arithmetic_finds(
    n: int, seed: int, biased: bool, dtype: torch.dtype
) -> None:
    W, b = layer_with_near_parallel_rows(n, seed, biased, dtype)
    sigma, bounds = least_of_cells(W, b), stability(W, b)
    assert bounds.lower <= sigma * (1 + 1e-15)
    assert bounds.upper >= sigma * (1 - 1e-15)
    if bounds.exact:
        assert bounds.upper - bounds.lower <= 10 * COARSE * float(W.double().norm())
    spans = directed_spanning_test(W, b).spans
    assert sigma > 0 if spans else spans is None or sigma <= COARSE * float(W.double().norm())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("angle", [1e-2, 1e-6, 5e-7, 1e-12, 1e-30])
def test_rows_that_are_nearly_opposite_are_not_taken_for_a_pair(angle: float, dtype: torch.dtype) -> None:
    W = torch.tensor([[1, 0], [-1, 0], [0, 1], [angle, -1]], dtype=dtype)
    bounds = stability(W)
    assert bounds.lower == 0  # where angle·x₁ < x₂ < 0 only the first two rows may be active
    assert bounds.exact == (angle > 1e-14)
    more = torch.cat([W, torch.tensor([[1, 1], [1, -1], [-1, 1], [-1, -1]], dtype=dtype)])
    assert 0 < stability(more).lower <= least_of_cells(more, torch.zeros(8)) * (1 + 1e-15)
    assert stability(W, torch.ones(4, dtype=dtype)).lower == 0


def test_rounded_multiples_count_as_parallel_and_the_move_is_said() -> None:
    for dtype in (torch.float32, torch.float64):
        B, d = gaussian(3, 3).to(dtype), torch.tensor([0.3, 1.7, 2.9], dtype=dtype)
        bounds = stability(torch.cat([B, -d[:, None] * B]), torch.cat([torch.ones(3), -d]).to(dtype))
        expected = float(torch.linalg.svdvals(d.double().clamp_max(1)[:, None] * B.double())[-1])
        assert bounds.lower == pytest.approx(expected, rel=1e-6)
        assert max(bounds.moved) <= 4 * torch.finfo(dtype).eps * float(B.norm() * d.max() + d.norm())
    assert stability(torch.cat([B, B, -B])).moved == pytest.approx((0, 0), abs=1e-14)


def test_the_upper_bound_is_that_of_rows_active_together() -> None:
    W, b = torch.tensor([[-2.0], [1], [-2], [4]]).double(), torch.tensor([0, 0.5, -0.5, 0.5]).double()
    bounds = stability(W, b)
    assert bounds.upper == pytest.approx(math.sqrt(5))
    assert bounds.lower == pytest.approx(2)
    for scale in (1e-100, 1e-3, 1e100):
        assert stability(W * scale, b * scale).upper == pytest.approx(math.sqrt(5) * scale)
        assert stability(W, b * scale).upper >= math.sqrt(5) * (1 - 1e-12)


def test_hyperplanes_that_nearly_meet_in_a_line_are_in_doubt() -> None:
    rows = torch.tensor([[1.0, 0, 0, 0], [0, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1], [1, 2, 3, 4]]).double()
    exactly = stability(torch.cat([rows, -rows]))
    assert exactly.lower > 0  # three rows of one plane have no ray of their own
    tilted = rows.clone()
    tilted[2, 2] = 1e-15
    nearly = stability(torch.cat([tilted[:5], -tilted[:4], torch.tensor([[1e-3, 0, 0, -1]]).double()]))
    assert nearly.lower == 0
    assert not nearly.exact


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_rows_that_do_not_span_have_no_constant(rank: int) -> None:
    W = torch.randint(-3, 4, (9, rank), generator=torch.Generator().manual_seed(rank)).double()
    flat = torch.cat([W, torch.zeros(9, 4 - rank).double()], dim=1)
    for b in (None, torch.ones(9).double()):
        bounds = stability(flat, b)
        assert bounds.lower == 0
        assert bounds.inverse_lipschitz == math.inf
