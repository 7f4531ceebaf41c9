"""The graph of a forward pass: which calls of torch's functions are activations, and that all others are affine.

An activation's call becomes a block of the general equation, and its result a free input of what is left, as soon as
that goes where it cannot be followed number by number: through a layer, say. Until then it may be part of a larger one,
as the sigmoid in x·sigmoid(x) is.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import count
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.overrides import TorchFunctionMode

from replication.reading.affine_functions import CANNOT_CERTIFY
from replication.reading.blocks import Block, Leaf, Trace
from replication.reading.calls import CHOOSING, Call, Node, Root, Value
from replication.reading.curves import Curve, recognised
from replication.reading.following import address, tensors_in, version_of
from replication.reading.functions import CONSTANTS, METADATA, NoMapError, name_of
from replication.reading.guest import UnreadableError

ALIAS = -2  # in place of a call, for tensors in the memory of one that was overwritten
NEAREST = 8  # ancestors of which an activation is tried to be a function


def trace(run: Callable[[TorchFunctionMode, Tensor], Any], module: nn.Module, x: Tensor) -> Trace:
    """Trace the forward pass of a module on x (batch, *shape).

    Args:
        run: evaluates the module under a mode.
        module: whose layers are named in refusals.

    Raises:
        UnreadableError: if what it returns is no affine function of its input and of activations.
    """
    tracer = Tracer(module)
    tracer.keep(x, Value.fresh((-1, 0)))
    hooks = (
        register_module_forward_pre_hook(tracer.enter),
        register_module_forward_hook(tracer.leave, always_call=True),
    )
    try:
        y = run(tracer, x)
    except Exception:
        if tracer.refusal is None:
            raise
    finally:
        for hook in hooks:
            hook.remove()
    if tracer.refusal is not None:  # which the module's own code may have caught
        raise tracer.refusal
    return tracer.ended(y, x)


class Tracer(TorchFunctionMode):
    """Keeps the value of every tensor that depends on the input.

    Attributes:
        stack: the layers whose forward pass is running, by name and kind.
        nodes: how tensors were computed number by number.
        roots: the values of all tensors, by their names.
        leaves: calls of functions that are not affine.
        blocks: those whose results are free inputs.
        refusal: why the module cannot be read.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.parts = {id(part): name for name, part in module.named_modules()}
        self.values: dict[int, tuple[Tensor, Value]] = {}  # with the tensors, so that no other gets their place
        self.written: dict[int, Tensor] = {}  # tensors that were written to, by the address of their memory
        self.stack: list[str] = []
        self.names: list[str] = []
        self.nodes: dict[Root, Node] = {}
        self.roots: dict[Root, Value] = {}
        self.leaves: dict[int, Leaf] = {}
        self.blocks: dict[int, Block] = {}
        self.refusal: UnreadableError | None = None
        self.eps = 0.0
        self.aliases = count()

    def enter(self, module: nn.Module, inputs: Any) -> None:
        """Note that a layer's forward pass begins."""
        name = self.parts.get(id(module), "")
        self.stack.append(f"{name} ({type(module).__name__})" if name else type(module).__name__)

    def leave(self, module: nn.Module, inputs: Any, outputs: Any) -> None:
        """Note that a layer's forward pass has ended."""
        self.stack.pop()

    def keep(self, tensor: Tensor, value: Value) -> None:
        """Give a tensor its value."""
        self.values[id(tensor)] = (tensor, value)
        self.roots[value.root] = value

    def value_of(self, tensor: Tensor) -> Value | None:
        """Return the value of a tensor, None where it does not depend on the input."""
        known = self.values.get(id(tensor))
        if known is None and address(tensor) in self.written:
            self.keep(tensor, Value((ALIAS, next(self.aliases))))
            known = self.values[id(tensor)]
        return None if known is None else known[1]

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        options, name = dict(kwargs or {}), name_of(func)
        self.names.append(name)
        given = list(tensors_in((args, options)))
        values = [self.value_of(tensor) for tensor in given]
        call = Call(len(self.names) - 1, func, name, args, options, given, values)
        if not any(value is not None for value in values):
            return func(*args, **options)
        versions = list(map(version_of, given))
        node = call.node()
        try:
            result = func(*args, **options)
            changed = [tensor for tensor, was in zip(given, versions, strict=True) if version_of(tensor) != was]
            self.note(call, node, result, changed)
        except UnreadableError as error:
            self.refusal = self.refusal or error
            raise
        except (RuntimeError, TypeError, NotImplementedError) as error:
            reasons = [value.reason for value in values if value is not None and value.reason]
            if reasons:
                self.refusal = UnreadableError(reasons[0])
            raise error
        return result

    def place(self, name: str) -> str:
        """Say where a function is called: in which layer, and in which line of its code."""
        layer = f" in {self.stack[-1]}" if self.stack else ""
        return f"{name}{layer}{line_of_call()}"

    def note(self, call: Call, node: Node | None, result: Any, changed: list[Tensor]) -> None:
        """Keep the values of what a function returned, and of the arguments that it changed.

        Raises:
            NoMapError: if it took numbers out of torch.
            UnreadableError: if an activation on the way is not known.
        """
        found = list(tensors_in(result))
        if not found and not changed:
            if result is not None and call.name not in METADATA:
                raise NoMapError(
                    f"{self.place(call.name)} takes numbers that depend on the input out of torch, to decide by them, "
                    f"say; {CANNOT_CERTIFY}"
                )
            return
        if call.name in CONSTANTS and not changed:
            return
        results = [*found, *(tensor for tensor in changed if all(tensor is not other for other in found))]
        try:
            value = self.outcome(call, results)
        except NoMapError as error:
            raise NoMapError(f"{self.place(call.name)} stands in the way: {error}") from error
        if not value.reason and any(self.has_aliases(tensor) for tensor in changed):
            self.set_free(value)  # as these can no longer be followed number by number
        if node is not None:
            self.nodes[value.root] = node
        for position, tensor in enumerate(results):
            self.keep(tensor, value if position == 0 else other(value, position))
        for tensor in changed:
            self.overwrite(tensor, results, value.reason)

    def outcome(self, call: Call, results: list[Tensor]) -> Value:
        """Return the value of the first tensor that a function returns or changes."""
        fresh = Value.fresh((call.number, 0))
        reason = next((value.reason for value in call.followed if value.reason), "")
        if reason:
            return replace(fresh, reason=reason)
        alone = len(results) == 1 and call.is_element_wise(results[0])
        value = self.element_wise(call, results[0]) if alone else None
        against = call.reason_against() if value is None else None
        reason = (
            f"{self.place(call.name)} stands in the way: {against}" if against else self.precision_lost(call, results)
        )
        if reason:
            return replace(fresh, reason=reason)
        if value is None:
            for operand in call.followed:
                self.set_free(operand)
        return value or fresh

    def precision_lost(self, call: Call, results: list[Tensor]) -> str:
        """Return why numbers cannot be followed any more that became others than of single or double precision."""
        for tensor in results:
            if tensor.dtype in (torch.float32, torch.float64):
                self.eps = max(self.eps, torch.finfo(tensor.dtype).eps)
            elif not (tensor.dtype == torch.bool and call.is_element_wise(tensor)):
                return (
                    f"{self.place(call.name)} stands in the way: it makes numbers of {tensor.dtype}, and those of "
                    f"float32 and float64 are read; {CANNOT_CERTIFY}"
                )
        return ""

    def element_wise(self, call: Call, found: Tensor) -> Value | None:
        """Return the value of what a function made number by number, None if of tensors that have nothing in common."""
        known, root, affine = call.followed, (call.number, 0), call.is_affine()
        common = frozenset.intersection(*(value.ancestors for value in known))
        if (len(known) > 1 and not common) or (affine and call.name in CHOOSING):
            return None
        if affine:
            return Value(root, common | {root}, frozenset().union(*(value.leaves for value in known)))
        value = Value(root, common | {root}, frozenset({call.number}))
        leaf = Leaf(self.place(call.name), value, torch.empty_like(found), overwrites=call.overwrites(found))
        if len(known) == 1:
            position = next(i for i, value in enumerate(call.values) if value is not None)
            leaf = replace(leaf, argument=known[0], position=position, recipe=call.recipe(found))
        self.leaves[call.number] = leaf
        return value

    def set_free(self, value: Value) -> None:
        """Make free inputs of the results of activations that a value is made of.

        Raises:
            UnreadableError: if one is not known.
        """
        if value.reason:
            raise UnreadableError(value.reason)
        for call in sorted(value.leaves - set(self.blocks)):
            self.blocks[call] = self.block(call, self.leaves[call])

    def block(self, call: int, leaf: Leaf) -> Block:
        """Return the activation of a call: that of its own, or the one that it is together with calls before it."""
        shape = tuple(leaf.like.shape)
        refusal = leaf.recipe if isinstance(leaf.recipe, str) else ""
        if leaf.argument is not None and not isinstance(leaf.recipe, str):
            try:
                self.set_free(leaf.argument)
                return Block(call, leaf.place, leaf.position, leaf.recipe, shape, leaf.overwrites)
            except UnreadableError as error:
                refusal = str(error)
        for root in sorted(leaf.value.ancestors - {leaf.value.root}, reverse=True)[:NEAREST]:
            try:
                recipe = recognised(self.curve(leaf.value.root, root), leaf.like, self.eps)
                self.set_free(self.roots[root])
                return Block(call, leaf.place, root, recipe, shape, leaf.overwrites)
            except (UnreadableError, RuntimeError):
                continue
        reason = refusal or "it is part of an element-wise function that is no activation known here"
        reason = reason if "stands in the way" in reason else f"{leaf.place} stands in the way: {reason}"
        raise UnreadableError(f"{reason.removesuffix(f'; {CANNOT_CERTIFY}')}; {CANNOT_CERTIFY}")

    def curve(self, root: Root, of: Root) -> Curve:
        """Return a tensor as a function of one of its ancestors."""
        steps = self.steps(root, of)
        return Curve([(name, self.nodes[name]) for name in steps], of)

    def steps(self, root: Root, of: Root) -> list[Root]:
        """Return the tensors between one and its ancestor, in the order in which they were computed."""
        wanted, found = [root], set()
        while wanted:
            name = wanted.pop()
            if name != of and name not in found:
                found.add(name)
                wanted += self.nodes[name].operands
        return sorted(found)

    def has_aliases(self, tensor: Tensor) -> bool:
        """Return whether other tensors may lie in the memory of one."""
        if tensor._is_view() or id(tensor) not in self.values:
            return True
        place = address(tensor)
        return any(other is not tensor and address(other) == place for other, _ in self.values.values())

    def overwrite(self, changed: Tensor, results: list[Tensor], reason: str) -> None:
        """Give all other tensors in the memory of one that was changed in place values of their own."""
        place = address(changed)
        self.written[place] = changed
        for tensor, _ in list(self.values.values()):
            if address(tensor) == place and all(tensor is not other for other in results):
                self.keep(tensor, Value((ALIAS, next(self.aliases)), reason=reason))

    def ended(self, y: Any, x: Tensor) -> Trace:
        """Return the trace, after a forward pass on x that returned y."""
        if not isinstance(y, Tensor):
            raise UnreadableError(
                f"it returns a {type(y).__name__}, not a tensor; take the part of it that returns one"
            )
        value = self.value_of(y)
        if value is None:
            raise UnreadableError(
                "what it returns does not come from its input by functions of torch that can be followed (it may come "
                "from TorchScript or another library)"
            )
        self.set_free(value)
        if y.shape != x.shape:
            raise UnreadableError(
                f"it takes inputs of shape {tuple(x.shape)} and returns {tuple(y.shape)}; only maps that keep the "
                "shape can be undone"
            )
        blocks = tuple(self.blocks[call] for call in sorted(self.blocks))
        calls = [block.call for block in blocks]
        outer = calls.index(max(value.leaves)) if value.leaves and self.is_activation(value) else None
        return Trace(tuple(self.names), blocks, y, outer, self.eps or torch.finfo(x.dtype).eps)

    def is_activation(self, value: Value) -> bool:
        """Return whether a value is what one activation returned."""
        return len(value.leaves) == 1 and self.leaves[min(value.leaves)].value is value


def other(value: Value, position: int) -> Value:
    """Return the value of another tensor that the same call returned or changed."""
    root = value.root[0], position
    return replace(value, root=root, ancestors=frozenset({root}))


def line_of_call() -> str:
    """Return which line of whose code torch is called from, outside of torch; none where torch has called itself."""
    frame: Any = sys._getframe(1)
    for within in (is_own, is_of_torch):  # from what looks at the call, by way of torch, to whoever called it
        while frame is not None and within(frame.f_globals.get("__name__", "")):
            frame = frame.f_back
    if frame is None or is_own(frame.f_globals.get("__name__", "")):
        return ""
    return f", line {frame.f_lineno} of {getattr(frame.f_code, 'co_qualname', frame.f_code.co_name)}"


def is_own(module: str) -> bool:
    """Return whether a module is one that reads others."""
    return module.startswith("replication.reading")


def is_of_torch(module: str) -> bool:
    """Return whether a module is torch's."""
    return module == "torch" or module.startswith("torch.")
