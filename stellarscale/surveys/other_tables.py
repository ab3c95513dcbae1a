"""Parquet files, streamed; VOTables, read whole."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from stellarscale.errors import InputError, SchemaError
from stellarscale.surveys.native import NativeColumn, open_bytes, rebatch

_LOG = logging.getLogger(__name__)
_LARGE_VOTABLE = 1 << 28


@dataclass(frozen=True)
class ParquetTable:
    """A Parquet file."""

    path: Path
    columns: tuple[NativeColumn, ...]
    rows: int
    format: str = "parquet"

    def batches(self, wanted: Mapping[str, pa.DataType], batch_rows: int, *, threads: int = 1) -> Iterator[pa.Table]:
        """Tables of the wanted columns, ``batch_rows`` rows each but the last (see ``surveys.native``)."""
        for column in self.columns:
            if column.name in wanted and column.dtype.startswith(("list", "fixed_size_list", "struct", "map")):
                raise SchemaError(
                    "the column holds several values per row",
                    where=f"{self.path}, column {column.name}",
                    seen=column.dtype,
                    needed="one number or string per row",
                )
        try:
            # pre_buffer would hold whole row groups, whose size the writer chose
            with pq.ParquetFile(self.path, pre_buffer=False) as file:
                batches = file.iter_batches(batch_rows, columns=list(wanted), use_threads=threads > 1)
                yield from rebatch((pa.Table.from_batches([batch]) for batch in batches), batch_rows)
        except (pa.ArrowInvalid, OSError) as error:
            raise InputError("the Parquet file cannot be read", where=self.path, seen=error) from error


def open_parquet(path: Path) -> ParquetTable:
    """Read the footer of a Parquet file; InputError if it is truncated or damaged."""
    try:
        with pq.ParquetFile(path) as file:
            schema, rows = file.schema_arrow, file.metadata.num_rows
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(
            "the Parquet file has no readable footer", where=path, seen=error, cause="a truncated file"
        ) from error
    units = [(field.metadata or {}).get(b"unit", b"").decode() for field in schema]
    columns = (NativeColumn(field.name, str(field.type), unit) for field, unit in zip(schema, units, strict=True))
    return ParquetTable(path, tuple(columns), rows)


@dataclass(frozen=True)
class VoTable:
    """The first table of a VOTable document; it is held in memory as a whole."""

    path: Path
    columns: tuple[NativeColumn, ...]
    data: Any
    format: str = "votable"

    @property
    def rows(self) -> int:
        return len(self.data)

    def batches(self, wanted: Mapping[str, pa.DataType], batch_rows: int, *, threads: int = 1) -> Iterator[pa.Table]:
        """Tables of the wanted columns, ``batch_rows`` rows each but the last (see ``surveys.native``)."""
        fields = {column.name: id_ for column, id_ in zip(self.columns, self.data.dtype.names, strict=True)}
        for first in range(0, self.rows, batch_rows):
            part = self.data[first : first + batch_rows]
            yield pa.table({name: self._column(part[fields[name]], name) for name in wanted})

    def _column(self, values: np.ma.MaskedArray, name: str) -> pa.Array:
        if values.ndim > 1:
            raise SchemaError(
                "the column holds several values per row",
                where=f"{self.path}, column {name}",
                seen=values.shape[1:],
            )
        mask = np.ma.getmaskarray(values)
        if values.dtype.kind in "OSU":
            texts = [v.decode() if isinstance(v, bytes) else str(v) for v in values.data.tolist()]
            return pa.array(texts, pa.string(), mask=mask)
        return pa.array(np.ascontiguousarray(values.data, values.dtype.newbyteorder("=")), mask=mask)


def open_votable(path: Path) -> VoTable:
    """Parse a VOTable (TABLEDATA or BINARY, plain or gzip).

    Raises
    ------
    InputError
        If the document is not well formed or holds no table.
    """
    from astropy.io.votable import parse

    size = path.stat().st_size
    if size > _LARGE_VOTABLE:
        _LOG.warning("%s: a VOTable of %.1f GB is held in memory whole; FITS or Parquet are streamed", path, size / 1e9)
    try:
        with open_bytes(path) as stream, warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            table = parse(stream).get_first_table()
    except (ValueError, IndexError, KeyError) as error:
        raise InputError("the VOTable cannot be read", where=path, seen=error, cause="a truncated file") from error
    for text in sorted({str(warning.message) for warning in caught}):
        _LOG.info("%s: %s", path, text)
    columns = tuple(NativeColumn(field.name, str(field.datatype), str(field.unit or "")) for field in table.fields)
    return VoTable(path, columns, table.array)
