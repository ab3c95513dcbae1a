"""An index of sky positions: declination zones cut into cells of right ascension, for cone searches.

Rows are moved by a counting sort into cells of about one row each, zone by zone from south to north and by
right ascension inside a zone, so that the rows of a right ascension window in a zone are one contiguous
range. After the zones of Gray, Nieto-Santisteban and Szalay 2007 (MSR-TR-2006-52), with cells in place of
their B-tree.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from stellarscale.kernels.sphere import RADIANS_PER_DEGREE, pair_separation_arcsec, ra_in_circle

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

# Rows of one cell above which the whole index is sorted by right ascension, to be searched by bisection.
_CROWDED = 64
# Windows are widened by more than any rounding in them; the computed separation alone decides on a pair.
_SLACK_DEG = 1e-10


class ZoneIndex(NamedTuple):
    """Positions in cell order.

    `ra` counts from 0 to 360, or from -180 to 180 where that makes the narrower span: adding 360 to the
    negative ones gives back the very right ascension that came in.
    """

    ra: Floats
    dec: Floats
    row: NDArray[np.int32]
    start: NDArray[np.int32]
    first_cell: Ints
    cells_per_degree: Floats
    ra_span: tuple[float, float]
    dec_min: float
    zones_per_degree: float
    signed: bool
    ordered: bool


class Found(NamedTuple):
    """Room for what `search` finds: for position ``i`` of a block, entries ``end[i-1]`` to ``end[i]``."""

    end: Ints
    rows: Ints
    separations: Floats


@njit(nogil=True, cache=True)
def _in_frame(ra: float, signed: bool) -> float:
    wrapped = ra_in_circle(ra)
    return wrapped - 360.0 if signed and wrapped >= 180.0 else wrapped


@njit(nogil=True, cache=True)
def _extent(ra, dec):
    """Spans of right ascension, unsigned and signed, and of declination."""
    low, high, signed_low, signed_high = 360.0, 0.0, 180.0, -180.0
    south, north = 90.0, -90.0
    for i in range(ra.size):
        plain, turned = _in_frame(ra[i], False), _in_frame(ra[i], True)
        low, high = min(low, plain), max(high, plain)
        signed_low, signed_high = min(signed_low, turned), max(signed_high, turned)
        south, north = min(south, dec[i]), max(north, dec[i])
    return low, high, signed_low, signed_high, south, north


@njit(nogil=True, cache=True)
def _cell(ra, zone, first_cell, cells_per_degree, ra_min):
    cell = first_cell[zone] + int((ra - ra_min) * cells_per_degree[zone])
    return min(max(cell, first_cell[zone]), first_cell[zone + 1] - 1)


@njit(nogil=True, cache=True)
def _zone(dec, dec_min, zones_per_degree, n_zones):
    return min(max(int((dec - dec_min) * zones_per_degree), 0), n_zones - 1)


@njit(nogil=True, cache=True)
def _fill_cells(ra, dec, signed, first_cell, cells_per_degree, ra_min, dec_min, zones_per_degree):
    """Counting sort into cells; also gives the rows of the fullest cell."""
    n_zones = cells_per_degree.size
    cell = np.empty(ra.size, np.int32)
    start = np.zeros(first_cell[-1] + 1, np.int32)
    for i in range(ra.size):
        zone = _zone(dec[i], dec_min, zones_per_degree, n_zones)
        cell[i] = _cell(_in_frame(ra[i], signed), zone, first_cell, cells_per_degree, ra_min)
        start[cell[i]] += 1
    total, fullest = 0, 0
    for c in range(start.size):
        fullest = max(fullest, start[c])
        total, start[c] = total + start[c], total
    ra_out, dec_out, row = np.empty(ra.size), np.empty(ra.size), np.empty(ra.size, np.int32)
    for i in range(ra.size):
        k = start[cell[i]]
        start[cell[i]] = k + 1
        ra_out[k], dec_out[k], row[k] = _in_frame(ra[i], signed), dec[i], i
    start[1:] = start[:-1].copy()  # each start had moved on to its cell's end
    start[0] = 0
    return ra_out, dec_out, row, start, fullest


@njit(nogil=True, cache=True)
def _order_cells(ra, dec, row, start):
    for c in range(start.size - 1):
        a, b = start[c], start[c + 1]
        if b - a > 1:
            order = np.argsort(ra[a:b], kind="mergesort")
            ra[a:b], dec[a:b], row[a:b] = ra[a:b][order], dec[a:b][order], row[a:b][order]


def _lay_out(n_rows: int, ra_width: float, dec_span: tuple[float, float]) -> tuple[float, Ints, Floats]:
    """Zones per degree, the first cell of each zone and the cells per degree of right ascension in it."""
    south, north = dec_span
    bands = math.sin(north * RADIANS_PER_DEGREE) - math.sin(south * RADIANS_PER_DEGREE)
    area = max(ra_width * bands / RADIANS_PER_DEGREE, 0.0)
    # The two lower limits keep the cells of a catalogue on one line to about one per row.
    height = max(math.sqrt(area / n_rows), (north - south) / n_rows, ra_width / n_rows, 1e-9)
    n_zones = int((north - south) / height) + 1
    edges = south + height * np.arange(n_zones + 1)
    widest = np.where((edges[:-1] < 0) & (edges[1:] > 0), 0.0, np.minimum(np.abs(edges[:-1]), np.abs(edges[1:])))
    cells = np.maximum(1, (ra_width * np.cos(widest * RADIANS_PER_DEGREE) / height).astype(np.int64))
    first_cell = np.concatenate([[0], np.cumsum(cells)])
    return 1.0 / height, first_cell, cells / max(ra_width, 1e-9)


def build_index(ra_deg: Floats, dec_deg: Floats) -> ZoneIndex:
    """Index finite positions in degrees, shapes (n,) with n > 0, for `rows_within`."""
    low, high, signed_low, signed_high, south, north = _extent(ra_deg, dec_deg)
    signed = signed_high - signed_low < high - low
    span = (signed_low, signed_high) if signed else (low, high)
    zones_per_degree, first_cell, cells_per_degree = _lay_out(ra_deg.size, span[1] - span[0], (south, north))
    ra, dec, row, start, fullest = _fill_cells(
        ra_deg, dec_deg, signed, first_cell, cells_per_degree, span[0], south, zones_per_degree
    )
    ordered = fullest > _CROWDED
    if ordered:
        _order_cells(ra, dec, row, start)
    return ZoneIndex(ra, dec, row, start, first_cell, cells_per_degree, span, south, zones_per_degree, signed, ordered)


@njit(nogil=True, cache=True)
def _half_width(dec, radius):
    """Half the right ascension window of a cap, degrees, never too small; 360 when the cap holds a pole."""
    pole_distance = 90.0 - abs(dec)  # without rounding near the pole, where cos(dec) loses its digits
    if pole_distance <= radius + _SLACK_DEG:
        return 360.0
    ratio = radius * RADIANS_PER_DEGREE / math.sin(pole_distance * RADIANS_PER_DEGREE)
    if ratio < 1e-3:
        return ratio * (1.0 + ratio * ratio) / RADIANS_PER_DEGREE + _SLACK_DEG
    half = math.asin(min(ratio, 1.0)) / RADIANS_PER_DEGREE  # radius > sin(radius): a little wide
    return half * (1.0 + 1e-9) + _SLACK_DEG if half < 80.0 else 360.0


@njit(nogil=True, cache=True)
def _windows(centre, half, ra_min, ra_max):
    """The right ascension window of a cap in the frame of the index, and its copy a turn away or nothing."""
    if half >= 180.0:
        return ra_min, ra_max, 1.0, 0.0
    low, high = centre - half, centre + half
    if low + 360.0 <= ra_max:
        return low, high, low + 360.0, high + 360.0
    if high - 360.0 >= ra_min:
        return low, high, low - 360.0, high - 360.0
    return low, high, 1.0, 0.0


@njit(nogil=True, cache=True)
def _first_from(ra, a, b, low):
    """First row of the sorted range [a, b) at or after ``low``."""
    while a < b:
        middle = (a + b) // 2
        if ra[middle] < low:
            a = middle + 1
        else:
            b = middle
    return a


@njit(nogil=True, cache=True)
def search(index, ra_deg, dec_deg, radius_arcsec, first, found):
    """Rows of the index within a radius of each position, boundary included, from position ``first`` on.

    The rows found for position ``first + i``, in no special order, and their separations in arcsec are
    written to the `Found` arrays, up to before place ``found.end[i]``. Returns when the positions or
    ``found.end`` are used up, or before a position whose rows do not fit: the next position, and the room
    that this one needs.

    One call serves a block of positions because every call counts references to every array of the index.
    """
    zone_ra, zone_dec, zone_row, start, first_cell, per_ra, span, dec_min, per_dec, signed, ordered = index
    end, rows, separations = found
    ra_min, ra_max = span
    last = min(ra_deg.size, first + end.size)
    written = 0
    for i in range(first, last):
        ra, dec, radius = ra_in_circle(ra_deg[i]), dec_deg[i], radius_arcsec[i]
        reach = radius / 3600.0 * (1.0 + 1e-9) + _SLACK_DEG
        half = _half_width(dec, reach)
        low, high, other_low, other_high = _windows(_in_frame(ra, signed), half, ra_min, ra_max)
        first_zone = _zone(dec - reach, dec_min, per_dec, per_ra.size)
        last_zone = _zone(dec + reach, dec_min, per_dec, per_ra.size)
        n = written
        while low <= high:
            for zone in range(first_zone, last_zone + 1):
                a = start[_cell(low, zone, first_cell, per_ra, ra_min)]
                b = start[_cell(high, zone, first_cell, per_ra, ra_min) + 1]
                if ordered:
                    a = _first_from(zone_ra, a, b, low)
                for k in range(a, b):
                    if abs(zone_dec[k] - dec) <= reach and low <= zone_ra[k] <= high:
                        other = zone_ra[k] + 360.0 if zone_ra[k] < 0.0 else zone_ra[k]
                        separation = pair_separation_arcsec(ra, dec, other, zone_dec[k])
                        if separation <= radius:
                            if n < rows.size:
                                rows[n], separations[n] = zone_row[k], separation
                            n += 1
                    elif ordered and zone_ra[k] > high:
                        break
            low, high, other_low, other_high = other_low, other_high, 1.0, 0.0
        if n > rows.size:
            return i, n - written
        written = n
        end[i - first] = written
    return last, 0
