"""Layers that can be undone: round trips, batches, gradients, and bad input refused in one sentence."""

from __future__ import annotations

import copy
import io
import multiprocessing
import pickle
import re
from concurrent.futures import ProcessPoolExecutor
from functools import partial

import numpy as np
import pytest
import torch
from builders import every_layer, folding, given_to, outputs_of, small
from oracles import convolution_matrix, forward
from torch import nn
from torch.nn.utils.parametrize import type_before_parametrizations

from replication import (
    CausalConvUnit,
    HamiltonianBlock,
    InjectiveConvReLU,
    InjectiveReLU,
    Inverse,
    LayerwiseNetwork,
    LeapfrogBlock,
    LipschitzConvUnit,
    MidpointBlock,
    MonotoneCausalConvUnit,
    MonotoneConvUnit,
    PairedReLU,
    RectifierLinear,
    ResidualUnit,
    RevNetBlock,
    StandardConvUnit,
    Verdict,
)
from replication.certification import bounds
from replication.solvers import jacobians
from replication.solvers.jacobians import solve_adjoint
from replication.units import (
    ChannelNormalisation,
    ConvRectifierUnit,
    Orthogonal1x1,
    SpaceToDepth,
    ZeroChannels,
)

DTYPES = [torch.float32, torch.float64]
SIZE = (6, 5)


def conv_units() -> dict[str, ConvRectifierUnit]:
    """One unit of each convolutional family; the free one is scaled into the range where it is invertible."""
    return {
        "standard": small(StandardConvUnit(3, 4, image_size=SIZE)),
        "lipschitz": LipschitzConvUnit(3, 4, image_size=SIZE),
        "monotone": MonotoneConvUnit(3, 4, image_size=SIZE, norm_cap=3.0),
        "monotone, no cap": MonotoneConvUnit(3, 4, kernel_size=5),
    }


def plain_layers() -> list[nn.Module]:
    normalisation = ChannelNormalisation(4)
    normalisation(3 + 2 * torch.randn(50, 4, 6, 6))
    nn.init.uniform_(normalisation.weight, 0.5, 2)
    return [ZeroChannels(4, 7), SpaceToDepth(), normalisation, Orthogonal1x1(4)]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("solver", ["modulus", "banach"])
@pytest.mark.parametrize("family", conv_units())
def test_convolutional_units_round_trip(family: str, solver: str, dtype: torch.dtype) -> None:
    if solver == "banach" and family.startswith("monotone"):
        pytest.skip("the existing method needs a contraction")
    unit = conv_units()[family].to(dtype)
    x = torch.randn(4, 3, *SIZE, dtype=dtype)
    tolerance = 100 * torch.finfo(dtype).eps
    solution = unit.inverse(unit(x).detach(), solver, tolerance=tolerance)
    assert solution.converged.all()
    error = (solution.value - x).flatten(1).norm(dim=1) / x.flatten(1).norm(dim=1)
    assert (error <= 100 * tolerance).all()  # the inverse's Lipschitz constant, at most 10 here, and ‖y‖/‖x‖


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layer", plain_layers(), ids=lambda layer: layer.title)
def test_plain_layers_round_trip(layer: nn.Module, dtype: torch.dtype) -> None:
    layer = layer.to(dtype).eval()
    x = torch.randn(5, 4, 6, 6, dtype=dtype)
    torch.testing.assert_close(layer.inverse(layer(x)).value, x, rtol=0, atol=200 * torch.finfo(dtype).eps)


@pytest.mark.parametrize("family", conv_units())
def test_convolutional_units_are_residual_units_of_their_matrices(family: str) -> None:
    unit = conv_units()[family].double()
    x = torch.randn(2, 3, *SIZE, dtype=torch.float64)
    weight1, weight2 = (kernel.detach().numpy() for kernel in unit.kernels())
    W1, W2 = convolution_matrix(weight1, *SIZE), convolution_matrix(weight2, *SIZE)
    b1, b2 = (np.repeat(bias.detach().numpy(), SIZE[0] * SIZE[1]) for bias in (unit.bias1, unit.bias2))
    expected = forward(x.flatten(1).numpy(), W1, b1, W2, b2)
    np.testing.assert_allclose(unit(x).detach().flatten(1).numpy(), expected, atol=1e-12)
    if unit.gram:
        np.testing.assert_array_equal(W2, W1.T)


def test_caps_hold_whatever_the_parameters_become() -> None:
    lipschitz, monotone = (
        LipschitzConvUnit(3, 4, image_size=SIZE),
        MonotoneConvUnit(3, 4, image_size=SIZE, norm_cap=2.0),
    )
    with torch.no_grad():
        for unit in (lipschitz, monotone):
            for parameter in unit.parameters():
                parameter.mul_(50).add_(1)
    for unit, cap in ((lipschitz, 0.9), (monotone, 2.0)):
        W1, W2 = (convolution_matrix(kernel.detach().double().numpy(), *SIZE) for kernel in unit.kernels())
        assert np.linalg.norm(W1, 2) * np.linalg.norm(W2, 2) <= cap * (1 + 1e-6)


def test_orthogonal_layer_stays_orthogonal_in_both_dtypes() -> None:
    layer = Orthogonal1x1(8)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(torch.randn_like(parameter))
    for dtype in DTYPES:
        Q = layer.to(dtype).weight
        torch.testing.assert_close(Q @ Q.mT, torch.eye(8, dtype=dtype), rtol=0, atol=50 * torch.finfo(dtype).eps)


def test_rectifier_linear_is_its_formula() -> None:
    W, b, x = torch.randn(4, 4), torch.randn(4), torch.randn(3, 4)
    torch.testing.assert_close(RectifierLinear(W, b)(x), x + torch.relu(x @ W.T + b))


def test_a_batch_of_units_is_its_units() -> None:
    W1, b1, W2, b2 = torch.randn(3, 5, 4), torch.randn(3, 5), torch.randn(3, 4, 5) / 9, torch.randn(3, 4)
    batch = ResidualUnit(W1, b1, W2, b2)
    x = torch.randn(3, 7, 4)
    expected = torch.stack([batch[unit](x[unit]) for unit in range(3)])
    torch.testing.assert_close(batch(x), expected)
    torch.testing.assert_close(batch(x[:, 0]), expected[:, 0])
    solution = batch.inverse(batch(x).detach(), "modulus")
    assert solution.status.shape == solution.residual.shape == (3, 7)
    torch.testing.assert_close(solution.value, x, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(("h", "d"), [(5, 5), (7, 3), (3, 6)])
def test_inverse_layer_has_the_gradient_of_the_inverse(h: int, d: int) -> None:
    g = torch.Generator().manual_seed(h)
    W1, b1, W2, b2 = (torch.randn(*shape, dtype=torch.float64, generator=g) for shape in ((h, d), (h,), (d, h), (d,)))
    W2 = 0.9 * W2 / torch.linalg.matrix_norm(W1 @ W2, 2)
    layer = Inverse(ResidualUnit(W1, b1, W2, b2), tolerance=1e-13)
    y = torch.randn(4, d, dtype=torch.float64, generator=g)

    def invert(y: torch.Tensor, W1: torch.Tensor, b1: torch.Tensor, W2: torch.Tensor, b2: torch.Tensor) -> torch.Tensor:
        parameters = {"unit.W1": W1, "unit.b1": b1, "unit.W2": W2, "unit.b2": b2}
        return torch.func.functional_call(layer, parameters, (y,))

    tensors = [tensor.requires_grad_() for tensor in (y, W1, b1, W2, b2)]
    preactivation = layer.unit.rectifier_map((d,)).preactivation(invert(*tensors))
    assert preactivation.abs().min() > 1e-4  # no kink within gradcheck's steps of 1e-6
    assert torch.autograd.gradcheck(invert, tensors)


@pytest.mark.parametrize("unit", [MonotoneConvUnit(2, 3).double(), "batch"], ids=["convolution", "batch of units"])
def test_inverse_layer_takes_every_unit(unit: object) -> None:
    y = torch.randn(3, 2, 4, 5, dtype=torch.float64)
    if unit == "batch":
        W = torch.randn(3, 4, 4, dtype=torch.float64) / 9
        unit, y = RectifierLinear(W, torch.randn(3, 4).double()), torch.randn(3, 6, 4, dtype=torch.float64)
    assert torch.autograd.gradcheck(Inverse(unit, tolerance=1e-13), [y.requires_grad_()])


@pytest.mark.parametrize("padding", ["zeros", "circular"])
@pytest.mark.parametrize("family", [MonotoneConvUnit, StandardConvUnit])
def test_gradients_of_large_units_are_those_by_their_matrix(
    family: type, padding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    unit = family(2, 3, padding=padding).double()
    with torch.no_grad():
        unit.weight1 /= 2
        unit.bias1.normal_()
    y = unit(torch.randn(3, 2, 5, 6).double()).detach().requires_grad_()

    def gradients() -> tuple[torch.Tensor, ...]:
        x = Inverse(unit, tolerance=1e-13)(y)
        return torch.autograd.grad(x.square().sum(), (y, *unit.parameters()))

    expected = gradients()
    monkeypatch.setattr(jacobians, "MATRIX_LIMIT", 0)
    for found, wanted in zip(gradients(), expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-9)
    assert torch.autograd.gradcheck(Inverse(unit, tolerance=1e-13), [y])


@pytest.mark.parametrize("scale", [1e-24, 1e20])
def test_tiny_and_huge_gradients_pass_through_large_units(scale: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jacobians, "MATRIX_LIMIT", 0)
    unit = MonotoneConvUnit(2, 3)
    y = torch.randn(2, 2, 5, 6, requires_grad=True)
    expected = torch.autograd.grad(Inverse(unit)(y).sum(), y)[0]
    gradient = torch.autograd.grad(scale * Inverse(unit)(y).sum(), y)[0]
    torch.testing.assert_close(gradient / scale, expected, rtol=1e-4, atol=1e-4)


def test_convolutional_units_work_under_vmap_and_autocast() -> None:
    unit, x = MonotoneConvUnit(2, 3), torch.randn(4, 2, 5, 6)
    one_by_one = torch.func.vmap(lambda image: unit(image[None])[0])(x)
    torch.testing.assert_close(one_by_one, unit(x))
    assert unit(x).view(4, -1).shape == unit.inverse(unit(x).detach()).value.view(4, -1).shape
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert unit(x).dtype == torch.float32


def test_error_bounds_are_computed_when_asked_for_and_for_the_weights_of_the_inverse(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[object] = []
    compute = bounds.inverse_lipschitz
    monkeypatch.setattr(bounds, "inverse_lipschitz", lambda own: asked.append(own) or compute(own))
    for unit, shape in (
        (ResidualUnit(torch.eye(3), torch.zeros(3), torch.eye(3) / 2, torch.zeros(3)).double(), (3,)),
        (LipschitzConvUnit(2, 3, image_size=(4, 4)).double(), (2, 4, 4)),
    ):
        x = torch.randn(5, *shape, dtype=torch.float64)
        y = unit(x).detach()
        at_once, later = unit.inverse(y), unit.inverse(y)
        assert not asked
        expected = at_once.error_bound
        with torch.no_grad():
            for parameter in unit.parameters():
                parameter.mul_(3)
        y.zero_()
        assert torch.equal(later.error_bound, expected)
        assert later.error_bound is later.error_bound
        assert not later.error_bound.requires_grad
        assert ((later.value - x).flatten(1).norm(dim=1) <= later.error_bound).all()
        asked.clear()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_inverses_are_those_of_the_unit_itself_under_autocast(dtype: torch.dtype) -> None:
    convolution, dense = MonotoneConvUnit(2, 3, image_size=(5, 6)), RectifierLinear(torch.eye(4) / 2, torch.ones(4))
    for unit, shape in ((convolution, (2, 5, 6)), (dense, (4,))):
        unit, x = unit.to(dtype), torch.randn(3, *shape, dtype=dtype)
        network = LayerwiseNetwork(unit)
        y = unit(x).detach()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            solutions = [unit.inverse(y), unit.inverse(y, "anderson"), network.inverse(y)]
        for solution in solutions:
            assert solution.converged.all()
            error = (solution.value - x).flatten(1).norm(dim=1)
            assert (error <= solution.error_bound).all()
            assert error.max() < 1e-3
    for layer, shape in ((InjectiveReLU.orthogonal_frame(4), (4,)), (PairedReLU(4, 5), (4,)),
                         (InjectiveConvReLU(2, 3, image_size=(5, 6)), (2, 5, 6))):  # fmt: skip
        layer, x = layer.to(dtype), torch.randn(3, *shape, dtype=dtype)
        y = layer(x).detach()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            solution = layer.inverse(y)
        assert solution.converged.all()
        assert (solution.value - x).flatten(1).norm(dim=1).max() < 1e-3


def test_gradients_at_a_singular_piece_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    unit = StandardConvUnit(1, 1, kernel_size=1).double()
    with torch.no_grad():
        unit.weight1.fill_(1)
        unit.weight2.fill_(-1)  # x − relu(x) is zero wherever x > 0
    x = torch.rand(1, 1, 2, 2).double().requires_grad_()
    monkeypatch.setattr(jacobians, "MATRIX_LIMIT", 0)
    with pytest.raises(RuntimeError, match="the Jacobian of a row is singular or nearly so"):
        solve_adjoint(unit.rectifier_map((1, 2, 2)), torch.ones(1, 4, dtype=torch.bool), x)


def test_inverse_layer_notices_changes_before_the_backward_pass() -> None:
    unit = ResidualUnit(torch.randn(3, 3), torch.randn(3), torch.randn(3, 3) / 20, torch.zeros(3)).double()
    y = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    x = Inverse(unit)(y)
    expected = torch.autograd.grad(x.sum(), y, retain_graph=True)[0]
    with torch.no_grad():
        unit.b1.add_(100)  # does not matter any more
    torch.testing.assert_close(torch.autograd.grad(x.sum(), y, retain_graph=True)[0], expected)
    with pytest.raises(RuntimeError, match="can be differentiated once only"):
        torch.autograd.grad(x.sum(), y, retain_graph=True, create_graph=True)
    with torch.no_grad():
        unit.W2.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        torch.autograd.grad(x.sum(), y)


def test_inverse_layer_refuses_rows_it_cannot_invert() -> None:
    with pytest.raises(RuntimeError, match=r"1 of 2 rows were not inverted \(not p matrix: 1\)"):
        Inverse(folding())(torch.tensor([[-1.0], [1.0]], dtype=torch.float64))


@pytest.mark.parametrize(("h", "d"), [(5, 5), (7, 3), (3, 6)])
def test_log_determinant_is_that_of_autograds_jacobian(h: int, d: int) -> None:
    unit = ResidualUnit(*(torch.randn(*shape, dtype=torch.float64) for shape in ((h, d), (h,), (d, h), (d,))))
    x = torch.randn(6, d, dtype=torch.float64)
    jacobians = torch.stack([torch.autograd.functional.jacobian(lambda r: unit(r[None])[0], row) for row in x])
    torch.testing.assert_close(unit.log_abs_det_jacobian(x), torch.linalg.slogdet(jacobians).logabsdet)
    unit.log_abs_det_jacobian(x).sum().backward()
    expected = torch.autograd.grad(
        torch.linalg.slogdet(torch.func.vmap(torch.func.jacrev(lambda r: unit(r[None])[0]))(x)).logabsdet.sum(), unit.W2
    )
    torch.testing.assert_close(unit.W2.grad, expected[0])


def test_log_determinant_of_a_batch_is_that_of_its_units() -> None:
    batch = ResidualUnit(torch.randn(3, 5, 4), torch.randn(3, 5), torch.randn(3, 4, 5), torch.randn(3, 4))
    x = torch.randn(3, 7, 4)
    expected = torch.stack([batch[unit].log_abs_det_jacobian(x[unit]) for unit in range(3)])
    torch.testing.assert_close(batch.log_abs_det_jacobian(x), expected)


def test_units_print_what_they_are() -> None:
    assert "dimension=4, hidden=5" in repr(
        ResidualUnit(torch.randn(5, 4), torch.randn(5), torch.randn(4, 5), torch.randn(4))
    )
    assert "channels=3, hidden=4, kernel_size=3" in repr(StandardConvUnit(3, 4))


def test_normalisation_refuses_to_be_undone_where_it_has_no_inverse() -> None:
    layer = ChannelNormalisation(2)
    with pytest.raises(RuntimeError, match=r"call network.eval\(\) first"):
        layer.inverse(torch.zeros(1, 2, 3, 3))
    nn.init.zeros_(layer.weight)
    with pytest.raises(ValueError, match="scale is zero"):
        layer.eval().inverse(torch.zeros(1, 2, 3, 3))


UNIT = ResidualUnit(torch.randn(5, 4), torch.randn(5), torch.randn(4, 5), torch.randn(4))


@pytest.mark.parametrize(
    ("y", "error", "sentence"),
    [
        (torch.zeros(2, 3), ValueError, "rows of 4 numbers"),
        (torch.zeros(4), ValueError, r"takes inputs \(batch, d\)"),
        (torch.zeros(2, 4).double(), TypeError, "float64 and the unit torch.float32"),
        ([[0.0] * 4], TypeError, "must be a torch.Tensor, not list"),
    ],
)
def test_bad_input_is_refused_before_any_work(y: object, error: type, sentence: str) -> None:
    with pytest.raises(error, match=sentence):
        UNIT.inverse(y)


@pytest.mark.parametrize(
    ("name", "value", "error", "sentence"),
    [
        ("W1", torch.randn(5, 4, 3, 2), ValueError, "W1 must have the shape"),
        ("b1", torch.randn(4), ValueError, r"b1 must have the shape \(5,\)"),
        ("W2", torch.randn(5, 4), ValueError, r"W2 must have the shape \(4, 5\)"),
        ("b2", torch.randn(4).double(), TypeError, "must have one dtype"),
        ("b2", torch.full((4,), torch.inf), ValueError, "b2 has values that are not finite"),
        ("W1", torch.ones(5, 4, dtype=torch.int64), TypeError, "float32 or float64, not torch.int64"),
        ("W1", torch.randn(0, 4), ValueError, "must have rows and columns"),
        ("b1", torch.randn(5).half(), TypeError, "float32 or float64, not torch.float16"),
    ],
)
def test_bad_units_are_refused(name: str, value: torch.Tensor, error: type, sentence: str) -> None:
    good = {"W1": torch.randn(5, 4), "b1": torch.randn(5), "W2": torch.randn(4, 5), "b2": torch.randn(4)}
    with pytest.raises(error, match=sentence):
        ResidualUnit(**(good | {name: value}))


def test_bad_convolutional_units_and_inputs_are_refused() -> None:
    with pytest.raises(ValueError, match="must have an odd size"):
        StandardConvUnit(3, 4, kernel_size=2)
    with pytest.raises(ValueError, match="norm_cap must be positive"):
        MonotoneConvUnit(3, 4, image_size=SIZE, norm_cap=0)
    with pytest.raises(ValueError, match="lipschitz must lie between 0 and 1"):
        LipschitzConvUnit(3, 4, image_size=SIZE, lipschitz=1.0)
    with pytest.raises(ValueError, match="norms depend on the size"):
        MonotoneConvUnit(3, 4, norm_cap=2.0)
    with pytest.raises(ValueError, match=r"takes images \(3, height, width\)"):
        StandardConvUnit(3, 4).inverse(torch.zeros(1, 2, 6, 5))


def saved_and_loaded(layers: object) -> object:
    buffer = io.BytesIO()
    torch.save(layers, buffer)
    return torch.load(io.BytesIO(buffer.getvalue()), weights_only=False)


@pytest.mark.parametrize(
    "sent",
    [lambda layers: pickle.loads(pickle.dumps(layers)), saved_and_loaded, copy.deepcopy],
    ids=["pickle", "torch.save", "deepcopy"],
)
def test_every_layer_stays_what_it_is_when_it_is_sent(sent: object) -> None:
    layers = every_layer()
    for name, layer in layers.items():
        layer(given_to(name))  # normalisations by power iteration have moved on
        layer.eval()
    expected, received = outputs_of(layers), sent(layers)
    for name, layer in received.items():
        assert torch.equal(outputs_of({name: layer})[name], expected[name]), name
        assert layer.state_dict().keys() == layers[name].state_dict().keys()
        assert isinstance(layer, type_before_parametrizations(layers[name]))
        for parameter, own in zip(layer.parameters(), layers[name].parameters(), strict=True):
            assert parameter.requires_grad == own.requires_grad
    before = outputs_of({"lipschitz": received["lipschitz"]})["lipschitz"]
    with torch.no_grad():
        received["lipschitz"].parametrizations.weight1.original.mul_(5)  # still capped, and by weights of its own
    assert received["lipschitz"].certificate().verdict is Verdict.INVERTIBLE
    assert torch.equal(outputs_of(layers)["lipschitz"], expected["lipschitz"])
    assert not torch.equal(outputs_of({"lipschitz": received["lipschitz"]})["lipschitz"], before)


def test_every_layer_can_be_sent_to_a_worker() -> None:
    layers = every_layer()
    for layer in layers.values():
        layer.eval()
    expected = outputs_of(layers)
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        received = pool.submit(outputs_of, layers).result()
    for name, found in received.items():
        torch.testing.assert_close(found, expected[name], msg=name)


@pytest.mark.parametrize(
    ("kind", "made", "other", "sentence"),
    [
        (partial(CausalConvUnit, 2, 2), {"corner": "top-left"}, {"corner": "bottom-right"}, "padding='top-left'"),
        (partial(StandardConvUnit, 2, 2, image_size=(4, 4)), {"padding": "zeros"}, {"padding": "circular"}, "padding"),
        (partial(MonotoneConvUnit, 2, 2, image_size=(4, 4)), {"norm_cap": 3.0}, {"norm_cap": 4.0}, "cap=1.73"),
        (partial(MonotoneCausalConvUnit, 2, 2, image_size=(4, 4)), {}, {"norm_cap": 4.0}, "norm_cap=None"),
        (partial(LipschitzConvUnit, 2, 2, image_size=(4, 4)), {"lipschitz": 0.5}, {"lipschitz": 0.8}, "cap=0.7"),
        (partial(InjectiveConvReLU, 2, 2, image_size=(4, 4)), {"share": 0.5}, {"share": 0.8}, "share=0.5"),
        (partial(PairedReLU, 2, 2), {"floor": 0.1}, {"floor": 0.2}, "floor=0.1"),
        (partial(HamiltonianBlock, 2), {"step": 0.1}, {}, "step=0.1, and HamiltonianBlock has step=1.0"),
        (partial(MidpointBlock, 2), {"step": 0.1}, {}, "step=0.1"),
        (partial(LeapfrogBlock, 2), {"step": 0.1}, {}, "step=0.1"),
    ],
)
def test_weights_of_other_settings_are_refused(kind: object, made: dict, other: dict, sentence: str) -> None:
    weights = saved_and_loaded(kind(**made).state_dict())
    assert kind(**made).load_state_dict(weights)
    for holder in (kind(**other), nn.Sequential(kind(**other))):
        held = nn.Sequential(kind(**made)).state_dict() if isinstance(holder, nn.Sequential) else weights
        with pytest.raises(ValueError, match=f"the weights belong to .*{re.escape(sentence.split(',')[0])}"):
            holder.load_state_dict(held)
    bare = {name: value.clone() for name, value in weights.items()}  # as of older files, which say nothing
    assert kind(**other).load_state_dict(bare)


def test_a_leapfrog_block_does_not_take_the_weights_of_a_midpoint_block() -> None:
    with pytest.raises(ValueError, match="the weights belong to"):
        LeapfrogBlock(2).load_state_dict(MidpointBlock(2).state_dict())


@pytest.mark.parametrize("step", [float("nan"), float("inf"), -float("inf"), "1", None, True, 1e200])
@pytest.mark.parametrize("block", [HamiltonianBlock, MidpointBlock, LeapfrogBlock])
def test_steps_that_are_no_finite_numbers_are_refused(block: object, step: object) -> None:
    if step == 1e200 and block is not LeapfrogBlock:
        block(4, step=step)
        return
    with pytest.raises((TypeError, ValueError), match=r"^(step|factor) must be (finite|a number), not "):
        block(4, step=step)


@pytest.mark.parametrize("channels", [0, -2, 2.0, "4", None, True])
@pytest.mark.parametrize(
    "layer",
    [
        HamiltonianBlock, MidpointBlock, LeapfrogBlock, RevNetBlock, Orthogonal1x1,
        lambda channels: ZeroChannels(channels, 4), lambda channels: PairedReLU(channels, 4),
        lambda channels: StandardConvUnit(channels, 2),
        lambda channels: InjectiveConvReLU(channels, 4, image_size=(2, 2)),
    ],
)  # fmt: skip
def test_channels_that_are_no_positive_numbers_are_refused(layer: object, channels: object) -> None:
    with pytest.raises((TypeError, ValueError), match=r"^(channels|inputs) must be (at least [12]|an integer), not "):
        layer(channels)


def test_an_even_kernel_is_refused_where_it_would_change_the_size() -> None:
    for block in (HamiltonianBlock, MidpointBlock, LeapfrogBlock):
        for kernel_size in (2, 0):
            with pytest.raises(ValueError, match=r"^kernel_size must be"):
                block(4, kernel_size=kernel_size)


@pytest.mark.parametrize("rows", [0, 1, 1000])
def test_a_solution_prints_in_one_line(rows: int) -> None:
    unit = ResidualUnit(0.1 * torch.randn(8, 10), torch.zeros(8), 0.1 * torch.randn(10, 8), torch.zeros(10)).double()
    solution = unit.inverse(unit(torch.randn(rows, 10, dtype=torch.float64)).detach(), "exact")
    printed = repr(solution)
    assert re.fullmatch(rf"Solution\({rows} rows, {rows} converged, (residual at most [\d.e-]+, )?exact\)", printed)
    network = LayerwiseNetwork(unit)
    back = network.inverse(network.features(torch.randn(rows, 10, dtype=torch.float64)).detach(), "exact")
    assert repr(back).startswith(f"NetworkSolution({rows} rows, {rows} converged")
    assert len(repr(back)) < 100
    for whole in (solution, back):
        with pytest.raises(TypeError, match=r"neither true nor false; ask solution.converged.all\(\)"):
            bool(whole)
