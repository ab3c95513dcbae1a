"""Smallest and largest value of a column, without reading it."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq

from stellarscale.catalog import footers
from stellarscale.catalog.opening import StoredCatalog, files_of, require_columns


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


def _all_footers(catalog: StoredCatalog) -> Iterator[pq.FileMetaData]:
    whole = footers.footer(catalog.root)
    if whole is not None:
        yield whole
        return
    for pixel in catalog.pixels:
        for path in files_of(catalog, pixel):
            yield footers.file_footer(path)
