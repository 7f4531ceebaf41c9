"""Bounds of the inverse Lipschitz constant: against brute force over cells, pairs of inputs, and the two constants."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from replication.data.ensembles import normal
from replication.spanning import directed_spanning_test
from replication.stability import stability

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
