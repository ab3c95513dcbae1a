"""The only home of healpy: NESTED pixels, their neighbours and the order-29 ranges of regions."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stellarscale.kernels.neighbours import interleave, neighbours

ORDER = 29
PIXELS_29 = 12 << (2 * ORDER)


@cache
def _healpy() -> Any:
    """healpy, loaded on first use: it brings matplotlib along, and opening a catalogue must stay light."""
    import healpy

    return healpy


def pixel_of(ra_deg: NDArray, dec_deg: NDArray, order: int = ORDER) -> NDArray[np.int64]:
    """NESTED HEALPix pixel of each position.

    Parameters
    ----------
    ra_deg, dec_deg : ndarray, shape (n,)
        Finite positions in degrees, declination within +-90.
    order : int
        HEALPix order, 0 to 29.

    Returns
    -------
    ndarray of int64, shape (n,)
    """
    if len(ra_deg) == 0:
        return np.empty(0, dtype=np.int64)
    return _healpy().ang2pix(1 << order, ra_deg, dec_deg, nest=True, lonlat=True).astype(np.int64, copy=False)


def pixel_centre(order: int, ipix: NDArray) -> tuple[NDArray, NDArray]:
    """Right ascension and declination (degrees) of pixel centres."""
    ra, dec = _healpy().pix2ang(1 << order, np.asarray(ipix, dtype=np.int64), nest=True, lonlat=True)
    return ra, dec


def resolution_arcsec(order: int) -> float:
    """Square root of the area of a pixel of this order, in arcsec."""
    return math.degrees(math.sqrt(math.pi / 3.0) / (1 << order)) * 3600.0


def finest_order(margin_arcsec: float, first: int = 0, last: int = ORDER - 1) -> int:
    """Finest order, of some, at which what is within a margin of a point is in its pixel or one of the neighbours.

    It is ``first`` also where that is too fine: then ``resolution_arcsec(first) <= 2 * margin_arcsec``.
    """
    order = first
    # The narrowest distance across a pixel is well above half of its mean size, hence the factor two.
    while order < last and resolution_arcsec(order + 1) > 2.0 * margin_arcsec:
        order += 1
    return order


def ring_around(order: int, ipix: int, margin_arcsec: float) -> NDArray[np.int64]:
    """Order-29 ranges that cover everything within a margin outside a pixel, the pixel itself left out.

    The cover is made of small pixels that are at least as wide as the margin, one ring of them around the pixel's
    border; it may reach further than the margin, never less far.

    Returns
    -------
    ndarray of int64, shape (n, 2)
        Half-open, sorted, disjoint ranges of ``_healpix_29``.
    """
    fine = finest_order(margin_arcsec, order, min(order + 9, ORDER - 1))
    if fine <= 0 or resolution_arcsec(fine) <= 2.0 * margin_arcsec:
        return _coarse_ring(order, ipix, margin_arcsec)
    ring = _neighbours(fine, _border(order, ipix, fine))
    ring = ring[(ring >> (2 * (fine - order))) != ipix]
    return merge_ranges(pixel_ranges(fine, ring))


def _coarse_ring(order: int, ipix: int, margin_arcsec: float) -> NDArray[np.int64]:
    """A margin wider than the pixel: a disc around the pixel's centre that holds its corners and the margin."""
    ra, dec = pixel_centre(order, np.array([ipix]))
    corners = _healpy().boundaries(1 << order, ipix, step=4, nest=True).T
    centre = _healpy().ang2vec(ra[0], dec[0], lonlat=True)
    half_width = float(np.arccos(np.clip(corners @ centre, -1, 1)).max())
    radius_deg = np.degrees(half_width) * 1.01 + margin_arcsec / 3600.0
    disc = disc_ranges(ra[0], dec[0], min(radius_deg, 180.0))
    return subtract_range(disc, *pixel_ranges(order, np.array([ipix]))[0])


def _border(order: int, ipix: int, fine: int) -> NDArray[np.int64]:
    """Sub-pixels of order ``fine`` along the four edges of a pixel."""
    side = 1 << (fine - order)
    along = np.arange(side, dtype=np.int64)
    edge = np.concatenate(
        [
            interleave(along, np.zeros_like(along)),
            interleave(along, np.full_like(along, side - 1)),
            interleave(np.zeros_like(along), along),
            interleave(np.full_like(along, side - 1), along),
        ]
    )
    return (np.int64(ipix) << (2 * (fine - order))) + np.unique(edge)


def _neighbours(order: int, pixels: NDArray[np.int64]) -> NDArray[np.int64]:
    around = neighbours(order, pixels).ravel()
    return np.unique(around[around >= 0])


def pixel_ranges(order: int, ipix: NDArray) -> NDArray[np.int64]:
    """Half-open ranges of ``_healpix_29`` of pixels of one order, shape (n, 2)."""
    shift = 2 * (ORDER - order)
    first = np.asarray(ipix, dtype=np.int64) << shift
    return np.stack([first, first + (np.int64(1) << shift)], axis=1)


def disc_ranges(ra_deg: float, dec_deg: float, radius_deg: float) -> NDArray[np.int64]:
    """Order-29 ranges that cover a cone, with at most a few thousand pixels at its finest order.

    A cone wider than a hemisphere gets the whole sky.
    """
    if radius_deg > 90.0:  # healpy.query_disc leaves parts out of discs above 135 degrees
        return np.array([[0, PIXELS_29]], dtype=np.int64)
    order = 0
    while order < ORDER - 4 and resolution_arcsec(order) > radius_deg * 3600.0 / 16.0:
        order += 1
    centre = _healpy().ang2vec(ra_deg, dec_deg, lonlat=True)
    pixels = _healpy().query_disc(1 << order, centre, np.radians(radius_deg), inclusive=True, nest=True)
    return merge_ranges(pixel_ranges(order, np.sort(pixels)))


def polygon_ranges(ra_deg: NDArray, dec_deg: NDArray, order: int = 8) -> NDArray[np.int64]:
    """Order-29 ranges that cover a convex polygon given by its corners in degrees.

    Raises
    ------
    ValueError
        If the polygon is not convex or has fewer than three corners.
    """
    corners = _healpy().ang2vec(np.asarray(ra_deg), np.asarray(dec_deg), lonlat=True)
    try:
        pixels = _healpy().query_polygon(1 << order, corners, inclusive=True, nest=True)
    except RuntimeError as error:
        raise ValueError(f"the polygon must be convex with three or more corners ({error})") from error
    return merge_ranges(pixel_ranges(order, np.sort(pixels)))


def merge_ranges(ranges: NDArray[np.int64]) -> NDArray[np.int64]:
    """Sort half-open ranges and join those that touch or overlap."""
    if len(ranges) == 0:
        return np.empty((0, 2), dtype=np.int64)
    ranges = ranges[np.argsort(ranges[:, 0], kind="stable")]
    reach = np.maximum.accumulate(ranges[:, 1])
    starts = np.concatenate([[True], ranges[1:, 0] > reach[:-1]])
    ends = np.concatenate([starts[1:], [True]])
    return np.stack([ranges[starts, 0], reach[ends]], axis=1)


def subtract_range(ranges: NDArray[np.int64], first: int, last: int) -> NDArray[np.int64]:
    """Take the half-open range [first, last) out of sorted, disjoint ranges."""
    below = np.stack([ranges[:, 0], np.minimum(ranges[:, 1], first)], axis=1)
    above = np.stack([np.maximum(ranges[:, 0], last), ranges[:, 1]], axis=1)
    pieces = np.concatenate([below, above])
    return merge_ranges(pieces[pieces[:, 0] < pieces[:, 1]])


def in_ranges(values: NDArray[np.int64], ranges: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which values lie in any of the sorted, disjoint, half-open ranges."""
    index = np.searchsorted(ranges[:, 0], values, side="right") - 1
    inside = index >= 0
    inside[inside] = values[inside] < ranges[index[inside], 1]
    return inside
