"""Id indexes for other tools: which partition of a catalogue holds an id."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from stellarscale.catalog import atomic, finish, footers, layout
from stellarscale.catalog.opening import StoredCatalog, require_columns
from stellarscale.catalog.properties import CatalogProperties
from stellarscale.catalog.reader import read_pixel
from stellarscale.catalog.writer import WriteOptions, write_table
from stellarscale.errors import RowCountError, SchemaError

ROWS_PER_PART = 20_000_000


def write_index(
    stored: StoredCatalog,
    out: Path,
    *,
    column: str,
    rows_per_part: int = ROWS_PER_PART,
    options: WriteOptions | None = None,
) -> int:
    """Write a HATS index catalogue: the ids in rising order, each with its partition and ``_healpix_29``.

    The id column is read once for the bounds of the parts and once per part, so that memory holds one part.

    Parameters
    ----------
    stored : StoredCatalog
        An object catalogue.
    out : Path
        Directory of the index.
    column : str
        Integer or string column to index; rows with a null id are left out.
    rows_per_part : int
        Rows of one file, about.
    options : WriteOptions, optional
        Codec and row groups.

    Returns
    -------
    int
        Rows written.

    Raises
    ------
    SchemaError
        If there is no such column or it is neither integer nor string.
    """
    require_columns(stored.schema, [column], stored.root)
    kind = stored.schema.field(column).type
    if not (pa.types.is_integer(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        raise SchemaError("an index needs ids", where=column, seen=kind, needed="an integer or string column")
    schema = _schema(stored, column)
    expected, bounds = _bounds(stored, column, rows_per_part)
    rows = 0
    parts: list[str] = []
    for number, (low, high) in enumerate(bounds):
        pieces = list(_entries(stored, column, low, high))
        table = pa.concat_tables(pieces) if pieces else _entry_schema(schema).empty_table()
        table = table.sort_by([(column, "ascending"), (layout.SKY_COLUMN, "ascending")])
        path = layout.index_part_path(out, number)
        table = pa.Table.from_arrays(table.select(schema.names).columns, schema=schema)
        write_table(path, table, options or WriteOptions())
        parts.append(path.relative_to(layout.dataset_directory(out)).as_posix())
        rows += table.num_rows
    if rows != expected:
        raise RowCountError("the index lost or made rows", where=out, seen=rows, needed=expected)
    _finish(stored, out, column, parts, rows)
    return rows


def _schema(stored: StoredCatalog, column: str) -> pa.Schema:
    fields = [
        stored.schema.field(column),
        pa.field("Norder", pa.uint8(), metadata={b"description": b"HEALPix order of the partition"}),
        pa.field("Npix", pa.uint64(), metadata={b"description": b"NESTED pixel of the partition"}),
    ]
    return pa.schema([stored.schema.field(layout.SKY_COLUMN), *fields])


def _entry_schema(schema: pa.Schema) -> pa.Schema:
    return schema.remove_metadata()


def _bounds(stored: StoredCatalog, column: str, rows_per_part: int) -> tuple[int, list[tuple]]:
    """Number of ids, and the half-open bounds of each part's ids (None: open)."""
    rows = 0
    sample: list[pa.Array] = []
    parts = max(1, -(-stored.num_rows // rows_per_part))
    every = max(1, stored.num_rows // 100_000)
    for pixel in stored.pixels:
        ids = read_pixel(stored, pixel, columns=[column]).column(column).drop_null().combine_chunks()
        rows += len(ids)
        sample.append(ids.take(pa.array(np.arange(0, len(ids), every))))
    if parts == 1 or not rows:
        return rows, [(None, None)]
    ordered = pa.chunked_array(sample).combine_chunks()
    ordered = ordered.take(pc.sort_indices(ordered))
    cuts = [ordered[len(ordered) * i // parts].as_py() for i in range(1, parts)]
    cuts = sorted(set(cuts))
    return rows, list(zip([None, *cuts], [*cuts, None], strict=True))


def _entries(stored: StoredCatalog, column: str, low: object, high: object) -> Iterator[pa.Table]:
    for pixel in stored.pixels:
        table = read_pixel(stored, pixel, columns=[column])
        keep = pc.is_valid(table.column(column))
        if low is not None:
            keep = pc.and_(keep, pc.greater_equal(table.column(column), low))
        if high is not None:
            keep = pc.and_(keep, pc.less(table.column(column), high))
        table = table.filter(keep)
        table = table.append_column("Norder", pa.array(np.full(table.num_rows, pixel.order, dtype=np.uint8)))
        yield table.append_column("Npix", pa.array(np.full(table.num_rows, pixel.ipix, dtype=np.uint64)))


def _finish(stored: StoredCatalog, out: Path, column: str, parts: list[str], rows: int) -> None:
    merged: list[pq.FileMetaData] = []
    for part in parts:
        metadata = footers.file_footer(layout.dataset_directory(out) / part)
        metadata.set_file_path(part)
        merged.append(metadata)
    written = pq.read_schema(layout.dataset_directory(out) / parts[0])
    with atomic.atomic_write(layout.common_metadata_path(out)) as temporary:
        pq.write_metadata(written, temporary)
    extra = {"hats_primary_table_url": stored.properties.name, "hats_index_column": column}
    properties = CatalogProperties(
        name=f"{stored.properties.name}_{column}", kind="index", ra="", dec="", rows=rows, extra=extra
    )
    finish.write_properties(out, replace(properties, extra={**extra, **finish.provenance(out)}))
    finish.write_footers(out, written, merged)
