"""Calls of torch's functions with tensors that depend on a module's input: affine, activations, or neither."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from replication.activations import Activation
from replication.reading.affine_functions import (
    CANNOT_CERTIFY,
    DROPOUTS,
    ELEMENT_WISE,
    is_element_wise,
    keeps_places,
    reason_against,
)
from replication.reading.following import tensors_in
from replication.reading.guest import UnreadableError
from replication.reading.known_activations import known_activation

Recipe = tuple[Callable[..., Activation], tuple[Tensor, ...]]  # how to make an activation from numbers
Root = tuple[int, int]  # the name of a tensor: the call that made it, and which of those that it returned or changed
SYMMETRIC = frozenset({"maximum", "minimum", "fmax", "fmin", "max", "min"})
CHOOSING = frozenset({"where", "masked_fill"})


@dataclass(frozen=True)
class Value:
    """What is known of a tensor that depends on the input.

    Attributes:
        root: its own name.
        ancestors: tensors of which it is a function number by number, itself among them.
        leaves: the calls of activations of whose results, and of the input, it is an affine function.
        reason: why it is none of this, if it is not.
    """

    root: Root
    ancestors: frozenset[Root] = frozenset()
    leaves: frozenset[int] = frozenset()
    reason: str = ""

    @staticmethod
    def fresh(root: Root) -> Value:
        """Return the value of a tensor that is affine in the input and in what is free."""
        return Value(root, frozenset({root}))


@dataclass(frozen=True)
class Node:
    """How a tensor was computed number by number.

    Attributes:
        function: from the operands that depend on the input.
        operands: their names.
        name: of the function.
        constants: the other tensors and numbers that it is called with.
    """

    function: Callable[[list[Tensor]], Tensor]
    operands: tuple[Root, ...]
    name: str
    constants: tuple[Tensor | float, ...]


@dataclass
class Call:
    """The call of a function with tensors of which some depend on the input.

    Attributes:
        number: how many came before.
        func, name, args, options: the function, its name as `name_of` has it, and what it is called with.
        given: all tensors among these.
        values: theirs, None for what does not depend on the input.
    """

    number: int
    func: Callable[..., Any]
    name: str
    args: tuple[Any, ...]
    options: dict[str, Any]
    given: list[Tensor]
    values: list[Value | None]

    def __post_init__(self) -> None:
        if self.options.get("rounding_mode") is not None:
            self.name = "floor_divide"

    @property
    def followed(self) -> list[Value]:
        """Values of the tensors that depend on the input."""
        return [value for value in self.values if value is not None]

    def reason_against(self) -> str | None:
        """Say why the function is not affine, or None if it is."""
        if self.name in CHOOSING and any(
            value is not None and tensor.dtype == torch.bool
            for tensor, value in zip(self.given, self.values, strict=True)
        ):
            return f"it chooses by values that depend on the input; {CANNOT_CERTIFY}"
        return reason_against(self.name, self.args, self.options, [value is not None for value in self.values])

    def is_affine(self) -> bool:
        """Return whether an element-wise function is."""
        if self.name in CHOOSING:
            return self.reason_against() is None
        return (self.name in ELEMENT_WISE or self.name in DROPOUTS) and self.reason_against() is None

    def is_known_element_wise(self) -> bool:
        """Return whether the function acts number by number, if its tensors have the shape of its result."""
        if self.name == "__setitem__":  # where a mask is true
            tensors = [v for v in self.args[:2] if isinstance(v, Tensor)]
            return len(tensors) == 2 and tensors[1].dtype == torch.bool and tensors[0].shape == tensors[1].shape
        return is_element_wise(self.name) or self.name in CHOOSING

    def is_element_wise(self, found: Tensor) -> bool:
        """Return whether the function acts number by number on what depends on the input."""
        if not self.is_known_element_wise():
            return False
        if self.name in ("max", "min") and (len(self.given) < 2 or "dim" in self.options):
            return False
        pairs = zip(self.given, self.values, strict=True)
        return all(value is None or keeps_places(self.name, tensor, found) for tensor, value in pairs)

    def overwrites(self, found: Tensor) -> int | None:
        """Return the position of the argument that the function returned, if it did."""
        return next((i for i, tensor in enumerate(self.given) if tensor is found), None)

    def node(self) -> Node | None:
        """Return how the function acts number by number, with its constants as they are now; None if it does not."""
        if not self.is_known_element_wise():
            return None
        func, args, options, values = self.func, self.args, self.options, self.values
        constants = [t.detach().clone() for t, value in zip(self.given, values, strict=True) if value is None]

        def function(operands: list[Tensor]) -> Tensor:
            followed, others = iter(operands), iter(constants)
            tensors = iter([next(others if value is None else followed).clone() for value in values])

            def replaced(argument: Any) -> Any:
                return next(tensors) if isinstance(argument, Tensor) else argument

            copies = tree_map(replaced, list(args))
            result: Tensor | None = func(*copies, **tree_map(replaced, options))
            changed: Tensor = copies[0]
            return changed if result is None else result

        numbers = [v for v in tree_leaves((args, options)) if isinstance(v, int | float) and not isinstance(v, bool)]
        return Node(function, tuple(value.root for value in self.followed), self.name, (*constants, *numbers))

    def recipe(self, found: Tensor) -> Recipe | str:
        """Return how to make the activation that the function is, or why it is none."""
        args, options = list(self.args), dict(self.options)
        position = next(i for i, value in enumerate(self.values) if value is not None)
        if position == 1 and self.name in SYMMETRIC:
            args = [self.given[1], self.given[0]]
        elif position > 0:
            return "it is called in a way that is not known here"
        elif not args:
            options.pop("input", None)
        constants = [spread(self.name, tensor, found) for tensor in tensors_in((args[1:], options))]

        def make(*numbers: Tensor) -> Activation:
            tensors = iter(numbers)
            rest = [next(tensors) if isinstance(argument, Tensor) else argument for argument in args[1:]]
            named = {k: next(tensors) if isinstance(option, Tensor) else option for k, option in options.items()}
            return known_activation(self.name, tuple(rest), named)

        try:
            make(*constants)
        except UnreadableError as error:
            return str(error)
        return make, tuple(constants)


def spread(name: str, constant: Tensor, found: Tensor) -> Tensor:
    """Return a constant of an activation in the shape of what it returns."""
    if name == "prelu" and constant.numel() > 1:
        constant = constant.reshape(-1, *[1] * (found.ndim - 2))
    elif name == "prelu":
        constant = constant.reshape(())
    return constant.detach().expand(found.shape).clone()
