"""Modules of one's own: followed, certified and inverted as what they compute, or refused by what stands in the way."""

from __future__ import annotations

import contextlib
import copy
import inspect
import random
import re
import warnings
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from builders import Block, said_by_example
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from replication import CausalConvUnit, FeedForwardUnit, Verdict, as_unit, certify, invert
from replication.activations import KNOWN


class Written(nn.Module):
    """A module whose forward pass is a function of its layers `first` and `second` and its input."""

    def __init__(self, forward: Callable[[nn.Module, Tensor], Tensor], **layers: nn.Module | Tensor) -> None:
        super().__init__()
        for name, layer in layers.items():
            setattr(self, name, nn.Parameter(layer) if isinstance(layer, Tensor) else layer)
        self.written = forward
        self.double()

    def forward(self, x: Tensor) -> Tensor:
        return self.written(self, x)


def convolutions(**options: object) -> tuple[nn.Conv2d, nn.Conv2d]:
    settings = {"padding": 1} | options
    return nn.Conv2d(2, 3, 3, **settings), nn.Conv2d(3, 2, 3, **settings)


def linears() -> dict[str, nn.Module]:
    return {"second": nn.Linear(6, 4), "first": nn.Linear(4, 6)}  # registered in another order than used


def kernels(**options: object) -> dict[str, nn.Module]:
    first, second = convolutions(**options)
    return {"second": second, "first": first}


def hooked(layer: nn.Module, hook: Callable[..., Tensor]) -> nn.Module:
    layer.register_forward_hook(hook)
    return layer


def quietly(make: Callable[[], nn.Module]) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the older hooks are deprecated
        return make()


def used(layer: nn.Module, shape: tuple[int, ...]) -> nn.Module:
    """A layer after some batches of training, in evaluation mode."""
    with torch.no_grad():
        for _ in range(5):
            layer(torch.randn(8, *shape, dtype=next(layer.parameters()).dtype) * 2 + 1)
    return layer.eval()


ROWS, IMAGES = (5, 4), (5, 2, 6, 7)
FORMS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "linear layers": (lambda: Block(nn.Linear(4, 6), nn.Linear(6, 4)), ROWS),
    "no biases": (lambda: Block(nn.Linear(4, 6, bias=False), nn.Linear(6, 4, bias=False)), ROWS),
    "convolutions": (lambda: Block(*convolutions()), IMAGES),
    "padding same": (lambda: Block(*convolutions(padding="same", bias=False)), IMAGES),
    "circular": (lambda: Block(*convolutions(padding_mode="circular")), IMAGES),
    "another order": (lambda: Written(lambda m, x: x + m.second(torch.relu(m.first(x))), **linears()), ROWS),
    "branch first": (lambda: Written(lambda m, x: m.second(m.first(x).relu()) + x, **kernels()), IMAGES),
    "in place": (lambda: Written(lambda m, x: x.add_(m.second(m.first(x).relu_())), **linears()), ROWS),
    "relu in place": (lambda: Block(*convolutions(), nn.ReLU(inplace=True)), IMAGES),
    "difference": (lambda: Written(lambda m, x: x - m.second(F.relu(m.first(x))), **kernels()), IMAGES),
    "reversed difference": (lambda: Written(lambda m, x: -(m.second(F.relu(m.first(x))) - x), **linears()), ROWS),
    "clamp": (lambda: Written(lambda m, x: x + m.second(m.first(x).clamp(min=0)), **linears()), ROWS),
    "threshold": (lambda: Block(nn.Linear(4, 6), nn.Linear(6, 4), nn.Threshold(0.0, 0.0)), ROWS),
    "leaky relu without a leak": (lambda: Block(nn.Linear(4, 6), nn.Linear(6, 4), nn.LeakyReLU(0.0)), ROWS),
    "maximum": (
        lambda: Written(lambda m, x: x + m.second(torch.maximum(m.first(x), torch.zeros(()).double())), **linears()),
        ROWS,
    ),
    "a scale": (
        lambda: Written(
            lambda m, x: x + m.scale * m.second(F.relu(m.first(x))) / 3, scale=torch.tensor(0.3), **linears()
        ),
        ROWS,
    ),
    "a scale for each channel": (
        lambda: Written(
            lambda m, x: x + m.scale * m.second(F.relu(m.first(x))), scale=torch.randn(2, 1, 1), **kernels()
        ),
        IMAGES,
    ),
    "normalisation": (
        lambda: used(
            Block(
                nn.Sequential(convolutions()[0], nn.BatchNorm2d(3)),
                nn.Sequential(nn.Dropout(), convolutions()[1], nn.BatchNorm2d(2, affine=False)),
            ),
            IMAGES[1:],
        ),
        IMAGES,
    ),
    "normalisation of rows": (
        lambda: used(
            Block(nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6)), nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4))),
            (4,),
        ),
        ROWS,
    ),
    "instance normalisation with running statistics": (
        lambda: used(
            Block(
                nn.Sequential(convolutions()[0], nn.InstanceNorm2d(3, affine=True, track_running_stats=True)),
                convolutions()[1],
            ),
            IMAGES[1:],
        ),
        IMAGES,
    ),
    "raw matrices": (
        lambda: Written(
            lambda m, x: x + torch.addmm(m.b, (x @ m.A).relu(), m.B),
            A=torch.randn(4, 6), B=torch.randn(6, 4), b=torch.randn(4),
        ),
        ROWS,
    ),
    "tied matrices": (
        lambda: Written(lambda m, x: x + F.linear(F.relu(m.first(x)), m.first.weight.mT), first=nn.Linear(4, 6)), ROWS,
    ),
    "tied kernels": (
        lambda: Written(
            lambda m, x: x + F.conv_transpose2d(F.relu(m.first(x)), m.first.weight, padding=1),
            first=nn.Conv2d(2, 5, 3, padding=1),
        ),
        IMAGES,
    ),
    "rectifier linear": (lambda: Written(lambda m, x: x + torch.relu(m.first(x)), first=nn.Linear(4, 4)), ROWS),
    "relu first": (lambda: Written(lambda m, x: x + m.first(x.relu()), first=nn.Linear(4, 4)), ROWS),
    "relu first, images": (
        lambda: Written(lambda m, x: x + m.first(x.relu()), first=nn.Conv2d(2, 2, 3, padding=1)), IMAGES,
    ),
    "constants": (lambda: Written(lambda m, x: 2 - (1 - x - m.second(F.relu(m.first(x) - 1))), **linears()), ROWS),
    "two linear layers in a row": (
        lambda: Block(nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 6)), nn.Linear(6, 4)), ROWS,
    ),
    "weight norm": (
        lambda: Block(parametrizations.weight_norm(nn.Linear(4, 6)), parametrizations.weight_norm(nn.Linear(6, 4))),
        ROWS,
    ),
    "older weight norm": (
        lambda: quietly(lambda: Block(nn.utils.weight_norm(nn.Linear(4, 6)), nn.utils.weight_norm(nn.Linear(6, 4)))),
        ROWS,
    ),
    "spectral norm": (
        lambda: used(Block(*map(parametrizations.spectral_norm, convolutions())), IMAGES[1:]), IMAGES,
    ),
    "older spectral norm": (
        lambda: used(quietly(lambda: Block(*map(nn.utils.spectral_norm, convolutions()))), IMAGES[1:]), IMAGES,
    ),
    "a hook that scales": (
        lambda: Block(hooked(nn.Linear(4, 6), lambda layer, inputs, output: 3 * output), nn.Linear(6, 4)), ROWS,
    ),
    "sizes 5 and 3": (lambda: Block(nn.Conv2d(2, 3, 5, padding=2), nn.Conv2d(3, 2, 3, padding=1)), IMAGES),
    "size 1 × 3": (
        lambda: Block(nn.Conv2d(2, 3, (1, 3), padding=(0, 1)), nn.Conv2d(3, 2, (3, 1), padding=(1, 0))), IMAGES,
    ),
    "depthwise and pointwise": (
        lambda: Block(nn.Conv2d(2, 4, 3, padding=1, groups=2), nn.Conv2d(4, 2, 1)), IMAGES,
    ),
    "dilated": (lambda: Block(*convolutions(dilation=2, padding=2)), IMAGES),
    "padded at a corner": (
        lambda: Block(
            nn.Sequential(nn.ZeroPad2d((2, 0, 2, 0)), nn.Conv2d(2, 2, 3)),
            nn.Sequential(nn.ZeroPad2d((2, 0, 2, 0)), nn.Conv2d(2, 2, 3)),
        ),
        IMAGES,
    ),
    "data parallel": (lambda: nn.DataParallel(Block(nn.Linear(4, 6), nn.Linear(6, 4))), ROWS),
    "unused layers and statistics": (
        lambda: Written(
            lambda m, x: (m.second(x).mean(), x + m.second(F.relu(m.first(x))))[1],
            spare=nn.Linear(2, 2), first=nn.Linear(4, 4), second=nn.Linear(4, 4),
        ),
        ROWS,
    ),
}  # fmt: skip


# compositions of affine maps, activations and skip connections of every other form
GENERAL: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "no branch": (lambda: Written(lambda m, x: m.first(x), first=nn.Linear(4, 4)), ROWS),
    "a scaled shortcut": (lambda: Written(lambda m, x: 2 * x + m.second(F.relu(m.first(x))), **linears()), ROWS),
    "no relu": (lambda: Written(lambda m, x: x + 0 * x, first=nn.Linear(4, 4)), ROWS),
    "two relus in a row": (lambda: Written(lambda m, x: x + F.relu(m.second(F.relu(m.first(x)))), **linears()), ROWS),
    "two relus added": (
        lambda: Written(lambda m, x: x + m.second(F.relu(m.first(x))) + F.relu(x), **linears()), ROWS,
    ),
    "three layers": (
        lambda: Block(nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 5)), nn.Linear(5, 4)), ROWS,
    ),
    "gelu": (lambda: Block(nn.Linear(4, 6), nn.Linear(6, 4), nn.GELU()), ROWS),
    "tokens": (lambda: Block(nn.Linear(4, 6), nn.Linear(6, 4)), (2, 3, 4)),
    "reflected padding": (lambda: Block(*convolutions(padding_mode="reflect")), IMAGES),
    "a smaller image": (lambda: Block(nn.Conv2d(2, 3, 3), nn.Conv2d(3, 2, 3, padding=2)), IMAGES),
    "strides": (
        lambda: Block(nn.Conv2d(2, 3, 3, stride=2, padding=1), nn.Sequential(nn.Upsample(scale_factor=2),
                                                                           nn.Conv2d(3, 2, 1))),
        (5, 2, 6, 6),
    ),
    "mixed paddings": (lambda: Block(convolutions()[0], convolutions(padding_mode="circular")[1]), IMAGES),
    "two convolutions in a row": (
        lambda: Block(nn.Sequential(convolutions()[0], nn.Conv2d(3, 3, 1)), convolutions()[1]), IMAGES,
    ),
    "a permutation": (
        lambda: Written(lambda m, x: x[:, [1, 0, 2, 3]] + m.second(F.relu(m.first(x))), **linears()), ROWS,
    ),
    "a constant image": (
        lambda: Written(
            lambda m, x: x + m.second(F.relu(m.first(x))) + m.image, image=torch.randn(2, 6, 7), **kernels()
        ),
        IMAGES,
    ),
}  # fmt: skip
# those that lose information, so that it is luck if an iteration from y ends at an input
LOSING: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "no shortcut": (lambda: nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 4)).double(), ROWS),
    "a relu of the sum": (
        lambda: Written(lambda m, x: F.relu(x + m.second(F.relu(m.first(x)))), **linears()),
        ROWS,
    ),
    "a view written into": (
        lambda: Written(lambda m, x: written_into(x) + m.second(F.relu(m.first(x))), **linears()),
        ROWS,
    ),
    "the input rectified in place": (lambda: Written(lambda m, x: x + m.second(m.first(x.relu_())), **linears()), ROWS),
}


@pytest.mark.parametrize("form", [*FORMS, *GENERAL, *LOSING])
def test_modules_are_read_as_what_they_compute(form: str) -> None:
    make, shape = {**FORMS, **GENERAL, **LOSING}[form]
    module = make()
    x = 3 * torch.randn(shape, dtype=torch.float64)
    unit = as_unit(module, x)
    assert isinstance(unit, FeedForwardUnit) == (form not in FORMS)
    fresh = 5 * torch.randn(7, *shape[1:], dtype=torch.float64)
    torch.testing.assert_close(unit(fresh.clone()), module(fresh.clone()), rtol=1e-12, atol=1e-12)
    assert unit.certificate().verdict in ((Verdict.NOT_INVERTIBLE, Verdict.UNKNOWN) if form in LOSING else Verdict)
    y = module(x.clone()).detach()
    kept = y.clone()
    solution = invert(module, y, tolerance=1e-12)
    assert y.equal(kept)
    residual = torch.linalg.vector_norm((module(solution.value.clone()) - y).flatten(1), dim=1)
    torch.testing.assert_close(
        solution.residual, residual / torch.linalg.vector_norm(y.flatten(1), dim=1), rtol=1e-6, atol=1e-15
    )
    assert (residual <= 2e-12 * torch.linalg.vector_norm(y.flatten(1), dim=1))[solution.converged].all()
    assert solution.converged.any() or form in LOSING


def test_a_lossy_activation_at_the_end_is_named() -> None:
    make, shape = LOSING["a relu of the sum"]
    certificate = certify(make(), torch.randn(shape, dtype=torch.float64))
    assert certificate.verdict is not Verdict.INVERTIBLE
    unknown = as_unit(make(), torch.randn(shape, dtype=torch.float64)).certificate(folds=False)
    assert "the relu that makes its output" in unknown.reason.lower()


def test_padding_at_a_corner_makes_a_causal_unit() -> None:
    make, shape = FORMS["padded at a corner"]
    unit = as_unit(make(), torch.randn(shape, dtype=torch.float64))
    assert isinstance(unit, CausalConvUnit)
    assert unit.padding == "top-left"


@pytest.mark.slow
def test_compiled_modules_are_read() -> None:
    module, x = torch.compile(Block(nn.Linear(4, 6), nn.Linear(6, 4))), torch.randn(ROWS, dtype=torch.float64)
    torch.testing.assert_close(as_unit(module, x)(x), module._orig_mod(x))
    inside = Block(torch.compile(nn.Linear(4, 6).double()), nn.Linear(6, 4))
    torch.testing.assert_close(as_unit(inside, x)(x), inside.branch[2](inside.branch[0]._orig_mod(x).relu()) + x)


REFUSED: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], str]] = {
    "strides": (
        lambda: Block(nn.Conv2d(2, 3, 3, stride=2, padding=1), nn.Sequential(nn.Upsample(2), nn.Conv2d(3, 2, 1))),
        (5, 2, 6, 6), "fails on 2 inputs",
    ),
    "batch norm in training": (
        lambda: Block(nn.Sequential(convolutions()[0], nn.BatchNorm2d(3)), convolutions()[1]),
        IMAGES, r"branch\.0\.1 \(BatchNorm2d\), line .* module\.eval\(\)",
    ),
    "batch norm without statistics": (
        lambda: Block(
            nn.Sequential(convolutions()[0], nn.BatchNorm2d(3, track_running_stats=False)), convolutions()[1]
        ).eval(),
        IMAGES, "BatchNorm2d",
    ),
    "dropout in training": (
        lambda: Block(nn.Sequential(nn.Linear(4, 6), nn.Dropout(0.1)), nn.Linear(6, 4)),
        ROWS, r"branch\.0\.1 \(Dropout\), line .* module\.eval\(\)",
    ),
    "spectral norm in training": (
        lambda: Block(parametrizations.spectral_norm(nn.Linear(4, 6)), nn.Linear(6, 4)), ROWS, r"branch\.0.*eval\(\)",
    ),
    "older spectral norm in training": (
        lambda: quietly(lambda: Block(nn.utils.spectral_norm(nn.Linear(4, 6)), nn.Linear(6, 4))),
        ROWS, r"branch\.0.*eval\(\)",
    ),
    "random numbers": (
        lambda: Written(lambda m, x: x + m.second(F.relu(m.first(x) + torch.randn(6).double())), **linears()),
        ROWS, "random numbers",
    ),
    "Python's random numbers": (
        lambda: Written(lambda m, x: x + random.random() * m.second(F.relu(m.first(x))), **linears()),
        ROWS, "random numbers",
    ),
    "NumPy's random numbers": (
        lambda: Written(lambda m, x: x + np.random.rand() * m.second(F.relu(m.first(x))), **linears()),  # noqa: NPY002
        ROWS, "random numbers",
    ),
    "a choice by the input": (
        lambda: Written(lambda m, x: x + m.second(F.relu(m.first(x))) if x.sum() > 0 else x, **linears()),
        ROWS, "__bool__ in Written, line .* takes numbers",
    ),
    "a number of the input": (
        lambda: Written(lambda m, x: x + float(x[0, 0]) * m.second(F.relu(m.first(x))), **linears()),
        ROWS, "__float__ in Written, line .* takes numbers",
    ),
    "TorchScript": (
        lambda: quietly(lambda: torch.jit.script(Block(nn.Linear(4, 6), nn.Linear(6, 4)))), ROWS, "TorchScript|fails",
    ),
    "a transpose": (
        lambda: Written(lambda m, x: x + m.second(F.relu(m.first(x.T))), **linears()), (4, 4), "fails on 2 inputs",
    ),
    "rows mixed": (
        lambda: Written(lambda m, x: x.flip(0) + m.second(F.relu(m.first(x))), **linears()),
        ROWS, "depends on other rows",
    ),
    "numbers for each row": (
        lambda: Written(
            lambda m, x: x + torch.arange(5.0).double()[:, None] * m.second(F.relu(m.first(x))), **linears()
        ),
        ROWS, "fails on 2 inputs",
    ),
    "a tuple": (lambda: Written(lambda m, x: (x, x)), ROWS, "returns a tuple"),
    "another shape": (
        lambda: Written(lambda m, x: m.first(x), first=nn.Linear(4, 6)),
        ROWS, r"returns \(2, 6\); only maps that keep",
    ),
    "an error": (lambda: Written(lambda m, x: x + m.missing(x)), ROWS, "fails on these inputs: AttributeError"),
    "another dtype": (lambda: nn.Sequential(nn.Linear(4, 4)), ROWS, "fails on these inputs: RuntimeError"),
    "no values yet": (lambda: Block(nn.LazyLinear(6), nn.Linear(6, 4)), ROWS, "no values yet"),
}  # fmt: skip
# without a certificate, but inverted
UNCERTIFIED: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], str]] = {
    "pooling": (
        lambda: Block(nn.Sequential(convolutions()[0], nn.MaxPool2d(3, 1, 1)), convolutions()[1]),
        IMAGES, r"max_pool2d.* in branch\.0\.1 \(MaxPool2d\)",
    ),
    "layer norm": (
        lambda: Block(nn.Sequential(nn.Linear(4, 6), nn.LayerNorm(6)), nn.Linear(6, 4)),
        ROWS, r"layer_norm in branch\.0\.1 \(LayerNorm\)",
    ),
    "group norm": (
        lambda: Block(nn.Sequential(convolutions()[0], nn.GroupNorm(3, 3)), convolutions()[1]), IMAGES, "GroupNorm",
    ),
    "instance norm": (
        lambda: Block(nn.Sequential(convolutions()[0], nn.InstanceNorm2d(3)), convolutions()[1]), IMAGES, "Instance",
    ),
    "a gate": (
        lambda: Written(lambda m, x: x + m.second(F.relu(m.first(x)) * m.first(x)), **linears()), ROWS, "multiplies",
    ),
    "NumPy": (
        lambda: Written(lambda m, x: x + torch.from_numpy(np.maximum(m.first(x).numpy(), 0)) @ m.second.weight.mT,
                        **linears()),
        ROWS, "numpy in Written",
    ),
}  # fmt: skip


def written_into(x: Tensor) -> Tensor:
    """A tensor whose first column was written through a view."""
    out = torch.zeros_like(x)
    column = out[:, 0]
    column.copy_(x[:, 0])
    return out


NOT_READ = "the module is not read as a composition of affine maps, element-wise activations and skip connections: "


def assert_named_in_one_sentence(call: Callable[..., object], form: str) -> None:
    make, shape, sentence = {**REFUSED, **UNCERTIFIED}[form]
    with pytest.raises(ValueError, match=sentence) as caught:
        call(make(), torch.randn(shape, dtype=torch.float64))
    said = str(caught.value)
    assert said.startswith((NOT_READ, "the module"))
    assert "\n" not in said
    assert len(said) < 500


@pytest.mark.parametrize("form", [*REFUSED, *UNCERTIFIED])
def test_what_stands_in_the_way_is_named_in_one_sentence(form: str) -> None:
    assert_named_in_one_sentence(as_unit, form)


@pytest.mark.parametrize("form", REFUSED)
def test_what_is_no_map_of_rows_is_not_inverted(form: str) -> None:
    assert_named_in_one_sentence(invert, form)


@pytest.mark.parametrize("form", UNCERTIFIED)
def test_what_cannot_be_read_is_inverted_without_a_certificate(form: str) -> None:
    make, shape, sentence = UNCERTIFIED[form]
    module, x = make(), torch.randn(shape, dtype=torch.float64)
    certificate = certify(module, x)
    assert certificate.verdict is Verdict.UNKNOWN
    assert re.search(sentence, certificate.reason)
    with torch.no_grad():
        y = module(x)
        solution = invert(module, y)
        residual = torch.linalg.vector_norm((module(solution.value) - y).flatten(1), dim=1)
    scale = torch.linalg.vector_norm(y.flatten(1), dim=1)
    torch.testing.assert_close(solution.residual, residual / scale, rtol=1e-6, atol=1e-15)
    assert solution.error_bound is None
    assert solution.converged.any()
    assert torch.equal(solution.converged, solution.residual <= 1e-10)


def test_a_module_that_rounds_has_its_own_residual() -> None:
    module = Written(lambda m, x: x + m.second(F.relu(m.first(x)).float().double()), **linears())
    y = module(torch.randn(ROWS, dtype=torch.float64)).detach()
    solution = invert(module, y, tolerance=1e-6)
    assert solution.converged.all()
    residual = torch.linalg.vector_norm(module(solution.value) - y, dim=1) / torch.linalg.vector_norm(y, dim=1)
    torch.testing.assert_close(solution.residual, residual, rtol=1e-6, atol=1e-15)


def test_autocast_is_refused() -> None:
    def forward(m: nn.Module, x: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return x + m.second(F.relu(m.first(x)))

    with pytest.raises(ValueError, match=r"linear in first \(Linear\), line .*bfloat16"):
        as_unit(Written(forward, **linears()).float(), torch.randn(ROWS))


ACTIVATIONS = {
    name: kind
    for name, kind in vars(nn.modules.activation).items()
    if inspect.isclass(kind) and issubclass(kind, nn.Module) and kind is not nn.Module
    if name not in ("MultiheadAttention", "NonDynamicallyQuantizableLinear", "GLU", "Softmax2d")  # take other inputs
}


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("scale", [1.0, 1e-6, 100.0])
def test_activations_are_told_apart_by_what_they_are(name: str, scale: float) -> None:
    arguments = (0.0, 0.0) if name == "Threshold" else ()
    block = Block(nn.Linear(3, 4), nn.Linear(4, 3), ACTIVATIONS[name](*arguments)).eval()
    y = scale * torch.rand(1, 3, dtype=torch.float64)  # one row, positive: where many look like a ReLU
    if name in ("Hardshrink", "Softmax", "Softmin", "LogSoftmax"):
        with pytest.raises(ValueError, match=r"in branch\.1 \(" + name):
            as_unit(block, y)
        return
    unit, fresh = as_unit(block, y), 30 * torch.randn(100, 3, dtype=torch.float64)
    torch.testing.assert_close(unit(fresh), block(fresh))
    assert isinstance(unit, FeedForwardUnit) == (name not in ("ReLU", "Threshold"))
    if isinstance(unit, FeedForwardUnit):
        (layer,) = unit.feed_forward().activations
        assert layer.name in KNOWN
        s = 30 * torch.randn(100, 4, dtype=torch.float64)
        torch.testing.assert_close(layer.activation(s), block.branch[1](s))


@pytest.mark.parametrize("activation", [F.relu6, F.leaky_relu, F.elu, F.hardtanh, F.hardswish, torch.tanh, F.gelu])
def test_a_unit_without_layers_is_never_converged_and_wrong(activation: Callable[[Tensor], Tensor]) -> None:
    module = Written(lambda m, x: x - activation(x) / 2)
    y = torch.tensor([[5.0]], dtype=torch.float64)
    assert as_unit(module, y).certificate().verdict is Verdict.INVERTIBLE
    solution = invert(module, y)
    assert solution.converged.all()
    assert (module(solution.value) - y).abs() <= 5e-10
    assert solution.error_bound is not None


@given(st.integers(0, 10**6), st.sampled_from([1e-8, 1.0, 1e8]), st.booleans())
@settings(max_examples=60)
def test_the_residual_and_the_bound_are_those_of_the_module(seed: int, scale: float, double: bool) -> None:
    generator = torch.Generator().manual_seed(seed)
    block = Block(nn.Linear(3, 4), nn.Linear(4, 3)).to(torch.float64 if double else torch.float32)
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) / 2)
    x = scale * torch.randn(6, 3, generator=generator, dtype=torch.float64).to(next(block.parameters()))
    with torch.no_grad():
        y = block(x)
        solution = invert(block, y)
        residual = torch.linalg.vector_norm(block(solution.value) - y, dim=1) / torch.linalg.vector_norm(y, dim=1)
    torch.testing.assert_close(solution.residual, residual)
    assert (residual <= (1e-10 if double else 1e-5))[solution.converged].all()
    if solution.error_bound is not None:
        wide = invert(copy.deepcopy(block).double(), y.double(), tolerance=1e-14).value  # the same weights, all digits
        error = torch.linalg.vector_norm(solution.value.double() - wide, dim=1)
        assert (error <= solution.error_bound * (1 + 1e-6) + 1e-14 * scale).all()


class Nosy(nn.Module):
    """Writes down what it sees, in all ways that there are."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.second = nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Linear(6, 4)
        self.register_buffer("calls", torch.zeros(1))
        self.seen: list[Tensor] = []
        self.counts = {"forward": 0}
        self.plain = torch.zeros(3)
        self.last: Tensor | None = None
        self.double()

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(x)
        self.counts["forward"] += 1
        self.plain += 1
        self.last = x
        return x + self.second(F.relu(self.norm(self.first(x))))


def state_of(module: nn.Module) -> dict[str, object]:
    tensors = {
        name: (id(t), t._version, t.clone()) for name, t in (*module.named_parameters(), *module.named_buffers())
    }
    modes = [part.training for part in module.modules()]
    hooks = [len(part._forward_hooks) + len(part._forward_pre_hooks) for part in module.modules()]
    return {"tensors": tensors, "modes": modes, "hooks": hooks, "keys": [sorted(p.__dict__) for p in module.modules()]}


def assert_same_state(before: dict[str, object], after: dict[str, object]) -> None:
    for name, (identity, version, numbers) in before.pop("tensors").items():  # type: ignore[attr-defined]
        now = after["tensors"][name]  # type: ignore[index]
        assert (now[0], now[1]) == (identity, version), name
        assert now[2].equal(numbers), name
    after.pop("tensors")
    assert before == after


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    "make",
    [Nosy, *(FORMS[form][0] for form in ("older weight norm", "older spectral norm", "weight norm", "spectral norm"))],
)
def test_nothing_of_the_callers_changes(make: Callable[[], nn.Module], training: bool) -> None:
    module = make().train(training)
    shape = IMAGES if any(isinstance(part, nn.Conv2d) for part in module.modules()) else ROWS
    y = torch.randn(shape, dtype=torch.float64)
    kept, before, random_state = y.clone(), state_of(module), torch.get_rng_state()
    python, numpy = random.getstate(), np.random.get_state()[1].copy()  # noqa: NPY002
    for call in (as_unit, invert, invert):
        if training:
            with contextlib.suppress(ValueError):
                call(module, y)
        else:
            call(module, y)
    assert y.equal(kept)
    assert torch.get_rng_state().equal(random_state)
    assert random.getstate() == python
    assert (np.random.get_state()[1] == numpy).all()  # noqa: NPY002
    assert_same_state(before, state_of(module))
    if isinstance(module, Nosy):
        assert (module.seen, module.counts, module.last) == ([], {"forward": 0}, None)
        assert not module.plain.any()


def test_gradients_to_come_are_not_disturbed() -> None:
    block, x = Block(nn.Linear(4, 6), nn.Linear(6, 4)), torch.randn(ROWS, dtype=torch.float64, requires_grad=True)
    y = block(x)
    invert(block, y.detach())
    y.sum().backward()  # refuses weights that were changed in place
    assert x.grad is not None


def test_inputs_of_other_kinds_are_refused() -> None:
    block = Block(nn.Linear(4, 6), nn.Linear(6, 4))
    for bad in (torch.randn(4).double(), torch.zeros(2, 0).double()):
        with pytest.raises(ValueError, match="is read on inputs"):
            as_unit(block, bad)
    for bad in (torch.zeros(2, 4, dtype=torch.half), torch.zeros(2, 4, dtype=torch.long), None):
        with pytest.raises(TypeError, match="float32 or float64"):
            as_unit(block, bad)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"must be a torch\.nn\.Module"):
        as_unit(lambda x: x, torch.zeros(2, 4))  # type: ignore[arg-type]


def test_no_rows_and_rows_that_are_not_finite() -> None:
    block = Block(*convolutions()).double()
    assert invert(block, torch.empty(0, *IMAGES[1:], dtype=torch.float64), "anderson").value.shape == (0, *IMAGES[1:])
    with pytest.raises(ValueError, match="not finite"):
        invert(block, torch.full(IMAGES, torch.nan, dtype=torch.float64))


def test_modules_are_read_in_inference_mode() -> None:
    block, x = Block(nn.Linear(4, 6), nn.Linear(6, 4)), torch.randn(ROWS, dtype=torch.float64)
    with torch.inference_mode():
        solution = invert(block, block(x))
    assert solution.converged.any()


@pytest.mark.slow
def test_the_example_runs() -> None:
    assert said_by_example("own_network").count("10 of 10 images converged") == 3
