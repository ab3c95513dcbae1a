"""Chosen rows with all columns, after a first read of a few columns has told which rows they are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from stellarscale.catalog import footers
from stellarscale.catalog.opening import StoredCatalog, require_columns
from stellarscale.catalog.pixels import Pixel
from stellarscale.catalog.reader import read_pixel, read_ranges
from stellarscale.errors import CatalogError, SchemaError
from stellarscale.kernels.healpix import merge_ranges
from stellarscale.kernels.keys import places_among

Rows = NDArray[np.int64]


def read_rest(catalog: StoredCatalog, sky: pa.Table, rows: Rows) -> tuple[pa.Table, Rows]:
    """The columns that a first read left out, from the row groups that hold one of some rows.

    Parameters
    ----------
    catalog : StoredCatalog
        An open catalogue.
    sky : pa.Table
        What `read_pixel` or `read_ranges` gave for some of its columns: with every row that has one of its keys.
    rows : ndarray of int64, shape (n,)
        Rows of `sky`; -1 for no row.

    Returns
    -------
    rest : pa.Table
        ``_healpix_29`` and the columns that `sky` lacks; more rows than were asked for, because a row group is read
        whole. Nothing is read of the others.
    places : ndarray of int64, shape (n,)
        Where the rows are in `rest`; -1 for no row.

    Raises
    ------
    CatalogError
        If the files changed between the reads.
    """
    keys, there = sky.column(0).to_numpy(), rows >= 0
    names = [name for name in catalog.schema.names if name not in sky.column_names]
    rest = read_ranges(catalog, _spans(catalog, keys, rows[there]), columns=names)
    places = rows.copy()
    places[there] = places_among(rest.column(0).to_numpy(), keys)[rows[there]]
    if (places[there] < 0).any():
        raise CatalogError("a catalogue changed while it was read", where=catalog.root, cause="another run writes it")
    return rest, places


def gather_rows(catalog: StoredCatalog, column: str, values: Sequence[Any], columns: Sequence[str]) -> pa.Table:
    """Rows that have one of some values in a column, with other columns of them.

    The one column is read everywhere, the others only from row groups that hold such a row, one row group at a
    time. An index would not spare more: it tells partitions.

    Parameters
    ----------
    catalog : StoredCatalog
        An open catalogue.
    column : str
        An id, or what else tells rows apart.
    values : sequence, pa.Array or ndarray
        Values to look for; what is not found is missing in the result, nulls are not looked for.
    columns : sequence of str
        Columns wanted beside that one.

    Returns
    -------
    pa.Table
        ``_healpix_29``, `column`, `columns`; along the sky, whatever the order of the values.

    Raises
    ------
    SchemaError
        If a column is not there, or the values are none of its kind.
    CatalogError
        If a partition is missing or damaged.
    """
    require_columns(catalog.schema, [column, *columns], catalog.root)
    kind, given = catalog.schema.field(column).type, pa.array(values)
    try:
        looked_for = given.cast(kind).drop_null()
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        where, needed = f"column {column}", f"values of the type {kind}"
        raise SchemaError(
            "these values cannot be in the column", where=where, seen=given.type, needed=needed
        ) from error
    names = [column, *(name for name in columns if name != column)]
    pieces = [piece for pixel in catalog.pixels for piece in _rows_with(catalog, pixel, looked_for, names)]
    if pieces:
        return pa.concat_tables(pieces)
    return read_ranges(catalog, np.empty((0, 2), dtype=np.int64), columns=names)


def _rows_with(catalog: StoredCatalog, pixel: Pixel, values: pa.Array, names: list[str]) -> Iterator[pa.Table]:
    """Rows of a partition whose first named column is among the values."""
    keys = read_pixel(catalog, pixel, columns=names[:1])
    found = np.flatnonzero(pc.is_in(keys.column(names[0]), values))
    done = pixel.first
    for low, high in np.sort(_spans(catalog, keys.column(0).to_numpy(), found), axis=0):
        # One key may end a row group and begin the next: its rows come with the first of the two.
        first, done = max(low, done), max(done, min(high, pixel.last))
        if first < done:
            table = read_ranges(catalog, np.array([[first, done]]), columns=names)
            yield table.filter(pc.is_in(table.column(names[0]), values))


def may_hold(catalog: StoredCatalog, ranges: Rows) -> bool:
    """Whether parts of the sky, as `read_ranges` takes them, may have rows; no partition is opened."""
    return bool(footers.overlaps(*_bounds(catalog), merge_ranges(ranges)).any())


def _bounds(catalog: StoredCatalog) -> tuple[Rows, Rows]:
    """Smallest and largest key of each row group; of whole partitions where those are not known."""
    groups = footers.row_groups(catalog.root)
    if groups is not None and set(groups.pixels) >= set(catalog.pixels):
        return groups.low, groups.high
    bounds = [(pixel.first, pixel.last - 1) for pixel in catalog.pixels]
    low, high = np.array(bounds, dtype=np.int64).reshape(-1, 2).T
    return low, high


def _spans(catalog: StoredCatalog, keys: Rows, chosen: Rows) -> Rows:
    """Half-open ranges of the row groups, or partitions, that hold a chosen one of the ascending keys."""
    low, high = _bounds(catalog)
    is_chosen = np.zeros(len(keys), dtype=bool)
    is_chosen[chosen] = True
    before = np.concatenate([[0], np.cumsum(is_chosen)])
    holds = before[np.searchsorted(keys, low)] < before[np.searchsorted(keys, high, side="right")]
    return np.stack([low[holds], high[holds] + 1], axis=1)
