"""Binary tables of FITS files, plain or compressed, read in blocks of rows with only the wanted columns kept.

Rows are read through a small buffer rather than a memory map: a map's pages count as resident memory, so that
the peak would grow with the file.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from stellarscale.errors import InputError, SchemaError
from stellarscale.surveys.native import NativeColumn, compression_of, damaged, open_bytes

_BLOCK = 2880
_BUFFER_BYTES = 1 << 21  # of rows at a time: stays in the cache while the columns are picked out
_NUMERIC = {
    "B": ("u1", 1),
    "I": (">i2", 2),
    "J": (">i4", 4),
    "K": (">i8", 8),
    "E": (">f4", 4),
    "D": (">f8", 8),
}
_WIDTH = {"L": 1, "A": 1, "C": 8, "M": 16, "P": 8, "Q": 16} | {code: width for code, (_, width) in _NUMERIC.items()}
_NAMES = {"B": "uint8", "I": "int16", "J": "int32", "K": "int64", "E": "float32", "D": "float64", "L": "bool"}


@dataclass(frozen=True)
class FitsColumn:
    """One TFORM/TTYPE/... set of a binary table's header; ``offset`` is its first byte in a row."""

    name: str
    code: str
    repeat: int
    offset: int
    unit: str
    scale: float
    zero: float
    null: int | None

    @property
    def is_scalar(self) -> bool:
        return self.code == "A" or (self.repeat == 1 and self.code in _NAMES)

    @property
    def dtype(self) -> str:
        if self.code == "A":
            return f"string[{self.repeat}]"
        name = _NAMES.get(self.code, f"TFORM {self.code}")
        return name if self.repeat == 1 else f"{name}[{self.repeat}]"

    @property
    def storage(self) -> str:
        if self.code == "A":
            return f"S{self.repeat}"
        return "S1" if self.code == "L" else _NUMERIC[self.code][0]


@dataclass(frozen=True)
class FitsTable:
    """A binary table inside a FITS file; ``start`` is the first byte of its rows in the uncompressed file."""

    path: Path
    fields: tuple[FitsColumn, ...]
    rows: int
    row_bytes: int
    start: int
    format: str = "fits"

    @property
    def columns(self) -> tuple[NativeColumn, ...]:
        return tuple(NativeColumn(field.name, field.dtype, field.unit) for field in self.fields)

    def batches(self, wanted: Mapping[str, pa.DataType], batch_rows: int, *, threads: int = 1) -> Iterator[pa.Table]:
        """Tables of the wanted columns, ``batch_rows`` rows each but the last (see ``surveys.native``)."""
        fields = [self._field(name) for name in wanted]
        with open_bytes(self.path) as stream:
            _skip(stream, self.start)
            for first in range(0, self.rows, batch_rows):
                count = min(batch_rows, self.rows - first)
                columns = self._read_rows(stream, fields, first=first, count=count)
                yield pa.table({field.name: _to_arrow(columns[field.name], field, self.path) for field in fields})
            if compression_of(self.path):
                _drain(stream)  # a gzip checksum is only tested at the end

    def _field(self, name: str) -> FitsColumn:
        field = next(field for field in self.fields if field.name == name)
        if not field.is_scalar:
            raise SchemaError(
                "the column holds several values per row",
                where=f"{self.path}, column {name}",
                seen=field.dtype,
                needed="one number or string per row",
            )
        return field

    def _read_rows(
        self, stream: BinaryIO, fields: list[FitsColumn], *, first: int, count: int
    ) -> dict[str, NDArray[Any]]:
        layout = np.dtype(
            {
                "names": [field.name for field in fields],
                "formats": [field.storage for field in fields],
                "offsets": [field.offset for field in fields],
                "itemsize": self.row_bytes,
            }
        )
        columns = {field.name: np.empty(count, np.dtype(field.storage).newbyteorder("=")) for field in fields}
        step = max(1, _BUFFER_BYTES // self.row_bytes)
        buffer = bytearray(step * self.row_bytes)
        for begin in range(0, count, step):
            rows = min(step, count - begin)
            view = memoryview(buffer)[: rows * self.row_bytes]
            _fill(stream, view, where=f"{self.path}, row {first + begin}")
            block = np.frombuffer(view, layout)
            for name, values in columns.items():
                values[begin : begin + rows] = block[name]
        return columns


def open_fits(path: Path, hdu: int | str | None) -> FitsTable:
    """Find a binary table: HDU number, EXTNAME, or the first one when ``hdu`` is None.

    Raises
    ------
    InputError
        If the file ends before the table does (bytes seen and needed are told, before any row is read), or it
        has no such binary table.
    """
    found: list[str] = []
    with open_bytes(path) as stream:
        position = 0
        for number, (header, header_bytes) in enumerate(_headers(stream, path)):
            position += header_bytes
            kind = str(header.get("XTENSION", "image")).strip()
            label = str(header.get("EXTNAME", "")).strip()
            found.append(f"{number} {kind} {label}".strip())
            size = data_bytes(header)
            is_wanted = kind == "BINTABLE" if hdu is None else hdu in (number, label)
            if is_wanted:
                _check_is_table(header, kind, where=f"{path}, HDU {number}")
                _check_complete(path, position + size)
                return table_of(path, header, position)
            padded = -(-size // _BLOCK) * _BLOCK
            _skip(stream, padded)
            position += padded
    raise InputError(
        "the FITS file has no such binary table",
        where=path,
        seen=f"HDUs {', '.join(found)}",
        needed="a BINTABLE extension" if hdu is None else f"HDU {hdu!r}",
    )


def _headers(stream: BinaryIO, path: Path) -> Iterator[tuple[Any, int]]:
    from astropy.io.fits import Header

    while block := stream.read(_BLOCK):
        text = block
        while not re.search(rb"END {77}", text) and block:
            block = stream.read(_BLOCK)
            text += block
        if len(text) % _BLOCK or not block:
            raise InputError("the FITS file ends inside a header", where=path, seen=f"{len(text)} bytes of it")
        yield Header.fromstring(text.decode("latin-1")), len(text)


def data_bytes(header: Any) -> int:
    """Bytes of the data that follow a header, without the padding."""
    axes = [int(header[f"NAXIS{i}"]) for i in range(1, int(header.get("NAXIS", 0)) + 1)]
    if not axes:
        return 0
    cells = reduce(lambda a, b: a * b, axes)
    return abs(int(header["BITPIX"])) // 8 * int(header.get("GCOUNT", 1)) * (int(header.get("PCOUNT", 0)) + cells)


def _check_is_table(header: Any, kind: str, *, where: str) -> None:
    if kind != "BINTABLE" or header.get("ZTABLE", False):
        seen = "a compressed table (ZTABLE)" if kind == "BINTABLE" else kind
        raise InputError("the HDU is not a plain binary table", where=where, seen=seen, needed="BINTABLE")


def _check_complete(path: Path, needed: int) -> None:
    seen = os.path.getsize(path)
    if compression_of(path) is None and seen < needed:
        raise InputError(
            "the FITS file is truncated",
            where=path,
            seen=f"{seen} bytes",
            needed=f"{needed} bytes",
            cause="an interrupted download or copy",
        )


def table_of(path: Path, header: Any, start: int) -> FitsTable:
    """The binary table of a header whose data begin at a byte of the file; :class:`InputError` if it is no table."""
    fields, offset = [], 0
    for i in range(1, int(header["TFIELDS"]) + 1):
        match = re.match(r"\s*(\d*)([LXBIJKAEDCMPQ])", str(header[f"TFORM{i}"]))
        if match is None:
            raise InputError("a column's format is not FITS", where=f"{path}, TFORM{i}", seen=header[f"TFORM{i}"])
        repeat, code = int(match[1] or 1), match[2]
        name = str(header.get(f"TTYPE{i}", f"col{i}")).strip()
        null = header.get(f"TNULL{i}") if code in "BIJK" else None
        scale, zero = header.get(f"TSCAL{i}", 1.0), header.get(f"TZERO{i}", 0.0)
        fields.append(FitsColumn(name, code, repeat, offset, str(header.get(f"TUNIT{i}", "")), scale, zero, null))
        offset += -(-repeat // 8) if code == "X" else repeat * _WIDTH[code]
    row_bytes = int(header["NAXIS1"])
    if offset > row_bytes:
        raise InputError("the columns do not fit the rows", where=path, seen=f"{offset} bytes", needed=row_bytes)
    return FitsTable(path, tuple(fields), int(header["NAXIS2"]), row_bytes, start)


def _to_arrow(values: NDArray[Any], field: FitsColumn, path: Path) -> pa.Array:
    if field.code == "A":
        return _strings(values, f"{path}, column {field.name}")
    if field.code == "L":
        return pa.array(values == b"T", mask=(values != b"T") & (values != b"F"))
    mask = values == field.null if field.null is not None else None
    if field.scale == 1 and field.zero:
        values = _shifted(values, field.zero)
    elif field.scale != 1:
        values = values * np.float64(field.scale) + field.zero
    return pa.array(values, mask=mask)


def _shifted(values: NDArray[Any], zero: float) -> NDArray[Any]:
    """Add TZERO; the standard's way to store unsigned integers must stay exact up to 2^64 - 1."""
    if values.dtype.kind == "f" or zero != int(zero):
        return values + np.float64(zero)
    if values.dtype == np.int64 and int(zero) == 1 << 63:
        return values.view(np.uint64) ^ np.uint64(1 << 63)
    if values.dtype == np.int64:
        return values + int(zero)
    return values.astype(np.int64) + int(zero)


def _strings(values: NDArray[np.bytes_], where: str) -> pa.Array:
    count, width = len(values), values.dtype.itemsize
    if width == 0 or not count:
        return pa.nulls(count, pa.string())
    raw = values.view(np.uint8).reshape(count, width)
    if int(raw.max()) > 127:
        raise InputError("a FITS string is not ASCII", where=where, cause="a damaged file")
    if int(raw.min()) > 32 and count * width < 1 << 31:  # every string fills its width: take the bytes as they are
        offsets = np.arange(0, (count + 1) * width, width, dtype=np.int32)
        return pa.StringArray.from_buffers(count, pa.py_buffer(offsets), pa.py_buffer(raw))
    return pc.utf8_trim_whitespace(pa.array(values, pa.binary()).cast(pa.string()))


def _fill(stream: BinaryIO, view: memoryview, *, where: str) -> None:
    got = 0
    while got < len(view):
        count = stream.readinto(view[got:])  # type: ignore[attr-defined]
        if not count:
            raise damaged(Path(where), f"the data end {len(view) - got} bytes early")
        got += count


def _skip(stream: BinaryIO, count: int) -> None:
    stream.seek(count, os.SEEK_CUR)


def _drain(stream: BinaryIO) -> None:
    while stream.read(1 << 20):
        pass
