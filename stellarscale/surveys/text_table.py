"""Text tables parsed by pyarrow in blocks of bounded size, on threads when they are wanted, in file order."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import BinaryIO, NoReturn

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from stellarscale.errors import InputError
from stellarscale.kernels.in_order import in_order
from stellarscale.surveys.native import NativeColumn, open_bytes, rebatch
from stellarscale.surveys.text_layout import Layout

_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True)
class TextTable:
    """A delimited text file with a known layout."""

    path: Path
    layout: Layout
    null_values: tuple[str, ...]
    rows: int | None = None
    block_bytes: int = _BLOCK_BYTES

    @property
    def format(self) -> str:
        return self.layout.format

    @property
    def columns(self) -> tuple[NativeColumn, ...]:
        return self.layout.columns

    def batches(self, wanted: Mapping[str, pa.DataType], batch_rows: int, *, threads: int = 1) -> Iterator[pa.Table]:
        """Parse the wanted columns; a value that does not parse is an InputError with line, column, value."""
        return rebatch(self._tables(wanted, threads), batch_rows)

    def _tables(self, wanted: Mapping[str, pa.DataType], threads: int) -> Iterator[pa.Table]:
        parser = _Parser(self, dict(wanted))
        with open_bytes(self.path) as stream:
            for _ in range(self.layout.skip_lines):
                stream.readline()
            blocks = _placed(_whole_lines(stream, self.block_bytes))
            yield from in_order(parser.parse_block, blocks, threads)


@dataclass(frozen=True)
class _Parser:
    table: TextTable
    wanted: dict[str, pa.DataType]

    def parse_block(self, placed: tuple[int, bytes]) -> pa.Table:
        """The wanted columns of a block of whole lines that comes with its place, in bytes below the header."""
        place, block = placed
        try:
            return self.parse(block, self.wanted)
        except pa.ArrowInvalid as error:
            self.explain(block, first_line=self._line_at(place), error=error)

    def parse(self, block: bytes, columns: Mapping[str, pa.DataType]) -> pa.Table:
        """One block of whole lines as a table of some columns; the others are not converted."""
        names = self.names
        if block.isspace():
            return pa.table({name: pa.nulls(0, dtype) for name, dtype in columns.items()})
        return csv.read_csv(
            pa.BufferReader(block),
            read_options=csv.ReadOptions(column_names=names, use_threads=False, block_size=len(block) + 1),
            parse_options=csv.ParseOptions(delimiter=self.table.layout.delimiter),
            convert_options=csv.ConvertOptions(
                column_types=columns,
                include_columns=list(columns),
                null_values=list(self.table.null_values),
                strings_can_be_null=True,
                true_values=["true", "True", "TRUE", "T", "t", "1"],
                false_values=["false", "False", "FALSE", "F", "f", "0"],
            ),
        )

    @cached_property
    def names(self) -> list[str]:
        """Unique names for pyarrow; a repeated name is never among the wanted ones."""
        names = [column.name for column in self.table.columns]
        names += [""] * (self.table.layout.fields - len(names))
        return [name if names.count(name) == 1 else f"{name}#{i}" for i, name in enumerate(names)]

    def explain(self, block: bytes, *, first_line: int, error: pa.ArrowInvalid) -> NoReturn:
        """Raise the InputError that says which line and column of a block did not parse."""
        text = str(error)
        found = re.search(r"column #(\d+)", text)
        if found is None:
            fields = re.search(r"Expected (\d+) columns, got (\d+)", text)
            raise InputError(
                "a line of the text file does not have the columns of its header",
                where=f"{self.table.path}, from line {first_line} on",
                seen=f"{fields[2]} fields in {text.split(': ')[-1][:120]!r}" if fields else text,
                needed=f"{self.table.layout.fields} fields",
                cause="a file cut short, or a delimiter inside an unquoted value",
            ) from error
        name = self.names[int(found[1])]
        bad = re.search(r"invalid value '(.*)'", text, re.DOTALL)
        value = bad[1] if bad else text
        raise InputError(
            "a value of the text file is not of its column's type",
            where=f"{self.table.path}, line {first_line + self._row_of(value, block, name)}, column {name}",
            seen=repr(value),
            needed=str(self.wanted[name]),
            cause="another column or release than the schema means, or a null sentinel it does not list",
        ) from error

    def _line_at(self, place: int) -> int:
        """Number of a block's first line; the file is read again, so that good files are not counted through."""
        line = self.table.layout.skip_lines + 1
        with open_bytes(self.table.path) as stream:
            for _ in range(self.table.layout.skip_lines):
                stream.readline()
            while passed := stream.read(min(place, self.table.block_bytes)):
                line += passed.count(b"\n")
                place -= len(passed)
        return line

    def _row_of(self, value: str, block: bytes, name: str) -> int:
        values = self.parse(block, {name: pa.binary()}).column(0)
        return max(0, pc.index(pc.ascii_trim_whitespace(values.cast(pa.string())), value).as_py())


def _placed(blocks: Iterator[bytes]) -> Iterator[tuple[int, bytes]]:
    place = 0
    for block in blocks:
        yield place, block
        place += len(block)


def _whole_lines(stream: BinaryIO, block_bytes: int) -> Iterator[bytes]:
    """Blocks of about ``block_bytes`` that end at a line's end; blank ones at the end are left out."""
    rest = b""
    while chunk := stream.read(block_bytes):
        cut = chunk.rfind(b"\n") + 1
        if not cut:
            rest += chunk
            continue
        yield b"".join((rest, memoryview(chunk)[:cut]))
        rest = chunk[cut:]
    if rest.strip():
        yield rest
