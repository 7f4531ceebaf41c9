"""Functions of torch that are affine in the tensors which depend on a module's input, and why others are not."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from replication.reading.functions import NORMALISATIONS, SAME_NUMBERS, NoMapError
from replication.reading.known_activations import JUMPING, UNARY

# affine in all their tensors together
JOINTLY = frozenset({
    "__getitem__", "__iadd__", "__setitem__", "adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d",
    "add", "adjoint", "atleast_1d", "atleast_2d", "atleast_3d", "avg_pool1d", "avg_pool2d", "avg_pool3d",
    "block_diag", "broadcast_tensors", "cat", "channel_shuffle", "chunk", "column_stack", "concat", "concatenate",
    "copy", "cumsum", "diag", "diag_embed", "diagonal", "diff", "dsplit", "dstack", "fill", "flip", "fliplr",
    "flipud", "fold", "gather", "hsplit", "hstack", "index_add", "index_copy", "index_fill", "index_put",
    "index_select", "interpolate", "masked_fill", "masked_scatter", "masked_select", "mean", "moveaxis", "movedim",
    "narrow", "native_channel_shuffle", "neg", "pad", "permute", "pixel_shuffle", "pixel_unshuffle", "ravel", "real",
    "repeat", "repeat_interleave", "roll", "rot90", "row_stack", "rsub", "scatter", "scatter_add", "select",
    "select_scatter", "slice_scatter", "split", "split_with_sizes", "stack", "sub", "sum", "swapaxes", "swapdims",
    "t", "take", "take_along_dim", "tensor_split", "tile", "transpose", "trapezoid", "trapz", "tril", "triu",
    "unbind", "unfold", "unsafe_chunk", "unsafe_split", "upsample", "upsample_bilinear", "upsample_nearest", "vsplit",
    "vstack", "where", "zero", *SAME_NUMBERS,
})  # fmt: skip
# affine in each of their tensors alone
ALONE = frozenset({
    "__imatmul__", "__rmatmul__", "bilinear", "bmm", "chain_matmul", "conv1d", "conv2d", "conv3d", "conv_tbc",
    "conv_transpose1d", "conv_transpose2d", "conv_transpose3d", "convolution", "cross", "dot", "einsum", "ger",
    "inner", "kron", "linalg_matmul", "linalg_multi_dot", "linalg_vecdot", "linear", "matmul", "mul", "multi_dot",
    "mv", "outer", "tensordot", "vdot", "vecdot",
})  # fmt: skip
# affine in the first and in one of the two after it
WITH_PRODUCT = frozenset({"addbmm", "addcmul", "addmm", "addmv", "addr", "baddbmm"})
# affine in the first alone
IN_THE_FIRST = frozenset({"div", "grid_sample"})
# that act number by number when one tensor has the result's shape
ELEMENT_WISE = frozenset({"__iadd__", "add", "sub", "rsub", "mul", "div", "neg", *SAME_NUMBERS})
DROPOUTS = frozenset({"dropout"})
NORMS_OF_STATISTICS = frozenset({"batch_norm", "instance_norm"})

PICKING = frozenset({
    "amax", "amin", "argmax", "argmin", "argsort", "cummax", "cummin", "kthvalue", "max", "maximum", "median", "min",
    "minimum", "mode", "quantile", "sort", "topk",
})  # fmt: skip
RANDOM = frozenset({
    "bernoulli", "cauchy", "exponential", "geometric", "log_normal", "multinomial", "normal", "poisson", "rand_like",
    "randint_like", "randn_like", "random", "uniform",
})  # fmt: skip

CANNOT_CERTIFY = "such a module can at best be inverted without a certificate"
MULTIPLIES = f"it multiplies values that depend on the input; {CANNOT_CERTIFY}"


def reason_against(name: str, args: tuple[Any, ...], options: dict[str, Any], followed: list[bool]) -> str | None:
    """Say why a function is not affine in its followed tensors, or None if it is.

    Args:
        name: of the function, as `name_of` has it.
        args, options: what it is called with.
        followed: for each tensor among these, in order, whether it depends on the module's input.

    Raises:
        NoMapError: if it is no map of single rows.
    """
    count = sum(followed)
    if name in DROPOUTS:
        check_dropout(args, options)
        return None
    if name in NORMS_OF_STATISTICS:
        return statistics(name, args, options, count)
    if name in JOINTLY:
        return None
    if name in RANDOM:
        raise NoMapError("it draws random numbers; call module.eval() first")
    if name in ALONE:
        return None if count == 1 else MULTIPLIES
    if name in WITH_PRODUCT:
        return None if sum(followed[1:3]) <= 1 else MULTIPLIES
    if name == "lerp":
        weight_followed = len(followed) == 3 and followed[2]
        return MULTIPLIES if weight_followed else None
    if name in IN_THE_FIRST:
        first = bool(args) and isinstance(args[0], Tensor) and followed[0] and count == 1
        return None if first else f"it divides by a value of the input; {CANNOT_CERTIFY}"
    return why_not_affine(name)


def check_dropout(args: tuple[Any, ...], options: dict[str, Any]) -> None:
    """Refuse dropout that is on."""
    probability = argument(args, options, 1, "p", 0.5)
    if argument(args, options, 2, "training", options.get("train", True)) and probability > 0:
        raise NoMapError("it draws random numbers in training mode; call module.eval() first")


def statistics(name: str, args: tuple[Any, ...], options: dict[str, Any], count: int) -> str | None:
    """Refuse normalisation by statistics of the batch, and return why that by a row's own is not affine."""
    if name == "instance_norm":
        if argument(args, options, 5, "use_input_stats", True):
            return f"it normalises each row by statistics of that row's own, so it is not affine; {CANNOT_CERTIFY}"
    elif argument(args, options, 5, "training", False):
        raise NoMapError(
            "it uses the statistics of the batch, so it is no map of single rows; keep running statistics, and "
            "call module.eval() first"
        )
    return None if count == 1 else f"its weights depend on the input; {CANNOT_CERTIFY}"


def argument(args: tuple[Any, ...], options: dict[str, Any], position: int, name: str, default: Any) -> Any:
    """Return an argument of a call, given by position or by name."""
    return args[position] if len(args) > position else options.get(name, default)


def why_not_affine(name: str) -> str:
    """Say why a function is neither affine nor an activation."""
    if name in NORMALISATIONS:
        return f"it divides each row by a number of that row's own, so it is not affine; {CANNOT_CERTIFY}"
    if "softmax" in name or "softmin" in name:
        return f"it mixes numbers in a way that is not affine; {CANNOT_CERTIFY}"
    if "attention" in name:
        return f"its weights depend on the input; {CANNOT_CERTIFY}"
    if name == "glu":
        return MULTIPLIES
    if "max_pool" in name or name in PICKING:
        return f"it picks numbers by their size; {CANNOT_CERTIFY}"
    if name in JUMPING or "quantize" in name:
        return f"it jumps; {CANNOT_CERTIFY}"
    if "fft" in name or "complex" in name:
        return "it works with complex numbers; write it as real matrices"
    return f"it is neither an affine map nor an activation known here; {CANNOT_CERTIFY}"


def is_element_wise(name: str) -> bool:
    """Return whether a function acts number by number, if its tensors have the shape of its result."""
    return name in UNARY or name in ELEMENT_WISE or name in DROPOUTS


def keeps_places(name: str, given: Tensor, found: Tensor) -> bool:
    """Return whether each number of a result stems from the one at the same place of a tensor."""
    moved = name in SAME_NUMBERS and found.stride() != given.stride() and name in ("__get__", "view", "reshape")
    return given.shape == found.shape and not moved
