"""What a trace of a forward pass notes: calls of activations, and which of them are blocks of the general equation."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from replication.reading.calls import Recipe, Root, Value


@dataclass(frozen=True)
class Leaf:
    """The call of an element-wise function that is not affine.

    Attributes:
        place: of the call, in words.
        value: of its result.
        like: the result, in shape.
        argument: the value of its argument if it has one that depends on the input.
        position: of this among the tensors that it is called with.
        recipe: of the activation that it is by itself, or why it is none.
        overwrites: the position of the tensor that it changes in place, if it does.
    """

    place: str
    value: Value
    like: Tensor
    argument: Value | None = None
    position: int = 0
    recipe: Recipe | str = ""
    overwrites: int | None = None


@dataclass(frozen=True)
class Block:
    """A call whose result is a free input of the affine map that is left of the module.

    Attributes:
        call: its number.
        place: in words.
        source: of its preactivation, the position of an argument of the call, or a root.
        recipe: how to make the activation from numbers in the shape of a trace, or others.
        shape: of the preactivation in the trace.
        overwrites: the position of the argument that the call changes in place, if it does.
    """

    call: int
    place: str
    source: int | Root
    recipe: Recipe
    shape: tuple[int, ...]
    overwrites: int | None = None


@dataclass(frozen=True)
class Trace:
    """What a forward pass did.

    Attributes:
        names: of the functions that were called, in order.
        blocks: the activations.
        output: what it returned.
        outer: the block whose activation makes the output, if one does.
        eps: the rounding of the least precise numbers on the way.
    """

    names: tuple[str, ...]
    blocks: tuple[Block, ...]
    output: Tensor
    outer: int | None
    eps: float
