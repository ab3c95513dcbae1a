"""Parts of a catalogue: cones, boxes, polygons, pixels and samples, as text, sky ranges and row masks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from stellarscale.catalog import layout
from stellarscale.catalog.pixels import Pixel
from stellarscale.errors import ConfigError
from stellarscale.kernels import healpix, sphere

FORMS = (
    "cone:RA,DEC,RADIUS_DEG | box:RA1,RA2,DEC1,DEC2 | polygon:RA,DEC;RA,DEC;RA,DEC... "
    "| pixels:ORDER/IPIX,... | sample:FRACTION"
)
SAMPLE_SEED = 20250822


@dataclass(frozen=True)
class Subset:
    """A part of the sky, or a sample of rows; made by :func:`parse_subset`.

    Parameters
    ----------
    kind : str
        ``cone``, ``box``, ``polygon``, ``pixels`` or ``sample``.
    numbers : tuple of float
        Degrees for regions (a polygon's corners as ra, dec, ra, dec, ...), the fraction for a sample.
    pixels : tuple of Pixel
        For ``pixels``.
    seed : int
        For ``sample``: another seed gives another sample.
    """

    kind: str
    numbers: tuple[float, ...] = ()
    pixels: tuple[Pixel, ...] = ()
    seed: int = SAMPLE_SEED

    def __str__(self) -> str:
        if self.kind == "pixels":
            return "pixels:" + ",".join(str(pixel) for pixel in self.pixels)
        if self.kind == "polygon":
            corners = zip(self.numbers[::2], self.numbers[1::2], strict=True)
            return "polygon:" + ";".join(f"{ra:.17g},{dec:.17g}" for ra, dec in corners)
        return f"{self.kind}:" + ",".join(f"{number:.17g}" for number in self.numbers)

    def ranges(self) -> NDArray[np.int64] | None:
        """Order-29 ranges that cover the part, or None when it may be anywhere (a sample).

        Returns
        -------
        ndarray of int64, shape (n, 2), or None
            Sorted, disjoint, half-open; they may reach beyond the part, never less far.
        """
        if self.kind == "sample":
            return None
        if self.kind == "pixels":
            bounds = [(pixel.first, pixel.last) for pixel in self.pixels]
            return healpix.merge_ranges(np.array(bounds, dtype=np.int64))
        if self.kind == "cone":
            return healpix.disc_ranges(*self.numbers)
        if self.kind == "polygon":
            corners = np.array(self.numbers).reshape(-1, 2)
            return healpix.polygon_ranges(corners[:, 0], corners[:, 1])
        return _box_ranges(*self.numbers)

    def mask(self, table: pa.Table, ra: str, dec: str) -> NDArray[np.bool_]:
        """Which rows belong to the part, exactly.

        Parameters
        ----------
        table : pa.Table
            With the columns that the kind needs: the position for regions, ``_healpix_29`` for the others.
        ra, dec : str
            Columns of the position, degrees.

        Returns
        -------
        ndarray of bool, shape (rows,)
        """
        if self.kind in {"pixels", "sample"}:
            sky = table.column(layout.SKY_COLUMN).to_numpy()
            if self.kind == "pixels":
                return healpix.in_ranges(sky, _not_none(self.ranges()))
            return _hash(sky, self.seed) < np.uint64(self.numbers[0] * 2.0**53)
        ra_deg, dec_deg = (table.column(name).to_numpy().astype(np.float64) for name in (ra, dec))
        if self.kind == "cone":
            centre_ra, centre_dec, radius_deg = self.numbers
            return sphere.separation_arcsec(ra_deg, dec_deg, centre_ra, centre_dec) <= radius_deg * 3600.0
        if self.kind == "polygon":
            return _in_polygon(ra_deg, dec_deg, np.array(self.numbers).reshape(-1, 2))
        return _in_box(ra_deg, dec_deg, *self.numbers)


def parse_subset(text: str) -> Subset:
    """Read ``cone:RA,DEC,RADIUS_DEG`` and the like.

    Raises
    ------
    ConfigError
        If the text has none of the accepted forms, or its numbers make no sense.
    """
    kind, _, rest = text.strip().partition(":")
    makers = {"cone": _cone, "box": _box, "polygon": _polygon, "pixels": _pixels, "sample": _sample}
    if kind not in makers:
        raise ConfigError("the subset is not understood", where="subset", seen=repr(text), needed=FORMS)
    try:
        return makers[kind](rest)
    except (ValueError, TypeError) as error:
        raise ConfigError(f"the subset is not right: {error}", where="subset", seen=repr(text), needed=FORMS) from error


def _numbers(text: str, count: int) -> tuple[float, ...]:
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if len(parts) != count:
        raise ValueError(f"{len(parts)} numbers where {count} are needed")
    try:
        numbers = tuple(float(part) for part in parts)
    except ValueError as error:
        raise ValueError("a number cannot be read") from error
    if not np.isfinite(numbers).all():
        raise ValueError("every number must be finite")
    return numbers


def _check_dec(*decs: float) -> None:
    if any(abs(dec) > 90.0 for dec in decs):
        raise ValueError("declinations lie within -90 and 90 degrees")


def _cone(text: str) -> Subset:
    ra, dec, radius_deg = _numbers(text, 3)
    _check_dec(dec)
    if not 0.0 < radius_deg <= 180.0:
        raise ValueError("the radius lies above 0 and within 180 degrees")
    return Subset("cone", (ra % 360.0, dec, radius_deg))


def _box(text: str) -> Subset:
    ra1, ra2, dec1, dec2 = _numbers(text, 4)
    _check_dec(dec1, dec2)
    if dec1 >= dec2:
        raise ValueError("DEC1 must be below DEC2")
    if ra1 == ra2:
        raise ValueError("RA1 and RA2 must differ; 0,360 is the whole circle")
    if abs(ra2 - ra1) >= 360.0:
        return Subset("box", (0.0, 360.0, dec1, dec2))
    return Subset("box", (ra1 % 360.0, ra2 % 360.0, dec1, dec2))


def _polygon(text: str) -> Subset:
    corners = [_numbers(corner, 2) for corner in text.split(";") if corner.strip()]
    if len(corners) < 3:
        raise ValueError("a polygon has three or more corners")
    _check_dec(*(dec for _, dec in corners))
    flat = tuple(number for ra, dec in corners for number in (ra % 360.0, dec))
    if not _is_convex(np.array(flat).reshape(-1, 2)):
        raise ValueError("the polygon must be convex, its corners in order")
    return Subset("polygon", flat)


def _pixels(text: str) -> Subset:
    return Subset("pixels", pixels=tuple(Pixel.parse(part.strip()) for part in text.split(",")))


def _sample(text: str) -> Subset:
    (fraction,) = _numbers(text, 1)
    if not 0.0 < fraction <= 1.0:
        raise ValueError("the fraction lies above 0 and within 1")
    return Subset("sample", (fraction,))


def _not_none(ranges: NDArray[np.int64] | None) -> NDArray[np.int64]:
    return np.empty((0, 2), dtype=np.int64) if ranges is None else ranges


def _box_ranges(ra1: float, ra2: float, dec1: float, dec2: float) -> NDArray[np.int64]:
    """Cover of a box: the pixels of one order whose neighbourhood reaches into it."""
    order = 4
    pixels = np.arange(12 << (2 * order))
    width = (ra2 - ra1) % 360.0 or 360.0
    # Refined from coarse to fine, so that the finest order holds only pixels near the box.
    while True:
        ra, dec = healpix.pixel_centre(order, pixels)
        reach_deg = healpix.resolution_arcsec(order) / 3600.0  # more than from a centre to its farthest corner
        near_dec = (dec >= dec1 - reach_deg) & (dec <= dec2 + reach_deg)
        highest = np.minimum(np.abs(dec) + reach_deg, 90.0)
        reach_ra = np.where(highest < 90.0, reach_deg / np.maximum(np.cos(np.radians(highest)), 1e-9), 360.0)
        near_ra = (ra - ra1 + reach_ra) % 360.0 <= width + 2.0 * reach_ra
        near_ra |= width + 2.0 * reach_ra >= 360.0
        pixels = pixels[near_dec & near_ra]
        if order >= 12 or len(pixels) > 2000:
            return healpix.merge_ranges(healpix.pixel_ranges(order, pixels))
        order += 1
        pixels = (pixels[:, None] * 4 + np.arange(4)).ravel()


def _in_box(
    ra: NDArray[np.float64], dec: NDArray[np.float64], ra1: float, ra2: float, dec1: float, dec2: float
) -> NDArray[np.bool_]:
    ra = ra % 360.0
    if ra1 < ra2:
        inside = (ra >= ra1) & (ra <= ra2)
    else:
        inside = (ra >= ra1) | (ra <= ra2)
    return inside & (dec >= dec1) & (dec <= dec2)


def _edge_normals(corners: NDArray[np.float64]) -> NDArray[np.float64]:
    """Normals of the great circles through the edges, pointing inwards."""
    points = sphere.unit_vectors(corners[:, 0], corners[:, 1])
    normals = np.cross(points, np.roll(points, -1, axis=0))
    centre = points.sum(axis=0)
    return normals * np.sign((normals @ centre).sum() or 1.0)


def _is_convex(corners: NDArray[np.float64]) -> bool:
    points = sphere.unit_vectors(corners[:, 0], corners[:, 1])
    sides = points @ _edge_normals(corners).T
    # Every corner is on the inner side of every edge, and no edge has zero length.
    return bool((sides >= -1e-12).all() and (np.abs(_edge_normals(corners)).max(axis=1) > 1e-12).all())


def _in_polygon(ra: NDArray[np.float64], dec: NDArray[np.float64], corners: NDArray[np.float64]) -> NDArray[np.bool_]:
    sides = sphere.unit_vectors(ra, dec) @ _edge_normals(corners).T
    return np.asarray((sides >= 0.0).all(axis=1))


def _hash(sky: NDArray[np.int64], seed: int) -> NDArray[np.uint64]:
    """53 well mixed bits of each sky key (splitmix64, Steele et al. 2014), the same wherever it is."""
    with np.errstate(over="ignore"):
        mixed = sky.astype(np.uint64) + np.uint64((seed * 0x9E3779B97F4A7C15) % 2**64)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        mixed ^= mixed >> np.uint64(31)
    return mixed >> np.uint64(11)
