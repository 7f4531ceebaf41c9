"""Reversible blocks and networks: formulas, inverses, and gradients without stored activations."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from test_training import same
from torch import Tensor, nn

from replication import (
    HamiltonianBlock,
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
from replication.units import BlockSequence, ReversibleBlock, ReversibleSequence, SpaceToDepth

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


def test_memory_for_activations_does_not_grow_with_depth() -> None:
    def saved(sequence: BlockSequence) -> int:
        total = 0

        def pack(tensor: Tensor) -> Tensor:
            nonlocal total
            total += 0 if isinstance(tensor, nn.Parameter) else tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            sequence(*(state.requires_grad_() for state in states(next(iter(sequence)))))
        return total

    (stored, reversible), (deep_stored, deep) = (pair(lambda: HamiltonianBlock(8), depth) for depth in (3, 12))
    assert saved(reversible) == saved(deep)
    assert saved(deep_stored) >= 4 * saved(stored) > 4 * saved(reversible)


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


def test_weights_changed_before_the_backward_pass_are_refused() -> None:
    _, reversible = pair(lambda: HamiltonianBlock(4), 2)
    loss = outputs(reversible, *states(next(iter(reversible))))
    with torch.no_grad():
        next(reversible.parameters()).mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


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


def test_another_dtype_or_other_channels_are_one_sentence() -> None:
    with pytest.raises(TypeError, match=r"the input is torch\.float64 and the unit torch\.float32"):
        HamiltonianBlock(4)(*torch.zeros(2, 1, 2, 8, 8, dtype=torch.float64))
    with pytest.raises(TypeError, match=r"the input is torch\.float64 and the unit torch\.float32"):
        preset("midpoint-26")(torch.zeros(1, 3, 8, 8, dtype=torch.float64))
    with pytest.raises(ValueError, match=r"the layer takes images \(rows, 3, height, width\)"):
        preset("midpoint-26")(torch.zeros(1, 1, 8, 8))
