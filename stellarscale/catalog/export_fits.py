"""A FITS binary table, written piece by piece: headers, big-endian rows, padding, then the number of rows.

FITS Standard 4.0, section 7.3. Missing integers are TNULL, missing floats NaN, missing strings empty. Image stamps
are arrays of float32, stretched as they are stored; what undoes that is in the column's comment. astropy
makes the header cards; the rows are ours, because astropy would hold the whole table in memory.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa

from stellarscale.catalog.export_rows import RecordColumn, Tables, record_columns, record_type, records

BLOCK = 2880


def write_fits(path: Path, schema: pa.Schema, tables: Tables, name: str) -> int:
    """Write tables of one schema as a FITS binary table; returns the rows.

    Parameters
    ----------
    path : Path
        File to make.
    schema : pa.Schema
        Field metadata gives TUNIT, TUCD and TCOMM.
    tables : callable
        Gives the tables; called twice when there are strings, whose longest must be known first.
    name : str
        EXTNAME.

    Raises
    ------
    SchemaError
        If a column has a type that a binary table cannot hold, or an integer equals TNULL.
    """
    columns = record_columns(schema, tables)
    kind = record_type(columns)
    header = _header(columns, kind.itemsize, name)
    rows = 0
    with_nulls: set[str] = set()
    with path.open("wb") as file:
        _write_headers(file, header)
        for table in tables():
            for part in records(table, columns, kind):
                file.write(part.tobytes())
            rows += table.num_rows
            with_nulls |= {column for column in schema.names if table.column(column).null_count}
        file.write(b"\0" * (-rows * kind.itemsize % BLOCK))
        file.seek(0)
        _write_headers(file, _completed(header, columns, rows, with_nulls))
    return rows


def _header(columns: list[RecordColumn], width: int, name: str) -> Any:
    from astropy.io import fits

    header = fits.Header([("XTENSION", "BINTABLE"), ("BITPIX", 8), ("NAXIS", 2)])
    header.update({"NAXIS1": width, "NAXIS2": 0, "PCOUNT": 0, "GCOUNT": 1, "TFIELDS": len(columns)})
    header["EXTNAME"] = _ascii(name)
    for number, column in enumerate(columns, start=1):
        header[f"TTYPE{number}"] = column.name
        header[f"TFORM{number}"] = f"{column.count}{column.letter}"
        if column.shape:  # FITS counts the fastest axis first
            header[f"TDIM{number}"] = f"({','.join(map(str, reversed(column.shape)))})"
        if column.null is not None:
            header[f"TNULL{number}"] = column.null
        for key, value in _described(column.field).items():
            header[f"{key}{number}"] = _ascii(value)
    return header


def _completed(header: Any, columns: list[RecordColumn], rows: int, with_nulls: set[str]) -> Any:
    """Number of rows, and TNULL only where it is used; as many cards as before, so that the size stays."""
    from astropy.io import fits

    header["NAXIS2"] = rows
    for number, column in enumerate(columns, start=1):
        if column.null is not None and column.name not in with_nulls:
            del header[f"TNULL{number}"]
            header.append(fits.Card(), end=True)
    return header


def _write_headers(file: BinaryIO, header: Any) -> None:
    from astropy.io import fits

    for part in (fits.PrimaryHDU().header, header):
        file.write(part.tostring(sep="", endcard=True, padding=True).encode("ascii"))


def _described(field: pa.Field) -> dict[str, str]:
    """TUNIT, TUCD and TCOMM; a unit that FITS does not know is told in the comment."""
    metadata = field.metadata or {}
    unit, ucd, comment = (metadata.get(key, b"").decode() for key in (b"unit", b"ucd", b"description"))
    known = _fits_unit(unit) if unit else ""
    if unit and not known:
        comment = f"{comment} (unit: {unit})".strip()
    return {key: value for key, value in (("TUNIT", known), ("TUCD", ucd), ("TCOMM", comment)) if value}


def _fits_unit(text: str) -> str:
    from astropy import units

    try:
        return units.Unit(text).to_string("fits")
    except ValueError:
        return ""


def _ascii(text: str) -> str:
    return text.replace("\n", " ").encode("ascii", "replace").decode()
