"""The table that paper I publishes (its Table 3), out of the value-added catalogue, as FITS or CSV."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from stellarscale.catalog.atomic import atomic_write
from stellarscale.catalog.export import partitions, write_csv
from stellarscale.catalog.export_fits import write_fits
from stellarscale.catalog.opening import StoredCatalog, require_columns
from stellarscale.catalog.paper_table import PaperColumn, PaperTable
from stellarscale.catalog.subset import Subset
from stellarscale.errors import ConfigError, RowCountError
from stellarscale.flags import COLUMN
from stellarscale.schema import DTYPES, field_metadata


@dataclass(frozen=True)
class PaperExport:
    """What an export of the published table did.

    Parameters
    ----------
    rows : int
        Stars written.
    other_class, failed_cuts : int
        Stars left out: of another class or none, and of the right class but failing a cut of the prediction.
    columns_left_out : tuple of str
        Optional columns that the catalogue cannot fill.
    """

    rows: int
    other_class: int
    failed_cuts: int
    columns_left_out: tuple[str, ...]


def export_paper_table(
    stored: StoredCatalog, out: Path, paper: PaperTable, *, format: str, subset: Subset | None = None
) -> PaperExport:
    """Write the published table, partition by partition, so that memory does not grow with the catalogue.

    Parameters
    ----------
    stored : StoredCatalog
        The value-added catalogue.
    out : Path
        File to write; replaced in one step when the new one is complete.
    paper : PaperTable
        Rows, columns and mark for missing values.
    format : str
        ``fits`` or ``csv``.
    subset : Subset, optional
        Rows to keep; all when absent.

    Returns
    -------
    PaperExport
        Stars written and left out; the three counts add up to the rows of the catalogue.

    Raises
    ------
    ConfigError
        If the format is another one.
    SchemaError
        If the catalogue lacks a column that the table must have.
    RowCountError
        If stars got lost on the way.
    """
    writers = {"fits": write_fits, "csv": write_csv}
    if format not in writers:
        raise ConfigError("no such format of the paper's table", seen=format, needed=" | ".join(writers))
    columns = _available(paper, stored)
    rows = _Rows(stored, paper, columns, subset)
    with atomic_write(Path(out)) as temporary:
        written = writers[format](temporary, _schema(columns), rows.tables, paper.name)
        needed = rows.seen - rows.other_class - rows.failed_cuts
        if written != needed or (subset is None and rows.seen != stored.num_rows):
            raise RowCountError(
                "stars of the catalogue are missing", where=out, seen=written, needed=f"{needed} of {stored.num_rows}"
            )
    left_out = tuple(name for name in paper.columns if name not in columns)
    return PaperExport(written, rows.other_class, rows.failed_cuts, left_out)


class _Rows:
    """The table's rows along the sky, and the count of those that it does not have."""

    def __init__(
        self, stored: StoredCatalog, paper: PaperTable, columns: dict[str, PaperColumn], subset: Subset | None
    ) -> None:
        self._stored, self._paper, self._columns, self._subset = stored, paper, columns, subset
        self.seen = self.other_class = self.failed_cuts = 0

    def tables(self) -> Iterator[pa.Table]:
        """Tables of the published columns; the counts start anew."""
        self.seen = self.other_class = self.failed_cuts = 0
        rule = self._paper.rows
        names = [rule.class_column, COLUMN, *(name for column in self._columns.values() for name in column.sources)]
        schema = pa.schema([self._stored.schema.field(name) for name in dict.fromkeys(names)])
        for table in partitions(self._stored, schema, self._subset):
            codes = table[rule.class_column]
            right_class = table.filter(pc.is_in(codes, pa.array(rule.classes, codes.type)))
            kept = right_class.filter(pc.equal(pc.bit_wise_and(right_class[COLUMN], rule.bits), 0))
            self.seen += table.num_rows
            self.other_class += table.num_rows - right_class.num_rows
            self.failed_cuts += right_class.num_rows - kept.num_rows
            yield published_rows(kept, self._columns, null_value=self._paper.null_value)


def published_rows(table: pa.Table, columns: dict[str, PaperColumn], *, null_value: int) -> pa.Table:
    """Columns as published, from rows of the value-added catalogue; ``null_value`` where a value is missing."""
    arrays = []
    for column in columns.values():
        values = _length(*(table[name] for name in column.length_of)) if column.length_of else table[column.native]
        kind = DTYPES[column.dtype]
        known = pc.if_else(pc.is_finite(values), values.cast(kind), pa.scalar(None, kind))
        arrays.append(known.fill_null(pa.scalar(null_value, kind)))
    return pa.Table.from_arrays(arrays, schema=_schema(columns))


def _length(x: pa.ChunkedArray, y: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.sqrt(pc.add(pc.multiply(x, x), pc.multiply(y, y)))


def _available(paper: PaperTable, stored: StoredCatalog) -> dict[str, PaperColumn]:
    """Columns that the catalogue can fill; one that it cannot fill must be optional."""
    there = set(stored.schema.names)
    chosen = {name: c for name, c in paper.columns.items() if not c.optional or there.issuperset(c.sources)}
    needed = [paper.rows.class_column, COLUMN, *(name for column in chosen.values() for name in column.sources)]
    require_columns(stored.schema, list(dict.fromkeys(needed)), stored.root)
    return chosen


def _schema(columns: dict[str, PaperColumn]) -> pa.Schema:
    return pa.schema(
        [
            pa.field(name, DTYPES[column.dtype], metadata=field_metadata(column.unit, column.ucd, column.description))
            for name, column in columns.items()
        ]
    )
