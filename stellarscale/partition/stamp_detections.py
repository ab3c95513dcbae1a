"""Which detections of the stars of a table may enter their stamps, and what the tables know of each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from stellarscale.kernels.stamp_stack import MOST_DETECTIONS
from stellarscale.partition.cuts import failed_cuts_of
from stellarscale.partition.features import floats
from stellarscale.partition.stamp_config import StampConfig, check_sources, detection_columns, rejects_schema

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Detections:
    """Detections of some stars, ordered by star, exposure, chip and band; whatever the order of their table.

    Attributes
    ----------
    rows : Table
        As they are stored.
    object_id, image_id, ccd, band : ndarray, shape (n,)
        Which they are.
    star : ndarray of int64, shape (n,)
        Number of the star among the different ids of the stars.
    band_index : ndarray of int64, shape (n,)
        Place in the job's bands, -1 for another band.
    zero_point, sky, fwhm_arcsec : ndarray of float64, shape (n,)
        What the tables say; NaN where they say nothing, or a zero-point that cannot be.
    refused_zero_point : ndarray of float64, shape (n,)
        The first zero-point of the tables that cannot be; NaN where there is none.
    reason : list of str or None
        Why a detection is not to be used; None for one that may be.
    """

    rows: pa.Table
    object_id: NDArray[Any]
    image_id: NDArray[Any]
    ccd: NDArray[Any]
    band: NDArray[Any]
    star: NDArray[np.int64]
    band_index: NDArray[np.int64]
    zero_point: Floats
    sky: Floats
    fwhm_arcsec: Floats
    refused_zero_point: Floats
    reason: list[str | None]

    def rejects(self, config: StampConfig, reasons: list[str | None], details: list[str | None]) -> pa.Table:
        """The record of those that have a reason."""
        columns = config.stamps.columns
        named = [self.rows[name] for name in (columns.object_id, columns.image_id, columns.ccd, columns.band)]
        table = pa.table(
            [*named, pa.array(reasons, pa.string()), pa.array(details, pa.string())],
            schema=rejects_schema(self.rows.schema, config),
        )
        return table.filter(pc.is_valid(table["reason"]))


def detections_of(
    stars: pa.Table, detections: pa.Table, images: pa.Table | None, config: StampConfig
) -> tuple[Detections, NDArray[np.int64]]:
    """Detections that belong to the stars by their id, and the number of each star's id; -1 for a star without one.

    Raises
    ------
    SchemaError
        As :func:`check_sources`.
    """
    check_sources(stars.schema, detections.schema, None if images is None else images.schema, config)
    settings, columns = config.stamps, config.stamps.columns
    ids = pc.unique(stars[settings.object_id]).drop_null()
    star_of = pc.fill_null(pc.index_in(stars[settings.object_id], value_set=ids), -1).to_numpy().astype(np.int64)
    place = pc.index_in(detections[columns.object_id], value_set=ids, skip_nulls=True)
    rows = detections.select(detection_columns(settings)).append_column("\0star", place)
    rows = rows.filter(pc.is_valid(rows["\0star"])).combine_chunks()
    order = [("\0star", "ascending"), *((name, "ascending") for name in (columns.image_id, columns.ccd, columns.band))]
    rows = rows.take(pc.sort_indices(rows, sort_keys=order))
    band = rows[columns.band]
    index = pc.fill_null(pc.index_in(band, value_set=pa.array(settings.bands, band.type)), -1)
    zero_point, sky, fwhm, refused = _known(rows, images, config)
    names = (columns.object_id, columns.image_id, columns.ccd, columns.band)
    object_id, image_id, ccd, name = (_values(rows[each]) for each in names)
    star, band_index = (column.to_numpy().astype(np.int64) for column in (rows["\0star"], index))
    stored = rows.drop_columns(["\0star"])
    reason: list[str | None] = [None] * rows.num_rows
    found = Detections(stored, object_id, image_id, ccd, name, star, band_index, zero_point, sky, fwhm, refused, reason)
    _judge(found, config)
    return found, star_of


def _judge(found: Detections, config: StampConfig) -> None:
    """Fill in the reasons that the tables alone give; the first that holds counts."""
    settings, columns = config.stamps, config.stamps.columns
    unusable = np.zeros(found.rows.num_rows, dtype=np.bool_)

    def reject(failed: NDArray[np.bool_], reason: str) -> None:
        for row in np.flatnonzero(failed & ~unusable):
            found.reason[row] = reason
        np.logical_or(unusable, failed, out=unusable)

    for name in (columns.image_id, columns.ccd, columns.band):
        reject(np.asarray(found.rows[name].is_null()), f"no {name}")
    reject(found.band_index < 0, "band not asked for")
    for name, failed in failed_cuts_of(found.rows, settings.use).items():
        reject(failed, f"cut {name}")
    reject(_repeated(found, ~unusable), "given twice")
    reject(_surplus(found, ~unusable), f"more than {MOST_DETECTIONS} of the band")


def _repeated(found: Detections, usable: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Detections of a star on a chip where an earlier one of it is usable."""
    result = np.zeros(len(usable), dtype=np.bool_)
    rows = np.flatnonzero(usable)
    before, after = rows[:-1], rows[1:]
    same = found.star[before] == found.star[after]
    for values in (found.image_id, found.ccd):
        same &= values[before] == values[after]
    result[after[same]] = True
    return result


def _surplus(found: Detections, usable: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Detections beyond those that a coverage of one byte can count."""
    result = np.zeros(len(usable), dtype=np.bool_)
    rows = np.flatnonzero(usable)
    key = found.star[rows] * (found.band_index.max(initial=0) + 1) + found.band_index[rows]
    order = np.argsort(key, kind="stable")
    _, first, counts = np.unique(key[order], return_index=True, return_counts=True)
    rank = np.arange(len(rows)) - np.repeat(first, counts)
    result[rows[order[rank >= MOST_DETECTIONS]]] = True
    return result


def _known(rows: pa.Table, images: pa.Table | None, config: StampConfig) -> tuple[Floats, Floats, Floats, Floats]:
    """Zero-point, sky and seeing: of the detection, else of its exposure, else NaN; and refused zero-points."""
    ours, theirs = config.stamps.columns, config.stamps.image_columns
    place = None
    if images is not None:
        ids = images[theirs.image_id].combine_chunks()
        place = pc.fill_null(pc.index_in(rows[ours.image_id], value_set=ids, skip_nulls=True), -1).to_numpy()
    pairs = (
        (ours.zero_point, theirs.zero_point),
        (ours.background, theirs.background),
        (ours.fwhm, theirs.fwhm),
    )
    refused, found = np.full(rows.num_rows, np.nan), list[Floats]()
    for own, other in pairs:
        values = np.full(rows.num_rows, np.nan) if own is None else floats(rows, own)
        of_image = np.full(rows.num_rows, np.nan)
        if place is not None and images is not None and other is not None and images.num_rows:
            of_image = np.where(place >= 0, floats(images, other)[np.maximum(place, 0)], np.nan)
        if not found:  # the zero-points
            (values, refused), (of_image, beside) = (_believed(each, config) for each in (values, of_image))
            refused = np.where(np.isfinite(refused), refused, np.where(np.isfinite(values), np.nan, beside))
        found.append(np.where(np.isfinite(values), values, of_image))
    zero_point, sky, fwhm = found
    return zero_point, sky, np.where(fwhm > 0, fwhm, np.nan), refused


def _believed(zero_points: Floats, config: StampConfig) -> tuple[Floats, Floats]:
    """Those that can be and those that cannot, NaN elsewhere."""
    low, high = config.stamps.zero_points
    can_be = (zero_points >= low) & (zero_points <= high)
    return np.where(can_be, zero_points, np.nan), np.where(can_be | ~np.isfinite(zero_points), np.nan, zero_points)


def _values(column: pa.ChunkedArray) -> NDArray[Any]:
    """Values for comparisons and names of files; what stands for a null does not matter."""
    kind = column.type
    blank = 0 if pa.types.is_integer(kind) else ""
    return pc.fill_null(column, pa.scalar(blank, kind)).to_numpy(zero_copy_only=False)
