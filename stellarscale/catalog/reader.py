"""Reading partitions, or parts of the sky, of a HATS catalogue as Arrow tables along the sky."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from stellarscale.catalog import finish, footers, layout
from stellarscale.catalog.extremes import extremes
from stellarscale.catalog.opening import StoredCatalog, files_of, open_stored, require_columns
from stellarscale.catalog.pixels import Pixel
from stellarscale.catalog.slices import groups_follow, groups_that_overlap, read_group, read_slices
from stellarscale.catalog.wide import part_rows, parts
from stellarscale.errors import CatalogError
from stellarscale.kernels.healpix import ORDER, in_ranges, merge_ranges, pixel_of

__all__ = [
    "StoredCatalog",
    "extremes",
    "open_stored",
    "read_batches_of",
    "read_columns",
    "read_pixel",
    "read_ranges",
]

_WHOLE_SKY = np.array([[0, 12 << (2 * ORDER)]], dtype=np.int64)
_PART_ROWS = 100_000
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


def read_batches_of(
    catalog: StoredCatalog,
    pixel: Pixel,
    *,
    columns: Sequence[str] | None = None,
    ranges: NDArray[np.int64] | None = None,
) -> Iterator[pa.Table]:
    """Read one partition a row group at a time, spectra in smaller parts; the tables follow each other along the sky.

    Where the file says nothing of the order of its row groups, or there are several files, the partition is read
    as a whole and given in parts.

    Parameters
    ----------
    catalog, pixel, columns, ranges
        As for :func:`read_pixel`.

    Yields
    ------
    pa.Table
        Rows of a row group or of a part of one, at least one row. Errors as :func:`read_pixel`.
    """
    paths = files_of(catalog, pixel)
    wanted = _wanted(catalog, columns)
    merged = _merged(_WHOLE_SKY if ranges is None else ranges)
    if len(paths) == 1:
        with finish.open_partition(paths[0], pixel) as file:
            if groups_follow(file.metadata):
                _check_columns(file, wanted, pixel, paths[0])
                yield from _groups_of(catalog, pixel, file, wanted, merged)
                return
    yield from parts(read_pixel(catalog, pixel, columns=columns, ranges=ranges), _PART_ROWS)


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
                return _in_shape(catalog, read_slices(file, wanted, merged, groups), wanted)
            table = _read_whole(catalog, file, wanted, has_sky)
        except (OSError, pa.ArrowException) as error:
            raise finish.damaged(path, pixel, error) from error
    if merged is None:
        return table
    return table.filter(pa.array(in_ranges(table.column(layout.SKY_COLUMN).to_numpy(), merged)))


def _groups_of(
    catalog: StoredCatalog, pixel: Pixel, file: pq.ParquetFile, wanted: pa.Schema, merged: NDArray[np.int64]
) -> Iterator[pa.Table]:
    rows = part_rows(wanted)
    try:
        for group in groups_that_overlap(file.metadata, merged):
            for piece in read_group(file, wanted, merged, group, rows):
                if piece.num_rows:
                    yield _in_shape(catalog, piece, wanted)
                del piece  # before the next one is read
    except (OSError, pa.ArrowException) as error:
        raise finish.damaged(files_of(catalog, pixel)[0], pixel, error) from error


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


@lru_cache(maxsize=256)
def _say_once(root: str, what: str) -> None:
    log.warning("%s: %s", root, what)
