"""Units of any module: certificates, inverses and gradients against brute force, exact arithmetic and autograd."""

from __future__ import annotations

import copy
import io
import itertools
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from builders import assert_one_sentence, length
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import replication.units.feed_forward as feed_forward_units
from replication import FeedForwardUnit, Inverse, Status, Verdict, as_unit, certify, invert
from replication.maps.feed_forward import FeedForwardMap
from replication.reading import modules
from replication.reading.general import read
from replication.solvers import SOLVERS, Banach, Solution

F64 = torch.float64


class Branch(nn.Module):
    """x ↦ shortcut·x + scale·branch(x)."""

    def __init__(self, *branch: nn.Module, scale: float = 1.0, shortcut: float = 1.0) -> None:
        super().__init__()
        self.branch, self.scale, self.shortcut = nn.Sequential(*branch), scale, shortcut

    def forward(self, x: Tensor) -> Tensor:
        return self.shortcut * x + self.scale * self.branch(x)


class Written(nn.Module):
    """A module whose forward pass is a function of its layer and its input."""

    def __init__(self, forward: Callable[[nn.Module, Tensor], Tensor], layer: nn.Module) -> None:
        super().__init__()
        self.layer, self.written = layer, forward

    def forward(self, x: Tensor) -> Tensor:
        return self.written(self.layer, x)


def normal(module: nn.Module, seed: int = 0, size: float = 1.0) -> nn.Module:
    """The module in float64 and evaluation mode, with normal weights, statistics and biases."""
    g = torch.Generator().manual_seed(seed)
    module = module.double().eval()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=g, dtype=F64))
            if parameter.ndim > 1:
                parameter.mul_(size / parameter[0].numel() ** 0.5)
        for name, buffer in module.named_buffers():
            if buffer.is_floating_point():
                buffer.copy_(torch.rand(buffer.shape, generator=g, dtype=F64) + ("var" in name) / 2)
    return module


def convolutions(act: Callable[[], nn.Module]) -> list[nn.Module]:
    return [
        nn.BatchNorm2d(2), act(), nn.Conv2d(2, 3, 3, padding=1, bias=False), nn.BatchNorm2d(3), act(),
        nn.Conv2d(3, 2, 3, padding=1),
    ]  # fmt: skip


MODULES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "relu twice": (lambda: Branch(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 3)), (3,)),
    "gelu": (lambda: Branch(nn.Linear(3, 5), nn.GELU(), nn.Linear(5, 3)), (3,)),
    "tanh, elu": (lambda: Branch(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 4), nn.ELU(), nn.Linear(4, 3)), (3,)),
    "softplus": (lambda: Branch(nn.Linear(3, 4), nn.Softplus(), nn.Linear(4, 3), nn.Softplus()), (3,)),
    "a scaled shortcut": (lambda: Branch(nn.Linear(3, 4), nn.LeakyReLU(), nn.Linear(4, 3), shortcut=-1.5), (3,)),
    "in place": (lambda: Branch(nn.ReLU(inplace=True), nn.Linear(3, 3), nn.ReLU(inplace=True), nn.Linear(3, 3)), (3,)),
    "overwritten input": (lambda: Written(lambda layer, x: x.add_(layer(torch.tanh(x))), nn.Linear(3, 3)), (3,)),
    "leaky at the end": (lambda: nn.Sequential(nn.Linear(3, 3), nn.LeakyReLU(0.3)), (3,)),
    "channels": (lambda: Branch(nn.Conv1d(2, 3, 3, padding=1), nn.PReLU(3), nn.Conv1d(3, 2, 1)), (2, 4)),
    "tokens": (lambda: Branch(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 3)), (2, 3)),
    "images": (lambda: Branch(*convolutions(nn.ReLU)), (2, 3, 2)),
    "smooth images": (lambda: Branch(*convolutions(nn.SiLU)), (2, 3, 2)),
}
every_module = pytest.mark.parametrize("name", MODULES)


def module_of(name: str, seed: int = 0, size: float = 0.6) -> tuple[nn.Module, Tensor]:
    """A module of this name, and inputs."""
    make, shape = MODULES[name]
    return normal(make(), seed, size), torch.randn(6, *shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def unit_of(name: str, seed: int = 0, size: float = 0.6) -> tuple[FeedForwardUnit, Tensor]:
    module, x = module_of(name, seed, size)
    unit = as_unit(module, x)
    assert isinstance(unit, FeedForwardUnit)
    return unit, x


@torch.no_grad()
def output(module: nn.Module, x: Tensor) -> Tensor:
    return module(x.clone())


# certificates


SLOPES = {  # of the steepest pieces, from the formulas of their derivatives
    "relu": (nn.ReLU, 0.0, 1.0),
    "leaky": (lambda: nn.LeakyReLU(0.25), 0.25, 1.0),
    "steep": (lambda: nn.LeakyReLU(-0.5), -0.5, 1.0),
    "tanh": (nn.Tanh, 0.0, 1.0),
    "gelu": (nn.GELU, 0.5 - 0.6289041452, 0.5 + 0.6289041452),  # (1 + erf(1))/2 + 1/(e√π), and 1 less that
}


def corner_determinants(module: Branch, low: float, high: float) -> Tensor:
    """det of shortcut + W₃D₂W₂D₁W₁ for all diagonal D₁ and D₂ of the least and the largest slopes."""
    first, second, third = (layer.weight.detach() for layer in module.branch if isinstance(layer, nn.Linear))
    n = len(first) + len(second)
    corners = torch.tensor(list(itertools.product((low, high), repeat=n)), dtype=F64)
    D1, D2 = corners.split([len(first), len(second)], 1)
    branch = third @ (D2[:, :, None] * (second @ (D1[:, :, None] * first)))
    return torch.linalg.det(module.shortcut * torch.eye(first.shape[1], dtype=F64) + branch)


def of_two_layers(kind: str, h1: int, h2: int, d: int, seed: int, size: float) -> Branch:
    make = SLOPES[kind][0]
    module = normal(Branch(nn.Linear(d, h1), make(), nn.Linear(h1, h2), make(), nn.Linear(h2, d)), seed, size)
    assert isinstance(module, Branch)
    return module


def exactly(module: Branch, x: Tensor) -> list[Fraction]:
    """The value of a module of leaky ReLU at one input, in rational arithmetic."""
    values = [Fraction(v) for v in x.tolist()]
    start = values
    for layer in module.branch:
        if isinstance(layer, nn.Linear):
            weight, bias = layer.weight.tolist(), layer.bias.tolist()
            values = [
                sum((Fraction(w) * v for w, v in zip(row, values, strict=True)), Fraction(b))
                for row, b in zip(weight, bias, strict=True)
            ]
        else:
            slope = Fraction(getattr(layer, "negative_slope", 0.0))
            values = [v if v > 0 else slope * v for v in values]
    return [v + w for v, w in zip(start, values, strict=True)]


@given(
    st.sampled_from(list(SLOPES)), st.integers(1, 4), st.integers(1, 4), st.integers(1, 3), st.integers(0, 10_000),
    st.sampled_from([0.5, 1.0, 1.5]),
)  # fmt: skip
@settings(max_examples=20, deadline=None)
def test_verdicts_are_those_of_all_corners(kind: str, h1: int, h2: int, d: int, seed: int, size: float) -> None:
    module = of_two_layers(kind, h1, h2, d, seed, size)
    determinants = corner_determinants(module, *SLOPES[kind][1:])
    certificate = certify(module, torch.randn(8, d, dtype=F64, generator=torch.Generator().manual_seed(seed)))
    if certificate.verdict is Verdict.INVERTIBLE:
        assert (determinants > -1e-12).all() or (determinants < 1e-12).all()
        assert determinants.abs().max() > 0
    if certificate.verdict is Verdict.NOT_INVERTIBLE:
        assert determinants.min() <= 1e-9
        assert determinants.max() >= -1e-9
        x1, x2 = certificate.witness
        distance = float(length((x1 - x2)[None]))
        assert distance > 0
        if kind in ("relu", "leaky", "steep"):
            apart = [float(a - b) for a, b in zip(exactly(module, x1), exactly(module, x2), strict=True)]
            assert np.linalg.norm(apart) <= 1e-8 * distance
        assert length(output(module, x1[None]) - output(module, x2[None])) <= 1e-8 * distance


def test_all_three_verdicts_occur_and_definite_ones_are_the_rule() -> None:
    found = []
    for seed in range(30):
        module = of_two_layers("relu", 2, 2, 2, seed, (0.5, 1.0, 2.0)[seed % 3])
        determinants = corner_determinants(module, 0.0, 1.0)
        verdict = certify(module, 3 * torch.randn(8, 2, dtype=F64)).verdict
        found.append((verdict, bool((determinants > 0).all())))
    assert sum(verdict is Verdict.INVERTIBLE for verdict, _ in found) >= 10
    assert sum(verdict is Verdict.NOT_INVERTIBLE for verdict, _ in found) >= 3
    assert all(positive for verdict, positive in found if verdict is Verdict.INVERTIBLE)
    missed = sum(positive and verdict is not Verdict.INVERTIBLE for verdict, positive in found)
    assert missed == 0  # for so few numbers every P-matrix is found to be one


def test_a_fold_beyond_one_layer_is_proved_by_two_inputs() -> None:
    """x − 2·relu(relu(x) + 1) + …: falls where x > 0 and rises where x < 0."""
    one = nn.Linear(1, 1)
    module = normal(Branch(one, nn.ReLU(), nn.Linear(1, 1), nn.ReLU(), nn.Linear(1, 1)))
    with torch.no_grad():
        for layer, weight, bias in zip(module.branch[::2], (1.0, 1.0, -2.0), (0.0, 1.0, 0.0), strict=True):
            layer.weight.fill_(weight)
            layer.bias.fill_(bias)
    certificate = certify(module, torch.linspace(-2, 2, 5, dtype=F64)[:, None])
    assert certificate.verdict is Verdict.NOT_INVERTIBLE
    x1, x2 = certificate.witness
    assert x1 * x2 < 0
    assert abs(float(exactly(module, x1)[0] - exactly(module, x2)[0])) <= 1e-9 * float((x1 - x2).abs())
    assert "invertible" not in as_unit(module, torch.ones(1, 1, dtype=F64)).certificate(folds=False).verdict.value


def test_certificates_are_those_of_the_weights_that_the_module_has_now() -> None:
    unit, x = unit_of("relu twice", size=0.3)
    assert unit.certificate().verdict is Verdict.INVERTIBLE
    with torch.no_grad():
        for parameter in unit.module.parameters():
            parameter.mul_(20)
    assert unit.certificate().verdict is not Verdict.INVERTIBLE
    y = output(unit.module, x)
    optimizer = torch.optim.SGD(unit.parameters(), lr=0.01)
    unit.module(x).square().mean().backward()
    optimizer.step()
    assert not torch.equal(output(unit, x), y)
    assert torch.equal(unit.inverse(output(unit, x)).value, invert(unit.module, output(unit, x)).value)


# inverses


@every_module
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_inputs_come_back_with_the_modules_own_residual(name: str, dtype: torch.dtype) -> None:
    module, x = module_of(name)
    module, x = module.to(dtype), x.to(dtype)
    y = output(module, x)
    kept, solution = y.clone(), invert(module, y)
    assert torch.equal(y, kept)
    assert solution.value.dtype == dtype
    own = length(output(module, solution.value) - y) / length(y)
    torch.testing.assert_close(
        solution.residual.double(), own, rtol=1e-5, atol=1e-9 if dtype is torch.float32 else 1e-15
    )
    assert torch.equal(solution.converged, solution.residual <= (1e-10 if dtype is torch.float64 else 1e-5))
    assert solution.converged.any()
    if certify(module, x).verdict is Verdict.INVERTIBLE:
        assert solution.converged.all()
        assert (length(solution.value - x) <= 1e3 * (1e-10 if dtype is torch.float64 else 1e-5) * length(y)).all()


@given(st.sampled_from(list(MODULES)), st.integers(0, 10_000), st.sampled_from([1e-1, 1e-3, 1e-8]))
@settings(max_examples=20, deadline=None)
def test_no_error_exceeds_its_bound(name: str, seed: int, tolerance: float) -> None:
    module, x = module_of(name, seed, 0.5)
    y = output(module, x)
    solution = invert(module, y, tolerance=tolerance)
    if solution.error_bound is not None:
        rounding = 1e-13 * (1 + length(y) + length(x))  # of y itself
        assert (length(solution.value - x) <= solution.error_bound + rounding * 100).all()
        assert certify(module, x).verdict is Verdict.INVERTIBLE


def test_error_bounds_are_given_and_of_use() -> None:
    given_to = []
    for name in MODULES:
        module, x = module_of(name, size=0.4)
        solution = invert(module, output(module, x), tolerance=1e-6)
        if solution.error_bound is not None:
            given_to.append(name)
            assert (solution.error_bound <= 1e3 * solution.residual * length(output(module, x)) + 1e-7).all()
    assert len(given_to) >= 8


def test_the_bound_of_softplus_counts_where_torchs_own_jumps() -> None:
    unit, _ = unit_of("softplus", size=0.3)
    y = torch.full((1, 3), 60.0, dtype=F64)
    solution = unit.inverse(output(unit, y), tolerance=1e-13)
    assert solution.error_bound >= 1e-10
    assert "real numbers" in unit.certificate().reason


def test_no_rows_are_no_work() -> None:
    for name in ("relu twice", "overwritten input", "channels", "images"):
        unit, x = unit_of(name)
        for rows in (unit.inverse(x[:0]), invert(unit.module, x[:0])):
            assert rows.value.shape == x[:0].shape
            assert rows.status.shape == (0,)
        assert unit.log_abs_det_jacobian(x[:0]).shape == (0,)
    layer_norm = Branch(nn.LayerNorm(3), nn.Linear(3, 3)).double()
    assert invert(layer_norm, torch.zeros(0, 3, dtype=F64)).value.shape == (0, 3)


def test_every_general_solver_inverts_and_the_others_are_refused_by_name() -> None:
    unit, x = unit_of("tanh, elu", size=0.3)
    y = output(unit, x)
    layer_norm = Branch(nn.LayerNorm(3), nn.Linear(3, 3), scale=0.1).double()
    for solver in SOLVERS:
        if solver in ("auto", "anderson", "banach", "newton_gmres"):
            assert unit.inverse(y, solver).converged.all()
            assert (length(unit.inverse(y, solver).value - x) <= 1e-8).all()
            continue
        sentence = f"{solver} needs a unit with one ReLU layer, .* anderson, banach, newton_gmres"
        for module in (unit.module, layer_norm):
            with pytest.raises(ValueError, match=sentence) as caught:
                invert(module, y, solver)
            assert_one_sentence(caught.value)
    assert unit.inverse(y, Banach(max_iterations=1)).solver == "banach"

    class Own:
        def solve(self, equation: object, tolerance: float) -> Solution:
            return Banach().solve(equation, tolerance)

    assert unit.inverse(y, Own()).converged.all()
    assert Inverse(unit, "anderson")(y).shape == x.shape


# what cannot be read


class Attention(nn.Module):
    def __init__(self, way: str) -> None:
        super().__init__()
        self.way, self.inner, self.whole = way, nn.Linear(4, 12), nn.MultiheadAttention(4, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        if self.way == "layer":
            return x + 0.3 * self.whole(x, x, x, need_weights=False)[0]
        q, k, v = self.inner(x).chunk(3, -1)
        if self.way == "function":
            return x + 0.3 * F.scaled_dot_product_attention(q, k, v)
        return x + 0.3 * torch.softmax(q @ k.mT / 2, -1) @ v


UNREADABLE: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "layer norm": (lambda: Branch(nn.LayerNorm(4), nn.Linear(4, 4), scale=0.3), (4,)),
    "group norm": (lambda: Branch(nn.Conv2d(2, 4, 1), nn.GroupNorm(2, 4), nn.Conv2d(4, 2, 1), scale=0.3), (2, 3, 3)),
    "a gate": (lambda: Written(lambda layer, x: x + 0.3 * x.tanh() * torch.sigmoid(layer(x)), nn.Linear(4, 4)), (4,)),
    "a square": (lambda: Written(lambda layer, x: x + 0.1 * layer(x).square().tanh(), nn.Linear(4, 4)), (4,)),
    **{f"attention by a {way}": (lambda way=way: Attention(way), (3, 4)) for way in ("layer", "function", "formula")},
}


@pytest.mark.parametrize("name", UNREADABLE)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_what_cannot_be_read_is_inverted_honestly(name: str, dtype: torch.dtype) -> None:
    make, shape = UNREADABLE[name]
    torch.manual_seed(0)
    module = make().to(dtype).eval()
    x = torch.randn(5, *shape, dtype=dtype)
    y = output(module, x)
    y[-1] *= 1e30  # which some modules never return
    solution = invert(module, y)
    tolerance = 1e-10 if dtype is torch.float64 else 1e-5
    own = length(output(module, solution.value) - y) / length(y)
    own = torch.where(torch.isfinite(own), own, torch.inf)
    rounding = 10 * torch.finfo(dtype).eps  # of modules that evaluate a batch in another order than its rows
    torch.testing.assert_close(solution.residual.double(), own, rtol=1e-4, atol=rounding)
    assert torch.equal(solution.converged, solution.residual <= tolerance)
    assert solution.converged[:-1].all()
    assert (length(solution.value - x) <= 100 * tolerance * length(y))[:-1].all()
    assert solution.error_bound is None
    certificate = certify(module, x)
    assert certificate.verdict is Verdict.UNKNOWN
    assert "stands in the way" in certificate.reason


def test_outputs_that_a_module_never_returns_are_said_not_to_be_solved() -> None:
    module = Written(lambda layer, x: layer(x).square(), nn.Linear(3, 3)).double()
    solution = invert(module, -torch.ones(2, 3, dtype=F64))
    assert not solution.converged.any()
    assert all(status is not Status.CONVERGED for status in solution.status)
    assert (solution.residual > 0.1).all()


class Counting(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return x * x.tanh() + self.calls


REFUSED: dict[str, tuple[nn.Module, str]] = {
    "rows mixed": (Written(lambda layer, x: x - x.mean(0), nn.Identity()), "rows of the batch"),
    "rows mixed by a product": (
        Written(lambda layer, x: x * (1 + x.mean(0)), nn.Identity()),
        "depends on others|multiplies",
    ),
    "random numbers": (Written(lambda layer, x: x + torch.randn_like(x), nn.Identity()), "random numbers"),
    "dropout": (Branch(nn.Linear(4, 4), nn.Dropout()).train(), "random numbers in training mode"),
    "batch statistics": (Branch(nn.Linear(4, 4), nn.BatchNorm1d(4)).train(), "statistics of the batch"),
    "a state": (Counting(), "changes its own state"),
    "another shape": (nn.Linear(4, 3), "keep the shape"),
    "another shape, unreadable": (nn.Sequential(nn.LayerNorm(4), nn.Linear(4, 3)), "stands in the way|keep the shape"),
    "a tuple": (Written(lambda layer, x: (x, x), nn.Identity()), "returns a tuple"),
    "an error": (Written(lambda layer, x: x.nothing, nn.Identity()), "fails on"),
    "another precision": (Written(lambda layer, x: x.half(), nn.Identity()), "float16"),
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("call", [as_unit, invert])
def test_modules_that_are_no_maps_of_rows_are_refused_in_one_sentence(call: Callable[..., object], name: str) -> None:
    module, words = REFUSED[name]
    with pytest.raises(ValueError, match=words) as caught:
        call(module, torch.randn(5, 4))
    assert_one_sentence(caught.value)


# gradients


@every_module
def test_log_determinants_are_autograds(name: str) -> None:
    unit, x = unit_of(name)
    found = unit.log_abs_det_jacobian(x)
    d = x[0].numel()
    for row, number in zip(x, found, strict=True):
        jacobian = torch.autograd.functional.jacobian(lambda v: unit.module(v[None].clone()).flatten(), row)
        expected = torch.linalg.slogdet(jacobian.reshape(d, d)).logabsdet
        torch.testing.assert_close(number, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", ["relu twice", "overwritten input", "leaky at the end", "smooth images"])
@pytest.mark.parametrize("limit", [0, 4096])
def test_gradients_of_the_inverse_are_differences(name: str, limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed_forward_units, "MATRIX_LIMIT", limit)  # 0: by GMRES
    module, x = module_of(name, size=0.5)
    unit = as_unit(module, x)
    assert unit.certificate().verdict is Verdict.INVERTIBLE
    y = output(module, x[:2]).requires_grad_()
    inverse = Inverse(unit, tolerance=1e-14)
    names, parameters = zip(*inverse.named_parameters(), strict=True)

    def undone(y: Tensor, *numbers: Tensor) -> Tensor:
        return torch.func.functional_call(inverse, dict(zip(names, numbers, strict=True)), (y,))

    assert torch.autograd.gradcheck(undone, (y, *parameters), atol=1e-5, rtol=1e-4, fast_mode=True)


def test_a_singular_jacobian_has_no_gradient() -> None:
    module = Written(lambda layer, x: layer(torch.relu(x)), nn.Linear(2, 2)).double()
    unit = as_unit(module, torch.ones(1, 2, dtype=F64))
    y = module(torch.tensor([[1.0, 2.0]], dtype=F64)).detach().requires_grad_()
    inside = unit.implicit(torch.tensor([[-1.0, 2.0]], dtype=F64), y)
    with pytest.raises(RuntimeError, match="singular"):
        inside.sum().backward()


def test_weights_changed_before_the_backward_pass_are_noticed() -> None:
    unit, x = unit_of("relu twice", size=0.3)
    found = Inverse(unit)(output(unit, x))
    with torch.no_grad():
        next(unit.parameters()).mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        found.sum().backward()


# as a module


def test_units_are_copied_pickled_and_loaded() -> None:
    unit, x = unit_of("images")
    y = output(unit, x)
    file = io.BytesIO()
    torch.save(unit, file)
    file.seek(0)
    loaded = torch.load(file, weights_only=False)
    for other in (copy.deepcopy(unit), loaded):
        assert torch.equal(output(other, x), y)
        assert torch.equal(other.inverse(y).value, unit.inverse(y).value)
        with torch.no_grad():
            next(other.parameters()).add_(1)
        assert not torch.equal(output(other, x), y)
        solution = other.inverse(output(other, x))  # of the copy's own weights
        torch.testing.assert_close(
            solution.residual, length(output(other, solution.value) - output(other, x)) / length(output(other, x))
        )
    assert torch.equal(output(unit, x), y)


def test_state_dicts_are_the_modules() -> None:
    unit, x = unit_of("images")
    other, _ = unit_of("images", seed=1)
    assert list(unit.state_dict()) == [f"module.{name}" for name in unit.module.state_dict()]
    other.load_state_dict(unit.state_dict())
    assert torch.equal(output(other, x), output(unit, x))
    assert other.certificate().reason == unit.certificate().reason


def test_units_follow_their_precision() -> None:
    unit, x = unit_of("relu twice", size=0.3)
    unit.to(torch.float32)
    y = output(unit, x.float())
    assert unit.inverse(y).value.dtype == torch.float32
    assert unit.inverse(y).converged.all()
    with pytest.raises(TypeError, match="float64"):
        unit.inverse(y.double())
    assert unit.certificate().verdict is Verdict.INVERTIBLE
    assert unit.double().inverse(y.double()).value.dtype == F64


def test_units_have_the_mode_of_their_module() -> None:
    unit, x = unit_of("images")
    assert not unit.training
    y = output(unit, x)
    unit.train()
    for call in (lambda: unit.inverse(y), unit.certificate):
        with pytest.raises(ValueError, match=r"statistics of the batch.*module\.eval\(\)"):
            call()
    assert unit.eval().inverse(y).converged.any()


def test_units_made_in_inference_mode_are_trained_later() -> None:
    module, x = module_of("tanh, elu", size=0.3)
    with torch.inference_mode():
        unit = as_unit(module, x)
    y = output(module, x).requires_grad_()
    Inverse(unit)(y).sum().backward()
    assert all(parameter.grad is not None for parameter in module.parameters())


def test_a_module_is_read_once_and_again_only_if_it_has_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    reads = []

    def counted(module: nn.Module, x: Tensor) -> FeedForwardMap:
        reads.append(module)
        return read(module, x)

    monkeypatch.setattr(modules, "read", counted)
    module, x = normal(Branch(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 3)), size=0.3), torch.randn(5, 3, dtype=F64)
    unit = as_unit(module, x)
    unit.inverse(module(x).detach())
    assert unit.certificate().verdict is Verdict.INVERTIBLE
    assert len(reads) == 1
    module.branch[0].weight.data.mul_(0.5)
    torch.testing.assert_close(unit.feed_forward().matrices().C, module.branch[0].weight)
    module.scale = -1.0  # a number that is no weight
    torch.testing.assert_close(unit.feed_forward().matrices().E, -module.branch[2].weight)
    assert len(reads) == 3
    assert copy.deepcopy(unit).certificate().verdict is unit.certificate().verdict
