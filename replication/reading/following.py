"""Following a forward pass: every function of torch that is applied to the input, as it is applied, and by which layer.

Torch hands each of its functions to a mode before it is called, whoever calls it: layers, hooks, parametrizations or a
module's own code, in place or not. What the functions are decides what was computed; nothing is inferred from numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.overrides import TorchFunctionMode

from replication.reading.affine import Affine, Identity, shown
from replication.reading.functions import CONSTANTS, METADATA, SAME_NUMBERS, Functions, NoMapError, name_of, why_not
from replication.reading.guest import Guest, UnreadableError


@dataclass(frozen=True)
class Opaque:
    """A value that depends on the input in a way that is not read; `reason` names what stands in the way."""

    reason: str


Value = Affine | Opaque


@dataclass(frozen=True)
class Reading:
    """What a module computes.

    Attributes:
        found: its output.
        output: the value of that.
        rectified: the values that were rectified, in the order of the sources 1, 2, … of affine values.
        places: where each was rectified.
    """

    found: Tensor
    output: Affine
    rectified: tuple[Affine, ...]
    places: tuple[str, ...]


def follow(guest: Guest, x: Tensor) -> Reading:
    """Follow the forward pass of a module on x (batch, *shape), which changes nothing of either.

    Raises:
        ValueError: if it fails, or what it returns is no sum of linear maps of its input and of rectified values.
    """
    follower = Follower(guest.module)
    hooks = (
        register_module_forward_pre_hook(follower.enter),
        register_module_forward_hook(follower.leave, always_call=True),
    )
    try:
        with follower:
            y = guest(x)
    finally:
        for hook in hooks:
            hook.remove()
    if follower.refusal is not None:  # which the module's own code may have caught
        raise follower.refusal
    if not isinstance(y, Tensor):
        raise UnreadableError(f"it returns a {type(y).__name__}, not a tensor; take the part of it that returns one")
    if y.shape != x.shape or y.dtype != x.dtype:
        raise UnreadableError(
            f"it takes a tensor of shape ({shown(tuple(x.shape))}) in {x.dtype} and returns one of shape "
            f"({shown(tuple(y.shape))}) in {y.dtype}; only maps that keep both can be undone"
        )
    value = follower.value_of(y)
    if value is None:
        raise UnreadableError(
            "what it returns does not come from its input by functions of torch that can be followed (it may come from "
            "TorchScript or another library)"
        )
    if isinstance(value, Opaque):
        raise UnreadableError(value.reason)
    return Reading(y, value, tuple(follower.functions.rectified), tuple(follower.functions.places))


class Follower(TorchFunctionMode):
    """Keeps the value of every tensor that depends on the input.

    Attributes:
        stack: the layers whose forward pass is running, by name and kind.
        functions: what is known of torch's functions, and what was rectified.
        refusal: why the module cannot be read at all.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self.names = {id(part): name for name, part in module.named_modules()}
        self.values: dict[int, tuple[Tensor, Value]] = {}  # with the tensors, so that no other gets their place
        self.overwritten: dict[int, Opaque] = {}  # by the address of their memory
        self.stack: list[str] = []
        self.functions = Functions()
        self.refusal: UnreadableError | None = None

    def enter(self, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        """Note that a layer's forward pass begins; that of the module itself brings the input."""
        name = self.names.get(id(module), "")
        self.stack.append(f"{name} ({type(module).__name__})" if name else type(module).__name__)
        if module is self.module and not self.values:
            self.keep(inputs[0], Affine({0: Identity()}, torch.zeros_like(inputs[0][0])))

    def leave(self, module: nn.Module, inputs: Any, outputs: Any) -> None:
        """Note that a layer's forward pass has ended."""
        self.stack.pop()

    def keep(self, tensor: Tensor, value: Value) -> None:
        """Give a tensor its value."""
        self.values[id(tensor)] = (tensor, value)

    def value_of(self, tensor: Tensor) -> Value | None:
        """Return the value of a tensor, None where it does not depend on the input."""
        known = self.values.get(id(tensor))
        return self.overwritten.get(address(tensor)) if known is None else known[1]

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs, name = dict(kwargs or {}), name_of(func)
        given = list(tensors_in((args, kwargs)))
        followed = [value for value in map(self.value_of, given) if value is not None]
        place = f"{name} in {self.stack[-1]}" if self.stack else name
        generator = torch.get_rng_state()
        try:
            value = self.outcome(name, args, kwargs, followed, place) if followed else None
            versions = list(map(version_of, given))
            try:
                result = func(*args, **kwargs)
            except RuntimeError as error:  # shapes that do not fit, say
                if isinstance(value, Opaque):
                    raise NoMapError(f"{value.reason} (then {place} fails)") from error
                raise
            if not torch.equal(generator, torch.get_rng_state()):
                raise NoMapError(f"{place} draws random numbers; call module.eval() first")
            if value is not None:
                changed = [tensor for tensor, was in zip(given, versions, strict=True) if version_of(tensor) != was]
                self.note(name, value, result, changed, given, place)
        except NoMapError as error:
            self.refusal = error
            raise
        return result

    def outcome(
        self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], followed: list[Value], place: str
    ) -> Value:
        """Return the value of what a function makes of followed tensors."""
        opaque = next((value for value in followed if isinstance(value, Opaque)), None)
        if opaque is not None:
            return opaque
        if name in SAME_NUMBERS:
            return followed[0]
        if not Functions.known(name):
            return Opaque(f"{place} stands in the way: {why_not(name)}")
        self.functions.place = place
        try:
            value: Affine = getattr(self.functions, name)(
                *map(self.replaced, args), **{k: self.replaced(v) for k, v in kwargs.items()}
            )
        except NoMapError as error:
            raise NoMapError(f"{place} stands in the way: {error}") from error
        except UnreadableError as error:
            return Opaque(f"{place} stands in the way: {error}")
        except TypeError:
            return Opaque(f"{place} stands in the way: it is called in a way that is not known here")
        return value

    def replaced(self, argument: Any) -> Any:
        """Return the value of a tensor that is followed, and any other argument as it is."""
        value = self.value_of(argument) if isinstance(argument, Tensor) else None
        return argument if value is None else value

    def note(
        self, name: str, value: Value, result: Any, changed: list[Tensor], given: list[Tensor], place: str
    ) -> None:
        """Keep the value of a function's result, and of the arguments that it changed.

        Raises:
            NoMapError: if it took numbers out of torch.
        """
        if name == "__set__":
            changed = given[:1]
        found = list(tensors_in(result))
        if not found and not changed:
            if result is not None and name not in METADATA:
                raise NoMapError(f"{place} takes numbers that depend on the input out of torch, to decide by them, say")
            return
        if name in CONSTANTS and not changed:
            return
        for tensor in (*found, *changed):
            fits = len(found) <= 1 and isinstance(value, Affine) and self.fits(name, tensor, value, given)
            reason = f"{place} stands in the way: it moves numbers, or changes their shape or precision"
            self.keep(tensor, value if fits or isinstance(value, Opaque) else Opaque(reason))
        for tensor in changed:
            self.spoil(
                tensor, Opaque(f"{place} stands in the way: it changes a tensor that is used under another name")
            )

    def fits(self, name: str, tensor: Tensor, value: Affine, given: list[Tensor]) -> bool:
        """Return whether a tensor has the shape and precision of its value, and its numbers their places."""
        left, right, top, bottom = value.sides
        shape = value.shape
        if any(value.sides):
            shape = (shape[0], shape[1] + top + bottom, shape[2] + left + right)
        moved = name == "__get__" and tensor.stride() != given[0].stride()  # x.T of a square x, say
        return tensor.shape[1:] == shape and tensor.dtype == value.bias.dtype and name != "__set__" and not moved

    def spoil(self, changed: Tensor, reason: Opaque) -> None:
        """Distrust all other tensors in the memory of one that was changed in place."""
        place = address(changed)
        self.overwritten[place] = reason
        for tensor, _ in list(self.values.values()):
            if tensor is not changed and address(tensor) == place:
                self.keep(tensor, reason)


def tensors_in(values: Any) -> Iterator[Tensor]:
    """Yield all tensors among arguments or results."""
    if isinstance(values, Tensor):
        yield values
    elif isinstance(values, list | tuple):
        for value in values:
            yield from tensors_in(value)
    elif isinstance(values, dict):
        yield from tensors_in(list(values.values()))


def version_of(tensor: Tensor) -> int:
    """Return how often a tensor was changed in place, 0 for those of inference mode, which are the caller's own."""
    return 0 if tensor.is_inference() else tensor._version


def address(tensor: Tensor) -> int:
    """Return where a tensor's memory begins, or a number that is its own where it has none."""
    try:
        return tensor.untyped_storage().data_ptr() or -id(tensor)
    except (RuntimeError, NotImplementedError):  # sparse tensors and others without memory of their own
        return -id(tensor)
