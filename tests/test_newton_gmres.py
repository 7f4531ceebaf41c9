"""Newton's method with GMRES: against direct solves, Newton's own method and plain iteration, on maps of every kind."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from replication import Newton, ResidualUnit, Status
from replication.gmres import gmres
from replication.maps import RectifierEquation
from replication.solvers.newton_gmres import MapEquation, NewtonGMRES, invert_map

F64 = torch.float64


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Residual(nn.Module):
    """x + scale·branch(x)."""

    def __init__(self, branch: nn.Module, scale: float) -> None:
        super().__init__()
        self.branch, self.scale = branch, scale

    def forward(self, x: Tensor) -> Tensor:
        return x + self.scale * self.branch(x)


def mlp(activation: Callable[[], nn.Module], layers: int) -> tuple[nn.Module, tuple[int, ...]]:
    hidden = [part for _ in range(layers - 1) for part in (nn.Linear(16, 16), activation())]
    return nn.Sequential(nn.Linear(10, 16), activation(), *hidden, nn.Linear(16, 10)), (10,)


def convolutions(groups: int) -> tuple[nn.Module, tuple[int, ...]]:
    norm = nn.BatchNorm2d(8)
    nn.init.normal_(norm.running_mean)
    nn.init.uniform_(norm.running_var, 0.5, 2)
    first, second = nn.Conv2d(4, 8, 3, padding=1, groups=groups), nn.Conv2d(8, 4, 3, padding=1, groups=groups)
    return nn.Sequential(first, norm, nn.ReLU(), second), (4, 5, 5)


KINDS = {
    "relu": lambda: mlp(nn.ReLU, 1),
    "relu twice": lambda: mlp(nn.ReLU, 2),
    "relu three times": lambda: mlp(nn.ReLU, 3),
    "leaky relu": lambda: mlp(nn.LeakyReLU, 2),
    "gelu": lambda: mlp(nn.GELU, 1),
    "elu": lambda: mlp(nn.ELU, 2),
    "tanh": lambda: mlp(nn.Tanh, 2),
    "conv-bn-relu-conv": lambda: convolutions(1),
    "groups": lambda: convolutions(2),
}


def block(kind: str, norm: float, seed: int) -> tuple[Residual, tuple[int, ...]]:
    """A block whose branch has Jacobians of this norm, at most, at 64 normal inputs."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        branch, shape = KINDS[kind]()
    branch = branch.double().eval().requires_grad_(False)
    x = torch.randn(64, *shape, dtype=F64, generator=generator(seed))
    J = torch.func.vmap(torch.func.jacrev(lambda row: branch(row[None])[0]))(x).reshape(64, x[0].numel(), -1)
    return Residual(branch, norm / float(torch.linalg.matrix_norm(J, 2).max())).eval(), shape


def plain_iteration(f: Callable[[Tensor], Tensor], y: Tensor, tolerance: float) -> Tensor:
    """Evaluations that x ← y − g(x) takes (batch,)."""
    x, taken = y, torch.zeros(len(y))
    for _ in range(10_000):
        residual = f(x) - y
        taken += 1
        going = residual.flatten(1).norm(dim=1) > tolerance * y.flatten(1).norm(dim=1)
        if not going.any():
            return taken
        x = x - residual
    raise AssertionError("plain iteration does not converge")


@pytest.mark.parametrize("kind", KINDS)
def test_contractive_blocks_come_back_at_no_more_than_three_times_the_cost_of_plain_iteration(kind: str) -> None:
    f, shape = block(kind, 0.9, seed=len(kind))
    x = torch.randn(20, *shape, dtype=F64, generator=generator(1))
    y = f(x)
    solution = invert_map(f, y, 1e-11)
    assert solution.converged.all()
    assert ((solution.value - x).flatten(1).norm(dim=1) <= 1e-9 * x.flatten(1).norm(dim=1)).all()
    assert solution.evaluations.double().mean() <= 3 * plain_iteration(f, y, 1e-11).double().mean()


@pytest.mark.parametrize("kind", KINDS)
def test_single_precision_reaches_its_own_accuracy(kind: str) -> None:
    f, shape = block(kind, 0.8, seed=2)
    f = f.float()
    x = torch.randn(10, *shape, generator=generator(2))
    solution = invert_map(f, f(x), 2e-6)
    assert solution.converged.all()
    assert ((solution.value - x).flatten(1).norm(dim=1) <= 1e-4 * x.flatten(1).norm(dim=1)).all()


@settings(max_examples=25)
@given(st.floats(1, 6), st.integers(0, 10_000))
def test_monotone_units_beyond_norm_one_come_back_as_by_newton(norm: float, seed: int) -> None:
    K, b1, b2, x = (torch.randn(*s, dtype=F64, generator=generator(seed)) for s in ((6, 6), (6,), (6,), (20, 6)))
    skew = K - K.T
    A = skew + K @ K.T * (seed % 2)  # x + A·relu(x + b₁) + b₂ is a homeomorphism: I + A is positive definite
    unit = ResidualUnit(torch.eye(6, dtype=F64), b1, norm * A / torch.linalg.matrix_norm(A, 2), b2)
    y = unit(x).detach()
    with torch.no_grad():
        equation = RectifierEquation(unit.rectifier_map((6,)), y)
    by_newton = Newton().solve(equation, 1e-10)
    solution = NewtonGMRES().solve(equation, 1e-10)
    assert solution.converged[by_newton.converged].all()
    error = (solution.value - x).norm(dim=1)[solution.converged]
    assert (error <= 1e-8 * (1 + norm) * (1 + y.norm(dim=1)[solution.converged])).all()


@settings(max_examples=30)
@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 10_000))
def test_gmres_solves_what_it_says_with_the_products_it_says(n: int, restart: int, seed: int) -> None:
    J = torch.eye(n, dtype=F64) + 0.3 * torch.randn(5, n, n, dtype=F64, generator=generator(seed)) / n**0.5
    b = torch.randn(5, n, dtype=F64, generator=generator(seed + 1))
    tolerance = torch.logspace(-1, -9, 5, dtype=F64)
    counted = torch.zeros(5, dtype=torch.long)

    def product(v: Tensor, rows: Tensor) -> Tensor:
        counted[rows] += 1
        return (J[rows] @ v[..., None])[..., 0]

    x, taken = gmres(product, b, tolerance, restart, cycles=1)
    left = (b - (J @ x[..., None])[..., 0]).norm(dim=1) / b.norm(dim=1)
    assert (counted == taken).all()
    assert (taken <= min(restart, n)).all()
    assert (left <= tolerance * (1 + 1e-6))[taken < restart].all()
    for row in range(5):  # the smallest residual over the Krylov space, by a direct least-squares solve
        space = [b[row]]
        for _ in range(int(taken[row]) - 1):
            space.append(J[row] @ space[-1] / space[-1].norm())
        images = torch.linalg.qr(J[row] @ torch.stack(space, 1))[0]
        least = (b[row] - images @ (images.T @ b[row])).norm() / b[row].norm()
        assert left[row] == pytest.approx(float(least), rel=1e-4, abs=1e-9)


def test_gmres_begins_again_until_it_is_there() -> None:
    J = torch.diag(torch.linspace(1, 10, 30, dtype=F64))
    b = torch.ones(2, 30, dtype=F64)
    x, taken = gmres(lambda v, rows: v @ J.mT, b, torch.full((2,), 1e-10, dtype=F64), restart=10, cycles=20)
    torch.testing.assert_close(x, b / torch.diagonal(J), rtol=1e-8, atol=1e-10)
    assert (taken > 10).all()


def test_gmres_on_a_singular_row_leaves_the_others_alone() -> None:
    J = torch.stack([torch.zeros(3, 3), torch.tensor([[0.0, 1, 0], [0, 0, 1], [0, 0, 0]]), torch.eye(3) * 2]).double()
    b = torch.ones(3, 3, dtype=F64)
    x, _ = gmres(lambda v, rows: (J[rows] @ v[..., None])[..., 0], b, torch.full((3,), 1e-9, dtype=F64), 3, 2)
    torch.testing.assert_close(x[2], b[2] / 2)


def test_evaluations_count_residuals_and_products_alike() -> None:
    calls = [0]

    def f(x: Tensor) -> Tensor:
        calls[0] += len(x)
        return x + torch.tanh(x).flip(1) / 2 + torch.sin(x) / 4

    y = torch.randn(1, 8, dtype=F64, generator=generator(0))
    solution = NewtonGMRES().solve(MapEquation(f, y), 1e-12)
    assert solution.converged.all()
    assert int(solution.evaluations) == calls[0]


def test_rows_out_of_reach_say_so_and_the_others_stand() -> None:
    y = torch.tensor([[-1.0], [1.0], [-3.0]], dtype=F64)
    solution = invert_map(lambda x: -x.abs(), y, 1e-12)  # no x has −|x| = 1
    assert solution.status.tolist() == [Status.CONVERGED, Status.STAGNATED, Status.CONVERGED]
    torch.testing.assert_close(solution.residual, torch.tensor([0.0, 1.0, 0.0], dtype=F64))
    assert int(solution.evaluations.max()) < 200


def test_a_map_that_is_not_finite_at_a_row_marks_that_row_alone() -> None:
    y = torch.tensor([[1.0, 1.0], [-1.0, 2.0]], dtype=F64)
    solution = invert_map(
        lambda x: x + 0.1 * x.clamp(max=-0.5).add(0.5).mul(torch.inf).nan_to_num(0, 0, torch.nan), y, 1e-10
    )
    assert solution.status[0] is Status.CONVERGED
    assert solution.status[1] is not Status.CONVERGED


def test_rows_do_not_depend_on_their_batch() -> None:
    f, shape = block("relu twice", 1.5, seed=4)
    y = f(torch.randn(6, *shape, dtype=F64, generator=generator(3)))
    together = invert_map(f, y, 1e-10)
    for row in range(6):
        alone = invert_map(f, y[row : row + 1], 1e-10)
        torch.testing.assert_close(alone.value[0], together.value[row], rtol=1e-8, atol=1e-8)
        assert alone.status[0] is together.status[row]


def test_a_module_that_begins_in_place_is_solved_as_it_is() -> None:
    class InPlace(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x + 0.5 * torch.roll(nn.functional.elu(x, inplace=True), 1, dims=1)  # ELU has overwritten x

    x = torch.randn(4, 6, dtype=F64, generator=generator(5))
    y = InPlace()(x.clone())
    kept = y.clone()
    solution = invert_map(InPlace(), y, 1e-11)
    assert torch.equal(y, kept)
    assert solution.converged.all()
    torch.testing.assert_close(InPlace()(solution.value.clone()), y, rtol=1e-9, atol=1e-9)


def test_what_is_no_such_map_or_no_such_data_is_refused() -> None:
    y = torch.ones(2, 3, dtype=F64)
    with pytest.raises(ValueError, match="keep the shape"):
        invert_map(lambda x: x[:, :2], y, 1e-9)
    with pytest.raises(ValueError, match="not finite"):
        invert_map(lambda x: x, y * torch.nan, 1e-9)
    with pytest.raises(TypeError, match="float32 or float64"):
        invert_map(lambda x: x, y.half(), 1e-9)
    with pytest.raises(ValueError, match="forcing"):
        NewtonGMRES(forcing=1.0)
    with pytest.raises(TypeError, match="unexpected"):
        invert_map(lambda x: x, y, 1e-9, forcings=0.5)


def test_no_rows_are_no_work() -> None:
    assert invert_map(lambda x: 2 * x, torch.zeros(0, 3, dtype=F64), 1e-9).value.shape == (0, 3)
