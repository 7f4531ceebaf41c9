"""Backpropagation through reversible blocks without stored activations: the states are recomputed on the way back."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor
from torch._C._autograd import _get_sequence_nr
from torch.autograd.graph import saved_tensors_hooks
from torch.linalg import vector_norm

from replication.uncompiled import uncompiled
from replication.units.reversible.couplings import EVALUATION, Coupling, Pair
from replication.units.reversible.replay import Circumstances, random_states
from replication.units.reversible.sequence import BlockSequence

Handle = tuple[int, int]  # the place of an evaluation among all, and of a tensor among those that it saves


class ReversibleSequence(BlockSequence):
    """Reversible blocks of one width, trained without stored activations: memory for them does not grow with depth.

    Only the last pair of states is kept. On the way back each coupling's branch is evaluated once more, which gives
    both the state before it and what autograd had saved. Gradients are those of ordinary backpropagation up to the
    rounding of the states recomputed: the graph, with its hooks, is the ordinary one. Branches are evaluated again
    with the buffers (which each batch changes once), the mode and other attributes, the random numbers (of torch, numpy
    and Python) and the precision (autocast) of the forward pass. A branch that gives something else then is refused,
    and so are weights that were changed in place.

    Source: paper C, memory-efficient training (from recalled facts, assumption A14); Gomez, Ren, Urtasun, Grosse,
    NeurIPS 2017, arXiv 1707.04585. The graph's saved tensors are recomputed as in `torch.utils.checkpoint`.

    Args: as BlockSequence.

    >>> from replication import HamiltonianBlock
    >>> sequence = ReversibleSequence([HamiltonianBlock(4) for _ in range(3)])
    >>> y, z = sequence(*torch.randn(2, 10, 2, 8, 8))
    >>> y.square().sum().backward()  # the states between the blocks are recomputed
    >>> all(parameter.grad is not None for parameter in sequence.blocks[0].parameters())
    True
    """

    @uncompiled
    def forward(self, first: Tensor, second: Tensor) -> Pair:
        transformed = torch._C._functorch.peek_interpreter_stack() is not None  # by torch.func, without saved tensors
        if transformed or not torch.is_grad_enabled():
            return super().forward(first, second)
        return self.recorded(first, second)

    def recorded(self, first: Tensor, second: Tensor) -> Pair:
        """Take a pair of states through all blocks, so that the graph recomputes what it would have saved."""
        next(iter(self)).check_states(first, second)
        first, second = (state.clone() if state.is_inference() else state for state in (first, second))
        recording = Recording(first.device)
        token = EVALUATION.set(recording.record)
        try:
            pair = super().forward(first, second)
        finally:
            EVALUATION.reset(token)
        recording.finish(*pair)
        return pair


class Evaluation:
    """One evaluation of a coupling's branch, which can be repeated.

    Attributes:
        coupling: the branch's.
        circumstances: of the evaluation.
        saved: shape and dtype of every tensor that autograd wanted to save.
    """

    def __init__(self, coupling: Coupling, b: Tensor, randomness: Sequence[object]) -> None:
        self.coupling, self.wants_gradient = coupling, b.requires_grad
        self.circumstances = Circumstances(coupling, b.device, randomness)
        self.saved: list[tuple[torch.Size, torch.dtype]] = []

    def first(self, b: Tensor, place: int, recording: Recording) -> Tensor:
        """Evaluate the branch and keep nothing of what autograd wants to save."""

        def drop(tensor: Tensor) -> Handle:
            self.saved.append((tensor.shape, tensor.dtype))
            return place, len(self.saved) - 1

        start, version = _get_sequence_nr(), b._version
        with saved_tensors_hooks(drop, recording.recompute):
            branch = self.coupling.evaluate(b)
        if b._version != version:
            raise RuntimeError(
                "a branch changes its input in place, so that states cannot be recomputed; use nn.ReLU(inplace=False) "
                "or the like as its first operation"
            )
        registered = {weight.data_ptr(): weight for _, _, weight in self.circumstances.parameters}
        others = {leaf.data_ptr(): leaf.detach() for leaf in leaves(branch, start) if leaf is not b}
        self.versions = [(weight, weight._version) for weight in (others | registered).values()]
        self.print = fingerprint(branch)
        return branch

    def again(self, b: Tensor) -> tuple[Tensor, dict[int, Tensor]]:
        """Return the branch at a recomputed state, and what autograd saves there, in its order."""
        check_versions(self.versions, "a weight of a reversible branch")
        found: list[Tensor] = []

        def keep(tensor: Tensor) -> int:
            found.append(tensor.detach())
            return len(found) - 1

        b = b.detach().requires_grad_(self.wants_gradient)
        with torch.enable_grad(), self.circumstances.again(), saved_tensors_hooks(keep, found.__getitem__):
            branch = self.coupling.evaluate(b).detach()
        if [(tensor.shape, tensor.dtype) for tensor in found] != self.saved or self.differs(branch, b.detach()):
            raise RuntimeError(
                "a branch of a reversible sequence gave other values on the way back, so that there is no gradient: it "
                "was changed since the forward pass, or depends on a state or generator of its own, or states cannot "
                "be recomputed; use BlockSequence, which stores activations"
            )
        saved = dict(enumerate(found))
        found.clear()  # which a graph may hold that the branch keeps
        return branch, saved

    def differs(self, branch: Tensor, b: Tensor) -> bool:
        """Return whether the branch is another than in the forward pass, by more than the rounding of b explains.

        What the branch saves tells in which precisions it computes, as autocast has it.
        """
        dtypes = {branch.dtype, b.dtype, *(dtype for _, dtype in self.saved if dtype.is_floating_point)}
        rounding = max(torch.finfo(dtype).eps for dtype in dtypes)
        allowed = rounding ** (1 / 3) * vector_norm(self.print) + rounding**0.5 * vector_norm(b)
        return bool(vector_norm(fingerprint(branch) - self.print) > allowed)


class Recording:
    """The evaluations of one forward pass, and the place that the way back has reached.

    Args:
        device: of the states.

    Attributes:
        place: of the last evaluation that was repeated.
        pair: the states before it.
        found: what autograd saves in it, by number, so far as it was not fetched yet.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.evaluations: list[Evaluation] = []
        self.found: dict[int, Tensor] = {}
        self.randomness: tuple[object, ...] = ()

    def record(self, coupling: Coupling, b: Tensor) -> Tensor:
        """Evaluate a coupling's branch, so that this can be repeated."""
        self.note_randomness()
        evaluation = Evaluation(coupling, b, self.randomness)
        self.evaluations.append(evaluation)
        token = EVALUATION.set(Coupling.evaluate)  # for blocks inside of the branch
        try:
            return evaluation.first(b, len(self.evaluations) - 1, self)
        finally:
            EVALUATION.reset(token)

    def note_randomness(self) -> None:
        """Take the random generators' states, and forget those of the last evaluation if it drew nothing."""
        before, self.randomness = self.randomness, random_states(self.device, self.randomness)
        if self.evaluations and all(old is new for old, new in zip(before, self.randomness, strict=True)):
            self.evaluations[-1].circumstances.randomness = ()

    def finish(self, first: Tensor, second: Tensor) -> None:
        """Keep the last pair of states, from which the way back begins."""
        self.note_randomness()
        self.ends = first.detach(), second.detach()
        self.versions = [(state, state._version) for state in self.ends]
        self.place = -1

    def begin(self) -> None:
        """Go to the end, at the beginning of a backward pass."""
        check_versions(self.versions, "a state that a reversible sequence returned")
        self.place, self.pair = len(self.evaluations), self.ends

    def recompute(self, handle: Handle) -> Tensor:
        """Return what autograd would have saved: called in the backward pass, which goes through places in order."""
        place, number = handle
        if place > self.place:
            self.begin()
        if place == self.place and number not in self.found:
            _, self.found = self.evaluations[place].again(self.pair[1])
        while self.place > place:
            self.place -= 1
            self.found.clear()
            self.step_back(self.evaluations[self.place])
        return self.found.pop(number)

    def step_back(self, evaluation: Evaluation) -> None:
        """Go from the pair (b, c = ±a + branch(b)) to (a, b)."""
        b, c = self.pair
        branch, self.found = evaluation.again(b)
        self.pair = evaluation.coupling.undone(c, branch), b


def check_versions(versions: Sequence[tuple[Tensor, int]], what: str) -> None:
    """Refuse tensors that are not at their versions."""
    if any(tensor._version != version for tensor, version in versions):
        raise RuntimeError(
            f"{what} has been modified by an inplace operation before the backward pass, so that there is no gradient; "
            "change it afterwards"
        )


def leaves(output: Tensor, start: int) -> list[Tensor]:
    """Return the leaves of the part of a graph that was made since a sequence number."""
    nodes, seen, found = [output.grad_fn], set(), []
    while nodes:
        node = nodes.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if type(node).__name__ == "AccumulateGrad":
            found.append(node.variable)  # type: ignore[attr-defined]
        elif node._sequence_nr() >= start:
            nodes += [following for following, _ in node.next_functions]
    return found


@torch.no_grad()
def fingerprint(x: Tensor) -> Tensor:
    """Return one number a row (batch,) that another x of the same size would hardly have."""
    rows = x.reshape(len(x), -1) if x.numel() else x.new_zeros(1, 1)
    rows = rows.to(torch.promote_types(rows.dtype, torch.float32))
    with torch.autocast(x.device.type, enabled=False):
        return rows @ direction(rows.shape[1], rows.dtype, rows.device)


@lru_cache(maxsize=16)
def direction(size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return a vector of no direction in particular (size,)."""
    return torch.arange(size, dtype=dtype, device=device).cos()
