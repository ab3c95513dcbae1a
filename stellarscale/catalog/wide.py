"""Columns of long vectors: spectra and image stamps, whose rows are a thousand times as large as those of a table."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from stellarscale.errors import SchemaError
from stellarscale.spectra_columns import grid_of
from stellarscale.stamp_columns import format_of

_LONG = 256  # values, or bytes, that make a vector a spectrum or an image, and not a handful of magnitudes
_PART_BYTES = 128 << 20
_READ_ROWS, _READ_BYTES = 100_000, 24 << 20  # a row group of stamps, 512 of 48 x 48 x 6 pixels, is read at once


def wide_columns(schema: pa.Schema) -> list[str]:
    """Names of the columns of long vectors."""
    return [field.name for field in schema if is_long_list(field.type) or is_image(field.type)]


def is_long_list(kind: pa.DataType) -> bool:
    """Whether values of a type are spectra."""
    return pa.types.is_fixed_size_list(kind) and kind.list_size >= _LONG


def is_image(kind: pa.DataType) -> bool:
    """Whether values of a type are images: many bytes of a fixed number."""
    return pa.types.is_fixed_size_binary(kind) and kind.byte_width >= _LONG


def has_format(field: pa.Field) -> bool:
    """Whether a column says that it holds stamps."""
    try:
        format_of(pa.schema([field]))
    except SchemaError:
        return False
    return True


def has_grid(field: pa.Field) -> bool:
    """Whether a column says at which wavelengths its values stand."""
    try:
        grid_of(pa.schema([field]), field.name)
    except SchemaError:
        return False
    return True


def row_bytes(schema: pa.Schema) -> int:
    """Bytes of a row's vectors of fixed length; all else is small beside long ones."""
    kinds = [field.type for field in schema]
    lists = (kind for kind in kinds if pa.types.is_fixed_size_list(kind))
    images = (kind.byte_width for kind in kinds if pa.types.is_fixed_size_binary(kind))
    return sum(kind.list_size * max(1, kind.value_type.bit_width // 8) for kind in lists) + sum(images)


def part_rows(schema: pa.Schema) -> int:
    """Rows that are read at a time of tables whose rows may be large: about 24 MiB of them."""
    return max(1, min(_READ_ROWS, _READ_BYTES // max(1, row_bytes(schema))))


def parts(table: pa.Table, rows: int) -> Iterator[pa.Table]:
    """A table in parts of at most so many rows, and of a bounded size where rows are large."""
    rows = max(1, min(rows, _PART_BYTES // max(1, row_bytes(table.schema))))
    for start in range(0, table.num_rows, rows):
        yield table.slice(start, rows)
