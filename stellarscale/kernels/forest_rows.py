"""Rows made ready for the forest kernel: floats as ordered integers, the walking order, bounds of neighbours."""

from __future__ import annotations

import numpy as np

from stellarscale.kernels.forest_walk import jit

ZERO_KEY = np.uint32(2**31)
ABOVE_ALL = np.uint32(2**32 - 1)  # no threshold is as large, none as small as the next
BELOW_ALL = np.uint32(0)


@jit
def _is_nan(bits):
    return (bits & np.uint32(0x7FFFFFFF)) > np.uint32(0x7F800000)


@jit
def _key(bits, missing):
    if _is_nan(bits):
        return missing
    return np.uint32(bits + ZERO_KEY if bits < ZERO_KEY else np.uint32(0) - bits)


@jit
def has_nan(bits):
    """Whether any of the floats behind these bits is NaN."""
    for value in bits.flat:  # noqa: SIM110 -- numba has no any() over generators
        if _is_nan(value):
            return True
    return False


@jit
def fill_rows(bits, wide, rows):
    """Keys of the rows; if wide, a feature has two columns: one sends NaN right, the other left."""
    for i in range(len(bits)):
        for f in range(bits.shape[1]):
            value = bits[i, f]
            if wide:
                rows[i, 2 * f] = _key(value, ABOVE_ALL)
                rows[i, 2 * f + 1] = _key(value, BELOW_ALL)
            else:
                rows[i, f] = _key(value, ABOVE_ALL)


@jit
def take_rows(rows, order):
    """Rows in another order, with those beyond it left where they are."""
    taken = rows.copy()
    for i in range(len(order)):
        for column in range(rows.shape[1]):
            taken[i, column] = rows[order[i], column]
    return taken


@jit
def fill_bounds(rows, span_rows, bounds):
    """Least and largest key of each column in each ``span_rows`` rows: (n_spans, 2, n_columns)."""
    for span in range(len(bounds)):
        first = span * span_rows
        bounds[span, 0] = bounds[span, 1] = rows[first]
        for i in range(first + 1, min(first + span_rows, len(rows))):
            for column in range(rows.shape[1]):
                bounds[span, 0, column] = min(bounds[span, 0, column], rows[i, column])
                bounds[span, 1, column] = max(bounds[span, 1, column], rows[i, column])


@jit
def sort_by_leaf(leaves, n_leaves, order):
    """Row numbers in the order of the rows' leaves, by counting."""
    start = np.zeros(n_leaves + 1, np.int64)
    for i in range(len(order)):
        start[leaves[i] + 1] += 1
    for leaf in range(n_leaves):
        start[leaf + 1] += start[leaf]
    for i in range(len(order)):
        order[start[leaves[i]]] = i
        start[leaves[i]] += 1
