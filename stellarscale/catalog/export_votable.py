"""A VOTable with a BINARY2 stream, written piece by piece.

VOTable 1.4, section 5.4: each row starts with one bit per column that tells whether its value is missing.
astropy makes the document; the stream is ours, because astropy takes 0.1 ms per row and holds the whole table
in memory.
"""

from __future__ import annotations

import binascii
import io
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa

from stellarscale.catalog.export_rows import RecordColumn, Tables, record_columns, record_type, records
from stellarscale.catalog.votable import build_votable

_LINE = 57  # bytes that fill one line of base64


def write_votable(path: Path, schema: pa.Schema, tables: Tables, name: str) -> int:
    """Write tables of one schema as a VOTable; returns the rows. Arguments and errors as for FITS."""
    columns = record_columns(schema, tables)
    kind = record_type(columns, flags=True)
    document = build_votable(pa.schema([_as_written(column) for column in columns]), name=name)
    head, mark, tail = document.partition(b"</TABLE>")
    rows = 0
    with path.open("wb") as file:
        file.write(head.rstrip() + b'\n   <DATA>\n    <BINARY2>\n     <STREAM encoding="base64">\n')
        pending = b""
        for table in tables():
            for part in records(table, columns, kind):
                pending = _write_base64(file, pending + part.tobytes(), last=False)
            rows += table.num_rows
        _write_base64(file, pending, last=True)
        file.write(b"     </STREAM>\n    </BINARY2>\n   </DATA>\n  " + mark + tail)
    return rows


def _as_written(column: RecordColumn) -> pa.Field:
    """The column with the type that it has in the stream; strings have the width of the longest."""
    if column.letter == "A":
        return column.field.with_type(pa.string()).with_metadata(
            {**(column.field.metadata or {}), b"arraysize": str(column.count).encode()}
        )
    return column.field.with_type(column.arrow)


def _write_base64(file: BinaryIO, data: bytes, *, last: bool) -> bytes:
    """Write whole lines of base64; returns the bytes left over."""
    size = len(data) if last else len(data) // _LINE * _LINE
    lines = io.BytesIO()
    for start in range(0, size, _LINE):
        lines.write(binascii.b2a_base64(data[start : start + _LINE]))
    file.write(lines.getvalue())
    return data[size:]
