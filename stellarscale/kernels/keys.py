"""Sorted keys of rows: where those of one table are in another."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

Keys = NDArray[np.int64]


def places_among(found: Keys, keys: Keys) -> Keys:
    """Place of each key among others, by one walk along both.

    Parameters
    ----------
    found, keys : ndarray of int64, shapes (n,) and (m,)
        Ascending; keys may repeat.

    Returns
    -------
    ndarray of int64, shape (m,)
        Of equal keys the first is the first, the second the second; -1 for a key that is not there.
    """
    return _walk(_read_only(found), _read_only(keys))


def _read_only(keys: Keys) -> Keys:
    """A view that is not written to, so that the loop is compiled once for arrays of tables and of callers."""
    view = np.ascontiguousarray(keys, dtype=np.int64).view()
    view.flags.writeable = False
    return view


@njit(nogil=True, cache=True)
def _walk(found, keys):
    places = np.full(keys.size, -1, np.int64)
    j = 0
    for i in range(keys.size):
        while j < found.size and found[j] < keys[i]:
            j += 1
        if j < found.size and found[j] == keys[i]:
            places[i] = j
            j += 1
    return places
