"""Read native survey files of any accepted format as canonical Arrow batches."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from stellarscale.errors import RowCountError, SchemaError
from stellarscale.kernels.in_order import in_order
from stellarscale.schema import SurveySchema
from stellarscale.surveys.canonical import REJECTS, CanonicalBatch, canonical_batch
from stellarscale.surveys.fits_table import open_fits
from stellarscale.surveys.mapping import match_columns
from stellarscale.surveys.native import Source, open_bytes
from stellarscale.surveys.other_tables import open_parquet, open_votable
from stellarscale.surveys.plan import canonical_schema, chosen_columns, column_names, make_plan
from stellarscale.surveys.text_layout import find_layout
from stellarscale.surveys.text_table import TextTable

__all__ = [
    "REJECTS",
    "CanonicalBatch",
    "canonical_schema",
    "chosen_columns",
    "describe",
    "inspect",
    "open_source",
    "read_batches",
]

_LOG = logging.getLogger(__name__)


def open_source(path: str | Path, schema: SurveySchema) -> Source:
    """Open a native table by its content: FITS, Parquet, VOTable, ECSV, CSV, headerless text; gzip, bz2 too.

    Raises
    ------
    InputError
        If the file is missing, empty, truncated or of no known format.
    """
    path = Path(path)
    with open_bytes(path) as stream:
        start = stream.read(512)
    if start.startswith(b"PAR1"):
        return open_parquet(path)
    if start.startswith(b"SIMPLE  ="):
        return open_fits(path, schema.hdu)
    if start.lstrip(b"\xef\xbb\xbf \r\n\t").startswith((b"<?xml", b"<VOTABLE")):
        return open_votable(path)
    return TextTable(path, find_layout(path, schema), schema.text.null_values)


def inspect(path: str | Path, schema: SurveySchema) -> tuple[str, ...]:
    """Canonical columns that a file can give, in the schema's order; only headers are read.

    Raises
    ------
    SchemaError
        If a required column is missing, names collide, or a unit cannot be converted.
    InputError
        As :func:`open_source`.
    """
    source = open_source(path, schema)
    mapping = match_columns(source, schema)
    names = column_names(schema, mapping)
    make_plan(source, schema, mapping, names)  # a wrong unit is told now, not when the import is half done
    return names


def has_positions(path: str | Path, schema: SurveySchema) -> bool:
    """Whether a file gives right ascension and declination; some surveys' files come without."""
    mapping = match_columns(open_source(path, schema), schema)
    return mapping.gives(schema.position.ra) and mapping.gives(schema.position.dec)


def read_batches(
    path: str | Path,
    schema: SurveySchema,
    columns: Sequence[str],
    *,
    batch_rows: int = 500_000,
    first_id: int = 0,
    threads: int = 1,
) -> Iterator[CanonicalBatch]:
    """Read a file as canonical batches; ``batch_rows``, not the file, bounds memory (VOTable excepted).

    Parameters
    ----------
    columns : sequence of str
        Canonical columns wanted; id and position always come along, what the file lacks is null.
    batch_rows : int
        Rows per batch; all but the last have exactly this many, counting rejects.
    first_id : int
        Number, across all files, of this file's first row.
    threads : int
        Threads that work on the file; the batches do not depend on it.

    Yields
    ------
    CanonicalBatch
        ``table`` has valid, finite positions only; ``rows_in == table.num_rows + rejects.num_rows``.

    Raises
    ------
    SchemaError, InputError
        As :func:`inspect`; and if a unit cannot be converted, a value does not parse, or the file is damaged.
    """
    path = Path(path)
    source = open_source(path, schema)
    plan = make_plan(source, schema, match_columns(source, schema), columns)
    row = 0

    def placed() -> Iterator[tuple[int, pa.Table]]:
        nonlocal row
        for native in source.batches(plan.native_types(), batch_rows, threads=threads):
            yield row, native
            row += native.num_rows

    def canonical(item: tuple[int, pa.Table]) -> CanonicalBatch:
        first_row, native = item
        return canonical_batch(native, plan, path=path, first_row=first_row, first_id=first_id + first_row)

    yield from in_order(canonical, placed(), threads)
    if source.rows is not None and row != source.rows:
        raise RowCountError(
            "the file gave another number of rows than it states", where=path, seen=row, needed=source.rows
        )
    if not row:
        _LOG.warning("%s: the table has no rows", path)


def describe(path: str | Path, schema: SurveySchema) -> dict[str, Any]:
    """What a file holds and how its columns map to a schema, ready for JSON; missing columns raise nothing.

    Returns
    -------
    dict
        path, format, rows (None if the header does not say), found (name, dtype, unit), mapping (canonical to
        native name), derived (canonical to function), missing_optional, and problem (text of the error that
        reading would raise, or None).
    """
    source = open_source(path, schema)
    found = [{"name": column.name, "dtype": column.dtype, "unit": column.unit} for column in source.columns]
    summary: dict[str, Any] = {
        "path": str(path),
        "format": source.format,
        "rows": source.rows,
        "found": found,
    }
    try:
        mapping = match_columns(source, schema)
    except SchemaError as error:
        return summary | {"mapping": {}, "derived": {}, "missing_optional": [], "problem": str(error)}
    missing = [name for name, column in schema.columns.items() if column.keep and not mapping.gives(name)]
    return summary | {
        "mapping": {name: column.name for name, column in mapping.native.items()},
        "derived": {name: derivation.function for name, derivation in mapping.derived.items()},
        "missing_optional": missing,
        "problem": None,
    }
