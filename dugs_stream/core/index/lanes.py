"""Vector instructions for the native kernel, as numba intrinsics: 16 inner products at once, and memory by its address.

numba makes no loop of its own that keeps 16 sums in registers, which is worth a factor of three here.
Only `core.index.kernel` imports it, and only where numba is installed.
"""

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

LANES = 16
"""Rows that are multiplied together: one or two vector registers of float32."""

UNROLLED = 4
"""Sums that grow side by side, so that none waits for the one before. The length of a row is a multiple of it."""

_FLOAT = ir.FloatType()
_VECTOR = ir.VectorType(_FLOAT, LANES)
_ZERO = ir.Constant(_VECTOR, [0.0] * LANES)


@intrinsic
def floats_at(typing_context: Any, address: Any) -> Any:
    """The float32 numbers that begin at an address, for `numba.carray`."""
    return types.CPointer(types.float32)(types.intp), _as_pointer


@intrinsic
def flags_at(typing_context: Any, address: Any) -> Any:
    """The truth values of one byte each that begin at an address, for `numba.carray`."""
    return types.CPointer(types.uint8)(types.intp), _as_pointer


def _as_pointer(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))


@intrinsic
def fetch_ahead(typing_context: Any, address: Any) -> Any:
    """Ask the processor to have the 64 bytes at an address in its cache soon; no effect on any number."""
    return types.void(types.intp), _fetch_ahead


def _fetch_ahead(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    byte, number = ir.IntType(8), ir.IntType(32)
    pointer = byte.as_pointer()
    kind = ir.FunctionType(ir.VoidType(), [pointer, number, number, number])
    prefetch = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0i8")
    reading, keep_near, of_data = (ir.Constant(number, each) for each in (0, 3, 1))
    builder.call(prefetch, [builder.inttoptr(arguments[0], pointer), reading, keep_near, of_data])
    return context.get_dummy_value()


@intrinsic
def multiply_lanes(typing_context: Any, query: Any, block: Any, length: Any, products: Any) -> Any:
    """products[j] = Σ query[l] · block[l, j] for 16 rows j, all given by address; returns the greatest.

    query (length,), block (length, 16), products (16,) float32; the length is a multiple of UNROLLED. Fused or not, in
    four sums: the bounds of `core.index.prefix` hold for any order.
    """
    return types.float32(types.intp, types.intp, types.intp, types.intp), _multiply_lanes


def _multiply_lanes(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    query_address, block_address, length, products_address = arguments
    integer = context.get_value_type(types.intp)
    query = builder.inttoptr(query_address, _FLOAT.as_pointer())
    block = builder.inttoptr(block_address, _VECTOR.as_pointer())
    sums = [cgutils.alloca_once_value(builder, _ZERO) for _ in range(UNROLLED)]
    for each in sums:
        builder.store(_ZERO, each)
    with cgutils.for_range(builder, builder.udiv(length, ir.Constant(integer, UNROLLED))) as loop:
        first = builder.mul(loop.index, ir.Constant(integer, UNROLLED))
        for number, each in enumerate(sums):
            place = builder.add(first, ir.Constant(integer, number))
            factor = _in_all_lanes(builder, builder.load(builder.gep(query, [place])))
            column = builder.load(builder.gep(block, [place]), align=4)
            product = builder.fmul(factor, column, flags=("contract",))
            builder.store(builder.fadd(builder.load(each), product, flags=("contract",)), each)
    low, high = (builder.fadd(builder.load(sums[i]), builder.load(sums[i + 1])) for i in (0, 2))
    total = builder.fadd(low, high)
    builder.store(total, builder.inttoptr(products_address, _VECTOR.as_pointer()), align=4)
    greatest = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(_FLOAT, [_VECTOR]), f"llvm.vector.reduce.fmax.v{LANES}f32"
    )
    return builder.call(greatest, [total])


def _in_all_lanes(builder: Any, number: Any) -> Any:
    undefined, index = ir.Constant(_VECTOR, ir.Undefined), ir.IntType(32)
    first = builder.insert_element(undefined, number, ir.Constant(index, 0))
    return builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(index, LANES), [0] * LANES))
