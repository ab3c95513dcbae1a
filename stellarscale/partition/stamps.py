"""Image stamps of stars out of their detections (paper III, section 2.3)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from stellarscale.errors import SchemaError
from stellarscale.flags import COLUMN
from stellarscale.partition.features import floats
from stellarscale.partition.stamp_config import StampConfig, output_schema
from stellarscale.partition.stamp_detections import Detections, detections_of
from stellarscale.partition.stamp_star import Fetch, StampMaker, StarStamp
from stellarscale.stamp_columns import COVERAGE, STAMP, binary_array

Over = Callable[[Callable[[int], StarStamp], Iterable[int]], Iterable[StarStamp]]


@dataclass(frozen=True, eq=False)
class MadeStamps:
    """Stars with their stamps, and what became of the detections.

    Attributes
    ----------
    table : Table
        The stars in their order, see :func:`make_stamps`.
    rejects : Table
        Detections that are in no stamp: ``object_id``, ``image_id``, ``ccd``, ``band``, ``reason``, ``detail``.
    used : int
        Detections that are in a stamp.
    full_wcs : int
        Those among them that were aligned by the full map of their header.
    other_zero_points : int
        Those among them for which the tables gave a zero-point that cannot be, so that another was used.
    """

    table: pa.Table
    rejects: pa.Table
    used: int
    full_wcs: int
    other_zero_points: int


def make_stamps(
    stars: pa.Table,
    detections: pa.Table,
    images: pa.Table | None,
    config: StampConfig,
    fetch: Fetch,
    *,
    ebv: NDArray | None = None,
    over: Over = map,
) -> MadeStamps:
    """Make the stamp of every star; no star is dropped, and every detection that is not used is recorded.

    Parameters
    ----------
    stars : Table
        With id and position (degrees).
    detections : Table
        Rows of any stars; those of the stars' ids are used.
    images : Table or None
        Exposures, for what the detections do not say.
    config : StampConfig
        Bands, size, zero-point, cuts.
    fetch : callable
        ``fetch(object_id, image_id, ccd, band)`` gives the cut-out of a detection, or raises FileNotFoundError or
        :class:`InputError`.
    ebv : ndarray, shape (n_stars,), optional
        E(B-V) from dust maps, needed when the config names maps.
    over : callable
        As ``map``: in which order, or in how many threads, stars are gone through; results keep the stars' order.

    Returns
    -------
    MadeStamps
        All columns of the stars, ``stamp`` (null where there is no reference detection), ``stamp_coverage``,
        ``n_detections_<band>``, and ``quality_flags`` with what is wrong added: INCOMPLETE_BANDS for a band without an
        image or with more than ``max_missing`` of its pixels missing, of which no detection is used then;
        MISSING_PIXELS for any missing pixel, SATURATED for a saturated one within the stamp, MISSING_FEATURE for a
        star without E(B-V), which gets no stamp.

    Raises
    ------
    SchemaError
        If a column is missing or has a name that is made, ids are of different types, or E(B-V) was not handed over.

    Notes
    -----
    The stamp's middle is the whole pixel nearest to the star in the detection of the reference band that has the best
    seeing (unknown seeing is the worst; ties by exposure, then chip): of an even number of pixels the one right of and
    above the centre. Saturated pixels are missing before anything else is done.
    """
    schema = output_schema(stars.schema, config)
    found, star_of = detections_of(stars, detections, images, config)
    maker = StampMaker(config, found, star_of, _places(stars, config), _reddening(stars, config, ebv), fetch)
    made = _Made(stars.num_rows, config)
    for number, star in enumerate(over(maker.star, range(stars.num_rows))):
        made.add(number, star)
    return MadeStamps(made.table(stars, schema), made.rejects(found), made.used, made.full_wcs, made.other_zero_points)


class _Made:
    """Stamps of the stars of a table as they are made."""

    def __init__(self, n_stars: int, config: StampConfig) -> None:
        self.config, settings = config, config.stamps
        shape = (n_stars, *settings.format.shape)
        self.pixels = np.zeros(shape, dtype=np.dtype(settings.dtype).newbyteorder("<"))
        self.coverage = np.zeros(shape, dtype=np.uint8)
        self.counts = np.zeros((n_stars, len(settings.bands)), dtype=np.int16)
        self.flags = np.zeros(n_stars, dtype=np.int32)
        self.null = np.ones(n_stars, dtype=np.bool_)
        self.reasons: dict[int, tuple[str, str | None]] = {}
        self.used = self.full_wcs = self.other_zero_points = 0

    def add(self, number: int, star: StarStamp) -> None:
        """Take in the stamp of the star in a row of the table, and what was left out of it."""
        if star.pixels is not None and star.coverage is not None:
            self.pixels[number], self.coverage[number], self.null[number] = star.pixels, star.coverage, False
        self.counts[number], self.flags[number] = star.counts, star.flags
        self.reasons |= star.reasons
        self.used += int(star.counts.sum())
        self.full_wcs += star.full_wcs
        self.other_zero_points += star.other_zero_points

    def table(self, stars: pa.Table, schema: pa.Schema) -> pa.Table:
        """The stars with their stamps."""
        flags = self.flags
        if COLUMN in stars.schema.names:
            flags = flags | pc.fill_null(stars[COLUMN], 0).to_numpy().astype(np.int32)
        columns = {name: stars[name] for name in stars.schema.names} | {COLUMN: pa.array(flags)}
        for name, values in ((STAMP, self.pixels), (COVERAGE, self.coverage)):
            columns[name] = binary_array(values, schema.field(name).type, null=self.null)
        columns |= {name: pa.array(values) for name, values in zip(self.config.counts, self.counts.T, strict=True)}
        return pa.table([columns[name] for name in schema.names], names=schema.names).cast(schema)

    def rejects(self, found: Detections) -> pa.Table:
        """Detections that were not used, in their order."""
        reasons, details = list(found.reason), list[str | None]([None] * len(found.reason))
        for row, (reason, detail) in self.reasons.items():
            reasons[row], details[row] = reason, detail
        return found.rejects(self.config, reasons, details)


def _places(stars: pa.Table, config: StampConfig) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    return floats(stars, config.ra), floats(stars, config.dec)


def _reddening(stars: pa.Table, config: StampConfig, ebv: NDArray | None) -> NDArray[np.float64]:
    """E(B-V) of each star, NaN where it is not known; 0 where fluxes are not dereddened."""
    source = config.stamps.reddening
    if source is None:
        return np.zeros(stars.num_rows)
    if source.column is not None:
        ebv = floats(stars, source.column)
    elif source.value is not None:
        ebv = np.full(stars.num_rows, source.value)
    if ebv is None or np.shape(ebv) != (stars.num_rows,):
        raise SchemaError(
            "the job names SFD98 maps but E(B-V) was not handed over for each star",
            seen=None if ebv is None else f"shape {np.shape(ebv)}",
            needed=f"an array of {stars.num_rows} values",
        )
    values = np.asarray(ebv, dtype=np.float64)
    return np.where(np.isfinite(values), values, np.nan)
