"""Reversible blocks: their formulas, their inverses, and what has none."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from builders import same_tensors as same
from hypothesis import given
from hypothesis import strategies as st
from reversible_cases import BLOCKS, STATEFUL, WITH_KERNELS, Branch, error, states
from torch import Tensor, nn

from replication import (
    HamiltonianBlock,
    Inverse,
    LayerwiseNetwork,
    LeapfrogBlock,
    MidpointBlock,
    ReversibleLayer,
    ReversibleNetwork,
    RevNetBlock,
    preset,
)
from replication.networks.presets import REVERSIBLE
from replication.units import (
    Affine,
    BlockSequence,
    ChannelNormalisation,
    ReversibleBlock,
    ReversibleSequence,
    SpaceToDepth,
)
from replication.units.reversible.replay import random_states

# formulas


def conv(weight: Tensor, x: Tensor) -> Tensor:
    return F.conv2d(x, weight, padding=1) if weight.ndim == 4 else x @ weight.T


def transposed(weight: Tensor, x: Tensor) -> Tensor:
    return F.conv_transpose2d(x, weight, padding=1) if weight.ndim == 4 else x @ weight


@pytest.mark.parametrize("kernel_size", [3, None])
def test_blocks_compute_the_formulas_of_their_docstrings(kernel_size: int | None) -> None:
    def made(block: Callable[..., ReversibleBlock]) -> tuple[ReversibleBlock, list[Tensor], list[Tensor]]:
        unit = block(6, step=0.3, kernel_size=kernel_size, normalise=False).double()
        for parameter in unit.parameters():
            nn.init.normal_(parameter)
        branches = [coupling.branch for coupling in unit.couplings]
        shape = (-1, 1, 1) if kernel_size else (-1,)
        return unit, [b.weight for b in branches], [b.shift.bias.reshape(shape) for b in branches]

    size = (5, 4) if kernel_size else ()
    block, (K1, K2), (b1, b2) = made(HamiltonianBlock)
    y, z = states(block, size)
    y_next = y + 0.3 * transposed(K1, (conv(K1, z) + b1).relu())
    z_next = z - 0.3 * transposed(K2, (conv(K2, y_next) + b2).relu())
    torch.testing.assert_close(block(y, z), (y_next, z_next))

    block, (K,), (b,) = made(MidpointBlock)
    before, now = states(block, size)
    torch.testing.assert_close(block(before, now), (now, before + 0.6 * (conv(K, now) - transposed(K, now) + b).relu()))

    block, (K,), (b,) = made(LeapfrogBlock)
    before, now = states(block, size)
    after = 2 * now - before - 0.09 * transposed(K, (conv(K, now) + b).relu())
    torch.testing.assert_close(block(before, now), (now, after))


def test_revnet_couples_any_two_maps() -> None:
    block = RevNetBlock(4, nn.Tanh(), nn.Sigmoid())
    y, z = torch.randn(2, 3, 2, 4, 4)
    y_next = y + z.tanh()
    torch.testing.assert_close(block(y, z), (y_next, z + y_next.sigmoid()))


def test_maps_without_parameters_go_back_too() -> None:
    block = RevNetBlock(4, nn.Tanh(), nn.Sigmoid())
    given = torch.randn(2, 3, 2, 4, 4, dtype=torch.float64)
    torch.testing.assert_close(torch.stack(block.inverse(*block(*given))), given)


# inverses


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("block", BLOCKS)
@given(channels=st.sampled_from([2, 4, 10]), size=st.tuples(st.integers(1, 7), st.integers(2, 7)))
def test_the_inverse_of_every_block_gives_the_states_back(
    block: Callable[..., ReversibleBlock], training: bool, channels: int, size: tuple[int, int]
) -> None:
    unit = block(channels).double().train(training)
    given = states(unit, size)
    with torch.no_grad():
        back = unit.inverse(*unit(*given))
    assert max(map(error, back, given)) <= 1e-10


@pytest.mark.parametrize("block", WITH_KERNELS)
def test_dense_blocks_go_back_too(block: Callable[..., ReversibleBlock]) -> None:
    unit = block(6, kernel_size=None, step=0.5).double()
    given = states(unit, size=())
    assert max(map(error, unit.inverse(*unit(*given)), given)) <= 1e-10


@pytest.mark.parametrize("name", REVERSIBLE)
def test_every_preset_recovers_every_stage_at_initialisation(name: str) -> None:
    network = preset(name).double()
    with torch.no_grad():
        stages = network.stage_states(torch.randn(2, 3, 32, 32, dtype=torch.float64))
    recovered = network.inverse([end for _, end in stages])
    for (begin, _), back in zip(stages, recovered, strict=True):
        assert max(map(error, back, begin)) <= 1e-10


def test_the_inverse_in_training_leaves_the_running_statistics_alone() -> None:
    block = HamiltonianBlock(4)
    given = block(*states(block))
    before = copy.deepcopy(block.state_dict())
    block.inverse(*given)
    assert same(before, block.state_dict())


def test_a_reversible_layer_is_a_hidden_layer_of_any_network() -> None:
    blocks = [HamiltonianBlock(4) for _ in range(3)]
    network = LayerwiseNetwork(
        ReversibleLayer(BlockSequence(blocks)), SpaceToDepth(), ReversibleLayer(MidpointBlock(8))
    )
    network = network.double().eval()
    images = torch.randn(5, 4, 8, 8, dtype=torch.float64)
    solution = network.inverse(network(images).detach())
    assert solution.converged.all()
    assert error(solution.value, images) <= 1e-10
    assert network.certificate().verdict.value == "invertible"


def undone_network(branch: Callable[[], nn.Module], sequence: type[BlockSequence]) -> LayerwiseNetwork:
    """A network with a reversible layer, whose running statistics are those of some batches."""
    network = LayerwiseNetwork(Affine((4, 4, 4)), ReversibleLayer(sequence([RevNetBlock(4, branch(), branch())])))
    network.double()(torch.randn(9, 4, 4, 4, dtype=torch.float64))
    return network


DEPENDENT = ["instance norm", "batch norm", "spectral norm", "older spectral norm", "torch's random numbers",
             "Python's random numbers", "a buffer", "a counter"]  # fmt: skip


@pytest.mark.parametrize("sequence", [BlockSequence, ReversibleSequence])
@pytest.mark.parametrize("branch", DEPENDENT)
def test_a_network_in_training_is_not_undone_where_its_layers_depend_on_the_mode(
    branch: str, sequence: type[BlockSequence]
) -> None:
    network = undone_network(STATEFUL[branch], sequence)
    y = network(torch.randn(4, 4, 4, 4, dtype=torch.float64)).detach()
    before = copy.deepcopy(network.state_dict())
    for undo in (lambda: network.inverse(y), network.certificate, lambda: Inverse(network)(y)):
        with pytest.raises(RuntimeError, match="in evaluation mode only"):
            undo()
    assert same(before, network.state_dict())


@pytest.mark.parametrize("branch", ["instance norm", "batch norm", "spectral norm", "older spectral norm"])
def test_a_network_in_evaluation_is_undone_row_by_row(branch: str) -> None:
    network = undone_network(STATEFUL[branch], ReversibleSequence).eval()
    x = torch.randn(4, 4, 4, 4, dtype=torch.float64)
    y = network(x).detach()
    before = copy.deepcopy(network.state_dict())
    solution = network.inverse(y[:2])
    assert solution.converged.all()
    assert error(solution.value, x[:2]) <= 1e-10
    assert error(Inverse(network)(y), x) <= 1e-10
    assert same(before, network.state_dict())


def test_a_network_whose_blocks_do_not_depend_on_the_mode_is_undone_in_training_too() -> None:
    def block() -> ReversibleBlock:
        return HamiltonianBlock(4, step=0.3, normalise=False)

    parts = (nn.Sequential(nn.Conv2d(2, 2, 1), nn.GroupNorm(1, 2), nn.GELU()), nn.InstanceNorm2d(2))
    network = LayerwiseNetwork(ReversibleLayer(BlockSequence([block(), RevNetBlock(4, *parts)]))).double()
    x = torch.randn(4, 4, 4, 4, dtype=torch.float64)
    assert error(network.inverse(network(x).detach()[:2]).value, x[:2]) <= 1e-10
    assert network.certificate().verdict.value == "invertible"


@pytest.mark.parametrize("training", [True, False])
def test_normalisation_without_running_statistics_is_no_map_of_single_images(training: bool) -> None:
    parts = [nn.BatchNorm2d(2, track_running_stats=False) for _ in range(2)]
    network = LayerwiseNetwork(ReversibleLayer(RevNetBlock(4, *parts))).train(training)
    channels = LayerwiseNetwork(ChannelNormalisation(4, track_running_stats=False)).eval()
    for one in (network, channels):
        with pytest.raises(RuntimeError, match="no map of single images"):
            one.inverse(torch.randn(3, 4, 4, 4))
        with pytest.raises(RuntimeError, match="no map of single images"):
            one.certificate()


@pytest.mark.parametrize(
    ("branch", "sentence"),
    [
        ("torch's random numbers", "draws random numbers"),
        ("Python's random numbers", "draws random numbers"),
        ("numpy's random numbers", "draws random numbers"),
        ("spectral norm", "changes its state"),
        ("older spectral norm", r"changes its state with every evaluation \(weight_u"),
        ("a buffer", r"changes its state with every evaluation \(count\)"),
        ("a counter", r"changes its state with every evaluation \(calls\)"),
    ],
)
def test_blocks_whose_branches_do_not_repeat_are_not_undone(branch: str, sentence: str) -> None:
    block = RevNetBlock(4, STATEFUL[branch](), STATEFUL[branch]()).double()
    given = states(block)
    before, drawn = copy.deepcopy(block.state_dict()), random_states(given[0].device)
    for module in (block, BlockSequence([block]), ReversibleSequence([block])):
        with pytest.raises(RuntimeError, match=f"a branch {sentence}"):
            module.inverse(*given)
    assert same(before, block.state_dict())
    assert random_states(given[0].device) == drawn


def test_blocks_that_only_count_are_undone() -> None:
    def counting(branch: Branch, x: Tensor) -> Tensor:
        branch.calls += 1
        branch.count += 1
        return x

    block = RevNetBlock(4, Branch(counting), Branch(counting)).double()
    given = states(block)
    assert max(map(error, block.inverse(*block(*given)), given)) <= 1e-10


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("branch", ["instance norm", "batch norm", "a branch within", "orthogonal"])
def test_blocks_with_normalisation_are_undone_in_both_modes(branch: str, training: bool) -> None:
    block = RevNetBlock(4, STATEFUL[branch](), STATEFUL[branch]()).double()
    block(*states(block))
    block.train(training)
    given = states(block)
    result = block(*given)
    before = copy.deepcopy(block.state_dict())
    assert max(map(error, block.inverse(*result), given)) <= 1e-10
    assert same(before, block.state_dict())


# bad input


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: HamiltonianBlock(5), "must be even, not 5"),
        (lambda: BlockSequence([]), "at least one block"),
        (lambda: preset("hamiltonian-75"), "there is no network 'hamiltonian-75'; choose one of hamiltonian-74"),
        (lambda: preset("resnet-32", step=0.1), "neither a sequence nor block options"),
        (lambda: preset("hamiltonian-74", image_shape=(3, 30, 32)), "30×32 images cannot be halved 2 times"),
        (lambda: ReversibleNetwork((3, 8, 8), 10, HamiltonianBlock, (8, 4), (1, 1)), "cannot shrink"),
        (lambda: ReversibleNetwork((3, 8, 8), 10, HamiltonianBlock, (8,), (1, 1)), "one number for each stage"),
        (lambda: HamiltonianBlock(4)(*torch.zeros(2, 1, 4, 8, 8)), "two states of one shape with 2 channels"),
        (lambda: HamiltonianBlock(4)(torch.zeros(1, 2, 8, 8), torch.zeros(1, 2, 8, 7)), "two states of one shape"),
        (lambda: HamiltonianBlock(4).inverse(*torch.full((2, 1, 2, 8, 8), torch.nan)), "not finite"),
        (lambda: preset("midpoint-26").inverse([]), "needs as many ends, not 0"),
    ],
)
def test_bad_input_is_one_sentence(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: BlockSequence([nn.ReLU()]), "made of reversible blocks, not of ReLU"),
        (lambda: ReversibleSequence([HamiltonianBlock(4), 3]), "made of reversible blocks, not of int"),
        (lambda: ReversibleLayer(nn.Linear(2, 2)), "a reversible block or a sequence of them, not Linear"),
    ],
)
def test_modules_of_another_kind_are_one_sentence(make: Callable[[], object], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        make()


def test_another_dtype_or_other_channels_are_one_sentence() -> None:
    with pytest.raises(TypeError, match=r"the input is torch\.float64 and the unit torch\.float32"):
        HamiltonianBlock(4)(*torch.zeros(2, 1, 2, 8, 8, dtype=torch.float64))
    with pytest.raises(TypeError, match=r"the input is torch\.float64 and the unit torch\.float32"):
        preset("midpoint-26")(torch.zeros(1, 3, 8, 8, dtype=torch.float64))
    with pytest.raises(ValueError, match=r"the layer takes images \(batch, 3, height, width\)"):
        preset("midpoint-26")(torch.zeros(1, 1, 8, 8))
