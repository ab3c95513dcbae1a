"""Grown trees, and fitted scikit-learn forests, as the flat arrays of the forest kernel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from stellarscale.errors import ModelError
from stellarscale.kernels.forest import (
    MAX_FEATURES,
    MAX_SLOTS,
    PackedForest,
    inner_nodes,
    leaf_nodes,
    order_keys,
)


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


@dataclass(frozen=True)
class TreeArrays:
    """One regression tree, node by node; ``left`` and ``right`` are -1 in a leaf.

    Rows with ``x[feature] <= threshold`` go left, and so do rows without the feature where ``missing_left``.
    """

    left: np.ndarray
    right: np.ndarray
    feature: np.ndarray
    threshold: np.ndarray
    value: np.ndarray
    missing_left: np.ndarray


def tree_arrays(tree: Any, number: int = 0) -> TreeArrays:
    """The arrays of a scikit-learn ``tree_``, or of what looks like one.

    Raises
    ------
    ModelError
        If it has more outputs than one; ``number`` names the tree.
    """
    if tree.value.shape[1:] != (1, 1):
        raise ModelError(
            "Only forests of one label can be packed",
            where=f"tree {number}",
            seen=f"values of shape {tree.value.shape[1:]}",
            needed="(1, 1)",
            cause="the model is a classifier or was trained on several labels at once",
        )
    return TreeArrays(
        left=tree.children_left,
        right=tree.children_right,
        feature=tree.feature,
        threshold=tree.threshold,
        value=tree.value[:, 0, 0],
        missing_left=np.asarray(tree.missing_go_to_left),
    )


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
    arrays = (tree_arrays(tree, number) for number, tree in enumerate(trees))
    return join([pack_tree(tree, int(estimator.n_features_in_), number) for number, tree in enumerate(arrays)])


def pack_tree(tree: TreeArrays, n_features: int, number: int = 0) -> PackedForest:
    """A forest of one tree; ``number`` names it in errors.

    Raises
    ------
    ModelError
        If there are more than 255 features, or the tree is too large.
    """
    if n_features > MAX_FEATURES:
        raise ModelError("The forest has too many features to pack", seen=n_features, needed=f"at most {MAX_FEATURES}")
    nodes, values, depth = _pack_tree(tree, n_features, number)
    return PackedForest(
        nodes=nodes,
        tree_start=np.array([0, len(nodes)], dtype=np.int64),
        leaf_values=values,
        leaf_start=np.array([0, len(values)], dtype=np.int64),
        depth=np.array([depth], dtype=np.int32),
        n_features=n_features,
    )


def join(forests: Sequence[PackedForest]) -> PackedForest:
    """The trees of some forests of the same features, in order, as one forest."""
    return PackedForest(
        nodes=np.concatenate([forest.nodes for forest in forests]),
        tree_start=_starts([forest.tree_start for forest in forests]),
        leaf_values=np.concatenate([forest.leaf_values for forest in forests]),
        leaf_start=_starts([forest.leaf_start for forest in forests]),
        depth=np.concatenate([forest.depth for forest in forests]),
        n_features=forests[0].n_features,
    )


def tree_of(forest: PackedForest, number: int) -> PackedForest:
    """One tree of a forest as a forest of its own, without copying its nodes."""
    nodes = slice(*forest.tree_start[number : number + 2])
    leaves = slice(*forest.leaf_start[number : number + 2])
    return PackedForest(
        nodes=forest.nodes[nodes],
        tree_start=np.array([0, nodes.stop - nodes.start], dtype=np.int64),
        leaf_values=forest.leaf_values[leaves],
        leaf_start=np.array([0, leaves.stop - leaves.start], dtype=np.int64),
        depth=forest.depth[number : number + 1],
        n_features=forest.n_features,
    )


def _starts(starts: Sequence[np.ndarray]) -> np.ndarray:
    sizes = np.concatenate([np.diff(start) for start in starts])
    return np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)


def _pack_tree(tree: TreeArrays, n_features: int, number: int) -> tuple[np.ndarray, np.ndarray, int]:
    _check_size(tree, number)
    slot, child, depth = _breadth_first(tree.left, tree.right)
    leaf = np.flatnonzero(tree.left < 0)
    # Leaves keep the source's order: depth-first there, hence spatially close for the kernel's sort by leaf.
    rank = np.arange(len(leaf))
    inner = np.flatnonzero(tree.left >= 0)
    keys = order_keys(floor_float32(tree.threshold[inner]))
    nodes = np.empty(len(slot) + 1, dtype=np.uint64)
    nodes[slot[inner]] = inner_nodes(tree.feature[inner], child[inner], keys, tree.missing_left[inner])
    nodes[slot[leaf]] = leaf_nodes(slot[leaf], rank, n_features)
    nodes[1] = leaf_nodes(np.array([1]), np.array([0]), n_features)[0]
    return nodes, np.ascontiguousarray(tree.value[leaf], dtype=np.float64), depth


def _check_size(tree: TreeArrays, number: int) -> None:
    if len(tree.left) + 1 > MAX_SLOTS:
        raise ModelError(
            "A tree has too many nodes to pack",
            where=f"tree {number}",
            seen=len(tree.left),
            needed=f"at most {MAX_SLOTS - 1}",
            cause="max_depth or min_samples_leaf leave the tree unlimited",
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
