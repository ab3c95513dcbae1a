"""The inner loop of the forest kernel: a group of rows walks down one tree side by side, written as LLVM code.

The loads of ``GROUP`` rows overlap, which hides their latency. A step is a handful of scalar instructions (load,
shift, load, mask, compare, add with carry), faster than the vector gathers of today's processors. The loop is emitted
row by row because numba keeps the positions of a loop over an array in memory. The node layout is
described in :mod:`stellarscale.kernels.forest`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

GROUP = 11
"""Rows that walk together, as many as x86-64 has registers for; row and leaf buffers are padded to a multiple."""
SPAN = 6 * GROUP
"""Rows whose common way from the root is walked once."""

FEATURE_SHIFT = 24  # in the high half of a node, with the slot of the left child, always even, and
MISSING_LEFT = 1  # in its lowest bit the way of missing values
LEFT_MASK = 2**FEATURE_SHIFT - 2
LEAF_MASK = 2**31 - 1

_INT, _WORD, _POINTER = ir.IntType(32), ir.IntType(64), ir.PointerType()


def jit(function: Any) -> Any:
    """Compile without the GIL, cached on disk where that is possible.

    numba's cache does not notice an edit in another module: after a change here, touch ``forest.py``.
    """
    try:
        return njit(nogil=True, error_model="numpy", cache=True)(function)
    except RuntimeError:  # no place to write the cache, as in a read-only container: compile per process
        return njit(nogil=True, error_model="numpy")(function)


def _load(builder: ir.IRBuilder, base: ir.Value, index: ir.Value) -> ir.Value:
    """The 32-bit integer at an index."""
    value = builder.load(builder.gep(base, [index], source_etype=_INT), typ=_INT)
    value.align = 4
    return value


def _opaque(builder: ir.IRBuilder, value: ir.Value) -> ir.Value:
    """The value, through an empty piece of assembly that LLVM cannot see into or reorder."""
    return builder.asm(ir.FunctionType(value.type, [value.type]), "", "=r,0", [value], True)


def _step(builder: ir.IRBuilder, tree: ir.Value, at: ir.Value, row: ir.Value, wide: bool) -> ir.Value:
    """Slot of the child that a row takes from the node at a slot.

    The two opaque values keep a row's step together, which takes fewest registers. Without them, LLVM computes
    the parts of all rows' slots first and joins them last: 1.2x slower.
    """
    node = builder.gep(tree, [at], source_etype=_WORD)
    threshold = _opaque(builder, _load(builder, node, ir.Constant(_WORD, 0)))
    high = _load(builder, node, ir.Constant(_WORD, 1))
    column = builder.lshr(high, ir.Constant(_INT, FEATURE_SHIFT))
    if wide:
        missing_left = builder.and_(high, ir.Constant(_INT, MISSING_LEFT))
        column = builder.or_(builder.shl(column, ir.Constant(_INT, 1)), missing_left)
    left = _opaque(builder, builder.zext(builder.and_(high, ir.Constant(_INT, LEFT_MASK)), _WORD))
    right = builder.icmp_unsigned("<", threshold, _load(builder, row, builder.zext(column, _WORD)))
    return builder.add(left, builder.zext(right, _WORD))


def _emit_walk(builder: ir.IRBuilder, args: tuple[ir.Value, ...], wide: bool, fixed: int) -> ir.Value:
    tree, rows, out = (builder.inttoptr(address, _POINTER) for address in args[:3])
    columns, slot, depth = args[3:]
    lanes = [ir.Constant(_WORD, lane) for lane in range(GROUP)]
    if fixed:  # the rows' places become part of the loads, and one register serves all rows: 1.1x faster
        columns = ir.Constant(_WORD, fixed)
    row = [builder.gep(rows, [builder.mul(lane, columns)], source_etype=_INT) for lane in lanes]
    before, loop, after = builder.block, builder.append_basic_block("level"), builder.append_basic_block("leaf")
    builder.branch(loop)
    builder.position_at_end(loop)
    level, at = builder.phi(_WORD), [builder.phi(_WORD) for _ in lanes]
    following = [_step(builder, tree, here, start, wide) for here, start in zip(at, row, strict=True)]
    next_level = builder.add(level, ir.Constant(_WORD, 1))
    builder.cbranch(builder.icmp_signed("<", next_level, depth), loop, after)
    level.add_incoming(ir.Constant(_WORD, 0), before)
    level.add_incoming(next_level, loop)
    for phi, end in zip(at, following, strict=True):
        phi.add_incoming(slot, before)
        phi.add_incoming(end, loop)
    builder.position_at_end(after)
    for lane, leaf in zip(lanes, following, strict=True):
        low = _load(builder, builder.gep(tree, [leaf], source_etype=_WORD), ir.Constant(_WORD, 0))
        number = builder.and_(low, ir.Constant(_INT, LEAF_MASK))
        builder.store(number, builder.gep(out, [lane], source_etype=_INT)).align = 4
    return ir.Constant(ir.IntType(8).as_pointer(), None)


@intrinsic
def _touch(typing_context, address):
    """Load an integer and do nothing with it."""

    def emit(_context: Any, builder: ir.IRBuilder, _signature: Any, args: tuple[ir.Value, ...]) -> ir.Value:
        _opaque(builder, _load(builder, builder.inttoptr(args[0], _POINTER), ir.Constant(_WORD, 0)))
        return ir.Constant(ir.IntType(8).as_pointer(), None)

    return types.void(types.uint64), emit


@jit
def bring_in(array):
    """Read every cache line of an array of 8-byte items in order, much faster than rows reach them in theirs."""
    for i in range(0, len(array), 8):
        _touch(np.uint64(array.ctypes.data) + np.uint64(i * 8))  # type: ignore[call-arg]


_WALK_TYPES = types.void(*[types.uint64] * 5, types.int64)


def _walk(*, wide: bool, columns: int = 0) -> Any:
    """Make the walk for rows of some number of columns, of any number if zero; if wide, a feature has two."""

    @intrinsic
    def walk(typing_context, tree_address, rows_address, out_address, columns_given, slot, depth):
        """Numbers of the leaves that ``GROUP`` rows reach from a slot in ``depth`` >= 1 steps."""
        return _WALK_TYPES, lambda context, builder, signature, args: _emit_walk(builder, args, wide, columns)

    return walk


_walk_16, _walk_32 = _walk(wide=False, columns=16), _walk(wide=False, columns=32)
_walk_any, _walk_wide = _walk(wide=False), _walk(wide=True)


@jit
def row_columns(n_features, wide):
    """Columns of a row: one, or two if wide, for each feature, one more, and what makes the walk fast."""
    if wide:
        return 2 * n_features + 1
    return 16 if n_features < 16 else max(n_features + 1, 32)


@jit
def _common_way(tree, depth, lows, highs, wide):
    """Slot down to which rows between the bounds go together, and its level, above the deepest."""
    slot, level = np.int64(0), 0
    while level < depth - 1:
        node = tree[slot]
        high = np.int64(node >> np.uint64(32))
        column = high >> FEATURE_SHIFT
        if wide:
            column = 2 * column + (high & MISSING_LEFT)
        threshold = np.uint32(node & np.uint64(0xFFFFFFFF))
        if lows[column] > threshold:
            slot = (high & LEFT_MASK) + 1
        elif highs[column] <= threshold:
            slot = high & LEFT_MASK
        else:
            break
        level += 1
    return slot, level


@jit
def find_leaves(tree, depth, rows, bounds, wide, leaves):
    """Number of the leaf that each row reaches in a tree; the buffers of rows and leaves hold whole groups.

    ``bounds`` are the least and largest keys of each column in each ``SPAN`` rows: (n_spans, 2, n_columns).
    """
    rows_address, leaves_address = np.uint64(rows.ctypes.data), np.uint64(leaves.ctypes.data)
    tree_address, columns = np.uint64(tree.ctypes.data), np.uint64(rows.shape[1])
    for span in range(len(bounds)):
        slot, level = _common_way(tree, depth, bounds[span, 0], bounds[span, 1], wide)
        steps = np.int64(max(depth - level, 1))
        for first in range(span * SPAN, min((span + 1) * SPAN, len(rows)), GROUP):
            row, out = rows_address + np.uint64(first) * columns * np.uint64(4), leaves_address + np.uint64(first * 4)
            if wide:
                _walk_wide(tree_address, row, out, columns, np.uint64(slot), steps)
            elif columns == np.uint64(16):
                _walk_16(tree_address, row, out, columns, np.uint64(slot), steps)
            elif columns == np.uint64(32):
                _walk_32(tree_address, row, out, columns, np.uint64(slot), steps)
            else:
                _walk_any(tree_address, row, out, columns, np.uint64(slot), steps)
