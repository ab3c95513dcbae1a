"""Random-forest prediction: mean and spread over the trees, for float32 rows, in one pass.

A node is one 64-bit word. Its high half holds the feature (8 bits) and the slot of the left child (24 bits; the
right one is beside it, so the slot is even, and its lowest bit says that missing values go left); its low half
is the threshold as an unsigned integer that orders like the float32 it came from. Nodes of a tree stand
breadth-first. A leaf points at its own pair of slots and compares its low half (the leaf number, with the top
bit set in left siblings) with a column that is always the key of zero, so it loops on itself whatever the row
holds, and every row can take the same number of steps without a branch.

Trees are the outer loop, so that one tree stays in the cache for many rows, and rows are first sorted by their
leaf in tree 0, so that neighbours take similar ways, and the same one at first.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stellarscale.errors import ModelError
from stellarscale.kernels.forest_rows import (
    ABOVE_ALL,
    ZERO_KEY,
    fill_bounds,
    fill_rows,
    has_nan,
    sort_by_leaf,
    take_rows,
)
from stellarscale.kernels.forest_walk import (
    FEATURE_SHIFT,
    GROUP,
    LEAF_MASK,
    LEFT_MASK,
    MISSING_LEFT,
    SPAN,
    bring_in,
    find_leaves,
    jit,
    row_columns,
)

MAX_FEATURES = 255
MAX_SLOTS = 2**24  # a tree's nodes, plus the empty slot beside its root

_BLOCK_ROWS = 131_072  # sorted together, at most: the more, the nearer the neighbours; 262k measured no better
_CHUNK_ROWS = 500 * SPAN  # walk down a tree before it is brought in again: other rows push it out of the cache
_SLOTS_PER_ROW = 128  # a tree with more is not worth bringing in whole; break-even measured at 200


@dataclass(frozen=True)
class PackedForest:
    """A fitted regression forest as flat arrays.

    Parameters
    ----------
    nodes : numpy.ndarray of uint64, (n_slots,)
        All trees' nodes, each tree breadth-first with siblings adjacent; slot 1 of a tree is empty.
    tree_start : numpy.ndarray of int64, (n_trees + 1,)
        First slot of each tree, then ``n_slots``.
    leaf_values : numpy.ndarray of float64, (n_leaves,)
        Predicted values in the label's unit.
    leaf_start : numpy.ndarray of int64, (n_trees + 1,)
        First leaf of each tree, then ``n_leaves``.
    depth : numpy.ndarray of int32, (n_trees,)
        Steps from the root to the deepest leaf.
    n_features : int
        Columns of a row.
    """

    nodes: np.ndarray
    tree_start: np.ndarray
    leaf_values: np.ndarray
    leaf_start: np.ndarray
    depth: np.ndarray
    n_features: int

    @property
    def n_trees(self) -> int:
        """Number of trees."""
        return len(self.depth)


def order_keys(values: np.ndarray) -> np.ndarray:
    """Map float32 to uint32 so that integers order exactly as the floats do, with -0.0 equal to +0.0.

    Parameters
    ----------
    values : numpy.ndarray of float32
        Any shape; not NaN.

    Returns
    -------
    numpy.ndarray of uint32, same shape
    """
    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    return np.where(bits < ZERO_KEY, bits + ZERO_KEY, np.uint32(0) - bits)


def inner_nodes(feature: np.ndarray, left: np.ndarray, keys: np.ndarray, missing_left: np.ndarray) -> np.ndarray:
    """Words of nodes that split.

    Parameters
    ----------
    feature, left : numpy.ndarray of int, (n,)
        Feature, and slot of the left child (even) within the tree.
    keys : numpy.ndarray of uint32, (n,)
        Thresholds by :func:`order_keys`: a row goes left when its key is not above.
    missing_left : numpy.ndarray, (n,)
        True or 1 where a row without the feature goes left.

    Returns
    -------
    numpy.ndarray of uint64, (n,)
    """
    high = (feature.astype(np.int64) << FEATURE_SHIFT) | left | np.where(missing_left, MISSING_LEFT, 0)
    return (high.astype(np.uint64) << np.uint64(32)) | keys


def leaf_nodes(slot: np.ndarray, number: np.ndarray, n_features: int) -> np.ndarray:
    """Words of leaves, from their slots and numbers within the tree, int64; see :func:`inner_nodes`."""
    own_pair = slot & LEFT_MASK
    keys = np.where(slot == own_pair, number | int(ZERO_KEY), number).astype(np.uint32)
    return inner_nodes(np.full(len(slot), n_features), own_pair, keys, np.zeros(len(slot), dtype=bool))


def predict(packed: PackedForest, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of the trees' predictions for each row.

    Equal to scikit-learn's ``predict`` up to the order of summation; NaN features take each node's learnt
    direction. Runs on one thread and releases the GIL; a row's result does not depend on the rows beside it.

    Parameters
    ----------
    packed : PackedForest
        The forest; :func:`check_packed` must accept it.
    x : numpy.ndarray of float32, (n, n_features)
        Rows, C-contiguous (other layouts are copied).

    Returns
    -------
    mean, std : numpy.ndarray of float64, (n,)
        In the label's unit; ``std`` is the population standard deviation over trees.

    Raises
    ------
    ModelError
        If ``x`` is not float32 or has another number of columns.
    """
    if x.ndim != 2 or x.shape[1] != packed.n_features or x.dtype != np.float32:
        raise ModelError(
            "The feature array does not fit the forest",
            seen=f"shape {x.shape}, {x.dtype}",
            needed=f"shape (n, {packed.n_features}), float32",
            cause="the model was trained on other features",
        )
    bits = _frozen(np.ascontiguousarray(x).view(np.uint32))
    arrays = (packed.nodes, packed.tree_start, packed.leaf_values, packed.leaf_start, packed.depth)
    return _predict(*(_frozen(a) for a in arrays), bits)


def check_packed(packed: PackedForest, *, where: object = None) -> None:
    """Refuse arrays that could send the kernel outside them.

    Parameters
    ----------
    packed : PackedForest
        Arrays from outside this process, such as a file.
    where : object, optional
        Named in the error.

    Raises
    ------
    ModelError
        If types, lengths or offsets disagree, or a node points outside its tree.
    """
    expected = {"nodes": "u8", "tree_start": "i8", "leaf_values": "f8", "leaf_start": "i8", "depth": "i4"}
    for name, kind in expected.items():
        array = getattr(packed, name)
        if array.ndim != 1 or array.dtype != np.dtype(f"<{kind}"):
            raise ModelError(f"Forest array {name!r} has the wrong type", where=where, seen=array.dtype, needed=kind)
    starts = (packed.tree_start, len(packed.nodes)), (packed.leaf_start, len(packed.leaf_values))
    for start, end in starts:
        whole = len(start) == packed.n_trees + 1 > 1 and start[0] == 0 and start[-1] == end
        if not whole or np.any(np.diff(start) < 1):
            raise ModelError("Forest offsets do not cover its arrays", where=where, seen=start, needed=f"0 .. {end}")
    if not 1 <= packed.n_features <= MAX_FEATURES:
        raise ModelError("Forest has too many features", where=where, seen=packed.n_features, needed=MAX_FEATURES)
    tree = _first_bad_tree(
        *(_frozen(a) for a in (packed.nodes, packed.tree_start, packed.leaf_start, packed.depth)),
        packed.n_features,
    )
    if tree >= 0:
        raise ModelError(
            "A forest node points outside its tree", where=where, seen=f"tree {tree}", cause="damaged model"
        )


def _frozen(array: np.ndarray) -> np.ndarray:
    """Read-only plain view, so that mapped files and fresh arrays share one compiled kernel."""
    view = np.asarray(array).view()
    view.flags.writeable = False
    return view


@jit
def _sorted_rows(tree, depth, n_leaves, bits, wide):
    """Keys of the rows, sorted by leaf of a tree, their bounds, and the rows' numbers in that order."""
    n_rows, columns = len(bits), row_columns(bits.shape[1], wide)
    rows = np.full(((n_rows + GROUP - 1) // GROUP * GROUP, columns), ZERO_KEY)
    bounds = np.zeros(((n_rows + SPAN - 1) // SPAN, 2, columns), np.uint32)
    order, leaves = np.arange(n_rows), np.empty(len(rows), np.int32)
    fill_rows(bits, wide, rows)
    bounds[:, 1] = ABOVE_ALL  # with the zeros in [:, 0]: unsorted rows have no way in common
    find_leaves(tree, depth, rows, bounds, wide, leaves)
    sort_by_leaf(leaves, n_leaves, order)
    rows = take_rows(rows, order)
    fill_bounds(rows[:n_rows], SPAN, bounds)
    return rows, bounds, order


@jit
def _set(values, leaves, origin):
    for i in range(len(origin)):
        origin[i] = values[leaves[i]]


@jit
def _add(values, leaves, origin, total, squares):
    """Add one tree; sums about the first tree's value keep the variance's cancellation below n_trees x epsilon."""
    for i in range(len(origin)):
        offset = values[leaves[i]] - origin[i]
        total[i] += offset
        squares[i] += offset * offset


@jit
def _predict_block(nodes, tree_start, leaf_values, leaf_start, depth, bits, mean, std):
    n_rows, wide = len(bits), has_nan(bits)
    rows, bounds, order = _sorted_rows(nodes[: tree_start[1]], depth[0], leaf_start[1], bits, wide)
    leaves = np.empty(_CHUNK_ROWS, np.int32)
    origin, total, squares = np.empty(n_rows), np.zeros(n_rows), np.zeros(n_rows)
    for t in range(len(depth)):
        tree = nodes[tree_start[t] : tree_start[t + 1]]
        values = leaf_values[leaf_start[t] : leaf_start[t + 1]]
        for a in range(0, n_rows, _CHUNK_ROWS):
            b = min(a + _CHUNK_ROWS, n_rows)
            if (b - a) * _SLOTS_PER_ROW > len(tree):
                bring_in(tree)
                bring_in(values)
            here = bounds[a // SPAN : (b + SPAN - 1) // SPAN]
            find_leaves(tree, depth[t], rows[a : a + _CHUNK_ROWS], here, wide, leaves)
            if t == 0:
                _set(values, leaves, origin[a:b])
            _add(values, leaves, origin[a:b], total[a:b], squares[a:b])
    for i in range(n_rows):
        shifted = total[i] / len(depth)
        mean[order[i]] = origin[i] + shifted
        std[order[i]] = np.sqrt(max(squares[i] / len(depth) - shifted * shifted, 0.0))


@jit
def _predict(nodes, tree_start, leaf_values, leaf_start, depth, bits):
    n = bits.shape[0]
    mean, std = np.empty(n), np.empty(n)
    n_blocks = (n + _BLOCK_ROWS - 1) // _BLOCK_ROWS
    for block in range(n_blocks):
        a, b = block * n // n_blocks, (block + 1) * n // n_blocks
        _predict_block(nodes, tree_start, leaf_values, leaf_start, depth, bits[a:b], mean[a:b], std[a:b])
    return mean, std


@jit
def _first_bad_tree(nodes, tree_start, leaf_start, depth, n_features):
    for t in range(len(depth)):
        n_slots, n_leaves = tree_start[t + 1] - tree_start[t], leaf_start[t + 1] - leaf_start[t]
        level = np.zeros(max(n_slots, 2), np.int32)
        if n_slots % 2 or tree_start[t] % 2:
            return t
        for slot in range(n_slots):
            high = np.int64(nodes[tree_start[t] + slot] >> np.uint64(32))
            feature, left = high >> FEATURE_SHIFT, high & LEFT_MASK
            low = np.int64(nodes[tree_start[t] + slot] & np.uint64(0xFFFFFFFF))
            if feature == n_features:
                stays = left == slot & LEFT_MASK and (low > LEAF_MASK) == (slot == left) and not high & MISSING_LEFT
                if not stays or low & LEAF_MASK >= n_leaves or level[slot] > depth[t]:
                    return t
            elif feature > n_features or not slot < left < n_slots:
                return t
            else:
                level[left : left + 2] = max(level[left], level[slot] + 1)
    return -1
