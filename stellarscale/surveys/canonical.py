"""From a native batch to the canonical table and its rejects: the hot path of every import."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from stellarscale.errors import InputError, RowCountError
from stellarscale.flags import COLUMN
from stellarscale.surveys.cells import Cells, Value, canonical_value, nulls, to_arrow, valid_of
from stellarscale.surveys.derive import FUNCTIONS, row_number
from stellarscale.surveys.placeholder import spread_positions
from stellarscale.surveys.plan import Plan, Step
from stellarscale.surveys.quality import apply_rules

REJECTS = pa.schema(
    [
        pa.field("file", pa.string()),
        pa.field("row", pa.int64(), metadata={b"description": b"row of the file, the first is 0"}),
        pa.field("id", pa.string()),
        pa.field("reason", pa.string()),
        pa.field("ra", pa.float64(), metadata={b"unit": b"deg"}),
        pa.field("dec", pa.float64(), metadata={b"unit": b"deg"}),
    ]
)
REASONS = ("", "position missing", "declination out of range", "right ascension out of range")


class CanonicalBatch(NamedTuple):
    """Rows with a valid position, rows without, and their sum."""

    table: pa.Table
    rejects: pa.Table
    rows_in: int


def canonical_batch(native: pa.Table, plan: Plan, *, path: Path, first_row: int, first_id: int) -> CanonicalBatch:
    """Turn a native batch into a canonical one.

    Parameters
    ----------
    native : pa.Table
        Native columns (rows,), as the plan names them.
    first_row : int
        Row of the file that the batch starts with.
    first_id : int
        Number of the same row across all files: the seed of row numbers and placeholder positions.

    Raises
    ------
    SchemaError, InputError
        If a column cannot become what its schema says.
    RowCountError
        If rows in are not rows out plus rejects.
    """
    rows = native.num_rows
    flags = np.zeros(rows, np.int32)
    values: dict[str, Value] = {}
    for step in plan.steps:
        values[step.name] = _step_value(step, native, values, flags, path=path, first_row=first_row, first_id=first_id)
    apply_rules(plan.rules, values, flags)
    ra_name, dec_name = plan.schema.position.ra, plan.schema.position.dec
    if plan.spread:
        ra_deg, dec_deg = spread_positions(first_id, rows)
        values[ra_name], values[dec_name] = Cells(ra_deg, None), Cells(dec_deg, None)
    ra, dec = _position(values[ra_name], ra_name, path), _position(values[dec_name], dec_name, path)
    reasons = position_faults(ra, dec)
    values[ra_name] = Cells(np.where(ra.values == 360.0, 0.0, ra.values), ra.valid)
    arrays = [to_arrow(values[field.name], field.type) for field in plan.output if field.name != COLUMN]
    table = pa.Table.from_arrays([*arrays, pa.array(flags)], schema=plan.output)
    return _separate(table, reasons, plan, path=path, first_row=first_row)


def position_faults(ra: Cells, dec: Cells) -> NDArray[np.int8]:
    """Index in ``REASONS`` of what is wrong with each position (rows,) in degrees; 0 is a good one."""
    faults = np.zeros(len(ra.values), np.int8)
    faults[(ra.values < 0) | (ra.values > 360)] = 3
    faults[np.abs(dec.values) > 90] = 2
    for cells in (ra, dec):
        if cells.valid is not None:
            faults[~cells.valid] = 1
    return faults


def _position(value: Value, name: str, path: Path) -> Cells:
    if isinstance(value, Cells):
        return value
    raise InputError("positions must be numbers in degrees", where=f"{path}, column {name}", seen="strings")


def _step_value(
    step: Step,
    native: pa.Table,
    values: dict[str, Value],
    flags: NDArray[np.int32],
    *,
    path: Path,
    first_row: int,
    first_id: int,
) -> Value:
    value = None
    if step.native is not None:
        column = native.column(step.native).combine_chunks()
        if isinstance(column, pa.ChunkedArray):
            column = column.chunk(0) if column.num_chunks else pa.nulls(0, column.type)
        where = f"{path}, column {step.native}"
        value = canonical_value(column, step.column, flags, factor=step.factor, where=where, first_row=first_row)
    if step.derivation is not None and (value is None or not valid_of(value).all()):
        derived = _derived(step, values, rows=native.num_rows, first_id=first_id)
        value = derived if value is None else _filled(value, derived)
    return nulls(native.num_rows, step.column) if value is None else value


def _derived(step: Step, values: dict[str, Value], *, rows: int, first_id: int) -> Value:
    derivation = step.derivation
    assert derivation is not None
    if derivation.function == "row_number":
        cells = row_number(first_id, rows)
    else:
        inputs = [values[name] for name in derivation.inputs if name in values]
        cells = FUNCTIONS[derivation.function](inputs, derivation.constant)
    if step.column.dtype == "string":
        return to_arrow(cells, pa.from_numpy_dtype(cells.values.dtype)).cast(pa.string())
    return Cells(cells.values.astype(step.column.dtype, copy=False), cells.valid)


def _filled(value: Value, other: Value) -> Value:
    if isinstance(value, Cells) and isinstance(other, Cells):
        valid = valid_of(value)
        return Cells(np.where(valid, value.values, other.values), valid | valid_of(other))
    return pc.coalesce(value, other)


def _separate(table: pa.Table, reasons: NDArray[np.int8], plan: Plan, *, path: Path, first_row: int) -> CanonicalBatch:
    rows = table.num_rows
    bad = np.flatnonzero(reasons)
    if not len(bad):
        return CanonicalBatch(table, REJECTS.empty_table(), rows)
    position = plan.schema.position
    out = table.select([plan.schema.id, position.ra, position.dec]).take(pa.array(bad))
    columns = {
        "file": pa.repeat(str(path), len(bad)),
        "row": pa.array(bad + first_row),
        "id": out.column(0).cast(pa.string()),
        "reason": pa.array([REASONS[reason] for reason in reasons[bad]]),
        "ra": out.column(1),
        "dec": out.column(2),
    }
    kept = table.filter(pa.array(reasons == 0))
    batch = CanonicalBatch(kept, pa.table(columns, schema=REJECTS), rows)
    if kept.num_rows + len(bad) != rows:
        raise RowCountError("rows were lost while rejecting", where=path, seen=kept.num_rows + len(bad), needed=rows)
    return batch
