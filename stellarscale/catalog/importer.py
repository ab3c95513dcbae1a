"""Survey files into a HATS catalogue, out of core: plan, spill (map), find duplicates, write (reduce).

Every stage is a plain function over small items, so that any mapper runs them: ``map``, a thread pool's, or
the engine's. The order of the stages is :func:`import_files`, top to bottom.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from stellarscale.catalog import atomic
from stellarscale.catalog.duplicates import duplicates_in_range, hash_ranges, write_hashes
from stellarscale.catalog.import_plan import (
    ImportConfig,
    ImportPlan,
    plan_import,
    prepare_output,
)
from stellarscale.catalog.import_reduce import DUPLICATES_FILE, Partition, plan_partitions, reduce_pixel
from stellarscale.catalog.properties import CatalogProperties
from stellarscale.catalog.spill import SpillRecord, spill_source
from stellarscale.catalog.writer import PixelRecord, finish_catalog, sweep_temporary
from stellarscale.errors import RowCountError
from stellarscale.schema import SurveySchema
from stellarscale.surveys.read import REJECTS, has_positions

__all__ = [
    "ImportConfig",
    "ImportPlan",
    "ImportSummary",
    "Partition",
    "find_duplicates",
    "finish_import",
    "import_files",
    "plan_import",
    "plan_partitions",
    "prepare_output",
    "reduce_pixel",
    "remove_spill",
    "spill_source",
]

REJECTS_FILE = "rejects.parquet"
_REMOVED = "removed-"
_log = logging.getLogger(__name__)
Mapper = Callable[[Callable[[Any], Any], Sequence[Any]], Iterable[Any]]


@dataclass(frozen=True)
class ImportSummary:
    """Rows of a finished import; `duplicates` are rows whose id another row carries too, all kept."""

    root: Path
    files: int
    rows_in: int
    rows_out: int
    rejected: int
    duplicates: int
    null_ids: int
    partitions: int
    bytes: int


def import_files(
    files: Sequence[Path | str],
    schema: SurveySchema,
    out: Path | str,
    config: ImportConfig | None = None,
    *,
    mapper: Mapper = map,
) -> ImportSummary:
    """Import survey files into a new HATS catalogue.

    Parameters
    ----------
    files : sequence of path
        Files of one survey, all with the same columns; see :func:`plan_import` for spectra.
    schema : SurveySchema
    out : path
        Catalogue to make. When it holds an interrupted import of the same files, that one is continued.
    config : ImportConfig, optional
    mapper : callable
        ``mapper(function, items)`` gives the results in the order of the items. What it runs at once sets
        speed and memory; the files written are the same, byte for byte.

    Returns
    -------
    ImportSummary

    Raises
    ------
    InputError, SchemaError, CatalogError
        Before anything is written: see :func:`plan_import` and :func:`prepare_output`.
    RowCountError
        If any stage loses or makes rows.
    """
    root = Path(out)
    plan = plan_import(files, schema, config)
    spill_dir = prepare_output(plan, root)
    plan = plan.for_workers()
    records = list(mapper(partial(spill_source, plan=plan, spill_dir=spill_dir), range(plan.sources)))
    partitions = plan_partitions(records, plan, spill_dir)
    duplicates = find_duplicates(records, plan, spill_dir, mapper=mapper)
    written = list(mapper(partial(reduce_partition, plan=plan, spill_dir=spill_dir, root=root), partitions))
    summary = finish_import(plan, root, spill_dir, records=records, written=written, duplicates=duplicates)
    remove_spill(spill_dir)
    return summary


def reduce_partition(item: Partition, *, plan: ImportPlan, spill_dir: Path, root: Path) -> PixelRecord:
    """Reduce task: :func:`reduce_pixel` for one partition."""
    return reduce_pixel(item.pixel, item.rows, plan, spill_dir, root)


def find_duplicates(records: Sequence[SpillRecord], plan: ImportPlan, spill_dir: Path, *, mapper: Mapper = map) -> int:
    """Write the hashes of all ids that occur more than once; returns the number of rows that carry one."""
    runs = [record.hash_runs(spill_dir) for record in records]
    total = sum(sum(run.lengths) for run in runs)
    ranges = hash_ranges(total, plan.config.hashes_at_once)
    rows = 0

    def parts() -> Iterator[NDArray[np.uint64]]:
        nonlocal rows
        for part in mapper(partial(duplicates_in_range, runs=runs), ranges):
            rows += part.rows
            yield part.hashes

    with atomic.atomic_write(spill_dir / DUPLICATES_FILE) as temporary:
        write_hashes(temporary, parts())
    return rows


def finish_import(
    plan: ImportPlan,
    root: Path,
    spill_dir: Path,
    *,
    records: Sequence[SpillRecord],
    written: Sequence[PixelRecord],
    duplicates: int,
) -> ImportSummary:
    """Check the rows, write the rejects and the catalogue's metadata.

    Raises
    ------
    RowCountError
        If the rows read are not the rows written and the rows rejected.
    """
    rows_in, rejected = sum(one.rows_in for one in records), sum(one.rejected for one in records)
    rows_out = sum(one.rows for one in written)
    _check_conservation(root, rows_in, rows_out, rejected)
    _write_rejects(records, spill_dir, root, rejected)
    counts = {"rows_in": rows_in, "rejected": rejected, "duplicates": duplicates}
    properties = _properties(plan, root, rows_out, counts)
    sweep_temporary(root)
    in_catalog = finish_catalog(root, properties, plan.arrow_schema, [one.pixel for one in written if one.rows])
    _check_conservation(root, rows_in, in_catalog, rejected)
    null_ids = sum(one.null_ids for one in records)
    summary = ImportSummary(
        root,
        files=plan.num_files,
        partitions=len(written),
        bytes=sum(one.bytes for one in written),
        null_ids=null_ids,
        rows_out=rows_out,
        **counts,
    )
    _log.info("imported %d rows into %d partitions of %s", rows_out, len(written), root)
    return summary


def _check_conservation(root: Path, rows_in: int, rows_out: int, rejected: int) -> None:
    if rows_in != rows_out + rejected:
        raise RowCountError(
            "the import lost or made rows",
            where=root,
            seen=f"{rows_out} written + {rejected} rejected",
            needed=f"{rows_in} rows read",
        )


def _write_rejects(records: Sequence[SpillRecord], spill_dir: Path, root: Path, rejected: int) -> None:
    if not rejected:
        return
    with contextlib.ExitStack() as stack:
        temporary = stack.enter_context(atomic.atomic_write(root / REJECTS_FILE))
        writer = stack.enter_context(pq.ParquetWriter(temporary, REJECTS, compression="zstd"))
        for record in records:
            if record.rejected:
                writer.write_table(_read_all(record.files(spill_dir).rejects))


def _read_all(path: Path) -> pa.Table:
    with pa.memory_map(str(path)) as source:
        return pa.ipc.open_file(source).read_all()


def _properties(plan: ImportPlan, root: Path, rows: int, counts: dict[str, int]) -> CatalogProperties:
    schema = plan.schema
    extra = {"alias": schema.alias, "survey": schema.name, "id": schema.id}
    if schema.epoch.column in plan.columns:
        extra["epoch_column"] = schema.epoch.column
    if schema.epoch.year is not None:
        extra["epoch_yr"] = repr(schema.epoch.year)
    if schema.motion and {schema.motion.pmra, schema.motion.pmdec} <= set(plan.columns):
        extra |= {"pmra": schema.motion.pmra, "pmdec": schema.motion.pmdec}
    if schema.position.placeholder and not all(has_positions(path, schema) for path in plan.files):
        extra["placeholder_positions"] = "true"
    extra |= {name: str(value) for name, value in counts.items()}
    extra = {f"stellarscale_{name}": value for name, value in extra.items()}
    return CatalogProperties(
        name=root.name, kind="object", ra=schema.position.ra, dec=schema.position.dec, rows=rows, extra=extra
    )


def remove_spill(spill_dir: Path) -> None:
    """Remove what an import needed only while it ran; nothing happens when it is gone already."""
    if spill_dir.exists():
        # Renamed first: a removal that is cut short must not look like an import to be continued.
        spill_dir.rename(spill_dir.with_name(f"{_REMOVED}{uuid.uuid4().hex}"))
    for doomed in spill_dir.parent.glob(f"{_REMOVED}*"):
        shutil.rmtree(doomed)
    if spill_dir.parent.is_dir() and not any(spill_dir.parent.iterdir()):
        spill_dir.parent.rmdir()
