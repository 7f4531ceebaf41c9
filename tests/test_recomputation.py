"""Branches are evaluated again as they were, whatever they depend on, or there is no gradient."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import pytest
import torch
from reversible_cases import STATEFUL, Branch, normalised, outputs, pair, states
from torch import Tensor, nn
from torch.nn.utils import parametrize

from replication import HamiltonianBlock, RevNetBlock
from replication.units import BlockSequence, ReversibleBlock, ReversibleSequence


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
