"""The map half of an import: a survey file, or a group of spectra, becomes sky-sorted batches on disk, and counts.

The spilled rows are an uncompressed Arrow IPC file, so that the reduce half memory-maps it and touches
only the rows of its own partition.
"""

from __future__ import annotations

import contextlib
import errno
import json
import shutil
import uuid
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from stellarscale.catalog.duplicates import HashRuns, hash_ids
from stellarscale.catalog.import_plan import ImportPlan
from stellarscale.catalog.ordering import runs_of, stable_order, sum_counts
from stellarscale.catalog.spectra_files import read_group
from stellarscale.errors import RowCountError, RunError, SchemaError
from stellarscale.kernels.healpix import ORDER, pixel_of
from stellarscale.kernels.in_order import in_order
from stellarscale.surveys.read import REJECTS, CanonicalBatch, read_batches
from stellarscale.surveys.spectra.read import read_spectra

RECORD = "record.json"
_COMPACT_AT = 1 << 21  # sparse counts held before they are summed


class BatchSpan(NamedTuple):
    """One spilled batch: rows, first and last sky key (both inclusive), and how many ids were hashed."""

    rows: int
    first: int
    last: int
    hashes: int


@dataclass(frozen=True)
class SpillRecord:
    """Receipt of one spilled source, beside its data in a directory that is renamed into place when whole."""

    file_number: int
    path: str
    digest: str
    rows_in: int
    rows_out: int
    rejected: int
    null_ids: int
    batches: tuple[BatchSpan, ...]

    def to_json(self) -> str:
        """The record as JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> SpillRecord:
        """Read what :meth:`to_json` wrote."""
        fields = json.loads(text)
        return cls(**fields | {"batches": tuple(BatchSpan(*span) for span in fields["batches"])})

    def files(self, spill_dir: Path) -> SpillFiles:
        """Where the data are."""
        return SpillFiles.of(spill_dir, self.file_number)

    def hash_runs(self, spill_dir: Path) -> HashRuns:
        """The id hashes, one run per batch."""
        return HashRuns(self.files(spill_dir).hashes, tuple(span.hashes for span in self.batches))


@dataclass(frozen=True)
class SpillFiles:
    """The files of one spilled survey file."""

    directory: Path

    @classmethod
    def of(cls, spill_dir: Path, file_number: int) -> SpillFiles:
        """Those of one file of the plan."""
        return cls(spill_dir / f"{file_number:06d}")

    @property
    def rows(self) -> Path:
        """Arrow IPC file, one sky-sorted record batch per batch read."""
        return self.directory / "rows.arrow"

    @property
    def hashes(self) -> Path:
        """Id hashes, one sorted run per batch."""
        return self.directory / "hashes.u64"

    @property
    def counts(self) -> Path:
        """Sparse histogram, int64 (2, n): pixels of the finest order, ascending, and their rows."""
        return self.directory / "counts.npy"

    @property
    def rejects(self) -> Path:
        """Arrow IPC file of the rejected rows."""
        return self.directory / "rejects.arrow"


class _SortedBatch(NamedTuple):
    rows: pa.RecordBatch
    rejects: pa.Table
    span: BatchSpan
    hashes: NDArray[np.uint64]
    counts: NDArray[np.int64]
    null_ids: int


def spill_source(number: int, plan: ImportPlan, spill_dir: Path) -> SpillRecord:
    """Spill one source of the plan: a survey file, or a group of files of spectra. Errors as :func:`spill_file`."""
    if plan.spectra is None:
        return spill_file(plan.files[number], plan, spill_dir, number)
    where = spill_dir / f"group {number} of {plan.config.files_at_once} spectra"
    return _spilled(where, partial(_spectra_batches, plan, spill_dir, number), plan, spill_dir, number)


def spill_file(path: Path, plan: ImportPlan, spill_dir: Path, file_number: int) -> SpillRecord:
    """Read one survey file and write its rows in sky-sorted batches, with counts, id hashes and rejects.

    A file that an earlier run of the same plan has spilled is not read again.

    Parameters
    ----------
    path : Path
        The survey file.
    plan : ImportPlan
    spill_dir : Path
        From :func:`~stellarscale.catalog.import_plan.prepare_output`.
    file_number : int
        Place of the file in the plan; names the spilled files and breaks ties between equal positions.

    Returns
    -------
    SpillRecord

    Raises
    ------
    RowCountError
        If rows read, kept and rejected do not add up.
    SchemaError
        If the reader gives other columns than the plan has.
    RunError
        If the disk is full.
    """
    return _spilled(path, partial(_table_batches, path, plan, file_number), plan, spill_dir, file_number)


def _table_batches(path: Path, plan: ImportPlan, file_number: int) -> Iterator[CanonicalBatch]:
    return read_batches(
        path,
        plan.schema,
        plan.columns,
        batch_rows=plan.config.batch_rows,
        first_id=plan.first_ids[file_number],
        threads=plan.threads_per_file,
    )


def _spectra_batches(plan: ImportPlan, spill_dir: Path, number: int) -> Iterator[CanonicalBatch]:
    assert plan.spectra is not None
    paths = read_group(spill_dir, number, plan.config.files_at_once)
    for start in range(0, len(paths), plan.files_per_batch):
        some = paths[start : start + plan.files_per_batch]
        first_id = number * plan.config.files_at_once + start  # a file is a row
        yield read_spectra(some, plan.schema, plan.spectra.grid, plan.columns, first_id=first_id)


def _spilled(
    path: Path, read: Callable[[], Iterator[CanonicalBatch]], plan: ImportPlan, spill_dir: Path, number: int
) -> SpillRecord:
    """The record of what an earlier run spilled, or of what is read and spilled now; `path` is for messages."""
    final = SpillFiles.of(spill_dir, number).directory
    earlier = _trusted_record(final, plan)
    if earlier is not None:
        return earlier
    temporary = final.with_name(f".{final.name}.{uuid.uuid4().hex}")
    temporary.mkdir(parents=True)
    try:
        record = _spill_into(SpillFiles(temporary), path, read(), plan, number)
        # Written without fsync: after a crash of the machine itself a resumed import may meet torn files,
        # which the row counts and the writer's order check report.
        (temporary / RECORD).write_text(record.to_json(), encoding="utf-8")
        shutil.rmtree(final, ignore_errors=True)
        temporary.rename(final)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        free = shutil.disk_usage(spill_dir).free
        raise RunError(
            "the disk is full",
            where=spill_dir,
            seen=f"{free} bytes free",
            needed="room for all rows uncompressed, and for the catalogue",
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return record


def _trusted_record(directory: Path, plan: ImportPlan) -> SpillRecord | None:
    path = directory / RECORD
    if not path.is_file():
        return None
    record = SpillRecord.from_json(path.read_text(encoding="utf-8"))
    return record if record.digest == plan.digest else None


def _spill_into(
    files: SpillFiles, path: Path, batches: Iterator[CanonicalBatch], plan: ImportPlan, file_number: int
) -> SpillRecord:
    schema = plan.arrow_schema
    rows_in = rejected = null_ids = 0
    spans: list[BatchSpan] = []
    counts: list[NDArray[np.int64]] = []
    with contextlib.ExitStack() as stack:
        rows_file = stack.enter_context(pa.ipc.new_file(str(files.rows), schema))
        rejects_file = stack.enter_context(pa.ipc.new_file(str(files.rejects), REJECTS))
        hashes_file = stack.enter_context(files.hashes.open("wb"))
        for batch in in_order(lambda one: _sort_batch(one, plan, schema, path), batches, plan.threads_per_file):
            if batch.span.rows:
                rows_file.write_batch(batch.rows)
                hashes_file.write(batch.hashes.tobytes())
                spans.append(batch.span)
            rejects_file.write_table(batch.rejects)
            counts = _compacted([*counts, batch.counts])
            rows_in += batch.span.rows + batch.rejects.num_rows
            rejected += batch.rejects.num_rows
            null_ids += batch.null_ids
    np.save(files.counts, sum_counts(counts))
    rows_out = sum(span.rows for span in spans)
    return SpillRecord(file_number, str(path), plan.digest, rows_in, rows_out, rejected, null_ids, tuple(spans))


def _sort_batch(batch: CanonicalBatch, plan: ImportPlan, schema: pa.Schema, path: Path) -> _SortedBatch:
    table, rejects, rows_in = batch
    if table.num_rows + rejects.num_rows != rows_in:
        raise RowCountError(
            "the reader lost or made rows",
            where=path,
            seen=f"{table.num_rows} kept + {rejects.num_rows} rejected",
            needed=f"{rows_in} rows",
        )
    if table.schema.names != schema.names[1:] or table.schema.types != schema.types[1:]:
        raise SchemaError(
            "the reader gave other columns than were planned",
            where=path,
            seen=table.schema.names,
            needed=schema.names[1:],
        )
    position = plan.schema.position
    keys = pixel_of(table[position.ra].to_numpy(), table[position.dec].to_numpy())
    order = stable_order(keys)
    keys = keys[order]
    indices = pa.array(order)
    columns = [column.combine_chunks().take(indices) for column in table.columns]
    rows = pa.RecordBatch.from_arrays([pa.array(keys), *columns], schema=schema)
    hashes, valid = hash_ids(table[plan.schema.id])
    run = np.sort(hashes[valid])
    first, last = (int(keys[0]), int(keys[-1])) if len(keys) else (0, -1)
    span = BatchSpan(len(keys), first, last, len(run))
    counts = _histogram(keys, plan.config.finest_order)
    return _SortedBatch(rows, rejects, span, run, counts, len(keys) - len(run))


def _histogram(keys: NDArray[np.int64], order: int) -> NDArray[np.int64]:
    pixels, starts = runs_of(keys >> (2 * (ORDER - order)))
    return np.stack([pixels, np.diff(starts, append=len(keys))])


def _compacted(counts: list[NDArray[np.int64]]) -> list[NDArray[np.int64]]:
    held = sum(part.shape[1] for part in counts)
    # Compared with the last sum, so that a large histogram is not summed again for every batch.
    return [sum_counts(counts)] if held > max(_COMPACT_AT, 2 * counts[0].shape[1]) else counts
