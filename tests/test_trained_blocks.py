"""Blocks of trained networks (fig10): what is certified, what folds, and what comes back, on networks made by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from replication.experiments.data.images import Digits
from replication.experiments.results import Result
from replication.experiments.studies.trained_blocks import bounds, layers_of, states, trained_blocks
from replication.networks import RectifierNetwork
from replication.networks.preactivation import PreactivationNetwork
from replication.operators import Convolution
from replication.solvers import Anderson
from replication.units import StandardConvUnit

SHAPE, CHANNELS = (1, 8, 8), 5
LIKE = torch.zeros((), dtype=torch.float64)


def preactivation(factor: float) -> PreactivationNetwork:
    """Two blocks x + factor·relu(relu(x + b)), of pointwise kernels and normalisations that shift alone."""
    network = PreactivationNetwork(SHAPE, 10, CHANNELS, blocks=2).double().eval().requires_grad_(False)
    for block in network.blocks:
        for norm in (block.norm1, block.norm2):
            norm.eps = 0.0
        for conv, size in ((block.conv1, 1.0), (block.conv2, factor)):
            conv.weight.zero_()
            conv.weight[:, :, 1, 1] = size * torch.eye(CHANNELS)
        block.conv2.bias.zero_()
        block.norm1.bias.copy_(torch.linspace(-0.51, 0.13, CHANNELS))
    return network


def study(*networks: tuple[str, nn.Module]) -> Result:
    data = Digits(batch_size=10, epochs=1, seed=0)
    made = ((name, network, {"test_accuracy": 0.5}) for name, network in networks)
    return trained_blocks(made, data, Anderson(), looked_at=3, per_class=2, tolerance=1e-12)


def test_blocks_are_certified_by_what_holds_and_fold_where_they_do() -> None:
    result = study(("contracts", preactivation(0.5)), ("monotone", preactivation(1.5)), ("folds", preactivation(-2.5)))
    table = result.table.set_index(["network", "block"])
    assert list(table.loc["contracts", "condition"]) == ["lipschitz"] * 2
    assert list(table.loc["monotone", "condition"]) == ["monotone"] * 2
    assert (table.loc["monotone", "norms"] > 1).all()
    assert list(table.loc["folds", "verdict"]) == ["not invertible"] * 2
    assert (table.loc["folds", "gap"] < 1e-9).all()
    undone = table.loc[["contracts", "monotone"]]
    assert undone["recovered"].eq(20).all()
    assert undone["images"].eq(20).all()
    assert (undone["error_max"] < 1e-9).all()
    assert table.loc["folds", "recovered"].isna().all()


def test_signs_are_those_of_determinants() -> None:
    network = preactivation(-2.5)
    table = study(("folds", network)).table
    images = Digits(batch_size=10, epochs=1, seed=0).balanced_test(1)[0][:3].double()
    for block, x in zip((0, 1), states(layers_of(network), images)[3:], strict=False):
        active = (network.blocks[block].norm1(x) > 0).flatten(1).sum(1)  # the slope there is −1.5
        assert table["negative"][block] == int((active % 2).sum())


def test_the_pictures_are_the_pair_and_what_the_block_makes_of_it() -> None:
    result = study(("folds", preactivation(-2.5)), ("contracts", preactivation(0.5)))
    for key, shape in (("first", (8, 8)), ("second", (8, 8)), ("inputs differ", (4, 4)), ("outputs differ", (4, 4))):
        assert result.arrays[f"folds, {key}"].shape == result.arrays[f"contracts, {key}"].shape == shape
    inputs, outputs = (result.arrays[f"folds, {what} differ"] for what in ("inputs", "outputs"))
    row = result.table.iloc[0]
    assert ((outputs**2).sum() / (inputs**2).sum()) ** 0.5 == pytest.approx(row["gap"], abs=1e-15)
    assert (result.arrays["contracts, outputs differ"] > 0).any()  # where the other block sees a difference


def test_bounds_are_those_of_the_matrices() -> None:
    torch.manual_seed(0)
    block = PreactivationNetwork(SHAPE, 10, CHANNELS, blocks=1).blocks[0].double()
    block(torch.randn(30, CHANNELS, 4, 4, dtype=torch.float64))
    block.eval().requires_grad_(False)
    norms, defect = bounds(block)
    first, second, third, size = block.monotone_parts()
    scale = first.repeat_interleave(16)[:, None]
    W2, W3 = (Convolution(kernel, size).matrix(LIKE) for kernel in (second, third))
    assert norms >= float(torch.linalg.matrix_norm(W3 @ W2 @ scale.squeeze().diag(), 2)) * (1 - 1e-9)
    theta = (torch.linalg.matrix_norm(scale * W3) / torch.linalg.matrix_norm(W2)) ** 0.5
    exact = torch.linalg.matrix_norm(scale * W3 / theta - theta * W2.mT, 2) / 2
    assert defect == pytest.approx(float(exact), rel=0.2)


def test_standard_units_have_no_defect_and_the_product_of_their_norms() -> None:
    network = (
        RectifierNetwork(SHAPE, 10, StandardConvUnit, hidden=(4, 4), units_per_stage=1)
        .double()
        .eval()
        .requires_grad_(False)
    )
    unit = network.units[0]
    norms, defect = bounds(unit)
    assert defect != defect
    first, second = (torch.linalg.matrix_norm(part.matrix(LIKE), 2) for part in branch(unit))
    assert float(first * second) * (1 - 1e-9) <= norms < 1.5 * float(first * second)
    with pytest.raises(TypeError, match="Linear is no block"):
        bounds(nn.Linear(2, 2))


def branch(unit: StandardConvUnit) -> tuple[Convolution, Convolution]:
    f = unit.rectifier_map(unit.input_shape)
    return f.W1, f.W2
