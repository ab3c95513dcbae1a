"""Chosen rows with all columns, after a first read of a few columns has told which rows they are."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from stellarscale.catalog import footers
from stellarscale.catalog.opening import StoredCatalog
from stellarscale.catalog.reader import read_ranges
from stellarscale.errors import CatalogError
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
