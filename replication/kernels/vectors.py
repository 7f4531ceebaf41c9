"""Vectors for compiled loops: the same step of several rows at once, one row in each lane.

LLVM makes of them what the processor has: two registers of 512 bits, four of 256, or eight of 128. Numba vectorizes
loops over such short dimensions badly, since it cannot know that what is read and what is written do not overlap.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any, cast

from numba import extending, types
from numba.core import cgutils
from numba.extending import models, overload, register_model

ir: Any = cast("Any", cgutils).ir  # llvmlite's, which Numba is built on
LANES = 16  # two registers of 512 bits, so that the one is worked on while the other waits for a division
FLAGS = ("contract", "nsz", "arcp")  # products and sums in one operation


def intrinsic(function: Callable[..., Any]) -> Callable[..., Any]:
    """Let compiled code call what a function generates; it leaves out the first argument."""
    return cast("Callable[..., Any]", extending.intrinsic(function))


class Vector(types.Type):
    """The type of a vector in compiled code."""

    def __init__(self) -> None:
        super().__init__(name=f"Vector{LANES}")


VECTOR = Vector()
NUMBERS = ir.VectorType(ir.DoubleType(), LANES)


@register_model(Vector)
class VectorModel(models.PrimitiveModel):
    """A vector is kept as LLVM's own."""

    def __init__(self, dmm: Any, fe_type: Any) -> None:
        super().__init__(dmm, fe_type, NUMBERS)  # type: ignore[no-untyped-call]


def pointer(context: Any, builder: Any, array_type: Any, array: Any, index: Any) -> Any:
    """Return the address of vector number `index` of a contiguous array."""
    data = cgutils.create_struct_proxy(array_type)(context, builder, array).data
    at = builder.mul(index, ir.Constant(index.type, LANES))
    return builder.bitcast(builder.gep(data, [at]), NUMBERS.as_pointer())


@intrinsic
def load(typing: Any, array: Any, index: Any) -> Any:
    """Return vector number `index` of a contiguous array (…, LANES)."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        loaded = builder.load(pointer(context, builder, signature.args[0], *values))
        loaded.align = 8
        return loaded

    return VECTOR(array, types.uint64), generate


@intrinsic
def store(typing: Any, array: Any, index: Any, vector: Any) -> Any:
    """Write vector number `index` of a contiguous array (…, LANES)."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        builder.store(values[2], pointer(context, builder, signature.args[0], *values[:2])).align = 8
        return context.get_dummy_value()

    return types.void(array, types.uint64, VECTOR), generate


@intrinsic
def constant(typing: Any, number: Any) -> Any:
    """Return a vector of one number."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        vector = builder.insert_element(ir.Constant(NUMBERS, ir.Undefined), values[0], ir.IntType(32)(0))
        lanes = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
        return builder.shuffle_vector(vector, ir.Constant(NUMBERS, ir.Undefined), lanes)

    return VECTOR(types.float64), generate


@intrinsic
def where_positive(typing: Any, condition: Any, vector: Any, other: Any) -> Any:
    """Return in each lane `vector` where the condition is positive, else `other`, also where it is not a number."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        positive = builder.fcmp_ordered(">", values[0], ir.Constant(NUMBERS, [0.0] * LANES))
        return builder.select(positive, *values[1:])

    return VECTOR(VECTOR, VECTOR, VECTOR), generate


@intrinsic
def absolute(typing: Any, vector: Any) -> Any:
    """Return the absolute values."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        one_to_one = ir.FunctionType(NUMBERS, [NUMBERS])
        return builder.call(
            cgutils.get_or_insert_function(builder.module, one_to_one, f"llvm.fabs.v{LANES}f64"), values
        )

    return VECTOR(VECTOR), generate


def arithmetic(name: str) -> Any:
    """Return the intrinsic of one of LLVM's operations on two vectors."""

    @intrinsic
    def operation(typing: Any, left: Any, right: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            return getattr(builder, name)(*values, flags=FLAGS)

        return VECTOR(VECTOR, VECTOR), generate

    return operation


def define(symbol: Callable[[Any, Any], Any], operation: Any) -> None:
    """Let an operator of Python stand for an operation on vectors."""

    def implementation(left, right):  # type: ignore[no-untyped-def]  # Numba compares the signatures
        return operation(left, right)

    overload(symbol)(lambda left, right: implementation if left == right == VECTOR else None)


define(operator.add, arithmetic("fadd"))
define(operator.sub, arithmetic("fsub"))
define(operator.mul, arithmetic("fmul"))
define(operator.truediv, arithmetic("fdiv"))
