"""Growing of one regression tree on binned features: the split of a node is found from histograms of its rows.

A node's best split of a feature needs only the weight and the weighted label of each bin, so no sorting; bins that
a small node does not touch are skipped by a bit map. The rows of a node stand side by side in every column, and are
moved when it is split, so that a histogram reads memory in order. The criterion is that of CART (Breiman et al.
1984): the split that leaves the least variance.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numba.cpython.unsafe.numbers import trailing_zeros
from numpy.typing import NDArray

from stellarscale.kernels.binning import Binned
from stellarscale.kernels.forest_walk import jit

_ROW = np.int64(1) << np.int64(32)  # a counter holds rows above 32 bits of weight
_WEIGHT = _ROW - np.int64(1)
_GAIN = 1e-12  # relative; what is below is rounding


@dataclass(frozen=True)
class HistogramTree:
    """A grown tree, its nodes in depth-first order; children and feature are -1 in a leaf.

    Rows with a feature up to and with ``threshold`` go left; it lies half way between the rows that were drawn, as in
    scikit-learn, and below those that went right. ``gain`` is the sum of squares that the splits by each feature take
    away.
    """

    left: NDArray[np.int32]
    right: NDArray[np.int32]
    feature: NDArray[np.int32]
    threshold: NDArray[np.float64]
    value: NDArray[np.float64]
    gain: NDArray[np.float64]


class _Rows(NamedTuple):
    """The rows that were drawn; ``counts`` holds one row and its weight, ``labels`` weight times label."""

    bins: NDArray[np.uint16]
    counts: NDArray[np.int64]
    labels: NDArray[np.float64]


class _Work(NamedTuple):
    """Histogram of one feature in one node, marks of its bins with rows and of words with marks; space to move rows."""

    hist_counts: NDArray[np.int64]
    hist_labels: NDArray[np.float64]
    touched: NDArray[np.uint64]
    groups: NDArray[np.uint64]
    goes_left: NDArray[np.uint8]
    space_bins: NDArray[np.uint16]
    space_counts: NDArray[np.int64]
    space_labels: NDArray[np.float64]


def grow_tree(
    binned: Binned,
    y: NDArray[np.float64],
    counts: NDArray[np.int64],
    *,
    max_depth: int,
    min_samples_leaf: int,
    n_tried: int,
    seed: int,
) -> HistogramTree:
    """Grow a tree on the rows that were drawn. Runs on one thread and releases the GIL.

    Parameters
    ----------
    binned : Binned
        Features of all rows, shared by the trees of a forest.
    y : ndarray of float64, shape (n,)
        Labels, finite.
    counts : ndarray of int64, shape (n,)
        How often each row was drawn; at least one is not zero.
    max_depth, min_samples_leaf : int
        Steps from the root to a leaf at most; different rows in a leaf at least.
    n_tried : int
        Features tried at each split.
    seed : int
        Seed of the order in which features are tried.
    """
    drawn = np.flatnonzero(counts)
    weight = counts[drawn]
    middle = float(np.average(y[drawn], weights=weight))  # sums about it keep their digits
    bins = np.ascontiguousarray(binned.bins[:, drawn])
    labels = weight * (y[drawn] - middle)
    children, feature, sides, value, gain = _grow(
        bins, max(map(len, binned.low)), weight + _ROW, labels, max_depth, min_samples_leaf, n_tried, seed
    )
    threshold = np.zeros(len(feature))
    for number, (low, high) in enumerate(zip(binned.low, binned.high, strict=True)):
        here = feature == number
        # In float32 the middle of two neighbouring values can be the larger one, whose rows would go left.
        below, above = high[sides[0, here]].astype(np.float64), low[sides[1, here]].astype(np.float64)
        threshold[here] = below / 2.0 + above / 2.0
    return HistogramTree(children[0], children[1], feature, threshold, value + middle, gain)


@jit
def _fill(column, first, end, counts, labels, hist_counts, hist_labels, touched):
    """Add the rows of a node to the histogram, and mark the bins that have any."""
    if end - first < 2 * len(hist_counts):
        for i in range(first, end):
            k = column[i]
            hist_counts[k] += counts[i]
            hist_labels[k] += labels[i]
            touched[k >> 6] |= np.uint64(1) << np.uint64(k & 63)
        return
    for i in range(first, end):  # most bins have rows: it is quicker to mark them after
        k = column[i]
        hist_counts[k] += counts[i]
        hist_labels[k] += labels[i]
    for k in range(len(hist_counts)):
        if hist_counts[k]:
            touched[k >> 6] |= np.uint64(1) << np.uint64(k & 63)


@jit
def _group(column, first, end, touched, groups):
    """Mark the words of the bit map that are not zero; where they are few, all."""
    if len(groups) == 1:
        groups[0] = ~np.uint64(0) >> np.uint64(64 - len(touched))
    elif end - first < len(touched):
        for i in range(first, end):
            word = column[i] >> 6
            groups[word >> 6] |= np.uint64(1) << np.uint64(word & 63)
    else:
        for word in range(len(touched)):
            if touched[word]:
                groups[word >> 6] |= np.uint64(1) << np.uint64(word & 63)


@jit
def _best_cut(hist_counts, hist_labels, touched, groups, all_counts, all_labels, min_leaf):
    """The sum of squares that the best split explains, and the bins beside it (-1: none); clears everything."""
    best, below, above, before = -1.0, np.int64(-1), np.int64(-1), np.int64(-1)
    counts, labels = np.int64(0), 0.0
    for group in range(len(groups)):
        words, groups[group] = groups[group], 0
        while words:
            word = 64 * group + np.int64(trailing_zeros(words))  # type: ignore[call-arg]
            words &= words - np.uint64(1)
            bins, touched[word] = touched[word], 0
            while bins:
                k = 64 * word + np.int64(trailing_zeros(bins))
                bins &= bins - np.uint64(1)
                rows = counts >> 32
                if before >= 0 and rows >= min_leaf and (all_counts >> 32) - rows >= min_leaf:
                    weight, rest = float(counts & _WEIGHT), float((all_counts - counts) & _WEIGHT)
                    explained = labels * labels / weight + (all_labels - labels) * (all_labels - labels) / rest
                    if explained > best:
                        best, below, above = explained, before, k
                counts += hist_counts[k]
                labels += hist_labels[k]
                hist_counts[k], hist_labels[k] = 0, 0.0
                before = k
    return best, below, above


@jit
def _move(values, first, end, goes_left, space):
    """Rows that go left before those that go right, each in their order."""
    left, right = first, 0
    for i in range(first, end):
        value, go = values[i], goes_left[i - first]
        values[left], space[right] = value, value
        left += go
        right += 1 - go
    values[left:end] = space[:right]


@jit
def _draw_feature(features, j, state):
    """Swap a random one of the features from ``j`` on to place ``j`` (xorshift64, Marsaglia 2003)."""
    state ^= state << np.uint64(13)
    state ^= state >> np.uint64(7)
    state ^= state << np.uint64(17)
    other = j + np.int64(state % np.uint64(len(features) - j))
    features[j], features[other] = features[other], features[j]
    return state


@jit
def _total(rows, first, end):
    counts, labels = np.int64(0), 0.0
    for i in range(first, end):
        counts += rows.counts[i]
        labels += rows.labels[i]
    return counts, labels


@jit
def _best_split(rows, first, end, total, limits, features, state, work):
    """Feature (-1: none), the bins beside the split, what it gains, and the state of the random numbers."""
    counts, labels = total
    min_leaf, n_tried = limits
    before = labels * labels / float(counts & _WEIGHT)
    best, feature, bins, tried = before * (1.0 + _GAIN), np.int64(-1), (-1, -1), 0
    for j in range(len(features)):
        if tried >= n_tried and feature >= 0:
            break
        state = _draw_feature(features, j, state)  # always: of splits that are equally good, any may be taken
        column = rows.bins[features[j]]
        _fill(column, first, end, rows.counts, rows.labels, work.hist_counts, work.hist_labels, work.touched)
        _group(column, first, end, work.touched, work.groups)
        explained, below, above = _best_cut(
            work.hist_counts, work.hist_labels, work.touched, work.groups, counts, labels, min_leaf
        )
        tried += below >= 0  # a feature that is constant here is no try, as in scikit-learn
        if explained > best:
            best, feature, bins = explained, features[j], (below, above)
    return feature, bins, best - before, state


@jit
def _divide(rows, first, end, feature, below, work):
    """Move the rows of a node to its children; returns where the right one begins."""
    column, middle = rows.bins[feature], first
    for i in range(first, end):
        work.goes_left[i - first] = column[i] <= below
        middle += work.goes_left[i - first]
    for f in range(len(rows.bins)):
        _move(rows.bins[f], first, end, work.goes_left, work.space_bins)
    _move(rows.counts, first, end, work.goes_left, work.space_counts)
    _move(rows.labels, first, end, work.goes_left, work.space_labels)
    return middle


@jit
def _grow(bins, n_bins, counts, labels, max_depth, min_leaf, n_tried, seed):
    n_features, n = bins.shape
    rows = _Rows(bins, counts, labels)
    work = _Work(
        np.zeros(n_bins, np.int64),
        np.zeros(n_bins),
        np.zeros((n_bins + 63) // 64, np.uint64),
        np.zeros((n_bins + 4095) // 4096, np.uint64),
        np.empty(n, np.uint8),
        np.empty(n, np.uint16),
        np.empty(n, np.int64),
        np.empty(n),
    )
    children, feature = np.full((2, 2 * n - 1), -1, np.int32), np.full(2 * n - 1, -1, np.int32)
    sides, value, gain = np.zeros((2, 2 * n - 1), np.int32), np.empty(2 * n - 1), np.zeros(n_features)
    features, state = np.arange(n_features), np.uint64(seed) * np.uint64(2) + np.uint64(1)
    n_nodes, waiting = 0, [(0, n, 0, -1, 0)]  # rows from, up to; depth; parent and side: the last is the next
    while len(waiting) > 0:
        first, end, depth, parent, side = waiting.pop()
        node, n_nodes = n_nodes, n_nodes + 1
        if parent >= 0:
            children[side, parent] = node
        total = _total(rows, first, end)
        value[node] = total[1] / float(total[0] & _WEIGHT)
        if depth >= max_depth or end - first < max(2 * min_leaf, 2):
            continue
        split = _best_split(rows, first, end, total, (min_leaf, n_tried), features, state, work)
        state = split[3]
        if split[0] < 0:
            continue
        feature[node], sides[0, node], sides[1, node] = split[0], split[1][0], split[1][1]
        gain[split[0]] += split[2]
        middle = _divide(rows, first, end, split[0], split[1][0], work)
        waiting.append((middle, end, depth + 1, node, 1))
        waiting.append((first, middle, depth + 1, node, 0))
    used = slice(0, n_nodes)
    return children[:, used].copy(), feature[used].copy(), sides[:, used].copy(), value[used].copy(), gain
