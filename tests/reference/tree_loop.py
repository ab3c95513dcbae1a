"""The best splits of a node as the textbook says: every split of every feature, one after the other."""

from __future__ import annotations

from itertools import pairwise

import numpy as np


def best_splits(
    x: np.ndarray, y: np.ndarray, counts: np.ndarray, rows: np.ndarray, *, min_samples_leaf: int
) -> set[tuple[int, float]]:
    """Features and thresholds that explain most, all that are equally good; none where no split explains anything.

    A threshold is half way between two neighbouring values of the node's rows.
    """
    weight, total = counts[rows].sum(), (counts[rows] * y[rows]).sum()
    least = total * total / weight * (1 + 1e-12)
    best, found = least, set()
    for feature in range(x.shape[1]):
        for low, high in pairwise(np.unique(x[rows, feature])):
            left = rows[x[rows, feature] <= low]
            if min(len(left), len(rows) - len(left)) < min_samples_leaf:
                continue
            part, label = counts[left].sum(), (counts[left] * y[left]).sum()
            rest = total - label
            explained = label * label / part + rest * rest / (weight - part)
            if explained > best:
                best, found = explained, set()
            if explained == best > least:
                found.add((feature, float(low) / 2.0 + float(high) / 2.0))
    return found
