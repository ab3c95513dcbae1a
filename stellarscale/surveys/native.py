"""What every reader of a native format gives: the columns it found, and batches of the wanted ones."""

from __future__ import annotations

import bz2
import gzip
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import pyarrow as pa

from stellarscale.errors import InputError

_open_gzip: Any
_deflate_error: Any
try:
    from isal import igzip, isal_zlib
except ImportError:  # no wheel for this platform: the standard library reads the same, at half the speed
    _open_gzip, _deflate_error = gzip.open, zlib.error
else:
    _open_gzip, _deflate_error = igzip.open, isal_zlib.IsalError

_MAGIC = {b"\x1f\x8b": "gzip", b"BZh": "bz2"}
_OPENERS = {"gzip": _open_gzip, "bz2": bz2.open}


@dataclass(frozen=True)
class NativeColumn:
    """A column as the file names it: name, dtype in the format's own words, unit text."""

    name: str
    dtype: str
    unit: str = ""


class Found(Protocol):
    """What a native table has, as far as a plan for it needs to know."""

    @property
    def path(self) -> Path: ...

    @property
    def columns(self) -> tuple[NativeColumn, ...]: ...


class Source(Found, Protocol):
    """An opened native table; opening reads headers only."""

    @property
    def format(self) -> str: ...

    @property
    def rows(self) -> int | None:
        """Number of rows when the header says it, else None."""

    def batches(self, wanted: Mapping[str, pa.DataType], batch_rows: int, *, threads: int = 1) -> Iterator[pa.Table]:
        """Tables of the wanted native columns; text is parsed to the types given, others keep their own.

        What is read does not depend on ``threads``, which formats that are read in one stream do not use.
        """


def compression_of(path: Path) -> str | None:
    """``gzip``, ``bz2`` or None, from the first bytes.

    Raises
    ------
    InputError
        If the file does not exist, is a directory, or has no bytes.
    """
    if not path.is_file():
        raise InputError("the input is not a file", where=path, seen="a directory" if path.is_dir() else "nothing")
    with path.open("rb") as stream:
        start = stream.read(3)
    if not start:
        raise InputError("the file is empty", where=path, seen="0 bytes", cause="a download that failed")
    return next((name for magic, name in _MAGIC.items() if start.startswith(magic)), None)


@contextmanager
def open_bytes(path: Path) -> Iterator[BinaryIO]:
    """Open a plain, gzip or bz2 file; damage met inside the block becomes :class:`InputError`."""
    opener: Any = _OPENERS.get(compression_of(path) or "", open)
    try:
        with opener(path, "rb") as stream:
            yield stream
    except (EOFError, gzip.BadGzipFile, _deflate_error) as error:
        raise damaged(path, error) from error
    except OSError as error:
        if error.errno is not None:  # the file system's own trouble explains itself
            raise
        raise damaged(path, error) from error


def damaged(path: Path, error: Exception | str) -> InputError:
    """The error for a compressed file that ends early or fails its checksum."""
    return InputError(
        "the compressed file is truncated or damaged",
        where=path,
        seen=error,
        needed="a complete file whose checksum holds",
        cause="an interrupted download; fetch the file again",
    )


def rebatch(tables: Iterator[pa.Table], batch_rows: int) -> Iterator[pa.Table]:
    """Regroup tables into ones of exactly ``batch_rows`` rows (the last may be smaller), one chunk each."""
    waiting: list[pa.Table] = []
    held = 0
    for table in tables:
        waiting.append(table)
        held += table.num_rows
        if held < batch_rows:
            continue
        joined = pa.concat_tables(waiting)
        full = held - held % batch_rows
        for start in range(0, full, batch_rows):
            yield joined.slice(start, batch_rows).combine_chunks()
        waiting, held = [joined.slice(full)], held - full
    if held:
        yield pa.concat_tables(waiting).combine_chunks()
