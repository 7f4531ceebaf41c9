"""Folds: against brute force over all pieces, exact arithmetic and dense Jacobians, and honest where none is."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from oracles import ExactUnit, active_sets, rational
from torch import Tensor, nn

from replication import ResidualUnit
from replication.folds import FoldSearch, Jacobians, find_fold
from replication.folds.jacobians import BandFactorization, DenseFactorization, as_input, as_vector

F64 = torch.float64


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, dtype=F64, generator=torch.Generator().manual_seed(seed))


def jacobian(f: nn.Module | object, x: Tensor) -> Tensor:
    """f′(x) of one input (1, *shape), by reverse differentiation."""
    J = torch.autograd.functional.jacobian(f, x)
    return J.reshape(x.numel(), x.numel())


def sign(f: object, x: Tensor) -> int:
    return int(torch.linalg.slogdet(jacobian(f, x)).sign)


def mlp(n: int, layers: int, activation: type[nn.Module], scale: float, seed: int) -> nn.Module:
    class Block(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x + scale * branch(x)

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        hidden = [part for _ in range(layers - 1) for part in (nn.Linear(2 * n, 2 * n), activation())]
        branch = nn.Sequential(nn.Linear(n, 2 * n), activation(), *hidden, nn.Linear(2 * n, n))
    branch = branch.double().requires_grad_(False)
    return Block()


def convolutional(scale: float, seed: int, shape: tuple[int, int, int] = (2, 9, 9)) -> nn.Module:
    class Block(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x + scale * branch(x)

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        branch = nn.Sequential(nn.Conv2d(shape[0], 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, shape[0], 3, padding=1))
    branch = branch.double().requires_grad_(False)
    return Block()


def check(f: object, search: FoldSearch) -> None:
    """The evidence of a search, evaluated again."""
    assert search.pair is not None, search.reason
    x1, x2 = search.pair.x1, search.pair.x2
    with torch.no_grad():
        gap = float((f(x1) - f(x2)).norm())  # type: ignore[operator]
    assert float((x1 - x2).norm()) == pytest.approx(search.pair.distance)
    assert search.pair.distance > 1e-6 * float(x1.norm())
    assert gap <= 1e-9 * search.pair.distance
    assert search.reason.startswith("not injective")


@settings(max_examples=40)
@given(st.integers(1, 4), st.integers(1, 4), st.floats(0.5, 5), st.integers(0, 10_000))
def test_folds_of_small_units_agree_with_the_signs_of_all_pieces(n: int, h: int, scale: float, seed: int) -> None:
    W1, b1, W2 = normal(h, n, seed=seed), normal(h, seed=seed + 1), scale * normal(n, h, seed=seed + 2)
    unit = ResidualUnit(W1, b1, W2, torch.zeros(n, dtype=F64)).requires_grad_(False)
    determinants = []
    assume(n <= 2 or h <= n)  # else not every set is active somewhere, and nobody has listed those that are
    every = itertools.chain.from_iterable(itertools.combinations(range(h), k) for k in range(h + 1))
    for active in active_sets(W1.numpy(), b1.numpy()) if n <= 2 else every:
        D = np.zeros(h)
        D[list(active)] = 1
        determinants.append(np.linalg.det(np.eye(n) + W2.numpy() * D @ W1.numpy()))
    assume(min(map(abs, determinants)) > 1e-6)
    inputs = 3 * normal(12, n, seed=seed + 3)
    search = find_fold(unit, inputs)
    if min(determinants) * max(determinants) > 0:
        assert search.pair is None  # one sign on all pieces: a homeomorphism
        assert "no fold found" in search.reason
    signs = {sign(unit, x) for x in inputs.split(1)}
    if signs == {1, -1}:
        check(unit, search)
        assert search.pair is not None
        assert {sign(unit, search.pair.x1), sign(unit, search.pair.x2)} == {1, -1}
        exact = ExactUnit(*(p.detach().numpy() for p in (unit.W1, unit.b1, unit.W2, unit.b2)))
        one, two = (rational(x[0].numpy()) for x in (search.pair.x1, search.pair.x2))
        gap = sum((a - b) ** 2 for a, b in zip(exact(one), exact(two), strict=True))
        assert gap <= 1e-18 * float(sum((a - b) ** 2 for a, b in zip(one, two, strict=True)))


@pytest.mark.parametrize("activation", [nn.ReLU, nn.LeakyReLU, nn.Hardtanh])
@pytest.mark.parametrize("layers", [1, 2, 3])
def test_deep_piecewise_linear_maps_fold_at_one_kink(activation: type[nn.Module], layers: int) -> None:
    found = 0
    for seed in range(6):
        f = mlp(5, layers, activation, 4.0 * 3**layers, seed)
        inputs = 2 * normal(6, 5, seed=seed)
        search = find_fold(f, inputs)
        assert search.signs[:1] == [sign(f, inputs[:1])]
        if {1, -1} <= set(search.signs):
            check(f, search)
            assert search.pair is not None
            assert sign(f, search.pair.x1) == -sign(f, search.pair.x2)
            assert search.pair.curvature is None
            found += 1
    assert found


def test_several_kinks_in_one_point_are_gone_around() -> None:
    ones = torch.ones(1, 3, dtype=F64)
    search = find_fold(lambda x: -x.abs(), torch.cat((ones, -ones)))  # the segment meets three kinks in the origin
    assert set(search.signs) == {1, -1}
    check(lambda x: -x.abs(), search)


def test_a_rectifier_after_the_sum_folds_by_itself() -> None:
    inner = mlp(6, 1, nn.ReLU, 0.1, seed=0)
    search = find_fold(lambda x: torch.relu(inner(x)), normal(3, 6, seed=1))
    check(lambda x: torch.relu(inner(x)), search)
    assert search.signs == [0]


def test_no_fold_is_found_where_there_is_none() -> None:
    W = normal(6, 6, seed=3)
    for f in (lambda x: x + 5 * torch.relu(x @ W.T) @ W, lambda x: x + 0.9 * torch.tanh(x), lambda x: x @ W):
        search = find_fold(f, normal(4, 6, seed=4))
        assert search.pair is None
        assert search.reason.startswith("no fold found")
    assert set(find_fold(lambda x: x @ W, normal(4, 6, seed=4)).signs) == {sign(lambda x: x @ W, normal(1, 6, seed=5))}


@pytest.mark.parametrize("activation", [nn.GELU, nn.Tanh, nn.SiLU])
def test_smooth_maps_fold_where_the_determinant_changes_its_sign(activation: type[nn.Module]) -> None:
    found = 0
    for seed in range(4):
        f = mlp(4, 1, activation, 6.0, seed)
        search = find_fold(f, 2 * normal(6, 4, seed=seed))
        if {1, -1} <= set(search.signs):
            check(f, search)
            assert search.pair is not None
            assert sign(f, search.pair.x1) == -sign(f, search.pair.x2)
            assert search.pair.curvature is not None
            assert search.pair.curvature > 1e3  # far above that of such maps: by Kantorovich's theorem it is proved
            found += 1
    assert found


def test_smooth_maps_are_followed_downhill_from_equal_signs() -> None:
    def f(x: Tensor) -> Tensor:
        return x - 2 * torch.tanh(x) + 0.1 * x.flip(1)  # folds near |x| = 0.9, where no input is

    search = find_fold(f, 2 + 0.1 * normal(2, 2, seed=0), random_inputs=0)
    assert set(search.signs) == {1}
    assert search.steps > 0
    check(f, search)


def test_a_convolutional_map_folds_by_a_jacobian_that_is_a_band() -> None:
    f = convolutional(6.0, seed=1)
    inputs = 2 * normal(6, 2, 9, 9, seed=2)
    assert len(Jacobians(f, inputs[:1]).sites.owners) == 25  # windows of 5×5 pixels
    search = find_fold(f, inputs)
    assert set(search.signs) == {1, -1}
    check(f, search)
    assert search.pair is not None
    assert sign(f, search.pair.x1) == -sign(f, search.pair.x2)


THERE = torch.randperm(60, generator=torch.Generator().manual_seed(0))
BACK = THERE.argsort()


def hides_nan(x: Tensor) -> Tensor:
    return x + 0.3 * torch.where(x > 0, x, 0).roll(1, dims=-1)


@pytest.mark.parametrize(
    ("f", "shape", "kind"),
    [
        (convolutional(3.0, seed=0, shape=(3, 11, 10)), (3, 11, 10), BandFactorization),
        (convolutional(3.0, seed=0, shape=(3, 5, 4)), (3, 5, 4), DenseFactorization),
        (mlp(7, 2, nn.ELU, 3.0, seed=0), (7,), DenseFactorization),
        (
            nn.Sequential(nn.Conv1d(2, 2, 3, padding=1), nn.Tanh()).double().requires_grad_(False),
            (2, 40),
            BandFactorization,
        ),
        (hides_nan, (30,), DenseFactorization),
        (lambda x: x + 2 * torch.sin(x[:, THERE]).roll(1, 1)[:, BACK], (60,), BandFactorization),  # in another order
        (nn.Linear(4, 4).double().requires_grad_(False), (5, 4), DenseFactorization),
    ],
)
def test_jacobians_are_those_of_autograd(f: object, shape: tuple[int, ...], kind: type) -> None:
    x = normal(1, *shape, seed=7)
    with torch.no_grad():
        jacobians = Jacobians(f, x)  # type: ignore[arg-type]
        J = jacobians(x)
    assert isinstance(J, kind)
    expected = jacobian(f, x)
    determinant, sigma = torch.linalg.slogdet(expected), torch.linalg.svdvals(expected)
    assert J.sign == int(determinant.sign)
    assert J.log_abs == pytest.approx(float(determinant.logabsdet), abs=1e-9 * len(expected))
    b = normal(1, *shape, seed=8)
    solved = torch.linalg.solve(expected, b.flatten()).reshape(b.shape)
    torch.testing.assert_close(J.solve(b), solved, rtol=1e-8, atol=1e-8)
    smallest = J.smallest
    rounding = 1e-14 * float(sigma[0])
    assert float(sigma[-1]) * (1 - 1e-9) - rounding <= smallest.value <= 3 * float(sigma[-1]) + rounding
    image = (expected @ smallest.right.flatten()).reshape(b.shape)
    torch.testing.assert_close(image, smallest.value * smallest.left, rtol=1e-8, atol=1e-8)


def test_what_cannot_be_searched_is_refused() -> None:
    with pytest.raises(TypeError, match="float64"):
        find_fold(lambda x: x, torch.ones(1, 3))
    with pytest.raises(ValueError, match="at least one row"):
        find_fold(lambda x: x, torch.ones(0, 3, dtype=F64))
    with pytest.raises(ValueError, match="keep the shape"):
        find_fold(lambda x: x[:, :2], torch.ones(1, 3, dtype=F64))
    with pytest.raises(ValueError, match="not finite"):
        find_fold(lambda x: x, torch.full((1, 3), torch.nan, dtype=F64))
    with pytest.raises(TypeError, match="neither true nor false"):
        bool(find_fold(lambda x: x, torch.ones(1, 3, dtype=F64)))


@pytest.mark.parametrize("looks", [False, True])
def test_jacobians_are_autograds_whether_or_not_tangents_can_be_mapped_together(looks: bool) -> None:
    def f(x: Tensor) -> Tensor:
        y = x + torch.relu(2 * x.flip(-1)) * x.cos()
        if looks and not np.isfinite(y.detach().numpy()).any():  # a look at numbers, which vmap does not allow
            return x
        return y

    x, v = normal(1, 3, 4, seed=0), normal(1, 3, 4, seed=1)
    jacobians = Jacobians(f, x)
    entries = jacobians.entries(x)
    found = as_input(entries @ as_vector(v, jacobians.sites), jacobians.sites)
    torch.testing.assert_close(found.flatten(), jacobian(f, x) @ v.flatten())
    assert jacobians.together is not looks
