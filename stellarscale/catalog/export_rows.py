"""Arrow tables as fixed-width, big-endian records, as in FITS binary tables and VOTable BINARY2 streams."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from stellarscale.catalog.wide import parts
from stellarscale.errors import SchemaError
from stellarscale.stamp_columns import COVERAGE, STAMP, binary_rows, format_of

ROWS_AT_A_TIME = 200_000

Tables = Callable[[], Iterator[pa.Table]]

# Arrow type, the type it is widened to, FITS letter, VOTable datatype, big-endian numpy type.
_SCALARS: list[tuple[Any, pa.DataType, str, str, str]] = [
    (pa.types.is_boolean, pa.bool_(), "L", "boolean", "u1"),
    (pa.types.is_uint8, pa.int16(), "I", "short", ">i2"),
    (pa.types.is_int8, pa.int16(), "I", "short", ">i2"),
    (pa.types.is_int16, pa.int16(), "I", "short", ">i2"),
    (pa.types.is_uint16, pa.int32(), "J", "int", ">i4"),
    (pa.types.is_int32, pa.int32(), "J", "int", ">i4"),
    (pa.types.is_uint32, pa.int64(), "K", "long", ">i8"),
    (pa.types.is_uint64, pa.int64(), "K", "long", ">i8"),
    (pa.types.is_int64, pa.int64(), "K", "long", ">i8"),
    (pa.types.is_float16, pa.float32(), "E", "float", ">f4"),
    (pa.types.is_float32, pa.float32(), "E", "float", ">f4"),
    (pa.types.is_float64, pa.float64(), "D", "double", ">f8"),
]


@dataclass(frozen=True)
class RecordColumn:
    """One column of the records.

    Parameters
    ----------
    field : pa.Field
        The column, with its unit, UCD and description.
    arrow : pa.DataType
        What its values are cast to first.
    count : int
        Values per row; the width of a string.
    letter : str
        FITS type letter.
    votable : str
        VOTable datatype.
    numpy : str
        Big-endian type of one value.
    bytes_of : str
        What the bytes of an image are, a numpy type; empty for other columns.
    shape : tuple of int
        Bands, rows and columns of an image.
    """

    field: pa.Field
    arrow: pa.DataType
    count: int
    letter: str
    votable: str
    numpy: str
    bytes_of: str = ""
    shape: tuple[int, ...] = ()

    @property
    def name(self) -> str:
        """Name of the column."""
        return self.field.name

    @property
    def null(self) -> int | None:
        """The lowest value of a scalar integer column, which stands for a missing one."""
        return int(np.iinfo(np.dtype(self.numpy)).min) if self.letter in "IJK" and self.count == 1 else None

    @property
    def dtype(self) -> tuple[Any, ...]:
        """Entry of the record's numpy type."""
        if self.letter == "A":
            return self.name, f"S{self.count}"
        return (self.name, self.numpy, (self.count,)) if self.count > 1 else (self.name, self.numpy)


def record_columns(schema: pa.Schema, tables: Tables) -> list[RecordColumn]:
    """Lay out a schema; the tables are gone through once when there are strings, whose longest must be known.

    Raises
    ------
    SchemaError
        If a column is of a type that such records cannot hold.
    """
    columns = [_image_column(schema, field) or _column(field) for field in schema]
    widths = {column.name: 1 for column in columns if column.letter == "A"}
    if widths:
        for table in tables():
            for name in widths:
                longest = pc.max(pc.binary_length(table.column(name).cast(pa.string()))).as_py()
                widths[name] = max(widths[name], longest or 0)
    return [replace(column, count=widths.get(column.name, column.count)) for column in columns]


def record_type(columns: Sequence[RecordColumn], *, flags: bool = False) -> np.dtype:
    """numpy type of a record; with ``flags``, BINARY2's bits of missing values come first."""
    # A name that no column can have, as it is not one that SQL or HATS allow.
    first = [("\0flags", "u1", (-(-len(columns) // 8),))] if flags else []
    return np.dtype([*first, *(column.dtype for column in columns)])


def records(table: pa.Table, columns: Sequence[RecordColumn], kind: np.dtype) -> Iterator[NDArray]:
    """Records of a table, a bounded number at a time."""
    for part in parts(table, ROWS_AT_A_TIME):
        rows = np.zeros(part.num_rows, dtype=kind)
        missing = np.zeros((part.num_rows, len(columns)), dtype=bool)
        for number, column in enumerate(columns):
            values = _one_array(part.column(column.name))
            values = values if column.bytes_of else values.cast(column.arrow)
            if values.null_count:
                missing[:, number] = np.asarray(values.is_null())
            rows[column.name] = _values(column, values)
        if kind.names and kind.names[0] == "\0flags":
            rows["\0flags"] = np.packbits(missing, axis=1)
        yield rows


def _column(field: pa.Field) -> RecordColumn:
    kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
    if pa.types.is_fixed_size_binary(kind):
        return RecordColumn(field, kind, kind.byte_width, "B", "unsignedByte", "u1")
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_temporal(kind):
        return RecordColumn(field, pa.string(), 1, "A", "char", "S1")
    inner, count = (kind.value_type, kind.list_size) if pa.types.is_fixed_size_list(kind) else (kind, 1)
    for test, wide, letter, votable, numpy in _SCALARS:
        if test(inner):
            return RecordColumn(field, pa.list_(wide, count) if count > 1 else wide, count, letter, votable, numpy)
    raise SchemaError(
        "a table of fixed-width rows cannot hold this column",
        where=f"column {field.name}",
        seen=field.type,
        needed="numbers, booleans, strings or vectors of fixed length; leave it out with `columns`",
    )


def _image_column(schema: pa.Schema, field: pa.Field) -> RecordColumn | None:
    """Stamps as stretched float32, their coverage as bytes, both in the shape of an image; None for other columns."""
    if field.name not in (STAMP, COVERAGE) or not pa.types.is_fixed_size_binary(field.type):
        return None
    try:
        layout = format_of(schema)
    except SchemaError:  # bytes that do not say what they are
        return None
    kind = pa.list_(pa.float32() if field.name == STAMP else pa.uint8(), layout.pixels)
    if field.name == STAMP:
        return RecordColumn(field, kind, layout.pixels, "E", "float", ">f4", layout.dtype, layout.shape)
    if field.type.byte_width != layout.pixels:
        return None
    return RecordColumn(field, kind, layout.pixels, "B", "unsignedByte", "u1", "uint8", layout.shape)


def _one_array(values: pa.ChunkedArray) -> pa.Array:
    return pa.concat_arrays(values.chunks) if values.num_chunks else pa.array([], values.type)


def _values(column: RecordColumn, values: pa.Array) -> NDArray:
    """Values of a column with the marks for missing ones."""
    if column.bytes_of:
        return _images(column, values)
    if column.letter == "A":
        return _strings(values, column.count)
    if column.letter == "B":
        blank = values.fill_null(b"\0" * column.count)
        return np.frombuffer(b"".join(blank.to_pylist()), dtype=np.uint8).reshape(-1, column.count)
    if column.count > 1:
        return _vectors(column, values)
    if column.letter == "L":
        flags = np.where(values.fill_null(False).to_numpy(zero_copy_only=False), ord("T"), ord("F"))
        return np.where(np.asarray(values.is_null()), 0, flags).astype(np.uint8)
    if column.null is None:
        return values.fill_null(float("nan")).to_numpy(zero_copy_only=False)
    if values.null_count and pc.any(pc.equal(values, pa.scalar(column.null, column.arrow))).as_py():
        raise SchemaError("a value equals the mark of a missing one", where=column.name, seen=column.null)
    return values.fill_null(column.null).to_numpy(zero_copy_only=False)


def _strings(values: pa.Array, width: int) -> NDArray:
    """ASCII strings, ended by NULs; other letters become question marks, as FITS knows ASCII only."""
    plain = pc.replace_substring_regex(values.fill_null(""), pattern=r"[^\x20-\x7E]", replacement="?")
    padded = pc.ascii_rpad(plain, width=width, padding="\0")
    # All strings have the same width now, so their bytes lie in one buffer without gaps.
    data = padded.buffers()[2]
    if data is None or not len(padded):
        return np.zeros(len(padded), dtype=f"S{width}")
    return np.frombuffer(data, dtype=f"S{width}", count=len(padded), offset=padded.offset * width)


def _images(column: RecordColumn, values: pa.Array) -> NDArray:
    """Pixels of images; a missing one is NaN, or 0 where pixels are numbers of detections."""
    matrix = binary_rows(values, column.bytes_of, (column.count,)).astype(column.numpy)
    matrix[np.asarray(values.is_null())] = np.nan if column.letter == "E" else 0
    return matrix


def _vectors(column: RecordColumn, values: pa.Array) -> NDArray:
    """Vectors as a matrix; a missing vector, or value in it, is NaN (0 for integers, which have no mark)."""
    blank = float("nan") if column.letter in "ED" else 0
    # `values` keeps the place of missing vectors, which `flatten` drops, but knows no slices.
    flat = values.values.slice(values.offset * column.count, len(values) * column.count)
    if column.letter == "L":
        matrix = np.where(flat.fill_null(False).to_numpy(zero_copy_only=False), ord("T"), ord("F"))
    else:
        matrix = flat.fill_null(blank).to_numpy(zero_copy_only=False)
    matrix = matrix.reshape(-1, column.count).copy()
    matrix[np.asarray(values.is_null())] = blank
    return matrix
