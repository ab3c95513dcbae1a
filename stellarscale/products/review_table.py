"""The table of spectra that a person has to look at: a CSV whose ``keep`` column belongs to its reader."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from stellarscale.catalog.atomic import atomic_write
from stellarscale.errors import InputError

COLUMNS = ("spectrum_id", "bin", "reason", "snr", "plot", "keep")
KEEP, DROP = "keep", "drop"
_DECISIONS = {"": "", KEEP: KEEP, DROP: DROP}


@dataclass(frozen=True)
class ReviewRow:
    """A spectrum under review.

    Attributes
    ----------
    spectrum_id : str
    bin : str
        Lower edges of its parameter bin.
    reason : str
        Why it has to be looked at.
    snr : float
    plot : str
        Path of its picture, relative to the table.
    """

    spectrum_id: str
    bin: str
    reason: str
    snr: float
    plot: str

    def same_case(self, before: dict[str, str]) -> bool:
        """Whether a row of the table is about the same spectrum, in the same bin, for the same reason."""
        return all(before.get(name) == getattr(self, name) for name in ("spectrum_id", "bin", "reason"))


def update_review(path: Path, rows: Sequence[ReviewRow]) -> dict[str, str]:
    """Bring the table up to date and return what has been decided.

    What its reader wrote stays: the ``keep`` column, columns of their own, and rows with a decision on spectra that
    are not under review this time. The file is written only when something else has changed.

    Parameters
    ----------
    path : Path
        The table; made when it does not exist.
    rows : sequence of ReviewRow
        Spectra under review now.

    Returns
    -------
    dict
        ``keep`` or ``drop`` for each spectrum that has a decision.

    Raises
    ------
    InputError
        If the file is no review table, or ``keep`` holds anything else than keep, drop or nothing.
    """
    before, header = read_review(path)
    extra = [name for name in header if name not in COLUMNS]
    known = {row["spectrum_id"]: row for row in before}
    current = {row.spectrum_id for row in rows}
    merged = [_merge(row, known.get(row.spectrum_id, {}), extra) for row in rows]
    merged += [row for row in before if row["keep"] and row["spectrum_id"] not in current]
    if merged != before or not path.exists():
        _write(path, merged, [*COLUMNS, *extra])
    return {row["spectrum_id"]: row["keep"] for row in merged if row["keep"]}


def read_decisions(path: Path) -> dict[str, str]:
    """``keep`` or ``drop`` for each spectrum that the table has a decision on; none without a table.

    Raises
    ------
    InputError
        As :func:`update_review`.
    """
    rows, _ = read_review(path)
    return {row["spectrum_id"]: row["keep"] for row in rows if row["keep"]}


def _merge(row: ReviewRow, before: dict[str, str], extra: Sequence[str]) -> dict[str, str]:
    made = {"spectrum_id": row.spectrum_id, "bin": row.bin, "reason": row.reason, "snr": f"{row.snr:.1f}"}
    return made | {"plot": row.plot, "keep": before.get("keep", "")} | {name: before.get(name, "") for name in extra}


def read_review(path: Path) -> tuple[list[dict[str, str]], list[str]]:
    """Rows and header of a table, also as spreadsheets save it; none when there is no file.

    Raises
    ------
    InputError
        If the file is no review table, or ``keep`` holds anything else than keep, drop or nothing.
    """
    if not path.exists():
        return [], []
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError("the review table is no UTF-8 text", where=path, needed="CSV as it was written") from error
    reader = csv.DictReader(io.StringIO(text), restval="")
    header = list(reader.fieldnames or [])
    missing = {"spectrum_id", "keep"} - set(header)
    if missing:
        raise InputError(
            "the review table lacks a column",
            where=path,
            seen=", ".join(header)[:200],
            needed=f"{', '.join(sorted(missing))}, separated by commas",
            cause="saved with another separator, or edited without its header",
        )
    rows = [_checked(row, header, f"{path}, line {reader.line_num}") for row in reader]
    ids = [row["spectrum_id"] for row in rows]
    if len(set(ids)) < len(ids):
        twice = next(name for name in ids if ids.count(name) > 1)
        raise InputError("a spectrum is twice in the review table", where=path, seen=twice, needed="one row each")
    return rows, header


def _checked(row: dict[str, str], header: Sequence[str], where: str) -> dict[str, str]:
    """A row in the table's own form; columns that its reader left out are empty."""
    decision = row["keep"].strip().lower()
    if decision not in _DECISIONS:
        raise InputError(
            "the review table holds an unknown decision",
            where=f"{where}, spectrum {row['spectrum_id']}",
            seen=repr(row["keep"]),
            needed=f"{KEEP}, {DROP} or nothing in the column keep",
        )
    return {name: row.get(name) or "" for name in [*COLUMNS, *header]} | {"keep": decision}


def _write(path: Path, rows: Sequence[dict[str, str]], header: Sequence[str]) -> None:
    with atomic_write(path) as part, open(part, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, header)
        writer.writeheader()
        writer.writerows(rows)
