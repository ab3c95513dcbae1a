"""A catalogue, or part of it, as one FITS, CSV, VOTable or Parquet file for other tools."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from stellarscale.catalog.atomic import atomic_write
from stellarscale.catalog.export_fits import write_fits
from stellarscale.catalog.export_rows import Tables
from stellarscale.catalog.export_votable import write_votable
from stellarscale.catalog.opening import StoredCatalog, require_columns
from stellarscale.catalog.pixels import Pixel
from stellarscale.catalog.reader import read_batches_of, read_pixel
from stellarscale.catalog.subset import Subset
from stellarscale.catalog.wide import wide_columns
from stellarscale.catalog.writer import WriteOptions, open_parquet, stored_schema
from stellarscale.errors import ConfigError, SchemaError

log = logging.getLogger(__name__)


def export(
    stored: StoredCatalog,
    out: Path,
    *,
    format: str,
    columns: Sequence[str] | None = None,
    subset: Subset | None = None,
) -> int:
    """Write a catalogue as one file, partition by partition, so that memory does not grow with its size.

    Parameters
    ----------
    stored : StoredCatalog
        An open catalogue.
    out : Path
        File to write; replaced in one step when the new one is complete.
    format : str
        ``fits`` (binary table; opens in TOPCAT and astropy), ``csv`` (nulls empty), ``votable`` (BINARY2) or
        ``parquet`` (VOParquet).
    columns : sequence of str, optional
        Columns in the order wanted; all when absent, but a CSV file gets no spectra.
    subset : Subset, optional
        Rows to keep; all when absent.

    Returns
    -------
    int
        Rows written.

    Raises
    ------
    ConfigError
        If the format is unknown.
    SchemaError
        If a column is not there, or is of a type that the format cannot hold.
    """
    writers = {"fits": write_fits, "csv": write_csv, "votable": write_votable, "parquet": _write_parquet}
    if format not in writers:
        raise ConfigError("no such export format", seen=format, needed=" | ".join(writers))
    names = _all_columns(stored, format) if columns is None else list(columns)
    require_columns(stored.schema, names, stored.root)
    schema = pa.schema([stored.schema.field(name) for name in names])

    def tables() -> Iterator[pa.Table]:
        return partitions(stored, schema, subset)

    with atomic_write(Path(out)) as temporary:
        return writers[format](temporary, schema, tables, stored.properties.name)


def _all_columns(stored: StoredCatalog, format: str) -> list[str]:
    nested = [field.name for field in stored.schema if pa.types.is_nested(field.type) or _is_bytes(field.type)]
    vectors = nested if format == "csv" else []
    if vectors:
        log.warning("%s: a CSV file holds no vectors: %s left out", stored.root, ", ".join(vectors))
    return [name for name in stored.schema.names if name not in vectors]


def partitions(stored: StoredCatalog, schema: pa.Schema, subset: Subset | None) -> Iterator[pa.Table]:
    """The wanted columns and rows of each partition, or row group where there are spectra, along the sky."""
    ranges = None if subset is None else subset.ranges()
    position = [] if subset is None or subset.kind in {"pixels", "sample"} else _position(stored)
    for pixel in stored.pixels:
        if ranges is not None and not ((ranges[:, 0] < pixel.last) & (ranges[:, 1] > pixel.first)).any():
            continue
        names = list(dict.fromkeys([*schema.names, *position]))
        for table in _tables_of(stored, pixel, names, ranges):
            if subset is not None and table.num_rows:
                table = table.filter(pa.array(subset.mask(table, stored.properties.ra, stored.properties.dec)))
            if table.num_rows:
                yield table.select(schema.names)


def _tables_of(
    stored: StoredCatalog, pixel: Pixel, names: list[str], ranges: NDArray[np.int64] | None
) -> Iterator[pa.Table]:
    if wide_columns(pa.schema([stored.schema.field(name) for name in names])):
        yield from read_batches_of(stored, pixel, columns=names, ranges=ranges)
    else:
        yield read_pixel(stored, pixel, columns=names, ranges=ranges)


def _position(stored: StoredCatalog) -> list[str]:
    return [stored.properties.ra, stored.properties.dec]


def _write_parquet(path: Path, schema: pa.Schema, tables: Tables, name: str) -> int:
    options = WriteOptions()
    written = stored_schema(schema)
    written = pa.schema([written.field(column) for column in schema.names], metadata=written.metadata)
    rows = 0
    with open_parquet(path, written, options) as sink:
        for table in tables():
            sink.write_table(table.cast(written), row_group_size=options.group_rows(written))
            rows += table.num_rows
    return rows


def write_csv(path: Path, schema: pa.Schema, tables: Tables, name: str) -> int:
    """Write tables of one schema as CSV, nulls empty; returns the rows.

    Raises
    ------
    SchemaError
        If there are vectors among the columns.
    """
    from pyarrow import csv

    nested = [field.name for field in schema if pa.types.is_nested(field.type) or _is_bytes(field.type)]
    if nested:
        raise _cannot_hold("CSV", nested)
    rows = 0
    options = csv.WriteOptions(quoting_style="needed")
    with csv.CSVWriter(path, schema, write_options=options) as sink:
        for table in tables():
            sink.write_table(table.cast(schema))
            rows += table.num_rows
    return rows


def _is_bytes(kind: pa.DataType) -> bool:
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind)


def _cannot_hold(what: str, names: list[str]) -> SchemaError:
    return SchemaError(
        f"{what} cannot hold vectors",
        seen=", ".join(names),
        needed="columns without them, or the format fits or parquet",
    )
