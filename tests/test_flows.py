"""Flows: log-likelihoods against autograd, densities that integrate to one, samples by the inverse."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from builders import digits, said_by_example
from torch import nn

from replication import CausalConvUnit, CausalFlow, MonotoneCausalConvUnit, ResidualUnit
from replication.experiments.studies.flows import (
    LEVELS,
    bits_per_dimension,
    dequantized,
    fit,
    grey_levels,
    independent_bits,
)
from replication.units import Affine, ChannelNormalisation, Flip, Orthogonal1x1, SpaceToDepth, ZeroChannels


def small_flow(image_shape: tuple[int, int, int] = (1, 4, 4)) -> CausalFlow:
    """A flow with random parameters, in float64."""
    flow = CausalFlow(image_shape, partial(MonotoneCausalConvUnit, kernel_size=2), (3,), 2).double()
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return flow


def test_log_likelihoods_are_those_of_the_whole_jacobian() -> None:
    flow = small_flow()
    x = torch.randn(4, 1, 4, 4, dtype=torch.float64)
    for image, found in zip(x, flow.log_prob(x), strict=True):
        z = flow(image[None]).flatten()
        jacobian = torch.autograd.functional.jacobian(lambda v: flow(v[None]).flatten(), image).reshape(16, 16)
        density = torch.sigmoid(z) * torch.sigmoid(-z)
        expected = density.log().sum() + torch.linalg.slogdet(jacobian).logabsdet
        torch.testing.assert_close(found.detach(), expected.detach(), rtol=1e-10, atol=1e-10)


def test_the_density_integrates_to_one() -> None:
    flow = CausalFlow((1, 2, 2), partial(MonotoneCausalConvUnit, kernel_size=1), (2,), 1).double()
    # importance sampling with a wide logistic proposal: no other part of the flow is used
    uniform = torch.rand(200_000, 1, 2, 2, dtype=torch.float64)
    x = 3 * torch.logit(uniform)
    proposal = (torch.sigmoid(x / 3) * torch.sigmoid(-x / 3) / 3).log().flatten(1).sum(1)
    weights = (flow.log_prob(x).detach() - proposal).exp()
    error = float(weights.std() / math.sqrt(len(weights)))
    assert abs(float(weights.mean()) - 1) <= 5 * error
    assert error < 0.02


@pytest.mark.parametrize(
    "layer", [Affine((4, 6, 6)), SpaceToDepth(), Flip(), Orthogonal1x1(4), ChannelNormalisation(4)], ids=str
)
def test_plain_layers_have_the_log_determinant_of_their_jacobian(layer: nn.Module) -> None:
    layer = layer.double()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    if isinstance(layer, ChannelNormalisation):
        layer(3 + 2 * torch.randn(50, 4, 6, 6, dtype=torch.float64))
    layer.eval()
    x = torch.randn(2, 4, 6, 6, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(lambda v: layer(v[None]).flatten(), x[0]).reshape(144, 144)
    expected = torch.linalg.slogdet(jacobian).logabsdet
    torch.testing.assert_close(layer.log_abs_det_jacobian(x).detach(), expected.expand(2), rtol=1e-10, atol=1e-10)


def test_layers_that_change_the_dimension_have_no_determinant() -> None:
    with pytest.raises(TypeError, match="zero channels change the dimension"):
        ZeroChannels(1, 4).log_abs_det_jacobian(torch.zeros(1, 1, 2, 2))
    with pytest.raises(ValueError, match="5×4 images cannot be halved 1 times"):
        CausalFlow((1, 5, 4), MonotoneCausalConvUnit, (3,), 1)


def test_no_images_have_likelihoods_of_no_rows() -> None:
    flow = CausalFlow((1, 4, 4), CausalConvUnit, (2,), 1)
    assert flow.log_prob(torch.zeros(0, 1, 4, 4)).shape == (0,)
    assert flow.sample(0, torch.Generator()).value.shape == (0, 1, 4, 4)
    assert ChannelNormalisation(2).eval().log_abs_det_jacobian(torch.zeros(0, 2, 3, 3)).shape == (0,)


def test_determinants_that_overflow_are_not_a_number() -> None:
    zero = torch.zeros(1, dtype=torch.float64)
    steep = ResidualUnit(zero[None] + 1e200, zero, zero[None] + 1e200, zero)
    x = torch.tensor([[1.0], [-1.0]], dtype=torch.float64)
    assert torch.isnan(steep.log_abs_det_jacobian(x)).tolist() == [True, False]


def test_samples_are_mapped_back_to_their_latent_numbers() -> None:
    flow = small_flow((1, 6, 4))
    solution = flow.sample(7, torch.Generator().manual_seed(3))
    assert solution.converged.all()
    uniform = torch.rand(7, *flow.latent_shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    torch.testing.assert_close(torch.sigmoid(flow(solution.value)).detach(), uniform, rtol=0, atol=1e-9)


def test_bits_are_those_of_levels() -> None:
    levels = torch.randint(0, LEVELS, (20_000, 1, 1, 1)).double()

    class Uniform(CausalFlow):
        def __init__(self) -> None:
            nn.Module.__init__(self)

        def log_prob(self, images: torch.Tensor) -> torch.Tensor:
            return torch.full((len(images),), -math.log(8.0), dtype=torch.float64)  # on [−4, 4]

    generator = torch.Generator().manual_seed(0)
    images = dequantized(levels, generator)
    assert images.min() >= -4
    assert images.max() < 4
    bits = bits_per_dimension(Uniform(), levels, generator).mean()
    assert float(bits) == pytest.approx(math.log2(LEVELS), abs=1e-12)
    assert independent_bits(levels, levels) == pytest.approx(math.log2(LEVELS), abs=0.01)


def test_training_lowers_the_bits() -> None:
    train, test = grey_levels(digits(64))
    assert sorted(train.unique().tolist()) == list(range(LEVELS))
    flow = CausalFlow((1, 8, 8), MonotoneCausalConvUnit, (4, 4), 1)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        before = float(bits_per_dimension(flow, test, generator).mean())
    schedule = partial(torch.optim.lr_scheduler.OneCycleLR, max_lr=2e-2)
    fit(flow, train, torch.optim.AdamW, schedule, 8, 64, generator)
    with torch.no_grad():
        after = float(bits_per_dimension(flow, test, generator).mean())
    assert after < before - 0.3
    with torch.no_grad():
        flow.units[0].weight1.fill_(torch.nan)
    with pytest.raises(RuntimeError, match="the loss of the flow is nan; lower the learning rate"):
        fit(flow, train, torch.optim.AdamW, schedule, 1, 64, generator)


@pytest.mark.slow
def test_the_example_of_a_flow_runs() -> None:
    said = said_by_example("flow_digits", "1")
    assert said.count("bits per dimension on 1000 held-out digits") == 2
    assert said.count("3 of 3 samples converged") == 2
