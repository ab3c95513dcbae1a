"""Rows of one Parquet file by their place on the sky: row groups chosen by statistics, rows by their sky key."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from stellarscale.catalog import footers, layout
from stellarscale.kernels.healpix import in_ranges

Ranges = NDArray[np.int64]


def read_slices(
    file: pq.ParquetFile, wanted: pa.Schema, merged: Ranges, groups: NDArray[np.int64] | None = None
) -> pa.Table:
    """Rows of a file that lie in some ranges, with the columns of a schema, types as the file has them.

    Row groups that are wanted whole are read at once; of others the sky key decides first. ``groups`` are the row
    groups to look at, when they are known.
    """
    place = footers.column_index(file.metadata, layout.SKY_COLUMN)
    chosen = groups_that_overlap(file.metadata, merged) if groups is None else groups.tolist()
    pieces = []
    for whole, run in groupby(chosen, lambda group: _is_inside(file.metadata, group, place, merged)):
        if whole:
            pieces.append(file.read_row_groups(list(run), columns=wanted.names, use_threads=False).select(wanted.names))
        else:
            pieces += [piece for group in run if (piece := _read_slice(file, group, wanted, merged)) is not None]
    return pa.concat_tables(pieces) if pieces else wanted.empty_table()


def read_group(file: pq.ParquetFile, wanted: pa.Schema, merged: Ranges, group: int, rows: int) -> Iterator[pa.Table]:
    """Rows of one row group as :func:`read_slices`, in parts of so many where all are wanted and along the sky.

    A part is decoded when it is asked for: of a row group of spectra only a part is in memory.
    """
    place = footers.column_index(file.metadata, layout.SKY_COLUMN)
    small = file.metadata.row_group(group).num_rows <= rows
    if not small and _is_inside(file.metadata, group, place, merged) and _is_sorted(file, group):
        for batch in file.iter_batches(rows, row_groups=[group], columns=wanted.names, use_threads=False):
            yield pa.Table.from_batches([batch]).select(wanted.names)
            del batch  # before the next one is read
    else:
        yield read_slices(file, wanted, merged, np.array([group]))


def _is_sorted(file: pq.ParquetFile, group: int) -> bool:
    """Whether the rows of a row group follow each other along the sky."""
    sky = file.read_row_group(group, columns=[layout.SKY_COLUMN], use_threads=False).column(0).to_numpy()
    return bool((sky[1:] >= sky[:-1]).all())


def _is_inside(metadata: pq.FileMetaData, group: int, place: int | None, merged: Ranges) -> bool:
    """Whether the statistics say that all rows of a row group lie in one of the ranges."""
    found = None if place is None else footers.statistics_of(metadata, group, place)
    if found is None or not found.has_null_count or found.null_count:
        return False
    index = int(np.searchsorted(merged[:, 0], found.min, side="right")) - 1
    return index >= 0 and found.max < int(merged[index, 1])


def _read_slice(file: pq.ParquetFile, group: int, wanted: pa.Schema, merged: Ranges) -> pa.Table | None:
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


def _mask(sky: NDArray, merged: Ranges) -> NDArray[np.bool_]:
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


def groups_that_overlap(metadata: pq.FileMetaData, merged: Ranges) -> list[int]:
    """Row groups that may hold rows of the ranges, by their statistics."""
    place = footers.column_index(metadata, layout.SKY_COLUMN)
    chosen = []
    for group in range(metadata.num_row_groups):
        found = None if place is None else footers.statistics_of(metadata, group, place)
        if found is None or footers.overlaps(np.array([found.min]), np.array([found.max]), merged)[0]:
            chosen.append(group)
    return chosen


def groups_follow(metadata: pq.FileMetaData) -> bool:
    """Whether the statistics say that each row group lies behind the one before it."""
    place = footers.column_index(metadata, layout.SKY_COLUMN)
    if place is None:
        return False
    highest = -1
    for group in range(metadata.num_row_groups):
        found = footers.statistics_of(metadata, group, place)
        if found is None or found.min < highest:
            return False
        highest = found.max
    return True
