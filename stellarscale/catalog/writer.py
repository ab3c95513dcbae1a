"""How a partition file is written, and the files around the partitions that make them a HATS catalogue."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from stellarscale.catalog import atomic, finish, layout
from stellarscale.catalog.encodings import compression_of, encodings_of
from stellarscale.catalog.pixels import Pixel
from stellarscale.catalog.properties import CatalogProperties
from stellarscale.catalog.votable import CONTENT_KEY, VERSION_KEY, vo_metadata
from stellarscale.catalog.wide import is_image, wide_columns
from stellarscale.errors import CatalogError

SKY_FIELD = pa.field(
    layout.SKY_COLUMN,
    pa.int64(),
    metadata={b"ucd": b"pos.healpix", b"description": b"NESTED HEALPix pixel of order 29 of the position"},
)

_WIDE_GROUP_ROWS, _IMAGE_GROUP_ROWS = 4096, 512
_FOREIGN_METADATA = {b"pandas", b"ARROW:schema", VERSION_KEY, CONTENT_KEY}


@dataclass(frozen=True)
class WriteOptions:
    """How Parquet files are packed.

    Level 15 of zstd, the usual default of HATS writers, takes 13 times the time of level 3 for 3 % of the
    size. A row group of a table with spectra has at most 4,096 rows and one of stamps at most 512, whatever
    `row_group_rows` is.
    """

    compression: str = "zstd"
    level: int | None = 3
    row_group_rows: int = 100_000

    def group_rows(self, schema: pa.Schema) -> int:
        """Rows of a row group of tables of this schema."""
        if any(is_image(field.type) for field in schema):
            return min(self.row_group_rows, _IMAGE_GROUP_ROWS)
        return min(self.row_group_rows, _WIDE_GROUP_ROWS) if wide_columns(schema) else self.row_group_rows


@dataclass(frozen=True)
class PixelRecord:
    """What was written for a partition; a partition without rows has no file and an empty checksum."""

    pixel: Pixel
    rows: int
    bytes: int
    checksum: str


def write_pixel(
    root: Path,
    pixel: Pixel,
    table: pa.Table,
    options: WriteOptions = WriteOptions(),
) -> PixelRecord:
    """Write one partition atomically; the same rows give the same bytes.

    Parameters
    ----------
    root : Path
        Catalogue directory.
    pixel : Pixel
        The partition.
    table : pa.Table
        Rows of the partition with ``_healpix_29``, sorted by it. No rows: no file, and an old one is removed.
    options : WriteOptions
        Codec and row groups.

    Returns
    -------
    PixelRecord
        Rows, bytes and sha256 of the file.

    Raises
    ------
    CatalogError
        If ``_healpix_29`` is missing, null, unsorted or outside of the pixel.
    RunError
        If the disk is full.
    """
    return write_pixel_pieces(root, pixel, [table], table.schema, options)


def write_pixel_pieces(
    root: Path,
    pixel: Pixel,
    pieces: Iterable[pa.Table],
    schema: pa.Schema,
    options: WriteOptions = WriteOptions(),
) -> PixelRecord:
    """As :func:`write_pixel`, from tables that follow each other along the sky, with one in memory at a time.

    Parameters
    ----------
    root, pixel, options
        As there.
    pieces : iterable of pa.Table
        Each begins a row group.
    schema : pa.Schema
        Schema of the pieces.
    """
    path = layout.pixel_path(root, pixel)
    checked = _along_the_sky(pieces, pixel, path)
    first = list(itertools.islice(checked, 1))
    if not first:
        path.unlink(missing_ok=True)
        return PixelRecord(pixel, 0, 0, "")
    rows, size, checksum = _write(path, schema, itertools.chain(_drained(first), checked), options)
    return PixelRecord(pixel, rows, size, checksum)


def write_table(
    path: Path,
    table: pa.Table,
    options: WriteOptions = WriteOptions(),
) -> tuple[int, str]:
    """Write any table as a VOParquet file, atomically; returns its size in bytes and its sha256."""
    _, size, checksum = _write(path, table.schema, [table], options)
    return size, checksum


def _write(path: Path, schema: pa.Schema, tables: Iterable[pa.Table], options: WriteOptions) -> tuple[int, int, str]:
    """Rows, size in bytes and sha256 of what was written."""
    schema = stored_schema(schema)
    rows = 0
    with atomic.atomic_write(path) as temporary:
        with open_parquet(temporary, schema, options) as sink:
            for table in tables:
                stored = table.select(schema.names).cast(schema)
                sink.write_table(stored, row_group_size=options.group_rows(schema))
                rows += table.num_rows
                del table, stored  # before the next one is made
        # The disk takes the file while it is hashed; nothing is left to wait for before the rename.
        with ThreadPoolExecutor(1) as pool, temporary.open("rb") as file:
            synced = pool.submit(atomic.sync, temporary)
            checksum = hashlib.file_digest(file, "sha256").hexdigest()
            synced.result()
        size = temporary.stat().st_size
    return rows, size, checksum


def open_parquet(path: Path, schema: pa.Schema, options: WriteOptions) -> pq.ParquetWriter:
    """Parquet writer with the package's encodings.

    Floats: BYTE_STREAM_SPLIT, which lets zstd see the bytes that repeat. Integers: DELTA_BINARY_PACKED, a
    third smaller than plain for the sorted sky key at the same speed. Strings: dictionary. A dictionary on
    ids takes three times as long and makes them larger; on those that are strings, half as long again.
    Stamps: plain and not compressed, because their pixels are noise: zstd makes float16 stamps 8 % smaller and
    nine times slower to read.
    """
    strings, encodings = encodings_of(schema)
    compression, level = compression_of(schema, options.compression, options.level)
    scalars = [field.name for field in schema if not pa.types.is_nested(field.type) and not is_image(field.type)]
    return pq.ParquetWriter(
        path,
        schema,
        compression=compression,
        compression_level=level,
        use_dictionary=strings or False,
        column_encoding=encodings or None,
        write_statistics=scalars,
        store_schema=True,
    )


def stored_schema(schema: pa.Schema) -> pa.Schema:
    """The schema as it is written: ``_healpix_29`` first, VOTable metadata added, that of pandas left out."""
    fields = [field for field in schema if field.name != layout.SKY_COLUMN]
    if layout.SKY_COLUMN in schema.names:
        fields.insert(0, SKY_FIELD)
    kept = {key: value for key, value in (schema.metadata or {}).items() if key not in _FOREIGN_METADATA}
    bare = pa.schema(fields)
    return bare.with_metadata({**kept, **vo_metadata(bare)})


def finish_catalog(root: Path, properties: CatalogProperties, schema: pa.Schema, pixels: Sequence[Pixel]) -> int:
    """Write everything but the partitions: call it once, when all of them are there.

    Parameters
    ----------
    root : Path
        Catalogue directory.
    properties : CatalogProperties
        What the catalogue is; the number of rows is filled in here.
    schema : pa.Schema
        Schema of the partitions (needed for a catalogue without rows).
    pixels : sequence of Pixel
        Partitions that have a file.

    Returns
    -------
    int
        Rows of the catalogue.

    Raises
    ------
    CatalogError
        If a partition's file is missing, damaged, or has another schema.
    """
    return finish.finish_catalog(root, properties, stored_schema(schema), pixels)


def sweep_temporary(root: Path) -> int:
    """Remove what killed processes left; returns the number of files. Call it when nobody writes."""
    return atomic.sweep(root) if root.is_dir() else 0


def _along_the_sky(pieces: Iterable[pa.Table], pixel: Pixel, path: Path) -> Iterator[pa.Table]:
    """The pieces that have rows, checked to lie in the pixel and to follow each other."""
    low = pixel.first
    for table in pieces:
        if not table.num_rows:
            continue
        sky = _sorted_sky(table, path)
        if sky[0] < low or sky[-1] >= pixel.last:
            raise CatalogError(
                "rows lie outside of their partition",
                where=f"partition {pixel}, {path}",
                seen=f"_healpix_29 from {sky[0]} to {sky[-1]}",
                needed=f"{low} <= _healpix_29 < {pixel.last}",
            )
        low = int(sky[-1])
        yield table
        del table, sky


def _drained(tables: list[pa.Table]) -> Iterator[pa.Table]:
    """The tables of a list, which does not keep them."""
    while tables:
        yield tables.pop(0)


def _sorted_sky(table: pa.Table, path: Path) -> Any:
    """The sky key as an array, checked to be there, complete and sorted."""
    if layout.SKY_COLUMN not in table.column_names:
        raise CatalogError(
            "the table has no sky key",
            where=path,
            seen=", ".join(table.column_names),
            needed=layout.SKY_COLUMN,
        )
    column = table.column(layout.SKY_COLUMN)
    if column.null_count or column.type != pa.int64():
        raise CatalogError(
            "the sky key is not usable",
            where=f"{path}, column {layout.SKY_COLUMN}",
            seen=f"{column.type} with {column.null_count} nulls",
            needed="int64 without nulls",
        )
    sky = column.to_numpy()
    unsorted = np.flatnonzero(sky[1:] < sky[:-1])
    if len(unsorted):
        raise CatalogError(
            "rows are not sorted along the sky",
            where=f"{path}, row {unsorted[0] + 1}",
            seen=f"{sky[unsorted[0] + 1]} after {sky[unsorted[0]]}",
            needed="_healpix_29 in rising order",
        )
    return sky
