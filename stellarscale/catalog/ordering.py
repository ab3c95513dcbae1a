"""Sorting and counting of sky keys while a catalogue is imported."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def stable_order(keys: NDArray[np.int64]) -> NDArray[np.int64]:
    """Same as ``np.argsort(keys, kind="stable")``, several times faster where ties are rare.

    NumPy's vectorised quicksort is not stable; only the tied rows are put back in their order.
    """
    order = np.argsort(keys)
    ordered = keys[order]
    equal = ordered[1:] == ordered[:-1]
    if equal.any():
        tied = np.zeros(len(keys), dtype=bool)
        tied[1:] |= equal
        tied[:-1] |= equal
        members = order[tied]
        order[tied] = members[np.lexsort((members, ordered[tied]))]
    return order


def runs_of(ordered: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Distinct values of an ascending array and the index where each begins."""
    if len(ordered) == 0:
        return ordered, np.empty(0, dtype=np.int64)
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    return ordered[starts], starts


def sum_counts(parts: list[NDArray[np.int64]]) -> NDArray[np.int64]:
    """Add sparse histograms, each int64 (2, n) of pixels and rows; the sum has ascending pixels."""
    if not parts:
        return np.empty((2, 0), dtype=np.int64)
    if len(parts) == 1:
        return parts[0]
    pixels, rows = np.concatenate(parts, axis=1)
    order = np.argsort(pixels)
    distinct, starts = runs_of(pixels[order])
    return np.stack([distinct, np.add.reduceat(rows[order], starts) if len(starts) else starts])
