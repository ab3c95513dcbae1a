"""Is a catalogue whole: every file, row count, order, place, schema and id looked at, every problem told."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from stellarscale.catalog import atomic, finish, footers, layout
from stellarscale.catalog.opening import StoredCatalog, files_of, list_pixels, open_stored
from stellarscale.catalog.pixels import Pixel
from stellarscale.catalog.verify_rows import (
    Finding,
    check_positions,
    check_sky,
    check_spectra,
    check_stamps,
    unflagged_ids,
)
from stellarscale.errors import CatalogError, StellarscaleError
from stellarscale.flags import COLUMN as FLAGS
from stellarscale.flags import Flag

MAX_ROWS_FOR_DUPLICATES = 200_000_000


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: the file, what, the value seen and the value needed."""

    file: str
    what: str
    seen: str = ""
    needed: str = ""

    def __str__(self) -> str:
        text = f"{self.file}: {self.what}"
        text += f", seen {self.seen}" if self.seen else ""
        return text + (f", needed {self.needed}" if self.needed else "")


@dataclass(frozen=True)
class VerifyReport:
    """Outcome of :func:`verify`; ``rows`` are those in the files that could be read."""

    root: str
    partitions: int
    rows: int
    problems: tuple[Problem, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems


def verify(path: Path | str, deep: bool = True, *, checksums: Mapping[Pixel, str] | None = None) -> VerifyReport:
    """Check a catalogue.

    Parameters
    ----------
    path : path
        Its directory.
    deep : bool
        Also decode the sky key, the position, the id, the spectra and the stamps of every row; False looks at the
        footers only.
    checksums : mapping of Pixel to str, optional
        sha256 that each partition's file must have.

    Returns
    -------
    VerifyReport
        Every problem found; a directory that is no catalogue at all is a problem too.
    """
    try:
        stored = open_stored(path)
    except StellarscaleError as error:
        problem = Problem(str(error.where or path), error.what, str(error.seen or ""), str(error.needed or ""))
        return VerifyReport(str(path), 0, 0, (problem,))
    if stored.properties.kind == "index":
        return _verify_index(stored)
    problems = list(_check_files(stored))
    seen: dict[Pixel, int] = {}
    seen_ids: list[pa.ChunkedArray] = []
    for pixel in stored.pixels:
        try:
            found = _check_partition(stored, pixel, problems, checksums or {}, seen_ids if deep else None)
            if found is not None:
                seen[pixel] = found
        except CatalogError as error:
            problems.append(_problem_of(stored, pixel, error))
    problems += _check_footers(stored, seen)
    rows = sum(seen.values())
    if rows != stored.properties.rows:
        needed = f"{stored.properties.rows} (hats_nrows)"
        problems.append(Problem(layout.PROPERTIES, "another number of rows than it says", str(rows), needed))
    problems += _check_duplicates(stored, seen_ids)
    return VerifyReport(str(stored.root), len(stored.pixels), rows, tuple(problems))


def _check_files(stored: StoredCatalog) -> Iterator[Problem]:
    """Files there against ``partition_info.csv``, and what else a catalogue must have."""
    listed = set(list_pixels(stored.root))
    there = {layout.pixel_of_path(path.as_posix()): path for path in layout.pixel_files(stored.root)}
    for pixel in sorted(listed - set(there), key=lambda pixel: pixel.sky_key):
        yield Problem(_name(stored, pixel), "the file is missing", "nothing", "listed in partition_info.csv")
    for other, path in there.items():
        if other not in listed:
            yield Problem(path.relative_to(stored.root).as_posix(), "the file is not listed in partition_info.csv")
    for path in (
        layout.common_metadata_path(stored.root),
        layout.metadata_path(stored.root),
        layout.partition_info_path(stored.root),
    ):
        if not path.is_file():
            yield Problem(path.relative_to(stored.root).as_posix(), "the file is missing")
    for path in sorted(stored.root.rglob(f"*{atomic.TEMPORARY_SUFFIX}")):
        yield Problem(path.relative_to(stored.root).as_posix(), "a killed process left this temporary file")
    yield from _check_overlaps(stored)


def _check_overlaps(stored: StoredCatalog) -> Iterator[Problem]:
    for one, other in zip(stored.pixels, stored.pixels[1:], strict=False):
        if other.first < one.last:
            yield Problem("partition_info.csv", "two partitions overlap", f"{one} and {other}")


def _check_footers(stored: StoredCatalog, seen: Mapping[Pixel, int]) -> Iterator[Problem]:
    """``_metadata`` against ``partition_info.csv`` and the rows seen in the files."""
    name = "dataset/_metadata"
    try:
        groups = footers.row_groups(stored.root)
    except CatalogError as error:
        yield Problem(name, error.what, str(error.seen))
        return
    if groups is None:
        return
    if set(groups.pixels) != set(stored.pixels):
        extra = ", ".join(str(p) for p in sorted(set(groups.pixels) ^ set(stored.pixels)))
        yield Problem(name, "other partitions than partition_info.csv lists", extra)
    for pixel, rows in seen.items():
        recorded = groups.counts.get(pixel, rows)
        if recorded != rows:
            yield Problem(_name(stored, pixel), "other rows than _metadata says", str(rows), str(recorded))


def _check_partition(
    stored: StoredCatalog,
    pixel: Pixel,
    problems: list[Problem],
    checksums: Mapping[Pixel, str],
    seen_ids: list[pa.ChunkedArray] | None,
) -> int | None:
    """Look at one partition; returns its rows, None when it has no file (which the check of files tells).

    ``seen_ids`` collects the ids of all rows; without it only the footer is looked at.
    """
    rows = 0
    paths = [path for path in files_of(stored, pixel) if path.exists()]
    for path in paths:
        name = path.relative_to(stored.root).as_posix()
        with finish.open_partition(path, pixel) as file:
            rows += file.metadata.num_rows
            problems += [Problem(name, *found) for found in _check_schema(stored, file)]
            if seen_ids is not None:
                problems += [Problem(name, *found) for found in _check_rows(stored, pixel, file, path, seen_ids)]
                problems += [Problem(name, *found) for found in _check_vectors(stored, pixel, file, path)]
        if pixel in checksums:
            with path.open("rb") as raw:
                seen = hashlib.file_digest(raw, "sha256").hexdigest()
            if seen != checksums[pixel]:
                problems.append(Problem(name, "another checksum than recorded", seen, checksums[pixel]))
    return rows if paths else None


def _check_schema(stored: StoredCatalog, file: pq.ParquetFile) -> Iterator[Finding]:
    seen = {f.name: f.type for f in file.schema_arrow if f.name not in layout.HIVE_COLUMNS}
    needed = {f.name: f.type for f in stored.schema}
    if layout.SKY_COLUMN not in seen:
        yield f"no {layout.SKY_COLUMN}; readers must compute it", "", ""
        needed.pop(layout.SKY_COLUMN)
    if seen != needed:
        differ = [name for name in {**seen, **needed} if seen.get(name) != needed.get(name)]
        got = ", ".join(f"{name} {seen.get(name, 'absent')}" for name in differ)
        yield (
            "another schema than the catalogue",
            got,
            ", ".join(f"{n} {needed.get(n, 'absent')}" for n in differ),
        )


def _check_rows(
    stored: StoredCatalog, pixel: Pixel, file: pq.ParquetFile, path: Path, seen_ids: list[pa.ChunkedArray]
) -> Iterator[Finding]:
    names = set(file.schema_arrow.names)
    id_column = stored.properties.extra.get("stellarscale_id", "")
    position = [stored.properties.ra, stored.properties.dec]
    wanted = [name for name in dict.fromkeys((layout.SKY_COLUMN, id_column, FLAGS, *position)) if name in names]
    try:
        table = file.read(columns=wanted, use_threads=False)
    except (OSError, pa.ArrowInvalid) as error:
        raise finish.damaged(path, pixel, error) from error
    if layout.SKY_COLUMN in names and table.num_rows:
        yield from check_sky(stored, pixel, table)
        yield from check_positions(stored, table)
    if id_column in names:
        nulls = table.column(id_column).null_count
        if nulls:
            yield f"null in the id column {id_column}", f"{nulls} rows", "none"
        seen_ids.append(unflagged_ids(table, id_column))


def _check_vectors(stored: StoredCatalog, pixel: Pixel, file: pq.ParquetFile, path: Path) -> Iterator[Finding]:
    try:
        yield from check_spectra(stored, file)
        yield from check_stamps(stored, file)
    except (OSError, pa.ArrowInvalid) as error:
        raise finish.damaged(path, pixel, error) from error


def _check_duplicates(stored: StoredCatalog, seen_ids: list[pa.ChunkedArray]) -> Iterator[Problem]:
    """Ids that several rows carry although none of them says so."""
    if (
        stored.properties.kind == "margin"
        or stored.properties.extra.get("stellarscale_repeated_ids") == "true"
        or not 0 < sum(len(ids) for ids in seen_ids) <= MAX_ROWS_FOR_DUPLICATES
    ):
        return
    ids = pa.chunked_array([chunk for column in seen_ids for chunk in column.chunks])
    unique = pc.count_distinct(ids).as_py()
    if unique != len(ids):
        name = stored.properties.extra["stellarscale_id"]
        needed = f"unique, or marked {Flag.DUPLICATE_ID.name} in {FLAGS}"
        yield Problem("dataset", f"duplicates in the id column {name}", f"{len(ids) - unique} rows", needed)


def _verify_index(stored: StoredCatalog) -> VerifyReport:
    try:
        metadata = footers.footer(stored.root)
    except CatalogError as error:
        return VerifyReport(str(stored.root), 0, 0, (Problem("dataset/_metadata", error.what, str(error.seen)),))
    if metadata is None:
        return VerifyReport(str(stored.root), 0, 0, (Problem("dataset/_metadata", "the file is missing"),))
    rows, problems = metadata.num_rows, []
    files = {metadata.row_group(i).column(0).file_path for i in range(metadata.num_row_groups)}
    for name in sorted(files):
        if not (layout.dataset_directory(stored.root) / name).is_file():
            problems.append(Problem(f"dataset/{name}", "the file is missing"))
    if rows != stored.properties.rows:
        problems.append(
            Problem(
                layout.PROPERTIES,
                "another number of rows than it says",
                str(rows),
                str(stored.properties.rows),
            )
        )
    return VerifyReport(str(stored.root), len(files), rows, tuple(problems))


def _name(stored: StoredCatalog, pixel: Pixel) -> str:
    return layout.pixel_path(stored.root, pixel, stored.properties.suffix).relative_to(stored.root).as_posix()


def _problem_of(stored: StoredCatalog, pixel: Pixel, error: CatalogError) -> Problem:
    return Problem(_name(stored, pixel), error.what, str(error.seen or ""), str(error.needed or ""))
