"""Gradients without stored activations: those of ordinary backpropagation, in little memory, on several processes."""

from __future__ import annotations

import copy
import weakref
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from builders import same_tensors as same
from reversible_cases import BLOCKS, error, gradients, outputs, pair, states
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from replication import HamiltonianBlock, LeapfrogBlock, MidpointBlock, ReversibleNetwork, RevNetBlock, preset
from replication.experiments.studies.memory import StepMemory
from replication.units import BlockSequence, ReversibleBlock, ReversibleSequence


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
    assert kept(deep) - kept(reversible) < state  # statistics of batches, and once a kernel's copy
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


def test_many_blocks_in_half_precision_differ_by_its_rounding_and_are_not_refused() -> None:
    torch.manual_seed(0)
    reversible = ReversibleSequence([LeapfrogBlock(8) for _ in range(24)])
    given = torch.randn(2, 8, 8, 6, 6)

    def found(sequence: BlockSequence, half: bool) -> torch.Tensor:
        def loss(sequence: BlockSequence) -> torch.Tensor:
            with torch.autocast("cpu", torch.bfloat16, enabled=half):
                y, z = sequence(*given)
            return (y * z).sum()

        return gradients(sequence, loss)

    stored = BlockSequence(reversible.blocks)
    half = found(stored, True)
    assert error(found(reversible, True), half) <= 2 * error(half, found(stored, False)) < 0.1


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


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The .grad attribute")  # torch.compile looks at every tensor's
def test_a_compiled_network_has_the_same_gradients() -> None:
    network = ReversibleNetwork((3, 8, 8), 10, MidpointBlock, (8, 16), (3, 2)).double()
    images, labels = torch.randn(6, 3, 8, 8, dtype=torch.float64), torch.arange(6)
    plain, compiled = copy.deepcopy(network), torch.compile(network, backend="aot_eager")
    found, expected = (gradients(n, lambda n: F.cross_entropy(n(images), labels)) for n in (compiled, plain))
    assert error(found, expected) <= 1e-12
    for name, buffer in plain.named_buffers():  # batches counted once, running statistics
        torch.testing.assert_close(network.get_buffer(name), buffer)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The .grad attribute")
def test_a_compiled_sequence_stores_no_activations() -> None:
    sequence, given = ReversibleSequence([MidpointBlock(2) for _ in range(3)]), torch.randn(2, 4, 2, 6, 6)
    stored: list[int] = []

    def store(tensor: Tensor) -> Tensor:
        stored.append(tensor.numel())
        return tensor

    for blocks in (sequence, BlockSequence(sequence.blocks)):
        stored.clear()
        with torch.autograd.graph.saved_tensors_hooks(store, lambda tensor: tensor):
            torch.compile(blocks, backend="aot_eager")(*given)
        assert (sum(stored) > 0) == (blocks is not sequence)  # the second shows that the hooks see what is stored


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
    with StepMemory(threads=1) as process:
        report = process.report({"network": "hamiltonian-1202", "batch": 32, "size": 32})
    assert report["layers"] == 1202
    assert report["peak_memory_mb"] < 4096
