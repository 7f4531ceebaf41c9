"""A module as it was read: run on copies of its weights, whole or with its activations replaced by free inputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map

from replication.reading.blocks import Block
from replication.reading.calls import Root
from replication.reading.following import tensors_in
from replication.reading.functions import name_of
from replication.reading.guest import Guest, UnreadableError, copied, undisturbed


class Program:
    """The forward pass of a module in a precision of its own, on the weights and in the mode that it has now.

    Args:
        guest: the module.
        dtype: float32 or float64, to which all its numbers of either precision are converted.
    """

    def __init__(self, guest: Guest, dtype: torch.dtype) -> None:
        self.module = guest.module
        self.dtype = dtype
        self.state = {name: converted(copied(tensor), dtype) for name, tensor in guest.tensors()}
        self.modes = [(part, part.training) for part in self.module.modules()]

    def __call__(self, mode: AbstractContextManager[Any], x: Tensor) -> Any:
        """Return what the module makes of x under a mode; x may be overwritten."""
        as_it_was = as_read(self.modes, self.dtype)
        with torch.inference_mode(False), undisturbed(self.module), as_it_was, by_their_forward_pass(), mode:
            return functional_call(self.module, self.state, (x,))

    def guarded(self, mode: TorchFunctionMode, x: Tensor) -> Any:
        """Return what the module makes of x, on copies of the weights that may be overwritten too.

        Raises:
            UnreadableError: if it fails.
        """
        kept, self.state = self.state, {name: copied(tensor) for name, tensor in self.state.items()}
        try:
            return self(mode, x)
        except UnreadableError:
            raise
        except Exception as error:  # whatever the module's own code raises
            said = " ".join(str(error).split())[:200]
            raise UnreadableError(
                f"it fails on {len(x)} inputs of {x.dtype}: {type(error).__name__}: {said}"
            ) from error
        finally:
            self.state = kept


def converted(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """Return numbers of single or double precision in the one that is wanted, and all others as they are."""
    return tensor.to(dtype) if tensor.dtype in (torch.float32, torch.float64) else tensor


@contextmanager
def as_read(modes: list[tuple[nn.Module, bool]], dtype: torch.dtype) -> Iterator[None]:
    """Put layers in the modes that they had, and their plain tensors in one precision; `undisturbed` undoes it."""
    for part, training in modes:
        part.training = training
        for name, value in list(part.__dict__.items()):
            if isinstance(value, Tensor) and value.dtype != dtype:
                part.__dict__[name] = converted(value, dtype)
    default = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(default)


@contextmanager
def by_their_forward_pass() -> Iterator[None]:
    """Let functions with gradients of their own be what they compute, and let checkpoints keep what they would not."""
    function, hooks = torch.autograd.Function, torch.autograd.graph.saved_tensors_hooks
    apply, enter, leave = vars(function)["apply"], hooks.__enter__, hooks.__exit__
    function.apply = classmethod(computed)
    hooks.__enter__, hooks.__exit__ = (lambda self: None), (lambda self, *raised: None)  # type: ignore[method-assign]
    try:
        yield
    finally:
        function.apply = apply
        hooks.__enter__, hooks.__exit__ = enter, leave  # type: ignore[method-assign]


def computed(kind: type[torch.autograd.Function], *args: Any, **options: Any) -> Any:
    """Return what a function with gradients of its own computes."""
    if kind.setup_context is not torch.autograd.Function.setup_context:
        return kind.forward(*args, **options)
    return kind.forward(Context(), *args, **options)


class Context:
    """What a function keeps for its own gradients, which are not asked for."""

    needs_input_grad = ()

    def save_for_backward(self, *tensors: Tensor) -> None:
        """Keep nothing."""

    save_for_forward = mark_dirty = mark_non_differentiable = save_for_backward

    def set_materialize_grads(self, value: bool) -> None:
        """Change nothing."""


def through(func: Callable[..., Any], args: tuple[Any, ...], options: dict[str, Any]) -> Any:
    """Return what a function of torch returns, with gradients wherever it is called."""
    name = name_of(func)
    if name == "set_grad_enabled" or name == "_set_grad_enabled":
        return None
    if name == "detach" or getattr(func, "__self__", None) is Tensor.data:
        return args[0] if func is Tensor.detach_ else args[0].view(args[0].shape)
    return func(*args, **options)


@dataclass(frozen=True)
class Layout:
    """Where the rows of a batch are in a tensor.

    Attributes:
        dim: the dimension that grows with the batch.
        per_row: how many of its places each row has.
        inner: whether places of different rows alternate there.
        shape: of one row.
    """

    dim: int
    per_row: int
    inner: bool
    shape: tuple[int, ...]

    def rows(self, tensor: Tensor) -> Tensor:
        """Return a tensor as (batch, *shape)."""
        if self.per_row == 1:
            return tensor.movedim(self.dim, 0)
        sizes = (self.per_row, -1) if self.inner else (-1, self.per_row)
        apart: Tensor = tensor.unflatten(self.dim, sizes)
        return apart.movedim(self.dim + self.inner, 0)

    def laid(self, rows: Tensor) -> Tensor:
        """Return (batch, *shape) in the places that they have."""
        if self.per_row == 1:
            return rows.movedim(0, self.dim)
        return rows.movedim(0, self.dim + self.inner).flatten(self.dim, self.dim + 1)


class Replay(TorchFunctionMode):
    """Runs a module again, and notes the arguments of its activations, the preactivations.

    Args:
        names: of the functions that it calls, which must be the same again.
        blocks: the activations.
        x: its input.
        free: what they return instead of what they compute; None to let them compute.

    Attributes:
        preactivations: in the places that they have.
    """

    def __init__(self, names: tuple[str, ...], blocks: tuple[Block, ...], x: Tensor, free: list[Tensor] | None) -> None:
        super().__init__()
        self.names, self.free = names, free
        self.numbers = {block.call: number for number, block in enumerate(blocks)}
        self.blocks = blocks
        self.needed = {block.source for block in blocks if not isinstance(block.source, int)}
        self.roots: dict[Root, Tensor] = {(-1, 0): x.clone()} if (-1, 0) in self.needed else {}
        self.preactivations: list[Tensor] = []
        self.call = -1

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        self.call += 1
        options = dict(kwargs or {})
        if self.call >= len(self.names) or self.names[self.call] != name_of(func):
            raise UnreadableError("it calls other functions of torch for other inputs; such a module cannot be read")
        if self.call in self.numbers:
            result = self.activation(self.numbers[self.call], func, args, options)
        else:
            result = through(func, args, options)
        self.keep_roots(args, result)
        return result

    def activation(self, number: int, func: Callable[..., Any], args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        """Note the preactivation, and return the free input in its place."""
        source = self.blocks[number].source
        given = list(tensors_in((args, options)))
        s = given[source] if isinstance(source, int) else self.roots[source]
        self.preactivations.append(s.clone())
        overwrites = self.blocks[number].overwrites
        target = None if overwrites is None else given[overwrites]
        if self.free is not None:
            value = self.free[number]
        else:  # what gradients need of it must not be overwritten later, as in-place layers in a row do
            copy = None if target is None else target.clone()
            args, options = tree_map(lambda v: copy if copy is not None and v is target else v, (args, options))
            value = func(*args, **options)
            value = value if copy is None else copy
        return value.clone() if target is None else target.copy_(value)

    def keep_roots(self, args: tuple[Any, ...], result: Any) -> None:
        """Keep what an activation made of several calls will need."""
        if any(call == self.call for call, _ in self.needed):
            results = list(tensors_in(result)) or [args[0]]
            for call, position in self.needed:
                if call == self.call:
                    self.roots[call, position] = results[position].clone()


class Graph:
    """The affine map that is left of a module when its activations are free inputs.

        (x, φ₁, …, φ_K) ↦ (s₁, …, s_K, y)

    Args:
        program: the module.
        names: of the functions of torch that it calls.
        blocks: which of them are activations.
        layouts: of their preactivations.
    """

    def __init__(
        self, program: Program, names: tuple[str, ...], blocks: tuple[Block, ...], layouts: tuple[Layout, ...]
    ) -> None:
        self.program, self.names, self.blocks, self.layouts = program, names, blocks, layouts

    def affine(self, x: Tensor, free: Sequence[Tensor]) -> tuple[tuple[Tensor, ...], Tensor]:
        """Return the preactivations (batch, *their shape) and the output (batch, *shape) for free values of φ."""
        laid = [layout.laid(rows) for layout, rows in zip(self.layouts, free, strict=True)]
        return self.run(x, laid)

    def whole(self, x: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
        """Return the preactivations and the output of the module itself."""
        return self.run(x, None)

    def run(self, x: Tensor, free: list[Tensor] | None) -> tuple[tuple[Tensor, ...], Tensor]:
        """Run the module."""
        x = x.clone()
        replay = Replay(self.names, self.blocks, x, free)
        y = self.program(replay, x)
        found = zip(self.layouts, replay.preactivations, strict=True)
        return tuple(layout.rows(s) for layout, s in found), y
