"""What torch's functions make of affine values: those that can be read, by name and with torch's own arguments."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from replication.reading.affine import Affine, Identity, Kernel, Sides, expanded_kernel, shared_by_rows
from replication.reading.guest import UnreadableError

Operand = Affine | Tensor | float


class NoMapError(UnreadableError):
    """What makes a module no map of single elements of the batch at all, whatever else it does."""


# that leave the numbers as they are, if the result has the argument's shape and precision
SAME_NUMBERS = frozenset({
    "__get__", "alias", "broadcast_to", "clone", "contiguous", "cpu", "cuda", "detach", "double", "expand",
    "expand_as", "flatten", "float", "positive", "requires_grad_", "reshape", "reshape_as", "squeeze", "to",
    "type_as", "unflatten", "unsqueeze", "view", "view_as",
})  # fmt: skip
# whose result does not depend on the numbers
CONSTANTS = frozenset({
    "empty_like", "full_like", "new_empty", "new_full", "new_ones", "new_zeros", "ones_like", "zeros_like",
})  # fmt: skip
METADATA = frozenset({
    "__format__", "__get__", "__hash__", "__len__", "__repr__", "dim", "element_size", "get_device", "has_names",
    "is_complex", "is_contiguous", "is_floating_point", "is_inference", "is_pinned", "is_same_size", "is_shared",
    "is_signed", "ndimension", "nelement", "numel", "register_hook", "retain_grad", "size", "storage_offset",
    "stride", "type",
})  # fmt: skip
OPERATORS = {
    "__add__": "add", "__radd__": "add", "__iadd__": "add", "__sub__": "sub", "__isub__": "sub", "subtract": "sub",
    "__rsub__": "rsub", "__mul__": "mul", "__rmul__": "mul", "__imul__": "mul", "multiply": "mul",
    "__truediv__": "div", "__itruediv__": "div", "divide": "div", "true_divide": "div", "__matmul__": "matmul",
    "__neg__": "neg", "negative": "neg", "clip": "clamp", "mm": "matmul",
    "dropout1d": "dropout", "dropout2d": "dropout", "dropout3d": "dropout", "feature_dropout": "dropout",
    "alpha_dropout": "dropout", "feature_alpha_dropout": "dropout",
}  # fmt: skip
ACTIVATIONS = frozenset({
    "abs", "celu", "elu", "erf", "exp", "gelu", "hardshrink", "hardsigmoid", "hardswish", "hardtanh", "leaky_relu",
    "log_sigmoid", "logsigmoid", "mish", "prelu", "relu6", "rrelu", "selu", "sigmoid", "silu", "sin", "softmax",
    "softplus", "softshrink", "softsign", "square", "sqrt", "tanh", "tanhshrink", "threshold", "where", "minimum",
    "maximum",
})  # fmt: skip
NORMALISATIONS = frozenset({
    "layer_norm", "group_norm", "rms_norm", "local_response_norm", "normalize",
})  # fmt: skip
OTHER_CONVOLUTIONS = frozenset({
    "conv1d", "conv3d", "conv_transpose1d", "conv_transpose3d",
})  # fmt: skip


def name_of(func: Callable[..., Any]) -> str:
    """Return the name of a function of torch, the same for its method, operator and in-place forms."""
    name = getattr(func, "__name__", str(func))
    if not name.endswith("__") and name != "requires_grad_":
        name = name.strip("_")
    return OPERATORS.get(name, name)


def why_not(name: str) -> str:
    """Say why a function cannot be read, and what to do about it, if anything."""
    if name in ACTIVATIONS:
        return "it is an activation other than ReLU, the only one that is read"
    if name in NORMALISATIONS:
        return "it divides each row by a number of that row's own, so it is not affine"
    if "pool" in name or name == "interpolate":
        return "it changes the size of the image, and loses information if it shrinks"
    if name in OTHER_CONVOLUTIONS:
        return "of convolutions only those of two dimensions are read"
    return "it is neither an affine map that is read nor a ReLU"


class Functions:
    """The functions that are read, as methods of their names, from values to values.

    Attributes:
        place: of the function that is called, in words.
        rectified: the values that were rectified, in order.
        places: where each was.
    """

    def __init__(self) -> None:
        self.place = ""
        self.rectified: list[Affine] = []
        self.places: list[str] = []

    @classmethod
    def known(cls, name: str) -> bool:
        """Return whether a function is read."""
        return not name.startswith("_") and name != "known" and callable(vars(cls).get(name))

    def add(self, input: Operand, other: Operand, *, alpha: float = 1) -> Affine:
        return added(input, self.mul(other, alpha) if isinstance(other, Affine) else alpha * other)

    def sub(self, input: Operand, other: Operand, *, alpha: float = 1) -> Affine:
        return self.add(input, other, alpha=-alpha)

    def rsub(self, input: Operand, other: Operand, *, alpha: float = 1) -> Affine:
        return self.sub(other, input, alpha=alpha)

    def neg(self, input: Affine) -> Affine:
        return self.mul(input, -1)

    def mul(self, input: Operand, other: Operand) -> Affine:
        value, factor = (input, other) if isinstance(input, Affine) else (other, input)
        if not isinstance(value, Affine) or isinstance(factor, Affine):
            raise UnreadableError("it multiplies two numbers that depend on the input")
        check_unpadded(value)
        return value.scaled(shared_by_rows(torch.as_tensor(factor, dtype=value.bias.dtype), value.shape))

    def div(self, input: Operand, other: Operand) -> Affine:
        if isinstance(other, Affine):
            raise UnreadableError("it divides by a number that depends on the input")
        return self.mul(input, 1 / other)

    def linear(self, input: Operand, weight: Operand, bias: Tensor | None = None) -> Affine:
        value = only_input(input, weight, bias)
        assert isinstance(weight, Tensor)
        return value.through_matrix(weight, bias)

    def matmul(self, input: Operand, other: Operand) -> Affine:
        value = only_input(input, other)
        if not isinstance(other, Tensor) or other.ndim != 2:
            raise UnreadableError("it multiplies by something else than one matrix")
        return value.through_matrix(other.mT, None)

    def addmm(self, input: Operand, mat1: Operand, mat2: Operand, *, beta: float = 1, alpha: float = 1) -> Affine:
        return self.add(self.mul(self.matmul(mat1, mat2), alpha), beta * input)  # type: ignore[operator]

    def pad(self, input: Affine, pad: tuple[int, ...], mode: str = "constant", value: float | None = None) -> Affine:
        check_unpadded(input)
        if len(input.shape) != 3 or len(pad) != 4 or min(pad) < 0 or mode not in ("constant", "circular") or value:
            raise UnreadableError("only images are padded, with zeros or circularly")
        left, right, top, bottom = pad
        return replace(input, sides=(left, right, top, bottom), mode="zeros" if mode == "constant" else "circular")

    def conv2d(
        self,
        input: Operand,
        weight: Operand,
        bias: Tensor | None = None,
        stride: int | tuple[int, ...] = 1,
        padding: str | int | tuple[int, ...] = 0,
        dilation: int | tuple[int, ...] = 1,
        groups: int = 1,
    ) -> Affine:
        value = only_input(input, weight, bias)
        assert isinstance(weight, Tensor)
        if pair(stride) != (1, 1):
            raise UnreadableError("its stride drops pixels; use a stride of 1, or move pixels to channels")
        kernel = expanded_kernel(weight, pair(dilation), groups)
        return convolved(value, kernel, padding_of(kernel, padding), bias)

    def conv_transpose2d(
        self,
        input: Operand,
        weight: Operand,
        bias: Tensor | None = None,
        stride: int | tuple[int, ...] = 1,
        padding: int | tuple[int, ...] = 0,
        output_padding: int | tuple[int, ...] = 0,
        groups: int = 1,
        dilation: int | tuple[int, ...] = 1,
    ) -> Affine:
        value = only_input(input, weight, bias)
        assert isinstance(weight, Tensor)
        if pair(stride) != (1, 1) or pair(output_padding) != (0, 0) or groups != 1:
            raise UnreadableError(
                "a transposed convolution is read with stride 1, one group and no output padding only"
            )
        kernel = expanded_kernel(weight.transpose(0, 1).flip(-2, -1), pair(dilation), 1)
        left, right, top, bottom = padding_of(kernel, padding)
        height, width = kernel.shape[2] - 1, kernel.shape[3] - 1
        return convolved(value, kernel, (width - left, width - right, height - top, height - bottom), bias)

    def relu(self, input: Affine, inplace: bool = False) -> Affine:
        """Note a value as rectified, and return it as a source."""
        check_unpadded(input)
        if any(source > 0 for source in input.parts):
            if isinstance(input.parts.get(0), Identity):
                raise UnreadableError("a ReLU of the sum loses what is negative; take the block without it")
            raise UnreadableError(f"it is a ReLU after another ({self.places[0]}), and one is read")
        self.rectified.append(input)
        self.places.append(self.place)
        return Affine({len(self.rectified): Identity()}, torch.zeros_like(input.bias))

    def clamp(self, input: Affine, min: Any = None, max: Any = None) -> Affine:
        if max is not None or not is_zero(min):
            raise UnreadableError("it is an activation other than ReLU: only clamp(min=0) is one")
        return self.relu(input)

    def clamp_min(self, input: Affine, min: Any) -> Affine:
        return self.clamp(input, min)

    def maximum(self, input: Operand, other: Operand) -> Affine:
        value, bound = (input, other) if isinstance(input, Affine) else (other, input)
        if not isinstance(value, Affine):
            raise UnreadableError(why_not("maximum"))
        return self.clamp(value, bound)

    def threshold(self, input: Affine, threshold: float, value: float, inplace: bool = False) -> Affine:
        if threshold != 0 or value != 0:
            raise UnreadableError(why_not("threshold"))
        return self.relu(input)

    def leaky_relu(self, input: Affine, negative_slope: float = 0.01, inplace: bool = False) -> Affine:
        if negative_slope != 0:
            raise UnreadableError(why_not("leaky_relu"))
        return self.relu(input)

    def dropout(self, input: Affine, p: float = 0.5, training: bool = True, inplace: bool = False) -> Affine:
        if training and p > 0:
            raise NoMapError("it draws random numbers in training mode; call module.eval() first")
        return input

    def batch_norm(
        self,
        input: Affine,
        running_mean: Tensor | None,
        running_var: Tensor | None,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        training: bool = False,
        momentum: float = 0.1,
        eps: float = 1e-5,
    ) -> Affine:
        if training or running_mean is None or running_var is None:
            raise NoMapError(
                "it uses the statistics of the batch, so it is no map of single elements of the batch; keep running "
                "statistics, and call module.eval() first"
            )
        check_unpadded(input)
        factor = 1 / (running_var.double() + eps).sqrt()
        factor = factor if weight is None else factor * weight
        shift = -running_mean * factor if bias is None else bias - running_mean * factor
        shape = (len(factor), *[1] * (len(input.shape) - 1))
        factor, shift = (v.to(input.bias.dtype).reshape(shape).expand(input.shape) for v in (factor, shift))
        return input.scaled(factor).shifted(shift)

    def instance_norm(
        self,
        input: Affine,
        running_mean: Tensor | None = None,
        running_var: Tensor | None = None,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        use_input_stats: bool = True,
        momentum: float = 0.1,
        eps: float = 1e-5,
    ) -> Affine:
        if use_input_stats:
            raise UnreadableError("it normalises each row by statistics of that row's own, so it is not affine")
        return self.batch_norm(input, running_mean, running_var, weight, bias, False, momentum, eps)


def added(a: Operand, b: Operand) -> Affine:
    """Return the sum of a value and another, or a constant that the whole batch shares."""
    value, other = (a, b) if isinstance(a, Affine) else (b, a)
    assert isinstance(value, Affine)
    check_unpadded(value)
    if isinstance(other, Affine):
        check_unpadded(other)
        if other.shape != value.shape:
            raise UnreadableError("it adds values of different shapes")
        return value.plus(other)
    return value.shifted(shared_by_rows(torch.as_tensor(other, dtype=value.bias.dtype), value.shape))


def only_input(input: Operand, *others: Any) -> Affine:
    """Return the input of a layer whose weights do not depend on the module's input."""
    if not isinstance(input, Affine) or any(isinstance(other, Affine) for other in others):
        raise UnreadableError("its weights depend on the input")
    return input


def check_unpadded(value: Affine) -> None:
    """Refuse a value with padding around it."""
    if any(value.sides):
        raise UnreadableError("padding is read only before a convolution")


def convolved(value: Affine, kernel: Tensor, sides: Sides, bias: Tensor | None) -> Affine:
    """Return the convolution of a value, with the padding that it has around it and more zeros on the sides."""
    if value.mode == "circular" and any(sides) and any(value.sides):
        raise UnreadableError("it adds zeros to circular padding")
    if len(value.shape) != 3 or min(sides) < 0:
        raise UnreadableError("a convolution is read of images (batch, channels, height, width)")
    left, right, top, bottom = (a + b for a, b in zip(value.sides, sides, strict=True))
    if (top + bottom + 1, left + right + 1) != tuple(kernel.shape[2:]):
        raise UnreadableError(
            f"it changes the size of the image: a kernel of {kernel.shape[2]}×{kernel.shape[3]} needs "
            f"{kernel.shape[2] - 1} and {kernel.shape[3] - 1} points of padding in all"
        )
    padded = Kernel(kernel, (left, right, top, bottom), value.mode)
    return replace(value, sides=(0, 0, 0, 0), mode="zeros").through_kernel(padded, bias)


def padding_of(kernel: Tensor, padding: str | int | tuple[int, ...]) -> Sides:
    """Return the points of padding that an argument `padding` means for a kernel without dilation."""
    if padding == "same":
        height, width = kernel.shape[2] - 1, kernel.shape[3] - 1
        return width // 2, width - width // 2, height // 2, height - height // 2
    if isinstance(padding, str):  # "valid"
        return 0, 0, 0, 0
    rows, columns = pair(padding)
    return columns, columns, rows, rows


def pair(number: int | tuple[int, ...]) -> tuple[int, int]:
    """Return a number for each direction."""
    numbers = tuple(number) if isinstance(number, tuple | list) else (number,)
    return (numbers * 2)[:2] if len(numbers) == 1 else (numbers[0], numbers[1])


def is_zero(number: Any) -> bool:
    """Return whether a number, or a tensor that does not depend on the input, is all zero."""
    if isinstance(number, Tensor):
        return not number.any()
    return isinstance(number, int | float) and number == 0
