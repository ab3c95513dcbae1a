"""Find out how a text table is laid out: comment lines, header line or none, delimiter, column names."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from stellarscale.errors import InputError, SchemaError
from stellarscale.schema import SurveySchema
from stellarscale.surveys.ecsv import parse_ecsv_header
from stellarscale.surveys.native import NativeColumn, open_bytes

_DELIMITERS = (",", "|", "\t", ";", " ")
_LONGEST_HEADER = 1 << 24


@dataclass(frozen=True)
class Layout:
    """Layout of one text file.

    ``skip_lines`` stand before the first data line; ``columns`` follow the file and may repeat a name;
    ``fields`` counts them, with the empty one after a trailing delimiter.
    """

    format: str
    columns: tuple[NativeColumn, ...]
    delimiter: str
    skip_lines: int
    fields: int


def find_layout(path: Path, schema: SurveySchema) -> Layout:
    """Lay out a CSV, ECSV or headerless text file, compressed or not.

    A survey that comes without a header line (its schema lists ``text.names``) may still arrive with one,
    from VizieR: the first line is a header when two of its fields are names that the schema accepts.

    Raises
    ------
    InputError
        If the file is not text, or ends before its first line.
    SchemaError
        If a headerless line does not have as many fields as the schema's layout.
    """
    comments: list[str] = []
    first = ""
    with open_bytes(path) as stream:
        for raw in _lines(stream):
            line = _decode(raw, path, first=not comments)
            if line.strip() and not line.startswith("#"):
                first = line
                break
            comments.append(line)
        below = [_decode(stream.readline(_LONGEST_HEADER), path, first=False) for _ in range(2)] if first else []
    if not first:
        raise InputError("the text file has no header and no rows", where=path, seen=f"{len(comments)} comment lines")
    before = Before(comments, first)
    if comments and comments[0].startswith("# %ECSV"):
        return _ecsv(before)
    layout = _plain(before, schema, path)
    return _with_units(layout, below) if layout.format == "csv" else layout


@dataclass(frozen=True)
class Before:
    """The top of a text file: comment and blank lines, and the first other line."""

    comments: list[str]
    line: str

    def layout(self, format_: str, columns: tuple[NativeColumn, ...], delimiter: str, fields: int) -> Layout:
        return Layout(format_, columns, delimiter, len(self.comments) + 1, fields)


def _lines(stream: BinaryIO) -> Iterator[bytes]:
    total = 0
    while (line := stream.readline(_LONGEST_HEADER)) and total < _LONGEST_HEADER:
        total += len(line)
        yield line


def _decode(raw: bytes, path: Path, *, first: bool) -> str:
    try:
        line = raw.decode("utf-8-sig" if first else "utf-8")
    except UnicodeDecodeError as error:
        raise InputError(
            "the file is neither UTF-8 text nor of a format known here",
            where=path,
            seen=raw[:40],
            needed="FITS, Parquet, VOTable, ECSV, CSV or delimited text, plain or gzip or bz2",
        ) from error
    return line.rstrip("\r\n")


def _split(line: str, delimiter: str) -> list[str]:
    return [field.strip() for field in next(csv.reader([line], delimiter=delimiter), [])]


def _ecsv(before: Before) -> Layout:
    header = parse_ecsv_header("\n".join(before.comments))
    known = {column.name: column for column in header.columns}
    names = _split(before.line, header.delimiter)
    columns = tuple(known.get(name, NativeColumn(name, "text")) for name in names)
    return before.layout("ecsv", columns, header.delimiter, len(names))


def _plain(before: Before, schema: SurveySchema, path: Path) -> Layout:
    accepted = {name.lower() for column in schema.columns.values() for name in column.native}
    preferred = [schema.text.delimiter] if schema.text.delimiter else []

    def score(delimiter: str) -> tuple[int, int]:
        fields = _split(before.line, delimiter)
        return sum(field.lower() in accepted for field in fields), len(fields)

    delimiter = max([*preferred, *_DELIMITERS], key=score)
    if schema.text.names and score(delimiter)[0] < 2:
        return _headerless(before, schema, path)
    names = _split(before.line, delimiter)
    columns = tuple(NativeColumn(name, "text") for name in names)
    return before.layout("csv", columns, delimiter, len(names))


def _with_units(layout: Layout, below: list[str]) -> Layout:
    """VizieR's tab-separated files have a line of units and a line of dashes below the names."""
    if not set(below[1]) <= {"-", layout.delimiter} or "-" not in below[1]:
        return layout
    units = _split(below[0], layout.delimiter)
    units += [""] * (len(layout.columns) - len(units))
    columns = tuple(replace(column, unit=unit) for column, unit in zip(layout.columns, units, strict=False))
    return replace(layout, columns=columns, skip_lines=layout.skip_lines + 2)


def _headerless(before: Before, schema: SurveySchema, path: Path) -> Layout:
    names, delimiter = schema.text.names, schema.text.delimiter or "|"
    fields = len(_split(before.line, delimiter))
    extra = int(schema.text.trailing_delimiter)
    if fields not in (len(names), len(names) + extra):
        raise SchemaError(
            "a line of the headerless file does not have the fields of the survey's layout",
            where=f"{path}, line {len(before.comments) + 1}",
            seen=f"{fields} fields between {delimiter!r}",
            needed=f"{len(names)} fields",
            cause=f"another survey or release than {schema.title}",
        )
    columns = tuple(NativeColumn(name, "text") for name in names)
    return Layout("text", columns, delimiter, len(before.comments), fields)
