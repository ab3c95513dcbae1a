"""Fitted scikit-learn forests as the flat arrays of the forest kernel."""

from __future__ import annotations

from typing import Any

import numpy as np

from stellarscale.errors import ModelError
from stellarscale.kernels.forest import MAX_FEATURES, MAX_SLOTS, PackedForest, order_bits


def floor_float32(threshold: np.ndarray) -> np.ndarray:
    """Largest float32 not above each float64 threshold.

    For every float32 ``x``, ``x <= threshold`` exactly when ``x <= floor_float32(threshold)``: scikit-learn
    compares float32 rows with float64 thresholds.

    Parameters
    ----------
    threshold : numpy.ndarray of float64
        Any shape; not NaN.

    Returns
    -------
    numpy.ndarray of float32, same shape
    """
    with np.errstate(over="ignore", under="ignore"):  # infinities are the right answer beyond float32
        nearest = threshold.astype(np.float32)
        below = np.nextafter(nearest, np.float32(-np.inf))
    return np.where(nearest.astype(np.float64) > threshold, below, nearest)


def pack(estimator: Any) -> PackedForest:
    """Pack a fitted single-output regression forest.

    Parameters
    ----------
    estimator : object
        RandomForestRegressor or ExtraTreesRegressor of scikit-learn, or of scikit-learn-intelex (through its
        ``estimators_``).

    Returns
    -------
    PackedForest

    Raises
    ------
    ModelError
        If it is not a fitted single-output regressor, has more than 255 features, or a tree is too large.
    """
    trees = [tree.tree_ for tree in getattr(estimator, "estimators_", [])]
    if not trees:
        raise ModelError("Cannot pack the model", seen=type(estimator).__name__, needed="a fitted regression forest")
    n_features = int(estimator.n_features_in_)
    if n_features > MAX_FEATURES:
        raise ModelError("The forest has too many features to pack", seen=n_features, needed=f"at most {MAX_FEATURES}")
    packed = [_pack_tree(tree, n_features, number) for number, tree in enumerate(trees)]
    nodes, values, depth = zip(*packed, strict=True)
    return PackedForest(
        nodes=np.concatenate(nodes),
        tree_start=_starts(nodes),
        leaf_values=np.concatenate(values),
        leaf_start=_starts(values),
        depth=np.array(depth, dtype=np.int32),
        n_features=n_features,
    )


def _starts(parts: tuple[np.ndarray, ...]) -> np.ndarray:
    return np.concatenate([[0], np.cumsum([len(part) for part in parts])]).astype(np.int64)


def _pack_tree(tree: Any, n_features: int, number: int) -> tuple[np.ndarray, np.ndarray, int]:
    _check_tree(tree, number)
    slot, child, depth = _breadth_first(tree.children_left, tree.children_right)
    leaf = np.flatnonzero(tree.children_left < 0)
    # Leaves keep the source's order: depth-first there, hence spatially close for the kernel's sort by leaf.
    rank = np.arange(len(leaf))
    code = 2 * tree.feature + np.asarray(tree.missing_go_to_left, dtype=np.int64)
    code[leaf], child[leaf] = 2 * n_features, slot[leaf]
    inner = tree.children_left >= 0
    threshold = np.empty(len(slot), dtype=np.int32)
    threshold[inner] = order_bits(floor_float32(tree.threshold[inner]))
    threshold[leaf] = np.where(slot[leaf] % 2 == 1, ~rank, rank)
    nodes = np.empty(len(slot) + 1, dtype=np.uint64)
    nodes[slot] = _words(code, child, threshold)
    nodes[1] = _words(np.array([2 * n_features]), np.array([1]), np.array([~0], dtype=np.int32))[0]
    return nodes, np.ascontiguousarray(tree.value[leaf, 0, 0], dtype=np.float64), depth


def _words(code: np.ndarray, child: np.ndarray, threshold: np.ndarray) -> np.ndarray:
    high = ((code << 23) | (child >> 1)).astype(np.uint64)
    return (high << np.uint64(32)) | threshold.view(np.uint32).astype(np.uint64)


def _check_tree(tree: Any, number: int) -> None:
    if tree.node_count + 1 > MAX_SLOTS:
        raise ModelError(
            "A tree has too many nodes to pack",
            where=f"tree {number}",
            seen=tree.node_count,
            needed=f"at most {MAX_SLOTS - 1}",
            cause="max_depth or min_samples_leaf leave the tree unlimited",
        )
    if tree.value.shape[1:] != (1, 1):
        raise ModelError(
            "Only forests of one label can be packed",
            where=f"tree {number}",
            seen=f"values of shape {tree.value.shape[1:]}",
            needed="(1, 1)",
            cause="the model is a classifier or was trained on several labels at once",
        )


def _breadth_first(left: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    """Slot of each node, slot of its left child (0 for leaves), and the depth; slot 1 stays empty."""
    slot, child = np.zeros(len(left), dtype=np.int64), np.zeros(len(left), dtype=np.int64)
    level, free, depth = np.zeros(1, dtype=np.int64), 2, 0
    while len(inner := level[left[level] >= 0]):
        level = np.column_stack([left[inner], right[inner]]).ravel()
        slot[level] = free + np.arange(len(level))
        child[inner] = slot[level[::2]]
        free, depth = free + len(level), depth + 1
    return slot, child, depth
