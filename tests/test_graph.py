"""Feed-forward modules: each form is read right to rounding, or refused by what is in the way."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import cache

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from readable_modules import READ, ROWS, Function, Residual, SwishWithGradients, Written, conv, set_by_mask, used
from torch import Tensor, nn
from unreadable_modules import REFUSED, StraightThrough, autocast

from replication.forward_mode import along
from replication.maps.feed_forward import FeedForwardMap, Matrices
from replication.reading.general import read
from replication.reading.guest import UnreadableError, unwrapped

CUT = {"gradients cut"}  # forms whose derivatives autograd does not give


@cache
def known(name: str) -> tuple[nn.Module, Tensor, FeedForwardMap, Matrices]:
    """A module of the table, inputs, what was read of it, and its matrices."""
    module, x = made(name)
    found = read(module, x)
    return module, x, found, found.matrices()


def made(name: str, dtype: torch.dtype = torch.float64) -> tuple[nn.Module, Tensor]:
    """A module of the table in evaluation mode, and inputs."""
    make, shape = READ[name]
    torch.manual_seed(0)
    return used(make()).to(dtype), torch.randn(shape, dtype=dtype)


def jacobian(module: nn.Module, x: Tensor) -> Tensor:
    """The Jacobian of every row (batch, d, d), by the module's own derivatives."""
    module, d = unwrapped(module), x[0].numel()
    module.requires_grad_(False)  # some forms overwrite what the gradients of weights need

    def of_row(row: Tensor) -> Tensor:
        return module(row[None].clone())[0].flatten()

    try:
        rows = [torch.autograd.functional.jacobian(of_row, row).reshape(d, d) for row in x]
    except RuntimeError:  # some overwrite what gradients need
        identity = torch.eye(d, dtype=x.dtype)
        rows = [torch.stack([along(of_row, (row,), (e.reshape(row.shape),)) for e in identity], 1) for row in x]
    return torch.stack(rows)


def check_reading(read: FeedForwardMap, matrices: Matrices, module: nn.Module, x: Tensor) -> None:
    """Its matrices give the module's preactivations and outputs, and the equation the inputs."""
    y = module(x.clone()).detach()
    flat, s = x.flatten(1), read.preactivations(x)
    phi = read.phi(s)
    size = 1 + max([y.abs().max(), *(s.abs().amax(1, keepdim=True).max() for _ in read.activations)])
    assert torch.equal(matrices.B, matrices.B.tril(-1))
    close(flat @ matrices.C.mT + phi @ matrices.B.mT + matrices.b, s, 1e-12 * size)
    close(flat @ matrices.P.mT + phi @ matrices.E.mT + matrices.e, y.flatten(1), 1e-12 * size)
    if torch.linalg.cond(matrices.P) < 1e6:
        A, c = matrices.equation(y.flatten(1))
        condition = torch.linalg.cond(matrices.P)
        close(s + phi @ A.mT, c, 1e-12 * size * condition)
        close(matrices.recover(phi, y.flatten(1)), flat, 1e-12 * size * condition)


def close(a: Tensor, b: Tensor, tolerance: object) -> None:
    assert a.shape == b.shape
    if a.numel():
        assert (a - b).abs().max() <= tolerance


@pytest.mark.parametrize("name", READ)
def test_form_is_read_right(name: str) -> None:
    module, x, found, matrices = known(name)
    close(found(x), module(x.clone()), 1e-12)
    check_reading(found, matrices, module, x)

    x = x[:2]
    J = found.jacobian(x)
    if name not in CUT:
        close(J, jacobian(module, x), 1e-11 * (1 + J.abs().max()))
        expected = torch.linalg.slogdet(jacobian(module, x)).logabsdet
        regular = torch.isfinite(expected)
        close(found.log_abs_det_jacobian(x)[regular], expected[regular], 1e-9)


@pytest.mark.parametrize("name", READ)
def test_slopes_lie_in_their_bounds_and_give_the_determinant(name: str) -> None:
    _, x, found, matrices = known(name)
    for a, part in zip(found.activations, found.split(50 * torch.randn(100, found.n).double().tanh()), strict=True):
        other = part + torch.rand(100, *[1] * (part.ndim - 1)).double() - 0.5
        quotient = (a.activation(part) - a.activation(other)) / (part - other)
        assert ((quotient >= a.alpha - 1e-8) & (quotient <= a.beta + 1e-8)).all(), a
    if torch.linalg.cond(matrices.P) < 1e6:
        A, _ = matrices.equation(x.flatten(1))
        lifted = torch.eye(found.n).double() + A * found.slopes(x)[:2, None]
        sign, size = torch.linalg.slogdet(lifted)
        shortcut = torch.linalg.slogdet(matrices.P)
        expected = torch.linalg.slogdet(found.jacobian(x[:2]))
        regular = torch.isfinite(expected.logabsdet) & (expected.logabsdet > -30)
        close((size + shortcut.logabsdet)[regular], expected.logabsdet[regular], 1e-8)
        assert torch.equal((sign * shortcut.sign)[regular], expected.sign[regular])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", REFUSED)
def test_other_modules_are_refused_by_name(name: str, dtype: torch.dtype) -> None:
    make, shape, words = REFUSED[name]
    torch.manual_seed(0)
    module, x = make().to(dtype).eval(), torch.randn(shape, dtype=dtype)
    with pytest.raises(UnreadableError, match=words) as refusal:
        read(module, x)
    assert "\n" not in str(refusal.value)


def test_tables_are_as_long_as_is_claimed() -> None:
    assert len(READ) >= 100
    assert len(REFUSED) >= 40


@pytest.mark.parametrize("name", ["pre-activation block", "LipSwish", "PReLU of channels", "mixer", "spectral norm"])
def test_modules_of_single_precision_are_read_in_double(name: str) -> None:
    module, x = made(name, torch.float32)
    found = read(module, x)
    double = copy.deepcopy(module).double()
    assert found.dtype == torch.float64
    check_reading(found, found.matrices(), double, x.double())
    assert found(x).dtype == torch.float32
    torch.testing.assert_close(found.output(x.double()), module(x.clone()).double(), rtol=1e-4, atol=1e-4)


def test_half_precision_by_autocast_is_refused() -> None:
    module, x = Written(autocast, a=nn.Linear(6, 6)), torch.randn(ROWS)
    with pytest.raises(UnreadableError, match=r"linear in a \(Linear\), line .*bfloat16"):
        read(module, x)
    assert read(module.double(), x.double()).n == 6  # which autocast leaves alone


def test_what_single_precision_fixes_is_read_in_it() -> None:
    module = Written(lambda m, x: x + torch.tanh(x @ torch.eye(6, dtype=torch.float32)))
    found = read(module, torch.randn(ROWS))
    assert found.dtype == torch.float32
    with pytest.raises(UnreadableError, match="fails on"):
        read(module, torch.randn(ROWS).double())


def test_reading_changes_nothing() -> None:
    module, x = made("pre-activation block")
    state, inputs, generator = copy.deepcopy(module.state_dict()), x.clone(), torch.get_rng_state()
    read(module, x)
    assert torch.equal(x, inputs)
    assert torch.equal(torch.get_rng_state(), generator)
    assert all(torch.equal(value, state[key]) for key, value in module.state_dict().items())
    assert torch.get_default_dtype() == torch.float32


def test_functions_have_their_own_gradients_again_after_reading() -> None:
    x = torch.randn(ROWS).double().requires_grad_()
    before = torch.autograd.Function.apply
    read(*made("SiLU with gradients of its own"))
    assert torch.autograd.Function.apply == before
    assert torch.autograd.gradcheck(SwishWithGradients.apply, x)
    StraightThrough.apply(x).sum().backward()
    assert torch.equal(x.grad, torch.ones_like(x))


def test_the_graph_keeps_the_weights_and_the_mode_that_were_read() -> None:
    module, x = made("pre-activation block")
    found = read(module, x)
    before = found.output(x)
    module.train()
    nn.init.zeros_(module.conv1.weight)
    assert torch.equal(found.output(x), before)
    assert module.training
    assert int(module.bn1.num_batches_tracked) == 0


def test_operators_and_their_adjoints_are_the_matrices() -> None:
    module, x = made("a stage of blocks")
    found = read(module, x)
    matrices = found.matrices()
    v, phi = torch.randn(3, *found.shape).double(), torch.randn(3, found.n).double()
    for name, source, target in (("C", v, phi), ("B", phi, phi), ("P", v, v), ("E", phi, v)):
        M, operator = getattr(matrices, name), getattr(found, name)
        close(operator(source).flatten(1), source.flatten(1) @ M.mT, 1e-12)
        close(operator.adjoint(target).flatten(1), target.flatten(1) @ M, 1e-12)
    J = found.jacobian(x[:3])
    close(found.jacobian_product(x[:3], v).flatten(1), (J @ v.flatten(1)[..., None])[..., 0], 1e-11)
    close(found.jacobian_adjoint(x[:3], v).flatten(1), (J.mT @ v.flatten(1)[..., None])[..., 0], 1e-11)


def test_a_singular_shortcut_is_shifted_to_other_slopes() -> None:
    module, x = made("no shortcut")
    found, y = read(module, x), module(x).detach()
    with pytest.raises(ValueError, match="shortcut P is singular"):
        found.equation(y)
    matrices = found.matrices().shifted((found.alpha + found.beta) / 2)
    s = found.preactivations(x)
    psi = found.phi(s) - matrices.shift * s
    A, c = matrices.equation(y)
    close(s + psi @ A.mT, c, 1e-11)
    close(matrices.recover(psi, y), x, 1e-11)
    slopes = found.slopes(x)
    close(found.matrices().shifted(slopes[0]).P, found.jacobian(x[:1])[0], 1e-12)
    close(matrices.shifted(slopes[0]).P, found.jacobian(x[:1])[0], 1e-11)


def test_maps_too_large_for_matrices_keep_their_products() -> None:
    module = Residual(conv(3, 4), nn.ReLU(), conv(4, 3)).double()
    x = torch.randn(2, 3, 40, 40).double()
    found = read(module, x)
    with pytest.raises(ValueError, match="raise limit"):
        found.matrices()
    close(found.recover(found.preactivations(x), module(x).detach()), x, 1e-12)
    assert found.keeps_input


def test_an_outer_activation_that_loses_information_is_named() -> None:
    module, x = made("basic block with its last ReLU")
    assert "relu" in read(module, x).loss
    module, x = made("basic block")
    assert not read(module, x).loss
    for activation, loses in ((nn.LeakyReLU(), False), (nn.Tanh(), False), (nn.SiLU(), True), (nn.Hardtanh(), True)):
        assert bool(read(nn.Sequential(nn.Linear(3, 3), activation), torch.randn(2, 3)).loss) == loses


def test_bounds_are_those_of_each_number() -> None:
    module, x = made("PReLU of channels")
    with torch.no_grad():
        module.branch[1].weight.copy_(torch.tensor([0.5, -0.25, 2.0, 0.0]))
    found = read(module, x)
    assert found.alpha.unflatten(0, found.activations[0].shape)[:, 0, 0].tolist() == [0.5, -0.25, 1.0, 0.0]
    assert found.beta.unflatten(0, found.activations[0].shape)[:, 0, 0].tolist() == [1.0, 1.0, 2.0, 1.0]


def test_refusals_name_layer_line_and_consequence() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.ModuleList([nn.Linear(4, 4), nn.LayerNorm(4)])

        def forward(self, x: Tensor) -> Tensor:
            return x + self.layers[1](self.layers[0](x))

    line = Block.forward.__code__.co_firstlineno + 1
    with pytest.raises(
        UnreadableError, match=rf"layer_norm in layers\.1 \(LayerNorm\), line {line} of .*forward .*at best"
    ):
        read(Block(), torch.randn(2, 4))


def test_refusals_that_the_module_catches_are_raised() -> None:
    class Careful(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            try:
                big = bool(x.max() > 1)
            except ValueError:
                big = False
            return 2 * x if big else x

    with pytest.raises(UnreadableError, match="out of torch"):
        read(Careful(), torch.randn(2, 4))


@pytest.mark.parametrize("function", [
    lambda s: torch.where(s > 500, 0 * s, torch.where(s > 0, s, 0 * s)),
    lambda s: torch.where((s > 6.2) & (s < 6.20001), 0 * s, s * torch.sigmoid(s)),
    lambda s: torch.where(s == -0.25, s + 1, s.clamp(min=0) * (s > 0)),
    lambda s: s * torch.sigmoid(s) * (s.abs() < 3000),
    lambda s: torch.maximum(s, 0.1 * s) * (torch.sin(s) < 0.999),
    lambda s: s * torch.sigmoid(s).round(),
])  # fmt: skip
def test_functions_that_are_nearly_an_activation_are_refused(function: Callable[[Tensor], Tensor]) -> None:
    module = Residual(nn.Linear(4, 4), Function(function), nn.Linear(4, 4)).double()
    with pytest.raises(UnreadableError, match=r"no activation known here|jumps"):
        read(module, torch.randn(3, 4).double())


def test_bad_input_is_refused() -> None:
    with pytest.raises(TypeError, match=r"must be a torch\.nn\.Module"):
        read(torch.relu, torch.randn(2, 3))
    with pytest.raises(TypeError, match="float32 or float64"):
        read(nn.Linear(3, 3), torch.ones(2, 3, dtype=torch.int64))
    with pytest.raises(ValueError, match="not finite"):
        read(nn.Linear(3, 3), torch.full((2, 3), torch.nan))
    with pytest.raises(ValueError, match=r"\(batch, \*shape\)"):
        read(nn.ReLU(), torch.ones(3))


AFFINE = {
    "linear": lambda m, i, h, x: m.layers[i](h),
    "scaled": lambda m, i, h, x: h * m.vector + 1,
    "flipped": lambda m, i, h, x: h.flip(1),
    "halves": lambda m, i, h, x: torch.cat([*h.chunk(2, 1)][::-1], 1),
    "skip": lambda m, i, h, x: h + x,
    "difference": lambda m, i, h, x: 0.5 * h - x,
    "in place": lambda m, i, h, x: h.clone().add_(x).mul_(0.7),
    "written": lambda m, i, h, x: torch.zeros_like(h).index_copy_(1, torch.arange(4).flip(0), h),
    "pooled": lambda m, i, h, x: h - h.mean(1, keepdim=True),
}
BENT = {
    "relu": lambda m, i, h, x: F.relu(h),
    "relu_": lambda m, i, h, x: F.relu_(h.clone()),
    "relu over": lambda m, i, h, x: h.relu_(),
    "tanh": lambda m, i, h, x: torch.tanh(h),
    "swish": lambda m, i, h, x: h * torch.sigmoid(1.3 * h),
    "skip around": lambda m, i, h, x: h + F.elu(h),
    "leaky": lambda m, i, h, x: torch.where(h > 0, h, 0.1 * h),
    "of a sum": lambda m, i, h, x: F.gelu(h + x),
    "twice": lambda m, i, h, x: F.softplus(F.leaky_relu(h, 0.3)),
    "set": lambda m, i, h, x: set_by_mask(h),
    "masked": lambda m, i, h, x: h * (h > 0) + x,
    "both": lambda m, i, h, x: F.relu(h) - F.relu(-h) + F.silu(h),
}
UNREADABLE = {
    "product": lambda m, i, h, x: h * x,
    "norm": lambda m, i, h, x: F.layer_norm(h, (4,)),
    "square": lambda m, i, h, x: h.square(),
    "mixed rows": lambda m, i, h, x: h - h.mean(0),
    "quotient": lambda m, i, h, x: h / (1 + x.square()),
    "decided": lambda m, i, h, x: h if h.norm() > 1 else 2 * h,
    "picked": lambda m, i, h, x: h.gather(1, h.argsort(1)),
}
STEPS = {**AFFINE, **BENT, **UNREADABLE}


class Random(nn.Module):
    """Some steps one after the other."""

    def __init__(self, steps: list[str]) -> None:
        super().__init__()
        self.steps = steps
        self.layers = nn.ModuleList(nn.Linear(4, 4) for _ in steps)
        self.vector = nn.Parameter(torch.randn(4))

    def forward(self, x: Tensor) -> Tensor:
        h = x
        for i, step in enumerate(self.steps):
            h = STEPS[step](self, i, h, x)
        return h


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from([*AFFINE, *BENT]), min_size=1, max_size=7), st.integers(0, 2**16))
def test_random_graphs_are_read_right(steps: list[str], seed: int) -> None:
    torch.manual_seed(seed)
    module, x = Random(steps).double(), torch.randn(3, 4).double()
    found = read(module, x)
    check_reading(found, found.matrices(), module, x)
    J, expected = found.jacobian(x), jacobian(module, x)
    close(J, expected, 1e-10 * (1 + expected.abs().max()))


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.sampled_from([*STEPS]), min_size=1, max_size=5), st.sampled_from([*UNREADABLE]), st.integers(0, 2**16)
)
def test_random_graphs_with_other_steps_are_refused_or_right(steps: list[str], other: str, seed: int) -> None:
    torch.manual_seed(seed)
    module, x = Random([*steps[:2], "linear", other, *steps[2:]]).double(), torch.randn(3, 4).double()
    try:
        found = read(module, x)
    except UnreadableError:
        return
    check_reading(found, found.matrices(), module, x)  # where the other step does not reach the output, say
