"""Whatever is given to the public functions: the right numbers, or one sentence of ours, never torch's own."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from copy import deepcopy
from functools import partial

import numpy as np
import pytest
import torch
from builders import Block, assert_one_sentence, built, shape_of
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from replication import (
    CausalConvUnit,
    InjectiveReLU,
    Inverse,
    LipschitzConvUnit,
    MonotoneCausalConvUnit,
    MonotoneConvUnit,
    RectifierLinear,
    ResidualUnit,
    StandardConvUnit,
    activation_pattern_product,
    as_unit,
    basis_path_norm,
    basis_paths,
    correlation_map,
    directed_spanning_test,
    invert,
    path_norm,
    sample_variance,
    stability,
)
from replication.solvers import SOLVERS
from replication.units import Unit

DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.bool, torch.complex64]
NUMBERS = [0.0, 1.0, -2.5, 5e-324, 1e-310, 1e-38, -1e-12, 1e12, 1e38, 1e300, math.nan, math.inf, -math.inf]
fuzz = settings(max_examples=60)
fuzz_each = settings(max_examples=25)  # of eleven units


def checked(call: Callable[[], object]) -> object | None:
    """What a call returns, or None where it ends in one sentence that this package says itself."""
    try:
        return call()
    except (ValueError, TypeError, RuntimeError) as caught:
        error = caught
    assert_one_sentence(error)
    return None


layouts = st.sampled_from(["plain", "transposed", "strided", "expanded", "channels last", "gradient", "inference"])


def laid_out(tensor: Tensor, layout: str) -> Tensor:
    """The same numbers (of a first row, for "expanded") in another layout."""
    if layout == "transposed" and tensor.ndim > 1:
        return tensor.transpose(0, -1).contiguous().transpose(0, -1)
    if layout == "strided":
        return torch.stack((tensor, tensor), -1)[..., 0]
    if layout == "expanded" and tensor.ndim and len(tensor):
        return tensor[:1].expand(tensor.shape)
    if layout == "channels last" and tensor.ndim == 4:
        return tensor.contiguous(memory_format=torch.channels_last)
    if layout == "gradient" and tensor.is_floating_point():
        return tensor.clone().requires_grad_()
    if layout == "inference":
        with torch.inference_mode():
            return tensor.clone()
    return tensor


@st.composite
def tensors(draw: st.DrawFn, *, shapes: st.SearchStrategy[tuple[int, ...]]) -> Tensor:
    """Tensors of any shape, dtype and layout, of small integers with a few numbers of any size among them."""
    shape, dtype = draw(shapes), draw(st.sampled_from(DTYPES[:2] + DTYPES))
    values = np.random.default_rng(draw(st.integers(0, 99))).integers(-3, 4, shape).astype(float)
    for number in draw(st.lists(st.sampled_from(NUMBERS), max_size=2)):
        if values.size:
            values.flat[draw(st.integers(0, values.size - 1))] = number
    with np.errstate(all="ignore"):
        return laid_out(torch.as_tensor(np.asarray(values)).to(dtype), draw(layouts))


any_shape = st.lists(st.integers(0, 4), max_size=5).map(tuple)


def around(*shape: int) -> st.SearchStrategy[tuple[int, ...]]:
    """The right shape, mostly, with any number of rows, or any other."""
    right = st.integers(0, 3).map(lambda rows: (rows, *shape))
    return st.one_of(right, right, right, any_shape)


no_tensor = st.sampled_from([None, 3, 2.5, "x", [[1.0, 2.0]], np.zeros((2, 3)), {}])
things = st.one_of(st.one_of(tensors(shapes=any_shape)), no_tensor)


NAMES = [
    "dense", "linear", "standard", "lipschitz", "monotone circular", "causal", "monotone causal", "injective", "paired",
    "injective conv", "network",
]  # fmt: skip
MADE = {name: built(name) for name in NAMES}
every_unit = pytest.mark.parametrize("name", MADE)


def output_shape(name: str) -> tuple[int, ...]:
    with torch.no_grad():
        return tuple(MADE[name](torch.zeros(1, *shape_of(name), dtype=torch.float64)).shape[1:])


def expected_shape(given: Tensor, before: tuple[int, ...], after: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of what a map from `before` to `after` makes; those that keep the shape take images of every size."""
    return tuple(given.shape) if before == after else (*given.shape[: given.ndim - len(before)], *after)


@every_unit
@fuzz_each
@given(data=st.data())
def test_forward_takes_its_inputs_or_says_why_not(name: str, data: st.DataObject) -> None:
    x = data.draw(st.one_of(tensors(shapes=around(*shape_of(name))), no_tensor))
    with torch.no_grad():  # inference tensors go through no module otherwise
        y = checked(lambda: MADE[name](x))
    if y is not None:
        assert y.dtype == x.dtype == torch.float64
        assert y.shape == expected_shape(x, shape_of(name), output_shape(name))


@every_unit
@fuzz_each
@given(data=st.data())
def test_inverse_solves_or_says_why_not(name: str, data: st.DataObject) -> None:
    unit = MADE[name]
    y = data.draw(st.one_of(tensors(shapes=around(*output_shape(name))), no_tensor))
    solution = checked(lambda: unit.inverse(y))
    if solution is None:
        return
    assert solution.value.shape == expected_shape(y, output_shape(name), shape_of(name))
    with torch.no_grad():
        back = unit(solution.value)
    for row in solution.converged.nonzero().flatten().tolist():
        scale = y[row].abs().max() if y[row].any() else 1.0  # as residuals of zeros are absolute
        assert ((back[row] - y[row]) / scale).abs().max() <= 1e-6
        if solution.error_bound is not None:
            assert solution.error_bound[row] >= 0


solver_names = st.one_of(st.sampled_from(sorted(SOLVERS)), st.sampled_from(["", "newtons", None, 3]))
tolerances = st.sampled_from([None, 1e-8, 1e-300, 5e-324, 1e300, 0, -1.0, math.nan, math.inf, "x", None, True, [1e-3]])
options = st.dictionaries(
    st.sampled_from(
        [
            "max_iterations",
            "patience",
            "omega",
            "memory",
            "damping",
            "ridge",
            "growth",
            "block_steps",
            "iterations",
            "x",
        ]
    ),
    st.sampled_from([0, 1, 5, -1, 2.5, math.nan, math.inf, "auto", None, True]),
    max_size=1,
)


@every_unit
@fuzz_each
@given(solver=solver_names, tolerance=tolerances, chosen=options)
def test_solvers_tolerances_and_options_are_taken_or_refused(
    name: str, solver: object, tolerance: object, chosen: dict[str, object]
) -> None:
    y = torch.ones(2, *output_shape(name), dtype=torch.float64)
    solution = checked(lambda: MADE[name].inverse(y, solver, tolerance, **chosen))
    assert solution is None or solution.value.shape == (2, *shape_of(name))


@every_unit
@fuzz_each
@given(data=st.data(), layout=layouts, rows=st.integers(0, 3))
def test_every_layout_gives_the_same(name: str, data: st.DataObject, layout: str, rows: int) -> None:
    unit = MADE[name]
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 9)))
    x = torch.randn(rows, *shape_of(name), generator=generator, dtype=torch.float64)
    if layout == "expanded":
        x = x[:1].expand(x.shape).contiguous()
    with torch.no_grad():
        y = unit(x)
        torch.testing.assert_close(unit(laid_out(x, layout)), y, rtol=1e-12, atol=1e-12)
    plain, other = unit.inverse(y), unit.inverse(laid_out(y, layout))
    assert torch.equal(plain.codes, other.codes)
    torch.testing.assert_close(plain.value, other.value, rtol=1e-7, atol=1e-7)
    assert not other.value.requires_grad


@every_unit
@pytest.mark.parametrize("scale", [5e-324, 1e-310, 1e-160, 1e-20, 1e20, 1e150, 1e300])
def test_rows_of_every_magnitude_come_back_or_are_said_not_to(name: str, scale: float) -> None:
    unit = MADE[name]
    x = scale * torch.randn(3, *shape_of(name), dtype=torch.float64)
    with torch.no_grad():
        y = unit(x)
    solution = checked(lambda: unit.inverse(y))
    if solution is not None and solution.converged.any():
        back, own = unit(solution.value)[solution.converged], y[solution.converged]
        size = own.flatten(1).abs().amax(1).clamp_min(torch.finfo(y.dtype).tiny)
        assert (((back - own).flatten(1) / size[:, None]).abs() <= 1e-6).all()


@fuzz
@given(W1=things, b1=things, W2=things, b2=things)
def test_dense_units_are_made_or_refused(W1: object, b1: object, W2: object, b2: object) -> None:
    checked(lambda: ResidualUnit(W1, b1, W2, b2))
    checked(lambda: RectifierLinear(W1, b1))
    checked(lambda: InjectiveReLU(W1, b1))
    checked(lambda: InjectiveReLU(W1))


@fuzz
@given(data=st.data(), h=st.integers(1, 4), d=st.integers(1, 4))
def test_certificates_of_extreme_weights_hold_or_are_unknown(data: st.DataObject, h: int, d: int) -> None:
    shapes = [(h, d), (h,), (d, h), (d,)]
    parts = [data.draw(tensors(shapes=st.just(shape))) for shape in shapes]
    unit = checked(lambda: ResidualUnit(*parts))
    if unit is None:
        return
    certificate = checked(unit.certificate)
    assert certificate is not None
    if certificate.witness is not None:
        x1, x2 = certificate.witness
        y1, y2 = unit(x1[None]), unit(x2[None])
        assert (y1 - y2).norm() <= 1e-3 * (x1 - x2).norm()
    assert not re.search(r"\bnan\b", certificate.reason)


@example(W=torch.tensor([[5e-324]], dtype=torch.float64), b=None)
@example(W=torch.tensor([[1e300]], dtype=torch.float64), b=None)
@example(W=torch.tensor([[2, 1e-310], [0, -2]], dtype=torch.float64), b=None)
@example(W=torch.zeros(2, 1), b=None)
@fuzz
@given(
    W=st.one_of(things, tensors(shapes=st.tuples(st.integers(1, 6), st.integers(1, 3)))), b=st.one_of(st.none(), things)
)
def test_spanning_tests_and_stability_answer_or_refuse(W: object, b: object) -> None:
    test = checked(lambda: directed_spanning_test(W, b))
    bounds = checked(lambda: stability(W, b))
    assert (test is None) == (bounds is None)
    if test is not None:
        assert test.spans in (True, False, None)
        assert 0 <= bounds.lower <= bounds.upper
        assert not (test.spans is False and bounds.lower > 0)


@fuzz
@given(x=things, layers=st.sampled_from([None, ["0"], ["1", "0"], ["x"], [], "0", 3, [None]]))
def test_sample_variances_and_correlations_are_measured_or_refused(x: object, layers: object) -> None:
    found = checked(lambda: sample_variance(nn.Sequential(nn.Linear(3, 2), nn.ReLU()), x, layers))
    if found is not None:
        assert torch.isfinite(torch.stack((found.total, found.squared_mean, found.variance))).all()
    following = checked(lambda: correlation_map(x))
    assert following is None or ((following >= 0) & (following <= 1)).all()


@pytest.mark.parametrize(
    ("block", "shape"),
    [
        (Block(nn.Linear(3, 2), nn.Linear(2, 3)), (3,)),
        (Block(nn.Conv2d(2, 3, 3, padding=1), nn.Conv2d(3, 2, 3, padding=1)), (2, 4, 4)),
        (Block(nn.Linear(3, 2), nn.Linear(2, 4)), (3,)),
        (nn.Linear(3, 3).double(), (3,)),
        (None, (3,)),
    ],
    ids=["dense", "convolution", "misfit", "linear", "nothing"],
)
@fuzz
@given(data=st.data())
def test_own_modules_are_read_or_refused(block: nn.Module, shape: tuple[int, ...], data: st.DataObject) -> None:
    x = data.draw(st.one_of(tensors(shapes=around(*shape)), no_tensor))
    unit = checked(lambda: as_unit(block, x))
    assert unit is None or tuple(unit.input_shape) == tuple(x.shape[1:])  # convolutions take images of any size
    checked(lambda: invert(block, x))


def linear(W: Tensor) -> nn.Linear:
    """A layer with these weights, whatever they are."""
    layer = nn.Linear(1, 1, bias=False)
    layer.weight = nn.Parameter(W, requires_grad=False)
    return layer


@fuzz
@given(data=st.data(), widths=st.lists(st.integers(0, 3), min_size=2, max_size=4), order=st.sampled_from([1, 2.0, 1e9]))
def test_multilayer_networks_are_taken_apart_or_refused(data: st.DataObject, widths: list[int], order: float) -> None:
    shapes = [st.one_of(st.just(shape), any_shape) for shape in zip(widths[1:], widths, strict=False)]
    parts = [part for shape in shapes for part in (linear(data.draw(tensors(shapes=shape))), nn.ReLU())]
    network = nn.Sequential(*parts[: data.draw(st.sampled_from([len(parts), len(parts) - 1]))])
    x = data.draw(st.one_of(tensors(shapes=around(widths[0])), no_tensor))
    piece = checked(lambda: activation_pattern_product(network, x))
    assert piece is None or piece.offset.shape == network(x).shape
    for norm in (checked(lambda: path_norm(network, order)), checked(lambda: basis_path_norm(network))):
        assert norm is None or (norm.shape == () and norm >= 0)
    basis = checked(lambda: basis_paths(network))
    if basis is not None:
        checked(lambda: basis.rebuild(basis.paths))


@every_unit
@fuzz_each
@given(data=st.data())
def test_inverse_layers_are_differentiable_or_say_why_not(name: str, data: st.DataObject) -> None:
    y = data.draw(st.one_of(tensors(shapes=around(*output_shape(name))), no_tensor))
    x = checked(lambda: Inverse(MADE[name])(y))
    if x is not None and x.requires_grad:
        checked(lambda: x.sum().backward())


FAMILIES = [StandardConvUnit, LipschitzConvUnit, MonotoneConvUnit, CausalConvUnit, MonotoneCausalConvUnit]
sizes = st.sampled_from([1, 2, 3, 4, 0, -1, 2.5, None, "2", True, math.nan])


@fuzz
@given(
    family=st.sampled_from(FAMILIES),
    channels=sizes, hidden=sizes, kernel=sizes,
    image=st.sampled_from([(4, 4), (1, 1), (0, 4), (4,), None, 4, "44", (4, -1), (4.5, 4)]),
)  # fmt: skip
def test_convolutional_units_are_made_or_refused(
    family: type, channels: object, hidden: object, kernel: object, image: object
) -> None:
    unit = checked(lambda: family(channels, hidden, kernel, image_size=image))
    if unit is not None and image is not None:
        assert checked(unit.certificate) is not None


def calls(unit: nn.Module, x: Tensor, y: Tensor) -> dict[str, Callable[[], object]]:
    """All that is asked of a unit or network but its forward pass."""
    made: dict[str, Callable[[], object]] = {
        "inverse": lambda: unit.inverse(y),
        "Inverse": lambda: Inverse(unit)(y),
        "certificate": lambda: unit.certificate(),
    }
    if isinstance(unit, Unit):
        made["inverse_lipschitz"] = lambda: unit.inverse_lipschitz(unit.input_shape)
    for name in ("log_abs_det_jacobian", "inverse_condition"):
        if hasattr(unit, name):
            made[name] = partial(getattr(unit, name), x)
    return made


@every_unit
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_is_refused_in_one_sentence(name: str, dtype: torch.dtype) -> None:
    unit = deepcopy(MADE[name]).to(dtype)
    x, y = (torch.ones(1, *shape, dtype=dtype) for shape in (shape_of(name), output_shape(name)))
    for call in calls(unit, x, y).values():
        assert checked(call) is None


@every_unit
@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_weights_that_are_not_finite_are_refused_in_one_sentence(name: str, number: float) -> None:
    unit = deepcopy(MADE[name])
    with torch.no_grad():
        next(unit.parameters()).view(-1)[0] = number
    x, y = (torch.ones(1, *shape, dtype=torch.float64) for shape in (shape_of(name), output_shape(name)))
    for asked, call in calls(unit, x, y).items():
        if asked != "log_abs_det_jacobian":  # which trainings ask for: their loss says so
            assert checked(call) is None, asked


@every_unit
def test_no_rows_are_undone_by_every_method(name: str) -> None:
    unit = MADE[name]
    x, y = (torch.ones(0, *shape, dtype=torch.float64) for shape in (shape_of(name), output_shape(name)))
    for asked, call in calls(unit, x, y).items():
        changes_dimension = asked == "log_abs_det_jacobian" and x.shape != y.shape
        assert changes_dimension or checked(call) is not None, asked
    for solver in SOLVERS:
        solution = checked(lambda solver=solver: unit.inverse(y, solver))
        assert solution is None or solution.value.shape == x.shape
