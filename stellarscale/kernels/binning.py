"""Features as bin numbers, for trees that are grown from histograms."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MOST_BINS = 65_536
"""A feature with no more distinct values is split exactly."""

BINS = 1024
"""Bins of a feature with more values than that."""


@dataclass(frozen=True)
class Binned:
    """Features as bin numbers.

    Parameters
    ----------
    bins : ndarray of uint16, shape (n_features, n)
        Numbers of bins, in the order of the values.
    low, high : tuple of ndarray of float32
        Smallest and largest value in each bin, for each feature.
    """

    bins: NDArray[np.uint16]
    low: tuple[NDArray[np.float32], ...]
    high: tuple[NDArray[np.float32], ...]


def bin_features(x: NDArray[np.float32]) -> Binned:
    """Bins of about equal numbers of rows, feature by feature, and ever finer towards both ends.

    A forest of exact splits sets single extreme rows apart; bins of equal numbers alone would lump them together.

    Parameters
    ----------
    x : ndarray of float32, shape (n, n_features)
        Finite.
    """
    ranks = _ranks(len(x))
    bins, low, high = np.empty((x.shape[1], len(x)), dtype=np.uint16), [], []
    for feature in range(x.shape[1]):
        column = np.ascontiguousarray(x[:, feature])
        ordered = np.sort(column)
        ends = np.flatnonzero(ordered[1:] > ordered[:-1])  # last places of all distinct values but the largest
        if len(ends) >= MOST_BINS:
            ends = np.unique(ends[np.searchsorted(ends, ranks[ranks <= ends[-1]])])
        low.append(ordered[np.concatenate([[0], ends + 1])])
        high.append(ordered[np.concatenate([ends, [len(x) - 1]])])
        bins[feature] = np.searchsorted(high[-1][:-1], column, side="left")
    return Binned(bins, tuple(low), tuple(high))


def _ranks(n: int) -> NDArray[np.int64]:
    """Places in the order of the values at which bins end: half of them evenly, the others by powers from each end."""
    even, power = np.linspace(0, n - 1, BINS // 2), np.geomspace(1, max(n / 2, 1), BINS // 4) - 1
    return np.unique(np.concatenate([even, power, n - 1 - power]).astype(np.int64))
