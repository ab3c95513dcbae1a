"""The eight neighbours of NESTED HEALPix pixels.

Plain integer arithmetic on the coordinates of a pixel in its base pixel (Gorski et al. 2005, ApJ 622, 759, section
4.2); no library has to be loaded for it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.int64]

_STEPS = ((-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1))
# Base pixel on the other side, by direction (rows: 3 (1 + dy) + 1 + dx) and own base pixel; -1: three meet, none there.
_BASE = np.array(
    [
        [8, 9, 10, 11, -1, -1, -1, -1, 10, 11, 8, 9],
        [5, 6, 7, 4, 8, 9, 10, 11, 9, 10, 11, 8],
        [-1, -1, -1, -1, 5, 6, 7, 4, -1, -1, -1, -1],
        [4, 5, 6, 7, 11, 8, 9, 10, 11, 8, 9, 10],
        [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11],
        [1, 2, 3, 0, 0, 1, 2, 3, 5, 6, 7, 4],
        [-1, -1, -1, -1, 7, 4, 5, 6, -1, -1, -1, -1],
        [3, 0, 1, 2, 3, 0, 1, 2, 4, 5, 6, 7],
        [2, 3, 0, 1, -1, -1, -1, -1, 0, 1, 2, 3],
    ]
)
# How coordinates turn on the way there, by direction and row of base pixels (north, middle, south): bit 0 mirrors x,
# bit 1 mirrors y, bit 2 swaps them afterwards.
_TURN = np.array([[0, 0, 3], [0, 0, 6], [0, 0, 0], [0, 0, 5], [0, 0, 0], [5, 0, 0], [0, 0, 0], [6, 0, 0], [3, 0, 0]])
_SPREAD = (
    (16, 0x0000FFFF0000FFFF),
    (8, 0x00FF00FF00FF00FF),
    (4, 0x0F0F0F0F0F0F0F0F),
    (2, 0x3333333333333333),
    (1, 0x5555555555555555),
)


def interleave(x: Pixels, y: Pixels) -> Pixels:
    """Number of the pixel in its base pixel, from its coordinates below 2**29."""
    return _spread(x) | (_spread(y) << 1)


def neighbours(order: int, ipix: Pixels) -> Pixels:
    """The pixels around pixels.

    Parameters
    ----------
    order : int
        HEALPix order, 0 to 29.
    ipix : ndarray of int64, shape (n,)
        NESTED pixels.

    Returns
    -------
    ndarray of int64, shape (8, n)
        South-west, west, north-west, north, north-east, east, south-east, south; -1 where there is none.
    """
    ipix = np.asarray(ipix, dtype=np.int64)
    side, last = np.int64(1) << order, (np.int64(1) << order) - 1
    base, within = ipix >> (2 * order), ipix & ((np.int64(1) << (2 * order)) - 1)
    x, y = _gather(within), _gather(within >> 1)
    found = np.empty((8, ipix.size), dtype=np.int64)
    for row, (dx, dy) in enumerate(_STEPS):
        there_x, there_y = x + dx, y + dy
        direction = 4 + (there_x >= side) - (there_x < 0) + 3 * ((there_y >= side).astype(int) - (there_y < 0))
        there_x, there_y = there_x & last, there_y & last
        turn, there = _TURN[direction, base >> 2], _BASE[direction, base]
        there_x = np.where(turn & 1, last - there_x, there_x)
        there_y = np.where(turn & 2, last - there_y, there_y)
        swap = (turn & 4) > 0
        there_x, there_y = np.where(swap, there_y, there_x), np.where(swap, there_x, there_y)
        found[row] = np.where(there < 0, -1, (there << (2 * order)) | interleave(there_x, there_y))
    return found


def _spread(value: Pixels) -> Pixels:
    """Move bit i to bit 2 i."""
    for shift, mask in _SPREAD:
        value = (value | (value << shift)) & mask
    return value


def _gather(value: Pixels) -> Pixels:
    """Move bit 2 i to bit i, the others are dropped."""
    value = value & _SPREAD[-1][1]
    for (shift, _), (_, mask) in zip(_SPREAD[::-1], [*_SPREAD[-2::-1], (32, 0x00000000FFFFFFFF)], strict=True):
        value = (value | (value >> shift)) & mask
    return value
