"""Reading partitions, or parts of the sky, of a HATS catalogue as Arrow tables along the sky."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import groupby
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from stellarscale.catalog import finish, footers, layout
from stellarscale.catalog.opening import StoredCatalog, files_of, open_stored, require_columns
from stellarscale.catalog.pixels import Pixel
from stellarscale.errors import CatalogError
from stellarscale.kernels.healpix import in_ranges, merge_ranges, pixel_of

__all__ = ["StoredCatalog", "extremes", "open_stored", "read_columns", "read_pixel", "read_ranges"]

log = logging.getLogger(__name__)


def read_pixel(
    catalog: StoredCatalog,
    pixel: Pixel,
    *,
    columns: Sequence[str] | None = None,
    ranges: NDArray[np.int64] | None = None,
) -> pa.Table:
    """Read one partition along the sky.

    Parameters
    ----------
    catalog : StoredCatalog
        An open catalogue.
    pixel : Pixel
        One of ``catalog.pixels``.
    columns : sequence of str, optional
        Columns to read, all when absent. ``_healpix_29`` always comes first.
    ranges : ndarray of int64, shape (n, 2), optional
        Keep the rows of these half-open ranges of ``_healpix_29``; any order, overlaps allowed.

    Returns
    -------
    pa.Table
        Sorted by ``_healpix_29``, which is computed from the position where the file lacks it.

    Raises
    ------
    CatalogError
        If the partition's file is missing or damaged.
    SchemaError
        If a column is not there.
    """
    wanted = _wanted(catalog, columns)
    merged = None if ranges is None else _merged(ranges)
    pieces = [_read_file(catalog, pixel, path, wanted, merged) for path in files_of(catalog, pixel)]
    return _joined(catalog, wanted, pieces)


def read_ranges(catalog: StoredCatalog, ranges: NDArray[np.int64], *, columns: Sequence[str] | None = None) -> pa.Table:
    """Read the rows of parts of the sky, from every partition that has some.

    Row groups are chosen by the statistics in ``_metadata``; partitions that hold none are not opened.

    Parameters
    ----------
    catalog : StoredCatalog
        An open catalogue.
    ranges : ndarray of int64, shape (n, 2)
        Half-open ranges of ``_healpix_29``; any order, overlaps allowed.
    columns : sequence of str, optional
        Columns to read, all when absent.

    Returns
    -------
    pa.Table
        Sorted by ``_healpix_29``. Errors as :func:`read_pixel`.
    """
    wanted = _wanted(catalog, columns)
    merged = _merged(ranges)
    pieces = [
        _read_file(catalog, pixel, path, wanted, merged, groups)
        for pixel, groups in _candidates(catalog, merged)
        for path in files_of(catalog, pixel)
    ]
    return _joined(catalog, wanted, pieces)


def read_columns(catalog: StoredCatalog, columns: Sequence[str]) -> pa.Table:
    """Some columns of every row, along the sky; for what is small enough to be in memory at once.

    Errors as :func:`read_pixel`.
    """
    wanted = _wanted(catalog, columns)
    return _joined(catalog, wanted, [read_pixel(catalog, pixel, columns=columns) for pixel in catalog.pixels])


def extremes(catalog: StoredCatalog, column: str) -> tuple[float, float] | None:
    """Smallest and largest value of a numeric column, from the Parquet statistics.

    Returns
    -------
    tuple of float or None
        None when the column is empty or all null, is not numeric, or some row group has no statistics.

    Raises
    ------
    SchemaError
        If there is no such column.
    """
    require_columns(catalog.schema, [column], catalog.root)
    kind = catalog.schema.field(column).type
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
        return None
    found: list[tuple[float, float]] = []
    for metadata in _all_footers(catalog):
        place = footers.column_index(metadata, column)
        for group in range(metadata.num_row_groups):
            statistics = None if place is None else footers.statistics_of(metadata, group, place)
            if statistics is not None:
                found.append((float(statistics.min), float(statistics.max)))
            elif place is None or not footers.all_null(metadata, group, place):
                return None
    return (min(low for low, _ in found), max(high for _, high in found)) if found else None


def _merged(ranges: NDArray[np.int64]) -> NDArray[np.int64]:
    return merge_ranges(np.asarray(ranges, dtype=np.int64).reshape(-1, 2))


def _wanted(catalog: StoredCatalog, columns: Sequence[str] | None) -> pa.Schema:
    """Schema of the result: the sky key first, then the columns as they were asked for."""
    if columns is None:
        return catalog.schema
    require_columns(catalog.schema, list(columns), catalog.root)
    names = dict.fromkeys([layout.SKY_COLUMN, *columns])
    known = {field.name: field for field in catalog.schema}
    return pa.schema([known[name] for name in names if name in known], metadata=catalog.schema.metadata)


def _candidates(catalog: StoredCatalog, merged: NDArray[np.int64]) -> Iterator[tuple[Pixel, NDArray[np.int64] | None]]:
    """Partitions, along the sky, that may hold rows of the ranges, and their row groups where known."""
    groups = footers.row_groups(catalog.root)
    known = set(groups.pixels) if groups is not None and catalog.properties.suffix != "/" else set()
    if groups is not None and known >= set(catalog.pixels):
        yield from groups.overlapping(merged)
        return
    low = np.array([pixel.first for pixel in catalog.pixels], dtype=np.int64)
    high = np.array([pixel.last - 1 for pixel in catalog.pixels], dtype=np.int64)
    for index in np.flatnonzero(footers.overlaps(low, high, merged)):
        yield catalog.pixels[index], None


def _read_file(
    catalog: StoredCatalog,
    pixel: Pixel,
    path: Path,
    wanted: pa.Schema,
    merged: NDArray[np.int64] | None,
    groups: NDArray[np.int64] | None = None,
) -> pa.Table:
    """Rows of one file, sorted; ``groups`` are the row groups to look at, when they are known."""
    with finish.open_partition(path, pixel) as file:
        has_sky = layout.SKY_COLUMN in file.schema_arrow.names
        _check_columns(file, wanted, pixel, path)
        try:
            if merged is not None and has_sky:
                return _read_slices(catalog, file, wanted, merged, groups)
            table = _read_whole(catalog, file, wanted, has_sky)
        except (OSError, pa.ArrowException) as error:
            raise finish.damaged(path, pixel, error) from error
    if merged is None:
        return table
    return table.filter(pa.array(in_ranges(table.column(layout.SKY_COLUMN).to_numpy(), merged)))


def _check_columns(file: pq.ParquetFile, wanted: pa.Schema, pixel: Pixel, path: Path) -> None:
    there = {*file.schema_arrow.names, layout.SKY_COLUMN}
    missing = [name for name in wanted.names if name not in there]
    if missing:
        raise CatalogError(
            "a partition has another schema than the catalogue",
            where=f"partition {pixel}, {path}",
            seen=f"columns {', '.join(file.schema_arrow.names)}",
            needed=", ".join(missing),
            cause="a file of another catalogue or version was put here",
        )


def _read_whole(catalog: StoredCatalog, file: pq.ParquetFile, wanted: pa.Schema, has_sky: bool) -> pa.Table:
    if has_sky or layout.SKY_COLUMN not in wanted.names:
        return _in_shape(catalog, file.read(columns=wanted.names, use_threads=False), wanted)
    _say_once(str(catalog.root), "its files have no _healpix_29: it is computed from the positions at every read")
    position = [catalog.properties.ra, catalog.properties.dec]
    names = list(dict.fromkeys([*wanted.names[1:], *position]))
    table = file.read(columns=names, use_threads=False)
    ra, dec = (table.column(name).to_numpy().astype(np.float64) for name in position)
    table = table.append_column(layout.SKY_COLUMN, pa.array(pixel_of(ra, dec), pa.int64()))
    return _in_shape(catalog, table, wanted)


def _read_slices(
    catalog: StoredCatalog,
    file: pq.ParquetFile,
    wanted: pa.Schema,
    merged: NDArray[np.int64],
    groups: NDArray[np.int64] | None,
) -> pa.Table:
    """Row groups that are wanted whole are read at once; of others the sky key decides first."""
    place = footers.column_index(file.metadata, layout.SKY_COLUMN)
    chosen = _groups_that_overlap(file.metadata, merged) if groups is None else groups.tolist()
    pieces = []
    for whole, run in groupby(chosen, lambda group: _is_inside(file.metadata, group, place, merged)):
        if whole:
            pieces.append(file.read_row_groups(list(run), columns=wanted.names, use_threads=False).select(wanted.names))
        else:
            pieces += [piece for group in run if (piece := _read_slice(file, group, wanted, merged)) is not None]
    table = pa.concat_tables(pieces) if pieces else wanted.empty_table()
    return _in_shape(catalog, table, wanted)


def _is_inside(metadata: pq.FileMetaData, group: int, place: int | None, merged: NDArray[np.int64]) -> bool:
    """Whether the statistics say that all rows of a row group lie in one of the ranges."""
    found = None if place is None else footers.statistics_of(metadata, group, place)
    if found is None or not found.has_null_count or found.null_count:
        return False
    index = int(np.searchsorted(merged[:, 0], found.min, side="right")) - 1
    return index >= 0 and found.max < int(merged[index, 1])


def _read_slice(file: pq.ParquetFile, group: int, wanted: pa.Schema, merged: NDArray[np.int64]) -> pa.Table | None:
    """Rows of the ranges in one row group; the other columns are decoded only when there are some."""
    sky_column = file.read_row_group(group, columns=[layout.SKY_COLUMN], use_threads=False)
    sky = sky_column.column(0).cast(pa.int64()).to_numpy()
    keep = _mask(sky, merged)
    if not keep.any():
        return None
    names = [name for name in wanted.names if name != layout.SKY_COLUMN]
    table = file.read_row_group(group, columns=names, use_threads=False) if names else sky_column
    if names:
        table = table.append_column(layout.SKY_COLUMN, pa.array(sky))
    return _kept(table.select(wanted.names), keep)


def _mask(sky: NDArray, merged: NDArray[np.int64]) -> NDArray[np.bool_]:
    """As `in_ranges`; sorted keys, the usual case, need a search for each bound only."""
    if not (sky[1:] >= sky[:-1]).all():
        return in_ranges(sky, merged)
    bounds = np.concatenate([[0], np.searchsorted(sky, merged.ravel()), [len(sky)]])
    return np.repeat(np.arange(len(bounds) - 1) % 2 == 1, np.diff(bounds))


def _kept(table: pa.Table, keep: NDArray[np.bool_]) -> pa.Table:
    """Rows of a mask; one run of them, the usual case, is cut out without a copy."""
    inside = np.flatnonzero(keep)
    first, last = int(inside[0]), int(inside[-1])
    if last - first + 1 == len(inside):
        return table.slice(first, len(inside))
    return table.filter(pa.array(keep))


def _groups_that_overlap(metadata: pq.FileMetaData, merged: NDArray[np.int64]) -> list[int]:
    place = footers.column_index(metadata, layout.SKY_COLUMN)
    chosen = []
    for group in range(metadata.num_row_groups):
        found = None if place is None else footers.statistics_of(metadata, group, place)
        if found is None or footers.overlaps(np.array([found.min]), np.array([found.max]), merged)[0]:
            chosen.append(group)
    return chosen


def _in_shape(catalog: StoredCatalog, table: pa.Table, wanted: pa.Schema) -> pa.Table:
    """Columns, types and order of the result; rows sorted along the sky."""
    table = table.select(wanted.names)
    if table.schema.types != wanted.types:
        table = table.cast(wanted)
    table = pa.Table.from_arrays(table.columns, schema=wanted)
    return _along_the_sky(catalog, table)


def _along_the_sky(catalog: StoredCatalog, table: pa.Table) -> pa.Table:
    if layout.SKY_COLUMN not in table.column_names:
        return table
    sky = table.column(layout.SKY_COLUMN).to_numpy()
    if (sky[1:] >= sky[:-1]).all():
        return table
    _say_once(str(catalog.root), "its rows are not sorted by _healpix_29: they are sorted at every read")
    return table.take(pa.array(np.argsort(sky, kind="stable")))


def _joined(catalog: StoredCatalog, wanted: pa.Schema, pieces: Sequence[pa.Table]) -> pa.Table:
    filled = [piece for piece in pieces if piece.num_rows]
    if not filled:
        return wanted.empty_table()
    if len(filled) == 1:
        return filled[0]
    return _along_the_sky(catalog, pa.concat_tables(filled))


def _all_footers(catalog: StoredCatalog) -> Iterator[pq.FileMetaData]:
    whole = footers.footer(catalog.root)
    if whole is not None:
        yield whole
        return
    for pixel in catalog.pixels:
        for path in files_of(catalog, pixel):
            yield footers.file_footer(path)


@lru_cache(maxsize=256)
def _say_once(root: str, what: str) -> None:
    log.warning("%s: %s", root, what)
