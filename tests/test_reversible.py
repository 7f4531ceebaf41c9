"""Reversible blocks and networks: formulas, inverses, and gradients without stored activations."""

from __future__ import annotations

import copy
import random
import weakref
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from builders import same_tensors as same
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils import parametrizations as torch_parametrizations
from torch.nn.utils import parametrize
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

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
from replication.experiments.studies.memory import StepProcess
from replication.networks import smoothness_penalty
from replication.networks.presets import PRESETS, REVERSIBLE
from replication.units import (
    Affine,
    BlockSequence,
    ChannelNormalisation,
    ReversibleBlock,
    ReversibleSequence,
    SpaceToDepth,
)
from replication.units.reversible.replay import random_states

BLOCKS = [HamiltonianBlock, MidpointBlock, LeapfrogBlock, RevNetBlock]
WITH_KERNELS = [HamiltonianBlock, MidpointBlock, LeapfrogBlock]


def states(block: ReversibleBlock, size: tuple[int, ...] = (6, 6), rows: int = 5) -> tuple[Tensor, Tensor]:
    first, second = torch.randn(2, rows, block.state_channels, *size, dtype=next(block.parameters()).dtype)
    return first, second


def error(found: Tensor, expected: Tensor) -> float:
    return float(((found - expected).norm() / expected.norm()).detach())


def gradients(module: nn.Module, loss: Callable[[nn.Module], Tensor]) -> Tensor:
    module.zero_grad()
    loss(module).backward()
    return torch.cat([parameter.grad.flatten() for parameter in module.parameters()])


def pair(block: Callable[[], ReversibleBlock], depth: int, dtype: torch.dtype = torch.float64) -> list[BlockSequence]:
    """The same blocks, with and without stored activations."""
    blocks = [block().to(dtype) for _ in range(depth)]
    return [BlockSequence(blocks), ReversibleSequence(copy.deepcopy(blocks))]


def outputs(sequence: nn.Module, *given: Tensor) -> Tensor:
    first, second = sequence(*given)
    return first.sin().sum() + second.square().sum()


class Branch(nn.Module):
    """A convolution, and what is made of its result."""

    def __init__(self, act: Callable[[Branch, Tensor], Tensor] = lambda branch, x: x.tanh()) -> None:
        super().__init__()
        self.layer, self.act, self.calls, self.list = nn.Conv2d(2, 2, 3, padding=1), act, 0, []
        self.generator = torch.Generator().manual_seed(0)
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self, self.layer(x))


def normalised(*layers: nn.Module) -> nn.Module:
    return nn.Sequential(Branch(), nn.BatchNorm2d(2), *layers, Branch())


def counted(branch: Branch, x: Tensor) -> Tensor:
    branch.count += 1
    return x * (1 + branch.count / 8)


def called(branch: Branch, x: Tensor) -> Tensor:
    branch.calls += 1
    return x * (1 + branch.calls / 8)


STATEFUL: dict[str, Callable[[], nn.Module]] = {
    "instance norm": lambda: nn.Sequential(Branch(), nn.InstanceNorm2d(2, affine=True, track_running_stats=True)),
    "batch norm": normalised,
    "spectral norm": lambda: torch_parametrizations.spectral_norm(nn.Conv2d(2, 2, 3, padding=1)),
    "older spectral norm": lambda: nn.utils.spectral_norm(nn.Conv2d(2, 2, 3, padding=1)),
    "older weight norm": lambda: nn.utils.weight_norm(nn.Conv2d(2, 2, 3, padding=1)),
    "orthogonal": lambda: torch_parametrizations.orthogonal(nn.Conv2d(2, 2, 1)),
    "a buffer": lambda: Branch(counted),
    "a counter": lambda: Branch(called),
    "torch's random numbers": lambda: normalised(nn.Dropout(0.3)),
    "Python's random numbers": lambda: Branch(lambda _, x: x * random.random()),
    "numpy's random numbers": lambda: Branch(lambda _, x: x * np.random.rand()),  # noqa: NPY002
    "a branch within": lambda: normalised(Coupled(ReversibleSequence([RevNetBlock(2, nn.Tanh(), nn.Sigmoid())]))),
}


class Coupled(nn.Module):
    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat(self.block(x[:, :1], x[:, 1:]), dim=1)


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


# networks


@pytest.mark.parametrize("name", PRESETS)
def test_presets_have_the_layers_of_their_names(name: str) -> None:
    assert preset(name).layers == int(name.split("-")[1])


@pytest.mark.parametrize(("name", "millions"), [("74", "0.43"), ("218", "1.68"), ("1202", "9.65")])
def test_hamiltonian_presets_have_the_papers_numbers_of_parameters(name: str, millions: str) -> None:
    count = sum(parameter.numel() for parameter in preset(f"hamiltonian-{name}").parameters())
    assert f"{count / 1e6:.2f}" == millions


def test_resnets_have_their_papers_numbers_of_parameters() -> None:
    counts = [sum(parameter.numel() for parameter in preset(name).parameters()) for name in ("resnet-32", "resnet-110")]
    assert [f"{count / 1e6:.2g}" for count in counts] == ["0.46", "1.7"]  # He et al., table 6


def test_smoothness_is_half_the_squared_difference_of_successive_kernels() -> None:
    network = ReversibleNetwork((3, 8, 8), 10, HamiltonianBlock, (4, 8), (3, 2))
    total = 0.0
    for stage, number in ((0, 3), (1, 2)):
        for place in range(number - 1):
            for coupling in (0, 1):
                now, after = (
                    network.state_dict()[f"stages.{stage}.blocks.{index}.couplings.{coupling}.branch.weight"]
                    for index in (place, place + 1)
                )
                total += float(((now - after) ** 2).sum()) / 2
    assert float(smoothness_penalty(network, 2.0).detach()) == pytest.approx(2 * total, rel=1e-5)
    with pytest.raises(TypeError, match=r"training\.penalty=null"):
        smoothness_penalty(preset("resnet-32"), 1.0)


# gradients


@pytest.mark.parametrize("block", BLOCKS)
def test_gradients_and_statistics_are_those_of_ordinary_backpropagation(block: Callable[..., ReversibleBlock]) -> None:
    stored, reversible = pair(lambda: block(8), 9)
    given = states(next(iter(stored)))
    found = []
    for sequence in (stored, reversible):
        inputs = [state.clone().requires_grad_() for state in given]
        weights = gradients(sequence, lambda module, inputs=inputs: outputs(module, *inputs))
        found.append(torch.cat([weights, *(state.grad.flatten() for state in inputs)]))
    assert error(found[1], found[0]) <= 1e-12
    assert same(dict(stored.named_buffers()), dict(reversible.named_buffers()))
    counted = [value for name, value in reversible.named_buffers() if name.endswith("num_batches_tracked")]
    assert counted
    assert all(int(value) == 1 for value in counted)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
def test_gradients_agree_at_74_layers(dtype: torch.dtype, tolerance: float) -> None:
    reversible = preset("hamiltonian-74").to(dtype)
    stored = preset("hamiltonian-74", sequence=BlockSequence).to(dtype)
    stored.load_state_dict(reversible.state_dict())
    images, labels = torch.randn(4, 3, 32, 32, dtype=dtype), torch.arange(4)
    found, expected = (gradients(n, lambda n: F.cross_entropy(n(images), labels)) for n in (reversible, stored))
    assert error(found, expected) <= tolerance


def test_in_single_precision_only_relus_near_their_kink_make_gradients_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    def difference() -> float:
        reversible = preset("hamiltonian-74", (3, 16, 16))
        stored = preset("hamiltonian-74", (3, 16, 16), sequence=BlockSequence)
        stored.load_state_dict(reversible.state_dict())
        images, labels = torch.randn(64, 3, 16, 16), torch.arange(64) % 10
        found, expected = (gradients(n, lambda n: F.cross_entropy(n(images), labels)) for n in (reversible, stored))
        return error(found, expected)

    monkeypatch.setattr(Tensor, "relu", lambda x: F.softplus(x))
    assert difference() <= 1e-5
    monkeypatch.undo()
    assert difference() <= 1e-1


class Living(TorchDispatchMode):
    """The storages made within, and how many numbers those that live hold."""

    def __init__(self) -> None:
        super().__init__()
        self.storages: weakref.WeakSet[torch.UntypedStorage] = weakref.WeakSet()

    def __torch_dispatch__(
        self,
        function: Callable[..., Any],
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        result = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                self.storages.add(tensor.untyped_storage())
        return result

    def numbers(self, known: Iterable[Tensor]) -> int:
        """Numbers in float64 that live, but for those of known tensors."""
        places = {tensor.untyped_storage().data_ptr() for tensor in known}
        return sum(storage.nbytes() for storage in self.storages if storage.data_ptr() not in places) // 8


@pytest.mark.parametrize("training", [True, False])
def test_memory_for_activations_does_not_grow_with_depth(training: bool) -> None:
    def kept(sequence: BlockSequence) -> int:
        """Numbers that live after a forward pass, beside the sequence's own."""
        given = states(next(iter(sequence.train(training))))
        with Living() as living:
            end = sequence(*(state.requires_grad_() for state in given))
            del given
            assert len(end) == 2
            return living.numbers([*sequence.parameters(), *sequence.buffers()])

    (stored, reversible), (deep_stored, deep) = (pair(lambda: HamiltonianBlock(8), depth) for depth in (3, 12))
    state = states(next(iter(deep)))[0].numel()
    assert kept(deep) - kept(reversible) < state / 2
    assert kept(deep_stored) - kept(stored) > 9 * 4 * state


def test_dropout_is_drawn_again_as_in_the_forward_pass() -> None:
    def block() -> ReversibleBlock:
        branches = [nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.Dropout(0.5)) for _ in range(2)]
        return RevNetBlock(8, *branches)

    stored, reversible = pair(block, 5)
    given = states(next(iter(stored)))
    found = []
    for sequence in (stored, reversible):
        torch.manual_seed(7)
        found.append(gradients(sequence, lambda module: outputs(module, *given)))
        found.append(torch.rand(3))  # the generator goes on as if nothing had been drawn again
    assert error(found[2], found[0]) <= 1e-12
    assert torch.equal(found[3], found[1])


def test_autocast_is_that_of_the_forward_pass_and_states_stay_in_single_precision() -> None:
    seen = []
    network = ReversibleNetwork((3, 8, 8), 10, HamiltonianBlock, (8, 16), (3, 2))
    for stage in network.sequences:
        for block in stage:
            for coupling in block:
                coupling.branch.register_forward_hook(
                    lambda module, given, out: seen.append((given[0].dtype, out.dtype))
                )
    with torch.autocast("cpu", torch.bfloat16):
        loss = F.cross_entropy(network(torch.randn(6, 3, 8, 8)), torch.arange(6))
    loss.backward()  # outside of autocast, as Lightning does it
    assert seen == [(torch.float32, torch.bfloat16)] * 20


def test_gradients_accumulate_over_backward_passes() -> None:
    _, reversible = pair(lambda: LeapfrogBlock(4), 4)
    batches = [states(next(iter(reversible))) for _ in range(2)]
    parts = [gradients(reversible, lambda module, batch=batch: outputs(module, *batch)) for batch in batches]
    both = gradients(reversible, lambda module: sum(outputs(module, *batch) for batch in batches))
    assert error(both, parts[0] + parts[1]) <= 1e-12


def test_frozen_and_shared_parameters_are_respected() -> None:
    shared = HamiltonianBlock(4).double()
    stored, reversible = BlockSequence([shared] * 3), ReversibleSequence([copy.deepcopy(shared)] * 3)
    given = states(shared)
    for sequence in (stored, reversible):
        next(sequence.parameters()).requires_grad_(False)
        outputs(sequence, *given).backward()
    found, expected = ([p.grad for p in sequence.parameters()] for sequence in (reversible, stored))
    assert found[0] is expected[0] is None
    assert max(map(error, found[1:], expected[1:])) <= 1e-12


def plain_step(sequence: nn.Module, given: list[Tensor]) -> None:
    outputs(sequence, *given).backward()


def in_evaluation(sequence: nn.Module, given: list[Tensor]) -> None:
    sequence(*given)
    plain_step(sequence.eval(), given)


def mode_changed(sequence: nn.Module, given: list[Tensor]) -> None:
    loss = outputs(sequence, *given)
    sequence.eval()
    loss.backward()


def options_changed(sequence: nn.Module, given: list[Tensor]) -> None:
    loss = outputs(sequence, *given)
    for part in sequence.modules():
        if isinstance(part, nn.Dropout):
            part.p = 0.9
    loss.backward()


def mode_changed_to_training(sequence: nn.Module, given: list[Tensor]) -> None:
    loss = outputs(sequence.eval(), *given)
    sequence.train()
    loss.backward()


def two_passes(sequence: nn.Module, given: list[Tensor]) -> None:
    loss = outputs(sequence, *given)
    another = outputs(sequence, *(2 * state for state in given))
    (loss * another).backward()


def kept_graph(sequence: nn.Module, given: list[Tensor]) -> None:
    loss = outputs(sequence, *given)
    torch.autograd.grad(loss, list(sequence.parameters())[-1:], retain_graph=True)
    loss.backward(retain_graph=True)
    loss.backward()


def twice_differentiated(sequence: nn.Module, given: list[Tensor]) -> None:
    slopes = torch.autograd.grad(outputs(sequence, *given), given, create_graph=True)
    sum(slope.square().sum() for slope in slopes).backward()


def frozen_in_between(sequence: nn.Module, given: list[Tensor]) -> None:
    loss = outputs(sequence, *given)
    for parameter in sequence.parameters():
        parameter.requires_grad_(False)
    loss.backward()


def doubled(parameter: Tensor) -> None:
    parameter.grad.mul_(2)


def hooked(sequence: nn.Module, given: list[Tensor]) -> None:
    for parameter in sequence.parameters():
        parameter.register_hook(lambda gradient: 3 * gradient)
        parameter.register_post_accumulate_grad_hook(doubled)
    for state in given:
        state.register_hook(lambda gradient: -gradient)
    for part in sequence.modules():
        if isinstance(part, ReversibleBlock | Branch):
            part.register_full_backward_hook(lambda part, into, out: tuple(g if g is None else 2 * g for g in into))
        if isinstance(part, Branch):
            part.register_forward_pre_hook(lambda part, args: (args[0] * 0.7,))
            part.register_forward_hook(lambda part, args, result: result.sin())
    plain_step(sequence, given)


def cached(sequence: nn.Module, given: list[Tensor]) -> None:
    with parametrize.cached():
        sequence.blocks[0].inverse(*(state.detach() for state in given)) if not sequence.training else None
        loss = outputs(sequence, *given) + outputs(sequence, *given)
    loss.backward()


def cached_throughout(sequence: nn.Module, given: list[Tensor]) -> None:
    with parametrize.cached():
        outputs(sequence, *given).backward()


STEPS = [
    plain_step, in_evaluation, mode_changed, mode_changed_to_training, options_changed, two_passes, kept_graph,
    twice_differentiated, frozen_in_between, hooked, cached, cached_throughout,
]  # fmt: skip


def both(
    branch: Callable[[], nn.Module], step: Callable[..., object], shared: bool = False
) -> list[list[Tensor | None]]:
    """What a step leaves behind with and without stored activations: gradients, buffers, the random generators."""
    found = []
    for kind in (BlockSequence, ReversibleSequence):
        for seed in (torch.manual_seed, random.seed, np.random.seed):
            seed(0)
        blocks = (
            [RevNetBlock(4, branch(), branch())] * 3 if shared else [RevNetBlock(4, branch(), branch()) for _ in "abc"]
        )
        sequence = kind(blocks).double()
        given = [torch.randn(3, 2, 4, 4, dtype=torch.float64, requires_grad=True) for _ in range(2)]
        extra = step(sequence, given) or []
        draws = torch.tensor([random.random(), np.random.rand(), float(torch.rand(()))])  # noqa: NPY002
        tensors = [*given, *sequence.parameters()]
        counts = torch.tensor([part.calls for part in sequence.modules() if isinstance(part, Branch)])
        found.append([*(tensor.grad for tensor in tensors), *sequence.buffers(), counts, draws, *extra])
    return found


def assert_same(found: list[list[Tensor | None]]) -> None:
    for expected, got in zip(*found, strict=True):
        assert (expected is None) == (got is None)
        if expected is not None:
            assert (got - expected).double().norm() <= 1e-8 * expected.double().norm() + 1e-9


@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated")
@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.__name__)
@pytest.mark.parametrize("branch", STATEFUL)
def test_whatever_a_branch_depends_on_gradients_are_those_of_ordinary_backpropagation(
    branch: str, step: Callable[..., object]
) -> None:
    assert_same(both(STATEFUL[branch], step))


@pytest.mark.parametrize("step", [plain_step, cached, cached_throughout], ids=lambda step: step.__name__)
@pytest.mark.parametrize("branch", ["spectral norm", "orthogonal", "batch norm", "Python's random numbers"])
def test_shared_blocks_have_the_gradients_of_ordinary_backpropagation(branch: str, step: Callable[..., object]) -> None:
    assert_same(both(STATEFUL[branch], step, shared=True))


@pytest.mark.parametrize("change", [lambda weight: 1.5 * weight.detach(), torch.sin], ids=["leaves", "computed"])
def test_weights_given_by_functional_call_have_their_gradients(change: Callable[[Tensor], Tensor]) -> None:
    def step(sequence: nn.Module, given: list[Tensor]) -> list[Tensor]:
        sources = {name: weight.detach().clone().requires_grad_() for name, weight in sequence.named_parameters()}
        weights = {name: change(source).requires_grad_() for name, source in sources.items()}
        first, second = torch.func.functional_call(sequence, weights, tuple(given))
        wanted = [weight if weight.is_leaf else sources[name] for name, weight in weights.items()]
        return list(torch.autograd.grad((first.sin() + second.square()).sum(), [*given, *wanted]))

    assert_same(both(normalised, step))


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")  # which torch.func.jvp imports
def test_the_transforms_of_torch_func_go_through_a_sequence() -> None:
    def step(sequence: nn.Module, given: list[Tensor]) -> list[Tensor]:
        first, second = (state.detach() for state in given)
        slope = torch.func.grad(lambda state: outputs(sequence, state, second))(first)
        _, along = torch.func.jvp(lambda state: sequence(state, second), (first,), (slope,))
        mapped = torch.func.vmap(lambda a, b: sequence(a[None], b[None])[0])(first, second)
        return [slope, *along, mapped]

    assert_same(both(Branch, step))


@pytest.mark.parametrize("changed", [None, 0, 1], ids=["unchanged", "the factor changed", "the shift changed"])
def test_parameters_from_elsewhere_have_their_gradients_too(changed: int | None) -> None:
    def step(sequence: nn.Module, given: list[Tensor]) -> list[Tensor]:
        elsewhere = [nn.Parameter(torch.rand(2, 1, 1, dtype=torch.float64)) for _ in range(2)]
        for part in sequence.modules():
            if isinstance(part, Branch):
                part.act = lambda _, x: (x * elsewhere[0]).tanh() + elsewhere[1]
        loss = outputs(sequence, *given)
        if changed is not None:
            with torch.no_grad():
                elsewhere[changed].mul_(1 + 1e-12)
        loss.backward()
        return [parameter.grad for parameter in elsewhere]

    if changed is None:
        assert_same(both(Branch, step))
    else:
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            step(pair(lambda: RevNetBlock(4, Branch(), Branch()), 2)[1], list(torch.randn(2, 3, 2, 4, 4).double()))


def test_buffers_changed_before_the_backward_pass_do_not_matter() -> None:
    def step(sequence: nn.Module, given: list[Tensor], change: bool) -> list[Tensor]:
        loss = outputs(sequence.eval(), *given)
        if change:
            for buffer in sequence.buffers():
                buffer.add_(1)
        return list(torch.autograd.grad(loss, list(sequence.parameters())))

    _, sequence = pair(lambda: RevNetBlock(4, normalised(), normalised()), 3)
    given = list(states(next(iter(sequence))))
    expected = step(sequence, given, False)
    for one, other in zip(step(sequence, given, True), expected, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("frozen", [False, True])
def test_weights_changed_before_the_backward_pass_are_refused(frozen: bool) -> None:
    _, reversible = pair(lambda: HamiltonianBlock(4), 2)
    weight = next(reversible.parameters()).requires_grad_(not frozen)
    loss = outputs(reversible, *states(next(iter(reversible))))
    with torch.no_grad():
        weight.mul_(1 + 1e-12)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_states_changed_before_the_backward_pass_are_refused() -> None:
    _, reversible = pair(lambda: HamiltonianBlock(4), 2)
    first, second = reversible(*states(next(iter(reversible))))
    loss = (first.sin() + second).sum()
    with torch.no_grad():
        second.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def from_a_list(branch: Branch, x: Tensor) -> Tensor:
    branch.list.append(1)
    return x * (1 + len(branch.list) / 8)


def weights_changed_unseen(sequence: nn.Module) -> None:
    for parameter in sequence.parameters():
        parameter.data.mul_(1.5)


@pytest.mark.parametrize(
    ("branch", "change"),
    [
        (lambda: Branch(lambda own, x: x * torch.rand(x.shape, generator=own.generator)), None),
        (lambda: Branch(from_a_list), None),
        (normalised, weights_changed_unseen),
        (normalised, lambda sequence: sequence.blocks[0].couplings[0].branch.insert(1, nn.Tanh())),
    ],
    ids=["own generator", "a list", "weights changed unseen", "layer inserted"],
)
def test_branches_that_do_not_repeat_are_refused(
    branch: Callable[[], nn.Module], change: Callable[[nn.Module], object] | None
) -> None:
    sequence = ReversibleSequence([RevNetBlock(4, branch(), branch()) for _ in range(2)]).double()
    loss = outputs(sequence, *states(next(iter(sequence))))
    if change is not None:
        change(sequence)
    with pytest.raises(RuntimeError, match="gave other values on the way back"):
        loss.backward()


def test_branches_that_change_their_input_are_refused() -> None:
    sequence = ReversibleSequence([RevNetBlock(4, nn.Sequential(nn.ReLU(inplace=True)), nn.Tanh())])
    with pytest.raises(RuntimeError, match="changes its input in place"):
        sequence(*states(HamiltonianBlock(4)))


@pytest.mark.filterwarnings("ignore:The .grad attribute")  # torch.compile looks at every tensor's
def test_a_compiled_network_has_the_same_gradients() -> None:
    network = ReversibleNetwork((3, 8, 8), 10, MidpointBlock, (8, 16), (3, 2)).double()
    images, labels = torch.randn(6, 3, 8, 8, dtype=torch.float64), torch.arange(6)
    plain, compiled = copy.deepcopy(network), torch.compile(network, backend="aot_eager")
    found, expected = (gradients(n, lambda n: F.cross_entropy(n(images), labels)) for n in (compiled, plain))
    assert error(found, expected) <= 1e-12
    for name, buffer in plain.named_buffers():  # batches counted once, running statistics
        torch.testing.assert_close(network.get_buffer(name), buffer)


def ddp_gradients(rank: int, folder: str) -> None:
    """One of two processes: half of the batch each."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    network, images, labels = ddp_problem()
    parallel = nn.parallel.DistributedDataParallel(network)
    found = gradients(parallel, lambda n: F.cross_entropy(n(images[rank::2]), labels[rank::2]))
    torch.save(found, f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


def ddp_problem() -> tuple[ReversibleNetwork, Tensor, Tensor]:
    torch.manual_seed(0)

    def block(channels: int) -> ReversibleBlock:
        return HamiltonianBlock(channels, step=0.1, normalise=False)  # a mean over images, so halves can be averaged

    network = ReversibleNetwork((3, 8, 8), 10, block, (8, 16), (3, 2)).double().eval()
    return network, torch.randn(6, 3, 8, 8, dtype=torch.float64), torch.arange(6)


@pytest.mark.slow
def test_two_processes_average_their_gradients(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(ddp_gradients, (str(tmp_path),), nprocs=2)
    network, images, labels = ddp_problem()
    expected = gradients(network, lambda n: F.cross_entropy(n(images), labels))
    for rank in (0, 1):
        assert error(torch.load(tmp_path / f"{rank}.pt"), expected) <= 1e-12


@pytest.mark.slow
def test_1202_layers_train_within_four_gigabytes() -> None:
    options = {"channels": [32, 64, 128], "blocks": [101, 100, 99], "batch": 32, "size": 32, "threads": 1}
    with StepProcess("reversible", options) as process:
        process.run()
        report = process.report()
    assert report["layers"] == 1202
    assert report["peak_memory_mb"] < 4096


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
    with pytest.raises(ValueError, match=r"the layer takes images \(rows, 3, height, width\)"):
        preset("midpoint-26")(torch.zeros(1, 1, 8, 8))
