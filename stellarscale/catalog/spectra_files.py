"""Which files of spectra an import reads: listed once with size and time, opened only when they are read.

A survey has hundreds of thousands of them. The list is one Arrow file beside the spilled rows, from which each
map task takes its group; neither the plan nor a task carries it.
"""

from __future__ import annotations

import glob
import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from stellarscale.catalog import atomic
from stellarscale.errors import InputError

LISTING = "files.arrow"
_SCHEMA = pa.schema([("path", pa.string()), ("bytes", pa.int64()), ("mtime_ns", pa.int64())])
_PATTERN = frozenset("*?[")


class _File(NamedTuple):
    path: str
    bytes: int
    mtime_ns: int


def list_files(arguments: Sequence[Path | str]) -> pa.Table:
    """Find files of spectra.

    Parameters
    ----------
    arguments : sequence of path
        Files; directories, searched with all below them, hidden files left out; patterns with ``*``, ``?``,
        ``[...]`` and ``**``; and ``@FILE``, a text file with one of the above on each line.

    Returns
    -------
    pa.Table
        ``path`` (absolute), ``bytes`` and ``mtime_ns``; in the order of the arguments, and within each by name.

    Raises
    ------
    InputError
        If no file is found, one is missing or given twice, or a name is no text.
    """
    found = [file for argument in _arguments(arguments) for file in _found(argument)]
    if not found:
        raise InputError("no file to import", seen=", ".join(map(str, arguments)), needed="at least one file")
    try:
        columns = [
            pa.array(column, field.type) for column, field in zip(zip(*found, strict=True), _SCHEMA, strict=True)
        ]
    except UnicodeEncodeError as error:
        raise InputError("a file's name is not valid UTF-8", seen=ascii(error.object)) from error
    listing = pa.Table.from_arrays(columns, schema=_SCHEMA)
    _refuse_repeated(listing)
    return listing


def listing_digest(listing: pa.Table) -> str:
    """Digest of the names, sizes and times."""
    digest = hashlib.sha256()
    for name in listing.column_names:
        array = listing.column(name).combine_chunks()
        for buffer in array.buffers()[1:]:
            digest.update(buffer)
    return digest.hexdigest()


def write_listing(listing: pa.Table, directory: Path) -> None:
    """Keep the list where the map tasks find it."""
    with atomic.atomic_write(directory / LISTING) as temporary, pa.ipc.new_file(str(temporary), _SCHEMA) as sink:
        sink.write_table(listing.combine_chunks())


def read_group(directory: Path, number: int, files_at_once: int) -> list[Path]:
    """Files of one group of the list."""
    with pa.memory_map(str(directory / LISTING)) as source:
        paths = pa.ipc.open_file(source).read_all().column("path")
        return [Path(path) for path in paths.slice(number * files_at_once, files_at_once).to_pylist()]


def by_directory(listing: pa.Table) -> list[dict[str, Any]]:
    """Number, bytes and newest time of the files in each directory, for ``run.json``."""
    folders = pc.replace_substring_regex(listing["path"], pattern=r"/[^/]*$", replacement="/*")
    table = listing.set_column(0, "path", folders)
    totals = table.group_by("path").aggregate([("path", "count"), ("bytes", "sum"), ("mtime_ns", "max")])
    names = {"path_count": "files", "bytes_sum": "bytes", "mtime_ns_max": "mtime_ns"}
    totals = totals.rename_columns([names.get(name, name) for name in totals.column_names])
    return totals.sort_by("path").to_pylist()


def _arguments(arguments: Sequence[Path | str]) -> Iterator[str]:
    """The arguments with the lists among them replaced by their lines."""
    for argument in map(str, arguments):
        if not argument.startswith("@"):
            yield argument
            continue
        try:
            lines = Path(argument[1:]).read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            needed = "a text file with one path on each line"
            raise InputError("a list of files cannot be read", where=argument[1:], seen=error, needed=needed) from error
        yield from (line.strip() for line in lines if line.strip())


def _found(argument: str) -> Iterator[_File]:
    path = os.path.abspath(argument)
    try:
        status = os.stat(path)
    except FileNotFoundError as error:
        matches = sorted(glob.glob(path, recursive=True)) if _PATTERN & set(path) else []
        if not matches:
            raise InputError(
                "a file to import does not exist", where=path, seen="nothing there", needed="a file or directory"
            ) from error
        for match in matches:
            yield from _found(match)
        return
    if os.path.isdir(path):
        yield from _below(path)
    else:
        yield _File(path, status.st_size, status.st_mtime_ns)


def _below(directory: str) -> Iterator[_File]:
    """Files of a directory and of those inside it, by name."""
    with os.scandir(directory) as entries:
        ordered = sorted((entry for entry in entries if not entry.name.startswith(".")), key=lambda entry: entry.name)
    for entry in ordered:
        if entry.is_dir(follow_symlinks=False):
            yield from _below(entry.path)
        elif entry.is_file():
            status = entry.stat()
            yield _File(entry.path, status.st_size, status.st_mtime_ns)


def _refuse_repeated(listing: pa.Table) -> None:
    paths = listing["path"].combine_chunks()
    codes = paths.dictionary_encode().indices.to_numpy()
    repeated = np.flatnonzero(np.bincount(codes) > 1)
    if len(repeated):
        first = paths[int(np.argmax(codes == repeated[0]))]
        raise InputError(
            "a file is given twice",
            where=first,
            seen=f"{len(repeated)} such files",
            cause="a directory or pattern among the arguments holds the same files as another",
        )
