"""The inner loop of the forest kernel: many rows walk down one tree side by side, as LLVM vector code.

``_VECTORS`` registers of ``_LANES`` rows advance together, so that their gathers from memory overlap. The
gathers are written as LLVM's ``masked.gather``, since a loop over node numbers is not vectorised otherwise; a
processor without the instruction gets scalar loads from the same code. The node layout is described in
:mod:`stellarscale.kernels.forest`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

_LANES = 8  # 64-bit node addresses of one 512-bit register
_VECTORS = 8  # registers in flight; 8 measured 1.3x faster than 4
GROUP = _LANES * _VECTORS
"""Rows that walk together; row and leaf buffers are padded to a multiple of it."""


def jit(function: Any) -> Any:
    """Compile without the GIL, cached on disk where that is possible.

    numba's cache does not notice an edit in another module: after a change here, touch ``forest.py``.
    """
    try:
        return njit(nogil=True, error_model="numpy", cache=True)(function)
    except RuntimeError:  # no place to write the cache, as in a read-only container: compile per process
        return njit(nogil=True, error_model="numpy")(function)


class _Vectors:
    """LLVM values of ``_LANES`` lanes; gathers that numba's own loops would not be vectorised into."""

    def __init__(self, builder: ir.IRBuilder) -> None:
        self.builder = builder
        self.word = ir.IntType(64)
        self.words = ir.VectorType(self.word, _LANES)
        self.ints = ir.VectorType(ir.IntType(32), _LANES)
        self.pointers = ir.VectorType(ir.PointerType(), _LANES)

    def const(self, value: int | list[int]) -> ir.Constant:
        """Constant words: one value for all lanes, or one per lane."""
        return ir.Constant(self.words, value if isinstance(value, list) else [value] * _LANES)

    def splat(self, scalar: ir.Value) -> ir.Value:
        """The scalar in every lane."""
        empty = ir.Constant(self.words, ir.Undefined)
        first = self.builder.insert_element(empty, scalar, ir.Constant(ir.IntType(32), 0))
        return self.builder.shuffle_vector(first, empty, ir.Constant(self.ints, [0] * _LANES))

    def gather(self, kind: ir.VectorType, addresses: ir.Value) -> ir.Value:
        """Load one element per lane from byte addresses."""
        name = f"llvm.masked.gather.v{_LANES}i{kind.element.width}.v{_LANES}p0"
        mask = ir.VectorType(ir.IntType(1), _LANES)
        signature = ir.FunctionType(kind, [self.pointers, ir.IntType(32), mask, kind])
        function = self.builder.module.globals.get(name) or ir.Function(self.builder.module, signature, name)
        align = ir.Constant(ir.IntType(32), kind.element.width // 8)
        pointers = self.builder.inttoptr(addresses, self.pointers)
        return self.builder.call(function, [pointers, align, ir.Constant(mask, [1] * _LANES), ir.Constant(kind, None)])

    def step(self, node: ir.Value, tree: ir.Value, row: ir.Value, shift: ir.Value) -> ir.Value:
        """Addresses of the children that the rows take from the loaded nodes."""
        b = self.builder
        value = self.gather(self.ints, b.add(row, b.shl(b.lshr(node, shift), self.const(2))))
        right = b.zext(b.icmp_signed(">", value, b.trunc(node, self.ints)), self.words)
        left = b.and_(b.lshr(node, self.const(28)), self.const((2**23 - 1) << 4))  # pair x 16 bytes
        return b.add(b.add(tree, left), b.shl(right, self.const(3)))

    def leaf_number(self, node: ir.Value) -> ir.Value:
        """Number of the leaf within its tree: the threshold, inverted in right siblings."""
        number = self.builder.trunc(node, self.ints)
        return self.builder.xor(number, self.builder.ashr(number, ir.Constant(self.ints, [31] * _LANES)))


def _emit_walk(_context: Any, builder: ir.IRBuilder, _signature: Any, args: tuple[ir.Value, ...]) -> ir.Value:
    tree_address, rows_address, out_address, row_bytes, shift_bits, depth = args
    lanes = _Vectors(builder)
    tree, shift = lanes.splat(tree_address), lanes.splat(shift_bits)
    numbers = [lanes.const(list(range(v * _LANES, (v + 1) * _LANES))) for v in range(_VECTORS)]
    rows = [builder.add(lanes.splat(rows_address), builder.mul(lanes.splat(row_bytes), n)) for n in numbers]
    loop, after = builder.append_basic_block("level"), builder.append_basic_block("leaf")
    before = builder.block
    builder.branch(loop)
    builder.position_at_end(loop)
    level = builder.phi(lanes.word)
    at = [builder.phi(lanes.words) for _ in rows]
    nodes = [lanes.gather(lanes.words, address) for address in at]
    following = [lanes.step(node, tree, row, shift) for node, row in zip(nodes, rows, strict=True)]
    next_level = builder.add(level, ir.Constant(lanes.word, 1))
    builder.cbranch(builder.icmp_signed("<", next_level, depth), loop, after)
    for phi, start, end in [(level, ir.Constant(lanes.word, 0), next_level)] + [
        (phi, tree, end) for phi, end in zip(at, following, strict=True)
    ]:
        phi.add_incoming(start, before)
        phi.add_incoming(end, loop)
    builder.position_at_end(after)
    for v, address in enumerate(following):
        out = builder.add(out_address, ir.Constant(lanes.word, v * _LANES * 4))
        leaf = lanes.leaf_number(lanes.gather(lanes.words, address))
        builder.store(leaf, builder.inttoptr(out, ir.PointerType()), align=4)
    return ir.Constant(ir.IntType(8).as_pointer(), None)


@intrinsic
def _walk_group(typing_context, tree_address, rows_address, out_address, row_bytes, shift, depth):
    """Leaf numbers (int32) of ``GROUP`` rows after ``depth`` >= 1 steps; arguments are 64-bit integers."""
    return types.void(*[types.uint64] * 5, types.int64), _emit_walk


@jit
def find_leaves(nodes, start, depth, rows, n_rows, shift, leaves):
    """Number of the leaf that each row reaches in the tree at slot ``start``; buffers hold whole groups."""
    tree_address = np.uint64(nodes.ctypes.data) + np.uint64(start) * np.uint64(8)
    rows_address, leaves_address = np.uint64(rows.ctypes.data), np.uint64(leaves.ctypes.data)
    row_bytes = np.uint64(rows.shape[1] * 4)
    for first in range(0, n_rows, GROUP):
        row, out = rows_address + np.uint64(first) * row_bytes, leaves_address + np.uint64(first * 4)
        _walk_group(tree_address, row, out, row_bytes, np.uint64(shift), np.int64(max(depth, 1)))  # type: ignore[call-arg]
