"""From the headers of many files to one native table, which the survey's schema makes canonical."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from stellarscale.errors import InputError
from stellarscale.schema import DTYPES, Column, SurveySchema
from stellarscale.surveys.native import NativeColumn
from stellarscale.surveys.placeholder import spread_positions

FILE_STEM = "file_stem"  # what schemas may name beside the keywords of the headers
_PACKED = (".gz", ".bz2")


@dataclass(frozen=True)
class HeaderSource:
    """The columns that headers give, in the form in which survey tables are planned (``surveys.native.Found``)."""

    path: Path
    columns: tuple[NativeColumn, ...]


def stem_of(path: Path) -> str:
    """Name of a file without folder, suffix and compression: ``spec-1.fits.gz`` gives ``spec-1``."""
    name = path.name
    for packed in _PACKED:
        name = name.removesuffix(packed)
    return name.rpartition(".")[0] or name


def header_values(header: Mapping[str, Any], path: Path, schema: SurveySchema) -> dict[str, Any]:
    """Value of each canonical column that a header gives, by the column's first native name.

    Raises
    ------
    InputError
        If a required column has no value, or a value is not of its column's type.
    """
    values: dict[str, Any] = {}
    for name, column in schema.columns.items():
        if not column.native:
            continue
        value = _first(column.native, header, path)
        if value is None and column.required:
            raise InputError(
                f"the header does not give {name}", where=path, needed=f"one of the keywords {', '.join(column.native)}"
            )
        values.setdefault(column.native[0], _typed(value, column, f"{path}, {name}"))
    return values


def header_table(rows: Sequence[Mapping[str, Any]], schema: SurveySchema, *, first_id: int) -> pa.Table:
    """A native table of the values of :func:`header_values`, a row each; an empty mapping gives nulls.

    Where a schema allows to be without, positions that are missing are spread evenly by the row's number.
    """
    types = {column.native[0]: DTYPES[column.dtype] for column in reversed(schema.columns.values()) if column.native}
    table = pa.table({name: pa.array([row.get(name) for row in rows], kind) for name, kind in types.items()})
    position = schema.position
    names = [schema.columns[name].native[0] for name in (position.ra, position.dec) if name in schema.columns]
    if not position.placeholder or len(names) < 2:
        return table
    spread = spread_positions(first_id, len(rows))
    missing = pa.compute.or_(*(table[name].is_null() for name in names))
    for name, values in zip(names, spread, strict=True):
        filled = pa.compute.if_else(missing, pa.array(values), table[name])
        table = table.set_column(table.column_names.index(name), name, filled)
    return table


def source_of(table: pa.Table, path: Path) -> HeaderSource:
    """The native table as a source that a schema can be matched with."""
    return HeaderSource(path, tuple(NativeColumn(field.name, str(field.type)) for field in table.schema))


def _first(names: Sequence[str], header: Mapping[str, Any], path: Path) -> Any:
    for name in names:
        if name == FILE_STEM:
            return stem_of(path)
        for spelling in (name, name.upper(), name.lower()):
            if spelling in header and (value := header[spelling]) is not None:
                return value
    return None


def _typed(value: Any, column: Column, where: str) -> Any:
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    if column.dtype == "string":
        return str(value).strip()
    try:
        number = (
            float(value) if column.dtype.startswith("float") else int(str(value)) if isinstance(value, str) else value
        )
    except ValueError as error:
        raise InputError(
            "a header value is not a number", where=where, seen=repr(value), needed=column.dtype
        ) from error
    if column.dtype.startswith("float"):
        return number if np.isfinite(number) else None
    if column.dtype == "bool":
        return bool(number)
    if isinstance(number, float) and not number.is_integer():
        raise InputError("a header value is no whole number", where=where, seen=number, needed=column.dtype)
    limits = np.iinfo(column.dtype)
    if not limits.min <= int(number) <= limits.max:
        raise InputError("a header value does not fit its column's type", where=where, seen=number, needed=column.dtype)
    return int(number)
