"""Pairs of rows found on the sky, block by block: the nearest of each, or all in order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from stellarscale.kernels.zones import Floats, Found, ZoneIndex, search

# Positions searched at a time: their finds stay in the processor's cache.
_BLOCK = 8192

Block = tuple[int, int, Found]


class Pairs(NamedTuple):
    """Matched rows, sorted by left row, then separation, then right row.

    `left`, `right` and `separation_arcsec` have one entry per pair, `n_candidates` one per left row: the
    right rows within the radius, before `keep`.
    """

    left: NDArray[np.int64]
    right: NDArray[np.int64]
    separation_arcsec: NDArray[np.float64]
    n_candidates: NDArray[np.int32]


class _Best(NamedTuple):
    """The nearest partner of each left row (and of each right row, or empty), -1: none; the candidates."""

    right: NDArray[np.int64]
    separation: Floats
    n_candidates: NDArray[np.int32]
    left: NDArray[np.int64]
    left_separation: Floats


@njit(nogil=True, cache=True)
def _left_wins(ra, dec, i, other):
    """Order of left rows equally far from a right row: by place, which no cutting of the sky changes."""
    if dec[i] != dec[other]:
        return dec[i] < dec[other]
    if ra[i] != ra[other]:
        return ra[i] < ra[other]
    return i < other


@njit(nogil=True, cache=True)
def _improve(best, ra, dec, first, last, found, swapped):
    """Take the pairs of one block into account; ``swapped`` when right rows searched among left rows."""
    best_right, best_separation, n_candidates, best_left, left_separation = best
    end, rows, separations = found
    begin = 0
    for i in range(first, last):
        for k in range(begin, end[i - first]):
            left, right, s = (rows[k], i, separations[k]) if swapped else (i, rows[k], separations[k])
            n_candidates[left] += 1
            if s < best_separation[left] or (s == best_separation[left] and right < best_right[left]):
                best_right[left], best_separation[left] = right, s
            if best_left.size:
                tie = s == left_separation[right]
                if s < left_separation[right] or (tie and _left_wins(ra, dec, left, best_left[right])):
                    best_left[right], left_separation[right] = left, s
        begin = end[i - first]


@njit(nogil=True, cache=True)
def _sort_group(other, separation):
    """Sort the pairs of one row by separation, ties by the other row, in place."""
    if other.size > 32:
        order = np.argsort(other)
        order = order[np.argsort(separation[order], kind="mergesort")]
        other[:], separation[:] = other[order], separation[order]
        return
    for k in range(1, other.size):
        row, s, m = other[k], separation[k], k
        while m > 0 and (s < separation[m - 1] or (s == separation[m - 1] and row < other[m - 1])):
            other[m], separation[m] = other[m - 1], separation[m - 1]
            m -= 1
        other[m], separation[m] = row, s


@njit(nogil=True, cache=True)
def _sort_groups(count, other, separation):
    """Sort runs of pairs, ``count[g]`` long, each by separation, ties by ``other``, in place."""
    a = 0
    for g in range(count.size):
        b = a + count[g]
        if b - a > 1:
            _sort_group(other[a:b], separation[a:b])
        a = b


@njit(nogil=True, cache=True)
def _swap(query, other, separation, n_other):
    """Pairs in the order of the rows that were found, and how many pairs each of those has."""
    count = np.zeros(n_other, np.int32)
    for m in range(other.size):
        count[other[m]] += 1
    place = np.cumsum(count) - count
    left, right, distance = np.empty_like(other), np.empty_like(query), np.empty_like(separation)
    for m in range(other.size):
        k = place[other[m]]
        place[other[m]] = k + 1
        left[k], right[k], distance[k] = other[m], query[m], separation[m]
    return left, right, distance, count


def search_blocks(index: ZoneIndex, ra: Floats, dec: Floats, radius: Floats) -> Iterator[Block]:
    """Search a block of positions at a time: its first and last position, and what was found for them."""
    found = Found(np.empty(_BLOCK, np.int64), np.empty(8 * _BLOCK, np.int64), np.empty(8 * _BLOCK))
    first = 0
    while first < ra.size:
        last, needed = search(index, ra, dec, radius, first, found)
        if last > first:
            yield first, last, found
        elif needed > found.rows.size:
            found = Found(found.end, np.empty(2 * needed, np.int64), np.empty(2 * needed))
        first = last


def collect_pairs(blocks: Iterable[Block], n_left: int, swapped: bool) -> Pairs:
    """Every pair; ``swapped`` when right rows searched among left rows."""
    counts, rows, parts = [np.empty(0, np.int64)], [np.empty(0, np.int64)], [np.empty(0)]
    for first, last, found in blocks:
        end = found.end[: last - first]
        counts.append(np.diff(end, prepend=0))
        rows.append(found.rows[: end[-1]].copy())
        parts.append(found.separations[: end[-1]].copy())
    count, right, separation = np.concatenate(counts), np.concatenate(rows), np.concatenate(parts)
    left = np.repeat(np.arange(count.size), count)
    if swapped:
        left, right, separation, count = _swap(left, right, separation, n_left)
    _sort_groups(count, right, separation)
    return Pairs(left, right, separation, count.astype(np.int32))


def nearest_pairs(
    blocks: Iterable[Block], left: tuple[Floats, Floats], n_right: int, mutual: bool, swapped: bool
) -> Pairs:
    """The nearest pair of each left row, without ever holding all pairs."""
    n_left, n_owned = left[0].size, n_right if mutual else 0
    best = _Best(
        np.full(n_left, -1), np.full(n_left, np.inf), np.zeros(n_left, np.int32),
        np.full(n_owned, -1), np.full(n_owned, np.inf),
    )  # fmt: skip
    for first, last, found in blocks:
        _improve(best, *left, first, last, found, swapped)
    rows = np.flatnonzero(best.right >= 0)
    if mutual:
        rows = rows[best.left[best.right[rows]] == rows]
    if rows.size == n_left:
        return Pairs(rows, best.right, best.separation, best.n_candidates)
    return Pairs(rows, best.right[rows], best.separation[rows], best.n_candidates)


def no_pairs(n_left: int) -> Pairs:
    return Pairs(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0), np.zeros(n_left, np.int32))
