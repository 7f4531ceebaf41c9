"""Bounds of the error of injective ReLU layers: at every size of numbers, and where rows are nearly parallel."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from builders import layer_with_near_parallel_rows
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from replication import InjectiveConvReLU, InjectiveReLU, PairedReLU, Verdict
from replication.experiments.data.ensembles import normal


def gaussian(*shape: int, seed: int = 0) -> Tensor:
    return normal(*shape, generator=torch.Generator().manual_seed(seed))


def near_hyperplanes(layer: InjectiveReLU, seed: int) -> Tensor:
    """Inputs (40, n) of sizes 1e-9 to 1e9, every other one moved onto a hyperplane of the layer, but for rounding."""
    W, b = (tensor.detach().double() for tensor in layer.weights())
    x = gaussian(40, W.shape[1], seed=seed) * 10 ** (3 * gaussian(40, 1, seed=seed + 1)).clamp(-9, 9)
    rows = torch.randint(len(W), (20,), generator=torch.Generator().manual_seed(seed))
    distance = ((x[::2] * W[rows]).sum(1) + b[rows]) / W[rows].square().sum(1).clamp_min(1e-300)
    x[::2] -= distance[:, None] * W[rows]
    return x.to(layer.weights()[0].dtype)


def hard_layer(kind: str, seed: int, dtype: torch.dtype) -> InjectiveReLU:
    if kind == "near parallel":
        W, b = layer_with_near_parallel_rows(1 + seed % 2, seed, seed % 4 > 1, dtype)
        return InjectiveReLU(W, b)
    if kind == "paired":
        torch.manual_seed(seed)
        layer = PairedReLU(4, 5).to(dtype)
        with torch.no_grad():
            for parameter in layer.parameters():
                parameter += 2 * torch.randn_like(parameter)
        return layer
    B = gaussian(4, 3, seed=seed) * torch.tensor([1, 1e-2, 1e-5]) ** (seed % 2)
    d, c = (0.01 + 3 * torch.rand(4)).to(dtype), gaussian(4, seed=seed + 1).to(dtype) * (seed % 3 > 0)
    B = B.to(dtype)
    return InjectiveReLU(torch.cat([B, -d[:, None] * B]), torch.cat([c, -d * c]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@given(st.sampled_from(["near parallel", "paired", "ill-conditioned"]), st.integers(0, 10**6))
def test_no_error_exceeds_its_bound_wherever_rows_are_nearly_parallel(dtype: torch.dtype, kind: str, seed: int) -> None:
    layer = hard_layer(kind, seed, dtype)
    x = near_hyperplanes(layer, seed)
    solution = layer.inverse(layer(x).detach())
    if solution.error_bound is not None:
        error = (solution.value.double() - x.double()).norm(dim=1)
        assert (error <= solution.error_bound.double()).all()


def test_a_wedge_where_the_layer_folds_has_no_bound() -> None:
    layer = InjectiveReLU(torch.tensor([[1, 0], [-1, 0], [0, 1], [1e-6, -1]]).double())
    x = torch.tensor([[-1e6, -0.9]]).double()
    assert layer.inverse(layer(x).detach()).error_bound is None
    assert layer.inverse_lipschitz((2,)) == math.inf
    assert layer.certificate().verdict is not Verdict.INVERTIBLE


@pytest.mark.parametrize(
    ("dtype", "powers"), [(torch.float32, (-40, -38, -20, 19, 30, 37)), (torch.float64, (-310, -300, -160, 160, 300))]
)
@pytest.mark.parametrize("kind", [InjectiveReLU.orthogonal_frame, PairedReLU, InjectiveConvReLU])
def test_outputs_of_every_size_are_inverted_within_their_bounds(
    kind: Callable[..., nn.Module], dtype: torch.dtype, powers: tuple[int, ...]
) -> None:
    torch.manual_seed(0)
    layer = (kind(2, 3, image_size=(4, 4)) if kind is InjectiveConvReLU else kind(4, 5)).to(dtype)
    for power in powers:
        x = (gaussian(5, *layer.input_shape) * 10.0**power).to(dtype)
        solution = layer.inverse(layer(x).detach())
        assert solution.converged.all() or power in (-40, -310)  # where numbers have few digits left
        error = (solution.value / 10.0**power - x / 10.0**power).double().flatten(1).norm(dim=1)
        assert (error * 10.0**power <= solution.error_bound.double()).all()
        assert (error <= (1e-3 if dtype == torch.float32 else 1e-9)).all()


def test_weights_of_every_size_are_inverted_within_their_bounds() -> None:
    for dtype, powers in ((torch.float32, (-36, 36)), (torch.float64, (-149, -80, 80, 148))):
        for power in powers:
            layer = InjectiveReLU((gaussian(30, 3) * 10.0**power).to(dtype))
            x = gaussian(20, 3, seed=1).to(dtype)
            solution = layer.inverse(layer(x).detach())
            assert solution.converged.all()
            assert ((solution.value - x).norm(dim=1) <= solution.error_bound).all()
            assert float(solution.error_bound.max()) < 1e-3


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("share", [0.5, 0.999, 1 - 1e-6])
def test_the_constant_of_convolutional_layers_holds_where_the_norm_is_at_its_cap(
    share: float, dtype: torch.dtype
) -> None:
    for seed, channels in enumerate((1, 3, 16)):
        torch.manual_seed(seed)
        layer = InjectiveConvReLU(channels, channels + 2, kernel_size=1, image_size=(2, 2), share=share).to(dtype)
        with torch.no_grad():  # capped, so that K is nearly (1 − share)·U
            layer.parametrizations.rest.original.copy_(-2 * layer.U[:, :, None, None])
        sigma = float(torch.linalg.svdvals(layer.kernel().detach().double()[:, :, 0, 0])[-1])
        assert sigma <= 1.1 - share
        assert math.sqrt(2) <= sigma * float(layer.inverse_lipschitz(layer.input_shape))
