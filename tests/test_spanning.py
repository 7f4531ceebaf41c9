"""Directed spanning sets: the tests against brute force, collisions evaluated, and the facts of the paper."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracles import determinant
from scipy.optimize import linprog
from torch import Tensor

from replication.experiments.data.ensembles import normal
from replication.relu_layers.flats import by_flats
from replication.relu_layers.gordan import has_exact_dependence, is_dependence
from replication.relu_layers.layer import Layer
from replication.relu_layers.milp import by_milp
from replication.relu_layers.patches import patch_rows, patch_spanning_test
from replication.relu_layers.refutation import adversarial_direction
from replication.relu_layers.spanning import EXACT_LIMIT, directed_spanning_test
from replication.relu_layers.verdict import SpanningTest


def gaussian(m: int, n: int, seed: int = 0) -> Tensor:
    return normal(m, n, generator=torch.Generator().manual_seed(seed))


def fewest_active(W: np.ndarray) -> int:
    """The least number of active rows of a matrix in general position, over all cells, by the rays of the arrangement.

    At a ray, where n − 1 rows vanish, a cell begins in which all of these are negative.
    """
    m, n = W.shape
    sets = np.array(list(itertools.combinations(range(m), n - 1)), dtype=int).reshape(-1, n - 1)
    rays = np.linalg.svd(W[sets], full_matrices=True)[2][:, -1]
    along = rays @ W.T
    np.put_along_axis(along, sets, 0.0, axis=1)
    return int(min((along > 0).sum(axis=1).min(), (along < 0).sum(axis=1).min()))


def violations(W: Tensor, b: Tensor | None = None, directions: int = 2000, seed: int = 1) -> int:
    """How many random inputs have active rows that do not span."""
    generator = torch.Generator().manual_seed(seed)
    x = normal(directions, W.shape[1], generator=generator) * 10 ** normal(directions, 1, generator=generator)
    patterns = torch.unique(x @ W.mT + (0 if b is None else b) >= 0, dim=0)
    grams = torch.einsum("km,mi,mj->kij", patterns.to(W), W, W)
    return int((torch.linalg.eigvalsh(grams)[:, 0] <= 1e-13 * W.square().sum()).sum())


def assert_collides(test: SpanningTest, W: Tensor, b: Tensor | None = None) -> None:
    assert test.pair is not None
    x1, x2 = test.pair
    y1, y2 = (torch.relu(W @ x + (0 if b is None else b)) for x in (x1, x2))
    assert (x1 - x2).norm() > 0
    # rounding of m outputs of sums of n terms, far below the distance of the inputs
    size = torch.finfo(W.dtype).eps * W.shape[1] * W.norm() * (1 + x1.norm())
    assert (y1 - y2).norm() <= 4 * size
    assert (y1 - y2).norm() <= 1e-8 * (x1 - x2).norm()


def test_the_exact_test_agrees_with_brute_force_on_three_hundred_layers() -> None:
    answers = []
    for case in range(300):
        n, ratio = 2 + case % 3, 1.5 + 10.5 * (case // 3) / 99
        W = gaussian(round(ratio * n), n, seed=case)
        test = directed_spanning_test(W)
        assert test.spans == (fewest_active(W.numpy()) >= n), (n, ratio, case)
        if test.spans:
            assert violations(W, seed=case) == 0
        else:
            assert_collides(test, W)
        answers.append(test.spans)
    assert 60 < sum(answers) < 240


def test_flats_alone_agree_with_brute_force() -> None:
    for case in range(60):
        n = 2 + case % 3
        W = gaussian(round((3 + case % 5) * n), n, seed=1000 + case)
        assert by_flats(Layer.of(W, None)).spans == (fewest_active(W.numpy()) >= n)


@pytest.mark.parametrize("n", [1, 2, 4, 7, 40])
def test_fewer_than_two_n_rows_never_span(n: int) -> None:
    for case in range(10):
        W = gaussian(2 * n - 1, n, seed=case)
        b = torch.zeros(len(W)).double() if case % 2 else gaussian(len(W), 1, seed=100 + case)[:, 0]
        test = directed_spanning_test(W, b)
        assert test.spans is False
        assert_collides(test, W, b)


@pytest.mark.parametrize("n", [1, 2, 3, 6, 9, 50])
def test_two_n_rows_span_exactly_as_opposite_pairs(n: int) -> None:
    for case in range(5):
        generator = torch.Generator().manual_seed(case)
        B, d = normal(n, n, generator=generator), 0.1 + torch.rand(n, generator=generator).double()
        W = torch.cat([B, -d[:, None] * B])[torch.randperm(2 * n, generator=generator)]
        for layer in (W, W.float(), torch.cat([W, gaussian(3, n)])):
            assert directed_spanning_test(layer).condition == "opposite_rows"
        without = directed_spanning_test(W[1:])
        assert without.spans is False
        assert_collides(without, W[1:])
        moved = W + 1e-3 * gaussian(2 * n, n, seed=50 + case)
        if n > 1:
            assert_collides(directed_spanning_test(moved), moved)


@given(st.integers(2, 4), st.integers(0, 10**6), st.floats(2.5, 8))
def test_scaling_permuting_and_adding_rows_keep_what_spans(n: int, seed: int, ratio: float) -> None:
    W = gaussian(round(ratio * n), n, seed)
    generator = torch.Generator().manual_seed(seed)
    spans = directed_spanning_test(W).spans
    scale = 10 ** normal(len(W), 1, generator=generator)
    order = torch.randperm(len(W), generator=generator)
    assert directed_spanning_test((scale * W)[order] @ gaussian(n, n, seed + 1)).spans == spans
    if spans:
        assert directed_spanning_test(torch.cat([W, gaussian(2, n, seed + 2)])).spans


def test_degenerate_integer_rows_are_decided_by_definition() -> None:
    decided = set()
    for case in range(150):
        generator = torch.Generator().manual_seed(case)
        n = 2 + case % 2
        W = torch.randint(-1, 2, (2 * n + 1 + case % 5, n), generator=generator).double()
        test = by_flats(Layer.of(W, None)) if torch.linalg.matrix_rank(W) == n else directed_spanning_test(W)
        assert test.spans == spans_by_definition(W.numpy())
        decided.add(test.spans)
    assert decided == {True, False}


def spans_by_definition(W: np.ndarray) -> bool:
    """Whether no flat holds all rows that are not negative somewhere, by linear programs for sets of n − 1 rows."""
    n = W.shape[1]
    rows = W[np.abs(W).sum(axis=1) > 0]
    for chosen in itertools.combinations(rows, n - 1):
        normal_vector = np.linalg.svd(np.array(chosen))[2][-1]
        outside = rows[np.abs(rows @ normal_vector) > 1e-9]
        if linprog(np.zeros(n), outside, -np.ones(len(outside)), bounds=(None, None)).status == 0:
            return False
    return True


def test_biases_are_decided_where_the_rule_of_nonnegative_ones_is_not_enough() -> None:
    line = torch.tensor([[1.0], [-1.0]]).double()  # relu(x − 1), relu(c − x) has a gap, where both are zero, if c < 1
    for c in (1.0, 1.1, 0.9):
        b = torch.tensor([-1.0, c]).double()
        test = directed_spanning_test(line, b)
        assert test.spans == (c >= 1)
        if c < 1:
            assert_collides(test, line, b)
    answers = []
    for case in range(60):
        n = 2 + case % 2
        W, b = gaussian(5 * n, n, seed=case), gaussian(5 * n, 1, seed=500 + case)[:, 0] / 2
        test = directed_spanning_test(W, b)
        moved = directed_spanning_test(W, b + W @ gaussian(n, 1, seed=case)[:, 0])
        assert test.spans == moved.spans, "moving the origin changes nothing"
        if test.spans:
            assert violations(W, b, seed=case) == 0
        else:
            assert_collides(test, W, b)
        if directed_spanning_test(W[b >= 0]).spans:
            assert test.spans
        answers.append(test.spans)
    assert 10 < sum(answers) < 50


def test_all_rows_negative_at_the_origin_and_dead_rows_do_not_span() -> None:
    W = torch.cat([torch.eye(12), -torch.eye(12)]).double()
    b = -torch.ones(24).double()
    assert_collides(directed_spanning_test(W, b), W, b)
    dead = torch.zeros(5, 3).double()
    assert_collides(directed_spanning_test(dead, torch.ones(5).double()), dead)
    assert directed_spanning_test(torch.cat([W, torch.zeros(4, 12).double()])).spans


def test_the_mixed_integer_program_agrees_and_gives_up_honestly() -> None:
    answers = []
    for case in range(12):
        n = 3 + case % 2
        W = gaussian(round((3.5 + case % 4) * n), n, seed=case)
        expected = by_flats(Layer.of(W, None)).spans
        for general in (False, True):
            test = by_milp(Layer.of(W, None), 30.0, general)
            assert test.spans == expected
            assert test.spans or test.pair is not None
        answers.append(expected)
    assert set(answers) == {True, False}
    n = EXACT_LIMIT + 4
    hard = directed_spanning_test(gaussian(9 * n, n), time_limit=0.1)
    assert hard.spans is None
    assert "did not decide within 0.1 s" in hard.reason


def test_large_layers_are_refuted_by_the_adversarial_direction_or_the_search() -> None:
    W = gaussian(1050, 500)
    x = adversarial_direction(W)
    assert int((W @ x > 0).sum()) < 500 < int((W @ gaussian(500, 1)[:, 0] > 0).sum())
    for expansivity in (2.1, 4.0):  # the second is past the reach of the adversarial direction
        W = gaussian(round(expansivity * 200), 200)
        assert_collides(directed_spanning_test(W), W)
    assert directed_spanning_test(gaussian(1000, 100)).spans is None


@pytest.mark.parametrize("dependent", [True, False])
def test_dependences_are_decided_as_in_rational_arithmetic(dependent: bool) -> None:
    for case in range(40):
        d = 1 + case % 4
        rows = gaussian(d + 1, d, seed=case).numpy()
        minors = [determinant([[Fraction(v) for v in row] for row in np.delete(rows, i, 0)]) for i in range(d + 1)]
        signs = {(-1) ** i * (1 if minor > 0 else -1) for i, minor in enumerate(minors)}
        if dependent:
            rows[-1] = -np.abs(np.random.default_rng(case).normal(size=d)) @ rows[:-1]
            if d > 1:
                assert is_dependence(np.concatenate([rows[:1], -2 * rows[:1]]))
        assert is_dependence(rows) == (dependent or len(signs) == 1)
    assert not has_exact_dependence(np.array([[1.0, 0.0], [-1.0, 1e-300]]))


def test_kernels_with_opposite_channels_are_certified_on_patches() -> None:
    kernel = gaussian(4 * 4, 1).reshape(4, 1, 2, 2)
    doubled = torch.cat([kernel, -kernel])
    test = patch_spanning_test(doubled, 2)
    assert test.spans
    assert test.condition == "opposite_rows"
    assert patch_spanning_test(kernel, 2).spans is None
    image = gaussian(36, 1).reshape(1, 1, 6, 6)
    places = patch_rows(kernel, 6) @ image.flatten()
    expected = torch.nn.functional.conv2d(image, kernel)[0]
    torch.testing.assert_close(places.reshape(25, 4).mT.reshape(4, 5, 5), expected)
    with pytest.raises(ValueError, match="at least as wide as the kernel, 2, not 1"):
        patch_spanning_test(kernel, 1)
