"""Writers of the surveys' own file formats, fed a chunk at a time so that memory stays flat."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from stellarscale.simulate.text import csv_block

SLICE_ROWS = 32_768
FITS_BLOCK = 2880
# zlib's own gzip framing puts no name and no time in the header: the same sky gives the same bytes.
_GZIP_WINDOW = 31


def record_array(columns: Mapping[str, object], dtype: np.dtype, n: int) -> NDArray:
    """Rows of a big-endian FITS table from columns and constants, cast to ``dtype``'s fields."""
    records = np.zeros(n, dtype=dtype.newbyteorder(">"))
    for name in dtype.names or ():
        records[name] = columns[name]
    return records


class FitsTable:
    """A FITS file with one binary table that grows by whole chunks of rows.

    The header is written first with the row count left at zero, and rewritten in place on closing.

    Parameters
    ----------
    path : Path
        File to write. With a ``.gz`` suffix the finished file is compressed at the end.
    dtype : numpy.dtype
        Structured type of a row.
    units : mapping of str to str, optional
        FITS units by column.
    name : str
        Extension name.
    """

    def __init__(
        self, path: Path, dtype: np.dtype, *, units: Mapping[str, str] | None = None, name: str = "CATALOG"
    ) -> None:
        from astropy.io import fits

        self.path, self.rows = path, 0
        self.dtype = dtype.newbyteorder(">")
        path.parent.mkdir(parents=True, exist_ok=True)
        self._plain = path.with_suffix("") if path.suffix == ".gz" else path
        table = fits.BinTableHDU(np.zeros(1, dtype=self.dtype), name=name)
        self._header = table.header
        for place, column in enumerate(self.dtype.names or (), start=1):
            if units and column in units:
                self._header.set(f"TUNIT{place}", units[column], after=f"TFORM{place}")
        self._header["NAXIS2"] = 0
        self._stream = self._plain.open("wb")
        self._stream.write(fits.PrimaryHDU().header.tostring().encode("ascii"))
        self._start = self._stream.tell()
        self._stream.write(self._header.tostring().encode("ascii"))

    def append(self, records: NDArray) -> None:
        """Add rows of the declared type."""
        self._stream.write(np.ascontiguousarray(records.astype(self.dtype, copy=False)).view(np.uint8).data)
        self.rows += len(records)

    def close(self) -> None:
        """Pad the data, write the row count, compress if asked."""
        used = self.rows * self.dtype.itemsize
        self._stream.write(b"\0" * (-used % FITS_BLOCK))
        self._header["NAXIS2"] = self.rows
        self._stream.seek(self._start)
        self._stream.write(self._header.tostring().encode("ascii"))
        self._stream.close()
        if self._plain != self.path:
            squeeze = zlib.compressobj(1, zlib.DEFLATED, _GZIP_WINDOW)
            with self._plain.open("rb") as source, self.path.open("wb") as target:
                while block := source.read(1 << 20):
                    target.write(squeeze.compress(block))
                target.write(squeeze.flush())
            self._plain.unlink()

    def __enter__(self) -> FitsTable:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class TextTable:
    """A delimited text file that grows by whole chunks of rows, gzip-compressed when its name ends with ``.gz``.

    Level 1: text is what the mock sky spends its time on.

    Parameters
    ----------
    path : Path
        File to write.
    header : str
        Text before the first row, newline included.
    separator, null : str
        Between cells, and in place of nulls.
    """

    def __init__(self, path: Path, *, header: str = "", separator: str = ",", null: str = "") -> None:
        self.path, self.rows = path, 0
        self._separator, self._null = separator, null
        path.parent.mkdir(parents=True, exist_ok=True)
        self._stream = path.open("wb")
        self._squeeze = zlib.compressobj(1, zlib.DEFLATED, _GZIP_WINDOW) if path.suffix == ".gz" else None
        self._write(header.encode())

    def append(self, columns: Mapping[str, pa.Array | pa.Scalar], n: int) -> None:
        """Add ``n`` rows, a slice at a time so that the text in memory stays small."""
        for start in range(0, n, SLICE_ROWS):
            cells = [c if isinstance(c, pa.Scalar) else c.slice(start, SLICE_ROWS) for c in columns.values()]
            self._write(csv_block(cells, separator=self._separator, null=self._null))
        self.rows += n

    def _write(self, text: bytes | pa.Buffer) -> None:
        self._stream.write(self._squeeze.compress(text) if self._squeeze else text)

    def close(self) -> None:
        """End the compressed stream."""
        if self._squeeze:
            self._stream.write(self._squeeze.flush())
        self._stream.close()

    def __enter__(self) -> TextTable:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def write_parquet(table: pa.Table, path: Path) -> None:
    """Write one Parquet file as IRSA does: snappy, no index, row groups of 100,000 rows."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, compression="snappy", row_group_size=100_000, use_dictionary=False)
