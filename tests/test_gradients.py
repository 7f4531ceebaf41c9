"""Gradients of inverses: of every parameter of every layer, against finite differences, however weights are cached."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from builders import ALL, built, output_of, shape_of
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils import parametrize

import replication
from replication import (
    CausalFlow,
    InjectiveReLU,
    Inverse,
)
from replication.units import (
    Flip,
    Layer,
    Unit,
)

every_layer = pytest.mark.parametrize("name", ALL)


def made(name: str, seed: int = 0) -> tuple[nn.Module, Tensor]:
    """The layer of this name, and outputs of it."""
    layer = built(name, seed)
    return layer, output_of(layer, torch.randn(2, *shape_of(name), dtype=torch.float64))


def inverted(layer: nn.Module, y: Tensor) -> Tensor:
    """The inverse as found, whether or not y is in the range of the layer."""
    with torch.no_grad():
        return layer.inverse(y, tolerance=1e-13).value


def difference(layer: nn.Module, y: Tensor, tensor: Tensor, direction: Tensor, v: Tensor, step: float = 1e-6) -> float:
    """The derivative of ⟨inverse(y), v⟩ along a direction of a tensor, by central differences."""
    values = []
    for sign in (1, -1):
        with torch.no_grad():
            tensor.add_(sign * step * direction)
            values.append(float((inverted(layer, y) * v).sum()))
            tensor.sub_(sign * step * direction)
    return (values[0] - values[1]) / (2 * step)


@every_layer
@settings(max_examples=2)
@given(seed=st.integers(0, 10**6))
def test_the_inverse_has_the_gradient_of_every_parameter_and_of_y(name: str, seed: int) -> None:
    layer, y = made(name, seed)
    if isinstance(layer, Unit):  # one without a guarantee may fold
        assume(bool(layer.inverse(y, tolerance=1e-13).converged.all()))
    x = Inverse(layer, tolerance=1e-13)(y.requires_grad_())
    v = torch.randn_like(x)
    if x.requires_grad:
        (x * v).sum().backward()
    y, gradient = y.detach(), y.grad
    wanted = [(y, gradient), *((p, p.grad) for p in layer.parameters() if p.requires_grad)]
    for tensor, gradient in wanted:
        direction = torch.randn_like(tensor)
        expected = difference(layer, y, tensor, direction, v)
        found = 0.0 if gradient is None else float((gradient * direction).sum())
        assert found == pytest.approx(expected, rel=1e-5, abs=1e-6 if gradient is not None else 0)


def test_every_layer_is_among_those_whose_gradients_are_tested() -> None:
    public = {value for value in vars(replication.units).values() if isinstance(value, type)}
    concrete = {layer for layer in public if issubclass(layer, Layer | replication.units.ReversibleBlock)}
    concrete = {layer for layer in concrete if not getattr(layer, "__abstractmethods__", None)}
    tested = {type(part) for make in ALL.values() for part in make().modules()}
    assert concrete <= {base for layer in tested for base in layer.__mro__}


PARAMETRIZED = ["lipschitz", "monotone", "paired", "injective conv", "orthogonal", "rectifier network", "flow"]


def gradients(layer: nn.Module, loss: Callable[[], Tensor]) -> list[Tensor | None]:
    layer.zero_grad()
    loss().backward()
    return [None if parameter.grad is None else parameter.grad.clone() for parameter in layer.parameters()]


@pytest.mark.parametrize("name", [*PARAMETRIZED, "network"])
def test_a_cache_around_calls_does_not_change_gradients(name: str) -> None:
    layer, y = made(name)
    x = inverted(layer, y)
    inverse = Inverse(layer, tolerance=1e-13)

    def forward() -> Tensor:
        return (layer.features if hasattr(layer, "features") else layer)(x).sin().sum()

    def ask_without_gradients() -> None:
        inverted(layer, y)
        layer.inverse(y)
        layer.certificate()
        if isinstance(layer, Layer):
            layer.inverse_lipschitz()
        with torch.no_grad():
            inverse(y)
            if isinstance(layer, CausalFlow):
                layer.log_prob(x)

    def loss() -> Tensor:
        likelihood = layer.log_prob(x).sum() if isinstance(layer, CausalFlow) else 0
        return inverse(y).square().sum() + likelihood + forward()

    expected = gradients(layer, loss)
    assert not parametrize._cache
    with parametrize.cached():
        if name != "orthogonal":  # whose own inverse is a formula that torch.no_grad() of the caller's fills a cache in
            ask_without_gradients()
        found = gradients(layer, loss)
    for one, other in zip(found, expected, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(one, other)


@pytest.mark.parametrize("name", ["lipschitz", "paired", "network"])
def test_the_inverse_computes_every_parametrized_weight_once(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    layer, y = made(name)
    counts: dict[int, int] = {}
    forward = parametrize.ParametrizationList.forward

    def counted(self: parametrize.ParametrizationList) -> Tensor:
        counts[id(self)] = counts.get(id(self), 0) + 1
        return forward(self)

    monkeypatch.setattr(parametrize.ParametrizationList, "forward", counted)
    Inverse(layer)(y)
    assert set(counts.values()) == {1}
    assert len(counts) == sum(isinstance(part, parametrize.ParametrizationList) for part in layer.modules())


@pytest.mark.parametrize("name", ["dense", "lipschitz", "injective", "paired", "injective conv"])
def test_inverses_are_differentiated_once(name: str) -> None:
    layer, y = made(name)
    with pytest.raises(RuntimeError, match="differentiated once only"):
        torch.autograd.grad(Inverse(layer)(y.requires_grad_()).sum(), y, create_graph=True)


@pytest.mark.parametrize("name", ["dense", "lipschitz", "injective", "paired", "injective conv"])
def test_weights_changed_after_an_inverse_are_refused_or_do_not_matter(name: str) -> None:
    layer, y = made(name)
    y.requires_grad_()
    expected = torch.autograd.grad(Inverse(layer)(y).sum(), y)[0]
    loss = Inverse(layer)(y).sum()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.mul_(1.5)
    if name in ("dense", "injective"):
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            torch.autograd.grad(loss, y)
    else:  # the weights as they were parametrized are still there
        torch.testing.assert_close(torch.autograd.grad(loss, y)[0], expected)


def test_rows_that_do_not_determine_x_have_no_gradient() -> None:
    layer = InjectiveReLU(torch.tensor([[1.0, 0.0], [1.0, 1e-9], [-1.0, 0.0]], dtype=torch.float64))
    y = layer(torch.tensor([[1.0, 0.0]], dtype=torch.float64)).detach().requires_grad_()
    with pytest.raises(RuntimeError, match="do not span"):
        Inverse(layer)(y).sum().backward()


class Own(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + x.relu()


class OwnUnit(Unit):
    title = "own"
    input_shape = (2,)

    def forward(self, x: Tensor) -> Tensor:
        return x

    def inverse(self, y: Tensor, *_: object) -> object: ...

    def certificate(self) -> object: ...

    def inverse_lipschitz(self, shape: tuple[int, ...]) -> Tensor: ...


class OwnNetwork(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.hidden_layers = nn.ModuleList([Flip(), Own()])


@pytest.mark.parametrize("module", [Own(), OwnUnit(), OwnNetwork(), nn.Linear(2, 2), nn.Sequential(Flip()), 3])
def test_modules_without_an_inverse_are_refused_in_one_sentence(module: nn.Module) -> None:
    with pytest.raises(TypeError, match=r"has no differentiable inverse; read it by as_unit\(module, x\)"):
        Inverse(module)
