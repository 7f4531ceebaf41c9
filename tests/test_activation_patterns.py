"""The explicit expression by activation matrices: forward pass, Jacobian and exact arithmetic agree with it."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from replication import activation_pattern_product


def network(widths: list[int], last_relu: bool = True, bias: bool = True, seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    parts: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        layer = nn.Linear(inputs, outputs, bias=bias, dtype=torch.float64)
        nn.init.normal_(layer.weight, std=(2 / inputs) ** 0.5)
        parts += [layer, nn.ReLU()]
    return nn.Sequential(*(parts if last_relu else parts[:-1]))


def explicit_sum(layers: list[nn.Linear], patterns: list[Tensor], x: Tensor) -> Tensor:
    """D_L·W_L ⋯ D₁·W₁·x + Σₖ (D_L·W_L ⋯ D_{k+1}·W_{k+1})·Dₖ·bₖ for one input (d,), every product formed anew."""

    def product(first: int) -> Tensor:
        found = torch.eye(layers[first - 1].out_features if first else len(x), dtype=torch.float64)
        for layer, active in zip(layers[first:], patterns[first:], strict=True):
            found = torch.diag(active.double()) @ layer.weight @ found
        return found

    terms = [
        product(place) @ (patterns[place - 1] * layers[place - 1].bias) for place in range(1, len(layers) + 1)
    ]  # fmt: skip
    return product(0) @ x + sum(terms)


@given(
    widths=st.lists(st.integers(1, 7), min_size=2, max_size=7), last_relu=st.booleans(), bias=st.booleans(),
    seed=st.integers(0, 99),
)  # fmt: skip
def test_it_is_the_network_and_its_jacobian(widths: list[int], last_relu: bool, bias: bool, seed: int) -> None:
    net = network(widths, last_relu, bias, seed)
    x = torch.randn(4, widths[0], dtype=torch.float64)
    piece = activation_pattern_product(net, x)
    assert piece.matrix.shape == (4, widths[-1], widths[0])
    assert len(piece.patterns) == sum(isinstance(part, nn.ReLU) for part in net)
    scale = net(x).abs().max().clamp_min(1)
    assert (piece.value(x) - net(x)).abs().max() <= 1e-12 * scale
    for row in range(4):
        jacobian = torch.autograd.functional.jacobian(lambda v: net(v[None])[0], x[row])
        assert torch.allclose(piece.matrix[row], jacobian, rtol=1e-12, atol=1e-12)


def test_fifty_layers_agree_with_every_product_of_the_sum() -> None:
    net = network([10] * 51)
    x = torch.randn(20, 10, dtype=torch.float64)
    piece = activation_pattern_product(net, x)
    assert ((piece.value(x) - net(x)).norm(dim=1) / net(x).norm(dim=1)).max() <= 1e-12
    layers = [part for part in net if isinstance(part, nn.Linear)]
    for row in range(3):
        expected = explicit_sum(layers, [active[row] for active in piece.patterns], x[row])
        assert torch.allclose(piece.value(x)[row], expected, rtol=1e-12, atol=0)


def test_whole_numbers_are_exact() -> None:
    torch.manual_seed(1)
    net = network([3, 4, 2, 3])
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(torch.randint(-3, 4, parameter.shape))
    x = torch.randint(-4, 5, (30, 3)).double()
    piece = activation_pattern_product(net, x)
    for row in range(30):
        z = [Fraction(int(value)) for value in x[row]]
        for layer in net[::2]:
            s = [
                sum((int(w) * v for w, v in zip(weights, z, strict=True)), Fraction(int(b)))
                for weights, b in zip(layer.weight.tolist(), layer.bias.tolist(), strict=True)
            ]
            z = [max(value, Fraction(0)) for value in s]
        assert piece.value(x)[row].tolist() == z


def test_gradients_pass_through_it() -> None:
    net = network([3, 4, 2], last_relu=False)
    x = torch.randn(5, 3, dtype=torch.float64)
    by_product = torch.autograd.grad(activation_pattern_product(net, x).value(x).sum(), list(net.parameters()))
    by_forward = torch.autograd.grad(net(x).sum(), list(net.parameters()))
    for one, other in zip(by_product, by_forward, strict=True):
        assert torch.allclose(one, other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("net", "sentence"),
    [
        (None, "not NoneType"),
        (nn.Linear(2, 2), "not Linear"),
        (nn.Sequential(), "not one of nothing"),
        (nn.Sequential(nn.ReLU(), nn.Linear(2, 2)), "not one of ReLU, Linear"),
        (nn.Sequential(nn.Linear(2, 2), nn.Tanh()), "not one of Linear, Tanh"),
        (nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)), "not one of Linear, Linear"),
    ],
)
def test_other_networks_are_refused(net: nn.Module, sentence: str) -> None:
    with pytest.raises(TypeError, match=f"the network must be an nn.Sequential of .*, {sentence}"):
        activation_pattern_product(net, torch.zeros(1, 2))


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match=r"layer 2, of weights \(1, 3\), is empty or does not fit"):
        activation_pattern_product(nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(3, 1)), torch.zeros(1, 2))
    with pytest.raises(ValueError, match=r"inputs \(batch, 2\), not of shape \(1, 3\)"):
        activation_pattern_product(nn.Sequential(nn.Linear(2, 2)), torch.zeros(1, 3))
    huge = nn.Sequential(nn.Linear(1, 1), nn.ReLU(), nn.Linear(1, 1))
    for parameter in huge.parameters():
        nn.init.constant_(parameter, 1e30)
    with pytest.raises(ValueError, match=r"overflows torch.float32"):
        activation_pattern_product(huge, torch.ones(1, 1))
