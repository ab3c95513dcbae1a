"""Margin catalogues for other tools: for every partition, the rows just outside of it.

Our own matching needs none, it reads border rows from the neighbours; LSDB takes one as ``margin_cache``.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from stellarscale.catalog import layout
from stellarscale.catalog.opening import StoredCatalog
from stellarscale.catalog.pixels import Pixel
from stellarscale.catalog.properties import CatalogProperties
from stellarscale.catalog.reader import read_ranges
from stellarscale.catalog.writer import WriteOptions, finish_catalog, write_table
from stellarscale.errors import CatalogError, ConfigError
from stellarscale.kernels import healpix
from stellarscale.kernels.healpix import ORDER

_DIRECTIONS = 64
# The circle around a row is 10 % wider than the threshold, so that a pixel's corner of 60 degrees or more
# that pokes into the threshold cannot hide between two of the 64 directions: (1 - 1/1.1) tan(30 deg) > sin(pi
# / 64).
_WIDER = 1.1


def write_margin(
    stored: StoredCatalog,
    out: Path,
    *,
    threshold_arcsec: float,
    options: WriteOptions | None = None,
) -> int:
    """Write the HATS margin catalogue of a catalogue.

    A partition's margin holds every row within the threshold of its border, and no row beyond 1.1 thresholds,
    unless the threshold is above a tenth of the partition's size, where it may hold more (HATS allows that).
    Parts of the sky without a partition have margins too, so that a match against them finds the rows across
    the border.

    Parameters
    ----------
    stored : StoredCatalog
        An object catalogue.
    out : Path
        Directory of the margin catalogue.
    threshold_arcsec : float
        Width of the margin.
    options : WriteOptions, optional
        Codec and row groups.

    Returns
    -------
    int
        Rows written; a row near several borders counts several times.

    Raises
    ------
    ConfigError
        If the threshold is not above zero.
    CatalogError
        If the catalogue is itself a margin or an index.
    """
    if not 0.0 < threshold_arcsec < 180.0 * 3600.0:
        raise ConfigError("the margin must be above zero", seen=threshold_arcsec, needed="arcseconds above 0")
    if stored.properties.kind not in {"object", "source"}:
        raise CatalogError(
            "only a catalogue of objects has a margin",
            where=stored.root,
            seen=stored.properties.kind,
            needed="object",
        )
    written = []
    for pixel in sorted([*stored.pixels, *uncovered(stored.pixels)], key=lambda pixel: pixel.sky_key):
        table = margin_of(stored, pixel, threshold_arcsec)
        if table.num_rows:
            write_table(layout.pixel_path(out, pixel), table, options or WriteOptions())
            written.append(pixel)
    return finish_catalog(out, _properties(stored, threshold_arcsec), stored.schema, written)


def margin_of(stored: StoredCatalog, pixel: Pixel, threshold_arcsec: float) -> pa.Table:
    """Rows of the catalogue within a threshold outside of a pixel, along the sky."""
    ring = healpix.ring_around(pixel.order, pixel.ipix, threshold_arcsec * _WIDER)
    table = read_ranges(stored, ring)
    if threshold_arcsec > 0.1 * healpix.resolution_arcsec(pixel.order):
        return table
    ra, dec = (
        table.column(name).to_numpy().astype(np.float64) for name in (stored.properties.ra, stored.properties.dec)
    )
    return table.filter(pa.array(_near(pixel, ra, dec, threshold_arcsec * _WIDER)))


def uncovered(pixels: tuple[Pixel, ...]) -> list[Pixel]:
    """The fewest pixels that cover the sky that no partition covers."""
    bounds = np.array([(pixel.first, pixel.last) for pixel in pixels], dtype=np.int64).reshape(-1, 2)
    gaps = np.array([[0, 12 << (2 * ORDER)]], dtype=np.int64)
    for first, last in healpix.merge_ranges(bounds):
        gaps = healpix.subtract_range(gaps, int(first), int(last))
    found: list[Pixel] = []
    for first, last in gaps.tolist():
        while first < last:
            shift = _largest_shift(first, last)
            found.append(Pixel(ORDER - shift // 2, first >> shift))
            first += 1 << shift
    return found


def _largest_shift(first: int, last: int) -> int:
    """Size, in bits, of the largest pixel that starts at ``first`` and ends before ``last``."""
    shift = 2 * ORDER
    while first & ((1 << shift) - 1) or first + (1 << shift) > last:
        shift -= 2
    return shift


def _near(
    pixel: Pixel, ra_deg: NDArray[np.float64], dec_deg: NDArray[np.float64], radius_arcsec: float
) -> NDArray[np.bool_]:
    """Which rows, all outside of the pixel, have part of the circle of this radius inside of it."""
    radius = np.radians(radius_arcsec / 3600.0)
    dec = np.radians(dec_deg)
    near = np.zeros(len(ra_deg), dtype=bool)
    for angle in np.arange(_DIRECTIONS) * (2.0 * np.pi / _DIRECTIONS):
        sin_dec = np.sin(dec) * np.cos(radius) + np.cos(dec) * np.sin(radius) * np.cos(angle)
        east = np.sin(angle) * np.sin(radius) * np.cos(dec)
        ra_there = ra_deg + np.degrees(np.arctan2(east, np.cos(radius) - np.sin(dec) * sin_dec))
        dec_there = np.degrees(np.arcsin(np.clip(sin_dec, -1.0, 1.0)))
        near |= healpix.pixel_of(ra_there, dec_there, pixel.order) == pixel.ipix
    return near


def _properties(stored: StoredCatalog, threshold_arcsec: float) -> CatalogProperties:
    extra = {key: value for key, value in stored.properties.extra.items() if key.startswith("stellarscale_")}
    extra |= {
        "hats_primary_table_url": stored.properties.name,
        "hats_margin_threshold": f"{threshold_arcsec:.10g}",
    }
    name = f"{stored.properties.name}_{threshold_arcsec:.10g}arcs"
    return replace(stored.properties, name=name, kind="margin", rows=0, extra=extra)
