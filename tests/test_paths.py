"""Basis paths and path norms, against the enumeration of all paths, the rank of their incidence, and rescaling."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from replication import basis_path_norm, basis_paths, path_norm
from replication.path_basis import basis_path_norms, basis_values, path_norms

ARCHITECTURES = [
    [3, 3, 3], [3, 4, 2], [2, 5, 1], [3, 3, 3, 3], [4, 3, 5, 2], [2, 2, 2, 2, 2], [4, 4, 4, 3], [2, 3, 4, 3, 2],
    [1, 1, 1, 1], [5, 2, 1, 4], [4, 3],
]  # fmt: skip
architectures = pytest.mark.parametrize("widths", ARCHITECTURES, ids=str)


def network(widths: list[int], seed: int = 0, dtype: torch.dtype = torch.float64) -> nn.Sequential:
    torch.manual_seed(seed)
    parts: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(widths):
        parts += [nn.Linear(inputs, outputs, bias=False, dtype=dtype), nn.ReLU()]
        nn.init.normal_(parts[-2].weight)
    return nn.Sequential(*parts[:-1])


def weights_of(net: nn.Sequential) -> list[Tensor]:
    return [layer.weight.detach() for layer in net[::2]]


def all_paths(widths: list[int]) -> Tensor:
    return torch.tensor(list(itertools.product(*map(range, widths))))


def value(weights: list[Tensor], path: list[int]) -> float:
    return math.prod(float(W[head, tail]) for W, (tail, head) in zip(weights, itertools.pairwise(path), strict=True))


def incidence(widths: list[int], paths: Tensor) -> np.ndarray:
    """Which weights lie on which paths (paths, m)."""
    edges = {
        (place, tail, head): number
        for number, (place, tail, head) in enumerate(
            (place, tail, head)
            for place, (below, above) in enumerate(itertools.pairwise(widths))
            for tail in range(below)
            for head in range(above)
        )
    }
    found = np.zeros((len(paths), len(edges)))
    for row, path in enumerate(paths.tolist()):
        for place, (tail, head) in enumerate(itertools.pairwise(path)):
            found[row, edges[place, tail, head]] = 1
    return found


@architectures
def test_there_are_as_many_as_weights_less_hidden_units_and_no_more_are_independent(widths: list[int]) -> None:
    expected = sum(a * b for a, b in itertools.pairwise(widths)) - sum(widths[1:-1])
    basis = basis_paths(network(widths))
    assert len(basis.paths) == len(basis.values) == expected
    assert np.linalg.matrix_rank(incidence(widths, all_paths(widths))) == expected
    assert np.linalg.matrix_rank(incidence(widths, basis.paths)) == expected


@architectures
def test_every_path_is_rebuilt_from_the_basis(widths: list[int]) -> None:
    net = network(widths, seed=1)
    basis, paths = basis_paths(net), all_paths(widths)
    expected = torch.tensor([value(weights_of(net), path) for path in paths.tolist()], dtype=torch.float64)
    assert torch.allclose(basis.rebuild(paths), expected, rtol=1e-12, atol=0)
    above, below = basis.factors(paths)
    assert basis.negative[below].all()
    exponents = np.zeros((len(paths), len(basis.values)))
    for row in range(len(paths)):
        np.add.at(exponents[row], above[row].numpy(), 1)
        np.add.at(exponents[row], below[row].numpy(), -1)
    assert (exponents @ incidence(widths, basis.paths) == incidence(widths, paths)).all()
    assert (exponents < 0).any(0).tolist() == [
        bool(one) and (exponents[:, place] < 0).any() for place, one in enumerate(basis.negative)
    ]


def test_equal_widths_have_the_diagonals_as_their_skeleton() -> None:
    basis = basis_paths(network([4, 4, 4, 4]))
    assert basis.paths[basis.negative].tolist() == [[unit] * 4 for unit in range(4)]


def rescaled(net: nn.Sequential, seed: int) -> nn.Sequential:
    """The same network with every hidden unit's input multiplied, and its output divided, by a positive number."""
    generator = torch.Generator().manual_seed(seed)
    weights = [W.clone() for W in weights_of(net)]
    for place in range(len(weights) - 1):
        c = torch.randn(len(weights[place]), generator=generator, dtype=torch.float64).exp().to(weights[0].dtype)
        weights[place] *= c[:, None]
        weights[place + 1] /= c
    return with_weights(weights)


def with_weights(weights: list[Tensor]) -> nn.Sequential:
    net = network([weights[0].shape[1], *map(len, weights)], dtype=weights[0].dtype)
    with torch.no_grad():
        for layer, W in zip(net[::2], weights, strict=True):
            layer.weight.copy_(W)
    return net


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
@architectures
def test_positive_rescaling_changes_no_path_and_no_norm(
    widths: list[int], dtype: torch.dtype, tolerance: float
) -> None:
    net = network(widths, seed=2, dtype=dtype)
    other, x = rescaled(net, 3), torch.randn(9, widths[0], dtype=dtype)
    assert torch.allclose(net(x), other(x), rtol=10 * tolerance, atol=10 * tolerance)
    one, two = basis_paths(net), basis_paths(other)
    assert torch.allclose(one.values, two.values, rtol=tolerance, atol=0)
    for norm in (basis_path_norm, path_norm, lambda n: path_norm(n, 2.0)):
        assert torch.allclose(norm(net), norm(other), rtol=tolerance, atol=0)
    if len(widths) > 2:
        assert not torch.allclose(net[0].weight, other[0].weight, rtol=1e-3)


def test_another_order_of_hidden_units_changes_the_basis_path_norm_and_no_path_norm() -> None:
    net = network([5, 6, 6, 3], seed=4)
    seen = []
    for seed in range(20):
        order = torch.randperm(6, generator=torch.Generator().manual_seed(seed))
        first, second, third = weights_of(net)
        other = with_weights([first[order], second[:, order], third])
        x = torch.randn(9, 5, dtype=torch.float64)
        assert torch.allclose(net(x), other(x), rtol=1e-12, atol=1e-12)
        assert torch.allclose(path_norm(net, 2.0), path_norm(other, 2.0), rtol=1e-12)
        seen.append(float(basis_path_norm(other).detach()))
    assert max(seen) > 1.1 * min(seen)


@given(widths=st.lists(st.integers(1, 4), min_size=2, max_size=5), seed=st.integers(0, 99))
@settings(max_examples=40)
def test_norms_are_those_of_the_enumerated_paths(widths: list[int], seed: int) -> None:
    net = network(widths, seed)
    weights, basis = weights_of(net), basis_paths(net)
    values = np.array([value(weights, path) for path in all_paths(widths).tolist()])
    for order in (1.0, 2.0, 3.5):
        expected = (np.abs(values) ** order).sum() ** (1 / order)
        assert float(path_norm(net, order).detach()) == pytest.approx(expected, rel=1e-10)
    assert [value(weights, path) for path in basis.paths.tolist()] == pytest.approx(basis.values.tolist(), rel=1e-12)
    sizes = [abs(math.log(abs(v))) if n else abs(v) for v, n in zip(basis.values.tolist(), basis.negative, strict=True)]
    assert float(basis_path_norm(net).detach()) == pytest.approx(max(sizes), rel=1e-12)


def test_many_networks_at_once_have_the_norms_of_each() -> None:
    nets = [network([4, 5, 3, 2], seed) for seed in range(6)]
    stacked = [torch.stack(parts) for parts in zip(*map(weights_of, nets), strict=True)]
    positive, negative = basis_values(stacked)
    assert positive.shape == (6, 20 + 15 + 6 - 8 - len(basis_paths(nets[0]).paths[basis_paths(nets[0]).negative]))
    for found, norm in ((basis_path_norms(positive, negative), basis_path_norm), (path_norms(stacked, 1.0), path_norm)):
        assert torch.allclose(found, torch.stack([norm(net) for net in nets]), rtol=1e-12)


def test_norms_have_gradients_that_finite_differences_confirm() -> None:
    weights = [W.requires_grad_() for W in weights_of(network([3, 3, 4, 2], seed=5))]
    assert torch.autograd.gradcheck(lambda *parts: basis_path_norms(*basis_values(parts)), weights)
    assert torch.autograd.gradcheck(lambda *parts: path_norms(parts, 2.0), weights)


def test_zero_skeleton_weights_make_the_norm_infinite_and_paths_that_cannot_be_rebuilt() -> None:
    net = network([2, 2, 2])
    with torch.no_grad():
        net[0].weight[1, 1] = 0
    assert float(basis_path_norm(net).detach()) == math.inf
    basis = basis_paths(net)
    assert basis.rebuild(torch.tensor([[0, 0, 1]])).tolist() == pytest.approx([value(weights_of(net), [0, 0, 1])])
    with pytest.raises(ValueError, match="a negative basis path is 0"):
        basis.rebuild(torch.tensor([[0, 1, 1]]))


@pytest.mark.parametrize("call", [basis_paths, basis_path_norm, path_norm])
def test_networks_of_another_kind_are_refused(call: object) -> None:
    with pytest.raises(ValueError, match="make its layers with bias=False"):
        call(nn.Sequential(nn.Linear(2, 2)))
    with pytest.raises(TypeError, match="the network must be"):
        call(nn.Linear(2, 2, bias=False))
    with pytest.raises(ValueError, match=r"layer 3, of weights \(1, 3\), is empty or does not fit"):
        call(nn.Sequential(*network([2, 2, 2]), nn.ReLU(), nn.Linear(3, 1, bias=False).double()))
    huge = network([2, 2, 2], dtype=torch.float32)
    for parameter in huge.parameters():
        nn.init.constant_(parameter, 1e30)
    with pytest.raises(ValueError, match="overflows"):
        call(huge)


@pytest.mark.parametrize(
    ("paths", "error", "sentence"),
    [
        (torch.tensor([[0, 0]]), ValueError, r"must have the shape \(batch, 3\)"),
        (torch.tensor([[0, 0, 2]]), ValueError, r"units below \[2, 2, 2\]"),
        (torch.tensor([[0, -1, 0]]), ValueError, r"units below \[2, 2, 2\]"),
        (torch.tensor([[0.0, 0.0, 0.0]]), TypeError, "of int64"),
        ([[0, 0, 0]], TypeError, "of int64"),
    ],
)
def test_what_are_no_paths_is_refused(paths: object, error: type[Exception], sentence: str) -> None:
    with pytest.raises(error, match=sentence):
        basis_paths(network([2, 2, 2])).rebuild(paths)


@pytest.mark.parametrize("order", [0.5, -1, math.nan, math.inf, None, "2"])
def test_orders_that_make_no_norm_are_refused(order: object) -> None:
    with pytest.raises((TypeError, ValueError), match="order must be"):
        path_norm(network([2, 2]), order)
