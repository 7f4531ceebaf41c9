"""Certificates of convolutional units: against dense matrices, all minors and inputs, and in time at real size."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import exact_minors
from torch import Tensor

from replication import StandardConvUnit, Verdict, as_unit
from replication.certification.convolutions import ConvolutionProduct
from replication.certification.diagonal_stability import diagonally_stable
from replication.certification.images import sparse_matrix, within_reach
from replication.certification.sparse import stability
from replication.conditions import NEGATIVE, POSITIVE
from replication.networks.preactivation import PreactivationBlock, scale
from replication.operators import Convolution, Product, adjoint_kernel
from replication.reading.general import read
from replication.rows import row_norm

PADDINGS = [("zeros", "zeros", 3), ("circular", "circular", 3), ("zeros", "zeros", 5), ("top-left", "bottom-right", 2)]


def product(size: tuple[int, int], pads: tuple[str, str, int], h: int = 3, c: int = 2, seed: int = 0,
            scale: float = 0.15) -> ConvolutionProduct:  # fmt: skip
    g = torch.Generator().manual_seed(seed)
    first, second, k = pads
    W1 = scale * torch.randn(h, c, k, k, generator=g, dtype=torch.float64)
    W2 = torch.randn(c, h, k, k, generator=g, dtype=torch.float64)
    return ConvolutionProduct(Convolution(W1, size, first), Convolution(W2, size, second))


def dense(found: ConvolutionProduct) -> Tensor:
    """I + W₁W₂, channels first and pixels after."""
    A = Product(found.W1, found.W2).matrix(torch.zeros((), dtype=torch.float64))
    return A + torch.eye(len(A), dtype=torch.float64)


def like_channels_first(found: ConvolutionProduct, entries: np.ndarray) -> Tensor:
    """The matrix of entries given by pixels first, as `dense` has it."""
    (height, width), h = found.W1.image_size, found.hidden
    rows, columns = np.divmod(np.arange(height * width), width)
    place = rows * width + columns if width <= height else columns * height + rows
    by_pixel = entries.reshape(height * width, h, height * width, h)[place][:, :, place]
    return torch.from_numpy(by_pixel.transpose(1, 0, 3, 2).reshape(entries.shape))


@pytest.mark.parametrize("pads", PADDINGS)
@pytest.mark.parametrize("size", [(4, 5), (6, 3), (3, 3)])
def test_entries_are_those_of_the_product_within_their_doubt(pads: tuple[str, str, int], size: tuple[int, int]) -> None:
    found = product(size, pads)
    M = found.matrix
    values, doubt = np.zeros((2, M.order, M.order))
    place = M.entries.rows, M.entries.columns
    np.add.at(values, place, M.entries.values)
    np.add.at(doubt, place, M.doubt)
    wrong = (like_channels_first(found, values) - dense(found)).abs()
    assert (wrong <= 8 * like_channels_first(found, doubt)).all()  # the dense product is rounded, too
    assert doubt.max() < 1e-13


@pytest.mark.parametrize("pads", PADDINGS)
def test_what_is_proved_holds_for_the_dense_matrix(pads: tuple[str, str, int]) -> None:
    signs = []
    for seed in range(12):
        found = product((4, 5), pads, seed=seed, scale=(0.04, 0.08, 0.2)[seed % 3] * (3 / pads[2]) ** 2)
        M, verdict = dense(found), found.stability()
        signs.append(verdict.sign)
        if verdict.sign == POSITIVE:
            assert verdict.scaling is not None
            scaled = M * torch.from_numpy(np.repeat(verdict.scaling, 20))[:, None]
            assert torch.linalg.eigvalsh(scaled + scaled.mT)[0] > 0
        if verdict.sign == NEGATIVE:
            assert diagonally_stable(M).sign == NEGATIVE
    assert POSITIVE in signs
    assert NEGATIVE in signs


@pytest.mark.parametrize("pads", PADDINGS)
def test_the_largest_strength_is_proved_and_none_above_it(pads: tuple[str, str, int]) -> None:
    found = product((5, 4), pads)
    scaling = np.array([1.0, 4.0, 0.25])
    root = torch.from_numpy(np.repeat(scaling, 20)).sqrt()
    M = root[:, None] * dense(found) / root
    largest = float(torch.linalg.eigvalsh((M + M.mT) / 2)[0])
    assert found.is_definite(scaling, largest - 1e-9)
    assert not found.is_definite(scaling, largest + 1e-15)
    assert not found.is_definite(scaling, largest + 1e-9)


@given(st.integers(0, 10_000), st.sampled_from([0.3, 0.6, 1.0, 2.0]))
@settings(max_examples=40)
def test_verdicts_of_small_units_agree_with_all_minors_and_with_inputs(seed: int, scale: float) -> None:
    torch.manual_seed(seed)
    unit = StandardConvUnit(2, 2, image_size=(2, 2)).double()
    with torch.no_grad():
        unit.weight1.mul_(scale)
    f = unit.rectifier_map((2, 2, 2)).dense()
    smallest = min(exact_minors(f.matrix().detach().numpy(), np.eye(8)).values())
    certificate = unit.certificate()
    if certificate.verdict is Verdict.INVERTIBLE:
        assert smallest > 0
    else:
        assert smallest <= 0
    if certificate.verdict is Verdict.NOT_INVERTIBLE:
        x1, x2 = (x[None] for x in certificate.witness)
        assert row_norm(unit(x1) - unit(x2)) <= 1e-9 * row_norm(x1 - x2)
    assert unit.certificate(folds=False).verdict is not Verdict.NOT_INVERTIBLE


def near_gram(c: int, h: int, size: tuple[int, int], spread: int = 0, seed: int = 0) -> StandardConvUnit:
    """A unit of large norms that is diagonally stable, by factors of the hidden channels."""
    g = torch.Generator().manual_seed(seed)
    unit = StandardConvUnit(c, h, image_size=size).double()
    factors = 2.0 ** torch.randint(-spread, spread + 1, (h,), generator=g).double()
    with torch.no_grad():
        W1 = torch.randn(h, c, 3, 3, generator=g, dtype=torch.float64) / 12
        unit.weight1.copy_(factors[:, None, None, None] * W1)
        W2 = 2 * adjoint_kernel(W1) + torch.randn(c, h, 3, 3, generator=g, dtype=torch.float64) / 50
        unit.weight2.copy_(W2 / factors[:, None, None])
    return unit


@pytest.mark.parametrize("spread", [0, 4])
def test_the_constant_bounds_how_far_inputs_are_apart(spread: int) -> None:
    unit = near_gram(3, 12, (6, 5), spread)
    assert unit.certificate().condition == ("diagonal_stability" if spread else "monotone")
    constant = float(unit.inverse_lipschitz().detach())
    assert 1 < constant < 1000
    x = torch.randn(200, 3, 6, 5, dtype=torch.float64)
    for size in (1e-3, 1.0, 10.0):
        other = x + size * torch.randn(200, 3, 6, 5, dtype=torch.float64)
        assert (row_norm(x - other) <= constant * row_norm(unit(x) - unit(other))).all()
    y = unit(x).detach()
    solution = unit.inverse(y, tolerance=1e-8)
    assert solution.converged.all()
    assert solution.error_bound is None  # of large units they take norms alone
    small = near_gram(3, 12, (3, 3), spread)
    y = small(x[:, :, :3, :3]).detach()
    solution = small.inverse(y, tolerance=1e-6)
    assert solution.error_bound is not None
    assert (row_norm(solution.value - x[:, :, :3, :3]) <= solution.error_bound).all()


def test_large_units_fold_and_their_images_collide() -> None:
    torch.manual_seed(0)
    unit = StandardConvUnit(4, 8, image_size=(8, 7)).double()
    with torch.no_grad():
        unit.weight1.mul_(3)
    certificate = unit.certificate()
    assert certificate.verdict is Verdict.NOT_INVERTIBLE
    x1, x2 = (x[None] for x in certificate.witness)
    assert row_norm(unit(x1) - unit(x2)) <= 1e-9 * row_norm(x1 - x2)
    assert "no diagonal Lambda" in unit.certificate(folds=False).reason


def test_four_blocks_of_real_size_are_certified_in_seconds() -> None:
    units = [near_gram(16, 16, (14, 14), 4, seed) for seed in range(4)]
    start = time.process_time()
    assert [unit.certificate().condition for unit in units] == ["diagonal_stability"] * 4
    assert time.process_time() - start < 20  # several times what an idle core takes


def pre_activation(c: int, size: tuple[int, int], seed: int, own: bool) -> PreactivationBlock:
    """A block of two ReLU layers, near one that is monotone for all weights, or not."""
    torch.manual_seed(seed)
    block = PreactivationBlock(c, size).double().eval()
    with torch.no_grad():
        for norm in (block.norm1, block.norm2):
            norm.running_var.uniform_(0.5, 2)
            norm.running_mean.normal_()
        block.conv2.weight.mul_(3)
        if own:
            first, second = (scale(norm)[:, None, None, None] for norm in (block.norm1, block.norm2))
            block.conv1.weight.copy_(1.3 * adjoint_kernel(first * block.conv2.weight) / second)
    return block


@pytest.mark.parametrize("own", [True, False])
def test_entries_of_blocks_with_two_layers_are_those_of_their_matrices(own: bool) -> None:
    block, x = pre_activation(3, (4, 5), 0, own), torch.randn(2, 3, 4, 5, dtype=torch.float64)
    f = read(block, x)
    M, m = sparse_matrix(f), f.matrices()
    assert M is not None
    values, doubt = np.zeros((2, f.n, f.n))
    values[M.entries.rows, M.entries.columns], doubt[M.entries.rows, M.entries.columns] = M.entries.values, M.doubt
    exact = torch.eye(f.n) + (m.C @ m.E - m.B) * f.beta
    sites = within_reach(lambda z: z, torch.zeros(1, 6, 4, 5, dtype=torch.float64))
    assert (sites.owners >= 0).sum() == 20  # each sees itself alone
    # the order of sites may be any: what does not depend on it is compared
    torch.testing.assert_close(torch.linalg.slogdet(torch.from_numpy(values)), torch.linalg.slogdet(exact))
    assert np.allclose(np.sort(values.ravel()), np.sort(exact.numpy().ravel()), rtol=0, atol=doubt.max())
    assert (stability(M).sign == POSITIVE) == own


@pytest.mark.parametrize("own", [True, False])
def test_blocks_with_two_layers_are_certified_at_real_size(own: bool) -> None:
    block = pre_activation(16, (14, 14), 1, own)
    unit = as_unit(block, torch.randn(2, 16, 14, 14, dtype=torch.float64))
    start = time.process_time()
    certificate = unit.certificate(folds=False)
    assert time.process_time() - start < 20
    assert certificate.verdict is (Verdict.INVERTIBLE if own else Verdict.UNKNOWN)
    assert certificate.condition == ("monotone" if own else None)
