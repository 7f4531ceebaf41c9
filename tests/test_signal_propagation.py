"""Variance over samples, layer by layer: against plain sums, quadrature, Monte Carlo and the network left as it was."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from builders import assert_one_sentence
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate
from torch import Tensor, nn

from replication import correlation_map, sample_variance


def plain_moments(y: Tensor) -> tuple[float, float, float]:
    """Mean square, and sample variance with its complement, by sums in exact order, one neuron after the other."""
    rows = y.flatten(1).double().numpy()
    samples = len(rows)
    variances = []
    for neuron in rows.T:
        mean = sum(neuron) / samples
        variances.append(sum((value - mean) ** 2 for value in neuron) / (samples - 1))
    total = sum(value**2 for value in rows.ravel()) / rows.size
    return total, total - sum(variances) / len(variances), sum(variances) / len(variances)


def network(seed: int = 0, batch_norm: bool = False) -> nn.Sequential:
    torch.manual_seed(seed)
    layers: list[nn.Module] = [
        nn.Conv2d(2, 3, 3),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(12, 5),
        nn.ReLU(),
        nn.Linear(5, 4),
    ]
    if batch_norm:
        layers.insert(1, nn.BatchNorm2d(3))
    return nn.Sequential(*layers).double()


@given(seed=st.integers(0, 99), samples=st.integers(2, 9), scale=st.sampled_from([1e-100, 1e-3, 1.0, 1e6, 1e100]))
def test_it_is_what_plain_sums_over_every_layer_say(seed: int, samples: int, scale: float) -> None:
    model = network(seed)
    for layer in (model[0], model[3], model[5]):
        nn.init.zeros_(layer.bias)
    x = torch.randn(samples, 2, 4, 4, dtype=torch.float64)
    found = sample_variance(model, scale * x)
    assert found.layers == ("0", "3", "5")
    expected = [plain_moments(model[:place](x).detach()) for place in (1, 4, 6)]
    for numbers, place in ((found.total, 0), (found.squared_mean, 1), (found.variance, 2)):
        own = torch.tensor([moments[place] for moments in expected], dtype=torch.float64)
        # scaled by the total: the squared mean is a difference of numbers of its size
        error = (numbers / scale**2 - own).abs() / torch.tensor([moments[0] for moments in expected])
        assert (error <= 1e-12).all()
    assert torch.allclose(found.squared_mean + found.variance, found.total, rtol=1e-14, atol=0)


def test_the_squared_mean_has_no_bias_however_few_the_samples() -> None:
    torch.manual_seed(0)
    layer = nn.Linear(2000, 2000, bias=False)
    nn.init.normal_(layer.weight, std=2000**-0.5)
    found = sample_variance(layer, torch.randn(2, 2000))  # independent samples have mean zero
    assert abs(float(found.squared_mean)) < 0.1 < float(found.variance)


def test_the_network_is_left_as_it_was() -> None:
    model = network(batch_norm=True)
    before, numbers = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    x = torch.randn(6, 2, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    given = x.clone()
    sample_variance(model, x)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(part._forward_hooks for part in model.modules())
    assert torch.equal(torch.get_rng_state(), numbers)
    assert torch.equal(x, given)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_layers_are_measured_in_the_order_of_their_calls_and_as_often() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.second, self.first = nn.Linear(3, 3), nn.Linear(3, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.second(self.second(self.first(x)))

    assert sample_variance(Shared(), torch.randn(4, 3)).layers == ("first", "second", "second")
    model = network()
    assert sample_variance(model, torch.randn(4, 2, 4, 4).double(), layers=["1", "5"]).layers == ("1", "5")


def test_batch_normalisation_in_training_takes_the_statistics_of_these_inputs() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)).double()
    found = sample_variance(model, torch.randn(500, 3).double(), layers=["1"])
    assert float(found.variance) == pytest.approx(1, abs=3e-3)  # n − 1 for n, and ε of the normalisation
    assert abs(float(found.squared_mean)) < 3e-3


class Fails(nn.Module):
    """Fails whatever it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        raise KeyError("nothing")


X = torch.ones(4, 3)
BAD = {
    "no module": (3, X, None, "must be a torch.nn.Module"),
    "no tensor": (nn.Linear(3, 3), [[1.0, 2.0, 3.0]], None, "must be a torch.Tensor"),
    "one sample": (nn.Linear(3, 3), X[:1], None, "at least two samples"),
    "no batch": (nn.Linear(3, 3), X[0], None, "at least two samples"),
    "not finite": (nn.Linear(3, 3), X * math.nan, None, "not finite"),
    "no layers": (nn.ReLU(), X, None, "no linear or convolutional layers"),
    "unknown layer": (nn.Linear(3, 3), X, ["x"], "no layer 'x'"),
    "a name": (nn.Linear(3, 3), X, "x", "a list of names"),
    "no names": (nn.Linear(3, 3), X, [], "calls none of its layers"),
    "other width": (nn.Linear(2, 3), X, None, "fails on these inputs"),
    "fails": (Fails(), X, None, "KeyError"),
    "overflows": (nn.Linear(3, 3), X * 1e30, None, "too large to square"),
    "mixed samples": (nn.Sequential(nn.Flatten(0), nn.Linear(12, 3)), X, None, "of 4 samples"),
    "half": (nn.Linear(3, 3).half(), X.half(), None, "float32 or float64"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_measured_is_refused_in_one_sentence(case: str) -> None:
    model, inputs, layers, words = BAD[case]
    with pytest.raises((TypeError, ValueError), match=words) as caught:
        sample_variance(model, inputs, layers)  # type: ignore[arg-type]
    assert_one_sentence(caught.value)


@pytest.mark.parametrize("c", [-0.9, -0.3, 0.0, 1 / math.pi, 0.5, 0.9, 0.999])
def test_the_map_is_the_expectation_by_quadrature(c: float) -> None:
    """2E[relu(u)relu(v)] over the half plane u > 0, its inner integral over v in closed form."""
    s = math.sqrt(1 - c * c)

    def inner(u: float) -> float:  # E[relu(v) | u], v | u normal with mean cu and standard deviation s
        z = c * u / s
        return c * u * 0.5 * math.erfc(-z / math.sqrt(2)) + s * math.exp(-z * z / 2) / math.sqrt(2 * math.pi)

    value, _ = integrate.quad(lambda u: 2 * u * inner(u) * math.exp(-u * u / 2) / math.sqrt(2 * math.pi), 0, 40)
    assert float(correlation_map(torch.tensor(c, dtype=torch.float64))) == pytest.approx(value, abs=1e-9)


def test_it_is_the_expectation_by_monte_carlo() -> None:
    generator = np.random.default_rng(0)
    u, other = generator.standard_normal((2, 400_000))
    for c in (-0.5, 0.2, 0.8):
        v = c * u + math.sqrt(1 - c * c) * other
        products = 2 * np.maximum(u, 0) * np.maximum(v, 0)
        error = products.std() / math.sqrt(len(products))
        assert float(correlation_map(torch.tensor(c))) == pytest.approx(products.mean(), abs=4 * error)


@given(c=st.floats(-1, 1), double=st.booleans())
def test_it_rises_keeps_one_and_has_the_slope_it_says(c: float, double: bool) -> None:
    dtype = torch.float64 if double else torch.float32
    point = torch.tensor([c, 1.0], dtype=dtype)
    value, one = correlation_map(point).tolist()
    assert one == 1
    assert 0 <= value <= 1
    assert value >= c - 4 * torch.finfo(dtype).eps
    if double and abs(c) < 0.999:
        step = 1e-6
        ends = correlation_map(torch.tensor([c - step, c + step], dtype=dtype))
        assert float(ends[1] - ends[0]) / (2 * step) == pytest.approx(1 - math.acos(c) / math.pi, abs=1e-5)


def test_inputs_become_alike_at_the_rate_it_says() -> None:
    c = torch.zeros((), dtype=torch.float64)
    for _ in range(20_000):
        c = correlation_map(c)
    assert float(1 - c) * 20_000**2 == pytest.approx(9 * math.pi**2 / 2, rel=3e-3)  # falls as log(l)/l


@pytest.mark.parametrize("c", [1.5, torch.tensor([0.0, 1.1]), torch.tensor([math.nan]), torch.tensor([1])])
def test_what_is_no_correlation_is_refused_in_one_sentence(c: object) -> None:
    with pytest.raises((TypeError, ValueError)) as caught:
        correlation_map(c)  # type: ignore[arg-type]
    assert_one_sentence(caught.value)


def test_wide_networks_follow_the_map() -> None:
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for place in range(11):
        layer = nn.Linear(500, 500, bias=False)
        nn.init.normal_(layer.weight, std=((1 if place == 0 else 2) / 500) ** 0.5)
        layers += [layer, nn.ReLU()]
    found = sample_variance(nn.Sequential(*layers), torch.randn(300, 500))
    c = torch.zeros(())
    for place in range(11):
        assert float(found.correlation[place]) == pytest.approx(float(c), abs=0.08)  # fluctuations are of order 1/√N
        c = correlation_map(c)
