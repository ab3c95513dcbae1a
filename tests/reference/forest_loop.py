"""Forest prediction as one plain loop over rows, trees and levels: what the packed kernel must equal."""

from __future__ import annotations

import math

import numpy as np


def leaf_of(tree, row: np.ndarray) -> int:
    """Node number of the leaf of a scikit-learn tree that a float32 row reaches."""
    node = 0
    while tree.children_left[node] != -1:
        value = float(row[tree.feature[node]])
        if math.isnan(value):
            left = bool(tree.missing_go_to_left[node])
        else:
            left = value <= tree.threshold[node]
        node = tree.children_left[node] if left else tree.children_right[node]
    return int(node)


def tree_values(estimator, x: np.ndarray) -> np.ndarray:
    """Each tree's prediction for each float32 row: float64, (n_trees, n)."""
    trees = [member.tree_ for member in estimator.estimators_]
    return np.array([[tree.value[leaf_of(tree, row), 0, 0] for row in x] for tree in trees]).reshape(len(trees), len(x))


def predict_loop(estimator, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and population standard deviation over trees, float64, (n,) each."""
    values = tree_values(estimator, x)
    return values.mean(axis=0), values.std(axis=0)
