"""Values of one column on their way from native to canonical: casts, sentinels, ranges.

Numbers travel as numpy arrays with a mask (null, NaN and infinity are invalid), strings as Arrow arrays.
"""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from stellarscale.errors import InputError, SchemaError
from stellarscale.flags import Flag
from stellarscale.schema import DTYPES, Column

_EXACT = {2: 1 << 11, 4: 1 << 24, 8: 1 << 53}  # integers up to here survive in a float of this many bytes


class Cells(NamedTuple):
    """Numbers (rows,) and which of them are valid (None: all)."""

    values: NDArray[Any]
    valid: NDArray[np.bool_] | None


Value: TypeAlias = Cells | pa.Array


def canonical_value(
    native: pa.Array, column: Column, flags: NDArray[np.int32], *, factor: float, where: str, first_row: int
) -> Value:
    """Cast a native column (rows,) to its canonical dtype, null its sentinels and the values out of range.

    Parameters
    ----------
    native : pa.Array
        Values as read.
    column : Column
        What the schema says of them.
    flags : ndarray of int32, shape (rows,)
        SENTINEL_NULL and OUT_OF_RANGE are set here, in place; NaN sets neither.
    factor : float
        From the file's unit to the schema's; sentinels are compared before it is applied.

    Raises
    ------
    SchemaError
        If the types cannot be reconciled without loss, such as ids stored as floats.
    InputError
        If a string is not the number it should be; row and value are told.
    """
    if pa.types.is_dictionary(native.type):
        native = native.dictionary_decode()
    if column.dtype == "string":
        return _strings(native, column, flags, where)
    if _is_text(native.type):
        native = _parsed(native, column, where=where, first_row=first_row)
    cells = _cast(_cells(native, where), np.dtype(column.dtype), where)
    cells = _without_sentinels(cells, column.null, flags)
    if factor != 1.0:
        cells = Cells((cells.values * np.float64(factor)).astype(cells.values.dtype), cells.valid)
    return _within_range(cells, column.range, flags)


def to_arrow(value: Value, dtype: pa.DataType) -> pa.Array:
    """Arrow array of a value; invalid numbers become null."""
    if isinstance(value, Cells):
        return pa.array(value.values, dtype, mask=None if value.valid is None else ~value.valid)
    return value


def nulls(rows: int, column: Column) -> Value:
    """A column (rows,) that is null throughout."""
    if column.dtype == "string":
        return pa.nulls(rows, pa.string())
    return Cells(np.zeros(rows, column.dtype), np.zeros(rows, np.bool_))


def valid_of(value: Value) -> NDArray[np.bool_]:
    """Which rows hold a value (rows,)."""
    if isinstance(value, Cells):
        return np.ones(len(value.values), np.bool_) if value.valid is None else value.valid
    return value.is_valid().to_numpy(zero_copy_only=False)


def _is_text(dtype: pa.DataType) -> bool:
    return pa.types.is_string(dtype) or pa.types.is_large_string(dtype) or pa.types.is_string_view(dtype)


def _cells(native: pa.Array, where: str) -> Cells:
    if pa.types.is_decimal(native.type):
        native = native.cast(pa.float64() if native.type.scale > 0 else pa.int64())
    if pa.types.is_null(native.type):
        return Cells(np.zeros(len(native), np.int8), np.zeros(len(native), np.bool_))
    valid = native.is_valid().to_numpy(zero_copy_only=False) if native.null_count else None
    if pa.types.is_boolean(native.type):
        filled = native.fill_null(False) if native.null_count else native
        return Cells(filled.to_numpy(zero_copy_only=False), valid)
    if not (pa.types.is_integer(native.type) or pa.types.is_floating(native.type)):
        raise SchemaError("the column does not hold numbers", where=where, seen=native.type, needed="numbers")
    # The buffer itself: to_numpy would turn integers with nulls into floats and lose digits.
    dtype = np.dtype(native.type.to_pandas_dtype())
    values = np.frombuffer(native.buffers()[1] or b"", dtype)[native.offset : native.offset + len(native)]
    return Cells(values, valid)


def _cast(cells: Cells, dtype: np.dtype[Any], where: str) -> Cells:
    values, valid = cells
    if values.dtype.kind == "f":
        finite = np.isfinite(values)
        if dtype.kind == "f":
            return _float_cells(values, valid, finite, dtype)
        valid = _both(valid, finite)
        whole = _integral(values, valid, where)
        _check_fits(whole, valid, dtype, where)
        return Cells(whole.astype(dtype), valid)
    if dtype.kind in "iu":
        _check_fits(values, valid, dtype, where)
    return Cells(values.astype(dtype, copy=False), valid)


def _float_cells(
    values: NDArray[Any], valid: NDArray[np.bool_] | None, finite: NDArray[np.bool_], dtype: np.dtype[Any]
) -> Cells:
    """Keep infinities valid for now: unlike NaN they are values, and the range test will flag them."""
    if values.dtype != dtype:
        with np.errstate(over="ignore"):  # beyond float32 is infinite, and flagged like any infinity
            values = values.astype(dtype)
    if finite.all():
        return Cells(values, valid)
    return Cells(values, _both(valid, ~np.isnan(values)))


def _integral(values: NDArray[Any], valid: NDArray[np.bool_] | None, where: str) -> NDArray[np.int64]:
    known = values if valid is None else np.where(valid, values, 0)
    limit = _EXACT[values.dtype.itemsize]
    bad = (np.abs(known) > limit) | (known != np.floor(known))
    if bad.any():
        row = int(bad.argmax())
        raise SchemaError(
            "integers are stored as floating point numbers that cannot hold them",
            where=where,
            seen=f"{values.dtype} value {values[row]!r}",
            needed=f"an integer or string column, or whole numbers up to {limit}",
            cause="the file went through software that reads integers as floats; the last digits are lost",
        )
    return known.astype(np.int64)


def _check_fits(values: NDArray[Any], valid: NDArray[np.bool_] | None, dtype: np.dtype[Any], where: str) -> None:
    if values.dtype.kind == "b" or np.can_cast(values.dtype, dtype) or not len(values):
        return
    known = values if valid is None else np.where(valid, values, 0)
    limits = np.iinfo(dtype)
    low, high = int(known.min()), int(known.max())
    if low < limits.min or high > limits.max:
        seen = high if high > limits.max else low
        raise SchemaError("an integer does not fit its column's type", where=where, seen=seen, needed=str(dtype))


def _without_sentinels(cells: Cells, sentinels: tuple[float | int | str, ...], flags: NDArray[np.int32]) -> Cells:
    values, valid = cells
    for sentinel in sentinels:
        if isinstance(sentinel, str) or values.dtype.kind == "b":
            continue
        if values.dtype.kind == "i" and not _fits(sentinel, values.dtype):
            continue
        hit = values == np.asarray(sentinel, values.dtype)
        if hit.any():
            flags[hit if valid is None else hit & valid] |= int(Flag.SENTINEL_NULL)
            valid = _both(valid, ~hit)
    return Cells(values, valid)


def _fits(sentinel: float | int, dtype: np.dtype[Any]) -> bool:
    limits = np.iinfo(dtype)
    return sentinel == int(sentinel) and limits.min <= sentinel <= limits.max


def _within_range(cells: Cells, limits: tuple[float | None, float | None] | None, flags: NDArray[np.int32]) -> Cells:
    values, valid = cells
    low, high = limits or (None, None)
    bad = None
    if low is not None:
        bad = values < low
    if high is not None:
        bad = values > high if bad is None else bad | (values > high)
    if values.dtype.kind == "f":
        infinite = np.isinf(values)
        bad = infinite if bad is None else bad | infinite
    if bad is None or not bad.any():
        return cells
    flags[bad if valid is None else bad & valid] |= int(Flag.OUT_OF_RANGE)
    return Cells(values, _both(valid, ~bad))


def _both(valid: NDArray[np.bool_] | None, other: NDArray[np.bool_]) -> NDArray[np.bool_]:
    return other if valid is None else valid & other


def _strings(native: pa.Array, column: Column, flags: NDArray[np.int32], where: str) -> pa.Array:
    if pa.types.is_floating(native.type):
        cells = _cells(native, where)
        valid = _both(cells.valid, np.isfinite(cells.values))
        native = pa.array(_integral(cells.values, valid, where), mask=~valid)
    text = native if pa.types.is_string(native.type) else native.cast(pa.string())
    sentinels = [str(item) for item in column.null]
    if sentinels:
        hit = pc.is_in(text, value_set=pa.array(sentinels, pa.string()))
        if pc.any(hit).as_py():
            flags[hit.to_numpy(zero_copy_only=False)] |= int(Flag.SENTINEL_NULL)
            text = pc.if_else(hit, pa.scalar(None, pa.string()), text)
    empty = pc.equal(text, "")
    return pc.if_else(empty, pa.scalar(None, pa.string()), text) if pc.any(empty).as_py() else text


def _parsed(native: pa.Array, column: Column, *, where: str, first_row: int) -> pa.Array:
    """Numbers from strings, integers exactly; empty strings are null."""
    text = pc.utf8_trim_whitespace(native)
    text = pc.if_else(pc.is_in(text, value_set=pa.array(["", "null", "NULL"], text.type)), None, text)
    dtype = DTYPES[column.dtype]
    try:
        return text.cast(dtype)
    except pa.ArrowInvalid as error:
        row = next(i for i in range(len(text)) if not _casts(text[i], dtype))
        raise InputError(
            "a string is not the number that its column needs",
            where=f"{where}, row {first_row + row}",
            seen=repr(text[row].as_py()),
            needed=column.dtype,
        ) from error


def _casts(value: pa.Scalar, dtype: pa.DataType) -> bool:
    try:
        value.cast(dtype)
    except pa.ArrowInvalid:
        return False
    return True
